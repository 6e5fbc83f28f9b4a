//! Carries out one chain against the image.

use std::sync::atomic::{AtomicBool, Ordering};

use tracing::warn;

use super::config::Negotiated;
use super::image::Image;
use super::request::{
    Clear, EXTENT, HEADER, MAX_EXTENTS, MAX_PAYLOAD, Payload, Request, SECTOR, Status, extents, parse,
};
use crate::chain::Buffers;

/// Length of the answer to GET_ID (VIRTIO_BLK_ID_BYTES). A shorter serial is padded with NUL.
pub(crate) const SERIAL: usize = 20;

/// A disk that front ends are served from.
#[derive(Debug)]
pub(crate) struct Disk {
    image: Image,
    serial: [u8; SERIAL],
    /// The first error of the image was reported; the others would only repeat it.
    warned: AtomicBool,
}

/// The chain is too short for header and status, or its payload is longer than [`MAX_PAYLOAD`]: there is no
/// status byte to tell the driver with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "{readable} readable and {writable} writable bytes are not a header of 16, a status of 1 and at most 1 GiB between"
)]
pub(crate) struct NotARequest {
    pub(crate) readable: usize,
    pub(crate) writable: usize,
}

impl Disk {
    /// `serial` is cut short at 20 bytes.
    pub(crate) fn new(image: Image, serial: &str) -> Self {
        let mut padded = [0; SERIAL];
        for (to, from) in padded.iter_mut().zip(serial.bytes()) {
            *to = from;
        }
        Self { image, serial: padded, warned: AtomicBool::new(false) }
    }

    /// Capacity in sectors, after a look whether the image has grown.
    pub(crate) fn look_again(&self) -> u64 {
        let before = self.image.sectors();
        let sectors = self.image.look_again();
        if sectors != before {
            tracing::info!("{} has grown from {before} to {sectors} sectors", self.image.path().display());
        }
        sectors
    }

    /// Answers one request and returns the bytes written to its device-writable part, for the used ring.
    ///
    /// The status is the last of them, so that is always the whole part: what a request did not fill is
    /// zeroed, since the used length vouches for every byte before it (virtio 1.3, 2.7.8.2).
    pub(crate) fn answer(&self, chain: &Buffers<'_>, negotiated: &Negotiated) -> Result<u32, NotARequest> {
        let (readable, writable) = (chain.readable.len(), chain.writable.len());
        let payload = match (readable.checked_sub(HEADER), writable.checked_sub(1)) {
            (Some(out), Some(into)) if out <= MAX_PAYLOAD && into <= MAX_PAYLOAD => Payload { out, into },
            _ => return Err(NotARequest { readable, writable }),
        };
        let mut header = [0; HEADER];
        chain.readable.read(0, &mut header);
        let status = match self.carry_out(&header, payload, chain, negotiated) {
            Ok(()) => Status::Ok,
            Err(status) => {
                chain.writable.zero(0, payload.into);
                status
            }
        };
        chain.writable.write(payload.into, &[status as u8]);
        Ok(writable as u32)
    }

    fn carry_out(
        &self,
        header: &[u8; HEADER],
        payload: Payload,
        chain: &Buffers<'_>,
        negotiated: &Negotiated,
    ) -> Result<(), Status> {
        let geometry = negotiated.geometry();
        let request = parse(header, payload, &geometry)?;
        let done = match request {
            Request::Read { offset } => self.image.read(offset, &chain.writable, payload.into),
            Request::Write { offset } => self.image.write(offset, &chain.readable, HEADER, payload.out),
            Request::Flush => self.image.flush(),
            Request::GetId => {
                let written = chain.writable.write(0, &self.serial[..SERIAL.min(payload.into)]);
                chain.writable.zero(written, payload.into - written);
                Ok(())
            }
            Request::Clear(clear) => {
                let mut raw = [0; MAX_EXTENTS * EXTENT];
                let len = chain.readable.read(HEADER, &mut raw);
                let extents = extents(clear, &raw[..len], &geometry)?;
                extents.into_iter().try_for_each(|extent| self.image.clear(clear, extent))
            }
        };
        let changes = matches!(request, Request::Write { .. } | Request::Clear(Clear::WriteZeroes));
        let done = match done {
            Ok(()) if changes && negotiated.write_through() => self.image.flush(),
            done => done,
        };
        done.map_err(|error| self.report(&request, &error))
    }

    /// The first error of the image is logged for the operator; the driver gets its status either way.
    fn report(&self, request: &Request, error: &std::io::Error) -> Status {
        if !self.warned.swap(true, Ordering::Relaxed) {
            warn!(
                "image {}: {request:?} failed: {error}; the driver sees an I/O error, further ones are not reported",
                self.image.path().display()
            );
        }
        Status::IoErr
    }
}

const _: () = assert!(MAX_PAYLOAD < u32::MAX as usize && (MAX_PAYLOAD as u64).is_multiple_of(SECTOR));

