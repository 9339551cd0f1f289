//! speedloader-policy.
