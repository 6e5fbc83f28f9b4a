//! Payload that means something: each request carries a frame with its number out, and one back, and both
//! ends hold what arrives against what was sent.
//!
//! ```text
//!   virtio-net header | Ethernet | IPv4 | UDP | number, and bytes that follow from it
//!         12              14       20      8     8 and more
//! ```
//! Board b's queue q has the MAC address 02:00:00:00:b:q and the IPv4 address 198.18.b.q+1, and its back end
//! 02:00:00:01:b:q and 198.19.b.q+1, of networks for benchmarks (RFC 2544, C.2.2). The UDP ports are those of
//! an echo (RFC 862).

use std::cell::RefCell;

use bm_hypervisor::pool::IOVA;
use iobond_model::fabric::Direction;
use iobond_spec::ring::split::{DESC_NEXT, DESC_SIZE, DESC_WRITE, Descriptor, desc_bytes};
use smoltcp::{
    phy::ChecksumCapabilities,
    wire::{
        EthernetAddress, EthernetFrame, EthernetProtocol, EthernetRepr, IpProtocol, Ipv4Address, Ipv4Packet,
        Ipv4Repr, UdpPacket, UdpRepr,
    },
};
use vm_memory::{Bytes, GuestAddress};
use zerocopy::FromBytes;

use crate::{Fault, FrameFault, Plan, Shape, board::Board};

/// Bytes of a virtio-net header, as the plan counts them.
pub(super) const NET_HEADER: usize = crate::NET_HEADER as usize;
const ETHERNET: usize = 14;
const IPV4: usize = 20;
const UDP: usize = 8;
/// Bytes of the number.
const NUMBER: usize = size_of::<u64>();
/// UDP port of the echo service (RFC 862), and the first of the dynamic ones (RFC 6335, 6).
const ECHO: u16 = 7;
const DYNAMIC: u16 = 49152;
/// Hops that a frame may take; there are none. RFC 1700's recommendation.
const TTL: u8 = 64;

/// A board whose requests carry frames.
#[derive(Debug)]
pub(super) struct Frames {
    shape: Shape,
    /// Number of the board, which addresses have.
    board: usize,
    /// Of each queue, the numbers of the requests under way, as its driver made them.
    numbers: RefCell<Vec<Box<[u64]>>>,
}

/// Frame `number` of a board's queue, in a buffer of `len` bytes, at least [`LEAST`](crate::plan::LEAST).
fn frame(len: u32, direction: Direction, board: usize, queue: usize, number: u64) -> Vec<u8> {
    let mut bytes = vec![0; len as usize];
    let ends = [0, 1].map(|end| {
        let [board, queue] = [board as u8, queue as u8];
        (EthernetAddress([2, 0, 0, end, board, queue]), Ipv4Address::new(198, 18 + end, board, queue + 1))
    });
    let port = DYNAMIC + queue as u16;
    let ([from, to], [source, destination]) = match direction {
        Direction::Up => (ends, [port, ECHO]),
        Direction::Down => ([ends[1], ends[0]], [ECHO, port]),
    };
    let payload = bytes.len() - (NET_HEADER + ETHERNET + IPV4 + UDP);
    let ethernet = EthernetRepr { src_addr: from.0, dst_addr: to.0, ethertype: EthernetProtocol::Ipv4 };
    let ip = Ipv4Repr {
        src_addr: from.1,
        dst_addr: to.1,
        next_header: IpProtocol::Udp,
        payload_len: UDP + payload,
        hop_limit: TTL,
    };
    let checksums = ChecksumCapabilities::default();
    let mut wire = EthernetFrame::new_unchecked(&mut bytes[NET_HEADER..]);
    ethernet.emit(&mut wire);
    let mut packet = Ipv4Packet::new_unchecked(wire.payload_mut());
    ip.emit(&mut packet, &checksums);
    let fill = |data: &mut [u8]| {
        let (head, rest) = data.split_at_mut(NUMBER);
        head.copy_from_slice(&number.to_be_bytes());
        (number as u8..=u8::MAX).chain(0..=u8::MAX).cycle().zip(rest).for_each(|(byte, to)| *to = byte);
    };
    let mut datagram = UdpPacket::new_unchecked(packet.payload_mut());
    let ports = UdpRepr { src_port: source, dst_port: destination };
    ports.emit(&mut datagram, &from.1.into(), &to.1.into(), payload, fill, &checksums);
    bytes
}

/// What is wrong with bytes that should be those; nothing if nothing is.
fn differs(got: &[u8], wanted: &[u8]) -> Option<FrameFault> {
    if got.len() != wanted.len() {
        return Some(FrameFault::Length { found: got.len(), expected: wanted.len() });
    }
    let at = got.iter().zip(wanted).position(|(one, other)| one != other)?;
    Some(FrameFault::Byte { at, found: got[at], expected: wanted[at] })
}

/// What a driver and a back end do where requests carry frames, which is seldom.
impl Frames {
    /// Those of board `number`, of which at most `most` are under way in each queue.
    pub(super) fn new(plan: &Plan, number: usize, most: u16) -> Self {
        let numbers = vec![vec![0; usize::from(most)].into(); plan.queues.into()];
        Self { shape: plan.shape, board: number, numbers: RefCell::new(numbers) }
    }

