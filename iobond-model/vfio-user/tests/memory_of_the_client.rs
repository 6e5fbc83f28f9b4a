//! The function reaches the client's memory through the client.
#![allow(clippy::unwrap_used)] // of tests

mod rig;

use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
        mpsc,
    },
    thread,
    time::{Duration, Instant},
};

use iobond_vfio_user::{Client, DmaError, Errno, Region, protocol::*};
use rig::{DEADLINE, Event, Peer, Rig, message};
use zerocopy::{FromBytes, IntoBytes};

/// The next message, which is a request for memory: its number, what it wants, and data.
fn asked(peer: &mut Peer, command: Command) -> (u16, DmaAccess, Vec<u8>) {
    let (header, payload) = peer.receive().unwrap();
    assert_eq!((header.command, header.flags), (command as u16, 0));
    let (access, data) = DmaAccess::read_from_prefix(&payload).unwrap();
    (header.id, access, data.to_vec())
}

fn answer(peer: &Peer, id: u16, command: Command, access: DmaAccess, data: &[u8]) {
    peer.send(&message(id, command as u16, 1, &[access.as_bytes(), data].concat()));
}

/// Reads `len` bytes at `address` on a thread of its own.
fn read(client: Arc<Client>, address: u64, len: usize) -> thread::JoinHandle<Result<Vec<u8>, DmaError>> {
    thread::spawn(move || {
        let mut data = vec![0; len];
        client.dma_read(address, &mut data).map(|()| data)
    })
}

#[test]
fn what_is_too_much_for_one_message_comes_in_several() {
    let rig = Rig::new();
    let mut peer = rig.connect();
    peer.agree("\"max_data_xfer_size\": 16");
    let reader = read(rig.card.client(), 0x1000, 40);
    for (address, count) in [(0x1000, 16), (0x1010, 16), (0x1020, 8)] {
        let (id, access, data) = asked(&mut peer, Command::DmaRead);
        assert_eq!((access, data.len()), (DmaAccess { address, count }, 0));
        answer(&peer, id, Command::DmaRead, access, &vec![address as u8; count as usize]);
    }
    let expected = [[0; 16].as_slice(), &[0x10; 16], &[0x20; 8]].concat();
    assert_eq!(reader.join().unwrap(), Ok(expected));

    let client = rig.card.client();
    let writer = thread::spawn(move || client.dma_write(0x2000, &[7; 20]));
    for (address, count) in [(0x2000, 16), (0x2010, 4)] {
        let (id, access, data) = asked(&mut peer, Command::DmaWrite);
        assert_eq!((access, data), (DmaAccess { address, count }, vec![7; count as usize]));
        // A header alone is what QEMU answers; the access is what the specification says.
        let reply = if count == 16 { &[][..] } else { access.as_bytes() };
        peer.send(&message(id, Command::DmaWrite as u16, 1, reply));
    }
    assert_eq!(writer.join().unwrap(), Ok(()));
}

#[test]
fn a_client_may_refuse_and_addresses_do_not_wrap() {
    let rig = Rig::new();
    let mut peer = rig.peer();
    let reader = read(rig.card.client(), 0x1000, 4);
    let (id, ..) = asked(&mut peer, Command::DmaRead);
    let header = Header { id, command: 11, size: 16, flags: 0x21, error: Errno::NODEV.raw_os_error() as u32 };
    peer.send(header.as_bytes());
    let refused = DmaError::Refused { address: 0x1000, len: 4, errno: Errno::NODEV };
    assert_eq!(reader.join().unwrap(), Err(refused));
    let wraps = DmaError::Wraps { address: u64::MAX, len: 2 };
    assert_eq!(rig.card.client().dma_write(u64::MAX, &[0; 2]), Err(wraps));
    assert_eq!(rig.card.client().dma_read(u64::MAX, &mut []), Ok(()));
    peer.is_served();
}

