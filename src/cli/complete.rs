//! `speedloader complete`: what a shell asks for when somebody presses the tabulator key where a name is wanted that only
//! the running daemon knows. Silent, and soon back, where there is none. Where names stand is decided here, once for all
//! shells.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Arg, Args};

use super::context::Context;
use super::settings;
use crate::command::{Command, Message};
use crate::control::Client;
use crate::view::View;

/// Whoever types waits no longer.
const PATIENCE: Duration = Duration::from_secs(1);

/// Print the names that could be the last of these words: for the completions of shells
#[derive(Args, Debug)]
#[command(
    hide = true,
    after_help = "\
Example:
  speedloader complete -- speedloader promote ''"
)]
pub(super) struct Arguments {
    /// A command line up to the word that is completed, the program's name included
    #[arg(last = true, value_name = "WORD")]
    words: Vec<OsString>,
}

/// What is named.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Models,
    Pools,
    Transfers,
    /// Keys of the configuration, each with `=`.
    Keys,
}

/// Where names stand: by verb, and by the argument's name in its definition.
pub(super) const PLACES: &[(&[&str], &str, Kind)] = &[
    (&["promote"], "names", Kind::Models),
    (&["promote"], "pool", Kind::Pools),
    (&["demote"], "names", Kind::Models),
    (&["pin"], "name", Kind::Models),
    (&["pin"], "pool", Kind::Pools),
    (&["unpin"], "name", Kind::Models),
    (&["wait"], "names", Kind::Models),
    (&["which"], "name", Kind::Models),
    (&["explain"], "name", Kind::Models),
    (&["tiers", "connect"], "name", Kind::Pools),
    (&["tiers", "disconnect"], "name", Kind::Pools),
    (&["tiers", "resize"], "name", Kind::Pools),
    (&["transfers"], "cancel", Kind::Transfers),
    (&["config", "set"], "changes", Kind::Keys),
];

pub(super) fn run(
    arguments: &Arguments,
    program: &clap::Command,
    context: &mut Context<'_>,
) -> Result<(), Message> {
    let words = arguments.words.iter().map(|word| word.to_string_lossy());
    let words: Vec<String> = words.map(std::borrow::Cow::into_owned).collect();
    let Some(asked) = asked(program, &words) else {
        return Ok(());
    };
    let config = asked.config.or(context.global.config.clone());
    let socket = asked.socket.or(context.global.socket.clone());
    let socket = settings::socket(context.console, socket.as_deref(), config.as_deref());
    let names = socket.ok().and_then(|socket| names(socket, asked.kind));
    let lines = names.into_iter().flatten();
    let text: String = lines
        .map(|name| format!("{}{name}\n", asked.prefix))
        .collect();
    context.print(&text)
}

/// What could stand in the place of the last word.
#[derive(Debug, PartialEq, Eq)]
struct Asked {
    kind: Kind,
    /// What goes before it in the same word.
    prefix: String,
    config: Option<PathBuf>,
    socket: Option<PathBuf>,
}

/// A command line on its way through the definitions.
struct Walk<'c> {
    program: &'c clap::Command,
    command: &'c clap::Command,
    verbs: Vec<&'c str>,
    /// How many words have stood for themselves since the verb.
    positionals: usize,
    /// The option whose value is next.
    awaited: Option<&'c Arg>,
    /// After `--`, nothing is an option.
    is_escaped: bool,
    config: Option<PathBuf>,
    socket: Option<PathBuf>,
}

fn asked(program: &clap::Command, words: &[String]) -> Option<Asked> {
    let (current, before) = words.split_last()?;
    let mut walk = Walk {
        program,
        command: program,
        verbs: Vec::new(),
        positionals: 0,
        awaited: None,
        is_escaped: false,
        config: None,
        socket: None,
    };
    for word in before.get(1..)? {
        walk.pass(word);
    }
    let (argument, prefix) = walk.at(current)?;
    let mut places = PLACES.iter();
    let (_, _, kind) =
        places.find(|(verbs, id, _)| *verbs == walk.verbs && argument.get_id().as_str() == *id)?;
    Some(Asked {
        kind: *kind,
        prefix,
        config: walk.config,
        socket: walk.socket,
    })
}

