//! What the board sees of one function: configuration space, the BAR, MSI-X, the ISR.

mod config_space;
mod decode;
mod function;
mod msix;

pub use config_space::{ConfigEvent, ConfigSpace};
pub use decode::{Target, decode};
pub use function::{Function, Raised};
pub use msix::{Message, Msix};
