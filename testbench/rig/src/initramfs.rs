//! Files of a test's own for a guest: an archive that stands behind the initial RAM disk. The kernel unpacks
//! one after the other (Linux, Documentation/driver-api/early-userspace/buffer-format.rst).

use std::{
    fs, io,
    path::{Path, PathBuf},
};

/// Mode of a program that every user may run (inode(7)).
const PROGRAM: u32 = 0o100_755;
/// Archives begin at a multiple of four.
const ALIGNMENT: usize = 4;

/// Writes `initrd` with `programs` behind it to `to`: each a file of this machine, which must want no
/// library, and its place in the guest, in a folder that the initial RAM disk has.
///
/// # Errors
/// A file that cannot be read or written, with its path.
pub fn with_programs(initrd: &Path, programs: &[(PathBuf, &str)], to: &Path) -> io::Result<()> {
    let named =
        |path: &Path, error: io::Error| io::Error::new(error.kind(), format!("{}: {error}", path.display()));
    let read = |path: &Path| fs::read(path).map_err(|error| named(path, error));
    let mut bytes = read(initrd)?;
    pad(&mut bytes);
    for (number, (path, place)) in (1..).zip(programs) {
        record(&mut bytes, number, PROGRAM, place, &read(path)?)?;
    }
    record(&mut bytes, 0, 0, "TRAILER!!!", &[])?;
    fs::write(to, bytes).map_err(|error| named(to, error))
}

/// One entry of the format "newc": header, name and contents, each padded.
fn record(bytes: &mut Vec<u8>, number: u32, mode: u32, name: &str, data: &[u8]) -> io::Result<()> {
    let too_large =
        |_| io::Error::new(io::ErrorKind::FileTooLarge, format!("{name}: an archive holds 4 GiB at most"));
    let size = u32::try_from(data.len()).map_err(too_large)?;
    let name_size = u32::try_from(name.len() + 1).map_err(too_large)?;
    bytes.extend_from_slice(b"070701");
    // c_ino c_mode c_uid c_gid c_nlink c_mtime c_filesize c_maj c_min c_rmaj c_rmin c_namesize c_chksum
    for field in [number, mode, 0, 0, 1, 0, size, 0, 0, 0, 0, name_size, 0] {
        bytes.extend_from_slice(format!("{field:08X}").as_bytes());
    }
    bytes.extend_from_slice(name.as_bytes());
    bytes.push(0);
    pad(bytes);
    bytes.extend_from_slice(data);
    pad(bytes);
    Ok(())
}

fn pad(bytes: &mut Vec<u8>) {
    bytes.resize(bytes.len().next_multiple_of(ALIGNMENT), 0);
}