impl<'c> Walk<'c> {
    fn pass(&mut self, word: &str) {
        if let Some(option) = self.awaited.take() {
            self.note(option, word);
            return;
        }
        if self.is_escaped || !word.starts_with('-') || word == "-" {
            match self.command.find_subcommand(word) {
                Some(verb) if !self.is_escaped && self.positionals == 0 => {
                    self.command = verb;
                    self.verbs.push(verb.get_name());
                }
                _ => self.positionals += 1,
            }
        } else if word == "--" {
            self.is_escaped = true;
        } else if let Some((option, value)) = self.option(word) {
            match value {
                Some(value) => self.note(option, value),
                None => self.awaited = Some(option),
            }
        }
    }

    fn note(&mut self, option: &Arg, value: &str) {
        match option.get_id().as_str() {
            "config" => self.config = Some(value.into()),
            "socket" => self.socket = Some(value.into()),
            _ => {}
        }
    }

    /// The option in a word that takes a value, and the value if it is in the same word.
    fn option<'w>(&self, word: &'w str) -> Option<(&'c Arg, Option<&'w str>)> {
        let find = |is_it: &dyn Fn(&Arg) -> bool| {
            let mut all = self
                .command
                .get_arguments()
                .chain(self.program.get_arguments());
            all.find(|argument| is_it(argument) && argument.get_action().takes_values())
        };
        if let Some(long) = word.strip_prefix("--") {
            let (name, value) = match long.split_once('=') {
                Some((name, value)) => (name, Some(value)),
                None => (long, None),
            };
            return find(&|argument| argument.get_long() == Some(name)).map(|found| (found, value));
        }
        // The first of several letters that takes a value has the rest as such.
        word.char_indices().skip(1).find_map(|(at, letter)| {
            let found = find(&|argument| argument.get_short() == Some(letter))?;
            let rest = &word[at + letter.len_utf8()..];
            Some((found, Some(rest).filter(|rest| !rest.is_empty())))
        })
    }

    /// Whose value the last word is, and what of it goes before the value.
    fn at(&self, current: &str) -> Option<(&'c Arg, String)> {
        if let Some(option) = self.awaited {
            return Some((option, String::new()));
        }
        if !self.is_escaped && current.starts_with('-') {
            let (option, value) = self.option(current)?;
            let value = value.filter(|_| current.starts_with("--"))?;
            let prefix = current.strip_suffix(value)?;
            return Some((option, prefix.to_owned()));
        }
        let positionals: Vec<&Arg> = self.command.get_positionals().collect();
        let takes_many =
            |argument: &&&Arg| argument.get_action().takes_values() && is_list(argument);
        let last = positionals.last().filter(takes_many);
        let found = positionals.get(self.positionals).or(last)?;
        Some((found, String::new()))
    }
}

/// Whether an argument may be given any number of times.
fn is_list(argument: &Arg) -> bool {
    matches!(argument.get_action(), clap::ArgAction::Append)
}

