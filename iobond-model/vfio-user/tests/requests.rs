//! What is answered, and with which errno, over a socket of our own.
#![allow(clippy::unwrap_used)] // of tests

mod rig;

use iobond_vfio_user::{Errno, Irq, Region, protocol::*};
use rig::{BAR0_SIZE, Event, Peer, Rig, borrow, event, message, signals};
use zerocopy::{FromBytes, IntoBytes};

fn access(region: Region, offset: u64, count: u32) -> RegionAccess {
    RegionAccess { offset, region: region as u32, count }
}

fn map(address: u64, size: u64) -> DmaMap {
    DmaMap { argsz: 32, flags: 3, offset: 0, address, size }
}

fn unmap(address: u64, size: u64, flags: u32) -> DmaUnmap {
    DmaUnmap { argsz: 24, flags, address, size }
}

fn set(flags: IrqSetFlags, irq: Irq, start: u32, count: u32) -> IrqSet {
    IrqSet { argsz: 20, flags: flags.bits(), index: irq as u32, start, count }
}

fn code(errno: Errno) -> i32 {
    errno.raw_os_error()
}

#[test]
fn accesses_are_held_against_their_region() {
    let rig = Rig::new();
    let mut peer = rig.peer();
    let mut read = |region, offset, count| {
        peer.errno(Command::RegionRead, access(region, offset, count).as_bytes(), &[])
    };
    for (region, offset, count) in [
        (Region::Config, 253, 4),
        (Region::Config, 256, 1),
        (Region::Config, u64::MAX, 2),
        (Region::Bar0, 0, MAX_DATA + 1),
        (Region::Bar0, 0, u32::MAX),
        (Region::Bar1, 0, 1),
    ] {
        assert_eq!(read(region, offset, count), code(Errno::INVAL), "{region:?} {offset:#x} {count}");
    }
    assert_eq!(read(Region::Config, 0xe0, 4), code(Errno::IO), "what the function says");
    assert_eq!(read(Region::Config, 256, 0), 0);
    assert_eq!(read(Region::Bar0, BAR0_SIZE - u64::from(MAX_DATA), MAX_DATA), 0);
    let beyond = RegionAccess { offset: 0, region: 9, count: 1 };
    assert_eq!(peer.errno(Command::RegionRead, beyond.as_bytes(), &[]), code(Errno::INVAL));
    let rom = [access(Region::Rom, 0, 1).as_bytes(), &[1]].concat();
    assert_eq!(peer.errno(Command::RegionWrite, &rom, &[]), code(Errno::INVAL));
    assert_eq!(rig.card.events(), [Event::Attach]);
}

#[test]
fn a_client_that_takes_less_gets_less() {
    let rig = Rig::new();
    let mut peer = rig.connect();
    peer.agree("\"max_data_xfer_size\": 64");
    let mut read = |count| peer.errno(Command::RegionRead, access(Region::Bar0, 0, count).as_bytes(), &[]);
    assert_eq!((read(64), read(65)), (0, code(Errno::INVAL)));
}

#[test]
fn posted_writes_are_not_answered_and_stay_in_order() {
    const WRITES: u32 = 20_000;
    let rig = Rig::new();
    let mut peer = rig.peer();
    for number in 0..WRITES {
        let data = [access(Region::Bar0, 0xe0, 4).as_bytes(), &number.to_le_bytes()].concat();
        peer.send(&message(7, Command::RegionWrite as u16, 0x10, &data));
    }
    peer.is_served();
    let events = rig.card.events();
    let written = (0..WRITES).map(|number| Event::Write(Region::Bar0, 0xe0, number.to_le_bytes().to_vec()));
    assert!(events[1..].iter().eq(&written.collect::<Vec<_>>()), "{} events", events.len());
}

#[test]
fn mappings_that_cannot_be_are_refused() {
    let rig = Rig::new();
    let mut peer = rig.peer();
    let mut map = |address, size| peer.errno(Command::DmaMap, map(address, size).as_bytes(), &[]);
    assert_eq!(map(0x1000, 0x1000), 0);
    assert_eq!(map(0x1fff, 1), code(Errno::EXIST));
    assert_eq!(map(0, 0x1001), code(Errno::EXIST));
    assert_eq!(map(0x3000, 0), code(Errno::INVAL));
    assert_eq!(map(u64::MAX, 2), code(Errno::INVAL));
    assert_eq!(map(0xbad_0000, 1), code(Errno::NOMEM), "what the function says");
    assert_eq!(map(u64::MAX, 1), 0);
    let unknown = DmaMap { argsz: 32, flags: 1 << 5, offset: 0, address: 0x9000, size: 1 };
    assert_eq!(peer.errno(Command::DmaMap, unknown.as_bytes(), &[]), code(Errno::INVAL));
    let mapped =
        ["0x1000..=0x1fff rw without a file", "0xffffffffffffffff..=0xffffffffffffffff rw without a file"];
    assert_eq!(rig.card.events()[1..], mapped.map(|mapping| Event::Map(mapping.into())));
    assert_eq!(peer.errno(Command::DmaMap, map_again().as_bytes(), &[]), 0, "what was refused is not there");
}

