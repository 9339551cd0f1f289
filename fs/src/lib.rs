//! speedloader-fs.
