//! What a block request asks for, judged against what the disk is: no memory, no file, no clock.
//!
//! virtio 1.3, 5.2.6. A request is a header that the device reads, a payload in one direction, and a status
//! byte that the device writes. [`parse`] sees the header and the two payload lengths; what it lets through
//! can be carried out without a further check of range, direction or permission.

use virtio_bindings::virtio_blk::{
    VIRTIO_BLK_S_IOERR, VIRTIO_BLK_S_OK, VIRTIO_BLK_S_UNSUPP, VIRTIO_BLK_T_DISCARD, VIRTIO_BLK_T_FLUSH,
    VIRTIO_BLK_T_GET_ID, VIRTIO_BLK_T_IN, VIRTIO_BLK_T_OUT, VIRTIO_BLK_T_WRITE_ZEROES,
    VIRTIO_BLK_WRITE_ZEROES_FLAG_UNMAP,
};

/// The unit of every address and length in a request, in bytes, whatever `blk_size` says (5.2.4).
pub(crate) const SECTOR: u64 = 512;

/// Length of `struct virtio_blk_req` before its data: le32 type, le32 reserved, le64 sector.
pub(crate) const HEADER: usize = 16;

/// Length of `struct virtio_blk_discard_write_zeroes`: le64 sector, le32 num_sectors, le32 flags.
pub(crate) const EXTENT: usize = 16;

/// Longest payload in bytes: what OVMF sends in one request at most. A longer chain is malformed.
pub(crate) const MAX_PAYLOAD: usize = 1 << 30;

/// Most extents in one DISCARD or WRITE_ZEROES: `max_discard_seg` and `max_write_zeroes_seg`.
pub(crate) const MAX_EXTENTS: usize = 16;

/// Longest extent of a DISCARD in sectors (1 GiB): one system call, whatever the length.
pub(crate) const MAX_DISCARD_SECTORS: u32 = 1 << 21;

/// Longest extent of a WRITE_ZEROES in sectors (4 MiB): where a file system cannot do it, zeroes are written.
pub(crate) const MAX_WRITE_ZEROES_SECTORS: u32 = 1 << 13;

/// The status byte (5.2.6).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Status {
    /// The request was carried out.
    Ok = VIRTIO_BLK_S_OK as u8,
    /// The request is invalid, the disk refuses it, or the image gave an error.
    IoErr = VIRTIO_BLK_S_IOERR as u8,
    /// A type, or a flag of it, that this disk does not have.
    Unsupported = VIRTIO_BLK_S_UNSUPP as u8,
}

/// What a request is judged against.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Geometry {
    /// Capacity in sectors of 512 bytes.
    pub(crate) sectors: u64,
    /// Refuse whatever changes the image.
    pub(crate) read_only: bool,
    /// The driver accepted VIRTIO_BLK_F_DISCARD.
    pub(crate) discard: bool,
    /// The driver accepted VIRTIO_BLK_F_WRITE_ZEROES.
    pub(crate) write_zeroes: bool,
}

/// Lengths of what lies between header and status, in bytes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Payload {
    /// Bytes that the device reads.
    pub(crate) out: usize,
    /// Bytes that the device writes.
    pub(crate) into: usize,
}

/// A request that may be carried out. Offsets are bytes into the image; the payload fits behind them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Request {
    Read {
        offset: u64,
    },
    Write {
        offset: u64,
    },
    Flush,
    GetId,
    /// The payload is extents, to be read with [`extents`].
    Clear(Clear),
}

/// How extents lose their content.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Clear {
    Discard,
    WriteZeroes,
}

/// A range of the image, in bytes, inside of the capacity.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Extent {
    pub(crate) offset: u64,
    pub(crate) len: u64,
    /// WRITE_ZEROES only: the range may be deallocated.
    pub(crate) unmap: bool,
}

/// Says what a request asks for, or the status that refuses it.
pub(crate) fn parse(header: &[u8; HEADER], payload: Payload, disk: &Geometry) -> Result<Request, Status> {
    let [t0, t1, t2, t3, _, _, _, _, sector @ ..] = *header;
    let sector = u64::from_le_bytes(sector);
    match u32::from_le_bytes([t0, t1, t2, t3]) {
        VIRTIO_BLK_T_IN if payload.out == 0 => {
            Ok(Request::Read { offset: span(sector, payload.into, disk)? })
        }
        VIRTIO_BLK_T_OUT if payload.into == 0 && !disk.read_only => {
            Ok(Request::Write { offset: span(sector, payload.out, disk)? })
        }
        VIRTIO_BLK_T_FLUSH if payload.out == 0 && payload.into == 0 => Ok(Request::Flush),
        VIRTIO_BLK_T_GET_ID if payload.out == 0 => Ok(Request::GetId),
        VIRTIO_BLK_T_DISCARD if disk.discard => clear(Clear::Discard, payload, disk),
        VIRTIO_BLK_T_WRITE_ZEROES if disk.write_zeroes => clear(Clear::WriteZeroes, payload, disk),
        VIRTIO_BLK_T_IN | VIRTIO_BLK_T_OUT | VIRTIO_BLK_T_FLUSH | VIRTIO_BLK_T_GET_ID => Err(Status::IoErr),
        _ => Err(Status::Unsupported),
    }
}

