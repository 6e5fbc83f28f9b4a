//! What carries a scenario. Here: the `live` world, the IO-Bond model on the wall clock with real back ends in processes of
//! their own. Boards are either software of this process ([`Live`]) or machines of their own that see their functions over
//! vfio-user ([`Served`]); or the base is elsewhere, too ([`Emulated`]).

mod accesses;
mod back_end;
mod back_ends;
pub mod bare;
mod base_core;
mod base_function;
mod board_function;
mod bus;
pub mod cycle;
mod emulated;
mod error;
mod granted_memory;
mod hypervisor;
mod live;
mod model_port;
mod places;
mod served;
mod stamps;
mod wake_up;

pub use back_end::{BackEndError, BackEndProcess, end_with_parent};
pub(crate) use back_ends::BackEndCommand;
pub use base_core::{Base, Idle};
pub use bus::LiveBus;
pub use emulated::{Emulated, EmulatedBond};
pub use error::LiveError;
pub use live::{BoardHandle, Live};
pub use model_port::ModelPort;
pub use served::{Served, ServedBoard};