/// What the daemon at a socket knows of a kind; `None` if it does not answer soon.
fn names(socket: PathBuf, kind: Kind) -> Option<Vec<String>> {
    let (sender, answer) = crossbeam_channel::bounded(1);
    std::thread::spawn(move || {
        let command = match kind {
            Kind::Models => Command::Models { filter: None },
            Kind::Pools => Command::Tiers {},
            Kind::Transfers => Command::Transfers {},
            Kind::Keys => Command::Settings {},
        };
        let view = Client::connect(&socket).and_then(|mut client| client.call(command));
        // Nobody waits for an answer that comes too late.
        let _ = sender.send(view);
    });
    Some(match answer.recv_timeout(PATIENCE).ok()?.ok()? {
        View::Models(view) => view.models.into_iter().map(|model| model.name).collect(),
        View::Tiers(view) => view.tiers.into_iter().map(|pool| pool.name).collect(),
        View::Transfers(view) => {
            let transfers = view.transfers.iter();
            transfers.map(|transfer| transfer.id.to_string()).collect()
        }
        View::Settings(view) => {
            let fields = view.fields.iter();
            fields.map(|field| format!("{}=", field.key)).collect()
        }
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;
    use crate::cli::args::Arguments;

    fn at(line: &[&str]) -> Option<(Kind, String)> {
        let words: Vec<String> = line.iter().map(|word| (*word).to_owned()).collect();
        let asked = asked(&Arguments::command(), &words)?;
        Some((asked.kind, asked.prefix))
    }

    #[test]
    fn every_place_is_in_the_definitions() {
        for (verbs, id, _) in PLACES {
            let mut command = Arguments::command();
            for verb in *verbs {
                command = command.find_subcommand(verb).unwrap().clone();
            }
            let mut arguments = command.get_arguments();
            assert!(
                arguments.any(|argument| argument.get_id() == id),
                "{verbs:?} {id}"
            );
        }
    }

    #[test]
    fn names_are_wanted_where_they_stand() {
        let models = Some((Kind::Models, String::new()));
        let pools = Some((Kind::Pools, String::new()));
        for (line, wanted) in [
            (&["s", "promote", ""][..], models.clone()),
            (&["s", "promote", "a", "b"], models.clone()),
            (&["s", "promote", "--wait", "a"], models.clone()),
            (
                &["s", "-q", "--socket", "promote", "promote", "l"],
                models.clone(),
            ),
            (&["s", "promote", "--pool", ""], pools.clone()),
            (&["s", "promote", "-wp", ""], pools.clone()),
            (&["s", "promote", "-p", "x", ""], models.clone()),
            (&["s", "promote", "-px", ""], models.clone()),
            (
                &["s", "promote", "--pool=lo"],
                Some((Kind::Pools, "--pool=".to_owned())),
            ),
            (&["s", "promote", "--", "-x"], models.clone()),
            (&["s", "promote", "--file", ""], None),
            (&["s", "promote", "--"], None),
            (&["s", "pin", "promote", "lo"], pools.clone()),
            (&["s", "pin", "m", "p", ""], None),
            (&["s", "which", "", ""], None),
            (&["s", "tiers", "resize", "lo"], pools.clone()),
            (&["s", "tiers", "resize", "lo", "6"], None),
            (&["s", "tiers", ""], None),
            (
                &["s", "transfers", "--cancel", ""],
                Some((Kind::Transfers, String::new())),
            ),
            (
                &["s", "config", "set", "a=1", "po"],
                Some((Kind::Keys, String::new())),
            ),
            (&["s", ""], None),
            (&["s"], None),
            (&[], None),
            (&["s", "nothing", ""], None),
        ] {
            assert_eq!(at(line), wanted, "{line:?}");
        }
    }

    #[test]
    fn the_daemon_that_is_named_is_asked() {
        let line = ["s", "--config=/c", "which", "--socket", "/s", ""];
        let words: Vec<String> = line.iter().map(|word| (*word).to_owned()).collect();
        let asked = asked(&Arguments::command(), &words).unwrap();
        assert_eq!(asked.config.as_deref(), Some("/c".as_ref()));
        assert_eq!(asked.socket.as_deref(), Some("/s".as_ref()));
    }

    proptest::proptest! {
        #[test]
        fn no_words_panic(words in proptest::collection::vec("(--?[a-z=é]{0,6}|promote|tiers|\\PC{0,4})", 0..7)) {
            let _ = asked(&Arguments::command(), &words);
        }
    }
}