#[test]
fn answers_in_any_order_find_who_asked() {
    let rig = Rig::new();
    let mut peer = rig.peer();
    let readers: Vec<_> = (0..8).map(|n| read(rig.card.client(), n << 12, 8)).collect();
    let mut requests: Vec<_> = (0..8).map(|_| asked(&mut peer, Command::DmaRead)).collect();
    requests.sort_by_key(|(_, access, _)| access.address ^ 0x5000);
    for (id, access, _) in requests {
        answer(&peer, id, Command::DmaRead, access, &[(access.address >> 12) as u8; 8]);
    }
    for (n, reader) in (0..).zip(readers) {
        assert_eq!(reader.join().unwrap(), Ok(vec![n; 8]));
    }
}

#[test]
fn answers_to_something_else_end_the_connection() {
    let wrong: [fn(&mut Peer, u16, DmaAccess); 5] = [
        |peer, id, access| answer(peer, id.wrapping_add(1), Command::DmaRead, access, &[0; 8]),
        |peer, id, access| answer(peer, id, Command::DmaWrite, access, &[0; 8]),
        |peer, id, access| answer(peer, id, Command::DmaRead, access, &[0; 7]),
        |peer, id, access| answer(peer, id, Command::DmaRead, access, &[0; 4096]),
        |peer, id, access| {
            answer(peer, id, Command::DmaRead, DmaAccess { count: u64::MAX, ..access }, &[0; 8])
        },
    ];
    let rig = Rig::new();
    for wrong in wrong {
        let mut peer = rig.peer();
        let reader = read(rig.card.client(), 0x1000, 8);
        let (id, access, _) = asked(&mut peer, Command::DmaRead);
        wrong(&mut peer, id, access);
        assert!(peer.is_ended());
        assert_eq!(reader.join().unwrap(), Err(DmaError::Gone { address: 0x1000, len: 8 }));
        rig.card.is_left();
    }
}

#[test]
fn a_client_that_leaves_wakes_a_thread_that_waits_for_it() {
    let rig = Rig::new();
    let mut peer = rig.peer();
    let client = rig.card.client();
    let reader = read(client.clone(), 0x1000, 8);
    asked(&mut peer, Command::DmaRead);
    drop(peer);
    assert_eq!(reader.join().unwrap(), Err(DmaError::Gone { address: 0x1000, len: 8 }));
    rig.card.is_left();
    assert_eq!(client.dma_write(0, &[1]), Err(DmaError::Gone { address: 0, len: 1 }));
}

#[test]
fn a_client_that_is_silent_is_waited_for_a_second() {
    let rig = Rig::new();
    let mut peer = rig.peer();
    let since = Instant::now();
    let reader = read(rig.card.client(), 0x1000, 8);
    let (id, access, _) = asked(&mut peer, Command::DmaRead);
    assert_eq!(reader.join().unwrap(), Err(DmaError::TimedOut { address: 0x1000, len: 8 }));
    assert!((Duration::from_millis(950)..DEADLINE).contains(&since.elapsed()), "{:?}", since.elapsed());
    answer(&peer, id, Command::DmaRead, access, &[0; 8]);
    peer.is_served();
    answer(&peer, id, Command::DmaRead, access, &[0; 8]);
    assert!(peer.is_ended(), "too late is forgiven once");
}

