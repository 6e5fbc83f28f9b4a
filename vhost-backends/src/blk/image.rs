//! The raw image file, or block device, behind a disk.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Seek, SeekFrom};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::fs::{FallocateFlags, fallocate};
use rustix::io::Errno;

use super::request::{Clear, Extent, SECTOR};
use super::vectored;
use crate::Error;
use crate::chain::Segments;

/// An open image. It is locked (flock) while it is open: shared if read only, else exclusively.
#[derive(Debug)]
pub(crate) struct Image {
    file: File,
    path: PathBuf,
    sectors: AtomicU64,
}

impl Image {
    /// Opens and locks the image. Its size is its capacity until it is found to have grown.
    pub(crate) fn open(path: &Path, read_only: bool) -> Result<Self, Error> {
        let cannot_open = |source| Error::Image { path: path.into(), source };
        let mut file = OpenOptions::new().read(true).write(!read_only).open(path).map_err(cannot_open)?;
        let locked = if read_only { file.try_lock_shared() } else { file.try_lock() };
        locked.map_err(|error| match error {
            TryLockError::WouldBlock => Error::ImageInUse { path: path.into() },
            TryLockError::Error(source) => cannot_open(source),
        })?;
        // Not the metadata: a block device has a length there of zero.
        let bytes = file.seek(SeekFrom::End(0)).map_err(cannot_open)?;
        if bytes == 0 || !bytes.is_multiple_of(SECTOR) {
            return Err(Error::ImageSize { path: path.into(), bytes });
        }
        Ok(Self { file, path: path.into(), sectors: AtomicU64::new(bytes / SECTOR) })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Capacity in sectors of 512 bytes.
    pub(crate) fn sectors(&self) -> u64 {
        self.sectors.load(Ordering::Relaxed)
    }

    /// Looks whether the file has grown, and returns the capacity. One that was cut short keeps its capacity:
    /// what lies behind its end fails request by request, and a driver that still knows it is told so.
    pub(crate) fn look_again(&self) -> u64 {
        // Nothing else uses the file's position.
        let found = (&self.file).seek(SeekFrom::End(0)).map_or(0, |bytes| bytes / SECTOR);
        self.sectors.fetch_max(found, Ordering::Relaxed).max(found)
    }

    /// Reads `len` bytes at `offset` into guest memory.
    pub(crate) fn read(&self, offset: u64, into: &Segments<'_>, len: usize) -> io::Result<()> {
        vectored::read(&self.file, offset, into, len)
    }

    /// Writes `len` bytes of guest memory, after `skip` bytes of it, at `offset`.
    pub(crate) fn write(&self, offset: u64, from: &Segments<'_>, skip: usize, len: usize) -> io::Result<()> {
        vectored::write(&self.file, offset, from, skip, len)
    }

    /// Returns when everything written before is on stable storage.
    pub(crate) fn flush(&self) -> io::Result<()> {
        self.file.sync_data()
    }

    /// Takes the content of `extent` away.
    pub(crate) fn clear(&self, clear: Clear, extent: Extent) -> io::Result<()> {
        match (clear, extent) {
            (_, Extent { len: 0, .. }) => Ok(()),
            (Clear::Discard, extent) => match self.allocate(FallocateFlags::PUNCH_HOLE, extent) {
                // 5.2.6.2: a discarded range may also just stay. A file system that cannot punch keeps it.
                Err(Errno::OPNOTSUPP) => Ok(()),
                result => Ok(result?),
            },
            (Clear::WriteZeroes, extent) => self.write_zeroes(extent),
        }
    }

    /// A hole if the driver allows one, else allocated zeroes, else zeroes written out: the first that works.
    fn write_zeroes(&self, extent: Extent) -> io::Result<()> {
        if extent.unmap && self.allocate(FallocateFlags::PUNCH_HOLE, extent).is_ok() {
            return Ok(());
        }
        match self.allocate(FallocateFlags::ZERO_RANGE, extent) {
            Err(Errno::OPNOTSUPP) => self.write_zeroes_out(extent),
            result => Ok(result?),
        }
    }

    fn write_zeroes_out(&self, extent: Extent) -> io::Result<()> {
        static ZEROES: [u8; 1 << 16] = [0; 1 << 16];
        let mut done = 0;
        while done < extent.len {
            let count = ZEROES.len().min((extent.len - done) as usize);
            self.file.write_all_at(&ZEROES[..count], extent.offset + done)?;
            done += count as u64;
        }
        Ok(())
    }

    fn allocate(&self, flags: FallocateFlags, extent: Extent) -> Result<(), Errno> {
        loop {
            match fallocate(&self.file, flags | FallocateFlags::KEEP_SIZE, extent.offset, extent.len) {
                Err(Errno::INTR) => {}
                result => return result,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    fn image_of(bytes: &[u8]) -> tempfile::NamedTempFile {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(bytes).unwrap();
        file
    }

    #[test]
    fn an_image_is_whole_sectors_and_not_empty() {
        for len in [0, 511, 513] {
            let file = image_of(&vec![1; len]);
            let error = Image::open(file.path(), false).unwrap_err();
            assert!(matches!(error, Error::ImageSize { bytes, .. } if bytes == len as u64), "{error}");
        }
        assert_eq!(Image::open(image_of(&[1; 1024]).path(), false).unwrap().sectors(), 2);
    }

    #[test]
    fn an_image_that_grows_is_noticed_and_one_that_shrinks_keeps_its_capacity() {
        let file = image_of(&[1; 1024]);
        let image = Image::open(file.path(), false).unwrap();
        file.as_file().set_len(2048 + 511).unwrap();
        assert_eq!((image.sectors(), image.look_again(), image.sectors()), (2, 4, 4));
        file.as_file().set_len(512).unwrap();
        assert_eq!((image.look_again(), image.sectors()), (4, 4));
    }

    #[test]
    fn one_writer_or_many_readers() {
        let file = image_of(&[1; 512]);
        let reader = Image::open(file.path(), true).unwrap();
        let _another = Image::open(file.path(), true).unwrap();
        let error = Image::open(file.path(), false).unwrap_err();
        assert!(matches!(error, Error::ImageInUse { .. }), "{error}");
        drop((reader, _another));
        let _writer = Image::open(file.path(), false).unwrap();
        assert!(Image::open(file.path(), true).is_err());
    }

    /// All three ways to zeroes end in zeroes, and touch nothing beside the extent.
    #[test]
    fn zeroes_are_zeroes_however_they_come_about() {
        let expected: Vec<u8> = [[1u8; 4096], [0; 4096], [1; 4096]].concat();
        let extent = |unmap| Extent { offset: 4096, len: 4096, unmap };
        type Way = fn(&Image, Extent) -> io::Result<()>;
        let ways: [(&str, bool, Way); 3] = [
            ("hole", true, |image, extent| image.clear(Clear::WriteZeroes, extent)),
            ("range", false, |image, extent| image.clear(Clear::WriteZeroes, extent)),
            ("written", false, |image, extent| image.write_zeroes_out(extent)),
        ];
        for (name, unmap, zero) in ways {
            let file = image_of(&[1; 3 * 4096]);
            zero(&Image::open(file.path(), false).unwrap(), extent(unmap)).unwrap();
            assert_eq!(std::fs::read(file.path()).unwrap(), expected, "{name}");
        }
    }
}