fn map_again() -> DmaMap {
    map(0xbad_1000, 0x1000)
}

#[test]
fn mappings_are_taken_whole() {
    let rig = Rig::new();
    let mut peer = rig.peer();
    for page in [1, 2, 5] {
        assert_eq!(peer.errno(Command::DmaMap, map(page << 12, 1 << 12).as_bytes(), &[]), 0);
    }
    rig.card.events();
    assert_eq!(peer.errno(Command::DmaUnmap, unmap(0x1800, 0x800, 0).as_bytes(), &[]), code(Errno::INVAL));
    assert_eq!(peer.errno(Command::DmaUnmap, unmap(0x1000, 0x1800, 0).as_bytes(), &[]), code(Errno::INVAL));
    assert_eq!(peer.errno(Command::DmaUnmap, unmap(0x1000, 0, 0).as_bytes(), &[]), code(Errno::INVAL));
    assert_eq!(peer.errno(Command::DmaUnmap, unmap(1, 0, 2).as_bytes(), &[]), code(Errno::INVAL));
    assert_eq!(
        peer.errno(Command::DmaUnmap, unmap(0, 0, 1).as_bytes(), &[]),
        code(Errno::INVAL),
        "dirty bitmaps"
    );
    let (_, reply) = peer.ask(Command::DmaUnmap, unmap(0, 0x5000, 0).as_bytes());
    assert_eq!(DmaUnmap::read_from_bytes(&reply).unwrap(), unmap(0, 0x2000, 0));
    assert_eq!(rig.card.events(), [Event::Unmap(0x1000, 0x1000), Event::Unmap(0x2000, 0x1000)]);
    assert_eq!(peer.errno(Command::DmaUnmap, unmap(0, 0, 2).as_bytes(), &[]), 0);
    assert_eq!(rig.card.events(), [Event::UnmapAll]);
    assert_eq!(peer.errno(Command::DmaMap, map(0, 1 << 20).as_bytes(), &[]), 0);
}

#[test]
fn what_is_not_there_is_said_to_be_so() {
    let rig = Rig::new();
    let mut peer = rig.peer();
    for command in [0, 6, 11, 12, 14, 15, 16, 17, 18, u16::MAX] {
        for fds in [&[][..], &borrow(&[event()])] {
            peer.send_with(&message(5, command, 0, &[0xaa; 3000]), fds);
            let (header, payload) = peer.receive().unwrap();
            let expected = (command, 0x21, code(Errno::NOTSUP) as u32, 0);
            assert_eq!((header.command, header.flags, header.error, payload.len()), expected);
        }
    }
    let region = RegionInfo { argsz: 32, flags: 0, index: 9, cap_offset: 0, size: 0, offset: 0 };
    let irq = |index| IrqInfo { argsz: 16, flags: 0, index, count: 0 };
    assert_eq!(peer.errno(Command::DeviceGetRegionInfo, region.as_bytes(), &[]), code(Errno::INVAL));
    assert_eq!(peer.errno(Command::DeviceGetIrqInfo, irq(5).as_bytes(), &[]), code(Errno::INVAL));
    let err = irq(Irq::Err as u32);
    assert_eq!(peer.errno(Command::DeviceGetIrqInfo, err.as_bytes(), &[]), code(Errno::INVAL));
    let small = DeviceInfo { argsz: 15, flags: 0, num_regions: 0, num_irqs: 0 };
    assert_eq!(peer.errno(Command::DeviceGetInfo, small.as_bytes(), &[]), code(Errno::INVAL));
    peer.is_served();
}

