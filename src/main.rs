//! The `speedloader` program; see `lib.rs` for the map.

use std::process::ExitCode;

use speedloader::command::Message;
use speedloader::program::{Demo, Program, Ready, SetUp, SetUpEnd, Start};

/// The whole program: everything that the command line can ask for.
struct Speedloader;

impl Program for Speedloader {
    fn serve(&self, start: Start, ready: &mut Ready) -> Result<(), Message> {
        speedloader::daemon::serve(start, ready)
    }

    fn set_up(&self, set_up: SetUp) -> Result<SetUpEnd, Message> {
        speedloader::daemon::set_up(set_up)
    }

    fn demo(&self, demo: Demo) -> Result<(), Message> {
        speedloader::demo::run(&demo)
    }
}

fn main() -> ExitCode {
    speedloader::cli::main(&Speedloader)
}
