//! What the program does with the library.

pub mod confine;
pub mod kept;
pub mod selftest;
pub mod serve;