#[test]
fn interrupts_are_set_up_within_their_bounds() {
    use IrqSetFlags as F;
    let rig = Rig::new();
    let mut peer = rig.peer();
    let connect = F::DATA_EVENTFD | F::ACTION_TRIGGER;
    let refused = [
        set(connect, Irq::Msix, 64, 1),
        set(connect, Irq::Msix, u32::MAX, 1),
        set(connect, Irq::Msix, 0, 0),
        set(connect, Irq::Msi, 0, 1),
        set(F::DATA_NONE, Irq::Msix, 0, 1),
        set(F::ACTION_MASK, Irq::Msix, 0, 1),
        set(F::DATA_NONE | F::DATA_EVENTFD | F::ACTION_TRIGGER, Irq::Msix, 0, 1),
        set(F::DATA_NONE | F::ACTION_MASK | F::ACTION_TRIGGER, Irq::Msix, 0, 1),
        set(F::from_bits_retain(1 << 9 | 1), Irq::Msix, 0, 1),
        IrqSet { argsz: 20, flags: 33, index: 5, start: 0, count: 0 },
    ];
    for set in refused {
        assert_eq!(peer.errno(Command::DeviceSetIrqs, set.as_bytes(), &[]), code(Errno::INVAL), "{set:?}");
    }
    let resample = set(F::DATA_EVENTFD | F::ACTION_UNMASK, Irq::Intx, 0, 1);
    let fd = [event()];
    assert_eq!(peer.errno(Command::DeviceSetIrqs, resample.as_bytes(), &borrow(&fd)), code(Errno::NOTSUP));
    let pipe = rustix::pipe::pipe().unwrap();
    let one = set(connect, Irq::Msix, 0, 1);
    assert_eq!(peer.errno(Command::DeviceSetIrqs, one.as_bytes(), &borrow(&[pipe.1])), code(Errno::INVAL));
}

fn irqs(peer: &mut Peer, flags: IrqSetFlags, irq: Irq, start: u32, count: u32, data: &[u8]) {
    let payload = [set(flags, irq, start, count).as_bytes(), data].concat();
    assert_eq!(peer.errno(Command::DeviceSetIrqs, &payload, &[]), 0);
}

#[test]
fn masked_vectors_wait() {
    use IrqSetFlags as F;
    let rig = Rig::new();
    let mut peer = rig.peer();
    let raise = rig.card.client();
    raise.trigger(Irq::Msix, 1);
    let events = [event(), event(), event(), event()];
    let connect = set(F::DATA_EVENTFD | F::ACTION_TRIGGER, Irq::Msix, 0, 4);
    assert_eq!(peer.errno(Command::DeviceSetIrqs, connect.as_bytes(), &borrow(&events)), 0);
    assert_eq!(events.each_ref().map(signals), [0, 1, 0, 0], "raised before there was an eventfd");

    irqs(&mut peer, F::DATA_BOOL | F::ACTION_MASK, Irq::Msix, 0, 4, &[1, 0, 1, 0]);
    (0..4).for_each(|vector| raise.trigger(Irq::Msix, vector));
    assert_eq!(events.each_ref().map(signals), [0, 1, 0, 1]);
    irqs(&mut peer, F::DATA_NONE | F::ACTION_UNMASK, Irq::Msix, 2, 2, &[]);
    assert_eq!(events.each_ref().map(signals), [0, 0, 1, 0]);

    irqs(&mut peer, F::DATA_EVENTFD | F::ACTION_TRIGGER, Irq::Msix, 3, 1, &[]);
    raise.trigger(Irq::Msix, 3);
    assert_eq!(events.each_ref().map(signals), [0, 0, 0, 0], "vector 3 has no eventfd any more");
    assert_eq!(peer.errno(Command::DeviceReset, &[], &[]), 0);
    irqs(&mut peer, F::DATA_NONE | F::ACTION_UNMASK, Irq::Msix, 0, 1, &[]);
    assert_eq!(events.each_ref().map(signals), [0, 0, 0, 0], "nothing is pending after a reset");
}

#[test]
fn the_interrupt_line_masks_itself() {
    use std::sync::atomic::Ordering::Release;

    use IrqSetFlags as F;
    let rig = Rig::new();
    let mut peer = rig.peer();
    let raise = rig.card.client();
    let line = [event()];
    rig.card.line.store(true, Release);
    let connect = set(F::DATA_EVENTFD | F::ACTION_TRIGGER, Irq::Intx, 0, 1);
    assert_eq!(peer.errno(Command::DeviceSetIrqs, connect.as_bytes(), &borrow(&line)), 0);
    assert_eq!(signals(&line[0]), 1, "it was asserted before there was an eventfd");
    raise.trigger(Irq::Intx, 0);
    assert_eq!(signals(&line[0]), 0);
    let unmask = F::DATA_NONE | F::ACTION_UNMASK;
    irqs(&mut peer, unmask, Irq::Intx, 0, 1, &[]);
    assert_eq!(signals(&line[0]), 1, "still asserted");
    rig.card.line.store(false, Release);
    irqs(&mut peer, unmask, Irq::Intx, 0, 1, &[]);
    assert_eq!(signals(&line[0]), 0);
    rig.card.line.store(true, Release);
    raise.trigger(Irq::Intx, 0);
    assert_eq!(signals(&line[0]), 1);
}
