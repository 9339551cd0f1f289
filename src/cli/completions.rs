//! `speedloader completions`: what a shell needs to complete our command lines. Verbs and options are in the script; for
//! names it asks [`complete`](super::complete).

use clap::{Args, Command};
use clap_complete::Shell;

use super::complete::PLACES;
use super::context::Context;
use crate::command::Message;

const BASH_NAMES: &str = include_str!("completions/names.bash");
const ZSH_NAMES: &str = include_str!("completions/names.zsh");
const FISH_NAMES: &str = include_str!("completions/names.fish");

/// How the function of verbs and options begins in the scripts of bash and zsh.
const START: &str = "_speedloader() {\n";

/// Print completions for a shell
#[derive(Args, Debug)]
#[command(after_help = "\
In bash, zsh and fish, names of models, pools, transfers and settings are completed as well: the
shell asks the running daemon.

Examples:
  speedloader completions bash > /etc/bash_completion.d/speedloader
  speedloader completions zsh > /usr/local/share/zsh/site-functions/_speedloader
  speedloader completions fish > ~/.config/fish/completions/speedloader.fish")]
pub(super) struct Arguments {
    /// Which shell
    pub(super) shell: Shell,
}

/// Prints the script, which is made of all verbs.
pub(super) fn run(script: &str, context: &mut Context<'_>) -> Result<(), Message> {
    context.print(script)
}

/// The script of a shell for the program.
pub(super) fn script(shell: Shell, program: &Command) -> String {
    let mut script = Vec::new();
    let mut shown = without_hidden(program);
    clap_complete::generate(shell, &mut shown, "speedloader", &mut script);
    let script = String::from_utf8_lossy(&script).into_owned();
    // Where no name is wanted, or none is known, the rest of the function goes on.
    match shell {
        Shell::Bash => {
            let asking = format!(
                "{BASH_NAMES}{START}    COMPREPLY=()\n    _speedloader_names \"$@\" && return\n"
            );
            script.replacen(START, &asking, 1)
        }
        Shell::Zsh => {
            let asking = format!("{ZSH_NAMES}{START}    _speedloader_names && return 0\n");
            script.replacen(START, &asking, 1)
        }
        Shell::Fish => {
            let options = PLACES
                .iter()
                .filter_map(|place| fish_option(place, program));
            script + FISH_NAMES + &options.collect::<String>()
        }
        _ => script,
    }
}

/// The program without the verbs that are for programs, which its scripts would offer.
fn without_hidden(program: &Command) -> Command {
    let verbs = program.get_subcommands().filter(|verb| !verb.is_hide_set());
    let about = program.get_about().cloned().unwrap_or_default();
    let long_about = program.get_long_about().cloned().unwrap_or_default();
    Command::new("speedloader")
        .about(about)
        .long_about(long_about)
        .version(env!("CARGO_PKG_VERSION"))
        .args(program.get_arguments())
        .subcommands(verbs.cloned())
}

/// After an option that takes a value fish looks at that option's own completions only.
fn fish_option(
    (verbs, id, _): &(&[&str], &str, super::complete::Kind),
    program: &Command,
) -> Option<String> {
    let mut command = program;
    for verb in *verbs {
        command = command.find_subcommand(verb)?;
    }
    let mut arguments = command.get_arguments();
    let option = arguments.find(|argument| argument.get_id() == id)?;
    let long = option.get_long()?;
    let short = option.get_short();
    let short = short.map_or_else(String::new, |letter| format!(" -s {letter}"));
    let verb = verbs.join(" ");
    Some(format!(
        "complete -c speedloader -n \"__fish_speedloader_using_subcommand {verb}\" -l {long}{short} -x -a '(__speedloader_names)'\n"
    ))
}
