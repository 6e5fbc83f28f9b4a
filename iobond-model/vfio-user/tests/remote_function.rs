//! A function that another process serves, as its host uses it: with our own server, and with ones that do
//! not behave.
#![allow(clippy::unwrap_used)] // of tests

mod rig;

use std::{
    fs::File,
    io::{Read, Write},
    os::{
        fd::AsFd,
        unix::net::{UnixListener, UnixStream},
    },
    sync::mpsc,
    thread,
    time::{Duration, Instant},
};

use iobond_vfio_user::{Errno, Irq, Region, RemoteError, RemoteFunction, protocol::Command};
use rig::{Event, Rig, event, signals};
use rustix::{
    fs::{MemfdFlags, ftruncate, memfd_create},
    net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, bind, listen, socket_with},
};

const TIMEOUT: Duration = Duration::from_secs(5);
const SHORT: Duration = Duration::from_secs(1);

#[test]
fn a_server_of_ours_is_used_in_every_way() {
    let rig = Rig::new();
    let function = RemoteFunction::connect(&rig.socket(), TIMEOUT).unwrap();
    assert_eq!(function.region_size(Region::Bar0).unwrap(), 2 << 20);
    assert_eq!(function.region_size(Region::Bar1).unwrap(), 0);
    let mut config = [0; 16];
    function.read(Region::Config, 16, &mut config).unwrap();
    assert_eq!(config, std::array::from_fn(|at| 16 + at as u8));
    let refused = function.read(Region::Bar1, 0, &mut config);
    assert!(matches!(
        refused,
        Err(RemoteError::Refused { command: Command::RegionRead, errno: Errno::INVAL })
    ));
    function.write(Region::Bar0, 8, &[1, 2, 3, 4]).unwrap();

    let memory = File::from(memfd_create("memory", MemfdFlags::CLOEXEC).unwrap());
    ftruncate(&memory, 0x2000).unwrap();
    function.map(0x10_0000, 0x1000, memory.as_fd(), 0x1000).unwrap();
    function.unmap(0x10_0000, 0x1000).unwrap();
    let missing = function.unmap(0x10_0000, 0x1000);
    assert!(matches!(missing, Err(RemoteError::Refused { errno: Errno::NOENT, .. })), "{missing:?}");

    let events = [event(), event()];
    function.signal(Irq::Msix, 3, &events.each_ref().map(AsFd::as_fd)).unwrap();
    rig.card.client().trigger(Irq::Msix, 4);
    assert_eq!(events.each_ref().map(signals), [0, 1]);
    function.reset().unwrap();
    let written = Event::Write(Region::Bar0, 8, vec![1, 2, 3, 4]);
    let mapped = Event::Map("0x100000..=0x100fff rw of a file from 0x1000".into());
    let unmapped = Event::Unmap(0x10_0000, 0x1000);
    assert_eq!(rig.card.events(), [Event::Attach, written, mapped, unmapped, Event::Reset]);
}

#[test]
fn a_kept_connection_keeps_the_function() {
    let rig = Rig::new();
    let function = RemoteFunction::connect(&rig.socket(), TIMEOUT).unwrap();
    let kept = function.connection().try_clone_to_owned().unwrap();
    drop(function);
    let function = RemoteFunction::resume(UnixStream::from(kept), TIMEOUT).unwrap();
    function.write(Region::Bar0, 0, &[7]).unwrap();
    function.reset().unwrap();
    assert_eq!(rig.card.events(), [Event::Attach, Event::Write(Region::Bar0, 0, vec![7]), Event::Reset]);
}

/// What a function says of a server that does `serve` with its connection, after agreeing on a version or in
/// its place.
fn meet(agree: bool, timeout: Duration, serve: impl FnOnce(UnixStream) + Send + 'static) -> RemoteError {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("socket");
    let listener = UnixListener::bind(&path).unwrap();
    let server = thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        if agree {
            let mut header = [0; 16];
            stream.read_exact(&mut header).unwrap();
            let mut rest = vec![0; u32::from_ne_bytes(header[4..8].try_into().unwrap()) as usize - 16];
            stream.read_exact(&mut rest).unwrap();
            let answer = [&header[..4], &20u32.to_ne_bytes(), &1u32.to_ne_bytes(), &[0; 4], &[0, 0, 1, 0]];
            // On a busy machine it may have been given up already.
            let _ = stream.write_all(&answer.concat());
        }
        serve(stream);
    });
    let met = RemoteFunction::connect(&path, timeout).and_then(|function| {
        let first = function.read(Region::Bar0, 0, &mut [0; 4]);
        assert!(matches!(function.write(Region::Bar0, 0, &[0]), Err(RemoteError::Gone)), "it is given up");
        first
    });
    server.join().unwrap();
    met.unwrap_err()
}

#[test]
fn a_server_that_does_not_answer_is_not_waited_for() {
    let until_closed = |mut stream: UnixStream| drop(stream.read_to_end(&mut Vec::new()));
    let start = Instant::now();
    assert!(matches!(
        meet(true, SHORT, until_closed),
        RemoteError::Silent { command: Command::RegionRead, .. }
    ));
    assert!(matches!(
        meet(false, SHORT, until_closed),
        RemoteError::Silent { command: Command::Version, .. }
    ));
    assert!(start.elapsed() < TIMEOUT);
    assert!(matches!(meet(true, TIMEOUT, drop), RemoteError::Gone));
}

#[test]
fn a_server_that_does_not_accept_is_not_waited_for() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("socket");
    let listener = socket_with(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None).unwrap();
    bind(&listener, &SocketAddrUnix::new(&path).unwrap()).unwrap();
    listen(&listener, 0).unwrap();
    let _first_in_the_queue = UnixStream::connect(&path).unwrap();
    let (done, is_done) = mpsc::channel();
    thread::spawn(move || done.send(RemoteFunction::connect(&path, SHORT)));
    let met = is_done.recv_timeout(TIMEOUT).expect("it gives up");
    assert!(matches!(met, Err(RemoteError::Connect { .. })), "{met:?}");
}

#[test]
fn a_server_that_talks_nonsense_is_left() {
    let say = |bytes: &'static [u8]| {
        move |mut stream: UnixStream| {
            stream.write_all(bytes).unwrap();
            let _ = stream.read_to_end(&mut Vec::new());
        }
    };
    assert!(matches!(meet(true, TIMEOUT, say(&[0xff; 64])), RemoteError::Nonsense { .. }));
    assert!(matches!(
        meet(false, TIMEOUT, say(b"HTTP/1.1 400 Bad Request\r\n\r\n")),
        RemoteError::Nonsense { .. }
    ));
}

#[test]
fn a_missing_server_is_said_with_the_path() {
    let directory = tempfile::tempdir().unwrap();
    let error = RemoteFunction::connect(&directory.path().join("missing"), SHORT).unwrap_err();
    assert!(error.to_string().contains("missing within 1s"), "{error}");
}
