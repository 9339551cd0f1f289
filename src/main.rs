//! The `speedloader` program; see `lib.rs` for the map.

use std::process::ExitCode;

use speedloader::command::{Code, Message};
use speedloader::program::{Demo, Program, Ready, Start};

/// A build without the file system: everything but what mounts.
struct Unmounted;

impl Program for Unmounted {
    fn serve(&self, _start: Start, _ready: &mut Ready) -> Result<(), Message> {
        Err(Message::new(Code::Unsupported, "this build has no mount"))
    }

    fn demo(&self, _demo: Demo) -> Result<(), Message> {
        Err(Message::new(Code::Unsupported, "this build has no mount"))
    }
}

fn main() -> ExitCode {
    speedloader::cli::main(&Unmounted)
}