/// The extents of a DISCARD or WRITE_ZEROES payload. None of them may be acted upon unless all are good.
pub(crate) fn extents(clear: Clear, payload: &[u8], disk: &Geometry) -> Result<Vec<Extent>, Status> {
    let (extents, rest) = payload.as_chunks::<EXTENT>();
    if extents.is_empty() || !rest.is_empty() || extents.len() > MAX_EXTENTS {
        return Err(Status::IoErr);
    }
    extents.iter().map(|raw| extent(clear, raw, disk)).collect()
}

fn extent(clear: Clear, raw: &[u8; EXTENT], disk: &Geometry) -> Result<Extent, Status> {
    let [s0, s1, s2, s3, s4, s5, s6, s7, n0, n1, n2, n3, flags @ ..] = *raw;
    let sector = u64::from_le_bytes([s0, s1, s2, s3, s4, s5, s6, s7]);
    let sectors = u32::from_le_bytes([n0, n1, n2, n3]);
    // 5.2.6.2: UNSUPP for an unknown flag, and for unmap in a DISCARD.
    let (limit, unmap) = match (clear, u32::from_le_bytes(flags)) {
        (Clear::Discard, 0) => (MAX_DISCARD_SECTORS, false),
        (Clear::WriteZeroes, 0) => (MAX_WRITE_ZEROES_SECTORS, false),
        (Clear::WriteZeroes, VIRTIO_BLK_WRITE_ZEROES_FLAG_UNMAP) => (MAX_WRITE_ZEROES_SECTORS, true),
        _ => return Err(Status::Unsupported),
    };
    match sector.checked_add(sectors.into()) {
        Some(end) if end <= disk.sectors && sectors <= limit => {
            Ok(Extent { offset: sector * SECTOR, len: u64::from(sectors) * SECTOR, unmap })
        }
        _ => Err(Status::IoErr),
    }
}

fn clear(clear: Clear, payload: Payload, disk: &Geometry) -> Result<Request, Status> {
    let len_is_good =
        payload.out.is_multiple_of(EXTENT) && (1..=MAX_EXTENTS).contains(&(payload.out / EXTENT));
    if payload.into == 0 && len_is_good && !disk.read_only {
        Ok(Request::Clear(clear))
    } else {
        Err(Status::IoErr)
    }
}

