//! Peers that break the protocol: their connection ends, and the next one is served. This file holds one
//! test, for it counts what the process has open.
#![allow(clippy::unwrap_used)] // of tests

mod rig;

use std::{fs, net::Shutdown};

use iobond_vfio_user::{Irq, Region, protocol::*};
use rig::{Event, Peer, Rig, borrow, event, message, version};
use zerocopy::IntoBytes;

/// One good message of each command that has a payload, and what it would carry.
fn messages() -> Vec<Vec<u8>> {
    let map = DmaMap { argsz: 32, flags: 3, offset: 0, address: 0x1000, size: 0x1000 };
    let unmap = DmaUnmap { argsz: 24, flags: 2, address: 0, size: 0 };
    let device = DeviceInfo { argsz: 16, flags: 0, num_regions: 0, num_irqs: 0 };
    let region = RegionInfo { argsz: 32, flags: 0, index: 7, cap_offset: 0, size: 0, offset: 0 };
    let irq = IrqInfo { argsz: 16, flags: 0, index: 2, count: 0 };
    let flags = (IrqSetFlags::DATA_BOOL | IrqSetFlags::ACTION_MASK).bits();
    let set = IrqSet { argsz: 24, flags, index: Irq::Msix as u32, start: 0, count: 4 };
    let access = RegionAccess { offset: 0, region: Region::Bar0 as u32, count: 4 };
    let payloads: [(Command, &[u8], &[u8]); 9] = [
        (Command::DmaMap, map.as_bytes(), &[]),
        (Command::DmaUnmap, unmap.as_bytes(), &[]),
        (Command::DeviceGetInfo, device.as_bytes(), &[]),
        (Command::DeviceGetRegionInfo, region.as_bytes(), &[]),
        (Command::DeviceGetIrqInfo, irq.as_bytes(), &[]),
        (Command::DeviceSetIrqs, set.as_bytes(), &[1, 0, 1, 1]),
        (Command::RegionRead, access.as_bytes(), &[]),
        (Command::RegionWrite, access.as_bytes(), &[1, 2, 3, 4]),
        (Command::DeviceReset, &[], &[]),
    ];
    payloads.map(|(command, fixed, data)| message(1, command as u16, 0, &[fixed, data].concat())).into()
}

/// `message` with another size in its header.
fn sized(message: &[u8], size: u32) -> Vec<u8> {
    [&message[..4], &size.to_ne_bytes(), &message[8..]].concat()
}

fn open_fds() -> usize {
    fs::read_dir("/proc/self/fd").unwrap().count()
}

/// Kilobytes of memory that the process uses.
fn resident() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

/// What a peer does, after it agreed on a version.
type Deed = Box<dyn Fn(&mut Peer)>;

fn says(bytes: Vec<u8>) -> Deed {
    Box::new(move |peer| peer.send(&bytes))
}

fn deeds() -> Vec<(String, Deed)> {
    let mut deeds: Vec<(String, Deed)> = Vec::new();
    for whole in messages() {
        let command = whole[2];
        for len in 1..whole.len() {
            let cut = whole[..len].to_vec();
            let leave = move |peer: &mut Peer| {
                peer.send(&cut);
                peer.socket.shutdown(Shutdown::Write).unwrap();
            };
            deeds.push((format!("{len} bytes of command {command}"), Box::new(leave)));
        }
        // One that is shorter or longer, and truthfully says so.
        let size = whole.len() as u32;
        for size in (16..size).chain([size + 1, size + 4096]) {
            let mut other = sized(&whole, size);
            other.resize(size as usize, 0);
            deeds.push((format!("command {command} with {size} bytes"), says(other)));
        }
        for size in [0, 1, 15, MAX_MESSAGE as u32 + 1, 1 << 31, u32::MAX] {
            deeds.push((format!("command {command} claiming {size} bytes"), says(sized(&whole, size))));
        }
        let fds = move |count| -> Deed {
            let whole = whole.clone();
            Box::new(move |peer| {
                let fds: Vec<_> = (0..count).map(|_| event()).collect();
                peer.send_with(&whole, &borrow(&fds));
            })
        };
        deeds.push((format!("command {command} with 2 fds"), fds(2)));
        deeds.push((format!("command {command} with 17 fds"), fds(17)));
        deeds.push((format!("command {command} with 253 fds"), fds(253)));
    }
    let others = [
        ("a type", message(1, 4, 2, &[0; 16])),
        ("a reply", message(1, 11, 1, &[0; 16])),
        ("an error reply", message(0, 12, 0x21, &[])),
        ("a second version", message(1, 1, 0, &version(""))),
        (
            "a boolean too few",
            message(1, 8, 0, &[0, 0, 0, 0, 0x22, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 9, 0, 0, 0, 1]),
        ),
        ("noise", vec![0xff; 4096]),
        ("zeroes", vec![0; 4096]),
    ];
    deeds.extend(others.map(|(what, bytes)| (what.to_owned(), says(bytes))));
    deeds
}

/// What a peer does instead of agreeing on a version.
fn first_words() -> Vec<Vec<u8>> {
    let mut words = messages();
    let good = version("");
    words.extend((0..good.len()).map(|len| message(1, 1, 0, &good[..len])).filter(|word| word.len() != 20));
    words.push(message(1, 1, 0x10, &good));
    words.push(message(1, 1, 1, &good));
    words.push(message(1, 1, 0, &[&[1, 0, 0, 0], &good[4..]].concat()));
    words.push(message(1, 1, 0, &[&[0; 4], &[b'['; 100_000][..], &[0]].concat()));
    words
}

#[test]
fn breaking_the_protocol_ends_the_connection_and_nothing_else() {
    let rig = Rig::new();
    let round = || {
        let mut ended = 0;
        for word in first_words() {
            let mut peer = rig.connect();
            peer.send(&word);
            assert!(peer.is_ended(), "after {word:02x?}");
        }
        for (what, deed) in deeds() {
            let mut peer = rig.peer();
            deed(&mut peer);
            assert!(peer.is_ended(), "after {what}");
            ended += 1;
        }
        rig.peer().is_served();
        rig.card.is_left();
        ended
    };
    let ended = round();
    let events = rig.card.events();
    let count = |event| events.iter().filter(|other| **other == event).count();
    assert_eq!((count(Event::Attach), count(Event::Detach)), (ended + 1, ended + 1));
    assert_eq!(events.len(), 2 * (ended + 1), "nothing reached the function: {events:?}");

    let (fds, kilobytes) = (open_fds(), resident());
    round();
    assert_eq!(open_fds(), fds);
    assert!(resident() < kilobytes + 8 * 1024, "{kilobytes} kB, then {} kB", resident());
}
