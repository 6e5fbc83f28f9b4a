//! What the program does with the library.

pub mod confine;
pub mod selftest;
pub mod serve;
