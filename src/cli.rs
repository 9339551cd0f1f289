//! The command line. Each verb has a file: its arguments, its help with an example, and what it asks
//! of the daemon. Nothing is decided here that another door would have to decide again: a verb makes a
//! [`Command`](crate::command::Command), sends it to the socket and shows the answer. Exit statuses
//! are those of [`Code`].

mod console;
mod settings;
mod progress;
mod context;
mod mountpoint;
mod running;
mod spawn;
mod complete;
mod completions;
mod config;
mod demo;
mod demote;
mod events;
mod explain;
mod history;
mod health;
mod forecast;
mod models;
mod pin;
mod plan;
mod promote;
mod simulate;
mod rescan;
mod serve;
mod mount;
mod setup;
mod install;
mod status;
mod tiers;
mod top;
mod transfers;
mod umount;
mod version;
mod remote_agent;
mod web_url;
mod openapi;
mod wait;
mod which;
mod man;
mod args;
mod helper;

use std::ffi::OsString;
use std::io::Write;
use std::process::ExitCode;

use clap::Parser;
use clap::error::{ContextKind, ContextValue};

use crate::command::{Code, Message};
use crate::control::control_files::error_json;
use crate::program::Program;

pub use args::{command_line, completion_files, man_pages};
pub use console::Console;

use args::{Arguments, Verb};
use context::Context;

/// Runs the program's own arguments; the whole of `main`.
pub fn main(program: &dyn Program) -> ExitCode {
    let mut console = Console::of_process();
    ExitCode::from(run(std::env::args_os().collect(), &mut console, program))
}

/// Runs `arguments`, of which the first is the program's name, and returns the exit status.
pub fn run(arguments: Vec<OsString>, console: &mut Console, program: &dyn Program) -> u8 {
    if let Some(arguments) = helper::detect(&arguments) {
        return helper::run(&arguments, console);
    }
    // Where nothing can be understood, this alone says who reads.
    let json = arguments.iter().any(|argument| argument == "--json");
    let arguments = match Arguments::try_parse_from(arguments) {
        Ok(arguments) => arguments,
        Err(error) => return refuse(&error, json, console),
    };
    let mut context = Context::new(console, program, arguments.global);
    match dispatch(arguments.verb, &mut context) {
        Ok(()) => 0,
        Err(message) => context.fail(&message),
    }
}

fn dispatch(verb: Verb, context: &mut Context<'_>) -> Result<(), Message> {
    match verb {
        Verb::Mount(arguments) => mount::run(arguments, context),
        Verb::Umount(arguments) => umount::run(arguments, context),
        Verb::Serve(arguments) => serve::run(arguments, context),
        Verb::Setup(arguments) => setup::run(&arguments, context),
        Verb::Install(arguments) => {
            let pages = install::pages(args::man_pages(), args::completion_files());
            install::run(&arguments, &pages, context)
        }
        Verb::Status(arguments) => status::run(&arguments, context),
        Verb::Models(arguments) => models::run(arguments, context),
        Verb::Promote(arguments) => promote::run(arguments, context),
        Verb::Demote(arguments) => demote::run(arguments, context),
        Verb::Pin(arguments) => pin::pin(arguments, context),
        Verb::Unpin(arguments) => pin::unpin(arguments, context),
        Verb::Tiers(arguments) => tiers::run(arguments, context),
        Verb::Top(arguments) => top::run(&arguments, context),
        Verb::Transfers(arguments) => transfers::run(&arguments, context),
        Verb::Wait(arguments) => wait::run(arguments, context),
        Verb::Which(arguments) => which::run(arguments, context),
        Verb::Explain(arguments) => explain::run(arguments, context),
        Verb::Plan(arguments) => plan::run(&arguments, context),
        Verb::Simulate(arguments) => simulate::run(&arguments, context),
        Verb::Rescan(arguments) => rescan::run(&arguments, context),
        Verb::Events(arguments) => events::run(&arguments, context),
        Verb::Config(arguments) => config::run(arguments, context),
        Verb::Forecast(arguments) => forecast::run(&arguments, context),
        Verb::Health(arguments) => health::run(&arguments, context),
        Verb::History(arguments) => history::run(&arguments, context),
        Verb::RemoteAgent(arguments) => remote_agent::run(&arguments, context),
        Verb::WebUrl(arguments) => web_url::run(&arguments, context),
        Verb::Openapi(arguments) => openapi::run(&arguments, context),
        Verb::Version(arguments) => version::run(&arguments, context),
        Verb::Demo(arguments) => demo::run(arguments, context),
        Verb::Complete(arguments) => complete::run(&arguments, &args::command_line(), context),
        Verb::Completions(arguments) => {
            completions::run(&args::completions(arguments.shell), context)
        }
        Verb::Man(arguments) => man::run(&arguments, &args::man_pages(), context),
    }
}

/// Prints what clap has to say: help and version are no failure.
fn refuse(error: &clap::Error, json: bool, console: &mut Console) -> u8 {
    if json && error.use_stderr() {
        let text = error.render().to_string();
        let first = text.lines().next().unwrap_or_default();
        let first = first.trim_start_matches("error: ").to_owned();
        let message = error_json(&Message::new(Code::Usage, first));
        // If even this cannot be written, there is nobody to tell.
        let _ = writeln!(console.out, "{message}");
    }
    let text = error.render();
    let text = if console.style.colour {
        text.ansi().to_string()
    } else {
        text.to_string()
    };
    let hint = match error.get(ContextKind::InvalidSubcommand) {
        Some(ContextValue::String(verb)) if verb == "init" => {
            "\nThe original's `init` is `speedloader setup` here, and its `install` writes a service.\n"
        }
        _ => "",
    };
    let text = text + hint;
    let status = u8::try_from(error.exit_code()).unwrap_or(2);
    let stream = if status == 0 {
        &mut console.out
    } else {
        &mut console.err
    };
    // If even this cannot be written, there is nobody to tell.
    let _ = stream.write_all(text.as_bytes());
    status
}
