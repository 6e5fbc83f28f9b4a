//! Two boards on one thread, joined by a wire.

use std::{cell::RefCell, io::Cursor, rc::Rc};

use proptest::prelude::*;

use super::*;
use crate::{
    bus::Bus,
    memory::DmaMemory,
    pci::enumerate,
    queue::RingOptions,
    test_bus::{TestBus, TestFunction, World},
    transport::PciTransport,
};

type Board = Host<PciTransport<Rc<TestBus>>, 64>;

fn net(side: usize, world: &Rc<RefCell<World>>) -> Net<PciTransport<Rc<TestBus>>, 64> {
    let config = vec![2, 0, 0, 0, 0, side as u8 + 1, 1, 0];
    let mut function = TestFunction::new(1, 0x0200, 1 << 5 | 1 << 16 | 1 << 28 | 1 << 29, config);
    function.side = side;
    let bus = Rc::new(TestBus::new(vec![Some(function)], world));
    let function = enumerate(&*bus).unwrap().remove(0);
    let memory = DmaMemory::new(bus.memory()).unwrap();
    let transport = PciTransport::new(bus, function).unwrap();
    Net::new(transport, &memory, RingOptions::default()).unwrap()
}

fn boards() -> [Board; 2] {
    let world = Rc::default();
    [0, 1].map(|side| Host::new(net(side, &world), Ipv4Addr::new(10, 0, 0, side as u8 + 1), 24, side as u64))
}

const SERVER: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::new(10, 0, 0, 2), 7);

/// Steps both ends in turn until both are done, within so many rounds.
fn transfer(data: &[u8], rounds: usize) -> Result<Vec<u8>, TcpError> {
    let [mut client, mut server] = boards();
    let mut received = Vec::new();
    let mut receiver = server.receive_stream(7, &mut received)?;
    let mut sender = client.send_stream(Cursor::new(data), SERVER, 40000)?;
    let mut done = [Progress::Running; 2];
    for _ in 0..rounds {
        if done[0] == Progress::Running {
            done[0] = sender.step(&mut client)?;
        }
        client.net().relax();
        if done[1] == Progress::Running {
            done[1] = receiver.step(&mut server)?;
        }
        server.net().relax();
        if done == [Progress::Done(data.len() as u64); 2] {
            return Ok(received);
        }
    }
    panic!("not done after {rounds} rounds: {done:?}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(16))]
    #[test]
    fn a_stream_arrives_as_it_was_sent(data in proptest::collection::vec(any::<u8>(), 0..200_000)) {
        prop_assert_eq!(transfer(&data, 20_000).unwrap(), data);
    }
}

#[test]
fn a_stream_longer_than_every_buffer_arrives() {
    let data: Vec<u8> = (0..3 * WINDOW).map(|at| (at / 7) as u8).collect();
    assert!(transfer(&data, 100_000).unwrap() == data);
}

#[test]
fn a_connection_that_no_host_accepts_is_lost() {
    let [mut client, mut server] = boards();
    let mut sender = client.send_stream(&b"hello"[..], SERVER, 40000).unwrap();
    let lost = (0..1000).find_map(|_| {
        client.net().relax();
        server.poll().unwrap();
        server.net().relax();
        sender.step(&mut client).err()
    });
    assert!(matches!(lost, Some(TcpError::Lost { bytes: 0, .. })), "{lost:?}");
}

#[test]
fn a_writer_that_fails_ends_the_stream_with_its_error() {
    struct Full;
    impl Write for Full {
        fn write(&mut self, _: &[u8]) -> std::io::Result<usize> {
            Err(std::io::Error::new(std::io::ErrorKind::StorageFull, "disk full"))
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    let [mut client, mut server] = boards();
    let mut receiver = server.receive_stream(7, Full).unwrap();
    let mut sender = client.send_stream(&b"hello"[..], SERVER, 40000).unwrap();
    let failed = (0..1000).find_map(|_| {
        sender.step(&mut client).unwrap();
        client.net().relax();
        server.net().relax();
        receiver.step(&mut server).err()
    });
    let text = failed.map(|error| error.to_string());
    assert_eq!(text.as_deref(), Some("receiving by TCP: disk full after 0 bytes"));
}

#[test]
fn frames_go_back_and_forth_and_buffers_are_used_again() {
    let world = Rc::default();
    let [mut left, mut right] = [0, 1].map(|side| net(side, &world));
    assert_eq!(left.mac(), [2, 0, 0, 0, 0, 1]);
    for turn in 0..500u32 {
        let frame: Vec<u8> = (0..64).map(|at| at as u8 ^ turn as u8).collect();
        assert_eq!(left.send(&frame), Ok(true));
        left.relax();
        right.relax();
        let received = right.receive().unwrap().expect("what was sent is there after one pass");
        assert_eq!(received.bytes(), frame);
        right.recycle(received).unwrap();
        right.kick();
    }
    let too_long = left.send(&[0; 2000]);
    assert!(matches!(too_long, Err(NetError::Length { bytes: 2000, .. })));
}

#[test]
fn a_full_transmit_queue_says_so() {
    let world = Rc::default();
    let mut net = net(0, &world);
    let sent = (0..1000).take_while(|_| net.send(&[0; 64]) == Ok(true)).count();
    assert_eq!(sent, 64);
    net.relax();
    assert_eq!(net.send(&[0; 64]), Ok(true));
}
