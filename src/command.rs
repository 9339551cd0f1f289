//! All that can be asked of a running speedloader, and what can be answered: protocol version 1.
//! Every door (socket, control files, HTTP) parses into [`Command`] and hands back [`Answer`]; what
//! one door can do, all can. This module only says what is well-formed: whether a model exists or
//! fits is for the one who carries the command out.

mod suggest;
mod message;
mod line;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::view::{SettingChange, View};

pub use line::parse_line;
pub use message::{Code, Message};
pub use suggest::suggest;

/// The version of the protocol. A daemon refuses requests of another one.
pub const PROTOCOL: u32 = 1;

/// No name is longer than a path can be.
pub const NAME_BYTES_MAX: usize = 4_096;
/// So many names fit a command line; more are a mistake.
const NAMES_MAX: usize = 10_000;
/// So many keys can be changed at once; there are fewer than that.
const CHANGES_MAX: usize = 1_000;
/// The longest value, a list of patterns.
const VALUE_BYTES_MAX: usize = 64 << 10;
/// A day: nobody waits longer for a copy.
const TIMEOUT_S_MAX: u64 = 86_400;

/// A request. Names of models may be a model's name, a path below the mountpoint or a glob; as in
/// all views, bytes that are not printable are escaped ([`crate::view::human::escape`]).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "do", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Command {
    /// How the daemon is: [`View::Status`].
    Status {},
    /// The models whose name contains or matches `filter`: [`View::Models`].
    Models {
        /// A part of a name, or a glob; none for all.
        #[serde(default)]
        filter: Option<String>,
    },
    /// Copy models into a pool: [`View::Moves`]; with `wait`, progress is [`View::Transfers`] and the
    /// answer comes when every byte is verified.
    Promote {
        /// What to promote.
        names: Vec<String>,
        /// The pool; none leaves the choice to the placement strategy.
        #[serde(default)]
        pool: Option<String>,
        /// Whether to answer only when it is done.
        #[serde(default)]
        wait: bool,
    },
    /// Copy models into the pools, those first that are named first: [`View::Moves`]. What cannot be
    /// promoted is a row that says why, and keeps nothing else from it; no model of the list makes room
    /// for another.
    WarmUp {
        /// What to promote, the most wanted first.
        names: Vec<String>,
        /// The pool; none leaves the choice to the placement strategy.
        #[serde(default)]
        pool: Option<String>,
        /// Whether to answer only when it is done.
        #[serde(default)]
        wait: bool,
    },
    /// Drop the replicas of models: [`View::Moves`].
    Demote {
        /// What to demote.
        names: Vec<String>,
    },
    /// Keep a model in a pool: [`View::Moves`].
    Pin {
        /// The model.
        name: String,
        /// The pool.
        pool: String,
    },
    /// Leave a model to the policy again: [`View::Moves`].
    Unpin {
        /// The model.
        name: String,
    },
    /// The pools: [`View::Tiers`].
    Tiers {},
    /// What would be done to set a configured pool up: [`View::Steps`]. Nothing is done.
    TierSteps {
        /// The pool.
        name: String,
    },
    /// Set a configured pool up and use it: [`View::Moves`]; of a remote pool the progress is [`View::Steps`].
    TierConnect {
        /// The pool.
        name: String,
    },
    /// What would become of what a pool holds if it were disconnected: [`View::Plan`]. Nothing is done.
    TierMoves {
        /// The pool.
        name: String,
    },
    /// Stop using a pool: [`View::Moves`], the pool first, then what was moved to others.
    TierDisconnect {
        /// The pool.
        name: String,
        /// Whether to do so although replicas are still read.
        #[serde(default)]
        force: bool,
        /// Whether to wait until they are not; with `force` nobody is waited for.
        #[serde(default)]
        wait: bool,
        /// Whether all that is in it goes back to its home, also what other pools have room for.
        #[serde(default)]
        no_move: bool,
    },
    /// Change how large a pool may become: [`View::Moves`].
    TierResize {
        /// The pool.
        name: String,
        /// A size such as `64GiB`, or a share of this machine's memory such as `60%`.
        capacity: String,
    },
    /// Copies that run or wait: [`View::Transfers`].
    Transfers {},
    /// End a copy: [`View::Moves`].
    CancelTransfer {
        /// Its id, from [`View::Transfers`].
        id: u64,
    },
    /// Answer when nothing moves any more ([`View::Moves`]) or the time is over. What is named must be
    /// wholly resident then; else it is an error that says why it is not.
    Wait {
        /// The models; none for everything that moves.
        #[serde(default)]
        names: Vec<String>,
        /// Seconds to wait at most.
        timeout_s: u64,
    },
    /// Where the files of a model are: [`View::Which`].
    Which {
        /// The model, or a path.
        name: String,
    },
    /// Read all homes through now: [`View::Scan`].
    Rescan {},
    /// What happened: [`View::Events`], or with `follow` one [`View::Event`] as progress for each,
    /// until whoever asked is gone.
    Events {
        /// The last event that is known already; 0 for all that are remembered.
        #[serde(default)]
        since: u64,
        /// Whether to stay and hear of new ones.
        #[serde(default)]
        follow: bool,
    },
    /// The configuration in effect: [`View::Config`].
    Config {},
    /// Read the configuration again and apply what can be: [`View::Reload`].
    Reload {},
    /// Which version runs: [`View::Version`].
    Version {},
    /// Why a model is where it is: [`View::Explain`].
    Explain {
        /// The model.
        name: String,
    },
    /// What the policy would do now: [`View::Plan`].
    Plan {},
    /// What loads have been like: [`View::History`].
    History {},
    /// What other pool sizes would have meant for the loads that are logged: [`View::Forecast`].
    Forecast {},
    /// Every field of the configuration, for a form: [`View::Settings`].
    Settings {},
    /// What changes of the configuration file would mean: [`View::Draft`].
    CheckSettings {
        /// The changes.
        changes: Vec<SettingChange>,
    },
    /// Change the configuration file, if nothing is wrong with it, and apply what can be: [`View::Draft`].
    SaveSettings {
        /// The changes.
        changes: Vec<SettingChange>,
    },
    /// Finish what must be finished, unmount and end: [`View::Done`].
    Shutdown {},
}

