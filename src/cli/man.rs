//! `speedloader man`: the manual pages, generated from the same definitions as the help.

use std::fs;
use std::path::PathBuf;

use clap::Args;

use super::context::Context;
use crate::command::{Code, Message};
use crate::view::{DoneView, View};

/// Print the manual page, or write all pages into a directory
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  speedloader man | man -l -
  speedloader man --directory /usr/local/share/man/man1")]
pub(super) struct Arguments {
    /// An existing directory, which gets a page for each verb
    #[arg(short, long, value_name = "DIR")]
    directory: Option<PathBuf>,
}

/// Prints or writes the pages, which are made of all verbs.
pub(super) fn run(
    arguments: &Arguments,
    pages: &[(String, Vec<u8>)],
    context: &mut Context<'_>,
) -> Result<(), Message> {
    let Some(directory) = &arguments.directory else {
        let program = pages
            .first()
            .map(|(_, page)| String::from_utf8_lossy(page).into_owned());
        return context.print(&program.unwrap_or_default());
    };
    for (name, page) in pages {
        let path = directory.join(name);
        fs::write(&path, page).map_err(|error| {
            Message::new(
                Code::Failed,
                format!("{} cannot be written: {error}", path.display()),
            )
        })?;
    }
    let text = format!("{} pages are in {}", pages.len(), directory.display());
    context.show_change(&View::Done(DoneView { text }))
}
