//! The fabric of virtual time: every access takes the time of the links that it crosses, and then is done to
//! memory that takes none.

use std::cell::Cell;

use iobond_spec::address::{Address, FunctionId};

use super::{
    Clock, Flight, Span, Time, Tlp,
    dma::{Dma, Side, complete, raw},
    packets::{ToBase, ToBoard},
};
use crate::fabric::{Copy, Direction, Fabric, Fault, Read, ready};

/// How far ahead of the wire an engine may write. A judgement: 1 KiB before an x4 link, as the FIFO of a hard
/// block.
const WRITE_AHEAD: Span = Span::from_ns(256);
/// Requests of one read that are put on the wire together.
const TOGETHER: usize = 16;

/// What one queue's engine reaches, over memory without time.
pub(super) struct Timed<'b, M> {
    pub(super) clock: &'b Clock,
    pub(super) memory: &'b M,
    pub(super) board: &'b Side,
    pub(super) base: &'b Side,
    pub(super) dma: &'b Dma,
    pub(super) to_board: &'b Flight<ToBoard>,
    pub(super) to_base: &'b Flight<ToBase>,
    pub(super) queue: usize,
    /// The interrupt that was raised last; the queue's task sends it.
    pub(super) interrupt: Cell<Option<(FunctionId, u16)>>,
}

impl<M: Fabric> Timed<'_, M> {
    fn side(&self, at: Address) -> &Side {
        match at {
            Address::Board(_) => self.board,
            Address::Base(_) => self.base,
        }
    }

    /// Reads `len` bytes: `sample` looks at them when the first request is at the memory.
    async fn fetch<T>(&self, at: Address, len: u32, sample: impl FnOnce() -> T) -> T {
        let (clock, side) = (self.clock, self.side(at));
        let mut requests = side.out.pcie().read_requests(raw(at), len).peekable();
        let (mut sample, mut sampled) = (Some(sample), None);
        let together = TOGETHER.min(usize::from(self.dma.workers()));
        while requests.peek().is_some() {
            let mut under_way = [(Time::ZERO, 0, 0); TOGETHER];
            let mut count = 0;
            for (at, len) in requests.by_ref().take(together) {
                under_way[count] = (Time::ZERO, at, len);
                count += 1;
            }
            // All or none, so that no two wait for each other's.
            self.dma.tags().take_many(clock, count as u32).await;
            for (arrival, ..) in &mut under_way[..count] {
                *arrival = side.out.send(clock.now(), Tlp::MemoryRead) + side.memory;
            }
            let mut back = clock.now();
            for &(arrival, at, len) in &under_way[..count] {
                clock.until(arrival).await;
                if let Some(sample) = sample.take() {
                    sampled = Some(sample());
                }
                back = complete(clock.now(), side, at, len);
            }
            clock.until(back).await;
            self.dma.tags().give_many(clock, count as u32);
        }
        match (sampled, sample) {
            (Some(sampled), _) => sampled,
            (None, Some(sample)) => sample(),
            (None, None) => unreachable!("a sample is taken once"),
        }
    }

    /// Puts `len` bytes on the wire to `at`; when the last of them arrives.
    async fn post(&self, at: Address, len: u32) -> Time {
        let side = self.side(at);
        let mut there = self.clock.now();
        for (_, data) in side.out.pcie().writes(raw(at), len) {
            self.clock.until(side.out.free_at() - WRITE_AHEAD).await;
            there = side.out.send(self.clock.now(), Tlp::MemoryWrite { data });
        }
        there
    }
}

impl<M: Fabric> Fabric for Timed<'_, M> {
    async fn read(&self, at: Address, into: &mut [u8]) -> Result<(), Fault> {
        let len = into.len() as u32;
        self.fetch(at, len, || ready(self.memory.read(at, into))).await
    }

    /// All requests are on the wire one after the other, and served in that order.
    async fn read_all(&self, reads: &mut [Read<'_>]) -> Result<(), Fault> {
        let most = (self.dma.workers() as usize).min(TOGETHER);
        for reads in reads.chunks_mut(most) {
            // Of a range that needs several requests the first stands for all: what is read ahead is short.
            let mut under_way = [Time::ZERO; TOGETHER];
            self.dma.tags().take_many(self.clock, reads.len() as u32).await;
            for (arrival, Read { at, .. }) in under_way.iter_mut().zip(&*reads) {
                let side = self.side(*at);
                *arrival = side.out.send(self.clock.now(), Tlp::MemoryRead) + side.memory;
            }
            let (mut back, mut result) = (self.clock.now(), Ok(()));
            for (arrival, Read { at, into }) in under_way.into_iter().zip(&mut *reads) {
                self.clock.until(arrival).await;
                result = result.and(ready(self.memory.read(*at, into)));
                back = complete(self.clock.now(), self.side(*at), raw(*at), into.len() as u32).max(back);
            }
            self.clock.until(back).await;
            self.dma.tags().give_many(self.clock, reads.len() as u32);
            result?;
        }
        Ok(())
    }

    /// The bytes are there at once; they are not looked at before the index that follows them.
    async fn write(&self, at: Address, from: &[u8]) -> Result<(), Fault> {
        self.post(at, from.len() as u32).await;
        ready(self.memory.write(at, from))
    }

    async fn copy_all(&self, direction: Direction, copies: &[Copy]) -> Result<(), Fault> {
        let source = match direction {
            Direction::Up => self.board,
            Direction::Down => self.base,
        };
        self.dma.copy_all(self.clock, self.queue, direction, copies, source).await
    }

    async fn load(&self, at: Address) -> Result<u16, Fault> {
        self.fetch(at, 2, || ready(self.memory.load(at))).await
    }

    /// The value is there when it arrives. An address that cannot be written is found out at once, as reads
    /// before it found out about the ring.
    async fn store(&self, at: Address, value: u16) -> Result<(), Fault> {
        ready(self.memory.load(at))?;
        let there = self.post(at, 2).await;
        match at {
            Address::Board(at) => self.to_board.launch(self.clock, there, ToBoard::Store { at, value }),
            Address::Base(at) => self.to_base.launch(self.clock, there, ToBase::Store { at, value }),
        }
        Ok(())
    }

    /// A read pushes what was written before it ahead of itself.
    fn fence(&self) {}

    fn interrupt(&self, function: FunctionId, vector: u16) {
        self.interrupt.set(Some((function, vector)));
    }
}
