//! What the program adds to the library: signals, descriptors of the service manager, user and seccomp,
//! self-test.

pub mod confine;
pub mod kept;
pub mod selftest;
pub mod serve;
