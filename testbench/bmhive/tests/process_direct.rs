//! The board's drivers on the real back ends with no IO-Bond between: what the figures through IO-Bond are
//! compared with.
//!
//! ```text
//!   Blk, Net, Host -- DirectTransport == Unix socket == vhost_backends::{blk, net}
//!                          board memory (memfd)
//! ```

#![allow(clippy::unwrap_used, reason = "a test ends where something is not as it must be")]

use std::{
    collections::HashMap,
    fs,
    io::Cursor,
    net::{Ipv4Addr, SocketAddrV4},
    os::unix::net::UnixListener,
    path::{Path, PathBuf},
    rc::Rc,
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use rig::{frames::next_frame, wait::wait_until};
use software_board::{
    blk::{Blk, BlkError, SECTOR},
    direct::{BackEnd, DeviceConfig, DirectTransport},
    memory::{self, DmaMemory},
    net::Net,
    queue::RingOptions,
    tcp::{Host, Progress, Stream},
    transport::TransportError,
};
use vhost_backends::{Peering, blk, net};
use virtio_drivers::transport::DeviceType;

const DEADLINE: Duration = Duration::from_secs(20);
const ONCE: Peering = Peering { connect: false, once: true };
/// Bytes of the disk image.
const IMAGE: usize = 4 << 20;

/// Pings and pongs, and the number of frames that are neither.
const TURNS: u16 = 2000;
const MEETING: u16 = u16::MAX;

type Transport = DirectTransport<fn()>;

/// A back end in a thread. It ends when its front ends have gone.
struct Served {
    thread: Option<JoinHandle<Result<(), vhost_backends::Error>>>,
}

impl Served {
    fn new(
        serve: impl FnOnce() -> Result<(), vhost_backends::Error> + Send + 'static,
        sockets: &[PathBuf],
    ) -> Self {
        let thread = thread::spawn(serve);
        let listens = wait_until(DEADLINE, || {
            assert!(!thread.is_finished(), "the back end ended");
            sockets.iter().all(|socket| socket.exists())
        });
        assert!(listens, "the back end does not listen");
        Self { thread: Some(thread) }
    }

    /// The front ends are gone: waits for the back end to end.
    fn finish(mut self) {
        let thread = self.thread.take().unwrap();
        assert!(wait_until(DEADLINE, || thread.is_finished()), "the back end does not end");
        thread.join().unwrap().unwrap();
    }
}

fn transport(back_end: BackEnd) -> Result<(Transport, Rc<DmaMemory>), TransportError> {
    let memory = memory::create(32).unwrap();
    let transport = DirectTransport::connect(back_end, &memory, thread::yield_now as fn())?;
    Ok((transport, DmaMemory::new(&memory).unwrap()))
}

fn disk_at(socket: &Path) -> BackEnd {
    BackEnd {
        socket: socket.into(),
        device: DeviceType::Block,
        queues: 1,
        queue_size: 256,
        features: 0,
        config: DeviceConfig::BackEnd,
    }
}

fn port_at(socket: &Path, number: u8) -> BackEnd {
    BackEnd {
        socket: socket.into(),
        device: DeviceType::Network,
        queues: 2,
        queue_size: 256,
        // VIRTIO_NET_F_MAC: the address is given here, the switch has none to give.
        features: 1 << 5,
        config: DeviceConfig::Given(vec![2, 0, 0, 0, 0, number]),
    }
}

/// Runs `work` on a disk of `sectors` numbered sectors, and compares the image with what it says must be
/// there.
fn with_disk(options: RingOptions, work: impl FnOnce(&mut Blk<Transport>, &mut Vec<u8>)) {
    let directory = tempfile::tempdir().unwrap();
    let (image, socket) = (directory.path().join("image"), directory.path().join("socket"));
    let mut model: Vec<u8> = (0..IMAGE).map(|at| (at / SECTOR) as u8).collect();
    fs::write(&image, &model).unwrap();
    let serving = blk::Options {
        socket: socket.clone(),
        image: image.clone(),
        read_only: false,
        serial: "direct".into(),
        queues: 1,
        queue_size: 256,
        poll_us: 50,
        peering: ONCE,
    };
    let served = Served::new(move || blk::serve(serving), std::slice::from_ref(&socket));

    let (transport, memory) = transport(disk_at(&socket)).unwrap();
    let mut disk = Blk::new(transport, &memory, options).unwrap();
    assert_eq!(disk.capacity(), (IMAGE / SECTOR) as u64);
    work(&mut disk, &mut model);
    disk.flush().unwrap();
    drop(disk);
    served.finish();
    assert!(fs::read(&image).unwrap() == model, "the image differs");
}

#[test]
fn one_request_at_a_time_writes_reads_and_clears() {
    with_disk(RingOptions::default(), |disk, model| {
        assert_eq!(disk.serial().unwrap(), "direct");
        for turn in 0..500u64 {
            let sector = turn * 37 % (IMAGE / SECTOR - 8) as u64;
            let data = vec![turn as u8 ^ 0x5A; 4096];
            disk.write(sector, &data).unwrap();
            model[sector as usize * SECTOR..][..4096].copy_from_slice(&data);
            let at = (sector ^ 64) as usize % (IMAGE / SECTOR - 8);
            let mut read = vec![0; 4096];
            disk.read(at as u64, &mut read).unwrap();
            assert!(read == model[at * SECTOR..][..4096], "sector {at} at turn {turn}");
        }
        disk.write_zeroes(100, 50, false).unwrap();
        model[100 * SECTOR..150 * SECTOR].fill(0);
        let beyond = disk.read((IMAGE / SECTOR) as u64, &mut [0; SECTOR]).unwrap_err();
        assert!(matches!(beyond, BlkError::Status { what: "read", status: 1, .. }), "{beyond}");
    });
}

/// Keeps 32 requests in flight; every sector is written once and read once, in an order of its own.
fn thirty_two_at_a_time(options: RingOptions) {
    const DEPTH: usize = 32;
    const BYTES: usize = 4096;
    let places = IMAGE / BYTES;
    with_disk(options, |disk, model| {
        for write in [true, false] {
            let mut in_flight = HashMap::new();
            let (mut started, mut finished) = (0, 0);
            let start = Instant::now();
            while finished < places {
                while started < places && in_flight.len() < DEPTH && disk.can_submit() {
                    let place = started * 331 % places;
                    let span = place * BYTES..(place + 1) * BYTES;
                    let sector = (place * BYTES / SECTOR) as u64;
                    let token = if write {
                        model[span.clone()].fill(place as u8 ^ 0xC3);
                        disk.submit_write(sector, model[span].to_vec())
                    } else {
                        disk.submit_read(sector, vec![0; BYTES])
                    };
                    assert_eq!(in_flight.insert(token.unwrap(), place), None, "a token twice");
                    started += 1;
                }
                disk.kick();
                let done = disk.poll_completions(|completion| {
                    completion.outcome.unwrap();
                    let place = in_flight.remove(&completion.token).unwrap();
                    assert!(completion.buffer == model[place * BYTES..(place + 1) * BYTES], "place {place}");
                });
                finished += done.unwrap();
                assert!(start.elapsed() < DEADLINE, "{finished} of {places} after {DEADLINE:?}");
                disk.relax();
            }
        }
    });
}

#[test]
fn thirty_two_requests_in_flight_with_events_and_interrupts() {
    thirty_two_at_a_time(RingOptions::default());
}

#[test]
fn thirty_two_requests_in_flight_polled() {
    thirty_two_at_a_time(RingOptions::POLLED);
}

#[test]
fn thirty_two_requests_in_flight_without_indirect_descriptors() {
    thirty_two_at_a_time(RingOptions { indirect: false, ..RingOptions::default() });
}

/// Two boards at two ports of a switch, on this thread.
fn with_boards(options: RingOptions, work: impl FnOnce([Net<Transport>; 2])) {
    let directory = tempfile::tempdir().unwrap();
    let ports = [1, 2].map(|number| directory.path().join(format!("port{number}")));
    let serving =
        net::Options { ports: ports.to_vec(), pcap_dir: None, queues: 1, poll_us: 50, peering: ONCE };
    let served = Served::new(move || net::serve(serving), &ports);
    let boards = [0, 1].map(|side| {
        let (transport, memory) = transport(port_at(&ports[side], side as u8 + 1)).unwrap();
        Net::new(transport, &memory, options).unwrap()
    });
    work(boards);
    served.finish();
}

/// An Ethernet frame of 64 bytes, of a type for local experiments.
fn frame(to: u8, from: u8, number: u16) -> [u8; 64] {
    let mut frame = [0; 64];
    frame[..12].copy_from_slice(&[2, 0, 0, 0, 0, to, 2, 0, 0, 0, 0, from]);
    frame[12..14].copy_from_slice(&[0x88, 0xB5]);
    frame[14..16].copy_from_slice(&number.to_be_bytes());
    frame
}

/// Sends frames until one arrives: the switch learns of a port from its first kick, and drops what comes for
/// it before.
fn meet(from: &mut Net<Transport>, to: &mut Net<Transport>, frame: &[u8]) {
    let start = Instant::now();
    while start.elapsed() < DEADLINE {
        assert_eq!(from.send(frame), Ok(true));
        thread::sleep(Duration::from_millis(5));
        let mut met = false;
        while let Some(received) = to.receive().unwrap() {
            met = true;
            to.recycle(received).unwrap();
        }
        to.kick();
        if met {
            return;
        }
    }
    panic!("no frame arrives within {DEADLINE:?}");
}

/// Sends a frame from one board and receives it at the other; late ones of [`meet`] are passed over.
fn pass(from: &mut Net<Transport>, to: &mut Net<Transport>, frame: &[u8], turn: u16) {
    assert_eq!(from.send(frame), Ok(true));
    loop {
        let received = next_frame(to);
        let (arrived, late) = (received.bytes() == frame, received.bytes()[14..16] == MEETING.to_be_bytes());
        assert!(arrived || late, "turn {turn}: {:x?}", received.bytes());
        to.recycle(received).unwrap();
        to.kick();
        if arrived {
            return;
        }
    }
}

fn ping_pong(options: RingOptions) {
    with_boards(options, |[mut left, mut right]| {
        meet(&mut left, &mut right, &frame(2, 1, MEETING));
        meet(&mut right, &mut left, &frame(1, 2, MEETING));
        for turn in 0..TURNS {
            let (ping, pong) = (frame(2, 1, turn), frame(1, 2, turn));
            pass(&mut left, &mut right, &ping, turn);
            pass(&mut right, &mut left, &pong, turn);
        }
    });
}

#[test]
fn frames_go_there_and_back_through_the_switch() {
    ping_pong(RingOptions::default());
}

#[test]
fn frames_go_there_and_back_through_the_switch_polled() {
    ping_pong(RingOptions::POLLED);
}

#[test]
fn a_stream_goes_from_board_to_board() {
    let data: Vec<u8> = (0..4 << 20).map(|at: u32| (at ^ at >> 9) as u8).collect();
    with_boards(RingOptions::default(), |boards| {
        let mut number = 0;
        let [mut client, mut server] = boards.map(|net| {
            number += 1;
            Host::new(net, Ipv4Addr::new(10, 0, 0, number), 24, number.into())
        });
        let mut received = Vec::new();
        let mut receiver = server.receive_stream(7, &mut received).unwrap();
        let to = SocketAddrV4::new(Ipv4Addr::new(10, 0, 0, 2), 7);
        let mut sender = client.send_stream(Cursor::new(&data), to, 40000).unwrap();
        let (mut sent, mut arrived) = (Progress::Running, Progress::Running);
        let start = Instant::now();
        while sent == Progress::Running || arrived == Progress::Running {
            if sent == Progress::Running {
                sent = sender.step(&mut client).unwrap();
            }
            if arrived == Progress::Running {
                arrived = receiver.step(&mut server).unwrap();
            }
            client.net().relax();
            assert!(start.elapsed() < DEADLINE, "{sent:?}, {arrived:?} after {DEADLINE:?}");
        }
        assert_eq!([sent, arrived], [Progress::Done(data.len() as u64); 2]);
        assert!(received == data, "the stream differs");
    });
}

#[test]
fn a_back_end_that_is_not_there_or_does_not_answer_is_named() {
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("socket");
    let message_that_failed = || {
        let start = Instant::now();
        let error = transport(disk_at(&socket)).err();
        assert!(start.elapsed() < Duration::from_secs(10), "not bounded");
        match error {
            Some(TransportError::VhostUser { socket: named, message, .. }) if named == socket => {
                Some(message)
            }
            _ => None,
        }
    };
    assert_eq!(message_that_failed(), Some("connect"));
    let listener = UnixListener::bind(&socket).unwrap();
    assert_eq!(message_that_failed(), Some("GET_FEATURES"), "not accepted, not answered");
    drop(listener);
    assert_eq!(message_that_failed(), Some("connect"));
}
