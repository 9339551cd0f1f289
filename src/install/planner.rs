//! From what is wanted and what is there to a list of changes. What is in the way is found before anything is changed, all
//! of it at once.

use std::path::{Path, PathBuf};

use super::mark::{Whose, marked, whose};
use super::{
    Aside, Change, Content, Page, Plan, Root, Wish, failed, fstab, is_mounted, shared, shown,
    systemd, systemd_runs,
};
use crate::command::{Code, Message};
use crate::view::human::shell_word;

/// What is added to the name of a file of somebody else that was replaced.
const ASIDE: &str = ".before-speedloader";
/// New files are read by everybody.
const MODE: u32 = 0o644;

/// A plan under way.
pub(super) struct Planner<'a> {
    root: &'a Root,
    force: bool,
    pub(super) plan: Plan,
    /// Files of somebody else in the places of ours, and what about them.
    in_the_way: Vec<String>,
    /// Pages that are somebody else's, and stay.
    pub(super) foreign_pages: Vec<PathBuf>,
}

impl<'a> Planner<'a> {
    pub(super) fn new(root: &'a Root, force: bool) -> Self {
        Self {
            root,
            force,
            plan: Plan::default(),
            in_the_way: Vec::new(),
            foreign_pages: Vec::new(),
        }
    }

    pub(super) fn service(&mut self, wish: &Wish<'_>) -> Result<(), Message> {
        // It is only looked at, so it may be a link.
        let table = self.root.contents(Path::new(fstab::PATH));
        let table = fstab::Table::of(&table.unwrap_or_default());
        if let Some(line) = table.other_at(wish.mountpoint) {
            return Err(other_line(&line, wish.mountpoint));
        }
        if table.whose != Whose::Others {
            let hint = "speedloader install --uninstall takes that line out";
            return Err(two_ways(fstab::PATH, wish.mountpoint).with_hint(hint));
        }
        let unit = systemd::unit(wish.program, wish.config)?;
        let is_new = self.read(Path::new(systemd::PATH))?.is_none();
        self.want(Path::new(systemd::PATH), marked(unit.as_bytes(), "#"))?;
        if !self.root.is_machine() {
            return Ok(());
        }
        if !systemd_runs() {
            let remark = format!(
                "systemd does not run here: have your init system start `{} serve --config {}`, or use --fstab",
                shell_word(wish.program.as_os_str().as_encoded_bytes()),
                shell_word(wish.config.as_os_str().as_encoded_bytes())
            );
            self.plan.remarks.push(remark);
        }
        self.mountpoint(wish.mountpoint, is_new);
        Ok(())
    }

    pub(super) fn fstab(&mut self, wish: &Wish<'_>) -> Result<(), Message> {
        let (table, before) = self.table()?;
        if let Some(line) = table.other_at(wish.mountpoint) {
            return Err(other_line(&line, wish.mountpoint));
        }
        if let Some(Content::File { bytes, .. }) = self.read(Path::new(systemd::PATH))?
            && whose(&bytes) != Whose::Others
        {
            let hint = "speedloader install --uninstall takes that service away";
            return Err(two_ways(systemd::PATH, wish.mountpoint).with_hint(hint));
        }
        let line = fstab::line(wish.mountpoint, wish.config)?;
        let is_new = table.whose == Whose::Others;
        self.set_table(before, &table, table.with(&line));
        let link = Content::Link(wish.program.to_owned());
        match self.read(Path::new(fstab::HELPER))? {
            Some(found) if found == link => {}
            found => self.replace(Path::new(fstab::HELPER), found, link),
        }
        if self.root.is_machine() {
            self.mountpoint(wish.mountpoint, is_new);
        }
        Ok(())
    }

