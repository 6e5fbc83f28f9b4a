//! A function that writes down what it is asked, a server for it, and a peer that says whatever it likes.
#![allow(dead_code)] // each test uses its own part of the rig
#![allow(clippy::unwrap_used, clippy::expect_used)] // a rig that cannot be set up is a failed test

use std::{
    io::{IoSlice, Read},
    mem::MaybeUninit,
    os::{
        fd::{AsFd, BorrowedFd, OwnedFd},
        unix::net::UnixStream,
    },
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use iobond_vfio_user::{
    Client, Description, DmaMapping, Errno, Function, Irq, Region, RegionDescription, Server,
    protocol::{Command, Header, RegionAccess},
};
use rustix::{
    event::{EventfdFlags, eventfd},
    net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg},
};
use tempfile::TempDir;
use zerocopy::{FromBytes, IntoBytes};

/// Nothing here takes longer, or it hangs.
pub const DEADLINE: Duration = Duration::from_secs(10);
pub const BAR0_SIZE: u64 = 2 << 20;
pub const CONFIG_SIZE: u64 = 256;
pub const MSIX_VECTORS: u16 = 64;

/// What a card was asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    Attach,
    Detach,
    Write(Region, u64, Vec<u8>),
    Map(String),
    Unmap(u64, u64),
    UnmapAll,
    Reset,
}

/// Run by the socket's thread when the card is read or unmapped at the address that goes with it.
type Hook = Box<dyn FnMut(&mut dyn FnMut()) + Send>;

/// The function under test. BAR 0 is memory, at first each byte the low one of its offset.
#[derive(Default)]
pub struct Card {
    pub events: Mutex<Vec<Event>>,
    pub client: Mutex<Option<Arc<Client>>>,
    pub line: AtomicBool,
    pub maps: Mutex<Vec<DmaMapping>>,
    pub on_read: Mutex<Option<Hook>>,
    pub on_unmap: Mutex<Option<Hook>>,
}

impl Card {
    fn note(&self, event: Event) {
        self.events.lock().unwrap().push(event);
    }

    pub fn events(&self) -> Vec<Event> {
        std::mem::take(&mut self.events.lock().unwrap())
    }

    /// The client that is attached.
    pub fn client(&self) -> Arc<Client> {
        let client = || self.client.lock().unwrap().clone();
        eventually("attach", || client().is_some());
        client().unwrap()
    }

    /// Waits until there is no client.
    pub fn is_left(&self) {
        eventually("detach", || self.client.lock().unwrap().is_none());
    }
}

impl Function for Card {
    fn description(&self) -> Description {
        let region = |size| RegionDescription { size, readable: true, writable: true };
        let rom = RegionDescription { size: 4096, readable: true, writable: false };
        Description::default()
            .with_region(Region::Config, region(CONFIG_SIZE))
            .with_region(Region::Bar0, region(BAR0_SIZE))
            .with_region(Region::Rom, rom)
            .with_vectors(Irq::Intx, 1)
            .with_vectors(Irq::Msix, MSIX_VECTORS)
    }

    fn attach(&self, client: Arc<Client>) {
        self.note(Event::Attach);
        assert!(self.client.lock().unwrap().replace(client).is_none(), "attached twice");
    }

    fn detach(&self) {
        self.note(Event::Detach);
        self.maps.lock().unwrap().clear();
        assert!(self.client.lock().unwrap().take().is_some(), "detached twice");
    }

    fn read(&self, _: Region, offset: u64, data: &mut [u8], wait: &mut dyn FnMut()) -> Result<(), Errno> {
        if let Some(hook) = &mut *self.on_read.lock().unwrap() {
            hook(wait);
        }
        data.iter_mut().zip(offset..).for_each(|(byte, at)| *byte = at as u8);
        if offset == 0xe0 { Err(Errno::IO) } else { Ok(()) }
    }

    fn write(&self, region: Region, offset: u64, data: &[u8], _: &mut dyn FnMut()) -> Result<(), Errno> {
        self.note(Event::Write(region, offset, data.to_vec()));
        if offset == 0xe0 { Err(Errno::IO) } else { Ok(()) }
    }

    fn map(&self, mapping: DmaMapping) -> Result<(), Errno> {
        if mapping.address == 0xbad_0000 {
            return Err(Errno::NOMEM);
        }
        self.note(Event::Map(format!("{mapping:?}")));
        self.maps.lock().unwrap().push(mapping);
        Ok(())
    }

    fn unmap(&self, address: u64, size: u64) -> Result<(), Errno> {
        if let Some(hook) = &mut *self.on_unmap.lock().unwrap() {
            hook(&mut || {});
        }
        self.note(Event::Unmap(address, size));
        self.maps.lock().unwrap().retain(|mapping| mapping.address != address);
        Ok(())
    }

    fn unmap_all(&self) {
        self.note(Event::UnmapAll);
        self.maps.lock().unwrap().clear();
    }

    fn reset(&self) {
        self.note(Event::Reset);
    }

    fn intx_asserted(&self) -> bool {
        self.line.load(Ordering::Acquire)
    }
}

/// A card that is served.
pub struct Rig {
    pub card: Arc<Card>,
    pub server: Option<Server>,
    folder: TempDir,
}

impl Rig {
    pub fn new() -> Self {
        let folder = TempDir::new().unwrap();
        let card = Arc::new(Card::default());
        let server = Server::start(&folder.path().join("card.sock"), card.clone()).unwrap();
        Self { card, server: Some(server), folder }
    }

