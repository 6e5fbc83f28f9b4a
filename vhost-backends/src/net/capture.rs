//! What passes a port, as a capture file that Wireshark opens at any moment.

use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use pcap_file::pcap::{PcapHeader, PcapPacket, PcapWriter};
use pcap_file::{DataLink, Endianness, TsResolution};
use tracing::warn;

use crate::Error;

/// Longest frame that is kept whole. Wireshark takes no more, and our frames are shorter.
const SNAPLEN: u32 = 262_144;

/// Length of the file header of the format in bytes.
const FILE_HEADER: usize = 24;

/// A capture of both directions through a port.
///
/// Records are gathered in memory and written whole by [`Capture::flush`], so that the file never ends within
/// one.
#[derive(Debug)]
pub(crate) struct Capture {
    path: PathBuf,
    /// Nothing once writing failed.
    file: Option<File>,
    /// Length of the file up to its last whole record.
    len: u64,
    /// A capture of its own. All but the file header of it is still to be written.
    pending: PcapWriter<Vec<u8>>,
    /// Whether `pending` has records.
    dirty: bool,
}

impl Capture {
    /// Makes the file, or empties it, and writes its header.
    pub(crate) fn create(path: &Path) -> Result<Self, Error> {
        let pending = start(Vec::new()).map_err(io::Error::other);
        let created = pending.and_then(|pending| {
            let mut file = File::create(path)?;
            file.write_all(&start(Vec::new()).map_err(io::Error::other)?.into_writer())?;
            Ok(Self { path: path.into(), file: Some(file), len: FILE_HEADER as u64, pending, dirty: false })
        });
        created.map_err(|source| Error::Capture { path: path.into(), source })
    }

    /// Records a frame as it was handed over, its checksum perhaps undone, at `time` since the Unix epoch.
    pub(crate) fn record(&mut self, time: Duration, frame: &[u8]) {
        if self.file.is_none() {
            return;
        }
        match self.pending.write_packet(&PcapPacket::new(time, frame.len() as u32, frame)) {
            Ok(_) => self.dirty = true,
            Err(error) => self.give_up(&error),
        }
    }

    /// Writes what was recorded since the last time.
    ///
    /// When that fails, e.g. because the disk is full, the file is cut back to whole records and the capture
    /// ends. The switch continues.
    pub(crate) fn flush(&mut self) {
        let Some(file) = &mut self.file else { return };
        if !std::mem::take(&mut self.dirty) {
            return;
        }
        let fresh = match start(Vec::new()) {
            Ok(fresh) => fresh,
            Err(error) => return self.give_up(&error),
        };
        let bytes = std::mem::replace(&mut self.pending, fresh).into_writer();
        let records = bytes.get(FILE_HEADER..).unwrap_or_default();
        match file.write_all(records) {
            Ok(()) => self.len += records.len() as u64,
            Err(error) => {
                // Best effort: a full disk does not keep us from shortening a file.
                let _ = file.set_len(self.len);
                self.give_up(&error);
            }
        }
    }

    fn give_up(&mut self, error: &dyn std::error::Error) {
        warn!(
            "capture file {}: {error}; the capture ends here, the switch goes on. Free space and restart to capture again",
            self.path.display()
        );
        self.file = None;
    }
}

fn start(buffer: Vec<u8>) -> Result<PcapWriter<Vec<u8>>, pcap_file::PcapError> {
    let header = PcapHeader {
        snaplen: SNAPLEN,
        datalink: DataLink::ETHERNET,
        ts_resolution: TsResolution::NanoSecond,
        endianness: Endianness::native(),
        ..PcapHeader::default()
    };
    PcapWriter::with_header(buffer, header)
}

#[cfg(test)]
mod tests {
    use super::*;
    use pcap_file::pcap::PcapReader;

    fn read(path: &Path) -> Vec<(Duration, Vec<u8>)> {
        let mut reader = PcapReader::new(File::open(path).unwrap()).unwrap();
        let mut packets = Vec::new();
        while let Some(packet) = reader.next_packet() {
            let packet = packet.unwrap();
            packets.push((packet.timestamp, packet.data.into_owned()));
        }
        packets
    }

    #[test]
    fn the_file_is_whole_after_each_flush() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("port0.pcap");
        let mut capture = Capture::create(&path).unwrap();
        assert_eq!(read(&path), []);
        let first = (Duration::new(1_700_000_000, 123_456_789), vec![7; 60]);
        capture.record(first.0, &first.1);
        assert_eq!(read(&path), [], "not flushed yet, and not half written");
        capture.flush();
        let long = (Duration::new(1_700_000_001, 1), vec![8; 65_550]);
        capture.record(long.0, &long.1);
        capture.flush();
        assert_eq!(read(&path), [first, long]);
    }

    #[test]
    fn a_full_disk_ends_the_capture_and_nothing_else() {
        let mut capture = Capture::create(Path::new("/dev/full"));
        assert!(matches!(capture, Err(Error::Capture { .. })), "not even the header fits");

        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("port0.pcap");
        capture = Capture::create(&path);
        let mut capture = capture.unwrap();
        capture.file = Some(File::options().write(true).open("/dev/full").unwrap());
        capture.record(Duration::ZERO, &[7; 60]);
        capture.flush();
        assert!(capture.file.is_none());
        capture.record(Duration::ZERO, &[7; 60]);
        capture.flush();
        assert_eq!(read(&path), []);
    }
}
