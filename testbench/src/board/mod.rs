//! Who sits on a compute board.

pub mod bus;
