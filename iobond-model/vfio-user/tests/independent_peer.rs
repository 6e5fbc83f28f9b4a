//! Another project's client (crate `vfio_user`) uses a function.
#![allow(clippy::unwrap_used)] // of tests

mod rig;

use std::{fs::File, os::fd::AsRawFd};

use iobond_vfio_user::{Irq, Region};
use rig::{Event, MSIX_VECTORS, Rig, event, signals};
use rustix::fs::{MemfdFlags, ftruncate, memfd_create};
use vfio_user::Client;

/// `VFIO_IRQ_SET_DATA_EVENTFD | VFIO_IRQ_SET_ACTION_TRIGGER`.
const CONNECT: u32 = 1 << 2 | 1 << 5;
/// `VFIO_IRQ_SET_DATA_NONE | VFIO_IRQ_SET_ACTION_TRIGGER`.
const TRIGGER: u32 = 1 << 0 | 1 << 5;

#[test]
fn it_sees_regions_and_interrupts() {
    let rig = Rig::new();
    let mut client = Client::new(&rig.socket()).unwrap();
    let regions: Vec<_> = (0..9).map(|index| client.region(index).unwrap()).collect();
    let described: Vec<_> = regions.iter().map(|region| (region.size, region.flags)).collect();
    let (none, config, bar0, rom) = ((0, 0), (256, 3), (2 << 20, 3), (4096, 1));
    assert_eq!(described, [bar0, none, none, none, none, none, rom, config, none]);
    assert!(regions.iter().all(|region| region.file_offset.is_none() && region.sparse_areas.is_empty()));
    let irqs: Vec<_> = [0, 1, 2, 4].into_iter().map(|index| client.get_irq_info(index).unwrap()).collect();
    let described: Vec<_> = irqs.iter().map(|irq| (irq.count, irq.flags)).collect();
    assert_eq!(described, [(1, 7), (0, 1), (MSIX_VECTORS.into(), 1), (0, 1)]);
}

#[test]
fn it_reads_writes_and_resets() {
    let rig = Rig::new();
    let mut client = Client::new(&rig.socket()).unwrap();
    let mut config = [0; 256];
    client.region_read(Region::Config as u32, 0, &mut config).unwrap();
    assert_eq!(config, std::array::from_fn(|at| at as u8));
    client.region_write(Region::Bar0 as u32, 0x1000, &[1, 2, 3, 4]).unwrap();
    client.reset().unwrap();
    let written = Event::Write(Region::Bar0, 0x1000, vec![1, 2, 3, 4]);
    assert_eq!(rig.card.events(), [Event::Attach, written, Event::Reset]);
}

#[test]
fn its_memory_is_mapped_and_let_go() {
    let rig = Rig::new();
    let mut client = Client::new(&rig.socket()).unwrap();
    let memory = File::from(memfd_create("memory", MemfdFlags::CLOEXEC).unwrap());
    ftruncate(&memory, 0x4000).unwrap();
    client.dma_map(0x1000, 0x10_0000, 0x2000, memory.as_raw_fd()).unwrap();
    {
        let maps = rig.card.maps.lock().unwrap();
        let (fd, offset) = maps[0].file.as_ref().unwrap();
        rustix::io::pwrite(fd, b"hello", *offset).unwrap();
    }
    let mut seen = [0; 5];
    rustix::io::pread(&memory, &mut seen, 0x1000).unwrap();
    assert_eq!(&seen, b"hello");
    client.dma_unmap(0x10_0000, 0x2000).unwrap();
    let mapped = Event::Map("0x100000..=0x101fff rw of a file from 0x1000".into());
    assert_eq!(rig.card.events(), [Event::Attach, mapped, Event::Unmap(0x10_0000, 0x2000)]);
}

#[test]
fn it_is_interrupted() {
    let rig = Rig::new();
    let mut client = Client::new(&rig.socket()).unwrap();
    let events = [event(), event(), event()];
    let fds: Vec<_> = events.iter().map(AsRawFd::as_raw_fd).collect();
    client.set_irqs(Irq::Msix as u32, CONNECT, 5, 3, &fds).unwrap();
    let raise = rig.card.client();
    for vector in [6, 6, 7, 8] {
        raise.trigger(Irq::Msix, vector);
    }
    assert_eq!(events.each_ref().map(signals), [0, 2, 1]);
    client.set_irqs(Irq::Msix as u32, TRIGGER, 5, 1, &[]).unwrap();
    assert_eq!(events.each_ref().map(signals), [1, 0, 0], "the client may raise its own");
    client.set_irqs(Irq::Msix as u32, TRIGGER, 0, 0, &[]).unwrap();
    raise.trigger(Irq::Msix, 6);
    assert_eq!(events.each_ref().map(signals), [0, 0, 0], "all vectors are disabled");
}

#[test]
fn it_comes_back() {
    let rig = Rig::new();
    for _ in 0..20 {
        let mut client = Client::new(&rig.socket()).unwrap();
        client.region_write(Region::Bar0 as u32, 0, &[9]).unwrap();
        client.shutdown().unwrap();
    }
    rig.card.is_left();
    let once = [Event::Attach, Event::Write(Region::Bar0, 0, vec![9]), Event::Detach];
    assert_eq!(rig.card.events(), vec![once; 20].concat());
}
