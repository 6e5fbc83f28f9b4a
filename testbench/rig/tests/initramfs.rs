//! The archive that the rig puts behind an initial RAM disk.
#![allow(clippy::unwrap_used, reason = "a test's own functions fail as its tests do")]

use std::{fs, path::Path};

use rig::initramfs::with_programs;

#[test]
fn the_archive_begins_aligned_behind_the_ram_disk() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    fs::write(path("initrd"), b"first").unwrap();
    fs::write(path("program"), b"\x7fELF!").unwrap();
    with_programs(&path("initrd"), &[(path("program"), "usr/bin/trial")], &path("whole")).unwrap();
    let bytes = fs::read(path("whole")).unwrap();
    assert_eq!(&bytes[..8], b"first\0\0\0");
    assert_eq!(&bytes[8..14], b"070701");
    assert_eq!(&bytes[8 + 110..][..14], b"usr/bin/trial\0");
    assert_eq!(&bytes[8 + 124..][..5], b"\x7fELF!");
    assert!(bytes.ends_with(b"TRAILER!!!\0\0\0\0") && bytes.len().is_multiple_of(4));
}

#[test]
fn a_missing_program_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let missing = folder.path().join("missing");
    let error = with_programs(Path::new("/dev/null"), &[(missing, "usr/bin/x")], Path::new("/dev/null"));
    assert!(error.unwrap_err().to_string().contains("missing"));
}
