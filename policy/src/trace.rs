//! A trace of loads: CSV lines `ts_s,load,group,object,size_bytes` into numbers.
//!
//! Reads no file: the caller hands over lines, decompressed. Every fault names its line.

use std::collections::BTreeMap;
use std::fmt;
use std::num::IntErrorKind;

/// The header line.
pub const HEADER: &str = "ts_s,load,group,object,size_bytes";
/// The field of the time, in seconds: the only one that may have a fraction.
const TS_S: &str = "ts_s";
/// More objects than this are refused: a log of loads has thousands.
const OBJECTS_MAX: usize = 1 << 24;

/// One load in a trace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TraceLoad {
    /// Which object: 0 for the first that occurs, and so on.
    pub object: u32,
    /// Its family, likewise, from 1.
    pub family: u32,
    /// Its size, bytes.
    pub bytes: u64,
    /// When, seconds.
    pub at_secs: u64,
}

/// A trace.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Trace {
    /// In order.
    pub loads: Vec<TraceLoad>,
    /// Names of the objects.
    pub names: Vec<String>,
    /// The largest size of each object, bytes.
    pub sizes: Vec<u64>,
}

impl Trace {
    /// Sum of the sizes of all distinct objects, bytes; at most what 64 bits hold.
    pub fn footprint_bytes(&self) -> u64 {
        self.sizes
            .iter()
            .fold(0, |sum, &size| sum.saturating_add(size))
    }

    /// Keeps only the last so many loads. Objects that are not among them have no size any more, and take
    /// no part in the footprint; the others have the largest that they have among them.
    pub fn keep_last(&mut self, loads: usize) {
        let surplus = self.loads.len().saturating_sub(loads);
        if surplus == 0 {
            return;
        }
        self.loads.drain(..surplus);
        self.sizes.fill(0);
        for load in &self.loads {
            let size = &mut self.sizes[load.object as usize];
            *size = load.bytes.max(*size);
        }
    }
}

/// What is wrong with a line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TraceFaultKind {
    /// The first line is not the header.
    Header(String),
    /// Not five fields; how many.
    Fields(usize),
    /// A number that is not one, is negative, or has a fraction where none may be: which field, what it says.
    Number(&'static str, String),
    /// A number beyond 64 bits: which field, what it says.
    TooLarge(&'static str, String),
    /// The object has no name.
    NoName,
    /// Time goes backwards: before, now.
    Backwards(u64, u64),
    /// The sizes of all loads together exceed 64 bits, or there are too many objects.
    TooMuch,
}

/// A line that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TraceFault {
    /// Counted from 1.
    pub line: usize,
    /// What is wrong.
    pub kind: TraceFaultKind,
}

impl fmt::Display for TraceFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}: ", self.line)?;
        match &self.kind {
            TraceFaultKind::Header(found) => {
                write!(f, "the first line is {found:?}; it should be {HEADER:?}")
            }
            TraceFaultKind::Fields(count) => {
                write!(f, "{count} fields; there should be 5: {HEADER}")
            }
            TraceFaultKind::Number(field, found) => {
                let wanted = match *field {
                    TS_S => "a number",
                    _ => "a whole number",
                };
                write!(
                    f,
                    "{field} is {found:?}; it should be {wanted} of 0 or more"
                )
            }
            TraceFaultKind::TooLarge(field, found) => {
                write!(
                    f,
                    "{field} is {found:?}; it is too large, {} is the most",
                    u64::MAX
                )
            }
            TraceFaultKind::NoName => write!(f, "the object has no name"),
            TraceFaultKind::Backwards(before, now) => {
                write!(f, "ts_s is {now}, before the {before} of an earlier line")
            }
            TraceFaultKind::TooMuch => {
                write!(
                    f,
                    "more objects than 2^24, or loads beyond 64 bits together"
                )
            }
        }
    }
}

impl std::error::Error for TraceFault {}

/// Takes lines, gives a [`Trace`].
#[derive(Debug, Default)]
pub struct TraceReader {
    trace: Trace,
    line: usize,
    objects: BTreeMap<String, u32>,
    families: BTreeMap<String, u32>,
    loaded_bytes: u64,
}