    /// The driver writes the frame of its request number `number`, counted from the first.
    #[cold]
    pub(super) fn write(&self, board: &Board, queue: usize, request: u16, number: u64) -> Result<(), Fault> {
        let Self { shape, numbers, .. } = self;
        numbers.borrow_mut()[queue][usize::from(request)] = number;
        if shape.out == 0 {
            return Ok(());
        }
        let direction = Direction::Up;
        let bytes = frame(shape.out, direction, self.board, queue, number);
        let written = board.memory.write_slice(&bytes, GuestAddress(board.buffer(*shape, queue, request)));
        written.map_err(|_| Fault::Frame { queue, direction, number, wrong: FrameFault::Memory })
    }

    /// The back end looks at the frame of the chain at `head`, the queue's number `number`; its bytes, none
    /// if requests go one way.
    #[cold]
    pub(super) fn check(
        &self,
        board: &Board,
        queue: usize,
        head: u16,
        number: u64,
    ) -> Result<Vec<u8>, Fault> {
        let Self { shape, .. } = self;
        if shape.out == 0 {
            return Ok(Vec::new());
        }
        let mut got = Vec::with_capacity(shape.out as usize);
        for (at, len) in pieces(board, queue, head, false) {
            let from = got.len();
            got.resize(from + len.min(shape.out) as usize, 0);
            board.pool.mapping().read(at, &mut got[from..]);
        }
        self.compare(Direction::Up, queue, number, &got).map(|()| got)
    }

    /// The back end writes its answer to the queue's number `number` into the chain at `head`; its bytes,
    /// none if requests go one way.
    #[cold]
    pub(super) fn answer(
        &self,
        board: &Board,
        queue: usize,
        head: u16,
        number: u64,
    ) -> Result<Vec<u8>, Fault> {
        let Self { shape, .. } = self;
        if shape.back == 0 {
            return Ok(Vec::new());
        }
        let direction = Direction::Down;
        let bytes = frame(shape.back, direction, self.board, queue, number);
        let mut rest = bytes.as_slice();
        for (at, len) in pieces(board, queue, head, true) {
            let (part, left) = rest.split_at(rest.len().min(len as usize));
            board.pool.mapping().write(at, part);
            rest = left;
        }
        match rest.len() {
            0 => Ok(bytes),
            left => Err(Fault::Frame { queue, direction, number, wrong: FrameFault::Truncated(left) }),
        }
    }

    /// The driver looks at the answer to its request.
    #[cold]
    pub(super) fn check_answer(&self, board: &Board, queue: usize, request: u16) -> Result<(), Fault> {
        let Self { shape, numbers, .. } = self;
        if shape.back == 0 {
            return Ok(());
        }
        let number = numbers.borrow()[queue][usize::from(request)];
        let mut got = vec![0; shape.back as usize];
        let at = board.buffer(*shape, queue, request) + u64::from(shape.out);
        // What cannot be read stays zero, and differs.
        let _ = board.memory.read_slice(&mut got, GuestAddress(at));
        self.compare(Direction::Down, queue, number, &got)
    }

    fn compare(&self, direction: Direction, queue: usize, number: u64, got: &[u8]) -> Result<(), Fault> {
        let len = match direction {
            Direction::Up => self.shape.out,
            Direction::Down => self.shape.back,
        };
        let wrong = differs(got, &frame(len, direction, self.board, queue, number));
        wrong.map_or(Ok(()), |wrong| Err(Fault::Frame { queue, direction, number, wrong }))
    }
}

/// The pieces of a shadow chain that the back end may write, or those that it may read, as offsets into the
/// pool.
fn pieces(board: &Board, queue: usize, head: u16, write: bool) -> Vec<(u64, u32)> {
    let place = &board.places[queue];
    let (mut pieces, mut index) = (Vec::new(), head);
    // No chain is longer than its ring.
    for _ in 0..place.sizes.shadow {
        let mut bytes = [0; DESC_SIZE as usize];
        board.pool.mapping().read(place.desc + desc_bytes(index), &mut bytes);
        let Ok(Descriptor { addr, len, flags, next }) = Descriptor::read_from_bytes(&bytes) else {
            break;
        };
        if (flags.get() & DESC_WRITE != 0) == write {
            pieces.push((addr.get().wrapping_sub(IOVA.0), len.get()));
        }
        if flags.get() & DESC_NEXT == 0 {
            break;
        }
        index = next.get();
    }
    pieces
}

#[cfg(test)]
mod tests {
    use zerocopy::IntoBytes;

    use super::*;
    use crate::{Payload, plan::LEAST};

