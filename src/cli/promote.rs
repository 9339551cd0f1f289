//! `speedloader promote`, of names or of a list of them.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use clap::Args;

use super::context::{Context, judge, name, names};
use crate::command::{Code, Command, Message, name_fault};

/// No honest list is longer.
const LIST_BYTES_MAX: u64 = 16 << 20;
/// So many bad lines are shown.
const FAULTS_MAX: usize = 20;

/// Copy models into a pool
#[derive(Args, Debug)]
#[command(after_help = "\
A copy goes on in the background, also if --wait is interrupted.

A list has a name a line, the most wanted first; empty lines and lines that begin with # are
comments. Nothing is promoted if a line is none. What is not there or does not fit is said at the
end and keeps nothing else from its pool; the status is 3 or 4 then.

Examples:
  speedloader promote llama3.2:3b
  speedloader promote 'qwen2.5*' --pool local --wait
  speedloader promote --file /etc/speedloader/warm-up.list")]
pub(super) struct Arguments {
    /// A model, a path in the mount or a glob
    #[arg(required_unless_present = "file", value_name = "NAME")]
    names: Vec<OsString>,

    /// A list of names, the most wanted first; - for the standard input
    #[arg(short, long, value_name = "LIST", conflicts_with = "names")]
    file: Option<PathBuf>,

    /// The pool [default: the placement strategy chooses]
    #[arg(short, long, value_name = "POOL")]
    pool: Option<OsString>,

    /// Return when every byte is copied and verified
    #[arg(short, long)]
    wait: bool,
}

pub(super) fn run(arguments: Arguments, context: &mut Context<'_>) -> Result<(), Message> {
    let Arguments {
        names: wanted,
        file,
        pool,
        wait,
    } = arguments;
    let pool = pool.as_deref().map(name);
    let Some(file) = file else {
        let names = names(&wanted);
        let view = context.ask_with_progress(Command::Promote { names, pool, wait })?;
        context.show_change(&view)?;
        return judge(&view, "promoted");
    };
    let names = parse_list(&file.display().to_string(), &read_list(&file)?)?;
    let view = context.ask_with_progress(Command::WarmUp { names, pool, wait })?;
    context.show_change(&view)?;
    judge(&view, "promoted")
}

fn read_list(path: &Path) -> Result<Vec<u8>, Message> {
    let cannot = |error: io::Error| {
        Message::new(
            Code::Usage,
            format!("{} cannot be read: {error}", path.display()),
        )
    };
    let mut bytes = Vec::new();
    let source: Box<dyn Read> = match path == Path::new("-") {
        true => Box::new(io::stdin()),
        false => Box::new(File::open(path).map_err(cannot)?),
    };
    source
        .take(LIST_BYTES_MAX + 1)
        .read_to_end(&mut bytes)
        .map_err(cannot)?;
    if bytes.len() as u64 > LIST_BYTES_MAX {
        return Err(cannot(io::Error::other("it is too long for a list")));
    }
    Ok(bytes)
}

/// The names of a list, or all that is wrong with it.
fn parse_list(shown: &str, bytes: &[u8]) -> Result<Vec<String>, Message> {
    let (mut names, mut faults) = (Vec::new(), Vec::new());
    // Editors of some systems begin a file with it.
    let bytes = bytes.strip_prefix("\u{feff}".as_bytes()).unwrap_or(bytes);
    for (line, number) in bytes.split(|byte| *byte == b'\n').zip(1_usize..) {
        let Ok(text) = std::str::from_utf8(line) else {
            faults.push(format!(
                "line {number} is not UTF-8; write such bytes as \\xNN"
            ));
            continue;
        };
        let text = text.trim();
        if text.is_empty() || text.starts_with('#') {
            continue;
        }
        match name_fault(text) {
            None => names.push(text.to_owned()),
            Some(fault) => faults.push(format!("line {number} {fault}")),
        }
    }
    if faults.is_empty() && names.is_empty() {
        faults.push("it names nothing".to_owned());
    }
    if faults.is_empty() {
        return Ok(names);
    }
    let more = faults.len().saturating_sub(FAULTS_MAX);
    faults.truncate(FAULTS_MAX);
    if more > 0 {
        faults.push(format!("{more} more"));
    }
    let text = format!("{shown}: nothing was promoted:\n{}", faults.join("\n"));
    Err(Message::new(Code::Usage, text))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_list_is_read_in_its_order() {
        let text = b"# hot ones\nllama3.2:3b\n\n  my model.gguf \r\n#x\nqwen*";
        let names = parse_list("l", text).expect("a list");
        assert_eq!(names, ["llama3.2:3b", "my model.gguf", "qwen*"]);
    }

    #[test]
    fn a_byte_order_mark_is_no_part_of_the_first_name() {
        let names = parse_list("l", "\u{feff}a\nb\n".as_bytes()).expect("a list");
        assert_eq!(names, ["a", "b"]);
    }

    #[test]
    fn all_bad_lines_are_told_at_once() {
        let error = parse_list("l", b"good\na\x1b[2J\n\xff\n\\q\nalso good\n").unwrap_err();
        assert_eq!(error.code, Code::Usage);
        insta::assert_snapshot!(error.to_string());
        let many = "\\q\n".repeat(FAULTS_MAX + 7);
        let error = parse_list("l", many.as_bytes()).unwrap_err();
        assert!(error.to_string().ends_with("\n7 more"), "{error}");
        let nothing = parse_list("l", b"# only this\n\n").unwrap_err();
        assert!(
            nothing.to_string().ends_with("it names nothing"),
            "{nothing}"
        );
    }

    proptest! {
        #[test]
        fn no_list_panics(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            if let Ok(names) = parse_list("l", &bytes) {
                prop_assert!(names.iter().all(|name| name_fault(name).is_none()));
            }
        }
    }
}