    pub fn socket(&self) -> PathBuf {
        self.folder.path().join("card.sock")
    }

    /// A peer that has said nothing yet.
    pub fn connect(&self) -> Peer {
        Peer::connect(&self.socket())
    }

    /// A peer that agreed on a version.
    pub fn peer(&self) -> Peer {
        let mut peer = self.connect();
        peer.agree("");
        peer
    }
}

/// A client that sends bytes.
pub struct Peer {
    pub socket: UnixStream,
    next: u16,
}

impl Peer {
    pub fn connect(path: &Path) -> Self {
        let socket = UnixStream::connect(path).unwrap();
        socket.set_read_timeout(Some(DEADLINE)).unwrap();
        socket.set_write_timeout(Some(DEADLINE)).unwrap();
        Self { socket, next: 100 }
    }

    /// Agrees on version 0.1 and these capabilities, `"name": value` each.
    pub fn agree(&mut self, capabilities: &str) {
        let (header, payload) = self.ask(Command::Version, &version(capabilities));
        assert_eq!((header.flags, &payload[..4]), (1, &[0, 0, 1, 0][..]));
    }

    pub fn send(&self, bytes: &[u8]) {
        self.send_with(bytes, &[]);
    }

    pub fn send_with(&self, bytes: &[u8], fds: &[BorrowedFd<'_>]) {
        self.try_send_with(bytes, fds).unwrap();
    }

    /// As one message if that fits into the socket.
    pub fn try_send_with(&self, bytes: &[u8], fds: &[BorrowedFd<'_>]) -> rustix::io::Result<()> {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(253))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        if !fds.is_empty() {
            assert!(control.push(SendAncillaryMessage::ScmRights(fds)));
        }
        let mut sent = 0;
        while sent < bytes.len() {
            let rest = [IoSlice::new(&bytes[sent..])];
            sent += sendmsg(&self.socket, &rest, &mut control, SendFlags::NOSIGNAL)?;
            control.clear();
        }
        Ok(())
    }

    /// The next message. None when the server has ended the connection.
    pub fn receive(&mut self) -> Option<(Header, Vec<u8>)> {
        let mut header = [0; 16];
        match self.socket.read_exact(&mut header) {
            Ok(()) => {}
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => panic!("no message in time"),
            Err(_) => return None,
        }
        let header = Header::read_from_bytes(&header).unwrap();
        let mut payload = vec![0; header.size as usize - 16];
        self.socket.read_exact(&mut payload).unwrap();
        Some((header, payload))
    }

    /// Asks and gets the answer, which is one to this.
    pub fn ask(&mut self, command: Command, payload: &[u8]) -> (Header, Vec<u8>) {
        self.ask_with(command, payload, &[])
    }

    pub fn ask_with(
        &mut self,
        command: Command,
        payload: &[u8],
        fds: &[BorrowedFd<'_>],
    ) -> (Header, Vec<u8>) {
        self.next += 1;
        self.send_with(&message(self.next, command as u16, 0, payload), fds);
        let (header, payload) = self.receive().unwrap_or_else(|| panic!("{command:?} ended the connection"));
        assert_eq!((header.id, header.command, header.flags & 0xf), (self.next, command as u16, 1));
        (header, payload)
    }

    /// The errno of the answer, 0 for success.
    pub fn errno(&mut self, command: Command, payload: &[u8], fds: &[BorrowedFd<'_>]) -> i32 {
        let (header, payload) = self.ask_with(command, payload, fds);
        if header.flags & 0x20 == 0 {
            return 0;
        }
        assert!(payload.is_empty(), "an error is a header alone");
        header.error as i32
    }

    /// Nothing but the end is to come.
    pub fn is_ended(&mut self) -> bool {
        self.receive().is_none()
    }

    /// The server still serves this peer.
    pub fn is_served(&mut self) {
        let access = RegionAccess { offset: 4, region: 7, count: 4 };
        let (header, payload) = self.ask(Command::RegionRead, access.as_bytes());
        assert_eq!((header.flags, &payload[16..]), (1, &[4, 5, 6, 7][..]));
    }
}

/// The bytes of a message.
pub fn message(id: u16, command: u16, flags: u32, payload: &[u8]) -> Vec<u8> {
    let header = Header { id, command, size: 16 + payload.len() as u32, flags, error: 0 };
    [header.as_bytes(), payload].concat()
}

/// The payload that proposes version 0.1.
pub fn version(capabilities: &str) -> Vec<u8> {
    let json = format!("{{\"capabilities\":{{{capabilities}}}}}\0");
    [&[0, 0, 1, 0], json.as_bytes()].concat()
}

pub fn event() -> OwnedFd {
    eventfd(0, EventfdFlags::NONBLOCK | EventfdFlags::CLOEXEC).unwrap()
}

/// How often an eventfd was signalled since it was asked last.
pub fn signals(fd: &OwnedFd) -> u64 {
    let mut count = [0; 8];
    match rustix::io::read(fd, &mut count) {
        Ok(_) => u64::from_ne_bytes(count),
        Err(errno) => {
            assert_eq!(errno, Errno::AGAIN);
            0
        }
    }
}

pub fn borrow(fds: &[OwnedFd]) -> Vec<BorrowedFd<'_>> {
    fds.iter().map(AsFd::as_fd).collect()
}

pub fn eventually(what: &str, condition: impl Fn() -> bool) {
    let deadline = Instant::now() + DEADLINE;
    while !condition() {
        assert!(Instant::now() < deadline, "{what}: not in time");
        thread::sleep(Duration::from_micros(200));
    }
}
