//! What an installation changes on a machine: each file before and after, as a difference that people read.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::human::printable;
use super::table::{Style, Tone};

/// Lines around a difference.
const CONTEXT_LINES: usize = 3;

/// How far an installation is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum InstallState {
    /// Shown only.
    #[default]
    Proposed,
    /// There was nothing to change.
    Unchanged,
    /// Made.
    Done,
}

/// What an installation, or taking it back, changes or has changed.
#[derive(Clone, Debug, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub struct InstallView {
    /// Beneath which directory the paths are.
    pub root: String,
    /// How far it is.
    pub state: InstallState,
    /// Files that change.
    pub changes: Vec<FileChangeView>,
    /// What else is to be known: sentences.
    pub remarks: Vec<String>,
    /// Commands that are to be given afterwards, or were.
    pub commands: Vec<String>,
    /// Whether they were given.
    pub ran: bool,
}

/// A file that changes.
#[derive(Clone, Debug, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub struct FileChangeView {
    /// Where it is.
    pub path: String,
    /// What is there; none where there is nothing.
    pub before: Option<ContentView>,
    /// What will be there; none where there will be nothing.
    pub after: Option<ContentView>,
    /// Whether it is made by the program from its own help, so that nobody need read it.
    pub generated: bool,
    /// Under which name what is there is kept beside it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kept_as: Option<String>,
    /// Under which name what comes back was kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub back_from: Option<String>,
}

/// What is under a name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum ContentView {
    /// A file; what is no text in it is replaced.
    File {
        /// Its text.
        text: String,
    },
    /// A symbolic link.
    Link {
        /// Where it leads.
        target: String,
    },
}

impl InstallView {
    pub(super) fn text(&self, style: Style) -> String {
        let (generated, read): (Vec<&FileChangeView>, Vec<&FileChangeView>) =
            self.changes.iter().partition(|change| change.generated);
        let mut text: String = read.iter().map(|change| change.text(style)).collect();
        text += &many(&generated);
        for remark in &self.remarks {
            text += &format!("note: {}\n", printable(remark));
        }
        text + &self.ending()
    }

    /// What has become of it, and what is to be done.
    pub fn ending(&self) -> String {
        let files = match self.changes.len() {
            1 => "1 file".to_owned(),
            count => format!("{count} files"),
        };
        let mut text = match self.state {
            InstallState::Proposed => format!("{files} would change\n"),
            InstallState::Unchanged => "nothing to change: all is as it would be\n".to_owned(),
            InstallState::Done => format!("{files} changed\n"),
        };
        let heading = match (self.state, self.ran) {
            (_, true) => "done:",
            (InstallState::Proposed, false) => "and then:",
            (InstallState::Unchanged | InstallState::Done, false) => "now give these commands:",
        };
        if !self.commands.is_empty() {
            text += &format!("{heading}\n");
            text.extend(self.commands.iter().map(|command| format!("  {command}\n")));
        }
        text
    }
}

/// Files that nobody need read: a line for those of one directory that change alike.
fn many(changes: &[&FileChangeView]) -> String {
    let mut groups: BTreeMap<(&str, &str), Vec<&str>> = BTreeMap::new();
    for change in changes {
        let (directory, name) = change.path.rsplit_once('/').unwrap_or_default();
        let group = groups.entry((change.verb(), directory)).or_default();
        group.push(name);
    }
    let line = |((verb, directory), names): (&(&str, &str), &Vec<&str>)| match names.as_slice() {
        [name] => format!("{verb}: {directory}/{name} (generated)\n"),
        several => format!("{verb}: {} generated files in {directory}\n", several.len()),
    };
    let lines: String = groups.iter().map(line).collect();
    lines.lines().map(|line| printable(line) + "\n").collect()
}

impl FileChangeView {
    fn text(&self, style: Style) -> String {
        let body = match (&self.before, &self.after) {
            (Some(ContentView::File { text: before }), Some(ContentView::File { text })) => {
                self.difference(before, text, style)
            }
            (None, Some(ContentView::File { text })) => self.difference("", text, style),
            (Some(ContentView::File { text }), None) => self.difference(text, "", style),
            (before, after) => {
                let [gone, new] = [before, after].map(|content| match content {
                    None => String::new(),
                    Some(ContentView::Link { target }) => format!(" -> {target}"),
                    Some(ContentView::File { text }) => format!(" ({} bytes)", text.len()),
                });
                let becomes = match (before, after) {
                    (Some(_), Some(_)) => " becomes",
                    _ => "",
                };
                let path = &self.path;
                let line = format!("{}: {path}{gone}{becomes}{new}", self.verb());
                printable(&line) + "\n"
            }
        };
        let aside = |text: &str, name: &Option<String>| {
            let name = name.as_ref();
            name.map_or_else(String::new, |name| {
                format!("({text} {})\n", printable(name))
            })
        };
        body + &aside("what is there is kept as", &self.kept_as)
            + &aside("what was there comes back from", &self.back_from)
    }

