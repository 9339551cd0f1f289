//! Rules of the house that no compiler holds. Each is a function from files to faults, with a test
//! that it finds none here and a test that it fires. What is only worth knowing (long files) is
//! reported and fails nothing.

#![allow(clippy::unwrap_used)]

mod tidy {
    mod source;
    mod layering;
    mod rooms;
    mod words;
    mod files;
    mod promises;
    mod packages;
}
