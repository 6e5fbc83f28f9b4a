//! Random messages over a socket: each is answered or ends the connection, and the server goes on.
#![allow(clippy::unwrap_used)] // of tests

mod rig;

use iobond_vfio_user::protocol::*;
use proptest::{collection::vec, prelude::*, sample::select};
use rig::{Rig, borrow, event, message, version};
use zerocopy::IntoBytes;

/// Numbers at which something happens.
fn number() -> impl Strategy<Value = u64> {
    prop_oneof![
        0..10u64,
        select(vec![16, 20, 24, 32, 64, 255, 256, 0x1000, 0x1fff, 1 << 20, (1 << 20) + 1, 1 << 31, 1 << 32]),
        (0..4u64).prop_map(|n| u64::MAX - n),
        any::<u64>(),
    ]
}

/// A payload that has the form of some command's.
fn payload() -> impl Strategy<Value = (u16, Vec<u8>)> {
    let words = |range| vec(number().prop_map(|n| n as u32), range);
    let access = (number(), 0..10u32, 0..600usize).prop_map(|(offset, region, len)| {
        let access = RegionAccess { offset, region, count: len as u32 };
        (Command::RegionWrite as u16, [access.as_bytes(), &vec![0xa5; len]].concat())
    });
    let read = (number(), 0..10u32, number()).prop_map(|(offset, region, count)| {
        let access = RegionAccess { offset, region, count: count as u32 };
        (Command::RegionRead as u16, access.as_bytes().to_vec())
    });
    let set = (0..64u32, 0..6u32, 0..66u32, 0..66u32, any::<bool>()).prop_map(
        |(flags, index, start, count, fits)| {
            let set = IrqSet { argsz: 20, flags, index, start, count };
            let booleans = if flags & 2 != 0 && fits { count as usize } else { 0 };
            (Command::DeviceSetIrqs as u16, [set.as_bytes(), &vec![1; booleans]].concat())
        },
    );
    let memory = (2..4u16, 0..4u32, number(), number()).prop_map(|(command, flags, address, size)| {
        let map = DmaMap { argsz: 32, flags, offset: 0, address, size };
        let unmap = DmaUnmap { argsz: 24, flags, address, size };
        (command, if command == 2 { map.as_bytes().to_vec() } else { unmap.as_bytes().to_vec() })
    });
    let of_size = |command: u16, n| words(n..=n).prop_map(move |words| (command, words.as_bytes().to_vec()));
    let anything =
        (any::<u16>(), words(0..=40)).prop_map(|(command, words)| (command, words.as_bytes().to_vec()));
    prop_oneof![
        4 => access, 4 => read, 4 => set, 4 => memory,
        2 => of_size(4, 4), 2 => of_size(5, 8), 2 => of_size(7, 4), 1 => of_size(13, 0),
        1 => anything, 1 => Just((1, version(""))),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn everything_is_answered_or_ends_the_connection(
        messages in vec((payload(), select(vec![0u32, 0, 0, 0, 0x10, 0x20, 1, 0xf]), select(vec![0usize, 0, 0, 1, 2, 16])), 1..20)
    ) {
        let rig = Rig::new();
        let mut peer = rig.peer();
        let events: Vec<_> = (0..16).map(|_| event()).collect();
        for (id, ((command, payload), flags, fds)) in (0..).zip(messages) {
            if peer.try_send_with(&message(id, command, flags, &payload), &borrow(&events[..fds])).is_err() {
                break;
            }
            if flags & 0x10 != 0 && flags & 0xf == 0 {
                continue;
            }
            let Some((header, _)) = peer.receive() else { break };
            prop_assert_eq!((header.id, header.command, header.flags & !0x20), (id, command, 1));
        }
        drop(peer);
        rig.peer().is_served();
    }
}
