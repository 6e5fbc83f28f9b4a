//! The only way out of an IO-Bond: reads and writes of the two memories, copies between them, interrupts to
//! the board.
//!
//! The queue engine is written over [`Fabric`] and knows neither time nor memory. In the `live` world every
//! future is ready at once; in a world with virtual time the same code waits for links and tags.

use std::{
    pin::pin,
    task::{Context, Poll, Waker},
};

use iobond_spec::address::{Address, BaseAddr, BoardAddr, FunctionId};

use crate::windows::Windows;

/// An access that went nowhere. It ends in the error state of the queue that caused it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs, reason = "the fields are those of the message")]
pub enum Fault {
    /// The range is not in board memory, or the function may not master the bus.
    #[error("{len} bytes at {at} are not in board memory, or bus mastering is off")]
    Board { at: BoardAddr, len: u64 },
    /// The range is not in base memory, or no DMA window grants it.
    #[error("{len} bytes at {at} are not in a granted DMA window")]
    Base { at: BaseAddr, len: u64 },
}

impl Fault {
    /// The fault of an access of `len` bytes at `at`.
    #[cold]
    pub fn at(at: Address, len: u64) -> Self {
        match at {
            Address::Board(at) => Self::Board { at, len },
            Address::Base(at) => Self::Base { at, len },
        }
    }
}

/// Which way payload goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// From the board to the base.
    Up,
    /// From the base to the board.
    Down,
}

/// `len` bytes of payload that are to be copied between `board` memory and `base` memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the fields are those of a DMA descriptor")]
pub struct Copy {
    pub board: BoardAddr,
    pub base: BaseAddr,
    pub len: u32,
}

impl Copy {
    /// Where the bytes come from, and where they go.
    #[inline]
    pub fn ends(self, direction: Direction) -> (Address, Address) {
        match direction {
            Direction::Up => (self.board.into(), self.base.into()),
            Direction::Down => (self.base.into(), self.board.into()),
        }
    }
}

/// A range that is to be read.
#[derive(Debug)]
pub struct Read<'a> {
    /// Its first address.
    pub at: Address,
    /// Where its bytes go, as many as there are.
    pub into: &'a mut [u8],
}

/// Memory accesses and interrupts of one function's engine.
///
/// Order: writes and stores become visible in the order they were issued, whichever memory they go to, and
/// before a later [`Fabric::interrupt`] (PCIe 5.0, 2.4: posted requests do not pass one another). A read may
/// pass an earlier write, unless [`Fabric::fence`] stands between them. A failed access changes nothing,
/// copies apart.
pub trait Fabric {
    /// Reads `into.len()` bytes. No single-copy atomicity.
    ///
    /// # Errors
    /// A [`Fault`] when any byte of the range may not be read.
    fn read(&self, at: Address, into: &mut [u8]) -> impl Future<Output = Result<(), Fault>>;

    /// Makes several reads, which may be under way at the same time: nothing is older than what an earlier
    /// one of them reads. Two aligned bytes are read at once, as by [`Fabric::load`].
    ///
    /// # Errors
    /// A [`Fault`] when any byte of a range may not be read.
    fn read_all(&self, reads: &mut [Read<'_>]) -> impl Future<Output = Result<(), Fault>> {
        async {
            for Read { at, into } in reads {
                match <&mut [u8; 2]>::try_from(&mut **into) {
                    Ok(index) => *index = self.load(*at).await?.to_le_bytes(),
                    Err(_) => self.read(*at, into).await?,
                }
            }
            Ok(())
        }
    }

    /// Writes `from`. Posted. No single-copy atomicity.
    ///
    /// # Errors
    /// A [`Fault`] when any byte of the range may not be written.
    fn write(&self, at: Address, from: &[u8]) -> impl Future<Output = Result<(), Fault>>;

    /// Copies payload. The copies of one call do not depend on one another and may be under way at the same
    /// time; when it is done, all are before every later write and store.
    ///
    /// # Errors
    /// A [`Fault`] when any byte of a range may not be accessed; the other copies may have been made, or not.
    fn copy_all(&self, direction: Direction, copies: &[Copy]) -> impl Future<Output = Result<(), Fault>>;

    /// Reads a ring index or flags: 16 bits, single-copy atomic; later reads are not served earlier.
    ///
    /// # Errors
    /// A [`Fault`] when the two bytes may not be read or are not aligned.
    fn load(&self, at: Address) -> impl Future<Output = Result<u16, Fault>>;

    /// Writes a ring index or event: 16 bits, single-copy atomic, after every earlier write.
    ///
    /// # Errors
    /// A [`Fault`] when the two bytes may not be written or are not aligned.
    fn store(&self, at: Address, value: u16) -> impl Future<Output = Result<(), Fault>>;

    /// Orders every earlier write before every later read. On PCIe a read pushes writes ahead of it and this
    /// costs nothing.
    fn fence(&self);

    /// Raises `vector` of `function` at the board, after every earlier write.
    fn interrupt(&self, function: FunctionId, vector: u16);
}

/// A fabric behind the two gates an IO-Bond must respect: granted windows on the base, bus mastering on the
/// board.
#[derive(Debug)]
pub struct Gated<'a, F> {
    /// What lies behind the gates.
    pub fabric: &'a F,
    /// What the base granted.
    pub windows: &'a Windows,
    /// Whether the board let the function master the bus.
    pub bus_master: bool,
}

impl<F> Gated<'_, F> {
    #[inline]
    fn pass(&self, at: Address, len: u64) -> Result<(), Fault> {
        let open = match at {
            Address::Board(_) => self.bus_master,
            Address::Base(at) => self.windows.grants(at, len),
        };
        if open { Ok(()) } else { Err(Fault::at(at, len)) }
    }
}

impl<F: Fabric> Fabric for Gated<'_, F> {
    #[inline]
    async fn read(&self, at: Address, into: &mut [u8]) -> Result<(), Fault> {
        self.pass(at, into.len() as u64)?;
        self.fabric.read(at, into).await
    }

    #[inline]
    async fn read_all(&self, reads: &mut [Read<'_>]) -> Result<(), Fault> {
        for Read { at, into } in &*reads {
            self.pass(*at, into.len() as u64)?;
        }
        self.fabric.read_all(reads).await
    }

    #[inline]
    async fn write(&self, at: Address, from: &[u8]) -> Result<(), Fault> {
        self.pass(at, from.len() as u64)?;
        self.fabric.write(at, from).await
    }

    #[inline]
    async fn copy_all(&self, direction: Direction, copies: &[Copy]) -> Result<(), Fault> {
        for &copy in copies {
            let (from, to) = copy.ends(direction);
            self.pass(from, u64::from(copy.len))?;
            self.pass(to, u64::from(copy.len))?;
        }
        self.fabric.copy_all(direction, copies).await
    }

    #[inline]
    async fn load(&self, at: Address) -> Result<u16, Fault> {
        self.pass(at, 2)?;
        self.fabric.load(at).await
    }

    #[inline]
    async fn store(&self, at: Address, value: u16) -> Result<(), Fault> {
        self.pass(at, 2)?;
        self.fabric.store(at, value).await
    }

    #[inline]
    fn fence(&self) {
        self.fabric.fence();
    }

    #[inline]
    fn interrupt(&self, function: FunctionId, vector: u16) {
        if self.bus_master {
            self.fabric.interrupt(function, vector);
        }
    }
}

/// The value of a future that never waits, as none does over a fabric whose accesses are made at once.
#[inline]
pub fn ready<F: Future>(future: F) -> F::Output {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(value) => value,
        Poll::Pending => unreachable!("an access over this fabric waits"),
    }
}
