//! The memory in which a back end notes what is in flight (vhost-user, *Inflight I/O tracking*): it made it,
//! this side keeps it for its successor.

use std::{
    fs::File,
    os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd},
};

use rustix::{
    fs::{fcntl_get_seals, fstat},
    io::pwrite,
};
use vhost::vhost_user::{VhostUserFrontend, message::VhostUserInflight};

use super::{BackEnd, BackEndError, IN_FLIGHT, Problem};
use crate::config::OnLoss;

/// Bytes before the states of a split ring's descriptors, and of each of those: "QueueRegionSplit",
/// "DescStateSplit".
const HEADER: u64 = 16;
const STATE: u64 = 16;
/// Where `desc_num` stands. Back ends write it when they are given the region, not when a ring starts.
const DESC_NUM: std::ops::Range<u64> = 10..12;

/// The region of one back end.
pub(super) struct InFlight {
    file: File,
    /// Tells the regions of a back end apart.
    inode: u64,
    given: VhostUserInflight,
}

impl InFlight {
    /// Takes what a back end answered for `queues` vrings of `size` descriptors. It is only ever written to,
    /// and never mapped: its maker can cut it short.
    fn new(file: File, mut given: VhostUserInflight, queues: u16, size: u16) -> Result<Self, String> {
        // Only files in memory have seals, and writing to those never blocks.
        if fcntl_get_seals(&file).is_err() {
            return Err("its file is not in memory".into());
        }
        let stat = fstat(&file).map_err(|error| error.to_string())?;
        let there = u64::try_from(stat.st_size).unwrap_or(0);
        let wanted = u64::from(queues) * (HEADER + STATE * u64::from(size));
        let end = given.mmap_offset.checked_add(given.mmap_size);
        if given.mmap_size < wanted || end.is_none_or(|end| end > there) {
            return Err(format!(
                "{} bytes at {} of a file of {there}, for {queues} vrings of {size}",
                given.mmap_size, given.mmap_offset
            ));
        }
        (given.num_queues, given.queue_size) = (queues, size);
        Ok(Self { file, inode: stat.st_ino, given })
    }

    /// Forgets what is noted of vring `index`, which starts anew.
    fn clear(&self, index: u16) -> rustix::io::Result<()> {
        let stride = self.given.mmap_size / u64::from(self.given.num_queues.max(1));
        let start = self.given.mmap_offset + u64::from(index) * stride;
        let length = HEADER + STATE * u64::from(self.given.queue_size);
        for part in [0..DESC_NUM.start, DESC_NUM.end..length] {
            let zeroes = vec![0; (part.end - part.start) as usize];
            let written = pwrite(&self.file, &zeroes, start + part.start)?;
            if written < zeroes.len() {
                return Err(rustix::io::Errno::NOSPC);
            }
        }
        Ok(())
    }
}

/// Where a back end notes what is in flight: what has to be kept for the next process, beside the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct InFlightPlace {
    pub(crate) offset: u64,
    pub(crate) size: u64,
    pub(crate) queues: u16,
    pub(crate) queue_size: u16,
}

impl BackEnd {
    /// The file in which it notes what is in flight, and where, once there is one.
    pub(crate) fn in_flight_place(&self) -> Option<(BorrowedFd<'_>, InFlightPlace)> {
        let InFlight { file, given, .. } = self.in_flight.as_ref()?;
        let &VhostUserInflight { mmap_offset: offset, mmap_size: size, num_queues, queue_size } = given;
        Some((file.as_fd(), InFlightPlace { offset, size, queues: num_queues, queue_size }))
    }

    /// The inode of that file.
    pub(crate) fn in_flight_inode(&self) -> Option<u64> {
        self.in_flight.as_ref().map(|region| region.inode)
    }

    /// Has it continue in the file that was kept of a previous process.
    ///
    /// # Errors
    /// What is wrong with the file.
    pub(crate) fn recall_in_flight(&mut self, file: OwnedFd, place: InFlightPlace) -> Result<(), String> {
        let InFlightPlace { offset, size, queues, queue_size } = place;
        let given = VhostUserInflight::new(size, offset, queues, queue_size);
        self.in_flight = Some(InFlight::new(File::from(file), given, queues, queue_size)?);
        Ok(())
    }

