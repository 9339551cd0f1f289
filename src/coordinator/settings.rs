//! The configuration as a form: its fields, what a change would mean, and saving it with the file's comments kept.

use std::collections::{BTreeMap, HashSet};
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt, fchown};
use std::path::{Path, PathBuf};

use speedloader_config::{
    Change, Config, DefaultValue, Effect, Entry, Faults, Kind, Origin, blank_secrets, changes,
    edit, load,
};

use super::Coordinator;
use crate::command::{Code, Message};
use crate::machine::misplaced;
use crate::view::{
    DiffLineView, DraftChangeView, DraftView, FaultView, FieldView, Level, SettingChange,
    SettingsView, View,
};
use crate::whole_file;

/// Unchanged lines that are shown around changed ones.
const CONTEXT: usize = 1;
/// What is said of a setting that counts at once, but could not be had.
const NOT_NOW: &str = "it cannot be had now, the events say why; it counts from the next mount on";

/// A changed configuration, judged.
struct Draft {
    before: String,
    after: String,
    judged: Result<Config, Faults>,
}

impl Coordinator {
    pub(super) fn settings(&self) -> SettingsView {
        SettingsView {
            path: self.config_file().map(|path| path.display().to_string()),
            fields: self
                .config()
                .entries()
                .into_iter()
                .map(field_view)
                .collect(),
        }
    }

    fn config_file(&self) -> Option<&Path> {
        self.sources.file.as_ref().map(|file| file.path.as_path())
    }

    fn draft(&self, wanted: &[SettingChange]) -> Result<(PathBuf, Draft), Message> {
        let Some(path) = self.config_file() else {
            let text =
                "the daemon was started without a configuration file; there is nowhere to save to";
            return Err(Message::new(Code::Unsupported, text).with_hint(
                "speedloader config show --running > /etc/speedloader/config.toml, then mount with it",
            ));
        };
        let cannot = |error: io::Error| {
            Message::new(
                Code::Failed,
                format!("cannot read {}: {error}", path.display()),
            )
        };
        // What a link leads to is what is changed, not the link.
        let path = path.canonicalize().map_err(cannot)?;
        let before = fs::read_to_string(&path).map_err(cannot)?;
        let pairs: Vec<(String, Option<String>)> = wanted
            .iter()
            .map(|change| (change.key.clone(), change.value.clone()))
            .collect();
        if before.trim_start().starts_with('{') {
            let text = format!(
                "{} is the original's, which is read and not changed",
                path.display()
            );
            return Err(Message::new(Code::Unsupported, text).with_hint(
                "speedloader config show > /etc/speedloader/config.toml, see to what it says of secrets, and mount with it",
            ));
        }
        let after = edit(&before, &pairs).map_err(|text| Message::new(Code::BadRequest, text))?;
        let mut sources = self.sources.clone();
        if let Some(file) = &mut sources.file {
            file.contents = after.clone().into_bytes();
        }
        let judged = load(&sources).and_then(|new| self.placed(new));
        Ok((
            path,
            Draft {
                before,
                after,
                judged,
            },
        ))
    }

    /// A configuration that is right as a text, unless its directories meet behind links: the next start would refuse
    /// it. Where nothing changes that a start is needed for, nobody asks where they lead.
    pub(super) fn placed(&self, new: Config) -> Result<Config, Faults> {
        let appears = |change: &Change| change.old.is_none() && change.key.starts_with("pool.");
        let is_live = |change: &Change| matches!(change.effect, Effect::Live) && !appears(change);
        if changes(&self.config(), &new).iter().all(is_live) {
            return Ok(new);
        }
        let here = Config {
            mountpoint: Some(self.mountpoint.clone()),
            ..new.clone()
        };
        let faults = misplaced(&here);
        match faults.is_empty() {
            true => Ok(new),
            false => Err(faults),
        }
    }

    /// What changes would mean; nothing is saved.
    pub(super) fn check_settings(&self, wanted: &[SettingChange]) -> Result<DraftView, Message> {
        let (_, draft) = self.draft(wanted)?;
        Ok(self.draft_view(wanted, &draft))
    }

    /// Saves changes to the file, if nothing is wrong with them, and applies what can be.
    pub(super) fn save_settings(&self, wanted: &[SettingChange]) -> Result<DraftView, Message> {
        // From the reading to the reload: what somebody else saves meanwhile would be lost.
        let _one = self
            .saving
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        let (path, draft) = self.draft(wanted)?;
        let mut view = self.draft_view(wanted, &draft);
        if !view.faults.is_empty() || draft.before == draft.after {
            return Ok(view);
        }
        replace(&path, draft.after.as_bytes()).map_err(|error| {
            let code = match error.kind() {
                io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => Code::Denied,
                _ => Code::Failed,
            };
            Message::new(code, format!("cannot write {}: {error}", path.display()))
        })?;
        let keys: Vec<&str> = wanted.iter().map(|change| change.key.as_str()).collect();
        let text = format!("saved: {}", keys.join(", "));
        let subject = path.display().to_string();
        self.events.add(Level::Info, "settings", &subject, text);
        if let View::Reload(reloaded) = self.reload()? {
            let left = reloaded.changes.iter().filter(|change| !change.applied);
            let left: HashSet<&str> = left.map(|change| change.key.as_str()).collect();
            let tried = view.changes.iter_mut().filter(|change| change.live);
            for change in tried.filter(|change| left.contains(change.key.as_str())) {
                change.live = false;
                change.refused = Some(NOT_NOW.to_owned());
            }
        }
        view.saved = true;
        Ok(view)
    }