/// ```text
/// peer                    socket's thread             another thread
///  | read BAR 0 -------------> | .. what is there? ------> |
///  | <------------------------ | <---- DMA read ---------- |
///  | posted write, answer ---> | wait() ------- data ----> |
///  | <------------ answer ---- | <------ this is --------- |
///  |                           | the posted write          |
/// ```
#[test]
fn memory_is_reached_while_an_answer_is_owed() {
    let rig = Rig::new();
    let mut peer = rig.peer();
    let client = rig.card.client();
    *rig.card.on_read.lock().unwrap() = Some(Box::new(move |wait| {
        let reader = read(client.clone(), 0x1000, 8);
        while !reader.is_finished() {
            wait();
        }
        assert_eq!(reader.join().unwrap(), Ok(vec![5; 8]));
    }));
    let bar0 = RegionAccess { offset: 0, region: 0, count: 4 };
    peer.send(&message(1, Command::RegionRead as u16, 0, bar0.as_bytes()));
    let (id, access, _) = asked(&mut peer, Command::DmaRead);
    let write = [bar0.as_bytes(), &[1, 2, 3, 4]].concat();
    peer.send(&message(2, Command::RegionWrite as u16, 0x10, &write));
    answer(&peer, id, Command::DmaRead, access, &[5; 8]);
    let (header, payload) = peer.receive().unwrap();
    assert_eq!((header.id, &payload[16..]), (1, &[0, 1, 2, 3][..]));
    *rig.card.on_read.lock().unwrap() = None;
    peer.is_served();
    assert_eq!(rig.card.events(), [Event::Attach, Event::Write(Region::Bar0, 0, vec![1, 2, 3, 4])]);
}

/// A client that asks more than is kept is held up by its socket; nothing of it is lost.
#[test]
fn requests_are_kept_up_to_a_bound_while_an_answer_is_owed() {
    const WRITES: u32 = 5000;
    let rig = Rig::new();
    let mut peer = rig.peer();
    let (done, go_on) = mpsc::channel::<()>();
    *rig.card.on_read.lock().unwrap() = Some(Box::new(move |wait| {
        while go_on.try_recv() == Err(mpsc::TryRecvError::Empty) {
            wait();
        }
    }));
    let bar0 = RegionAccess { offset: 0, region: 0, count: 4 };
    peer.send(&message(1, Command::RegionRead as u16, 0, bar0.as_bytes()));
    let written = AtomicU32::new(0);
    thread::scope(|scope| {
        let (peer, written) = (&peer, &written);
        scope.spawn(move || {
            for number in 0..WRITES {
                let write = [bar0.as_bytes(), &number.to_le_bytes()].concat();
                peer.send(&message(2, Command::RegionWrite as u16, 0x10, &write));
                written.store(number + 1, Ordering::Relaxed);
            }
        });
        let mut seen = u32::MAX;
        while written.load(Ordering::Relaxed) != seen {
            seen = written.load(Ordering::Relaxed);
            thread::sleep(Duration::from_millis(50));
        }
        assert!((256..WRITES).contains(&seen), "{seen} writes were taken");
        drop(done);
    });
    assert_eq!(peer.receive().unwrap().0.id, 1);
    *rig.card.on_read.lock().unwrap() = None;
    peer.is_served();
    let written = (0..WRITES).map(|number| Event::Write(Region::Bar0, 0, number.to_le_bytes().to_vec()));
    assert!(rig.card.events()[1..].iter().eq(&written.collect::<Vec<_>>()));
}

/// `unmap` waits until no thread touches the memory, and a thread that touches it waits for the client: the
/// socket's thread need not help for that to come to an end.
#[test]
fn memory_is_reached_while_some_is_taken_back() {
    let rig = Rig::new();
    let mut peer = rig.peer();
    let map = DmaMap { argsz: 32, flags: 3, offset: 0, address: 0x1000, size: 0x1000 };
    assert_eq!(peer.errno(Command::DmaMap, map.as_bytes(), &[]), 0);
    let client = rig.card.client();
    let (report, outcome) = mpsc::channel();
    *rig.card.on_unmap.lock().unwrap() = Some(Box::new(move |_| {
        report.send(read(client.clone(), 0x1000, 8).join().unwrap()).unwrap();
    }));
    let unmap = DmaUnmap { argsz: 24, flags: 0, address: 0x1000, size: 0x1000 };
    peer.send(&message(1, Command::DmaUnmap as u16, 0, unmap.as_bytes()));
    let (id, access, _) = asked(&mut peer, Command::DmaRead);
    answer(&peer, id, Command::DmaRead, access, &[9; 8]);
    assert_eq!(peer.receive().unwrap().0.id, 1);
    assert_eq!(outcome.recv_timeout(DEADLINE).unwrap(), Ok(vec![9; 8]));
}
