//! Commands as a person writes them into `.speedloader/control`: a verb and words, one command a
//! line. Words may be quoted ('..' or ".."), because names of models may contain blanks.

use super::{Code, Command, Message, suggest};
use crate::view::SettingChange;

/// How each verb is written; the order is that of the help.
const VERBS: &[(&str, &str)] = &[
    ("status", "status"),
    ("models", "models [FILTER]"),
    ("promote", "promote NAME [POOL]"),
    ("warm-up", "warm-up NAME..."),
    ("demote", "demote NAME"),
    ("pin", "pin NAME POOL"),
    ("unpin", "unpin NAME"),
    ("tiers", "tiers"),
    ("steps", "steps POOL"),
    ("connect", "connect POOL"),
    ("moves", "moves POOL"),
    ("disconnect", "disconnect POOL [force]"),
    ("resize", "resize POOL CAPACITY"),
    ("transfers", "transfers"),
    ("cancel", "cancel ID"),
    ("which", "which NAME"),
    ("rescan", "rescan"),
    ("events", "events [SINCE]"),
    ("config", "config"),
    ("reload", "reload"),
    ("version", "version"),
    ("explain", "explain NAME"),
    ("plan", "plan"),
    ("history", "history"),
    ("forecast", "forecast"),
    ("settings", "settings"),
    ("check", "check KEY [VALUE]"),
    ("set", "set KEY [VALUE]"),
    ("shutdown", "shutdown"),
];

/// Reads one line; `None` for a blank one or a comment (`#`). What waits or follows cannot be
/// written as a line, because nobody could be kept waiting in a write.
///
/// # Errors
/// [`Code::BadRequest`], saying how the verb is written, or which verb may have been meant.
pub fn parse_line(line: &str) -> Result<Option<Command>, Message> {
    let words = split(line)?;
    let Some((verb, arguments)) = words.split_first() else {
        return Ok(None);
    };
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let command = parse_words(verb, &arguments)?;
    command.check()?;
    Ok(Some(command))
}

fn parse_words(verb: &str, arguments: &[&str]) -> Result<Command, Message> {
    let own = str::to_owned;
    Ok(match (verb, arguments) {
        ("status", []) => Command::Status {},
        ("models", []) => Command::Models { filter: None },
        ("models", [filter]) => Command::Models {
            filter: Some(own(filter)),
        },
        ("promote", [name]) => Command::Promote {
            names: vec![own(name)],
            pool: None,
            wait: false,
        },
        ("promote", [name, pool]) => Command::Promote {
            names: vec![own(name)],
            pool: Some(own(pool)),
            wait: false,
        },
        ("warm-up", [_, ..]) => Command::WarmUp {
            names: arguments.iter().map(|name| own(name)).collect(),
            pool: None,
            wait: false,
        },
        ("demote", [name]) => Command::Demote {
            names: vec![own(name)],
        },
        ("pin", [name, pool]) => Command::Pin {
            name: own(name),
            pool: own(pool),
        },
        ("unpin", [name]) => Command::Unpin { name: own(name) },
        ("tiers", []) => Command::Tiers {},
        ("steps", [name]) => Command::TierSteps { name: own(name) },
        ("moves", [name]) => Command::TierMoves { name: own(name) },
        ("connect", [name]) => Command::TierConnect { name: own(name) },
        ("disconnect", [name]) => Command::TierDisconnect {
            name: own(name),
            force: false,
            wait: false,
            // Nobody could be kept waiting for a copy.
            no_move: true,
        },
        ("disconnect", [name, "force"]) => Command::TierDisconnect {
            name: own(name),
            force: true,
            wait: false,
            no_move: true,
        },
        ("resize", [name, capacity]) => Command::TierResize {
            name: own(name),
            capacity: own(capacity),
        },
        ("transfers", []) => Command::Transfers {},
        ("cancel", [id]) => Command::CancelTransfer {
            id: number(verb, "ID", id)?,
        },
        ("which", [name]) => Command::Which { name: own(name) },
        ("rescan", []) => Command::Rescan {},
        ("events", []) => Command::Events {
            since: 0,
            follow: false,
        },
        ("events", [since]) => Command::Events {
            since: number(verb, "SINCE", since)?,
            follow: false,
        },
        ("config", []) => Command::Config {},
        ("reload", []) => Command::Reload {},
        ("version", []) => Command::Version {},
        ("explain", [name]) => Command::Explain { name: own(name) },
        ("plan", []) => Command::Plan {},
        ("forecast", []) => Command::Forecast {},
        ("history", []) => Command::History {},
        ("settings", []) => Command::Settings {},
        ("check", [key]) => Command::CheckSettings {
            changes: change(key, None),
        },
        ("check", [key, value]) => Command::CheckSettings {
            changes: change(key, Some(value)),
        },
        ("set", [key]) => Command::SaveSettings {
            changes: change(key, None),
        },
        ("set", [key, value]) => Command::SaveSettings {
            changes: change(key, Some(value)),
        },
        ("shutdown", []) => Command::Shutdown {},
        _ => return Err(wrong(verb, arguments.len())),
    })
}