impl TraceReader {
    /// Before the header.
    pub fn new() -> Self {
        Self::default()
    }

    /// The next line, without its end. Empty lines are passed over.
    pub fn line(&mut self, text: &str) -> Result<(), TraceFault> {
        self.line += 1;
        let text = text.trim_end_matches(['\r', '\n']);
        self.read(text).map_err(|kind| TraceFault {
            line: self.line,
            kind,
        })
    }

    fn read(&mut self, text: &str) -> Result<(), TraceFaultKind> {
        if self.line == 1 {
            let right = text.trim_start_matches('\u{feff}') == HEADER;
            return if right {
                Ok(())
            } else {
                Err(TraceFaultKind::Header(shortened(text)))
            };
        }
        if text.is_empty() {
            return Ok(());
        }
        let fields = text.split(',').count();
        let mut parts = text.split(',');
        let (Some(at), Some(_), Some(family), Some(name), Some(size), None) = (
            parts.next(),
            parts.next(),
            parts.next(),
            parts.next(),
            parts.next(),
            parts.next(),
        ) else {
            return Err(TraceFaultKind::Fields(fields));
        };
        let number = |field, text: &str| {
            text.parse::<u64>().map_err(|error| match error.kind() {
                IntErrorKind::PosOverflow => TraceFaultKind::TooLarge(field, shortened(text)),
                _ => TraceFaultKind::Number(field, shortened(text)),
            })
        };
        let at_secs = number(TS_S, whole(at)).map_err(|fault| match fault {
            TraceFaultKind::Number(field, _) => TraceFaultKind::Number(field, shortened(at)),
            other => other,
        })?;
        let bytes = number("size_bytes", size)?;
        if name.is_empty() {
            return Err(TraceFaultKind::NoName);
        }
        if let Some(before) = self
            .trace
            .loads
            .last()
            .filter(|before| before.at_secs > at_secs)
        {
            return Err(TraceFaultKind::Backwards(before.at_secs, at_secs));
        }
        let object = self.object(name, bytes)?;
        let family = match self.families.get(family) {
            Some(&known) => known,
            None => {
                let new = self.families.len() as u32 + 1;
                self.families.insert(family.to_owned(), new);
                new
            }
        };
        self.trace.loads.push(TraceLoad {
            object,
            family,
            bytes,
            at_secs,
        });
        Ok(())
    }

    fn object(&mut self, name: &str, bytes: u64) -> Result<u32, TraceFaultKind> {
        let known = self.objects.get(name).copied();
        let object = known.unwrap_or(self.trace.names.len() as u32);
        if known.is_none() {
            if self.trace.names.len() >= OBJECTS_MAX {
                return Err(TraceFaultKind::TooMuch);
            }
            self.objects.insert(name.to_owned(), object);
            self.trace.names.push(name.to_owned());
            self.trace.sizes.push(0);
        }
        let size = &mut self.trace.sizes[object as usize];
        *size = bytes.max(*size);
        // The footprint is never more than that.
        let loaded = self.loaded_bytes.checked_add(bytes);
        self.loaded_bytes = loaded.ok_or(TraceFaultKind::TooMuch)?;
        Ok(object)
    }

    /// The trace, which may be without a single load. Where not even a header was, that is a fault.
    pub fn finish(self) -> Result<Trace, TraceFault> {
        if self.line == 0 {
            let kind = TraceFaultKind::Header(String::new());
            return Err(TraceFault { line: 1, kind });
        }
        Ok(self.trace)
    }
}

/// A time without its fraction of a second, which nothing here is finer than.
fn whole(at: &str) -> &str {
    match at.split_once('.') {
        Some((secs, fraction)) if !fraction.is_empty() => {
            let is_fraction = fraction.bytes().all(|byte| byte.is_ascii_digit());
            if is_fraction { secs } else { at }
        }
        _ => at,
    }
}

