//! speedloader-config.
