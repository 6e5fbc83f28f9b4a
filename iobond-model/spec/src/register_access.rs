//! The typed register map over any transport of 32-bit registers: an in-process device, a mapped BAR, a
//! socket.
//!
//! The generated accessors address registers by pointer. Here a "pointer" is the register's offset in BAR0
//! and is never dereferenced: [`Over`] hands it to a [`RegisterIo`].

// The generated constructors and conversions are declared unsafe; why they are sound here stands at each use.
#![allow(unsafe_code)]

use core::convert::Infallible;

use peakrdl_rust::{
    io::RawRegisterIO,
    reg::{RegInt, Register},
};

use crate::registers::Iobond;

/// A transport of naturally aligned 32-bit register accesses.
///
/// Infallible, as a PCIe read is: a device that is gone reads all ones ([`crate::ALL_ONES`]) and swallows
/// writes.
pub trait RegisterIo {
    /// Reads the register at byte `offset` of BAR0.
    fn read32(&self, offset: u32) -> u32;
    /// Writes the register at byte `offset` of BAR0. Posted: it may take effect later, but in order.
    fn write32(&self, offset: u32, value: u32);
}

/// Carries the generated accessors over a [`RegisterIo`].
#[derive(Debug)]
pub struct Over<T>(pub T);

impl<T: RegisterIo> Over<T> {
    /// The register map.
    #[inline]
    pub fn registers(&self) -> Iobond<'_, Self> {
        // SAFETY: the pointer is an offset that `RawRegisterIO for Over` below never dereferences.
        unsafe { Iobond::from_ptr_with(core::ptr::null_mut(), self) }
    }
}

impl<T: RegisterIo> RawRegisterIO for Over<T> {
    type Error = Infallible;

    #[inline]
    unsafe fn try_read<R: RegInt>(&self, ptr: *const R) -> Result<R, Infallible> {
        let value = self.0.read32(ptr.addr() as u32);
        // Every register is 32 bits wide, so `R` is `u32` and the conversion cannot fail.
        Ok(R::from(value).unwrap_or(R::ZERO))
    }

    #[inline]
    unsafe fn try_write<R: RegInt>(&self, ptr: *mut R, value: R) -> Result<(), Infallible> {
        self.0.write32(ptr.addr() as u32, value.to_u32().unwrap_or(0));
        Ok(())
    }
}

/// The typed form of a raw register value, for a device that decodes what was written.
#[inline]
pub fn decode<R: Register<Regwidth = u32>>(raw: u32) -> R {
    // SAFETY: a generated register is a newtype of `u32` whose getters mask every field; each bit pattern is
    // valid.
    unsafe { R::from_raw(raw) }
}

/// The raw value of a typed register.
#[inline]
pub fn encode<R: Register<Regwidth = u32>>(register: R) -> u32 {
    register.to_raw()
}

/// The raw value of a register that has its reset value but for what `set` sets.
#[inline]
pub fn encode_with<R: Register<Regwidth = u32> + Default>(set: impl FnOnce(&mut R)) -> u32 {
    let mut register = R::default();
    set(&mut register);
    encode(register)
}

/// A field's bits in place. The generated types have setters only for what software may write; a device sets
/// the others with their generated `*_OFFSET`.
#[inline]
pub const fn place(offset: usize, value: u32) -> u32 {
    value << offset
}

/// A field's value. The counterpart of [`place`], for what software may only write.
#[inline]
pub const fn extract(word: u32, offset: usize, mask: u32) -> u32 {
    (word >> offset) & mask
}

#[cfg(test)]
mod tests {
    use core::cell::Cell;

    use super::*;
    use crate::{offsets, registers::components::queue_t};

    /// Remembers the last access and reads back its offset.
    #[derive(Default)]
    struct Probe(Cell<(u32, u32)>);

    impl RegisterIo for Probe {
        fn read32(&self, offset: u32) -> u32 {
            offset
        }
        fn write32(&self, offset: u32, value: u32) {
            self.0.set((offset, value));
        }
    }

    #[test]
    fn accessors_and_offsets_agree() {
        let over = Over(Probe::default());
        let registers = over.registers();
        let tail = offsets::queues::BASE + 63 * offsets::queues::STRIDE + offsets::queues::TAIL;
        registers.queues()[63].tail().write(|r| r.set_index(0x1234));
        assert_eq!(over.0.0.get(), (tail, 0x1234));
        assert_eq!(
            encode(registers.mailbox().request().read()),
            offsets::mailbox::BASE + offsets::mailbox::REQUEST
        );
        let word =
            offsets::functions::BASE + 2 * offsets::functions::STRIDE + offsets::functions::CONFIG + 4 * 3;
        registers.functions()[2].config()[3].write(|r| r.set_value(7));
        assert_eq!(over.0.0.get(), (word, 7));
    }

    #[test]
    fn decode_and_encode_are_inverse() {
        let raw = 0xABCD_1235;
        let control: queue_t::control::Control = decode(raw);
        assert!(control.enable());
        assert_eq!(control.vector(), 0xABCD);
        assert_eq!(encode(control), raw);
    }
}
