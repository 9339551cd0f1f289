//! The service: the unit of `contrib/systemd`, with the program and the configuration of this installation.

use std::path::Path;

use crate::command::{Code, Message};
use crate::view::human::escape;

/// Where it is written: below the administrator's own directory, so that it goes before a package's.
pub(super) const PATH: &str = "/etc/systemd/system/speedloader.service";
/// The link by which `systemctl enable` starts it at boot.
pub(super) const ENABLED: &str = "/etc/systemd/system/multi-user.target.wants/speedloader.service";
/// Its name.
pub(super) const NAME: &str = "speedloader.service";

const TEMPLATE: &str = include_str!("../../contrib/systemd/speedloader.service");
/// The line of the template that says what is run.
const START: &str = "ExecStart=";

/// The unit's text.
///
/// # Errors
/// [`Code::Usage`] for a path that no unit can name.
pub(super) fn unit(program: &Path, config: &Path) -> Result<String, Message> {
    let (program, config) = (text(program)?, text(config)?);
    // Variables are not replaced in the program's own path (systemd.service(5)).
    let command = format!(
        "{START}{} serve --config {}",
        quoted(program),
        quoted(&config.replace('$', "$$"))
    );
    let lines = TEMPLATE.lines().map(|line| match line.starts_with(START) {
        true => command.as_str(),
        false => line,
    });
    Ok(lines.flat_map(|line| [line, "\n"]).collect())
}

fn text(path: &Path) -> Result<&str, Message> {
    let text = path
        .to_str()
        .filter(|text| !text.contains(char::is_control));
    text.ok_or_else(|| {
        let shown = escape(path.as_os_str().as_encoded_bytes());
        let text = format!("{shown} cannot be named in a unit of systemd");
        Message::new(Code::Usage, text).with_hint("wanted: a path of printable UTF-8")
    })
}

/// One word of a command in a unit (systemd.syntax(7), systemd.unit(5)).
fn quoted(word: &str) -> String {
    let word = word.replace('%', "%%");
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"/._-+@%$".contains(&byte);
    match word.bytes().all(is_plain) {
        true => word,
        false => format!("\"{}\"", word.replace('\\', "\\\\").replace('"', "\\\"")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_unit_of_contrib_is_that_of_a_usual_installation() {
        let (program, config) = ("/usr/local/bin/speedloader", "/etc/speedloader/config.toml");
        let unit = unit(Path::new(program), Path::new(config)).unwrap();
        assert_eq!(unit, TEMPLATE);
        assert_eq!(TEMPLATE.matches("\nExecStart=").count(), 1);
    }

    #[test]
    fn no_path_becomes_more_than_a_word() {
        let line = |config: &str| {
            let unit = unit(Path::new("/opt/my $p/s"), Path::new(config)).unwrap();
            let line = unit.lines().find(|line| line.starts_with(START)).unwrap();
            line.to_owned()
        };
        for (config, shown) in [
            ("/a b.toml", r#""/a b.toml""#),
            (r#"/a"b\.toml"#, r#""/a\"b\\.toml""#),
            ("/100%/$HOME/c", "/100%%/$$HOME/c"),
            ("/a;b", r#""/a;b""#),
            ("/a'b", r#""/a'b""#),
        ] {
            let wanted = format!(r#"ExecStart="/opt/my $p/s" serve --config {shown}"#);
            assert_eq!(line(config), wanted);
        }
        for hostile in ["/a\nExecStartPre=/bin/sh", "/a\u{1b}[2J", "/a\r"] {
            let error = unit(Path::new("/s"), Path::new(hostile)).unwrap_err();
            assert_eq!(error.code, Code::Usage, "{hostile:?}");
        }
    }
}
