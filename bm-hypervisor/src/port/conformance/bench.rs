//! What the checks work with: memory that the IO-Bond may reach, and the registers by which they let it.

use std::{
    os::fd::AsFd,
    thread,
    time::{Duration, Instant},
};

use iobond_spec::{
    address::BaseAddr,
    offsets::{queues, status_page, windows},
    status_page::SIZE,
};
use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, ftruncate, memfd_create};
use std::sync::atomic::Ordering;

use super::Failure;
use crate::{
    pool::Mapping,
    port::{Port, Region},
};

/// Where the memory is for the device: high, and not where a board's pool is.
pub(super) const IOVA: BaseAddr = BaseAddr(1 << 41);
/// Bytes of it: three pages, of which the second one is mostly used, so that what comes too early or late is
/// seen.
pub(super) const LENGTH: u64 = 3 * SIZE;
/// What it is painted with.
pub(super) const PAINT: u32 = 0xA5A5_A5A5;
/// How long something may take that an IO-Bond does by itself. Microseconds in hardware; an emulator shares a
/// busy machine.
const TIMEOUT: Duration = Duration::from_secs(2);

/// Memory of the test's own.
pub(super) struct Memory {
    file: std::os::fd::OwnedFd,
    pub(super) mapping: Mapping,
}

impl Memory {
    /// Painted memory, in a file that is sealed against resizing.
    pub(super) fn painted() -> Result<Self, Failure> {
        let file = memfd_create("iobond-conformance", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)
            .map_err(std::io::Error::from)?;
        ftruncate(&file, LENGTH).map_err(std::io::Error::from)?;
        fcntl_add_seals(&file, SealFlags::SHRINK | SealFlags::GROW).map_err(std::io::Error::from)?;
        let mapping = Mapping::new(file.as_fd(), LENGTH as usize)?;
        let memory = Self { file, mapping };
        memory.paint();
        Ok(memory)
    }

    pub(super) fn paint(&self) {
        self.mapping.words32().iter().for_each(|word| word.store(PAINT, Ordering::Release));
    }

    /// All of it as a region at `iova`.
    pub(super) fn region(&self, iova: BaseAddr) -> Region<'_> {
        let file = self.file.as_fd();
        Region { file, file_offset: 0, length: LENGTH, iova }
    }

    /// The 32-bit word at `offset`.
    pub(super) fn word(&self, offset: u64) -> u32 {
        let word = self.mapping.words32().get((offset / 4) as usize);
        word.map_or(0, |word| word.load(Ordering::Acquire))
    }

    /// Whether page `number` is as it was painted.
    pub(super) fn is_painted(&self, number: u64) -> bool {
        (number * SIZE..(number + 1) * SIZE).step_by(4).all(|at| self.word(at) == PAINT)
    }
}

/// Memory that is mapped to the device until it is dropped.
pub(super) struct Mapped<'a, P: Port> {
    port: &'a P,
    pub(super) memory: Memory,
}

impl<'a, P: Port> Mapped<'a, P> {
    pub(super) fn new(port: &'a P) -> Result<Self, Failure> {
        let memory = Memory::painted()?;
        port.map_dma(&memory.region(IOVA))?;
        Ok(Self { port, memory })
    }
}

impl<P: Port> Drop for Mapped<'_, P> {
    fn drop(&mut self) {
        // A device that still had a window there must not see other memory in its place.
        let _ = self.port.reset();
        // A check may have unmapped it itself.
        let _ = self.port.unmap_dma(IOVA);
    }
}

/// Grants `length` bytes at `at` as window `number`.
pub(super) fn grant(port: &impl Port, number: u32, at: BaseAddr, length: u64) {
    let base = windows::BASE + number * windows::STRIDE;
    write64(port, base + windows::ADDRESS_LO, at.0);
    write64(port, base + windows::LENGTH_LO, length);
    port.write32(base + windows::CONTROL, 1);
}

/// Takes window `number` back.
pub(super) fn revoke(port: &impl Port, number: u32) {
    port.write32(windows::BASE + number * windows::STRIDE + windows::CONTROL, 0);
}

/// Has the status page kept at `at`. When this returns it was written, if that was possible: a read's
/// completion pushes what the device wrote before it (PCIe 5.0, 2.4.1).
pub(super) fn show_status(port: &impl Port, at: BaseAddr) {
    write64(port, status_page::BASE + status_page::ADDRESS_LO, at.0);
    port.write32(status_page::BASE + status_page::CONTROL, 1);
    port.read32(status_page::BASE + status_page::CONTROL);
}

/// Has the status page given up.
pub(super) fn hide_status(port: &impl Port) {
    port.write32(status_page::BASE + status_page::CONTROL, 0);
    port.read32(status_page::BASE + status_page::CONTROL);
}

/// Enables queue context `number` with nothing in it, which no IO-Bond takes.
pub(super) fn enable_nonsense(port: &impl Port, number: u32) {
    port.write32(queue(number) + queues::CONTROL, 1);
    port.read32(queue(number) + queues::STATE);
}

/// The registers of queue context `number`.
pub(super) fn queue(number: u32) -> u32 {
    queues::BASE + number * queues::STRIDE
}

/// Writes a `_lo`/`_hi` pair.
pub(super) fn write64(port: &impl Port, low: u32, value: u64) {
    port.write32(low, value as u32);
    port.write32(low + 4, (value >> 32) as u32);
}

/// Waits until `is`, for a while.
pub(super) fn within_timeout(mut is: impl FnMut() -> bool) -> bool {
    let deadline = Instant::now() + TIMEOUT;
    loop {
        match is() {
            true => return true,
            false if Instant::now() >= deadline => return false,
            false => thread::sleep(Duration::from_millis(1)),
        }
    }
}

/// That `found` is what was expected of `what`.
pub(super) fn same(what: impl Into<String>, found: u32, expected: u32) -> Result<(), Failure> {
    if found == expected {
        return Ok(());
    }
    Err(Failure::Differs { what: what.into(), found: found.into(), expected: expected.into() })
}

/// That something is so.
pub(super) fn holds(is: bool, otherwise: &'static str) -> Result<(), Failure> {
    if is { Ok(()) } else { Err(Failure::Behaviour(otherwise)) }
}