    /// Whether what is in flight is noted by the back end itself.
    pub(crate) fn notes_in_flight(&self) -> bool {
        self.in_flight.is_some()
    }

    /// Whether this side has to keep account of what is outstanding, for a successor.
    pub(crate) fn needs_account(&self) -> bool {
        !self.notes_in_flight() && self.may_return()
    }

    /// Whether it is looked for when it is lost.
    pub(crate) fn may_return(&self) -> bool {
        self.config.on_loss == OnLoss::Reconnect
    }

    /// Hands over the region for what is in flight, which comes from the back end the first time, if it has
    /// such a thing. Before any vring is started.
    pub(super) fn share_in_flight(&mut self, queues: u16, size: u16) -> Result<(), BackEndError> {
        if !self.offer.protocol.contains(IN_FLIGHT) || !self.may_return() {
            return Ok(());
        }
        if self.in_flight.is_none() {
            let wanted = VhostUserInflight::new(0, 0, queues, size);
            let (given, file) =
                self.ask("GET_INFLIGHT_FD", |front_end| front_end.get_inflight_fd(&wanted))?;
            let region = InFlight::new(file, given, queues, size)
                .map_err(|detail| self.error(Problem::Nonsense { message: "GET_INFLIGHT_FD", detail }))?;
            self.in_flight = Some(region);
        }
        let Some(InFlight { file, given, .. }) = &self.in_flight else { return Ok(()) };
        let (given, file) = (*given, file.as_raw_fd());
        self.ask("SET_INFLIGHT_FD", |front_end| front_end.set_inflight_fd(&given, file))
    }

    /// Forgets what was in flight on vring `index`, which starts on fresh rings.
    ///
    /// # Errors
    /// The file cannot be written.
    pub(crate) fn forget_in_flight(&self, index: u16) -> Result<(), BackEndError> {
        let cleared = self.in_flight.as_ref().map_or(Ok(()), |region| region.clear(index));
        cleared.map_err(|error| {
            let detail = format!("its file cannot be written: {error}");
            self.error(Problem::Nonsense { message: "GET_INFLIGHT_FD", detail })
        })
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::FileExt;

    use rustix::fs::{MemfdFlags, memfd_create};

    use super::*;

    fn memory(length: u64) -> File {
        let file = File::from(memfd_create("test", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING).unwrap());
        file.set_len(length).unwrap();
        file
    }

    #[test]
    fn a_vring_is_forgotten_and_its_neighbours_are_not() {
        let file = memory(64 + 2 * 192);
        file.write_all_at(&[0xEE; 64 + 2 * 192], 0).unwrap();
        let given = VhostUserInflight::new(2 * 192, 64, 0, 0);
        let region = InFlight::new(file.try_clone().unwrap(), given, 2, 8).unwrap();
        region.clear(1).unwrap();
        let mut bytes = [0; 64 + 2 * 192];
        file.read_exact_at(&mut bytes, 0).unwrap();
        let kept = |at: usize| at < 64 + 192 || (266..268).contains(&at) || at >= 256 + 16 + 8 * 16;
        for (at, byte) in bytes.iter().enumerate() {
            assert_eq!(*byte, if kept(at) { 0xEE } else { 0 }, "byte {at}");
        }
    }

    #[test]
    fn a_region_that_is_too_small_or_a_pipe_is_nonsense() {
        let given = |size, offset| VhostUserInflight::new(size, offset, 1, 8);
        assert!(InFlight::new(memory(144), given(144, 0), 1, 8).is_ok());
        for (length, given) in
            [(144, given(143, 0)), (144, given(144, 1)), (144, given(144, u64::MAX)), (0, given(144, 0))]
        {
            assert!(InFlight::new(memory(length), given, 1, 8).is_err());
        }
        let (reader, _writer) = std::io::pipe().unwrap();
        assert!(InFlight::new(File::from(OwnedFd::from(reader)), given(144, 0), 1, 8).is_err());
    }
}
