//! A virtio function's configuration space and registers, by arrays of bytes and masks.

/// BAR with the virtio structures, 64-bit.
pub const BAR: u8 = 4;
/// Where the structures lie in it.
pub const COMMON: u64 = 0x800;
pub const ISR: u64 = 0x1800;
pub const DEVICE: u64 = 0x1C00;
pub const NOTIFY: u64 = 0x2000;
pub const TABLE: u64 = 0x3000;
const BAR_SIZE: u64 = 0x4000;
/// `notify_off_multiplier` of the notification capability (virtio 1.3, 4.1.4.4).
const MULTIPLIER: u32 = 8;
/// MSI-X vectors, fewer than queues need in one test.
pub const VECTORS: u16 = 4;
const QUEUES: u16 = 4;

const RING_RESET: u64 = 1 << 40;

/// What a device does that it must not.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Misdeed {
    #[default]
    None,
    RefuseVectors,
    RefuseFeatures,
    NeverReset,
    RefuseQueues,
    Gone,
    /// Uses a chain that no driver gave it.
    InventToken,
    /// Says it wrote more bytes than are writable.
    OverstateLength,
    /// Answers reads with success and writes nothing.
    WriteNothing,
    /// Takes requests and never answers.
    Silent,
}

#[derive(Clone, Copy, Debug, Default)]
pub struct QueueRegisters {
    pub size: u16,
    pub vector: u16,
    pub enabled: bool,
    pub areas: [u64; 3],
    pub next_avail: u16,
    pub next_used: u16,
}

pub struct TestFunction {
    pub config: [u8; 256],
    pub writable: [u8; 256],
    next_capability: u16,
    link: u16,
    pub device_type: u16,
    pub device_config: Vec<u8>,
    pub offered: u64,
    pub accepted: u64,
    pub misdeed: Misdeed,
    /// Side of the wire, for a network device.
    pub side: usize,
    pub queues: Vec<QueueRegisters>,
    pub table: Vec<u8>,
    pub resets: u32,
    status: u8,
    selects: [u32; 3],
    config_vector: u16,
}

impl TestFunction {
    /// A function without capabilities: an I/O BAR, a 32-bit and the 64-bit one.
    pub fn bare(device_type: u16, class: u16) -> Self {
        let mut function = Self {
            config: [0; 256],
            writable: [0; 256],
            next_capability: 0x48,
            link: 0x34,
            device_type,
            device_config: Vec::new(),
            offered: 1 << 32,
            accepted: 0,
            misdeed: Misdeed::None,
            side: 0,
            queues: vec![QueueRegisters { size: 1024, ..Default::default() }; usize::from(QUEUES)],
            table: vec![0; usize::from(VECTORS) * 16],
            resets: 0,
            status: 0,
            selects: [0; 3],
            config_vector: 0xFFFF,
        };
        function.put(0x00, &[0xF4, 0x1A, device_type as u8 + 0x40, 0x10]);
        function.put(0x08, &[1, 0, class as u8, (class >> 8) as u8]);
        function.put(0x2C, &[0xF4, 0x1A, 0x00, 0x11]);
        function.writable[4] = 0b111;
        function.put(0x10, &[1]);
        function.writable[0x10..0x12].copy_from_slice(&[!31, 0xFF]);
        function.writable[0x14..0x18].copy_from_slice(&(!0xFFFu32).to_le_bytes());
        function.put(0x20, &[0b1100]);
        function.writable[0x20..0x28].copy_from_slice(&(!(BAR_SIZE - 1)).to_le_bytes());
        function
    }

    /// A whole virtio function.
    pub fn new(device_type: u16, class: u16, features: u64, device_config: Vec<u8>) -> Self {
        let mut function = Self::bare(device_type, class);
        function.offered |= features;
        function.capability(&[0x01, 0, 3, 0, 0, 0, 0, 0]);
        function.virtio(3, ISR, 4, &[]);
        // A reserved BAR: to be ignored (virtio 1.3, 4.1.4).
        function.virtio_in(7, 1, 0, 64, &[]);
        function.virtio(4, DEVICE, device_config.len() as u32, &[]);
        let [table, pending] = [TABLE, TABLE + 0x800].map(|at| (at as u32 | u32::from(BAR)).to_le_bytes());
        let at = function.capability(&[&[0x11, 0, VECTORS as u8 - 1, 0][..], &table, &pending].concat());
        function.writable[usize::from(at) + 3] = 0xC0;
        function.virtio(1, COMMON, 64, &[]);
        let at = function.capability(&[&[0x10, 0, 2, 0, 0, 0, 0, 0x10][..], &[0; 52]].concat());
        function.writable[usize::from(at) + 9] = 0x80;
        function.virtio(2, NOTIFY, 0x100, &MULTIPLIER.to_le_bytes());
        function.device_config = device_config;
        function
    }

    pub fn put(&mut self, at: u16, bytes: &[u8]) {
        self.config[usize::from(at)..][..bytes.len()].copy_from_slice(bytes);
    }

    /// Appends a capability to the list and says where it is.
    pub fn capability(&mut self, bytes: &[u8]) -> u16 {
        let at = self.next_capability;
        self.put(at, bytes);
        self.put(self.link, &[at as u8]);
        self.config[6] |= 1 << 4;
        self.link = at + 1;
        self.next_capability = (at + bytes.len() as u16).next_multiple_of(4);
        at
    }

