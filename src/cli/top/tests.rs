//! What `top` draws, in terminals of several sizes and without colours, and what its keys ask.

use std::collections::BTreeMap;

use ratatui::Terminal;
use ratatui::backend::TestBackend;
use ratatui::crossterm::event::KeyCode;
use ratatui::style::Color;

use super::state::{Asked, Seen, State};
use crate::command::{Code, Command, Message};
use crate::view::{ModelView, StatusView, TierView, TransferState, TransferView};

const GIB: u64 = 1 << 30;

fn model(name: &str, size_gib: u64, resident_gib: u64, heat: f64) -> ModelView {
    ModelView {
        name: name.to_owned(),
        size_bytes: size_gib * GIB,
        resident_bytes: BTreeMap::from([("local".to_owned(), resident_gib * GIB)]),
        resident_total_bytes: resident_gib * GIB,
        heat,
        ..ModelView::default()
    }
    .with_percent()
}

fn state(colour: bool) -> State {
    let mut state = State::new(colour);
    let mut status = StatusView {
        mountpoint: "/mnt/models".to_owned(),
        pools: vec![TierView {
            name: "local".to_owned(),
            capacity_bytes: 64 * GIB,
            used_bytes: 16 * GIB,
            draining_bytes: GIB,
            ..TierView::default()
        }],
        warnings: vec!["one".to_owned()],
        ..StatusView::default()
    };
    status.counts.models = 3;
    status.counts.models_resident = 1;
    status.memory.total_bytes = 128 * GIB;
    status.memory.available_bytes = 90 * GIB;
    let transfer = TransferView {
        id: 7,
        model: "phi4".to_owned(),
        file: "phi4.gguf".to_owned(),
        from: "/srv/models".to_owned(),
        to: "local".to_owned(),
        done_bytes: 2 * GIB,
        total_bytes: 8 * GIB,
        rate_bytes_per_sec: 2_000_000_000,
        eta_s: Some(3),
        state: TransferState::Copying,
        why: String::new(),
    };
    let models = vec![
        model("phi4", 8, 0, 0.5),
        ModelView {
            pinned: Some("local".to_owned()),
            open: 2,
            loaded: vec!["Ollama".to_owned()],
            last_load_ms: Some(1_000),
            ..model("llama3.2:3b", 2, 2, 3.25)
        },
        model("big-model-with-a-long-name-Q4_K_M", 60, 30, 0.0),
    ];
    let transfers = vec![transfer];
    let seen = Seen {
        status,
        models,
        transfers,
    };
    state.take(seen, 61_000);
    state
}

fn drawn(state: &State, width: u16, height: u16) -> Terminal<TestBackend> {
    let mut terminal = Terminal::new(TestBackend::new(width, height)).expect("memory");
    super::show(&mut terminal, state).expect("memory");
    terminal
}

fn text(state: &State, width: u16, height: u16) -> String {
    drawn(state, width, height).backend().to_string()
}

#[test]
fn a_wide_terminal_shows_all_of_it() {
    insta::assert_snapshot!(text(&state(false), 110, 16));
}

#[test]
fn small_terminals_show_the_models() {
    let state = state(false);
    insta::assert_snapshot!(text(&state, 60, 8));
    for (width, height) in [(1, 1), (5, 3), (20, 2), (300, 100)] {
        drawn(&state, width, height);
    }
}

#[test]
fn without_colours_nothing_is_coloured() {
    let colours = |colour: bool| {
        let terminal = drawn(&state(colour), 110, 16);
        let cells = terminal.backend().buffer().content.iter();
        cells
            .filter(|cell| cell.fg != Color::Reset || cell.bg != Color::Reset)
            .count()
    };
    assert_eq!(colours(false), 0);
    assert!(colours(true) > 0);
}

/// It was "0 B of 0 B (100 %)".
#[test]
fn a_pool_that_is_not_connected_is_not_full() {
    let mut state = state(false);
    state.seen.status.pools.push(TierView {
        name: "far".to_owned(),
        ..TierView::default()
    });
    let drawn = text(&state, 120, 40);
    assert!(drawn.contains("far          not connected"), "{drawn}");
    assert!(!drawn.contains("100 %)"), "{drawn}");
}

#[test]
fn a_lost_daemon_is_told_and_what_was_seen_stays() {
    let mut state = state(false);
    state.lose(&Message::new(Code::NotRunning, "no speedloader answers"));
    let text = text(&state, 80, 16);
    assert!(text.contains("NOT CONNECTED"), "{text}");
    assert!(text.contains("llama3.2:3b"), "{text}");
}

#[test]
fn keys_ask_for_the_chosen_model() {
    let mut state = state(false);
    let name = || "llama3.2:3b".to_owned();
    // Sorted by heat, the hottest is chosen.
    let promote = Command::Promote {
        names: vec![name()],
        pool: None,
        wait: false,
    };
    let demote = Command::Demote {
        names: vec![name()],
    };
    for (key, command) in [
        ('p', promote),
        ('d', demote),
        ('i', Command::Unpin { name: name() }),
    ] {
        assert_eq!(state.press(KeyCode::Char(key)), Asked::Of(command));
    }
    let nothing_moves = state.press(KeyCode::Char('c'));
    assert_eq!(nothing_moves, Asked::Nothing);
    assert_eq!(state.press(KeyCode::Down), Asked::Nothing);
    let cancel = Command::CancelTransfer { id: 7 };
    assert_eq!(state.press(KeyCode::Char('c')), Asked::Of(cancel));
    let pin = Command::Pin {
        name: "phi4".to_owned(),
        pool: "local".to_owned(),
    };
    assert_eq!(state.press(KeyCode::Char('i')), Asked::Of(pin));
    // Rows move, the choice stays.
    state.press(KeyCode::Char('s'));
    assert_eq!(state.models()[state.row().expect("chosen")].name, "phi4");
    assert_eq!(state.press(KeyCode::Char('q')), Asked::End);
}

#[test]
fn a_search_is_typed_and_given_up() {
    let mut state = state(false);
    for key in ['/', 'P', 'H', 'q'] {
        assert_eq!(state.press(KeyCode::Char(key)), Asked::Nothing);
    }
    assert!(state.models().is_empty() && state.row().is_none());
    assert!(text(&state, 80, 16).contains("/PHq_"));
    state.press(KeyCode::Backspace);
    state.press(KeyCode::Enter);
    assert_eq!(state.models().len(), 1);
    state.press(KeyCode::Char('/'));
    state.press(KeyCode::Esc);
    assert_eq!(state.models().len(), 3);
}

proptest::proptest! {
    #[test]
    fn any_keys_in_any_terminal_end_in_a_picture(
        keys: Vec<char>,
        width in 1..120_u16,
        height in 1..40_u16,
    ) {
        let mut state = state(true);
        for key in keys {
            state.press(KeyCode::Char(key));
            state.press(if key.is_ascii() { KeyCode::Down } else { KeyCode::PageUp });
        }
        drawn(&state, width, height);
    }
}
