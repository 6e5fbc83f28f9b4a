//! Drives a device through [`VfioPort`] step by step: for bringing up a board, and for the tests inside of a
//! guest.
//!
//! ```text
//!   vfio_trial 0000:01:00.0 'read 0x0' 'write 0x18 7' 'map 0x10000000000 4096' 'peek 0x10000000000'
//!   vfio_trial 0000:01:00.0 'map 0x10000000000 4096' 'hand-over /run/socket'    # keeps the device, and ends
//!   vfio_trial /run/socket 'read 0x18'                                          # takes it over
//! ```
//!
//! Each step says one line; the first that fails ends it with status 1.

use std::{
    error::Error,
    io::{IoSlice, IoSliceMut},
    mem::MaybeUninit,
    os::{
        fd::{AsFd, OwnedFd},
        unix::net::{UnixListener, UnixStream},
    },
    path::Path,
    process::ExitCode,
    thread,
    time::Duration,
};

use bm_hypervisor::port::{
    Port, Region,
    vfio::{Descriptors, VfioPort},
};
use iobond_spec::{address::BaseAddr, register_access::RegisterIo};
use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    fs::{MemfdFlags, ftruncate, memfd_create},
    net::{
        RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage,
        SendFlags, recvmsg, sendmsg,
    },
};

type Outcome<T> = Result<T, Box<dyn Error>>;

/// How long a step may wait for the device.
const TIMEOUT: Duration = Duration::from_secs(5);
/// Mappings that are handed over at most: they fit with their addresses into a message.
const MOST_MAPPINGS: usize = 8;

/// Memory that was mapped.
struct Memory {
    file: OwnedFd,
    iova: u64,
    length: u64,
}

/// A device and what is mapped to it.
struct Trial {
    port: VfioPort,
    memory: Vec<Memory>,
}

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    let Some(device) = arguments.next() else {
        eprintln!("usage: vfio_trial ADDRESS|SOCKET STEP...");
        return ExitCode::FAILURE;
    };
    let steps: Vec<_> = arguments.collect();
    match Trial::start(&device).and_then(|trial| trial.run(&steps)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            println!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

impl Trial {
    fn start(device: &str) -> Outcome<Self> {
        if device.contains('/') {
            return take_over(Path::new(device));
        }
        Ok(Self { port: VfioPort::open(device.parse()?)?, memory: Vec::new() })
    }

    fn run(mut self, steps: &[String]) -> Outcome<()> {
        for step in steps {
            let words: Vec<_> = step.split_whitespace().collect();
            let said = match words.as_slice() {
                ["read", offset] => format!("{:#010x}", self.port.read32(number(offset)?.try_into()?)),
                ["write", offset, value] => {
                    self.port.write32(number(offset)?.try_into()?, number(value)?.try_into()?);
                    "written".into()
                }
                ["map", iova, length] => self.map(number(iova)?, number(length)?, MemfdFlags::empty())?,
                ["map-huge", iova, length] => {
                    self.map(number(iova)?, number(length)?, MemfdFlags::HUGETLB)?
                }
                ["unmap", iova] => {
                    let iova = number(iova)?;
                    self.port.unmap_dma(BaseAddr(iova))?;
                    "unmapped".into()
                }
                ["peek", at] => self.peek(number(at)?)?,
                ["poke", at, value] => self.poke(number(at)?, number(value)?.try_into()?)?,
                ["interrupt"] => self.await_interrupt()?,
                ["reset"] => self.port.reset().map(|()| "reset".to_owned())?,
                ["sleep", milliseconds] => {
                    thread::sleep(Duration::from_millis(number(milliseconds)?));
                    "slept".into()
                }
                ["hand-over", path] => return hand_over(&self, Path::new(path)),
                _ => return Err(format!("no such step: {step}").into()),
            };
            println!("{step}: {said}");
        }
        Ok(())
    }

    /// Maps new memory, and keeps its file.
    fn map(&mut self, iova: u64, length: u64, kind: MemfdFlags) -> Outcome<String> {
        let file = memfd_create("vfio-trial", MemfdFlags::CLOEXEC | kind)?;
        ftruncate(&file, length)?;
        let region = Region { file: file.as_fd(), file_offset: 0, length, iova: BaseAddr(iova) };
        if let Err(error) = self.port.map_dma(&region) {
            // Refusals are what some trials are about.
            return Ok(format!("refused: {error}"));
        }
        self.memory.push(Memory { file, iova, length });
        Ok("mapped".into())
    }

    /// The file and the offset in it that stand at an address; also after it was unmapped.
    fn place(&self, at: u64) -> Outcome<(&OwnedFd, u64)> {
        let inside = |memory: &&Memory| (memory.iova..memory.iova + memory.length).contains(&at);
        let memory = self.memory.iter().find(inside).ok_or("nothing was ever mapped there")?;
        Ok((&memory.file, at - memory.iova))
    }

    fn peek(&self, at: u64) -> Outcome<String> {
        let (file, offset) = self.place(at)?;
        let mut bytes = [0; 4];
        rustix::io::pread(file, &mut bytes, offset)?;
        Ok(format!("{:#010x}", u32::from_le_bytes(bytes)))
    }

    fn poke(&self, at: u64, value: u32) -> Outcome<String> {
        let (file, offset) = self.place(at)?;
        rustix::io::pwrite(file, &value.to_le_bytes(), offset)?;
        Ok("poked".into())
    }

    fn await_interrupt(&self) -> Outcome<String> {
        let event = self.port.wake_up().ok_or("the device has no MSI-X")?;
        let timeout = Timespec { tv_sec: TIMEOUT.as_secs().try_into()?, tv_nsec: 0 };
        let mut waiting = [PollFd::new(&event, PollFlags::IN)];
        if poll(&mut waiting, Some(&timeout))? == 0 {
            return Ok("none came".into());
        }
        let mut count = [0; 8];
        rustix::io::read(event, &mut count)?;
        Ok(format!("{} came", u64::from_ne_bytes(count)))
    }
}

/// Gives the device to the process that connects, as a store of descriptors would, and closes it.
fn hand_over(trial: &Trial, path: &Path) -> Outcome<()> {
    let listener = UnixListener::bind(path)?;
    println!("hand-over: waiting");
    let (stream, _) = listener.accept()?;
    let Descriptors { container, device } = trial.port.descriptors();
    let mut descriptors = vec![container.as_fd(), device.as_fd()];
    descriptors.extend(trial.memory.iter().map(|memory| memory.file.as_fd()));
    let places: Vec<_> = trial.memory.iter().flat_map(|memory| [memory.iova, memory.length]).collect();
    let bytes: Vec<_> = places.iter().flat_map(|word| word.to_ne_bytes()).collect();
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(2 + MOST_MAPPINGS))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !control.push(SendAncillaryMessage::ScmRights(&descriptors)) {
        return Err("too many mappings to hand over".into());
    }
    // A message has at least one byte, to carry descriptors.
    sendmsg(&stream, &[IoSlice::new(&[0]), IoSlice::new(&bytes)], &mut control, SendFlags::empty())?;
    println!("hand-over: done");
    Ok(())
}

