//! All tests that use the crate from outside, in one binary: on a small machine linking is what
//! takes the time. A file that is not named here does not run.

// Whatever is unwrapped in a test is what the test asserts.
#![allow(clippy::unwrap_used)]

mod control {
    pub mod fake;
    mod commands;
    mod files;
    mod socket;
    mod hostile;
}

mod cli {
    mod console;
    mod generated;
    mod arguments;
    mod answers;
    mod process;
    mod wrong;
}

mod model {
    mod op;
    mod naive;
    mod kernel;
    mod world;
    mod run;
    mod sequences;
    mod regressions;
}