    fn draft_view(&self, wanted: &[SettingChange], draft: &Draft) -> DraftView {
        let diff = shown_difference(&draft.before, &draft.after);
        match &draft.judged {
            Ok(new) => DraftView {
                changes: changes(&self.config(), new)
                    .into_iter()
                    .map(|change| DraftChangeView {
                        remark: self.remark_of(&change),
                        ..change_view(change)
                    })
                    .collect(),
                overridden: overridden(wanted, new),
                diff,
                ..DraftView::default()
            },
            Err(faults) => DraftView {
                faults: faults.faults.iter().map(fault_view).collect(),
                diff,
                ..DraftView::default()
            },
        }
    }
}

/// Of what is to be changed, that which something outside of the file sets.
fn overridden(wanted: &[SettingChange], new: &Config) -> BTreeMap<String, String> {
    let mut entries = new.entries();
    entries.retain(|entry| {
        is_override(&entry.origin) && wanted.iter().any(|change| change.key == entry.key)
    });
    let row = |entry: Entry| (entry.key, entry.origin.to_string());
    entries.into_iter().map(row).collect()
}

/// Whether it goes before the file.
fn is_override(origin: &Origin) -> bool {
    matches!(origin, Origin::Environment { .. } | Origin::Option { .. })
}

fn fault_view(fault: &speedloader_config::Fault) -> FaultView {
    let hint = fault
        .hint
        .as_ref()
        .map_or_else(String::new, |hint| format!("; {hint}"));
    FaultView {
        key: fault.key.clone(),
        text: format!("found {}, wanted {}{hint}", fault.found, fault.wanted),
    }
}

fn change_view(change: Change) -> DraftChangeView {
    DraftChangeView {
        live: matches!(change.effect, Effect::Live),
        remark: None,
        refused: match change.effect {
            Effect::Refused(why) => Some(why.to_owned()),
            Effect::Live | Effect::Remount => None,
        },
        before: change.old.unwrap_or_default(),
        after: change.new.unwrap_or_default(),
        key: change.key,
    }
}

fn field_view(entry: Entry) -> FieldView {
    let field = entry.field();
    let (kind, choices): (&str, &[&str]) = match field.kind {
        Kind::Path => ("path", &[]),
        Kind::Text => ("text", &[]),
        Kind::Secret => ("secret", &[]),
        Kind::Size => ("size", &[]),
        Kind::Capacity => ("capacity", &[]),
        Kind::Duration => ("duration", &[]),
        Kind::Switch => ("switch", &[]),
        Kind::Integer => ("integer", &[]),
        Kind::Choice(words) => ("choice", words),
        Kind::List => ("list", &[]),
    };
    let own = |text: &str| text.to_owned();
    FieldView {
        doc: field.doc(),
        kind: own(kind),
        choices: choices.iter().map(|word| own(word)).collect(),
        range: field.range.map(|(low, high)| (own(low), own(high))),
        default: match field.default {
            DefaultValue::Value(text) => own(text),
            DefaultValue::Computed(text) => own(text),
            DefaultValue::Unset(text) => format!("not set: {text}"),
            DefaultValue::Required(_) => own("must be set"),
        },
        live: matches!(field.effect, Effect::Live),
        overridden: is_override(&entry.origin),
        origin: entry.origin.to_string(),
        value: entry.plain_value(),
        key: entry.key,
    }
}

/// Replaces a file whole, with its permissions and owner.
fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let found = fs::metadata(path)?;
    let as_found = |file: &File| {
        file.set_permissions(fs::Permissions::from_mode(found.mode() & 0o7777))?;
        // An ordinary user's file is that user's already.
        let _ = fchown(file, Some(found.uid()), Some(found.gid()));
        Ok(())
    };
    whole_file::write(path, bytes, as_found, |from, to| fs::rename(from, to))
}

/// What differs, as anybody may see it: without secrets, and nothing at all if nobody can tell what is one.
fn shown_difference(before: &str, after: &str) -> Vec<DiffLineView> {
    blank_secrets(before, after).map_or_else(Vec::new, |(old, new)| difference(&old, &new))
}

