//! The IO-Bond as code.

pub mod device;
pub mod fabric;
pub mod front_end;
pub mod live;
pub mod mailbox;
pub mod shadow;
pub mod windows;
