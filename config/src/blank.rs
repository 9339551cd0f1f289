//! The texts of two configuration files as they may be shown to somebody who must not learn their secrets.
//!
//! What may be shown is what the table of fields knows and does not call a secret; a value of any other key is blanked,
//! because a misspelt `tokn` has a secret behind it too.

use std::collections::BTreeMap;
use std::ops::Range;

use toml_edit::{Document, Item, TableLike, Value};

use crate::effective::BLANKED;
use crate::raw::{field_at, leads, secrets};
use crate::setting::Kind;

/// What stands for a secret of the newer file that the older one does not have.
const BLANKED_NEW: &str = "\"(new secret)\"";

/// Two files with their secrets blanked: one that differs differs still.
///
/// `None` if one of them is no TOML: nobody can tell then what is a secret, and none of it may be shown.
pub fn blank_secrets(before: &str, after: &str) -> Option<(String, String)> {
    let (old, new) = (secrets_of(before)?, secrets_of(after)?);
    let written = |text: &str, secret: &Secret| text.get(secret.clone()).map(str::to_owned);
    let word_of = |key: &str, secret: &Secret| match old.get(key) {
        Some(known) if written(before, known) != written(after, secret) => BLANKED_NEW,
        _ => BLANKED,
    };
    Some((
        blanked(before, &old, |_, _| BLANKED),
        blanked(after, &new, word_of),
    ))
}

/// Where a secret's value stands.
type Secret = Range<usize>;

fn secrets_of(text: &str) -> Option<BTreeMap<String, Secret>> {
    let document = Document::parse(text).ok()?;
    let mut found = BTreeMap::new();
    walk("", "", document.as_table(), &mut found)?;
    Some(found)
}

/// Collects what is not to be shown of a table; `place` is as the patterns of fields have it, `path` tells items apart.
fn walk(
    place: &str,
    path: &str,
    table: &dyn TableLike,
    found: &mut BTreeMap<String, Secret>,
) -> Option<()> {
    for (name, item) in table.iter() {
        let pattern = match leads(&format!("{place}*.")) {
            true => format!("{place}*"),
            false => format!("{place}{name}"),
        };
        let path = format!("{path}.{name:?}");
        let is_shown = place == "placement.pins."
            || field_at(&pattern).is_some_and(|field| field.kind != Kind::Secret);
        if !is_shown || item.as_table_like().is_some() {
            walk_item(&pattern, &path, item, found)?;
        }
    }
    Some(())
}

fn walk_item(
    pattern: &str,
    path: &str,
    item: &Item,
    found: &mut BTreeMap<String, Secret>,
) -> Option<()> {
    if let Some(table) = item.as_table_like() {
        return walk(&format!("{pattern}."), path, table, found);
    }
    let place = format!("{pattern}[].");
    match item {
        Item::ArrayOfTables(tables) => {
            for (index, table) in tables.iter().enumerate() {
                walk(&place, &format!("{path}[{index}]"), table, found)?;
            }
        }
        Item::Value(Value::Array(values)) if leads(&place) => {
            for (index, value) in values.iter().enumerate() {
                let path = format!("{path}[{index}]");
                match value.as_inline_table() {
                    Some(table) => walk(&place, &path, table, found)?,
                    None => drop(found.insert(path, value.span()?)),
                }
            }
        }
        // What cannot be blanked cannot be shown.
        _ => drop(found.insert(path.to_owned(), item.span()?)),
    }
    Some(())
}

/// The text with words in place of its secrets, and without the comments that may hold older ones.
fn blanked(
    text: &str,
    found: &BTreeMap<String, Secret>,
    word_of: impl Fn(&str, &Secret) -> &'static str,
) -> String {
    let mut places: Vec<_> = found.iter().collect();
    places.sort_by_key(|(_, secret)| secret.start);
    let (mut shown, mut from) = (String::new(), 0);
    for (key, secret) in places {
        shown.push_str(text.get(from..secret.start).unwrap_or_default());
        shown.push_str(word_of(key, secret));
        let rest = text.get(secret.end..).unwrap_or_default();
        let line = rest.split(['\r', '\n']).next().unwrap_or_default();
        let comment = line.trim_start().starts_with('#');
        from = secret.end + if comment { line.len() } else { 0 };
    }
    shown.push_str(text.get(from..).unwrap_or_default());
    shown
        .split_inclusive('\n')
        .map(without_old_secret)
        .collect()
}