    fn virtio(&mut self, kind: u8, offset: u64, length: u32, more: &[u8]) {
        self.virtio_in(BAR, kind, offset, length, more);
    }

    pub fn virtio_in(&mut self, bar: u8, kind: u8, offset: u64, length: u32, more: &[u8]) -> u16 {
        let head = [0x09, 0, 16 + more.len() as u8, kind, bar, 0, 0, 0];
        self.capability(&[&head[..], &(offset as u32).to_le_bytes(), &length.to_le_bytes(), more].concat())
    }

    pub fn config_read(&self, offset: u16, width: u8) -> u32 {
        let mut bytes = [0; 4];
        let width = usize::from(width);
        bytes[..width].copy_from_slice(&self.config[usize::from(offset)..][..width]);
        u32::from_le_bytes(bytes)
    }

    pub fn config_write(&mut self, offset: u16, width: u8, value: u32) {
        for (at, byte) in (usize::from(offset)..).zip(&value.to_le_bytes()[..usize::from(width)]) {
            let mask = self.writable[at];
            self.config[at] = self.config[at] & !mask | byte & mask;
        }
        // Initiate Function Level Reset: BARs, command and MSI-X control go back to what they were.
        let express = (0x40..0xF0).find(|at| self.config[*at] == 0x10 && self.writable[at + 9] == 0x80);
        if let Some(at) = express.filter(|at| self.config[at + 9] & 0x80 != 0) {
            self.config[at + 9] &= !0x80;
            for at in 0..256 {
                self.config[at] &= !self.writable[at];
            }
            self.resets += 1;
            self.reset();
        }
    }

    /// Offset of a memory access in the virtio BAR, if that decodes it.
    pub fn decode(&self, address: u64) -> Option<u64> {
        let bar = u64::from(self.config_read(0x24, 4)) << 32 | u64::from(self.config_read(0x20, 4) & !0xF);
        let offset = address.checked_sub(bar)?;
        (self.config[4] & 2 != 0 && offset < BAR_SIZE).then_some(offset)
    }

    fn reset(&mut self) {
        self.accepted = 0;
        self.status = 0;
        self.config_vector = 0xFFFF;
        let fresh = QueueRegisters { size: 1024, vector: 0xFFFF, ..Default::default() };
        self.queues.fill(fresh);
    }

    pub fn read(&mut self, offset: u64, width: u8) -> u32 {
        if self.misdeed == Misdeed::Gone {
            return u32::MAX >> (32 - 8 * u32::from(width));
        }
        let queue = self.queues.get(self.selects[2] as usize).copied().unwrap_or_default();
        match offset.wrapping_sub(COMMON) {
            4 if self.selects[0] < 2 => (self.offered >> (32 * self.selects[0])) as u32,
            16 => u32::from(self.config_vector),
            18 => u32::from(QUEUES),
            20 => u32::from(self.status),
            21 => 7,
            24 => u32::from(queue.size),
            26 => u32::from(queue.vector),
            28 => u32::from(queue.enabled),
            30 => self.selects[2],
            58 => 0,
            _ if (DEVICE..NOTIFY).contains(&offset) => {
                let at = (offset - DEVICE) as usize;
                let mut bytes = [0; 4];
                bytes[..usize::from(width)].copy_from_slice(&self.device_config[at..][..usize::from(width)]);
                u32::from_le_bytes(bytes)
            }
            _ if offset == ISR => 1,
            _ => 0,
        }
    }

    pub fn write(&mut self, offset: u64, _: u8, value: u32) {
        if offset >= TABLE {
            let at = (offset - TABLE) as usize;
            self.table[at..at + 4].copy_from_slice(&value.to_le_bytes());
            return;
        }
        let refuse_vectors = self.misdeed == Misdeed::RefuseVectors;
        let vector = if refuse_vectors { 0xFFFF } else { value as u16 };
        match offset.wrapping_sub(COMMON) {
            0 => self.selects[0] = value,
            8 => self.selects[1] = value,
            12 => self.accepted |= u64::from(value) << (32 * self.selects[1]),
            16 => self.config_vector = vector,
            20 if value == 0 && self.misdeed == Misdeed::NeverReset => {}
            20 if value == 0 => self.reset(),
            20 if self.misdeed == Misdeed::RefuseFeatures => self.status = value as u8 & !8,
            20 => self.status = value as u8,
            22 => self.selects[2] = value,
            _ => self.write_queue(offset.wrapping_sub(COMMON), value, vector),
        }
    }

    fn write_queue(&mut self, field: u64, value: u32, vector: u16) {
        let refuse = self.misdeed == Misdeed::RefuseQueues;
        let ring_reset = self.accepted & RING_RESET != 0;
        let Some(queue) = self.queues.get_mut(self.selects[2] as usize) else { return };
        match field {
            24 => queue.size = value as u16,
            26 => queue.vector = vector,
            28 => queue.enabled = value == 1 && !refuse,
            32..56 => {
                let area = &mut queue.areas[(field - 32) as usize / 8];
                let shift = 8 * (field % 8);
                *area = *area & !(0xFFFF_FFFF << shift) | u64::from(value) << shift;
            }
            58 if value == 1 && ring_reset => *queue = QueueRegisters { size: 1024, ..Default::default() },
            _ => {}
        }
    }
}
