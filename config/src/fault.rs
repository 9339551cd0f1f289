//! What is wrong with a configuration: where, what was found, what would be right, and a guess at what was meant.
//!
//! A fault is data first (`Serialize`) and one line of text second. It holds text of untrusted files, so what was
//! found is escaped and shortened when it is quoted; faults are counted, not collected without end.

use std::fmt;

use serde::Serialize;

use crate::origin::Origin;

/// One mistake.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Fault {
    /// The key as a person would look for it: `http.listen`, `pool[0].capacity`; empty for the whole.
    pub key: String,
    /// Where the mistake was made.
    pub at: Origin,
    /// What is there, as part of a sentence: `"64"`, `unknown key`, `nothing`.
    pub found: String,
    /// What would be right, as part of a sentence.
    pub wanted: String,
    /// What was probably meant, or what to do: a whole sentence.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Fault {
            key,
            at,
            found,
            wanted,
            hint,
        } = self;
        // What nobody wrote has no place.
        if *at != Origin::Default {
            write!(f, "{at}: ")?;
        }
        if !key.is_empty() {
            write!(f, "{key}: ")?;
        }
        write!(f, "found {found}, wanted {wanted}")?;
        match hint {
            Some(hint) => write!(f, "; {hint}"),
            None => Ok(()),
        }
    }
}

/// All the mistakes of a configuration, in the order of their places.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Faults {
    /// The mistakes, at most [`Faults::LISTED_MAX`].
    pub faults: Vec<Fault>,
    /// How many more there are.
    #[serde(skip_serializing_if = "is_zero")]
    pub unlisted: usize,
}

fn is_zero(n: &usize) -> bool {
    *n == 0
}

impl Faults {
    /// So many are listed; the rest is counted, so that a hostile file cannot fill the memory or the log.
    pub const LISTED_MAX: usize = 100;

    /// True if nothing is wrong.
    pub fn is_empty(&self) -> bool {
        self.faults.is_empty()
    }

    /// How many mistakes there are, listed or not.
    pub fn count(&self) -> usize {
        self.faults.len() + self.unlisted
    }

    pub(crate) fn push(&mut self, fault: Fault) {
        if self.faults.len() < Faults::LISTED_MAX {
            self.faults.push(fault);
        } else {
            self.unlisted += 1;
        }
    }

    /// True if further faults are only counted, so that none need be worded.
    pub(crate) fn is_full(&self) -> bool {
        self.faults.len() >= Faults::LISTED_MAX
    }

    pub(crate) fn absorb(&mut self, other: Faults) {
        self.unlisted += other.unlisted;
        other.faults.into_iter().for_each(|fault| self.push(fault));
    }

    /// A reader goes through a file from top to bottom.
    pub(crate) fn sort(&mut self) {
        self.faults
            .sort_by(|a, b| (&a.at, &a.key).cmp(&(&b.at, &b.key)));
    }
}

impl fmt::Display for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, fault) in self.faults.iter().enumerate() {
            if i > 0 {
                f.write_str("\n")?;
            }
            write!(f, "{fault}")?;
        }
        match self.unlisted {
            0 => Ok(()),
            more => write!(f, "\nand {more} more"),
        }
    }
}

impl std::error::Error for Faults {}

impl From<Fault> for Faults {
    fn from(fault: Fault) -> Faults {
        Faults {
            faults: vec![fault],
            unlisted: 0,
        }
    }
}

/// Text of others as it may be shown: quoted, control characters escaped, shortened.
pub(crate) fn quoted(text: &str) -> String {
    const SHOWN_MAX: usize = 60;
    let mut shown = String::from("\"");
    for (i, c) in text.chars().enumerate() {
        if i == SHOWN_MAX {
            shown.push_str("...");
            break;
        }
        match c {
            '\'' => shown.push('\''),
            c => shown.extend(c.escape_debug()),
        }
    }
    shown.push('"');
    shown
}

/// The candidate that was probably meant, if any is near enough.
pub(crate) fn nearest<'c>(
    word: &str,
    candidates: impl IntoIterator<Item = &'c str>,
) -> Option<&'c str> {
    /// Nobody mistypes a name this long; comparing it would only cost time.
    const WORD_LEN_MAX: usize = 64;
    /// So much of a name's beginning is enough to guess it.
    const BEGINNING_LEN_MIN: usize = 3;
    if word.is_empty() || word.len() > WORD_LEN_MAX {
        return None;
    }
    let word = word.to_lowercase().replace('-', "_");
    candidates
        .into_iter()
        .map(|candidate| {
            let lower = candidate.to_lowercase().replace('-', "_");
            let begun = word.len() >= BEGINNING_LEN_MIN && lower.starts_with(&word);
            let distance = strsim::damerau_levenshtein(&word, &lower);
            (if begun { distance.min(1) } else { distance }, candidate)
        })
        .filter(|(distance, candidate)| *distance <= candidate.chars().count().max(3) / 3)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

/// "did you mean `x`?"
pub(crate) fn did_you_mean<'c>(
    word: &str,
    candidates: impl IntoIterator<Item = &'c str>,
) -> Option<String> {
    nearest(word, candidates).map(|candidate| format!("did you mean `{candidate}`?"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fault(key: &str) -> Fault {
        Fault {
            key: key.to_owned(),
            at: Origin::Default,
            found: "x".to_owned(),
            wanted: "y".to_owned(),
            hint: None,
        }
    }

    #[test]
    fn a_fault_is_one_line() {
        let whole = Fault {
            hint: Some("did you mean `y`?".to_owned()),
            ..fault("")
        };
        assert_eq!(whole.to_string(), "found x, wanted y; did you mean `y`?");
        assert_eq!(fault("a.b").to_string(), "a.b: found x, wanted y");
    }

    #[test]
    fn faults_are_counted_beyond_the_listed() {
        let mut faults = Faults::default();
        (0..150).for_each(|i| faults.push(fault(&i.to_string())));
        assert_eq!(
            (faults.faults.len(), faults.unlisted, faults.count()),
            (100, 50, 150)
        );
        assert!(faults.to_string().ends_with("\nand 50 more"));
        let mut all = Faults::from(fault("first"));
        all.absorb(faults);
        assert_eq!(all.count(), 151);
    }

    #[test]
    fn quoted_text_is_short_and_harmless() {
        assert_eq!(quoted("it's\x1b[2J\n"), r#""it's\u{1b}[2J\n""#);
        assert_eq!(quoted(&"a".repeat(1000)).len(), 60 + 5);
    }

    #[test]
    fn guesses_only_what_is_near() {
        let names = ["listen", "enabled", "passthrough", "m"];
        assert_eq!(nearest("lisen", names), Some("listen"));
        assert_eq!(nearest("Pass-Through", names), Some("passthrough"));
        assert_eq!(nearest("threads", names), None);
        assert_eq!(nearest(&"listen".repeat(100), names), None);
        assert_eq!(nearest("", names), None);
    }
}
