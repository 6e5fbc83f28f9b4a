//! Carries a string of bytes to a session, as a socket would, and watches what comes of it.
//!
//! The bytes are a sequence of pieces, what one `recvmsg` might bring: a byte that says how many descriptors
//! come along (bits 0 to 4) and whether they are eventfds (bit 7 clear) or plain files (set), two bytes with
//! the length, and that many bytes of the stream. The last piece may be shorter than it says.

use std::{
    collections::BTreeMap,
    fs::File,
    os::{
        fd::{AsFd, OwnedFd},
        unix::net::UnixStream,
    },
    sync::{
        Arc, LazyLock, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use iobond_vfio_user::{
    Client, Description, DmaMapping, Errno, Function, Irq, Region, RegionDescription, Violation,
    message::{Framer, Message, Reply},
    session::Session,
};
use rustix::event::{EventfdFlags, eventfd};

/// Descriptors to duplicate: an eventfd and a plain file.
static FDS: LazyLock<[OwnedFd; 2]> = LazyLock::new(|| {
    let eventfd = eventfd(0, EventfdFlags::NONBLOCK | EventfdFlags::CLOEXEC).expect("an eventfd");
    [eventfd, File::open("/dev/null").expect("/dev/null").into()]
});

/// The bit of a piece's first byte that makes its descriptors plain files.
pub const FILES: u8 = 0x80;

/// A piece of a stream.
#[allow(dead_code)] // The fuzz target makes none.
pub fn piece(fds: u8, bytes: &[u8]) -> Vec<u8> {
    [&[fds], &(bytes.len() as u16).to_le_bytes()[..], bytes].concat()
}

/// Carries `input`. How many requests were answered with success, with an errno and not at all; or why the
/// session ended.
pub fn carry(input: &[u8]) -> Result<[usize; 3], Violation> {
    let function = Arc::new(Trusting::default());
    let (socket, _peer) = UnixStream::pair().expect("a socket pair");
    let description = function.description();
    let client = Arc::new(Client::new(socket, &description).expect("a client"));
    let mut session = Session::new(function.clone(), description, client);
    let mut answered = [0; 3];
    let carried = carry_to(input, |message| {
        let reply = meet(&mut session, message)?;
        answered[reply] += 1;
        Ok(())
    });
    let agreed = session.is_agreed();
    drop(session);
    assert_eq!(agreed, function.was_used.load(Ordering::Relaxed));
    assert!(function.client.lock().unwrap_or_else(PoisonError::into_inner).is_none(), "not detached");
    carried.map(|()| answered)
}

/// Cuts `input` into messages.
fn carry_to(
    mut input: &[u8],
    mut take: impl FnMut(Message) -> Result<(), Violation>,
) -> Result<(), Violation> {
    let mut framer = Framer::default();
    while let [fds, low, high, rest @ ..] = input {
        let len = usize::from(u16::from_le_bytes([*low, *high])).min(rest.len());
        let (mut stream, rest) = rest.split_at(len);
        input = rest;
        let kind = &FDS[usize::from(fds & FILES != 0)];
        let mut fds: Vec<_> =
            (0..fds & 0x1f).filter_map(|_| kind.as_fd().try_clone_to_owned().ok()).collect();
        while !stream.is_empty() {
            let space = framer.space();
            let bytes = space.len().min(stream.len());
            space[..bytes].copy_from_slice(&stream[..bytes]);
            stream = &stream[bytes..];
            if let Some(message) = framer.advance(bytes, fds.drain(..))? {
                take(message)?;
            }
        }
    }
    Ok(())
}

/// 0 for success, 1 for an errno, 2 for no answer.
fn meet(session: &mut Session, message: Message) -> Result<usize, Violation> {
    if message.is_reply() {
        // Nothing was asked of this client.
        return Err(Violation::MessageType { flags: message.header.flags });
    }
    let (header, wants_reply) = (message.header, message.wants_reply());
    let reply = session.meet(message, &mut || {})?;
    assert_eq!(reply.is_some(), wants_reply);
    let Some(Reply { header: answer, payload }) = reply else { return Ok(2) };
    assert_eq!((answer.id, answer.command), (header.id, header.command));
    assert_eq!(answer.size as usize, 16 + payload.len());
    match answer.flags {
        0x01 => {
            assert_eq!(answer.error, 0);
            Ok(0)
        }
        0x21 => {
            assert!(payload.is_empty() && answer.error != 0);
            Ok(1)
        }
        flags => panic!("flags {flags:#x} in an answer"),
    }
}

/// A function that holds everything it is asked against what it was promised.
#[derive(Default)]
struct Trusting {
    client: Mutex<Option<Arc<Client>>>,
    was_used: AtomicBool,
    /// First and last address.
    maps: Mutex<BTreeMap<u64, u64>>,
}

impl Trusting {
    fn check(&self, region: Region, offset: u64, len: usize) {
        assert!(self.client.lock().unwrap_or_else(PoisonError::into_inner).is_some());
        let size = self.description().region(region).size;
        assert!(
            len > 0 && offset.checked_add(len as u64).is_some_and(|end| end <= size),
            "{offset:#x}+{len:#x}"
        );
    }
}

impl Function for Trusting {
    fn description(&self) -> Description {
        let region = |size| RegionDescription { size, readable: true, writable: true };
        Description::default()
            .with_region(Region::Config, region(256))
            .with_region(Region::Bar0, region(0x1000))
            .with_region(Region::Rom, RegionDescription { size: 0x800, readable: true, writable: false })
            .with_vectors(Irq::Intx, 1)
            .with_vectors(Irq::Msix, 5)
    }

    fn attach(&self, client: Arc<Client>) {
        self.was_used.store(true, Ordering::Relaxed);
        assert!(self.client.lock().unwrap_or_else(PoisonError::into_inner).replace(client).is_none());
    }

    fn detach(&self) {
        assert!(self.client.lock().unwrap_or_else(PoisonError::into_inner).take().is_some());
    }

    fn read(
        &self,
        region: Region,
        offset: u64,
        data: &mut [u8],
        wait: &mut dyn FnMut(),
    ) -> Result<(), Errno> {
        self.check(region, offset, data.len());
        wait();
        data.fill(offset as u8);
        if offset == 0xe0 { Err(Errno::IO) } else { Ok(()) }
    }

    /// Writes to BAR 0 raise interrupts.
    fn write(&self, region: Region, offset: u64, data: &[u8], _: &mut dyn FnMut()) -> Result<(), Errno> {
        self.check(region, offset, data.len());
        assert!(region != Region::Rom);
        let client = self.client.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let (Region::Bar0, Some(client)) = (region, client) {
            let irq = if offset < 0x800 { Irq::Msix } else { Irq::Intx };
            data.iter().take(8).for_each(|vector| client.trigger(irq, (*vector).into()));
        }
        Ok(())
    }

    fn map(&self, mapping: DmaMapping) -> Result<(), Errno> {
        let (first, last) = (mapping.address, mapping.last());
        let mut maps = self.maps.lock().unwrap_or_else(PoisonError::into_inner);
        assert!(first <= last && maps.range(..=last).next_back().is_none_or(|(_, end)| *end < first));
        if first == 0xbad_0000 {
            return Err(Errno::NOMEM);
        }
        maps.insert(first, last);
        Ok(())
    }

    fn unmap(&self, address: u64, size: u64) -> Result<(), Errno> {
        let last = self.maps.lock().unwrap_or_else(PoisonError::into_inner).remove(&address);
        assert_eq!(last, Some(address + (size - 1)), "never mapped like this");
        Ok(())
    }

    fn unmap_all(&self) {
        self.maps.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    fn reset(&self) {}

    fn intx_asserted(&self) -> bool {
        true
    }
}
