//! Quantities as people write them ("200G", "80%", "1h30m") and back.
//!
//! Rules:
//! - A size always has a unit: `B`; `K`, `M`, `G`, `T`, `P` and `KiB` to `PiB` are powers of 1024;
//!   `KB` (or `kB`) to `PB` are powers of 1000. `64` alone is refused, because it is almost never meant as bytes.
//! - A fraction is allowed ("1.5TiB") and rounded down to a byte.
//! - A duration is a sum of whole numbers with `d`, `h`, `m`, `s`, `ms`, in that order.
//! - What `Display` prints parses back to the same value.
//!
//! Knows nothing of keys or files: an error is only what would have been right.

use std::fmt;
use std::time::Duration;

use serde::{Serialize, Serializer};

/// A number of bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Bytes(pub u64);

/// How much a pool may hold, or a part of it.
///
/// Every absolute amount orders before every share, so that "at least 1MiB" can be said of both.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Capacity {
    /// An absolute number of bytes.
    Bytes(Bytes),
    /// A share in percent, 1 to 100: of the RAM of the machine that holds the pool, or of the pool.
    Percent(u8),
}

const WANTED_SIZE: &str = "a size with its unit, such as 64GiB, 1.5TiB or 200G";
const WANTED_CAPACITY: &str = "a size with its unit, such as 64GiB, or a share, such as 60%";
const WANTED_DURATION: &str = "a time with its unit, such as 30s, 5m, 1h30m or 250ms";

/// Powers of 1024, largest first: the order in which `Display` tries them.
const BINARY: [(&str, u64); 6] = [
    ("PiB", 1 << 50),
    ("TiB", 1 << 40),
    ("GiB", 1 << 30),
    ("MiB", 1 << 20),
    ("KiB", 1 << 10),
    ("B", 1),
];

/// Units of time in milliseconds, largest first.
const TIME: [(&str, u64); 5] = [
    ("d", 86_400_000),
    ("h", 3_600_000),
    ("m", 60_000),
    ("s", 1_000),
    ("ms", 1),
];

/// Digits after the point that are looked at; more would be below a byte for every unit.
const FRACTION_DIGITS_MAX: usize = 18;

fn unit_bytes(unit: &str) -> Option<u64> {
    Some(match unit {
        "B" | "b" => 1,
        "K" | "k" | "KiB" | "kiB" | "Ki" => 1 << 10,
        "M" | "m" | "MiB" | "Mi" => 1 << 20,
        "G" | "g" | "GiB" | "Gi" => 1 << 30,
        "T" | "t" | "TiB" | "Ti" => 1 << 40,
        "P" | "p" | "PiB" | "Pi" => 1 << 50,
        "KB" | "kB" => 1_000,
        "MB" => 1_000_000,
        "GB" => 1_000_000_000,
        "TB" => 1_000_000_000_000,
        "PB" => 1_000_000_000_000_000,
        _ => return None,
    })
}

impl Bytes {
    /// Reads a size with its unit; the error is what would have been right.
    pub fn parse(text: &str) -> Result<Bytes, &'static str> {
        let text = text.trim();
        let number_len = text
            .find(|c: char| !c.is_ascii_digit() && c != '.')
            .unwrap_or(text.len());
        let (number, unit) = text.split_at(number_len);
        let unit = unit_bytes(unit.trim_start()).ok_or(WANTED_SIZE)?;
        scale(number, unit).map(Bytes)
    }
}

/// `number` times `unit`, exactly, rounded down; no floating point, so nothing is lost near 2^64.
fn scale(number: &str, unit: u64) -> Result<u64, &'static str> {
    const TOO_LARGE: &str = "a size below 16EiB";
    let (whole, fraction) = number.split_once('.').unwrap_or((number, "0"));
    let digits = |s: &str| !s.is_empty() && s.bytes().all(|b| b.is_ascii_digit());
    if !digits(whole) || !digits(fraction) {
        return Err(WANTED_SIZE);
    }
    let whole: u64 = whole.parse().map_err(|_| TOO_LARGE)?;
    let kept = &fraction[..fraction.len().min(FRACTION_DIGITS_MAX)];
    let mut numerator: u128 = 0;
    let mut denominator: u128 = 1;
    for digit in kept.bytes() {
        numerator = numerator * 10 + u128::from(digit - b'0');
        denominator *= 10;
    }
    let part = numerator * u128::from(unit) / denominator;
    let total = u128::from(whole) * u128::from(unit) + part;
    u64::try_from(total).map_err(|_| TOO_LARGE)
}

impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (unit, bytes) in BINARY {
            if self.0 >= bytes && self.0.is_multiple_of(bytes) {
                return write!(f, "{}{unit}", self.0 / bytes);
            }
        }
        write!(f, "{}B", self.0)
    }
}

impl Serialize for Bytes {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_u64(self.0)
    }
}

impl Capacity {
    /// Reads a size with its unit or a share; the error is what would have been right.
    pub fn parse(text: &str) -> Result<Capacity, &'static str> {
        let text = text.trim();
        let Some(percent) = text.strip_suffix('%') else {
            return Bytes::parse(text).map(Capacity::Bytes).map_err(|wanted| {
                if wanted == WANTED_SIZE {
                    WANTED_CAPACITY
                } else {
                    wanted
                }
            });
        };
        let percent = percent.trim_end();
        let number = if percent.bytes().all(|b| b.is_ascii_digit()) {
            percent
        } else {
            ""
        };
        match number.parse::<u8>() {
            Ok(percent @ 1..=100) => Ok(Capacity::Percent(percent)),
            _ => Err("a whole number of percent from 1% to 100%"),
        }
    }

    /// The bytes that this is on a machine with so much RAM.
    pub fn resolve(self, ram: Bytes) -> Bytes {
        match self {
            Capacity::Bytes(bytes) => bytes,
            Capacity::Percent(percent) => {
                let share = u128::from(ram.0) * u128::from(percent) / 100;
                Bytes(u64::try_from(share).unwrap_or(u64::MAX))
            }
        }
    }
}

impl fmt::Display for Capacity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Capacity::Bytes(bytes) => bytes.fmt(f),
            Capacity::Percent(percent) => write!(f, "{percent}%"),
        }
    }
}

impl Serialize for Capacity {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(self)
    }
}

/// Reads a duration, to the millisecond; the error is what would have been right.
pub fn parse_duration(text: &str) -> Result<Duration, &'static str> {
    const TOO_LONG: &str = "a time below 100 years";
    const MS_MAX: u64 = 100 * 365 * 86_400_000;
    let mut rest = text.trim();
    if rest.is_empty() {
        return Err(WANTED_DURATION);
    }
    let mut total_ms: u64 = 0;
    let mut unit_before = u64::MAX;
    while !rest.is_empty() {
        let number_len = rest
            .find(|c: char| !c.is_ascii_digit())
            .unwrap_or(rest.len());
        let (number, tail) = rest.split_at(number_len);
        let unit_len = tail
            .find(|c: char| !c.is_ascii_alphabetic())
            .unwrap_or(tail.len());
        let (unit, tail) = tail.split_at(unit_len);
        let (_, unit_ms) = *TIME
            .iter()
            .find(|(u, _)| *u == unit)
            .ok_or(WANTED_DURATION)?;
        if number.is_empty() || unit_ms >= unit_before {
            return Err(WANTED_DURATION);
        }
        let number: u64 = number.parse().map_err(|_| TOO_LONG)?;
        let part_ms = number.checked_mul(unit_ms).ok_or(TOO_LONG)?;
        total_ms = total_ms.checked_add(part_ms).ok_or(TOO_LONG)?;
        if total_ms > MS_MAX {
            return Err(TOO_LONG);
        }
        unit_before = unit_ms;
        rest = tail;
    }
    Ok(Duration::from_millis(total_ms))
}