    /// What may keep it from being mounted there.
    fn mountpoint(&mut self, mountpoint: &Path, is_new: bool) {
        let remark = if is_mounted(mountpoint) {
            let by_hand = "something is mounted there now, which `speedloader umount` takes away";
            is_new.then(|| format!("{}: {by_hand}", shown(mountpoint)))
        } else if mountpoint.symlink_metadata().is_err() {
            let command = shell_word(mountpoint.as_os_str().as_encoded_bytes());
            Some(format!("there is no mountpoint yet: mkdir -p {command}"))
        } else {
            None
        };
        self.plan.remarks.extend(remark);
    }

    /// Manual pages and completions are there for whoever reads them, and none is worth a refusal.
    pub(super) fn page(&mut self, program: &Path, page: &Page) -> Result<(), Message> {
        let (system, shared) = (Path::new("/usr/share"), shared(program));
        let is_read = [system, shared]
            .iter()
            .any(|base| self.root.is_directory(&base.join(&page.reader)));
        if !is_read {
            return Ok(());
        }
        let path = shared.join(&page.path);
        let text = marked(&page.text, page.comment);
        let found = self.read(&path)?;
        let is_ours = match &found {
            None => true,
            Some(Content::File { bytes, .. }) => whose(bytes) == Whose::Ours,
            Some(Content::Link(_)) => false,
        };
        if is_ours || self.force {
            self.want(&path, text)?;
            if let Some(change) = self.plan.changes.last_mut()
                && change.path == path
            {
                change.generated = true;
            }
        } else {
            self.foreign_pages.push(path);
        }
        Ok(())
    }

    fn table(&self) -> Result<(fstab::Table, Option<Content>), Message> {
        let path = Path::new(fstab::PATH);
        match self.read(path)? {
            Some(Content::Link(target)) => {
                let text = format!("{} is a link to {}", fstab::PATH, shown(&target));
                let hint = "write the line there by hand: what made the link would undo it";
                Err(Message::new(Code::Busy, text).with_hint(hint))
            }
            None => Ok((fstab::Table::of(b""), None)),
            Some(Content::File { bytes, mode }) => {
                let table = fstab::Table::of(&bytes);
                Ok((table, Some(Content::File { bytes, mode })))
            }
        }
    }

    /// The table is everybody's: only lines of ours that were changed since are kept aside.
    fn set_table(&mut self, before: Option<Content>, table: &fstab::Table, bytes: Vec<u8>) {
        let path = Path::new(fstab::PATH);
        let mode = match &before {
            Some(Content::File { mode, .. }) => *mode,
            _ => MODE,
        };
        let after = Content::File { bytes, mode };
        if table.whose == Whose::Changed {
            self.replace(path, before, after);
        } else if before.as_ref() != Some(&after) {
            self.change(path, before, Some(after), Aside::Nothing);
        }
    }

    pub(super) fn remove_line(&mut self) -> Result<(), Message> {
        let path = Path::new(fstab::PATH);
        if let Some(Content::Link(_)) = self.read(path)? {
            // We write no line behind a link.
            return Ok(());
        }
        let (table, before) = self.table()?;
        match table.whose {
            Whose::Others => {}
            Whose::Changed if !self.force => self.stays(path, "our line in it was"),
            Whose::Ours | Whose::Changed => self.set_table(before, &table, table.without()),
        }
        Ok(())
    }

    pub(super) fn remove(&mut self, path: &Path, generated: bool) -> Result<(), Message> {
        let Some(Content::File { bytes, mode }) = self.read(path)? else {
            return Ok(());
        };
        let is = whose(&bytes);
        let found = Some(Content::File { bytes, mode });
        match is {
            Whose::Others => {}
            Whose::Changed if !self.force => self.stays(path, "it was"),
            Whose::Ours => {
                let (after, aside) = self.back(path)?;
                self.change(path, found, after, aside);
            }
            Whose::Changed => {
                let aside = self.keep(path);
                self.change(path, found, None, aside);
            }
        }
        if let Some(change) = self.plan.changes.last_mut()
            && change.path == path
        {
            change.generated = generated;
        }
        Ok(())
    }

