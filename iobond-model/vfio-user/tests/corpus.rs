//! The corpus that fuzzing starts from: sequences of messages as clients send them, and ways to get them
//! wrong. The files are in the repository; `UPDATE_CORPUS=1 cargo test -p iobond-vfio-user --test corpus`
//! writes them anew.
#![allow(clippy::unwrap_used, clippy::expect_used)] // of tests, and of what carries for them

#[path = "../fuzz/carry.rs"]
mod carry;
mod rig;

use std::{collections::BTreeMap, fs, path::Path};

use carry::{FILES, carry, piece};
use iobond_vfio_user::{Irq, Region, Violation, protocol::*};
use rig::{message, version};
use zerocopy::IntoBytes;

/// What comes of a seed: requests answered with success, with an errno and not at all, or a violation.
type Outcome = Result<[usize; 3], fn(&Violation) -> bool>;

fn ask(command: Command, payload: &[u8]) -> Vec<u8> {
    message(command as u16, command as u16, 0, payload)
}

fn hello() -> Vec<u8> {
    piece(0, &ask(Command::Version, &version("\"max_msg_fds\":16,\"max_data_xfer_size\":1048576")))
}

/// A version and then these messages, each in a piece without descriptors.
fn session(messages: &[Vec<u8>]) -> Vec<u8> {
    let pieces = messages.iter().map(|message| piece(0, message));
    [hello()].into_iter().chain(pieces).collect::<Vec<_>>().concat()
}

fn read(region: Region, offset: u64, count: u32) -> Vec<u8> {
    ask(Command::RegionRead, RegionAccess { offset, region: region as u32, count }.as_bytes())
}

fn write(flags: u32, region: Region, offset: u64, data: &[u8]) -> Vec<u8> {
    let access = RegionAccess { offset, region: region as u32, count: data.len() as u32 };
    message(10, Command::RegionWrite as u16, flags, &[access.as_bytes(), data].concat())
}

fn map(address: u64, size: u64) -> Vec<u8> {
    ask(Command::DmaMap, DmaMap { argsz: 32, flags: 3, offset: 0, address, size }.as_bytes())
}

fn unmap(address: u64, size: u64, flags: u32) -> Vec<u8> {
    ask(Command::DmaUnmap, DmaUnmap { argsz: 24, flags, address, size }.as_bytes())
}

fn irqs(flags: IrqSetFlags, irq: Irq, start: u32, count: u32, booleans: &[u8]) -> Vec<u8> {
    let argsz = 20 + booleans.len() as u32;
    let set = IrqSet { argsz, flags: flags.bits(), index: irq as u32, start, count };
    ask(Command::DeviceSetIrqs, &[set.as_bytes(), booleans].concat())
}

fn region_info(index: u32) -> Vec<u8> {
    let info = RegionInfo { argsz: 32, flags: 0, index, cap_offset: 0, size: 0, offset: 0 };
    ask(Command::DeviceGetRegionInfo, info.as_bytes())
}

fn irq_info(index: u32) -> Vec<u8> {
    ask(Command::DeviceGetIrqInfo, IrqInfo { argsz: 16, flags: 0, index, count: 0 }.as_bytes())
}

fn device_info(argsz: u32) -> Vec<u8> {
    ask(Command::DeviceGetInfo, DeviceInfo { argsz, flags: 0, num_regions: 0, num_irqs: 0 }.as_bytes())
}

fn version_of(data: &[u8]) -> Vec<u8> {
    piece(0, &ask(Command::Version, data))
}

fn connect() -> IrqSetFlags {
    IrqSetFlags::DATA_EVENTFD | IrqSetFlags::ACTION_TRIGGER
}