/// Writes a duration so that [`parse_duration`] reads the same one; parts below 1 ms are dropped.
pub fn format_duration(duration: Duration) -> String {
    let mut rest_ms = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    if rest_ms == 0 {
        return "0s".to_owned();
    }
    let mut text = String::new();
    for (unit, unit_ms) in TIME {
        let number = rest_ms / unit_ms;
        rest_ms %= unit_ms;
        if number > 0 {
            text.push_str(&number.to_string());
            text.push_str(unit);
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn sizes_mean_what_the_manual_says() {
        let size = |s| Bytes::parse(s).map(|b| b.0);
        assert_eq!(size("200G"), Ok(200 << 30));
        assert_eq!(size("128GiB"), Ok(128 << 30));
        assert_eq!(size("1GB"), Ok(1_000_000_000));
        assert_eq!(size("1.5TiB"), Ok(3 << 39));
        assert_eq!(size("0.1KiB"), Ok(102));
        assert_eq!(size(" 7 MiB "), Ok(7 << 20));
        assert_eq!(size("12B"), Ok(12));
        for wrong in [
            "", "64", "G", "-1G", "1.G", ".5G", "1.2.3G", "1e3G", "1 G B", "٣G", "64GiBs",
        ] {
            assert_eq!(size(wrong), Err(WANTED_SIZE), "{wrong:?}");
        }
        for large in ["16384PiB", "99999999999999999999G", "18446744073709551616B"] {
            assert_eq!(size(large), Err("a size below 16EiB"), "{large:?}");
        }
        assert_eq!(size("18446744073709551615B"), Ok(u64::MAX));
    }

    #[test]
    fn shares_are_whole_percents() {
        assert_eq!(Capacity::parse("80%"), Ok(Capacity::Percent(80)));
        assert_eq!(Capacity::parse("80 %"), Ok(Capacity::Percent(80)));
        assert_eq!(
            Capacity::parse("64GiB"),
            Ok(Capacity::Bytes(Bytes(64 << 30)))
        );
        for wrong in ["0%", "101%", "%", "1.5%", "-1%", "+5%", "999999999999%"] {
            assert!(Capacity::parse(wrong).is_err(), "{wrong:?}");
        }
        let ram = Bytes(1000);
        assert_eq!(Capacity::Percent(60).resolve(ram), Bytes(600));
        assert_eq!(
            Capacity::Percent(100).resolve(Bytes(u64::MAX)),
            Bytes(u64::MAX)
        );
        assert!(Capacity::Bytes(Bytes(u64::MAX)) < Capacity::Percent(1));
    }

    #[test]
    fn durations_are_sums_in_order() {
        let ms = |s| parse_duration(s).map(|d| d.as_millis());
        assert_eq!(ms("5m"), Ok(300_000));
        assert_eq!(ms("1h30m"), Ok(5_400_000));
        assert_eq!(ms("250ms"), Ok(250));
        assert_eq!(ms("0s"), Ok(0));
        for wrong in ["", "5", "m", "5 m", "30m1h", "5m5m", "-5m", "1.5h", "5min"] {
            assert_eq!(ms(wrong), Err(WANTED_DURATION), "{wrong:?}");
        }
        for long in ["36501d", "99999999999999999999s", "18446744073709551615d"] {
            assert_eq!(ms(long), Err("a time below 100 years"), "{long:?}");
        }
    }

    proptest! {
        #[test]
        fn sizes_round_trip(bytes in any::<u64>(), zeros in 0u32..60) {
            let bytes = Bytes((bytes >> zeros) << zeros);
            prop_assert_eq!(Bytes::parse(&bytes.to_string()), Ok(bytes));
        }

        #[test]
        fn capacities_round_trip(percent in 1u8..=100) {
            let share = Capacity::Percent(percent);
            prop_assert_eq!(Capacity::parse(&share.to_string()), Ok(share));
        }

        #[test]
        fn durations_round_trip(ms in 0u64..(100 * 365 * 86_400_000)) {
            let duration = Duration::from_millis(ms);
            prop_assert_eq!(parse_duration(&format_duration(duration)), Ok(duration));
        }

        #[test]
        fn no_text_panics(text in "\\PC*", near in "[0-9.]{0,25}[ kKMGTPiB%a-z]{0,4}") {
            for text in [text.as_str(), near.as_str()] {
                let _ = Bytes::parse(text);
                let _ = Capacity::parse(text);
                let _ = parse_duration(text);
            }
        }
    }
}
