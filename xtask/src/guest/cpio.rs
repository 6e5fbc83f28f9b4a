//! Writes an initramfs: the format "newc" of Linux,
//! Documentation/driver-api/early-userspace/buffer-format.rst.
//!
//! Entries are sorted, belong to root, are numbered in order and have no time, so equal contents give equal
//! bytes, and no privilege is needed for a device node.

use std::collections::BTreeMap;

use anyhow::{Result, bail};

/// What stands at a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Entry {
    /// A folder, mode 0755.
    Folder,
    /// A file that every user may read, and run when it is executable.
    File { data: Vec<u8>, executable: bool },
    /// A symbolic link and where it leads.
    Link(String),
    /// A character device: major and minor number.
    Device(u32, u32),
}

/// A tree of files by path, without a leading slash.
#[derive(Debug, Default)]
pub struct Archive {
    entries: BTreeMap<String, Entry>,
}

impl Archive {
    /// Adds an entry and the folders above it; what is there already stays.
    pub fn add(&mut self, path: &str, entry: Entry) {
        let path = path.trim_matches('/');
        for (end, _) in path.match_indices('/') {
            self.entries.entry(path[..end].to_owned()).or_insert(Entry::Folder);
        }
        self.entries.entry(path.to_owned()).or_insert(entry);
    }

    /// The archive's bytes.
    ///
    /// # Errors
    /// When a file is larger than the format can say (4 GiB).
    pub fn bytes(&self) -> Result<Vec<u8>> {
        let mut bytes = Vec::new();
        // A folder sorts before what it holds, which is all that the kernel asks for.
        for (number, (path, entry)) in (1..).zip(&self.entries) {
            entry.write(number, path, &mut bytes)?;
        }
        record(&mut bytes, Head { links: 1, ..Head::default() }, "TRAILER!!!", &[])?;
        Ok(bytes)
    }
}

impl Entry {
    fn write(&self, number: u32, path: &str, bytes: &mut Vec<u8>) -> Result<()> {
        // File types and permissions of inode(7).
        let head = |mode| Head { number, mode, links: 1, ..Head::default() };
        match self {
            Self::Folder => record(bytes, Head { links: 2, ..head(0o040_755) }, path, &[]),
            Self::File { data, executable: true } => record(bytes, head(0o100_755), path, data),
            Self::File { data, executable: false } => record(bytes, head(0o100_644), path, data),
            Self::Link(target) => record(bytes, head(0o120_777), path, target.as_bytes()),
            Self::Device(major, minor) => {
                record(bytes, Head { device: (*major, *minor), ..head(0o020_600) }, path, &[])
            }
        }
    }
}

/// The fields of a header that are not always zero.
#[derive(Default)]
struct Head {
    number: u32,
    mode: u32,
    links: u32,
    device: (u32, u32),
}

/// One header, name and contents, each padded to four bytes.
fn record(bytes: &mut Vec<u8>, head: Head, name: &str, data: &[u8]) -> Result<()> {
    let Ok(size) = u32::try_from(data.len()) else {
        bail!("{name} has {} bytes, a cpio entry at most 4 GiB", data.len())
    };
    let Ok(name_size) = u32::try_from(name.len() + 1) else { bail!("a name of {} bytes", name.len()) };
    let (major, minor) = head.device;
    // c_ino c_mode c_uid c_gid c_nlink c_mtime c_filesize c_maj c_min c_rmaj c_rmin c_namesize c_chksum
    let fields = [head.number, head.mode, 0, 0, head.links, 0, size, 0, 0, major, minor, name_size, 0];
    bytes.extend_from_slice(b"070701");
    for field in fields {
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
    bytes.resize(bytes.len().next_multiple_of(4), 0);
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One record as an independent reading of the format sees it.
    #[derive(Debug, PartialEq, Eq)]
    struct Record {
        name: String,
        mode: u32,
        links: u32,
        device: (u32, u32),
        data: Vec<u8>,
    }

    fn read(mut bytes: &[u8]) -> Vec<Record> {
        let whole = bytes.len();
        let mut records = Vec::new();
        while !bytes.is_empty() {
            assert_eq!(&bytes[..6], b"070701");
            let field = |index: usize| {
                let text = std::str::from_utf8(&bytes[6 + 8 * index..][..8]).unwrap();
                u32::from_str_radix(text, 16).unwrap()
            };
            assert_eq!([field(2), field(3), field(5), field(12)], [0; 4], "owner, group, time, checksum");
            let (size, name_size) = (field(6) as usize, field(11) as usize);
            let name = std::str::from_utf8(&bytes[110..110 + name_size - 1]).unwrap().to_owned();
            let data = (110 + name_size).next_multiple_of(4);
            records.push(Record {
                name,
                mode: field(1),
                links: field(4),
                device: (field(9), field(10)),
                data: bytes[data..data + size].to_vec(),
            });
            bytes = &bytes[(data + size).next_multiple_of(4)..];
            assert_eq!((whole - bytes.len()) % 4, 0);
        }
        records
    }

    fn sample(paths: &[(&str, Entry)]) -> Vec<u8> {
        let mut archive = Archive::default();
        paths.iter().for_each(|(path, entry)| archive.add(path, entry.clone()));
        archive.bytes().unwrap()
    }

    #[test]
    fn what_is_written_can_be_read_back() {
        let init = Entry::File { data: b"#!/bin/sh\n".to_vec(), executable: true };
        let bytes = sample(&[
            ("dev/console", Entry::Device(5, 1)),
            ("/init", init),
            ("etc/hosts", Entry::File { data: b"x".to_vec(), executable: false }),
            ("bin", Entry::Link("usr/bin".into())),
        ]);
        let record = |name: &str, mode, links, device, data: &[u8]| Record {
            name: name.into(),
            mode,
            links,
            device,
            data: data.into(),
        };
        let expected = [
            record("bin", 0o120_777, 1, (0, 0), b"usr/bin"),
            record("dev", 0o040_755, 2, (0, 0), b""),
            record("dev/console", 0o020_600, 1, (5, 1), b""),
            record("etc", 0o040_755, 2, (0, 0), b""),
            record("etc/hosts", 0o100_644, 1, (0, 0), b"x"),
            record("init", 0o100_755, 1, (0, 0), b"#!/bin/sh\n"),
            record("TRAILER!!!", 0, 1, (0, 0), b""),
        ];
        assert_eq!(read(&bytes), expected);
    }

    #[test]
    fn the_order_of_adding_does_not_show_and_what_is_there_stays() {
        let (a, b) = (("a/x", Entry::Link("1".into())), ("b", Entry::Folder));
        assert_eq!(sample(&[a.clone(), b.clone()]), sample(&[b, a.clone()]));
        assert_eq!(sample(&[a.clone(), ("a/x", Entry::Folder)]), sample(&[a]));
    }
}