impl Command {
    /// Whether the command can be passed on.
    ///
    /// # Errors
    /// [`Code::BadRequest`], naming the field, if a name is empty or too long, a name has control
    /// characters or a wrong escape, or a number is out of range.
    pub fn check(&self) -> Result<(), Message> {
        match self {
            Self::Promote {
                names,
                pool,
                wait: _,
            } => check_promotion("promote", names, pool.as_deref()),
            Self::WarmUp {
                names,
                pool,
                wait: _,
            } => check_promotion("warm-up", names, pool.as_deref()),
            Self::Demote { names } => check_names("demote", names),
            Self::Pin { name, pool } => {
                check_name("pin", "name", name)?;
                check_name("pin", "pool", pool)
            }
            Self::Unpin { name } => check_name("unpin", "name", name),
            Self::TierSteps { name } => check_name("tier-steps", "name", name),
            Self::TierConnect { name } => check_name("tier-connect", "name", name),
            Self::TierMoves { name } => check_name("tier-moves", "name", name),
            Self::TierDisconnect { name, .. } => check_name("tier-disconnect", "name", name),
            Self::TierResize { name, capacity } => {
                check_name("tier-resize", "name", name)?;
                check_name("tier-resize", "capacity", capacity)
            }
            Self::Wait { names, timeout_s } => {
                if !names.is_empty() {
                    check_names("wait", names)?;
                }
                if *timeout_s > TIMEOUT_S_MAX {
                    let text = format!(
                        "wait: `timeout_s` is {timeout_s}; it can be {TIMEOUT_S_MAX} at most"
                    );
                    return Err(Message::new(Code::BadRequest, text));
                }
                Ok(())
            }
            Self::Which { name } => check_name("which", "name", name),
            Self::Explain { name } => check_name("explain", "name", name),
            Self::Models {
                filter: Some(filter),
            } => check_name("models", "filter", filter),
            Self::CheckSettings { changes } | Self::SaveSettings { changes } => {
                check_changes(changes)
            }
            Self::Status {}
            | Self::History {}
            | Self::Settings {}
            | Self::Forecast {}
            | Self::Models { filter: None }
            | Self::Tiers {}
            | Self::Transfers {}
            | Self::CancelTransfer { .. }
            | Self::Rescan {}
            | Self::Events { .. }
            | Self::Config {}
            | Self::Reload {}
            | Self::Version {}
            | Self::Plan {}
            | Self::Shutdown {} => Ok(()),
        }
    }

    /// Whether it is meant to change something, rather than to look.
    pub fn is_change(&self) -> bool {
        matches!(
            self,
            Self::Promote { .. }
                | Self::WarmUp { .. }
                | Self::Demote { .. }
                | Self::Pin { .. }
                | Self::Unpin { .. }
                | Self::TierConnect { .. }
                | Self::TierDisconnect { .. }
                | Self::TierResize { .. }
                | Self::CancelTransfer { .. }
                | Self::Rescan {}
                | Self::Reload {}
                | Self::SaveSettings { .. }
                | Self::Shutdown {}
        )
    }

    /// Whether the answer may be long in coming, because something must happen first.
    pub fn may_wait(&self) -> bool {
        matches!(
            self,
            Self::Promote { wait: true, .. }
                | Self::WarmUp { wait: true, .. }
                | Self::Wait { .. }
                | Self::Events { follow: true, .. }
                | Self::Rescan {}
                | Self::Forecast {}
                | Self::TierConnect { .. }
                | Self::TierDisconnect { .. }
                | Self::TierResize { .. }
                | Self::Shutdown {}
        )
    }
}

fn check_promotion(verb: &str, names: &[String], pool: Option<&str>) -> Result<(), Message> {
    check_names(verb, names)?;
    pool.map_or(Ok(()), |pool| check_name(verb, "pool", pool))
}