/// A line that is a comment with a secret's name in it ends behind its `#`.
fn without_old_secret(line: &str) -> String {
    let is_comment = line.trim_start().starts_with('#');
    match is_comment && secrets().any(|name| line.contains(name)) {
        true => "# (a comment about a secret)\n".to_owned(),
        false => line.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Each way to write a secret; `hush` is in each.
    const FILES: &[&str] = &[
        "[http]\ntoken = \"hush-hush-hush-1\" # before: hush\nlisten = \"x:1\"\n",
        "http.token = 'hush'\n",
        "http = { listen = \"x:1\", token = \"hush\" }\n",
        "[http]\n\"tok\\u0065n\" = \"\"\"\nhu\\\nsh\"\"\"\n",
        "[http]\ntoken = '''\nhush'''\n",
        "[remote.far]\nssh = \"a@b\"\n\"dhchap_secret\" = \"hush\"\n",
        "remote.far.dhchap_secret = \"hush\"\nremote.\"fa.r\".dhchap_secret = \"hush\"\n",
        "remote = { far = { ssh = \"a@b\", dhchap_secret = \"hush\" }, near = { dhchap_secret = \"hush\" } }\n",
        "[remote]\ndhchap_secret = \"hush\"\n",
        "[[pool]]\nname = \"a\"\ntoken = \"hush\"\n[[pool]]\ntoken = \"hush\"\n",
        "pool = [{ name = \"a\", token = \"hush\" }]\n",
        "pool = [\"hush\"]\n",
        "[http]\ntoken = [\"hush\", { a = \"hush\" }]\ntokn = \"hush\"\n[bogus]\na.b = \"hush\"\n[[bogus.c]]\nd = \"hush\"\n",
        "[http]\n# token = \"hush\"\nlisten = \"x:1\"\n",
    ];

    #[test]
    fn no_secret_is_shown_however_it_is_written() {
        for file in FILES {
            let (before, after) = blank_secrets(file, file).expect("it is TOML");
            assert_eq!(before, after);
            assert!(
                !before.contains("hu") && before.contains("secret"),
                "{before}"
            );
            assert!(!file.contains("x:1") || before.contains("x:1"), "{before}");
        }
    }

    #[test]
    fn a_secret_that_changes_is_seen_to_change() {
        let file = "# where\nmodels_dir = \"/m\"\npolicy.never = [\"a\"]\n[placement.pins]\n\"x\" = \"p\"\n[remote.a]\ndhchap_secret = \"one\"\n";
        let (same, _) = blank_secrets(file, file).expect("it is TOML");
        assert_eq!(same, file.replace("\"one\"", "\"(secret)\""));
        let (before, after) = blank_secrets(file, &file.replace("one", "two")).expect("TOML");
        assert_eq!(before, same);
        assert_eq!(after, same.replace("(secret)", "(new secret)"));
    }

    #[test]
    fn of_what_is_no_toml_nothing_is_shown() {
        for wrong in ["token = \"hush", "= hush", "a = 1\na = \"hush\"\n"] {
            assert_eq!(blank_secrets("", wrong), None, "{wrong}");
            assert_eq!(blank_secrets(wrong, ""), None, "{wrong}");
        }
    }

    proptest::proptest! {
        #[test]
        fn nothing_panics(text in "(token|http|remote|\\.|=|\\[|\\]|\\{|\\}|\"|'|#|,|\n| |é){0,24}") {
            let _ = blank_secrets(&text, "token = \"x\" # é\r\n");
        }
    }
}
