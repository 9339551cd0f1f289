//! How numbers, times and names are written for a person. Pure functions, no locale, no clock:
//! whoever knows the time passes it. Names are escaped here, so that a file name can never send
//! control sequences to a terminal or break a line of a table.

/// Makes any name printable; [`unescape`] is its inverse.
pub use speedloader_fs::rel_path::escape;
use speedloader_fs::rel_path::is_hidden;

const UNITS: [&str; 7] = ["B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];

/// Two numbers of bytes that are compared: to the byte, where they would look alike and are not.
pub fn sizes(one: u64, other: u64) -> [String; 2] {
    let rounded = [size(one), size(other)];
    match rounded[0] == rounded[1] && one != other {
        true => [format!("{one} B"), format!("{other} B")],
        false => rounded,
    }
}

/// A number of bytes in binary units with three significant digits: `14.2 GiB`, `512 B`.
pub fn size(bytes: u64) -> String {
    let mut unit = 0;
    // A value that would be shown as "1024 MiB" is shown as "1.00 GiB".
    while unit + 1 < UNITS.len() && bytes as f64 / scale(unit) >= 1023.5 {
        unit += 1;
    }
    let value = bytes as f64 / scale(unit);
    let digits = match (unit, value) {
        (0, _) => 0,
        (_, value) if value < 9.995 => 2,
        (_, value) if value < 99.95 => 1,
        _ => 0,
    };
    format!("{value:.digits$} {}", UNITS[unit])
}

fn scale(unit: usize) -> f64 {
    (0..unit).fold(1.0, |scale, _| scale * 1024.0)
}

/// Bytes per second in decimal units, as devices and networks are rated: `2.10 GB/s`; `-` for none.
pub fn rate(bytes_per_sec: u64) -> String {
    let value = bytes_per_sec as f64;
    match bytes_per_sec {
        0 => "-".to_owned(),
        1..1_000 => format!("{value} B/s"),
        1_000..1_000_000 => format!("{:.0} kB/s", value / 1e3),
        1_000_000..1_000_000_000 => format!("{:.0} MB/s", value / 1e6),
        _ => format!("{:.2} GB/s", value / 1e9),
    }
}

/// A duration in its two largest units: `3 d 4 h`, `12 min 5 s`, `0 s`.
pub fn duration(seconds: u64) -> String {
    let parts = [
        (seconds / 86_400, "d"),
        (seconds / 3_600 % 24, "h"),
        (seconds / 60 % 60, "min"),
        (seconds % 60, "s"),
    ];
    let Some(first) = parts.iter().position(|(count, _)| *count > 0) else {
        return "0 s".to_owned();
    };
    let shown: Vec<String> = parts[first..]
        .iter()
        .take(2)
        .filter(|(count, _)| *count > 0)
        .map(|(count, unit)| format!("{count} {unit}"))
        .collect();
    shown.join(" ")
}

/// How long ago a moment was, in its largest unit; both are Unix times in milliseconds.
pub fn ago(now_ms: u64, then_ms: Option<u64>) -> String {
    let Some(then_ms) = then_ms else {
        return "never".to_owned();
    };
    let seconds = now_ms.saturating_sub(then_ms) / 1_000;
    match seconds {
        0 => "now".to_owned(),
        1..60 => format!("{seconds} s ago"),
        60..3_600 => format!("{} min ago", seconds / 60),
        3_600..86_400 => format!("{} h ago", seconds / 3_600),
        _ => format!("{} d ago", seconds / 86_400),
    }
}

/// A Unix time in milliseconds as `2026-04-06T10:15:02Z`.
pub fn timestamp(time_ms: u64) -> String {
    let seconds = time_ms / 1_000;
    let (year, month, day) = civil_from_days(seconds / 86_400);
    let (hour, minute, second) = (seconds / 3_600 % 24, seconds / 60 % 60, seconds % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
}

/// Days since 1970-01-01 to a date of the Gregorian calendar.
fn civil_from_days(days: u64) -> (u64, u64, u64) {
    // Years are counted from a first of March, so that the leap day is a year's last day, and from
    // the year 0, so that 400-year cycles of 146,097 days start at a multiple.
    let days = days + 719_468;
    let (cycle, of_cycle) = (days / 146_097, days % 146_097);
    let of_cycle_year =
        (of_cycle - of_cycle / 1_460 + of_cycle / 36_524 - of_cycle / 146_096) / 365;
    let of_year = of_cycle - (365 * of_cycle_year + of_cycle_year / 4 - of_cycle_year / 100);
    let shifted_month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 {
        shifted_month + 3
    } else {
        shifted_month - 9
    };
    let year = cycle * 400 + of_cycle_year + u64::from(month <= 2);
    (year, month, day)
}

/// How much of `total` is `part`, in whole percent rounded down: 100 means all of it, never nearly
/// all. Nothing of nothing is 100.
pub fn percent(part: u64, total: u64) -> u8 {
    if part >= total {
        return 100;
    }
    u8::try_from(u128::from(part) * 100 / u128::from(total)).unwrap_or(99)
}

/// A count with thousands separated: `12,345`.
pub fn count(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// `text` with the characters that [`escape`] does not show escaped, and nothing else changed.
pub fn printable(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for character in text.chars() {
        match is_hidden(character) {
            true => shown.extend(character.escape_default()),
            false => shown.push(character),
        }
    }
    shown
}

/// A name of any bytes as one word of a shell: quoted where it must be, and always printable.
pub fn shell_word(name: &[u8]) -> String {
    let is_plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"/._-+:@,".contains(byte);
    match std::str::from_utf8(name) {
        Ok(text) if !text.is_empty() && name.iter().all(is_plain) => text.to_owned(),
        Ok(text) if !text.chars().any(is_hidden) => format!("'{}'", text.replace('\'', "'\\''")),
        Ok(_) | Err(_) => format!("$'{}'", escape(name).replace('\'', "\\'")),
    }
}

/// The bytes that [`escape`] has made printable; `None` if a backslash starts nothing known.
pub fn unescape(text: &str) -> Option<Vec<u8>> {
    let mut name = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes().iter();
    while let Some(&byte) = rest.next() {
        if byte != b'\\' {
            name.push(byte);
            continue;
        }
        match rest.next()? {
            b'\\' => name.push(b'\\'),
            b'n' => name.push(b'\n'),
            b't' => name.push(b'\t'),
            b'x' => {
                let (high, low) = (char::from(*rest.next()?), char::from(*rest.next()?));
                let value = high.to_digit(16)? * 16 + low.to_digit(16)?;
                name.push(u8::try_from(value).ok()?);
            }
            _ => return None,
        }
    }
    Some(name)
}

/// An error with its causes, as one line.
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn sizes_have_three_significant_digits() {
        let cases = [
            (0, "0 B"),
            (1, "1 B"),
            (1023, "1023 B"),
            (1024, "1.00 KiB"),
            (1_047_500, "1023 KiB"),
            (1_048_575, "1.00 MiB"),
            (10 << 30, "10.0 GiB"),
            ((14 << 30) + (220 << 20), "14.2 GiB"),
            (100 << 30, "100 GiB"),
            (u64::MAX, "16.0 EiB"),
        ];
        for (bytes, wanted) in cases {
            assert_eq!(size(bytes), wanted, "{bytes}");
        }
    }

    #[test]
    fn durations_rates_and_counts_read_well() {
        assert_eq!(duration(0), "0 s");
        assert_eq!(duration(65), "1 min 5 s");
        assert_eq!(duration(3_600), "1 h");
        assert_eq!(duration(3 * 86_400 + 4 * 3_600 + 59), "3 d 4 h");
        assert_eq!(rate(0), "-");
        assert_eq!(rate(2_100_000_000), "2.10 GB/s");
        assert_eq!(rate(85_000_000), "85 MB/s");
        assert_eq!(count(1_234_567), "1,234,567");
        assert_eq!(count(12), "12");
        assert_eq!(ago(10_000, None), "never");
        assert_eq!(ago(10_000, Some(20_000)), "now");
        assert_eq!(ago(7_300_000, Some(0)), "2 h ago");
    }

    #[test]
    fn timestamps_know_leap_years() {
        let cases = [
            (0, "1970-01-01T00:00:00Z"),
            (951_782_400_000, "2000-02-29T00:00:00Z"),
            (1_709_251_199_999, "2024-02-29T23:59:59Z"),
            (1_775_470_502_000, "2026-04-06T10:15:02Z"),
            (4_107_542_400_000, "2100-03-01T00:00:00Z"),
        ];
        for (time_ms, wanted) in cases {
            assert_eq!(timestamp(time_ms), wanted);
        }
    }

    #[test]
    fn hundred_percent_means_all() {
        assert_eq!(percent(0, 0), 100);
        assert_eq!(percent(u64::MAX - 1, u64::MAX), 99);
        assert_eq!(percent(u64::MAX, u64::MAX), 100);
        assert_eq!(percent(1, 3), 33);
    }

    #[test]
    fn a_name_cannot_command_a_terminal() {
        assert_eq!(escape(b"a\x1b[2Jb\n\xff\\"), "a\\x1b[2Jb\\n\\xff\\\\");
        assert_eq!(
            escape("ü \u{9b}1m \u{202e}".as_bytes()),
            "ü \\xc2\\x9b1m \\xe2\\x80\\xae"
        );
        assert_eq!(unescape("\\q"), None);
        assert_eq!(unescape("\\x1"), None);
    }

    #[test]
    fn a_name_is_one_word_of_a_shell() {
        assert_eq!(shell_word(b"/mnt/m-1.gguf"), "/mnt/m-1.gguf");
        assert_eq!(shell_word(b""), "''");
        assert_eq!(shell_word(b"a b\\"), "'a b\\'");
        assert_eq!(shell_word(b"it's; rm -rf /"), r"'it'\''s; rm -rf /'");
        assert_eq!(shell_word(b"\x1b[2J'\xff\\"), r"$'\x1b[2J\'\xff\\'");
        assert_eq!(printable("a\x1b, \u{202e}"), r"a\u{1b}, \u{202e}");
    }

    proptest! {
        #[test]
        fn every_name_survives_escaping(name in proptest::collection::vec(any::<u8>(), 0..64)) {
            let text = escape(&name);
            prop_assert!(!text.chars().any(char::is_control));
            prop_assert_eq!(unescape(&text), Some(name));
        }

        #[test]
        fn unescaping_never_panics(text in ".{0,40}") {
            let _ = unescape(&text);
        }
    }
}
