//! Where a verb's output goes and what surrounds it: streams, the terminal, the environment. The only
//! place that looks at the process; tests make a console of their own.

use std::ffi::{OsStr, OsString};
use std::io::{self, BufRead, BufReader, IsTerminal, Write};
use std::time::{SystemTime, UNIX_EPOCH};

use crate::view::Style;

/// A verb's surroundings.
pub struct Console {
    /// Results.
    pub out: Box<dyn Write>,
    /// Errors and progress.
    pub err: Box<dyn Write>,
    /// How tables are drawn on `out`.
    pub style: Style,
    /// Whether `err` is a terminal, where progress bars can be drawn.
    pub interactive: bool,
    /// What a person answers; none where nobody could.
    pub answers: Option<Box<dyn BufRead>>,
    /// Environment variables.
    pub environment: Vec<(OsString, OsString)>,
    /// Unix time in milliseconds.
    pub now_ms: fn() -> u64,
}

impl Console {
    /// The process's own.
    pub fn of_process() -> Self {
        let environment: Vec<_> = std::env::vars_os().collect();
        let terminal = io::stdout().is_terminal();
        let width = rustix::termios::tcgetwinsize(io::stdout())
            .ok()
            .map(|size| usize::from(size.ws_col));
        Self {
            style: Style {
                width: width.filter(|width| terminal && *width > 0),
                colour: terminal && colour_wanted(&environment),
            },
            out: Box::new(io::stdout()),
            err: Box::new(io::stderr()),
            interactive: io::stderr().is_terminal(),
            answers: (io::stdin().is_terminal() && terminal)
                .then(|| Box::new(BufReader::new(io::stdin())) as Box<dyn BufRead>),
            environment,
            now_ms: now,
        }
    }

    /// The value of an environment variable that is set to something.
    pub fn variable(&self, name: &str) -> Option<&OsStr> {
        let found = self.environment.iter().find(|(key, _)| key == name);
        found
            .map(|(_, value)| value.as_os_str())
            .filter(|value| !value.is_empty())
    }
}

/// As <https://no-color.org> asks; a terminal that calls itself dumb has no colours either.
fn colour_wanted(environment: &[(OsString, OsString)]) -> bool {
    let value = |name: &str| {
        environment
            .iter()
            .find(|(key, _)| key == name)
            .map(|(_, value)| value)
    };
    value("NO_COLOR").is_none_or(|value| value.is_empty())
        && value("TERM").is_none_or(|value| value != "dumb")
}

fn now() -> u64 {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_color_is_honoured_as_its_page_says() {
        let set = |name: &str, value: &str| vec![(OsString::from(name), OsString::from(value))];
        assert!(colour_wanted(&[]));
        assert!(!colour_wanted(&set("NO_COLOR", "1")));
        assert!(colour_wanted(&set("NO_COLOR", "")), "empty means unset");
        assert!(!colour_wanted(&set("TERM", "dumb")));
    }
}
