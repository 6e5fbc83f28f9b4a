//! What the program does with the library.

pub mod serve;