/// The lines that differ, with a little of what is around them.
fn difference(before: &str, after: &str) -> Vec<DiffLineView> {
    let (old, new): (Vec<&str>, Vec<&str>) = (before.lines().collect(), after.lines().collect());
    let same = old.iter().zip(&new).take_while(|(a, b)| a == b).count();
    let (old_rest, new_rest) = (&old[same..], &new[same..]);
    let ends = old_rest.iter().rev().zip(new_rest.iter().rev());
    let tail = ends.take_while(|(a, b)| a == b).count();
    let (old_middle, new_middle) = (
        &old_rest[..old_rest.len() - tail],
        &new_rest[..new_rest.len() - tail],
    );
    let mut lines: Vec<(char, &str)> = Vec::new();
    lines.extend(old[..same].iter().map(|line| (' ', *line)));
    lines.extend(middle(old_middle, new_middle));
    lines.extend(
        old_rest[old_rest.len() - tail..]
            .iter()
            .map(|line| (' ', *line)),
    );
    let near = |index: usize| {
        let from = index.saturating_sub(CONTEXT);
        lines[from..lines.len().min(index + CONTEXT + 1)].iter().any(|(sign, _)| *sign != ' ')
            // The section that a changed line is in.
            || (lines[index].1.starts_with('[')
                && lines[index + 1..].iter().take_while(|(_, line)| !line.starts_with('[')).any(|(sign, _)| *sign != ' '))
    };
    let shown = (0..lines.len()).filter(|index| near(*index));
    shown
        .map(|index| DiffLineView {
            sign: lines[index].0.to_string(),
            text: lines[index].1.to_owned(),
        })
        .collect()
}

/// The longest common lines stay; files whose changed part is huge are shown as replaced.
fn middle<'t>(old: &[&'t str], new: &[&'t str]) -> Vec<(char, &'t str)> {
    const CELLS_MAX: usize = 4_000_000;
    let mut lines = Vec::new();
    let (rows, columns) = (old.len() + 1, new.len() + 1);
    if rows * columns > CELLS_MAX {
        lines.extend(old.iter().map(|line| ('-', *line)));
        lines.extend(new.iter().map(|line| ('+', *line)));
        return lines;
    }
    let mut common = vec![0_u32; rows * columns];
    for i in (0..old.len()).rev() {
        for j in (0..new.len()).rev() {
            common[i * columns + j] = if old[i] == new[j] {
                common[(i + 1) * columns + j + 1] + 1
            } else {
                common[(i + 1) * columns + j].max(common[i * columns + j + 1])
            };
        }
    }
    let (mut i, mut j) = (0, 0);
    while i < old.len() || j < new.len() {
        if i < old.len() && j < new.len() && old[i] == new[j] {
            lines.push((' ', old[i]));
            (i, j) = (i + 1, j + 1);
        } else if i < old.len()
            && (j == new.len() || common[(i + 1) * columns + j] >= common[i * columns + j + 1])
        {
            lines.push(('-', old[i]));
            i += 1;
        } else {
            lines.push(('+', new[j]));
            j += 1;
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(before: &str, after: &str) -> String {
        let lines = shown_difference(before, after);
        let lines: Vec<String> = lines
            .iter()
            .map(|line| format!("{}{}", line.sign, line.text))
            .collect();
        lines.join("\n")
    }

    #[test]
    fn a_difference_shows_the_section_and_little_else() {
        let before = "mountpoint = \"/a\"\n\n[policy]\nenabled = true\nhalf_life = 2\nnever = []\n\n[log]\nlevel = 1\n";
        let after = &before.replace("2", "5");
        assert_eq!(
            shown(before, after),
            " [policy]\n enabled = true\n-half_life = 2\n+half_life = 5\n never = []"
        );
        assert_eq!(shown(before, before), "");
    }

    #[test]
    fn the_difference_of_a_draft_has_no_secret() {
        let before = "[http]\ntoken = \"hush\"\nlisten = \"x:1\"\n";
        let after = before.replace("x:1", "x:2");
        let around = " [http]\n token = \"(secret)\"\n-listen = \"x:1\"\n+listen = \"x:2\"";
        assert_eq!(shown(before, &after), around);
        let changed =
            " [http]\n-token = \"(secret)\"\n+token = \"(new secret)\"\n listen = \"x:1\"";
        assert_eq!(shown(before, &before.replace("hush", "hist")), changed);
        assert_eq!(shown(before, "[http]\ntoken = \"hush"), "");
    }

    #[test]
    fn a_replaced_file_keeps_its_mode_and_leaves_nothing_behind() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("config.toml");
        fs::write(&path, "old").expect("written");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o604)).expect("set");
        replace(&path, b"new").expect("replaced");
        assert_eq!(fs::read(&path).expect("read"), b"new");
        assert_eq!(fs::metadata(&path).expect("there").mode() & 0o777, 0o604);
        assert_eq!(fs::read_dir(directory.path()).expect("read").count(), 1);
    }
}