    fn verb(&self) -> &'static str {
        match (&self.before, &self.after) {
            (None, _) => "new",
            (Some(_), Some(_)) => "changed",
            (Some(_), None) => "removed",
        }
    }

    /// As diff(1) -u shows it, with all that lies between the first and the last line that differ as one.
    fn difference(&self, before: &str, after: &str, style: Style) -> String {
        let (old, new): (Vec<&str>, Vec<&str>) =
            (before.lines().collect(), after.lines().collect());
        let same = |(one, other): &(&&str, &&str)| one == other;
        let head = old.iter().zip(&new).take_while(same).count();
        let rest = old[head..].iter().rev().zip(new[head..].iter().rev());
        let tail = rest.take_while(same).count();
        let start = head.saturating_sub(CONTEXT_LINES);
        let context = CONTEXT_LINES.min(tail);
        let (old_end, new_end) = (old.len() - tail, new.len() - tail);
        let side = |lines: &[&str], end: usize| {
            let count = end + context - start;
            // diff(1) counts from 1, and calls the line before where there is none.
            let first = start + usize::from(count > 0);
            (format!("{first},{count}"), lines.is_empty())
        };
        let ((old_range, is_new), (new_range, is_gone)) =
            (side(&old, old_end), side(&new, new_end));
        let path = printable(&self.path);
        let name = |is_nothing| {
            if is_nothing {
                "/dev/null"
            } else {
                path.as_str()
            }
        };
        let mut text = format!("--- {}\n+++ {}\n", name(is_new), name(is_gone));
        text += &format!("@@ -{old_range} +{new_range} @@\n");
        text.extend(
            old[start..head]
                .iter()
                .map(|line| painted(' ', line, style)),
        );
        text.extend(
            old[head..old_end]
                .iter()
                .map(|line| painted('-', line, style)),
        );
        text.extend(
            new[head..new_end]
                .iter()
                .map(|line| painted('+', line, style)),
        );
        let after = old[old_end..old_end + context].iter();
        text.extend(after.map(|line| painted(' ', line, style)));
        text
    }
}

fn painted(sign: char, line: &str, style: Style) -> String {
    let tone = match sign {
        '+' => Tone::Good,
        '-' => Tone::Bad,
        _ => Tone::Plain,
    };
    format!(
        "{}\n",
        style.paint(&format!("{sign}{}", printable(line)), tone)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn change(before: Option<&str>, after: Option<&str>) -> FileChangeView {
        let file = |text: &str| ContentView::File {
            text: text.to_owned(),
        };
        FileChangeView {
            path: "/etc/fstab".to_owned(),
            before: before.map(file),
            after: after.map(file),
            ..FileChangeView::default()
        }
    }

    #[test]
    fn differences_are_shown_as_diff_shows_them() {
        let show = |before, after| change(before, after).text(Style::PLAIN);
        insta::assert_snapshot!(show(Some("1\n2\n3\n4\n5\n6\n7\n"), Some("1\n2\n3\n4\nx\ny\n6\n7\n")), @"
        --- /etc/fstab
        +++ /etc/fstab
        @@ -2,6 +2,7 @@
         2
         3
         4
        -5
        +x
        +y
         6
         7
        ");
        insta::assert_snapshot!(show(None, Some("a\u{1b}[2J\nb\n")), @"
        --- /dev/null
        +++ /etc/fstab
        @@ -0,0 +1,2 @@
        +a\\u{1b}[2J
        +b
        ");
        insta::assert_snapshot!(show(Some("a\n"), None), @"
        --- /etc/fstab
        +++ /dev/null
        @@ -1,1 +0,0 @@
        -a
        ");
        insta::assert_snapshot!(show(Some("a\n"), Some("a\nb\n")), @"
        --- /etc/fstab
        +++ /etc/fstab
        @@ -1,1 +1,2 @@
         a
        +b
        ");
    }

    proptest::proptest! {
        #[test]
        fn no_difference_panics(before in "([ab]\n){0,9}", after in "([ab]\n){0,9}") {
            let shown = change(Some(&before), Some(&after)).text(Style::PLAIN);
            proptest::prop_assert!(shown.lines().count() >= 3);
        }
    }
}