/// What well-behaved clients send.
fn good() -> Vec<(&'static str, Vec<u8>, Outcome)> {
    use IrqSetFlags as F;
    let msix = |fds, start, count| piece(fds, &irqs(connect(), Irq::Msix, start, count, &[]));
    let mask = F::DATA_BOOL | F::ACTION_MASK;
    let unmask = F::DATA_NONE | F::ACTION_UNMASK;
    let trigger = F::DATA_NONE | F::ACTION_TRIGGER;
    let vectors = write(0x10, Region::Bar0, 0, &[0, 1, 2, 3, 4]);
    let line = write(0x10, Region::Bar0, 0x800, &[0]);
    let infos: Vec<_> = (0..9).map(region_info).chain((0..5).map(irq_info)).collect();
    let byte_by_byte = |bytes: Vec<u8>| bytes.iter().flat_map(|byte| piece(0, &[*byte])).collect();
    let whole = [ask(Command::Version, &version("")), device_info(16), read(Region::Config, 0, 256)].concat();
    vec![
        ("version", hello(), Ok([1, 0, 0])),
        ("version-bare", version_of(&[0, 0, 0, 0]), Ok([1, 0, 0])),
        (
            "version-qemu",
            version_of(&version(
                "\"migration\":{\"pgsize\":4096,\"max_bitmap_size\":268435456},\"max_msg_fds\":16,\"max_data_xfer_size\":1048576,\"pgsizes\":4096,\"max_dma_maps\":65535,\"write_multiple\":true",
            )),
            Ok([1, 0, 0]),
        ),
        ("infos", session(&[&[device_info(16)][..], &infos].concat()), Ok([15, 1, 0])),
        (
            "config",
            session(&[read(Region::Config, 0, 256), write(0, Region::Config, 4, &[6, 0])]),
            Ok([3, 0, 0]),
        ),
        ("doorbells", session(&[vectors.clone(), vectors.clone(), read(Region::Bar0, 0, 4)]), Ok([2, 0, 2])),
        ("one-stream", piece(0, &whole), Ok([3, 0, 0])),
        ("byte-by-byte", byte_by_byte(whole), Ok([3, 0, 0])),
        ("map", session(&[map(0, 0xc_0000), map(0x10_0000, 1 << 30), unmap(0, 0xc_0000, 0)]), Ok([4, 0, 0])),
        ("map-file", [hello(), piece(1 | FILES, &map(0x1000, 0x1000))].concat(), Ok([2, 0, 0])),
        (
            "unmap-all",
            session(&[map(0, 4096), map(u64::MAX, 1), unmap(0, 0, 2), map(0, 8192)]),
            Ok([5, 0, 0]),
        ),
        ("unmap-several", session(&[map(1, 1), map(2, 1), map(4, 1), unmap(0, 5, 0)]), Ok([5, 0, 0])),
        ("msix", [hello(), msix(5, 0, 5), piece(0, &vectors), msix(0, 3, 2)].concat(), Ok([3, 0, 1])),
        ("msix-late", [hello(), piece(0, &vectors), msix(2, 0, 2)].concat(), Ok([2, 0, 1])),
        (
            "msix-masked",
            [
                hello(),
                msix(4, 0, 4),
                session_tail(&[
                    irqs(mask, Irq::Msix, 0, 4, &[1, 0, 1, 0]),
                    vectors,
                    irqs(unmask, Irq::Msix, 0, 4, &[]),
                ]),
            ]
            .concat(),
            Ok([4, 0, 1]),
        ),
        (
            "msix-disable",
            [hello(), msix(1, 0, 1), session_tail(&[irqs(trigger, Irq::Msix, 0, 0, &[])])].concat(),
            Ok([3, 0, 0]),
        ),
        (
            "msix-loopback",
            [hello(), msix(1, 0, 1), session_tail(&[irqs(trigger, Irq::Msix, 0, 1, &[])])].concat(),
            Ok([3, 0, 0]),
        ),
        (
            "intx",
            [
                hello(),
                piece(1, &irqs(connect(), Irq::Intx, 0, 1, &[])),
                session_tail(&[line.clone(), irqs(unmask, Irq::Intx, 0, 1, &[]), line]),
            ]
            .concat(),
            Ok([3, 0, 2]),
        ),
        ("reset", session(&[ask(Command::DeviceReset, &[]), read(Region::Rom, 0, 16)]), Ok([3, 0, 0])),
    ]
}

fn session_tail(messages: &[Vec<u8>]) -> Vec<u8> {
    messages.iter().flat_map(|message| piece(0, message)).collect()
}

/// What can be asked and cannot be met.
fn refused() -> Vec<(&'static str, Vec<u8>, Outcome)> {
    let resample = IrqSetFlags::DATA_EVENTFD | IrqSetFlags::ACTION_UNMASK;
    let nothing = IrqSetFlags::empty();
    let unknown: Vec<_> = [0, 6, 11, 14, 15, 99].map(|command| message(9, command, 0, &[1; 40])).into();
    vec![
        (
            "beyond",
            session(&[
                read(Region::Config, 253, 4),
                read(Region::Vga, 0, 1),
                read(Region::Bar0, u64::MAX, 2),
            ]),
            Ok([1, 3, 0]),
        ),
        ("too-much", session(&[read(Region::Bar0, 0, u32::MAX)]), Ok([1, 1, 0])),
        (
            "read-only",
            session(&[write(0, Region::Rom, 0, &[1]), write(0x10, Region::Rom, 0, &[1])]),
            Ok([1, 1, 1]),
        ),
        ("function-refuses", session(&[read(Region::Bar0, 0xe0, 4), map(0xbad_0000, 1)]), Ok([1, 2, 0])),
        (
            "map-overlap",
            session(&[map(0x1000, 0x1000), map(0x1fff, 2), map(0, u64::MAX), map(2, u64::MAX)]),
            Ok([2, 3, 0]),
        ),
        ("map-nothing", session(&[map(0, 0), unmap(0, 0, 0), unmap(1, 0, 2)]), Ok([1, 3, 0])),
        ("unmap-half", session(&[map(0x1000, 0x1000), unmap(0x1800, 0x1000, 0)]), Ok([2, 1, 0])),
        ("unknown", session(&unknown), Ok([1, 6, 0])),
        ("infos-beyond", session(&[region_info(9), irq_info(5), device_info(0)]), Ok([1, 3, 0])),
        ("irqs-beyond", [hello(), piece(2, &irqs(connect(), Irq::Msix, 4, 2, &[]))].concat(), Ok([1, 1, 0])),
        (
            "irqs-no-eventfd",
            [hello(), piece(1 | FILES, &irqs(connect(), Irq::Msix, 0, 1, &[]))].concat(),
            Ok([1, 1, 0]),
        ),
        ("irqs-resample", [hello(), piece(1, &irqs(resample, Irq::Intx, 0, 1, &[]))].concat(), Ok([1, 1, 0])),
        ("irqs-no-action", session(&[irqs(nothing, Irq::Msix, 0, 1, &[])]), Ok([1, 1, 0])),
    ]
}