/// Takes over a device from another process.
fn take_over(path: &Path) -> Outcome<Trial> {
    let mut tries = 0..50;
    let stream = loop {
        match UnixStream::connect(path) {
            Ok(stream) => break stream,
            Err(error) if tries.next().is_none() => return Err(error.into()),
            Err(_) => thread::sleep(TIMEOUT / 50),
        }
    };
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(2 + MOST_MAPPINGS))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut bytes = [0; 1 + 16 * MOST_MAPPINGS];
    let received =
        recvmsg(&stream, &mut [IoSliceMut::new(&mut bytes)], &mut control, RecvFlags::CMSG_CLOEXEC)?;
    let mut descriptors = control.drain().flat_map(|message| match message {
        RecvAncillaryMessage::ScmRights(descriptors) => descriptors.collect::<Vec<_>>(),
        _ => Vec::new(),
    });
    let mut next = || descriptors.next().ok_or("too few descriptors came");
    let device = Descriptors { container: next()?, device: next()? };
    let (places, _) = bytes[1..received.bytes.max(1)].as_chunks::<8>();
    let mut memory = Vec::new();
    for pair in places.chunks_exact(2) {
        let [iova, length] = [pair[0], pair[1]].map(u64::from_ne_bytes);
        memory.push(Memory { file: next()?, iova, length });
    }
    // That process is gone before anything is tried.
    rustix::io::read(&stream, &mut [0; 1])?;
    let mapped: Vec<_> = memory.iter().map(|memory| (BaseAddr(memory.iova), memory.length)).collect();
    Ok(Trial { port: VfioPort::adopt(device, &mapped)?, memory })
}

fn number(text: &str) -> Outcome<u64> {
    let parsed = match text.strip_prefix("0x") {
        Some(digits) => u64::from_str_radix(digits, 16),
        None => text.parse(),
    };
    parsed.map_err(|error| format!("{text}: {error}").into())
}