    /// The frame as another stack reads it.
    fn read(bytes: &[u8]) -> (String, String, u16, u16, u64) {
        let wire = EthernetFrame::new_checked(&bytes[NET_HEADER..]).unwrap();
        assert_eq!(wire.ethertype(), EthernetProtocol::Ipv4);
        let packet = Ipv4Packet::new_checked(wire.payload()).unwrap();
        assert!(packet.verify_checksum());
        assert_eq!(usize::from(packet.total_len()), bytes.len() - NET_HEADER - ETHERNET);
        let datagram = UdpPacket::new_checked(packet.payload()).unwrap();
        assert!(datagram.verify_checksum(&packet.src_addr().into(), &packet.dst_addr().into()));
        let number = datagram.payload().first_chunk().map(|bytes| u64::from_be_bytes(*bytes)).unwrap();
        let from = format!("{} {}", wire.src_addr(), packet.src_addr());
        let to = format!("{} {}", wire.dst_addr(), packet.dst_addr());
        (from, to, datagram.src_port(), datagram.dst_port(), number)
    }

    #[test]
    fn frames_are_what_they_say() {
        let ends = ["02-00-00-00-0f-3f 198.18.15.64", "02-00-00-01-0f-3f 198.19.15.64"].map(str::to_owned);
        let [board, base] = ends;
        for len in [LEAST, LEAST + 1, 1500, 65536] {
            let up = frame(len, Direction::Up, 15, 63, 1 << 40);
            assert_eq!(up.len(), len as usize);
            assert_eq!(read(&up), (board.clone(), base.clone(), 49215, 7, 1 << 40));
            let down = frame(len, Direction::Down, 15, 63, 7);
            assert_eq!(read(&down), (base.clone(), board.clone(), 7, 49215, 7));
        }
    }

    /// Frames, and their board, whose shadow chain at descriptor 0 has `bytes` in two slots, and a third for
    /// an answer.
    fn with_shadow_chain(bytes: &[u8]) -> (Frames, Board) {
        let shape = Shape { out: 100, back: 100 };
        let plan = Plan { payload: Payload::Frames, shape, ..Plan::default() };
        let board = Board::new(&plan).unwrap();
        let (place, mapping) = (&board.places[0], board.pool.mapping());
        let slots = [0, 1, 2].map(|slot| place.slots + slot * u64::from(plan.rings.slot_size));
        let lens = [64, bytes.len() as u32 - 64, 100];
        for (index, flags) in [(0, DESC_NEXT), (1, DESC_NEXT), (2, DESC_WRITE)] {
            let (at, next) = (usize::from(index), index + 1);
            let addr = board.pool.iova(slots[at]).0.into();
            let descriptor =
                Descriptor { addr, len: lens[at].into(), flags: flags.into(), next: next.into() };
            assert!(mapping.write(place.desc + desc_bytes(index), descriptor.as_bytes()));
        }
        assert!(mapping.write(slots[0], &bytes[..64]) && mapping.write(slots[1], &bytes[64..]));
        (Frames::new(&plan, 0, board.capacity), board)
    }

    #[test]
    fn a_back_end_sees_what_does_not_belong_there() {
        let good = frame(100, Direction::Up, 0, 0, 9);
        let check = |bytes: &[u8]| {
            let (frames, board) = with_shadow_chain(bytes);
            match frames.check(&board, 0, 0, 9) {
                Ok(got) => {
                    assert_eq!(got, bytes);
                    None
                }
                Err(Fault::Frame { queue: 0, direction: Direction::Up, number: 9, wrong }) => Some(wrong),
                Err(other) => panic!("{other}"),
            }
        };
        assert_eq!(check(&good), None);
        for at in [0, 63, 64, 99] {
            let mut bad = good.clone();
            bad[at] ^= 0x10;
            assert_eq!(check(&bad), Some(FrameFault::Byte { at, found: bad[at], expected: good[at] }));
        }
        assert_eq!(check(&good[..99]), Some(FrameFault::Length { found: 99, expected: 100 }));
        let another = |board, number| check(&frame(100, Direction::Up, board, 0, number));
        assert!(matches!(another(0, 8), Some(FrameFault::Byte { .. })), "another frame");
        assert!(matches!(another(1, 9), Some(FrameFault::Byte { .. })), "another board's");
    }

    #[test]
    fn an_answer_lands_in_the_chain_and_is_looked_at() {
        let (frames, board) = with_shadow_chain(&frame(100, Direction::Up, 0, 0, 9));
        let answer = frame(100, Direction::Down, 0, 0, 9);
        assert_eq!(frames.answer(&board, 0, 0, 9), Ok(answer.clone()));
        let mut got = [0; 100];
        let (place, slot) = (&board.places[0], 2 * u64::from(Plan::default().rings.slot_size));
        assert!(board.pool.mapping().read(place.slots + slot, &mut got));
        assert_eq!(differs(&got, &answer), None);

        frames.write(&board, 0, 0, 9).unwrap();
        let at = GuestAddress(board.buffer(Shape { out: 100, back: 100 }, 0, 0) + 100);
        board.memory.write_slice(&got, at).unwrap();
        assert_eq!(frames.check_answer(&board, 0, 0), Ok(()));
        frames.write(&board, 0, 0, 10).unwrap();
        let of_ten = frames.check_answer(&board, 0, 0);
        assert!(matches!(of_ten, Err(Fault::Frame { direction: Direction::Down, number: 10, .. })));
    }
}