fn change(key: &str, value: Option<&str>) -> Vec<SettingChange> {
    vec![SettingChange {
        key: key.to_owned(),
        value: value.map(str::to_owned),
    }]
}

fn wrong(verb: &str, arguments: usize) -> Message {
    if let Some((_, usage)) = VERBS.iter().find(|(known, _)| *known == verb) {
        let words = if arguments == 1 {
            "1 word".to_owned()
        } else {
            format!("{arguments} words")
        };
        return Message::new(
            Code::BadRequest,
            format!("`{verb}` does not go with {words} after it"),
        )
        .with_hint(format!(
            "write `{usage}` (a name with blanks goes in quotes)"
        ));
    }
    let verbs: Vec<&str> = VERBS.iter().map(|(verb, _)| *verb).collect();
    let verb: String = verb.chars().take(64).collect();
    Message::new(Code::BadRequest, format!("`{verb}` is no command"))
        .with_suggestions(suggest(&verb, verbs.iter().copied()))
        .with_hint(format!("commands are {}", verbs.join(", ")))
}

fn number(verb: &str, what: &str, word: &str) -> Result<u64, Message> {
    word.parse().map_err(|_| {
        let word: String = word.chars().take(64).collect();
        Message::new(
            Code::BadRequest,
            format!("{verb}: {what} `{word}` is not a whole number"),
        )
    })
}

/// Words separated by blanks; quotes keep blanks, and nothing else is special.
fn split(line: &str) -> Result<Vec<String>, Message> {
    let mut words = Vec::new();
    let mut rest = line.trim_matches(is_blank);
    while !rest.is_empty() && !rest.starts_with('#') {
        let mut word = String::new();
        loop {
            match rest.chars().next() {
                None => break,
                Some(character) if is_blank(character) => break,
                Some(quote @ ('"' | '\'')) => {
                    let Some((quoted, after)) = rest[1..].split_once(quote) else {
                        return Err(Message::new(
                            Code::BadRequest,
                            format!("a quote ({quote}) is not closed"),
                        ));
                    };
                    word.push_str(quoted);
                    rest = after;
                }
                Some(character) => {
                    word.push(character);
                    rest = &rest[character.len_utf8()..];
                }
            }
        }
        words.push(word);
        rest = rest.trim_start_matches(is_blank);
    }
    Ok(words)
}

fn is_blank(character: char) -> bool {
    matches!(character, ' ' | '\t' | '\r')
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn every_verb_is_understood_as_its_usage_says() {
        for (verb, usage) in VERBS {
            let line = usage
                .replace(['[', ']'], "")
                .replace("ID", "7")
                .replace("SINCE", "7");
            let parsed = parse_line(&line);
            assert!(matches!(parsed, Ok(Some(_))), "{verb}: {line}: {parsed:?}");
        }
    }

    #[test]
    fn quotes_keep_blanks() {
        let parsed = parse_line("  pin \"my model's.gguf\" lo'cal'  # a remark").unwrap();
        let wanted = Command::Pin {
            name: "my model's.gguf".to_owned(),
            pool: "local".to_owned(),
        };
        assert_eq!(parsed, Some(wanted));
        assert_eq!(parse_line(" \t# nothing"), Ok(None));
        assert_eq!(parse_line(""), Ok(None));
    }

    #[test]
    fn wrong_lines_say_what_would_be_right() {
        let cases = [
            (
                "promot x",
                "`promot` is no command; did you mean `promote`?",
            ),
            (
                "pin x",
                "`pin` does not go with 1 word after it; write `pin NAME POOL` (a name with blanks goes in quotes)",
            ),
            ("cancel seven", "cancel: ID `seven` is not a whole number"),
            ("cancel -1", "cancel: ID `-1` is not a whole number"),
            ("demote 'x", "a quote (') is not closed"),
            ("demote ''", "demote: `names` is empty"),
            (
                "promote a b c",
                "`promote` does not go with 3 words after it; write `promote NAME [POOL]` (a name with blanks goes in quotes)",
            ),
        ];
        for (line, wanted) in cases {
            let error = parse_line(line).unwrap_err();
            assert_eq!(error.code, Code::BadRequest);
            assert_eq!(error.to_string(), wanted, "{line}");
        }
    }

    proptest! {
        #[test]
        fn no_line_panics(line in "\\PC{0,80}|(promote|pin|cancel|resize)[ '\"\\\\x#a-z0-9]{0,30}") {
            if let Ok(Some(command)) = parse_line(&line) {
                prop_assert!(command.check().is_ok());
            }
        }
    }
}
