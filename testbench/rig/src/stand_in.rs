//! What stands in for an IO-Bond's base function: 32 KiB of registers without meaning but for a few that copy
//! memory and raise an interrupt, so that a port is tried and nothing else.

use std::{
    os::fd::OwnedFd,
    sync::{Arc, Mutex},
};

use iobond_spec::{
    ALL_ONES, MAGIC,
    offsets::{BAR0_SIZE, ident},
};
use iobond_vfio_user::{Client, Description, DmaMapping, Errno, Function, Irq, Region, RegionDescription};

/// 64 bits each: where `COPY` reads and writes.
pub const FROM: u32 = 0x7f00;
pub const TO: u32 = 0x7f08;
/// Written: copies four bytes. Read: [`COPIED`], or which end could not be reached.
pub const COPY: u32 = 0x7f10;
/// Written: raises MSI-X vector 0.
pub const INTERRUPT: u32 = 0x7f14;
/// What `COPY` reads after it worked.
pub const COPIED: u32 = 1;

const CONFIG_SIZE: u64 = 4096;
/// Where the PCI Express capability is, its Device Control, and Initiate Function Level Reset in the high
/// byte of that (PCIe 5.0, 7.5.3.4).
const PCIE: usize = 0x40;
const DEVICE_CONTROL_HIGH: u64 = PCIE as u64 + 9;
const INITIATE_RESET: u8 = 1 << 7;
const MSIX: usize = 0x80;

#[derive(Default)]
struct State {
    registers: Vec<u32>,
    config: Vec<u8>,
    client: Option<Arc<Client>>,
    maps: Vec<(u64, u64, Arc<OwnedFd>, u64)>,
    resets: u32,
}

/// A PCI function that only copies, and counts its resets.
pub struct StandIn(Mutex<State>);

impl StandIn {
    pub fn new() -> Self {
        let stand_in = Self(Mutex::default());
        let mut state = stand_in.0.lock().unwrap();
        state.power_on();
        state.resets = 0;
        drop(state);
        stand_in
    }

    /// How often it was reset.
    pub fn resets(&self) -> u32 {
        self.0.lock().unwrap().resets
    }

    /// How many ranges are mapped at or above `address`.
    pub fn maps_from(&self, address: u64) -> usize {
        self.0.lock().unwrap().maps.iter().filter(|(start, ..)| *start >= address).count()
    }
}

impl State {
    fn power_on(&mut self) {
        self.registers = vec![0; BAR0_SIZE as usize / 4];
        self.registers[((ident::BASE + ident::MAGIC) / 4) as usize] = MAGIC;
        self.config = configuration();
        self.resets += 1;
    }

    fn word64(&self, offset: u32) -> u64 {
        let at = offset as usize / 4;
        u64::from(self.registers[at]) | u64::from(self.registers[at + 1]) << 32
    }

    /// The file behind four bytes of memory, and where in it.
    fn reach(&self, at: u64) -> Option<(&OwnedFd, u64)> {
        let (start, _, file, offset) =
            self.maps.iter().find(|(start, size, ..)| *start <= at && at + 4 <= start + size)?;
        Some((&**file, offset + (at - start)))
    }

    fn copy(&self) -> u32 {
        let (from, to) = (self.word64(FROM), self.word64(TO));
        let mut bytes = [0; 4];
        let Some((file, offset)) = self.reach(from) else { return ALL_ONES };
        rustix::io::pread(file, &mut bytes, offset).unwrap();
        let Some((file, offset)) = self.reach(to) else { return ALL_ONES - 1 };
        rustix::io::pwrite(file, &bytes, offset).unwrap();
        COPIED
    }

    fn write_register(&mut self, offset: u32, value: u32) {
        self.registers[offset as usize / 4] = match offset {
            COPY => self.copy(),
            INTERRUPT => {
                self.client.as_ref().unwrap().trigger(Irq::Msix, 0);
                0
            }
            _ => value,
        };
    }
}