/// Where in the image `len` bytes from `sector` on lie, if they are whole sectors inside of the capacity.
fn span(sector: u64, len: usize, disk: &Geometry) -> Result<u64, Status> {
    let len = len as u64;
    match sector.checked_add(len / SECTOR) {
        Some(end) if end <= disk.sectors && len.is_multiple_of(SECTOR) => Ok(sector * SECTOR),
        _ => Err(Status::IoErr),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const DISK: Geometry = Geometry { sectors: 64, read_only: false, discard: true, write_zeroes: true };

    fn header(kind: u32, sector: u64) -> [u8; HEADER] {
        let mut header = [0; HEADER];
        header[..4].copy_from_slice(&kind.to_le_bytes());
        header[8..].copy_from_slice(&sector.to_le_bytes());
        header
    }

    fn raw_extent(sector: u64, sectors: u32, flags: u32) -> [u8; EXTENT] {
        let mut raw = [0; EXTENT];
        raw[..8].copy_from_slice(&sector.to_le_bytes());
        raw[8..12].copy_from_slice(&sectors.to_le_bytes());
        raw[12..].copy_from_slice(&flags.to_le_bytes());
        raw
    }

    #[test]
    fn each_type_is_judged_by_range_direction_and_permission() {
        let read_only = Geometry { read_only: true, ..DISK };
        let plain = Geometry { discard: false, write_zeroes: false, ..DISK };
        let cases = [
            // type, sector, out, into, disk -> answer
            (VIRTIO_BLK_T_IN, 63, 0, 512, DISK, Ok(Request::Read { offset: 63 * 512 })),
            (VIRTIO_BLK_T_IN, 63, 0, 1024, DISK, Err(Status::IoErr)),
            (VIRTIO_BLK_T_IN, 64, 0, 0, DISK, Ok(Request::Read { offset: 64 * 512 })),
            (VIRTIO_BLK_T_IN, u64::MAX, 0, 512, DISK, Err(Status::IoErr)),
            (VIRTIO_BLK_T_IN, 0, 0, 511, DISK, Err(Status::IoErr)),
            (VIRTIO_BLK_T_IN, 0, 512, 512, DISK, Err(Status::IoErr)),
            (VIRTIO_BLK_T_OUT, 1, 512, 0, DISK, Ok(Request::Write { offset: 512 })),
            (VIRTIO_BLK_T_OUT, 1, 512, 512, DISK, Err(Status::IoErr)),
            (VIRTIO_BLK_T_OUT, 1, 512, 0, read_only, Err(Status::IoErr)),
            (VIRTIO_BLK_T_FLUSH, 0, 0, 0, read_only, Ok(Request::Flush)),
            (VIRTIO_BLK_T_FLUSH, 0, 1, 0, DISK, Err(Status::IoErr)),
            (VIRTIO_BLK_T_GET_ID, 0, 0, 20, DISK, Ok(Request::GetId)),
            (VIRTIO_BLK_T_DISCARD, 0, 16, 0, DISK, Ok(Request::Clear(Clear::Discard))),
            (VIRTIO_BLK_T_DISCARD, 0, 16, 0, plain, Err(Status::Unsupported)),
            (VIRTIO_BLK_T_DISCARD, 0, 16, 0, read_only, Err(Status::IoErr)),
            (VIRTIO_BLK_T_DISCARD, 0, 16 * 17, 0, DISK, Err(Status::IoErr)),
            (VIRTIO_BLK_T_WRITE_ZEROES, 0, 32, 0, DISK, Ok(Request::Clear(Clear::WriteZeroes))),
            (VIRTIO_BLK_T_WRITE_ZEROES, 0, 17, 0, DISK, Err(Status::IoErr)),
            (VIRTIO_BLK_T_WRITE_ZEROES, 0, 0, 0, DISK, Err(Status::IoErr)),
            (14, 0, 16, 0, DISK, Err(Status::Unsupported)),
        ];
        for (kind, sector, out, into, disk, expected) in cases {
            let answer = parse(&header(kind, sector), Payload { out, into }, &disk);
            assert_eq!(answer, expected, "type {kind} sector {sector} out {out} in {into}");
        }
    }

    #[test]
    fn one_bad_extent_refuses_all() {
        let good = raw_extent(0, 8, 0);
        let read = |clear, raw: &[[u8; EXTENT]]| extents(clear, raw.as_flattened(), &DISK);
        assert_eq!(
            read(Clear::WriteZeroes, &[good, raw_extent(60, 4, 1)]).unwrap(),
            [
                Extent { offset: 0, len: 4096, unmap: false },
                Extent { offset: 60 * 512, len: 2048, unmap: true }
            ]
        );
        assert_eq!(read(Clear::Discard, &[good, raw_extent(60, 5, 0)]), Err(Status::IoErr));
        assert_eq!(read(Clear::Discard, &[good, raw_extent(u64::MAX, 5, 0)]), Err(Status::IoErr));
        assert_eq!(read(Clear::Discard, &[good, raw_extent(0, 1, 1)]), Err(Status::Unsupported));
        assert_eq!(read(Clear::WriteZeroes, &[good, raw_extent(0, 1, 2)]), Err(Status::Unsupported));
        let huge = Geometry { sectors: u64::MAX, ..DISK };
        let too_long = raw_extent(0, MAX_WRITE_ZEROES_SECTORS + 1, 0);
        assert_eq!(extents(Clear::WriteZeroes, &too_long, &huge), Err(Status::IoErr));
    }

    proptest! {
        /// Nothing that is let through reaches beyond the capacity or writes to a disk that is read only.
        #[test]
        fn what_is_let_through_is_safe(
            kind in 0u32..16, sector in prop_oneof![0u64..80, any::<u64>()],
            out in prop_oneof![Just(0usize), (0usize..80).prop_map(|n| n * 512), 0usize..600],
            into in prop_oneof![Just(0usize), (0usize..80).prop_map(|n| n * 512), 0usize..600],
            read_only: bool,
        ) {
            let disk = Geometry { read_only, ..DISK };
            match parse(&header(kind, sector), Payload { out, into }, &disk) {
                Ok(Request::Read { offset }) => prop_assert!(offset + into as u64 <= 64 * SECTOR),
                Ok(Request::Write { offset }) => {
                    prop_assert!(offset + out as u64 <= 64 * SECTOR && !read_only);
                }
                Ok(Request::Clear(_)) => prop_assert!(!read_only),
                Ok(Request::Flush | Request::GetId) => {}
                Err(status) => prop_assert_ne!(status, Status::Ok),
            }
        }

        #[test]
        fn extents_stay_inside(raw: Vec<u8>, discard: bool) {
            let clear = if discard { Clear::Discard } else { Clear::WriteZeroes };
            for extent in extents(clear, &raw, &DISK).unwrap_or_default() {
                prop_assert!(extent.offset + extent.len <= 64 * SECTOR);
            }
        }
    }
}