    pub(super) fn remove_link(&mut self, path: &str, target: &Path) -> Result<(), Message> {
        let path = Path::new(path);
        let found = self.read(path)?;
        if found == Some(Content::Link(target.to_owned())) {
            let (after, aside) = self.back(path)?;
            self.change(path, found, after, aside);
        }
        Ok(())
    }

    fn stays(&mut self, path: &Path, what: &str) {
        let text = format!(
            "{} stays: {what} changed since it was installed; --force removes that, and keeps a copy",
            shown(path)
        );
        self.plan.remarks.push(text);
    }

    /// A file of ours with this text.
    fn want(&mut self, path: &Path, bytes: Vec<u8>) -> Result<(), Message> {
        let after = Content::File { bytes, mode: MODE };
        match self.read(path)? {
            Some(found) if found == after => {}
            Some(Content::File { bytes, mode }) if whose(&bytes) == Whose::Ours => {
                let found = Some(Content::File { bytes, mode });
                self.change(path, found, Some(after), Aside::Nothing);
            }
            found => self.replace(path, found, after),
        }
        Ok(())
    }

    /// Something in the place of what is there, if that may be.
    fn replace(&mut self, path: &Path, found: Option<Content>, after: Content) {
        match found {
            None => self.change(path, None, Some(after), Aside::Nothing),
            Some(found) if self.force => {
                let aside = self.keep(path);
                self.change(path, Some(found), Some(after), aside);
            }
            Some(Content::File { bytes, .. }) if whose(&bytes) == Whose::Changed => {
                let text = format!("{} was changed since it was installed", shown(path));
                self.in_the_way.push(text);
            }
            Some(_) => {
                let text = format!("{} is somebody else's", shown(path));
                self.in_the_way.push(text);
            }
        }
    }

    /// A name for what is there; none of those who are kept already is overwritten.
    fn keep(&mut self, path: &Path) -> Aside {
        let mut aside = path.as_os_str().to_owned();
        aside.push(ASIDE);
        let aside = PathBuf::from(aside);
        if !matches!(self.read(&aside), Ok(None)) {
            let text = format!("{} is kept already, and would be lost", shown(&aside));
            self.in_the_way.push(text);
        }
        Aside::Keep(aside)
    }

    /// What was in our place before.
    fn back(&self, path: &Path) -> Result<(Option<Content>, Aside), Message> {
        let mut aside = path.as_os_str().to_owned();
        aside.push(ASIDE);
        let aside = PathBuf::from(aside);
        Ok(match self.read(&aside)? {
            None => (None, Aside::Nothing),
            Some(kept) => (Some(kept), Aside::Back(aside)),
        })
    }

    fn change(
        &mut self,
        path: &Path,
        before: Option<Content>,
        after: Option<Content>,
        aside: Aside,
    ) {
        self.plan.changes.push(Change {
            path: path.to_owned(),
            before,
            after,
            aside,
            generated: false,
        });
    }

    fn read(&self, path: &Path) -> Result<Option<Content>, Message> {
        let found = self.root.read(path);
        found.map_err(|error| failed("read", path, &error))
    }

    /// All that is in the way at once.
    pub(super) fn obstacles(&self) -> Result<(), Message> {
        if self.in_the_way.is_empty() {
            return Ok(());
        }
        let text = format!("nothing was changed:\n{}", self.in_the_way.join("\n"));
        let hint = match self.force {
            true => "move those elsewhere",
            false => "--force replaces them, and keeps what is there beside them",
        };
        Err(Message::new(Code::Busy, text).with_hint(hint))
    }
}

fn other_line(line: &str, mountpoint: &Path) -> Message {
    let hint = format!("take this line out first: {line}");
    two_ways(fstab::PATH, mountpoint).with_hint(hint)
}

fn two_ways(path: &str, mountpoint: &Path) -> Message {
    let text = format!("{path} mounts something at {} already", shown(mountpoint));
    Message::new(Code::Busy, text)
}
