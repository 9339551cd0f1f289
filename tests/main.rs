//! All tests that use the crate from outside, in one binary: on a small machine linking is what
//! takes the time. A file that is not named here does not run.

// Whatever is unwrapped in a test is what the test asserts.
#![allow(clippy::unwrap_used)]

mod harness {
    //! A real daemon on a temporary tree, and what watches it.

    pub mod skip;
    pub mod content;
    pub mod mapping;
    pub mod mount_table;
    pub mod cold_guard;
    pub mod watchdog;
    pub mod site;
    pub mod mount;
    pub mod child;
    pub mod store;
    pub mod acl;
    mod user;

    pub use mount::Mount;
    pub use site::{Site, in_both_modes};
    pub use skip::test_name;
    pub use user::as_user;
}

mod control {
    pub mod fake;
    mod commands;
    mod files;
    mod socket;
    mod hostile;
    pub mod web;
    mod doors;
}

mod cli {
    pub mod console;
    mod generated;
    mod arguments;
    mod answers;
    mod process;
    mod setup;
    mod install;
    mod completions;
    mod simulate;
    mod wrong;
}

mod health {
    mod faults;
    mod access;
}

mod mounted {
    mod reading;
    mod moving;
    pub mod churn;
    mod cold;
    mod onto_itself;
    mod writing;
    pub mod locking;
    pub mod behind;
    mod names;
    mod acls;
    mod swapped;
    mod barred;
    mod control_files;
    pub mod first_load;
    mod lists;
    mod loads;
    mod spares;
    mod between_pools;
    mod parting;
    pub mod warm_up;
    pub mod memory;
    mod back_off;
    mod engines;
    pub mod workload;
    pub mod hung;
    pub mod late_mounts;
    mod disks;
    mod starting;
    mod steering;
    mod shared;
    mod top;
}

mod differential {
    mod side;
    mod sequences;
    mod differences;
}

mod model {
    pub mod op;
    mod naive;
    mod kernel;
    mod world;
    mod run;
    mod sequences;
    mod regressions;
}

mod crash {
    mod place;
    mod steps;
    mod kills;
}

mod conformance {
    mod tools;
    mod mode;
    mod moves;
    mod deviations;
    mod pjdfstest;
    mod fsx;
    mod links;
    mod beside;
    mod attributes;
}