/// Enough of hostile text to recognise it.
fn shortened(text: &str) -> String {
    text.chars().take(40).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(lines: &[&str]) -> Result<Trace, TraceFault> {
        let mut reader = TraceReader::new();
        for line in lines {
            reader.line(line)?;
        }
        reader.finish()
    }

    #[test]
    fn a_trace_becomes_numbers() {
        let trace = read(&[HEADER, "0,0,g,a,5", "1,1,h,b,7\r", "", "1,2,g,a,6"]).expect("is right");
        assert_eq!(trace.names, ["a", "b"]);
        assert_eq!(trace.footprint_bytes(), 13);
        assert_eq!(
            trace.loads[2],
            TraceLoad {
                object: 0,
                family: 1,
                bytes: 6,
                at_secs: 1
            }
        );
    }

    #[test]
    fn a_time_may_have_a_fraction() {
        let trace = read(&[HEADER, "0.5,0,g,a,5", "0.25,1,g,a,5", "7.999999,2,g,a,5"]);
        let trace = trace.expect("is right");
        let times: Vec<u64> = trace.loads.iter().map(|load| load.at_secs).collect();
        assert_eq!(times, [0, 0, 7]);
        for wrong in ["1.", ".5", "1.5e3", "1.2.3", "-0.5", "1.-5", "."] {
            let found = read(&[HEADER, &format!("{wrong},0,g,a,5")]).expect_err(wrong);
            let wanted = format!("line 2: ts_s is {wrong:?}; it should be a number of 0 or more");
            assert_eq!(found.to_string(), wanted);
        }
        assert!(read(&[HEADER, "1,0,g,a,5.0"]).is_err(), "bytes have none");
    }

    /// The footprint counted what had been loaded before them, too.
    #[test]
    fn the_last_loads_have_a_footprint_of_their_own() {
        let lines = [HEADER, "0,0,g,a,5", "1,1,g,b,9", "2,2,g,b,7", "3,3,g,c,6"];
        let mut trace = read(&lines).expect("is right");
        trace.keep_last(4);
        assert_eq!(trace.footprint_bytes(), 5 + 9 + 6);
        trace.keep_last(2);
        assert_eq!((trace.loads.len(), trace.footprint_bytes()), (2, 7 + 6));
        trace.keep_last(0);
        assert_eq!(trace.footprint_bytes(), 0);
    }

    #[test]
    fn a_footprint_beyond_64_bits_is_the_most_there_is() {
        let trace = Trace {
            sizes: vec![u64::MAX, 2],
            ..Trace::default()
        };
        assert_eq!(trace.footprint_bytes(), u64::MAX);
    }

    #[test]
    fn faults_name_line_and_field() {
        let told = |lines: &[&str]| read(lines).map(|_| ()).map_err(|fault| fault.to_string());
        for (lines, wanted) in [
            (&["nonsense"][..], "line 1: the first line is \"nonsense\""),
            (&[], "line 1: the first line is \"\""),
            (&[HEADER, "1,2,3"], "line 2: 3 fields"),
            (&[HEADER, "1,2,g,o,-5"], "line 2: size_bytes is \"-5\""),
            (
                &[HEADER, "1,2,g,o,99999999999999999999"],
                "line 2: size_bytes is \"99999999999999999999\"; it is too large",
            ),
            (&[HEADER, "x,2,g,o,5"], "line 2: ts_s is \"x\""),
            (&[HEADER, "1,2,g,,5"], "line 2: the object has no name"),
            (
                &[HEADER, "5,2,g,o,5", "4,2,g,o,5"],
                "line 3: ts_s is 4, before the 5",
            ),
            (
                &[HEADER, "5,2,g,o,18446744073709551615", "5,2,g,p,1"],
                "line 3: more objects than 2^24, or loads",
            ),
            (
                &[
                    HEADER,
                    "5,2,g,o,10000000000000000000",
                    "5,2,g,o,10000000000000000000",
                ],
                "line 3: more objects than 2^24, or loads",
            ),
        ] {
            let found = told(lines).expect_err("is wrong");
            assert!(found.starts_with(wanted), "{found}");
        }
    }
}