fn check_names(verb: &str, names: &[String]) -> Result<(), Message> {
    if names.is_empty() {
        return Err(Message::new(
            Code::BadRequest,
            format!("{verb}: `names` is empty; name at least one model"),
        ));
    }
    if names.len() > NAMES_MAX {
        let text = format!(
            "{verb}: {} names; {NAMES_MAX} can be given at once",
            names.len()
        );
        return Err(Message::new(Code::BadRequest, text).with_hint("use a glob"));
    }
    names
        .iter()
        .try_for_each(|name| check_name(verb, "names", name))
}

fn check_changes(changes: &[SettingChange]) -> Result<(), Message> {
    let wrong = |text: &str| Err(Message::new(Code::BadRequest, format!("settings: {text}")));
    if changes.is_empty() || changes.len() > CHANGES_MAX {
        return wrong(&format!("`changes` must have 1 to {CHANGES_MAX}"));
    }
    let long = |text: &str| text.len() > VALUE_BYTES_MAX || text.chars().any(char::is_control);
    let bad =
        |change: &SettingChange| long(&change.key) || change.value.as_deref().is_some_and(long);
    match changes.iter().any(bad) {
        true => wrong("a key or value is too long, or has control characters"),
        false => Ok(()),
    }
}

fn check_name(verb: &str, field: &str, name: &str) -> Result<(), Message> {
    match name_fault(name) {
        None => Ok(()),
        Some(fault) => Err(Message::new(
            Code::BadRequest,
            format!("{verb}: `{field}` {fault}"),
        )),
    }
}

/// What is wrong with a name, whatever it names; for after the word that it is called by.
pub fn name_fault(name: &str) -> Option<String> {
    if name.is_empty() {
        return Some("is empty".to_owned());
    }
    if name.len() > NAME_BYTES_MAX {
        return Some(format!(
            "is {} bytes long; {NAME_BYTES_MAX} are allowed",
            name.len()
        ));
    }
    if let Some(control) = name.chars().find(|character| character.is_control()) {
        return Some(format!(
            "contains a control character ({}); write it with a backslash, as listings do",
            control.escape_default()
        ));
    }
    let escaped = crate::view::human::unescape(name).is_some();
    (!escaped).then(|| {
        "contains a backslash that is not followed by `\\`, `n`, `t` or `x` and two hex digits"
            .to_owned()
    })
}

/// What a command came to. Written as `{"ok": view}` or `{"error": message}`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Answer {
    /// It was carried out.
    Ok(View),
    /// It was not, and nothing was changed unless the message says so.
    Error(Message),
}

impl Answer {
    /// As a result, for `?`.
    ///
    /// # Errors
    /// The message of an [`Answer::Error`].
    pub fn into_result(self) -> Result<View, Message> {
        match self {
            Self::Ok(view) => Ok(view),
            Self::Error(message) => Err(message),
        }
    }
}

impl From<Result<View, Message>> for Answer {
    fn from(result: Result<View, Message>) -> Self {
        match result {
            Ok(view) => Self::Ok(view),
            Err(message) => Self::Error(message),
        }
    }
}

/// A line from a client to the daemon.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Request {
    /// [`PROTOCOL`].
    pub v: u32,
    /// Chosen by the client; comes back in every response.
    pub id: u64,
    /// What to do.
    pub command: Command,
}

/// A line from the daemon to a client: any number of progress frames, then one answer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Response {
    /// [`PROTOCOL`].
    pub v: u32,
    /// The request's; none if the request could not be read.
    pub id: Option<u64>,
    /// The rest of the line.
    #[serde(flatten)]
    pub frame: Frame,
}

/// What a response carries.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Frame {
    /// The command is being carried out.
    Progress(View),
    /// The command has ended.
    Answer(Answer),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_written_as_documented() {
        let request = Request {
            v: PROTOCOL,
            id: 7,
            command: Command::Promote {
                names: vec!["llama3.2:3b".to_owned()],
                pool: None,
                wait: true,
            },
        };
        insta::assert_snapshot!(serde_json::to_string(&request).unwrap(), @r#"{"v":1,"id":7,"command":{"do":"promote","names":["llama3.2:3b"],"pool":null,"wait":true}}"#);
        let short =
            r#"{"v":1,"id":7,"command":{"do":"promote","names":["llama3.2:3b"],"wait":true}}"#;
        assert_eq!(serde_json::from_str::<Request>(short).unwrap(), request);
    }

    #[test]
    fn unknown_fields_are_refused() {
        for wrong in [
            r#"{"do":"status","verbose":true}"#,
            r#"{"do":"promote","names":["a"],"pol":"local"}"#,
            r#"{"do":"explode"}"#,
            r#"{"do":"pin","name":"a"}"#,
            r#"{}"#,
        ] {
            assert!(serde_json::from_str::<Command>(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn answers_are_written_as_documented() {
        let answer = Answer::Error(Message::new(Code::NoMatch, "no model matches `x`"));
        let response = Response {
            v: PROTOCOL,
            id: None,
            frame: Frame::Answer(answer),
        };
        insta::assert_snapshot!(serde_json::to_string(&response).unwrap(), @r#"{"v":1,"id":null,"answer":{"error":{"code":"no-match","message":"no model matches `x`"}}}"#);
    }
}
