//! Every command and view survives being written and read.

use proptest::prelude::*;
use speedloader::command::{Command, PROTOCOL, Request};
use speedloader::view::{Document, SettingChange, View};

use super::fake;

fn name() -> impl Strategy<Value = String> {
    "[a-zA-Z0-9:./ _-]{1,30}|\\PC{1,10}"
}

fn command() -> impl Strategy<Value = Command> {
    let names = || proptest::collection::vec(name(), 1..4);
    prop_oneof![
        Just(Command::Status {}),
        proptest::option::of(name()).prop_map(|filter| Command::Models { filter }),
        (names(), proptest::option::of(name()), any::<bool>())
            .prop_map(|(names, pool, wait)| Command::Promote { names, pool, wait }),
        names().prop_map(|names| Command::Demote { names }),
        (name(), name()).prop_map(|(name, pool)| Command::Pin { name, pool }),
        name().prop_map(|name| Command::Unpin { name }),
        Just(Command::Tiers {}),
        name().prop_map(|name| Command::TierSteps { name }),
        name().prop_map(|name| Command::TierMoves { name }),
        name().prop_map(|name| Command::TierConnect { name }),
        (name(), any::<[bool; 3]>()).prop_map(|(name, [force, wait, no_move])| {
            Command::TierDisconnect {
                name,
                force,
                wait,
                no_move,
            }
        }),
        (name(), name()).prop_map(|(name, capacity)| Command::TierResize { name, capacity }),
        Just(Command::Transfers {}),
        any::<u64>().prop_map(|id| Command::CancelTransfer { id }),
        (proptest::collection::vec(name(), 0..4), any::<u64>())
            .prop_map(|(names, timeout_s)| Command::Wait { names, timeout_s }),
        (names(), proptest::option::of(name()), any::<bool>())
            .prop_map(|(names, pool, wait)| Command::WarmUp { names, pool, wait }),
        name().prop_map(|name| Command::Which { name }),
        Just(Command::Rescan {}),
        (any::<u64>(), any::<bool>()).prop_map(|(since, follow)| Command::Events { since, follow }),
        Just(Command::Config {}),
        Just(Command::Reload {}),
        Just(Command::Version {}),
        name().prop_map(|name| Command::Explain { name }),
        Just(Command::Plan {}),
        Just(Command::History {}),
        Just(Command::Settings {}),
        Just(Command::Forecast {}),
        (name(), proptest::option::of(name())).prop_map(|(key, value)| Command::SaveSettings {
            changes: vec![SettingChange { key, value }],
        }),
        (name(), proptest::option::of(name())).prop_map(|(key, value)| Command::CheckSettings {
            changes: vec![SettingChange { key, value }],
        }),
        Just(Command::Shutdown {}),
    ]
}

proptest! {
    #[test]
    fn commands_round_trip(command in command(), id in any::<u64>()) {
        let request = Request { v: PROTOCOL, id, command };
        let text = serde_json::to_string(&request).unwrap();
        prop_assert!(!text.contains('\n'), "a request is one line");
        prop_assert_eq!(serde_json::from_str::<Request>(&text).unwrap(), request);
    }
}

#[test]
fn views_round_trip() {
    for view in [
        View::Status(Box::new(fake::status())),
        View::Models(speedloader::view::ModelsView {
            models: fake::models(),
        }),
        View::Tiers(speedloader::view::TiersView {
            tiers: fake::tiers(),
        }),
        View::Event(fake::events().remove(0)),
    ] {
        let document: Document = serde_json::from_str(&view.json()).unwrap();
        assert_eq!(document.view, view);
        assert_eq!(document.schema, speedloader::view::SCHEMA);
    }
}

#[test]
fn a_heat_that_is_no_number_is_still_json() {
    let mut models = fake::models();
    models[0].heat = f64::NAN;
    let json = View::Models(speedloader::view::ModelsView { models }).json();
    let document: Document = serde_json::from_str(&json).unwrap();
    let View::Models(view) = document.view else {
        panic!("{json}")
    };
    assert!(view.models[0].heat.abs() < f64::EPSILON);
}
