//! A configuration as text: the commented sample, the effective configuration with the origin of each value, and the
//! short form with only what was set.
//!
//! All three are made from the table of fields and load again as they are (secrets apart).

use std::fmt::Write;

use crate::effective::{CHAPTERS, Chapter, Config, Entry, PIN};
use crate::field::{DefaultValue, Effect, Field, toml_key};
use crate::origin::Origin;
use crate::setting::Kind;

/// Longest line of a comment in the sample, in characters.
const COMMENT_WIDTH: usize = 100;

/// The commented sample: every key with its meaning and default, commented out unless it must be set.
pub fn sample() -> String {
    let mut text = String::from(
        "# The configuration of speedloader: /etc/speedloader/config.toml, or for other users than root\n\
         # ~/.config/speedloader/config.toml.\n\
         #\n\
         # What is commented out shows its default. Each key can also be given as an option or flag\n\
         # (`http.listen=...`) or as a variable (SPEEDLOADER_HTTP_LISTEN): option over variable over this file.\n\
         # Sizes: K, M, G, T or KiB ... are powers of 1024, KB ... of 1000. Times: 250ms, 30s, 5m, 1h30m, 7d.\n\
         # \"live\": a reload is enough; \"remount\": counts from the next mount on.\n\
         # This file is generated from the table of fields that the program reads it by.\n",
    );
    for chapter in CHAPTERS {
        sample_chapter(&mut text, chapter);
    }
    text
}

fn sample_chapter(text: &mut String, chapter: &Chapter) {
    text.push('\n');
    let about: Vec<&str> = chapter.about.iter().map(|line| line.trim()).collect();
    comment(text, &about.join(" "));
    // What repeats is an example; as a default there is none of it.
    let example = chapter.fields.iter().any(Field::repeats);
    if let Some(header) = header(chapter.place, "meadowlark") {
        let mark = if example { "#" } else { "" };
        let _ = writeln!(text, "{mark}{header}");
    }
    for field in chapter.fields {
        text.push('\n');
        comment(text, &field.doc());
        comment(text, &facts(field));
        let (value, must) = match field.default {
            DefaultValue::Value(value) => (written(field, value), false),
            DefaultValue::Required(value) => (written(field, value), !example),
            DefaultValue::Computed(_) | DefaultValue::Unset(_) => ("...".to_owned(), false),
        };
        let name = if field.key == PIN.key {
            "\"MODEL\""
        } else {
            field.name()
        };
        let _ = writeln!(text, "{}{name} = {value}", if must { "" } else { "#" });
    }
}

/// Kind, range, default and effect, in half a line.
fn facts(field: &Field) -> String {
    let mut facts = vec![match field.kind {
        Kind::Path => "An absolute path".to_owned(),
        Kind::Text => "Text".to_owned(),
        Kind::Secret => "Text, never shown".to_owned(),
        Kind::Size => "A size".to_owned(),
        Kind::Capacity => "A size or share".to_owned(),
        Kind::Duration => "A time".to_owned(),
        Kind::Switch => "true or false".to_owned(),
        Kind::Integer => "A number".to_owned(),
        Kind::Choice(words) => words.join(" | "),
        Kind::List => "A list".to_owned(),
    }];
    if let Some((low, high)) = field.range {
        facts.push(format!("{low} to {high}"));
    }
    match field.default {
        DefaultValue::Required(_) => facts.push("must be set".to_owned()),
        DefaultValue::Unset(meaning) => facts.push(format!("not set: {meaning}")),
        DefaultValue::Computed(meaning) => facts.push(format!("default: {meaning}")),
        DefaultValue::Value(_) => {}
    }
    facts.push(match field.effect {
        Effect::Live => "live".to_owned(),
        Effect::Remount => "remount".to_owned(),
        Effect::Refused(reason) => reason.to_owned(),
    });
    format!("({})", facts.join("; "))
}

fn comment(text: &mut String, words: &str) {
    let mut line = String::from("#");
    for word in words.split_whitespace() {
        if line.chars().count() + word.chars().count() >= COMMENT_WIDTH {
            text.push_str(&line);
            text.push('\n');
            line = String::from("#");
        }
        line.push(' ');
        line.push_str(word);
    }
    text.push_str(&line);
    text.push('\n');
}

/// `[mover]`, `[[pool]]`, `[remote.NAME]`; none for the top.
fn header(place: &str, item: &str) -> Option<String> {
    let place = place.trim_end_matches('.');
    match place.strip_suffix("[]") {
        _ if place.is_empty() => None,
        Some(list) => Some(format!("[[{list}]]")),
        None => Some(format!("[{}]", place.replacen('*', &toml_key(item), 1))),
    }
}

/// A default as TOML.
fn written(field: &Field, value: &str) -> String {
    match field.kind {
        Kind::Switch | Kind::Integer => value.to_owned(),
        Kind::List => {
            let items = value.split(',').filter(|item| !item.is_empty());
            let items: Vec<String> = items.map(|item| format!("\"{item}\"")).collect();
            format!("[{}]", items.join(", "))
        }
        _ => format!("\"{value}\""),
    }
}

/// The effective configuration as TOML; with `origins`, each value says where it comes from.
pub fn show(config: &Config, origins: bool) -> String {
    listed(config.entries(), origins)
}

/// Only what was set, as TOML: the short form, into which other formats are converted.
pub fn to_toml(config: &Config) -> String {
    let set = |entry: &Entry| entry.origin != Origin::Default;
    listed(config.entries().into_iter().filter(set).collect(), false)
}

fn listed(entries: Vec<Entry>, origins: bool) -> String {
    let mut text = String::new();
    let mut section = (String::new(), String::new());
    for entry in entries {
        let key = entry.field().key;
        let place = key.strip_suffix(entry.field().name()).unwrap_or("");
        let item = if place.contains(['[', '*']) {
            entry.item.clone()
        } else {
            String::new()
        };
        let here = (place.to_owned(), item);
        if here != section {
            if let Some(header) = header(&here.0, &here.1) {
                let gap = if text.is_empty() { "" } else { "\n" };
                let _ = writeln!(text, "{gap}{header}");
            }
            section = here;
        }
        let name = if key == PIN.key {
            toml_key(&entry.item)
        } else {
            entry.field().name().into()
        };
        let _ = match (&entry.value, origins) {
            // What is shown in its place would be taken for it.
            (Some(_), _) if entry.field().kind == Kind::Secret => {
                writeln!(
                    text,
                    "# {name} is set, and secret: write it here  # {}",
                    entry.origin
                )
            }
            (Some(value), false) => writeln!(text, "{name} = {value}"),
            (Some(value), true) => writeln!(text, "{name} = {value}  # {}", entry.origin),
            (None, true) => writeln!(text, "# {name} is not set"),
            (None, false) => Ok(()),
        };
    }
    text
}