/// What ends a session.
fn violations() -> Vec<(&'static str, Vec<u8>, Outcome)> {
    use Violation as V;
    let short = ask(Command::DmaMap, &[0; 31]);
    let claims = |size: u32| [&device_info(16)[..4], &size.to_ne_bytes(), &[0; 8]].concat();
    let nested = [&[0; 4], &[b'['; 300][..], &[0]].concat();
    let bools = irqs(IrqSetFlags::DATA_BOOL | IrqSetFlags::ACTION_MASK, Irq::Msix, 0, 5, &[1; 4]);
    vec![
        ("no-version", piece(0, &device_info(16)), Err(|v| matches!(v, V::NoVersion { .. }))),
        ("version-twice", [hello(), hello()].concat(), Err(|v| matches!(v, V::VersionAgain))),
        ("version-other", version_of(&[1, 0, 0, 0]), Err(|v| matches!(v, V::Version { major: 1, .. }))),
        ("version-no-nul", version_of(b"\0\0\0\0{}"), Err(|v| matches!(v, V::Capabilities { .. }))),
        ("version-nested", version_of(&nested), Err(|v| matches!(v, V::Capabilities { .. }))),
        ("short-payload", session(&[short]), Err(|v| matches!(v, V::PayloadSize { expected: 32, .. }))),
        ("short-booleans", session(&[bools]), Err(|v| matches!(v, V::PayloadSize { .. }))),
        ("claims-nothing", session(&[claims(15)]), Err(|v| matches!(v, V::MessageSize { size: 15, .. }))),
        ("claims-all", session(&[claims(u32::MAX)]), Err(|v| matches!(v, V::MessageSize { .. }))),
        ("type", session(&[message(1, 4, 7, &[])]), Err(|v| matches!(v, V::MessageType { .. }))),
        (
            "fds-for-two",
            [hello(), piece(2, &map(0, 1))].concat(),
            Err(|v| matches!(v, V::FdCount { found: 2, .. })),
        ),
        (
            "fds-too-few",
            [hello(), piece(1, &irqs(connect(), Irq::Msix, 0, 2, &[]))].concat(),
            Err(|v| matches!(v, V::FdCount { .. })),
        ),
        (
            "fds-too-many",
            [hello(), piece(17, &device_info(16))].concat(),
            Err(|v| matches!(v, V::TooManyFds { .. })),
        ),
        ("cut", [hello(), piece(3, &device_info(16)[..20])].concat(), Ok([1, 0, 0])),
    ]
}

#[test]
fn seeds_do_what_they_are_named_for() {
    for (name, seed, outcome) in [good(), refused(), violations()].concat() {
        match (carry(&seed), outcome) {
            (found, Ok(expected)) => assert_eq!(found, Ok(expected), "{name}"),
            (Err(violation), Err(is_expected)) => assert!(is_expected(&violation), "{name}: {violation}"),
            (found, Err(_)) => panic!("{name}: {found:?}"),
        }
    }
}

#[test]
fn the_corpus_is_what_is_made_here() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus/message");
    let seeds: BTreeMap<_, _> = [good(), refused(), violations()]
        .concat()
        .into_iter()
        .map(|(name, seed, _)| (name.to_owned(), seed))
        .collect();
    if std::env::var_os("UPDATE_CORPUS").is_some() {
        fs::create_dir_all(&folder).unwrap();
        seeds.iter().for_each(|(name, seed)| fs::write(folder.join(name), seed).unwrap());
    }
    let entries = fs::read_dir(&folder).unwrap().map(Result::unwrap);
    let found: BTreeMap<_, _> = entries
        .map(|entry| (entry.file_name().into_string().unwrap(), fs::read(entry.path()).unwrap()))
        .collect();
    // Fuzzing adds files of its own, named by a hash; they are not held against this list.
    for (name, seed) in seeds {
        assert!(found.get(&name) == Some(&seed), "{name} differs: see the head of this file");
    }
}
