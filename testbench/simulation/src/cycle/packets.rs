//! The frames of a run as a capture file in simulated time.

use std::{cell::RefCell, time::Duration};

use iobond_model::cycle::Time;
use pcap_file::{
    DataLink, Endianness, PcapError, TsResolution,
    pcap::{PcapHeader, PcapPacket, PcapWriter},
};

use super::{Seen, Watch};

/// Longest frame: that of a request of 64 KiB.
const SNAPLEN: u32 = 1 << 16;

/// Writes down the frames at the back ends of all boards: those from a board when they are taken, those to it
/// when they are used. Boards and queues are told apart by address. The simulation begins at second 0 of the
/// file.
#[derive(Debug)]
pub struct Packets {
    file: RefCell<Result<Kept, PcapError>>,
    limit: u64,
}

#[derive(Debug)]
struct Kept {
    writer: PcapWriter<Vec<u8>>,
    count: u64,
    bytes: u64,
    left_out: u64,
}

/// A capture in pcap format, and what did not fit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Captured {
    /// The whole file, its header included.
    pub file: Vec<u8>,
    /// Frames in it.
    pub count: u64,
    /// Frames that would have made it longer than its limit.
    pub left_out: u64,
}

impl Packets {
    /// Keeps `limit` bytes of frames; what comes later is counted.
    #[must_use]
    pub fn new(limit: u64) -> Self {
        let header = PcapHeader {
            snaplen: SNAPLEN,
            datalink: DataLink::ETHERNET,
            ts_resolution: TsResolution::NanoSecond,
            // The same on every machine.
            endianness: Endianness::Little,
            ..PcapHeader::default()
        };
        let writer = PcapWriter::with_header(Vec::new(), header);
        let kept = writer.map(|writer| Kept { writer, count: 0, bytes: 0, left_out: 0 });
        Self { file: RefCell::new(kept), limit }
    }

    /// What was captured so far, which begins anew.
    ///
    /// # Errors
    /// Why it could not be written.
    pub fn take(&self) -> Result<Captured, PcapError> {
        let Kept { writer, count, left_out, .. } = self.file.replace(Self::new(0).file.into_inner())?;
        Ok(Captured { file: writer.into_writer(), count, left_out })
    }
}

impl Watch for Packets {
    fn see(&self, now: Time, _: usize, seen: &Seen<'_>) {
        let Seen::Frame { bytes, .. } = seen else { return };
        let mut file = self.file.borrow_mut();
        let Ok(kept) = &mut *file else { return };
        if kept.left_out > 0 || kept.bytes + bytes.len() as u64 > self.limit {
            kept.left_out += 1;
            return;
        }
        let packet = PcapPacket::new(Duration::from_nanos(now.ns()), bytes.len() as u32, bytes);
        match kept.writer.write_packet(&packet) {
            Ok(_) => (kept.count, kept.bytes) = (kept.count + 1, kept.bytes + bytes.len() as u64),
            Err(error) => *file = Err(error),
        }
    }
}
