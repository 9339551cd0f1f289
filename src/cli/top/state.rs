//! What `top` knows and where its reader is: what is chosen, searched, sorted; what a key means there.

use ratatui::crossterm::event::KeyCode;

use crate::command::{Command, Message};
use crate::view::human::size;
use crate::view::{ModelView, MoveView, StatusView, TransferView};

/// What the daemon answered.
#[derive(Clone, Debug, Default)]
pub(super) struct Seen {
    pub(super) status: StatusView,
    pub(super) models: Vec<ModelView>,
    pub(super) transfers: Vec<TransferView>,
}

/// What a key asks for.
#[derive(Debug, PartialEq)]
pub(super) enum Asked {
    Nothing,
    End,
    Of(Command),
}

/// By what models are sorted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sort {
    Heat,
    Size,
    Name,
}

impl Sort {
    pub(super) fn text(self) -> &'static str {
        match self {
            Self::Heat => "heat",
            Self::Size => "size",
            Self::Name => "name",
        }
    }
}

pub(super) struct State {
    pub(super) seen: Seen,
    pub(super) now_ms: u64,
    pub(super) colour: bool,
    pub(super) sort: Sort,
    pub(super) search: String,
    pub(super) is_searching: bool,
    /// The last answer or failure.
    pub(super) said: String,
    /// Why the figures are old, if they are.
    pub(super) lost: Option<String>,
    /// The chosen model, by name: rows move.
    chosen: Option<String>,
    is_asking: bool,
}

impl State {
    pub(super) fn new(colour: bool) -> Self {
        Self {
            seen: Seen::default(),
            now_ms: 0,
            colour,
            sort: Sort::Heat,
            search: String::new(),
            is_searching: false,
            said: String::new(),
            lost: None,
            chosen: None,
            is_asking: false,
        }
    }

    pub(super) fn take(&mut self, mut seen: Seen, now_ms: u64) {
        seen.transfers.retain(|transfer| !transfer.state.is_final());
        self.seen = seen;
        self.now_ms = now_ms;
        self.lost = None;
        self.is_asking = false;
    }

    /// The daemon does not answer; what was seen stays, and says so.
    pub(super) fn lose(&mut self, message: &Message) {
        self.lost = Some(message.to_string());
        self.is_asking = false;
    }

    pub(super) fn say(&mut self, text: String) {
        self.said = text;
        // What it has changed is to be seen at once.
        self.is_asking = true;
    }

    pub(super) fn is_asking(&self) -> bool {
        self.is_asking
    }

    /// The models that the search lets through, as sorted.
    pub(super) fn models(&self) -> Vec<&ModelView> {
        let wanted = self.search.to_lowercase();
        let is_wanted = |model: &&ModelView| model.name.to_lowercase().contains(&wanted);
        let mut models: Vec<&ModelView> = self.seen.models.iter().filter(is_wanted).collect();
        models.sort_by(|a, b| {
            let order = match self.sort {
                Sort::Heat => b.heat.total_cmp(&a.heat),
                Sort::Size => b.size_bytes.cmp(&a.size_bytes),
                Sort::Name => std::cmp::Ordering::Equal,
            };
            order.then_with(|| a.name.cmp(&b.name))
        });
        models
    }

    /// The row that is chosen, of those that are shown.
    pub(super) fn row(&self) -> Option<usize> {
        let models = self.models();
        let chosen = self.chosen.as_ref();
        let found = models.iter().position(|model| Some(&model.name) == chosen);
        found.or(if models.is_empty() { None } else { Some(0) })
    }

    fn choose(&mut self, row: usize) {
        let models = self.models();
        let row = row.min(models.len().saturating_sub(1));
        self.chosen = models.get(row).map(|model| model.name.clone());
    }

    /// What a key does here, and asks of the daemon.
    pub(super) fn press(&mut self, key: KeyCode) -> Asked {
        const PAGE: usize = 10;
        if self.is_searching {
            return self.type_in(key);
        }
        let row = self.row().unwrap_or(0);
        match key {
            KeyCode::Char('q') | KeyCode::Esc => return Asked::End,
            KeyCode::Up | KeyCode::Char('k') => self.choose(row.saturating_sub(1)),
            KeyCode::Down | KeyCode::Char('j') => self.choose(row + 1),
            KeyCode::PageUp => self.choose(row.saturating_sub(PAGE)),
            KeyCode::PageDown => self.choose(row + PAGE),
            KeyCode::Home => self.choose(0),
            KeyCode::End => self.choose(usize::MAX),
            KeyCode::Char('/') => self.is_searching = true,
            KeyCode::Char('s') => {
                self.sort = match self.sort {
                    Sort::Heat => Sort::Size,
                    Sort::Size => Sort::Name,
                    Sort::Name => Sort::Heat,
                };
            }
            KeyCode::Char(key) => return self.command(key, row),
            _ => {}
        }
        Asked::Nothing
    }

    fn type_in(&mut self, key: KeyCode) -> Asked {
        match key {
            KeyCode::Enter => self.is_searching = false,
            KeyCode::Esc => {
                self.is_searching = false;
                self.search.clear();
            }
            KeyCode::Backspace => {
                self.search.pop();
            }
            KeyCode::Char(letter) => self.search.push(letter),
            _ => {}
        }
        Asked::Nothing
    }

    fn command(&self, key: char, row: usize) -> Asked {
        let models = self.models();
        let Some(model) = models.get(row) else {
            return Asked::Nothing;
        };
        let (name, names) = (model.name.clone(), vec![model.name.clone()]);
        let pool = || {
            let resident = model.resident_bytes.iter().find(|(_, bytes)| **bytes > 0);
            let first = self.seen.status.pools.first().map(|pool| &pool.name);
            resident.map(|(pool, _)| pool).or(first).cloned()
        };
        match key {
            'p' => Asked::Of(Command::Promote {
                names,
                pool: None,
                wait: false,
            }),
            'd' => Asked::Of(Command::Demote { names }),
            'i' if model.pinned.is_some() => Asked::Of(Command::Unpin { name }),
            'i' => pool().map_or(Asked::Nothing, |pool| {
                Asked::Of(Command::Pin { name, pool })
            }),
            'c' => {
                let running = self.seen.transfers.iter();
                let mut of_model = running.filter(|transfer| transfer.model == name);
                of_model.next().map_or(Asked::Nothing, |transfer| {
                    Asked::Of(Command::CancelTransfer { id: transfer.id })
                })
            }
            _ => Asked::Nothing,
        }
    }
}

/// What became of a request, in a few words.
pub(super) fn moved(row: &MoveView) -> String {
    let outcome = format!("{:?}", row.outcome).to_lowercase();
    let text = match row.text.as_str() {
        "" => String::new(),
        text => format!(": {text}"),
    };
    format!("{} {outcome}, {}{text}", row.name, size(row.bytes))
}
