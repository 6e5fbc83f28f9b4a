//! What carries a scenario. Here: the `live` world, the IO-Bond model on the wall clock with real back ends in processes of
//! their own.

mod back_end;
mod base_core;
mod bus;
mod live;
mod model_port;
mod stamps;

pub use back_end::{BackEndError, BackEndProcess, end_with_parent};
pub use base_core::{Base, Idle};
pub use bus::LiveBus;
pub use live::{BoardHandle, Live, LiveError};
pub use model_port::ModelPort;
