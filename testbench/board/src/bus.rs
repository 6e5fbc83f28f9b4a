//! What a compute board's CPU sees of its PCIe bus: configuration space, memory-mapped BARs, its own memory,
//! interrupts.

use iobond_spec::address::{BoardAddr, FunctionId};
use vm_memory::GuestMemoryMmap;

/// The board's side of its IO-Bond, as a CPU with a root complex would reach it.
///
/// Accesses complete in order. A read may take as long as the mailbox deadline; one without an answer returns
/// all ones.
pub trait Bus {
    /// Reads `width` (1, 2 or 4) bytes of a function's configuration space; all ones where no function is.
    fn config_read(&self, function: FunctionId, offset: u16, width: u8) -> u32;
    /// Writes `width` bytes of a function's configuration space.
    fn config_write(&self, function: FunctionId, offset: u16, width: u8, value: u32);
    /// Reads `width` bytes at a memory address that a BAR may decode; all ones where none does.
    fn mmio_read(&self, address: BoardAddr, width: u8) -> u32;
    /// Writes `width` bytes at a memory address that a BAR may decode. Posted.
    fn mmio_write(&self, address: BoardAddr, width: u8, value: u32);
    /// The board's memory, from board address 0.
    fn memory(&self) -> &GuestMemoryMmap;
    /// Lets time pass for a driver that waits for its device: in a single-threaded world this is what runs
    /// the IO-Bond and the hypervisor, in a threaded one it yields or blocks until an interrupt or for a
    /// short while.
    fn relax(&self);
    /// How often the MSI-X message with this `data` has been delivered since the board was made.
    fn messages(&self, data: u32) -> u64;
}
