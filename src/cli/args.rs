//! All verbs in one place, and what is generated from them: help, completions, man pages.

use std::io::{self, Write};

use clap::{CommandFactory, Parser, Subcommand};
use clap_complete::Shell;

use super::context::Global;
use super::{
    complete, completions, config, demo, demote, events, explain, forecast, health, history,
    install, man, models, mount, openapi, pin, plan, promote, remote_agent, rescan, serve, setup,
    simulate, status, tiers, top, transfers, umount, version, wait, web_url, which,
};

/// Keeps the models that matter in RAM, behind one directory.
///
/// Mount one directory, point any inference engine at it, and the models that are used are copied
/// into memory by themselves; the originals stay where they are.
#[derive(Parser, Debug)]
#[command(
    name = "speedloader",
    bin_name = "speedloader",
    version,
    max_term_width = 100,
    after_help = "\
Examples:
  speedloader demo                                          see what it does
  speedloader setup                                         find models, write a configuration
  sudo speedloader install --now                            mount at every start
  speedloader mount /mnt/models --models ~/models --pool 50%
  speedloader status
  speedloader promote llama3.2:3b --wait

Exit status: 0 done, 1 failed, 2 wrong usage or configuration, 3 nothing of that name,
4 refused (too large, pinned, busy, ..), 5 no daemon answers, 6 not done in time,
7 not permitted, 8 cancelled."
)]
pub(super) struct Arguments {
    #[command(flatten)]
    pub(super) global: Global,

    #[command(subcommand)]
    pub(super) verb: Verb,
}

#[derive(Subcommand, Debug)]
pub(super) enum Verb {
    Mount(mount::Arguments),
    Umount(umount::Arguments),
    Serve(serve::Arguments),
    Setup(setup::Arguments),
    Install(install::Arguments),
    Status(status::Arguments),
    Models(models::Arguments),
    Promote(promote::Arguments),
    Demote(demote::Arguments),
    Pin(pin::PinArguments),
    Unpin(pin::UnpinArguments),
    Tiers(tiers::Arguments),
    Top(top::Arguments),
    Transfers(transfers::Arguments),
    Wait(wait::Arguments),
    Which(which::Arguments),
    Explain(explain::Arguments),
    Plan(plan::Arguments),
    Simulate(simulate::Arguments),
    Rescan(rescan::Arguments),
    Events(events::Arguments),
    History(history::Arguments),
    Forecast(forecast::Arguments),
    Health(health::Arguments),
    Config(config::Arguments),
    RemoteAgent(remote_agent::Arguments),
    WebUrl(web_url::Arguments),
    Openapi(openapi::Arguments),
    Version(version::Arguments),
    Demo(demo::Arguments),
    Complete(complete::Arguments),
    Completions(completions::Arguments),
    Man(man::Arguments),
}

/// The whole command line, as clap knows it.
pub fn command_line() -> clap::Command {
    Arguments::command()
}

/// The completions of a shell.
pub(super) fn completions(shell: Shell) -> String {
    completions::script(shell, &command_line())
}

/// Completions as files of `contrib/completions`: their names and contents.
pub fn completion_files() -> Vec<(&'static str, String)> {
    [
        ("speedloader.bash", Shell::Bash),
        ("_speedloader", Shell::Zsh),
        ("speedloader.fish", Shell::Fish),
    ]
    .map(|(name, shell)| (name, completions(shell)))
    .to_vec()
}

/// The man pages of the program and of each verb: file names and contents.
pub fn man_pages() -> Vec<(String, Vec<u8>)> {
    let mut program = command_line().disable_help_subcommand(true);
    program.build();
    let mut pages = Vec::new();
    add_page(&program, "speedloader", &mut pages);
    pages
}

fn add_page(command: &clap::Command, title: &str, pages: &mut Vec<(String, Vec<u8>)>) {
    let mut text = Vec::new();
    // Writing to a vector cannot fail.
    let _ = render_page(command, title, &mut text);
    pages.push((format!("{title}.1"), text));
    for verb in command.get_subcommands().filter(|verb| !verb.is_hide_set()) {
        add_page(verb, &format!("{title}-{}", verb.get_name()), pages);
    }
}

fn render_page(command: &clap::Command, title: &str, text: &mut Vec<u8>) -> io::Result<()> {
    let page = clap_mangen::Man::new(command.clone())
        .title(title.to_uppercase())
        .source(concat!("speedloader ", env!("CARGO_PKG_VERSION")))
        .manual("User Commands");
    page.render_title(text)?;
    page.render_name_section(text)?;
    page.render_synopsis_section(text)?;
    page.render_description_section(text)?;
    page.render_options_section(text)?;
    if command.has_subcommands() {
        page.render_subcommands_section(text)?;
    }
    let Some(help) = command.get_after_help() else {
        return Ok(());
    };
    // As it stands in the help: roff would join the lines of the examples.
    writeln!(text, ".SH NOTES\n.nf")?;
    for line in help.to_string().lines() {
        writeln!(
            text,
            "\\&{}",
            line.replace('\\', "\\e")
                .replace('-', "\\-")
                .replace('\'', "\\(aq")
        )?;
    }
    writeln!(text, ".fi")
}
