//! What the program does with the library.

pub mod selftest;
pub mod serve;