/// Type 0 header (PCIe 5.0, 7.5.1), PCI Express capability with FLR, MSI-X with one vector in BAR 2.
fn configuration() -> Vec<u8> {
    let mut space = vec![0; CONFIG_SIZE as usize];
    let mut put = |at: usize, bytes: &[u8]| space[at..at + bytes.len()].copy_from_slice(bytes);
    // QEMU's vendor and a device that no driver knows; a processing accelerator.
    put(0x00, &[0x34, 0x12, 0xb0, 0x10]);
    put(0x06, &[1 << 4]);
    put(0x0b, &[0x12]);
    put(0x34, &[PCIE as u8]);
    // Version 2, endpoint; role-based error reporting and Function Level Reset.
    put(PCIE, &[0x10, MSIX as u8, 2, 0]);
    put(PCIE + 4, &(1u32 << 15 | 1 << 28).to_le_bytes());
    put(MSIX, &[0x11, 0, 0, 0]);
    put(MSIX + 4, &2u32.to_le_bytes());
    put(MSIX + 8, &(0x800u32 | 2).to_le_bytes());
    space
}

impl Function for StandIn {
    fn description(&self) -> Description {
        let region = |size| RegionDescription { size, readable: true, writable: true };
        Description::default()
            .with_region(Region::Config, region(CONFIG_SIZE))
            .with_region(Region::Bar0, region(BAR0_SIZE.into()))
            .with_region(Region::Bar2, region(4096))
            .with_vectors(Irq::Msix, 1)
            .with_vectors(Irq::Err, 1)
    }

    fn attach(&self, client: Arc<Client>) {
        self.0.lock().unwrap().client = Some(client);
    }

    fn detach(&self) {
        let mut state = self.0.lock().unwrap();
        state.client = None;
        state.maps.clear();
    }

    fn read(&self, region: Region, offset: u64, data: &mut [u8], _: &mut dyn FnMut()) -> Result<(), Errno> {
        let state = self.0.lock().unwrap();
        for (byte, at) in data.iter_mut().zip(offset..) {
            let at = at as usize;
            *byte = match region {
                Region::Config => state.config[at],
                Region::Bar0 => state.registers[at / 4].to_le_bytes()[at % 4],
                _ => 0,
            };
        }
        Ok(())
    }

    fn write(&self, region: Region, offset: u64, data: &[u8], _: &mut dyn FnMut()) -> Result<(), Errno> {
        let mut state = self.0.lock().unwrap();
        match region {
            Region::Config => {
                for (byte, at) in data.iter().zip(offset..) {
                    match at {
                        DEVICE_CONTROL_HIGH if byte & INITIATE_RESET != 0 => state.power_on(),
                        // Identity, base address registers (the host's to emulate) and capabilities are
                        // read-only.
                        0x04..0x06 => state.config[at as usize] = *byte,
                        _ => {}
                    }
                }
            }
            Region::Bar0 => {
                let value: [u8; 4] = data.try_into().map_err(|_| Errno::INVAL)?;
                state.write_register(offset as u32, u32::from_le_bytes(value));
            }
            _ => {}
        }
        Ok(())
    }

    fn map(&self, mapping: DmaMapping) -> Result<(), Errno> {
        let (address, size) = (mapping.address, mapping.size);
        let Some((file, offset)) = mapping.file else { return Ok(()) };
        let mut state = self.0.lock().unwrap();
        // A page comes with a descriptor of its own, and all of them are the machine's memory.
        let same = |other: &Arc<OwnedFd>| {
            let [a, b] = [&file, &**other].map(|file| rustix::fs::fstat(file).unwrap());
            (a.st_dev, a.st_ino) == (b.st_dev, b.st_ino)
        };
        let known = state.maps.iter().map(|(_, _, file, _)| file).find(|file| same(file)).cloned();
        state.maps.push((address, size, known.unwrap_or_else(|| Arc::new(file)), offset));
        Ok(())
    }

    fn unmap(&self, address: u64, _: u64) -> Result<(), Errno> {
        self.0.lock().unwrap().maps.retain(|(start, ..)| *start != address);
        Ok(())
    }

    fn unmap_all(&self) {
        self.0.lock().unwrap().maps.clear();
    }

    fn reset(&self) {
        self.0.lock().unwrap().power_on();
    }

    fn intx_asserted(&self) -> bool {
        false
    }
}