#[cfg(test)]
mod tests {
    use super::*;
    use crate::blk::config::Shape;
    use crate::ring;
    use proptest::prelude::*;
    use std::io::Write;
    use virtio_bindings::virtio_ring::{VRING_DESC_F_NEXT, VRING_DESC_F_WRITE};
    use virtio_queue::desc::{RawDescriptor, split::Descriptor};
    use virtio_queue::{Queue, mock::MockSplitQueue};
    use vm_memory::{Bytes, GuestAddress, GuestMemoryMmap};

    const SECTORS: u64 = 16;
    const MEMORY: usize = 0x2_0000;
    const HEADER_AT: u64 = 0x8000;

    fn disk(read_only: bool) -> (tempfile::NamedTempFile, Disk, Negotiated) {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(&[0xaa; (SECTORS * SECTOR) as usize]).unwrap();
        let disk = Disk::new(Image::open(file.path(), read_only).unwrap(), "serial");
        let negotiated = Negotiated::new(Shape { read_only, queues: 1, queue_size: 16 }, SECTORS);
        negotiated.accept(negotiated.offered());
        (file, disk, negotiated)
    }

    /// Answers the chain of `parts` (address, length, device-writable) that starts with descriptor 0.
    fn answer(
        memory: &GuestMemoryMmap,
        disk: &Disk,
        negotiated: &Negotiated,
        parts: &[(u64, u32, bool)],
    ) -> Option<u32> {
        let mock = MockSplitQueue::new(memory, 16);
        for (index, &(addr, len, writable)) in parts.iter().enumerate() {
            let next = if index + 1 < parts.len() { VRING_DESC_F_NEXT } else { 0 };
            let flags = next | if writable { VRING_DESC_F_WRITE } else { 0 };
            let descriptor = Descriptor::new(addr, len, flags as u16, index as u16 + 1);
            mock.desc_table().store(index as u16, RawDescriptor::from(descriptor)).unwrap();
        }
        mock.avail().idx().store(u16::to_le(1));
        let mut queue: Queue = mock.create_queue().unwrap();
        let chain = ring::pop(&mut queue, memory).unwrap().unwrap();
        let mut buffers = Buffers::default();
        buffers.collect(chain, memory, 16).ok()?;
        disk.answer(&buffers, negotiated).ok()
    }

    #[test]
    fn a_failed_read_vouches_for_zeroes_and_the_status() {
        let memory = GuestMemoryMmap::from_ranges(&[(GuestAddress(0), MEMORY)]).unwrap();
        let (_file, disk, negotiated) = disk(false);
        memory.write_slice(&[0x55; 513], GuestAddress(0x9000)).unwrap();
        // IN of the sector behind the last one.
        memory.write_obj(SECTORS.to_le(), GuestAddress(HEADER_AT + 8)).unwrap();
        let parts = [(HEADER_AT, 16, false), (0x9000, 513, true)];
        assert_eq!(answer(&memory, &disk, &negotiated, &parts), Some(513));
        let mut data = [0; 513];
        memory.read_slice(&mut data, GuestAddress(0x9000)).unwrap();
        assert_eq!((&data[..512], data[512]), (&[0; 512][..], Status::IoErr as u8));
    }

    proptest! {
        /// A chain of any shape and content is answered in full or not at all, and a disk that is read only
        /// stays as it is.
        #[test]
        fn any_chain_is_answered_or_refused(
            kind in 0u32..15, sector in 0u64..SECTORS + 2, read_only: bool,
            cuts in prop::collection::vec((0u64..600, 0u32..1100, any::<bool>()), 0..6), split in 0u32..20,
        ) {
            let memory = GuestMemoryMmap::from_ranges(&[(GuestAddress(0), MEMORY)]).unwrap();
            let (file, disk, negotiated) = disk(read_only);
            memory.write_obj(kind.to_le(), GuestAddress(HEADER_AT)).unwrap();
            memory.write_obj(sector.to_le(), GuestAddress(HEADER_AT + 8)).unwrap();
            // The header is split anywhere or cut short; what follows lies in memory, at its end, or beyond.
            let split = split.min(16);
            let mut parts = vec![(HEADER_AT, split, false), (HEADER_AT + u64::from(split), 16 - split, false)];
            let near_the_end = |addr| MEMORY as u64 - 0x5000 + addr * 0x20;
            parts.extend(cuts.iter().map(|&(addr, len, writable)| (near_the_end(addr), len, writable)));
            let writable: u32 = parts.iter().filter(|part| part.2).map(|part| part.1).sum();

            if let Some(written) = answer(&memory, &disk, &negotiated, &parts) {
                prop_assert_eq!(written, writable);
                let last = parts.iter().rev().find(|part| part.2 && part.1 > 0).unwrap();
                let status: u8 = memory.read_obj(GuestAddress(last.0 + u64::from(last.1) - 1)).unwrap();
                prop_assert!(status <= Status::Unsupported as u8);
            }
            let image = std::fs::read(file.path()).unwrap();
            prop_assert_eq!(image.len() as u64, SECTORS * SECTOR);
            if read_only {
                prop_assert!(image.iter().all(|&byte| byte == 0xaa));
            }
        }
    }
}
