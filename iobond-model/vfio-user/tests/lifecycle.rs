//! Servers and connections begin and end.
#![allow(clippy::unwrap_used)] // of tests

mod rig;

use std::{
    fs,
    os::unix::net::UnixListener,
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, Instant},
};

use iobond_vfio_user::{Irq, Server, ServerError, protocol::*};
use rig::{Card, Peer, Rig, borrow, event, eventually, message, version};
use tempfile::TempDir;
use zerocopy::IntoBytes;

#[test]
fn a_socket_that_was_left_behind_is_replaced_and_nothing_else_is() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("card.sock");
    let start = || Server::start(&path, std::sync::Arc::new(Card::default()));
    drop(UnixListener::bind(&path).unwrap());
    let server = start().unwrap();
    assert!(matches!(start(), Err(ServerError::InUse(at)) if at == path));
    Peer::connect(&path).agree("");
    drop(server);
    assert!(!path.exists());
    fs::write(&path, "precious").unwrap();
    assert!(matches!(start(), Err(ServerError::NoSocket(at)) if at == path));
    assert_eq!(fs::read(&path).unwrap(), b"precious");
    let nowhere = folder.path().join("no/card.sock");
    let error = Server::start(&nowhere, std::sync::Arc::new(Card::default())).unwrap_err();
    assert!(matches!(error, ServerError::System { .. }), "{error}");
}

#[test]
fn a_server_leaves_the_socket_of_its_successor() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("card.sock");
    let server = Server::start(&path, std::sync::Arc::new(Card::default())).unwrap();
    fs::remove_file(&path).unwrap();
    let successor = Server::start(&path, std::sync::Arc::new(Card::default())).unwrap();
    drop(server);
    Peer::connect(&path).agree("");
    drop(successor);
    assert!(!path.exists());
}

#[test]
fn a_second_client_waits_for_the_first_to_go() {
    let rig = Rig::new();
    let mut first = rig.peer();
    let mut second = rig.connect();
    second.send(&message(1, Command::Version as u16, 0, &version("")));
    second.socket.set_nonblocking(true).unwrap();
    thread::sleep(Duration::from_millis(20));
    let nothing = std::io::Read::read(&mut second.socket, &mut [0]).unwrap_err();
    assert_eq!(nothing.kind(), std::io::ErrorKind::WouldBlock);
    first.is_served();
    drop(first);
    second.socket.set_nonblocking(false).unwrap();
    assert_eq!(second.receive().unwrap().0.id, 1);
    second.is_served();
}

#[test]
fn a_server_stops_under_a_flood() {
    let mut rig = Rig::new();
    let peer = rig.peer();
    let flood = thread::spawn(move || {
        let access = RegionAccess { offset: 0, region: 0, count: 4 };
        let write = message(1, Command::RegionWrite as u16, 0x10, &[access.as_bytes(), &[0; 4]].concat());
        while peer.try_send_with(&write, &[]).is_ok() {}
    });
    eventually("the flood is there", || rig.card.events.lock().unwrap().len() > 1000);
    let since = Instant::now();
    rig.server = None;
    assert!(since.elapsed() < rig::DEADLINE, "{:?}", since.elapsed());
    flood.join().unwrap();
    rig.card.is_left();
}

#[test]
fn interrupts_may_be_raised_while_clients_come_and_go() {
    let rig = Rig::new();
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        let raise = || {
            while !over.load(Ordering::Relaxed) {
                let client = rig.card.client.lock().unwrap().clone();
                if let Some(client) = client {
                    (0..rig::MSIX_VECTORS + 1).for_each(|vector| client.trigger(Irq::Msix, vector));
                    client.trigger(Irq::Intx, 0);
                }
            }
        };
        let raising = [scope.spawn(raise), scope.spawn(raise)];
        for _ in 0..50 {
            let mut peer = rig.peer();
            let events: [_; 8] = std::array::from_fn(|_| event());
            let flags = (IrqSetFlags::DATA_EVENTFD | IrqSetFlags::ACTION_TRIGGER).bits();
            let set = IrqSet { argsz: 20, flags, index: Irq::Msix as u32, start: 0, count: 8 };
            assert_eq!(peer.errno(Command::DeviceSetIrqs, set.as_bytes(), &borrow(&events)), 0);
            eventually("interrupts", || events.iter().all(|event| rig::signals(event) > 0));
        }
        over.store(true, Ordering::Relaxed);
        raising.into_iter().for_each(|thread| thread.join().unwrap());
    });
    rig.card.is_left();
}
