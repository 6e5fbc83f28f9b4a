//! What each request does and how it is answered. There is no socket here either: requests and answers are
//! values.

use std::sync::Arc;

use rustix::io::Errno;
use tracing::debug;
use zerocopy::{Immutable, IntoBytes};

use crate::{
    Client, Description, DmaMapping, Function, Irq, Region, RegionDescription, Violation,
    mappings::Mappings,
    message::{Message, Reply, beginning, bytes, exactly, wrong_size},
    protocol::{
        Command, DeviceFlags, DeviceInfo, DmaMap, DmaMapFlags, DmaUnmap, DmaUnmapFlags, IrqFlags, IrqInfo,
        IrqSet, IrqSetFlags, MAX_FDS, RegionAccess, RegionFlags, RegionInfo,
    },
    version::{Agreement, negotiate},
};

/// Why a request is not met.
#[derive(Debug)]
enum Refusal {
    /// Is sent to the client; the session stays.
    Errno(Errno),
    /// Ends the connection.
    Violation(Violation),
}

impl From<Errno> for Refusal {
    fn from(errno: Errno) -> Self {
        Self::Errno(errno)
    }
}

impl From<Violation> for Refusal {
    fn from(violation: Violation) -> Self {
        Self::Violation(violation)
    }
}

/// The payload of the answer.
type Outcome = Result<Vec<u8>, Refusal>;

/// Meets a request. The last argument is the `wait` of [`Function::read`].
type Meet = fn(&mut Session, &mut Message, &mut dyn FnMut()) -> Outcome;

/// Every request that is met once a version is agreed on, and how many descriptors may come with it.
const COMMANDS: &[(Command, usize, Meet)] = &[
    (Command::DmaMap, 1, |session, request, _| session.map(request)),
    (Command::DmaUnmap, 0, |session, request, _| session.unmap(request)),
    (Command::DeviceGetInfo, 0, |_, request, _| device_info(request)),
    (Command::DeviceGetRegionInfo, 0, |session, request, _| session.region_info(request)),
    (Command::DeviceGetIrqInfo, 0, |session, request, _| session.irq_info(request)),
    (Command::DeviceSetIrqs, MAX_FDS, |session, request, _| session.set_irqs(request)),
    (Command::RegionRead, 0, |session, request, wait| session.read(request, wait)),
    (Command::RegionWrite, 0, |session, request, wait| session.write(request, wait)),
    (Command::DeviceReset, 0, |session, request, _| session.reset(request)),
];

/// The flags that tell the data of [`IrqSet`]; the others tell the action.
const IRQ_DATA: IrqSetFlags =
    IrqSetFlags::DATA_NONE.union(IrqSetFlags::DATA_BOOL).union(IrqSetFlags::DATA_EVENTFD);

/// A client's use of a function, from its first message to its last. Ends when it is dropped.
pub struct Session {
    function: Arc<dyn Function>,
    description: Description,
    client: Arc<Client>,
    agreement: Option<Agreement>,
    mappings: Mappings,
}

impl Session {
    /// `client` has come to use `function`, which describes itself so.
    pub fn new(function: Arc<dyn Function>, description: Description, client: Arc<Client>) -> Self {
        Self { function, description, client, agreement: None, mappings: Mappings::default() }
    }

    /// Whether a version was agreed on.
    pub fn is_agreed(&self) -> bool {
        self.agreement.is_some()
    }

    /// Meets a request; the answer, unless the client wants none. `wait` is that of [`Function::read`].
    ///
    /// # Errors
    /// When the client broke the protocol, and the session is to end.
    pub fn meet(&mut self, mut request: Message, wait: &mut dyn FnMut()) -> Result<Option<Reply>, Violation> {
        let outcome = match self.agreement {
            Some(_) => self.dispatch(&mut request, wait),
            None => self.agree(&request),
        };
        let reply = match outcome {
            Ok(payload) => request.reply(payload),
            Err(Refusal::Violation(violation)) => return Err(violation),
            Err(Refusal::Errno(errno)) => {
                debug!(command = request.header.command, %errno, "refused a request");
                request.error(errno)
            }
        };
        Ok(request.wants_reply().then_some(reply))
    }

    fn dispatch(&mut self, request: &mut Message, wait: &mut dyn FnMut()) -> Outcome {
        let command = request.header.command;
        if command == Command::Version as u16 {
            return Err(Violation::VersionAgain.into());
        }
        let Some((_, fds, meet)) = COMMANDS.iter().find(|(known, ..)| *known as u16 == command) else {
            return Err(Errno::NOTSUP.into());
        };
        if request.fds.len() > *fds {
            return Err(fd_count(request, request.fds.len(), *fds).into());
        }
        meet(self, request, wait)
    }

    fn agree(&mut self, request: &Message) -> Outcome {
        let command = request.header.command;
        if command != Command::Version as u16 {
            return Err(Violation::NoVersion { command }.into());
        }
        if !request.wants_reply() {
            return Err(Violation::VersionAgain.into());
        }
        if !request.fds.is_empty() {
            return Err(fd_count(request, request.fds.len(), 0).into());
        }
        let (agreement, reply) = negotiate(request)?;
        self.client.limit(agreement.max_data);
        self.agreement = Some(agreement);
        self.function.attach(Arc::clone(&self.client));
        Ok(reply)
    }

    fn map(&mut self, request: &mut Message) -> Outcome {
        let DmaMap { flags, offset, address, size, .. } = exactly(request)?;
        let flags = DmaMapFlags::from_bits(flags).ok_or(Errno::INVAL)?;
        self.mappings.admit(address, size)?;
        let file = request.fds.pop().map(|fd| (fd, offset));
        let readable = flags.contains(DmaMapFlags::READ);
        let writable = flags.contains(DmaMapFlags::WRITE);
        self.function.map(DmaMapping { address, size, readable, writable, file })?;
        self.mappings.insert(address, size);
        Ok(Vec::new())
    }

    /// Like the kernel's VFIO (`VFIO_IOMMU_UNMAP_DMA`, type 1 v2) this takes every mapping that lies wholly
    /// inside of the range, so one that is mapped exactly and also what a virtual IOMMU invalidates at a
    /// time; it cuts none.
    fn unmap(&mut self, request: &Message) -> Outcome {
        let asked: DmaUnmap = exactly(request)?;
        let flags = DmaUnmapFlags::from_bits(asked.flags).ok_or(Errno::INVAL)?;
        if flags.contains(DmaUnmapFlags::ALL) {
            if (asked.address, asked.size) != (0, 0) {
                return Err(Errno::INVAL.into());
            }
            self.function.unmap_all();
            self.mappings.clear();
            return Ok(asked.as_bytes().to_vec());
        }
        let mut unmapped = 0u64;
        for (address, size) in self.mappings.within(asked.address, asked.size)? {
            self.function.unmap(address, size)?;
            self.mappings.remove(address);
            unmapped += size;
        }
        Ok(DmaUnmap { size: unmapped, ..asked }.as_bytes().to_vec())
    }

    fn region_info(&self, request: &Message) -> Outcome {
        let RegionInfo { argsz, index, .. } = exactly(request)?;
        let description = self.description.region(Region::from_index(index).ok_or(Errno::INVAL)?);
        let mut flags = RegionFlags::empty();
        flags.set(RegionFlags::READ, description.readable);
        flags.set(RegionFlags::WRITE, description.writable);
        let size = description.size;
        let flags = flags.bits();
        answer(argsz, |argsz| RegionInfo { argsz, flags, index, cap_offset: 0, size, offset: 0 })
    }

    fn irq_info(&self, request: &Message) -> Outcome {
        let IrqInfo { argsz, index, .. } = exactly(request)?;
        let irq = Irq::from_index(index).ok_or(Errno::INVAL)?;
        let count = self.description.vectors(irq).into();
        // As the kernel does for a function without PCI Express. QEMU would warn about none.
        if irq == Irq::Err && count == 0 {
            return Err(Errno::INVAL.into());
        }
        let flags = match irq {
            Irq::Intx => IrqFlags::EVENTFD | IrqFlags::MASKABLE | IrqFlags::AUTOMASKED,
            // Single vectors may be masked and set up here, but QEMU does as with the kernel only when this
            // says no more.
            Irq::Msi | Irq::Msix | Irq::Err | Irq::Req => IrqFlags::EVENTFD,
        };
        let flags = flags.bits();
        answer(argsz, |argsz| IrqInfo { argsz, flags, index, count })
    }

    fn set_irqs(&mut self, request: &mut Message) -> Outcome {
        let eventfds = std::mem::take(&mut request.fds);
        let (set, booleans): (IrqSet, _) = beginning(request)?;
        let count = set.count as usize;
        let has = |flag: IrqSetFlags| set.flags & flag.bits() != 0;
        let expected = if has(IrqSetFlags::DATA_BOOL) { count } else { 0 };
        if booleans.len() != expected {
            return Err(wrong_size(request, size_of::<IrqSet>().saturating_add(expected)).into());
        }
        // An eventfd for each vector, or none at all to take back what they have.
        let expected = if has(IrqSetFlags::DATA_EVENTFD) { count } else { 0 };
        if !eventfds.is_empty() && eventfds.len() != expected {
            return Err(fd_count(request, eventfds.len(), expected).into());
        }
        let irq = Irq::from_index(set.index).ok_or(Errno::INVAL)?;
        let all = usize::from(self.description.vectors(irq));
        let vectors = Some(set.start as usize..(set.start as usize).saturating_add(count));
        let vectors = vectors.filter(|vectors| vectors.end <= all).ok_or(Errno::INVAL)?;
        let flags = IrqSetFlags::from_bits(set.flags).ok_or(Errno::INVAL)?;
        let action = flags.difference(IRQ_DATA);
        match flags.intersection(IRQ_DATA) {
            IrqSetFlags::DATA_NONE if vectors == (0..0) && action == IrqSetFlags::ACTION_TRIGGER => {
                self.client.interrupts().disable(irq);
            }
            IrqSetFlags::DATA_NONE => self.act(irq, action, vectors)?,
            _ if vectors.is_empty() => return Err(Errno::INVAL.into()),
            IrqSetFlags::DATA_BOOL => {
                let chosen = vectors.zip(booleans).filter(|(_, chosen)| **chosen != 0);
                self.act(irq, action, chosen.map(|(vector, _)| vector))?;
            }
            IrqSetFlags::DATA_EVENTFD if action == IrqSetFlags::ACTION_TRIGGER => {
                self.client.interrupts().connect(irq, vectors, eventfds)?;
                self.raise_line(irq);
            }
            // Eventfds that mask or unmask: QEMU can do without.
            IrqSetFlags::DATA_EVENTFD => return Err(Errno::NOTSUP.into()),
            _ => return Err(Errno::INVAL.into()),
        }
        Ok(Vec::new())
    }

    /// Does `action` to each of `vectors`, which exist.
    fn act(&self, irq: Irq, action: IrqSetFlags, vectors: impl Iterator<Item = usize>) -> Result<(), Errno> {
        let interrupts = self.client.interrupts();
        match action {
            IrqSetFlags::ACTION_TRIGGER => vectors.for_each(|vector| interrupts.trigger(irq, vector as u16)),
            IrqSetFlags::ACTION_MASK => vectors.for_each(|vector| interrupts.mask(irq, vector)),
            IrqSetFlags::ACTION_UNMASK => {
                vectors.for_each(|vector| interrupts.unmask(irq, vector));
                self.raise_line(irq);
            }
            _ => return Err(Errno::INVAL),
        }
        Ok(())
    }

    /// An interrupt line that can fire again does so while the function asserts it.
    fn raise_line(&self, irq: Irq) {
        if irq == Irq::Intx && self.function.intx_asserted() {
            self.client.trigger(irq, 0);
        }
    }

    fn read(&mut self, request: &Message, wait: &mut dyn FnMut()) -> Outcome {
        let access: RegionAccess = exactly(request)?;
        let region = self.reach(&access, |description| description.readable)?;
        let mut reply = bytes(&access, &[]);
        reply.resize(size_of::<RegionAccess>() + access.count as usize, 0);
        if let (_, data @ [_, ..]) = reply.split_at_mut(size_of::<RegionAccess>()) {
            self.function.read(region, access.offset, data, wait)?;
        }
        Ok(reply)
    }

    fn write(&mut self, request: &Message, wait: &mut dyn FnMut()) -> Outcome {
        let (access, data): (RegionAccess, _) = beginning(request)?;
        if data.len() != access.count as usize {
            return Err(
                wrong_size(request, size_of::<RegionAccess>().saturating_add(access.count as usize)).into()
            );
        }
        let region = self.reach(&access, |description| description.writable)?;
        if !data.is_empty() {
            self.function.write(region, access.offset, data, wait)?;
        }
        Ok(access.as_bytes().to_vec())
    }

    fn reset(&mut self, request: &Message) -> Outcome {
        exactly::<[u8; 0]>(request)?;
        self.function.reset();
        self.client.interrupts().reset();
        Ok(Vec::new())
    }
}

impl Session {
    /// The region that `access` wants, if all of it lies inside and `allowed` says so.
    fn reach(&self, access: &RegionAccess, allowed: fn(&RegionDescription) -> bool) -> Result<Region, Errno> {
        let region = Region::from_index(access.region).ok_or(Errno::INVAL)?;
        let description = self.description.region(region);
        let end = access.offset.checked_add(access.count.into());
        let most = self.agreement.map_or(0, |agreement| agreement.max_data);
        match end {
            Some(end) if end <= description.size && access.count <= most && allowed(&description) => {
                Ok(region)
            }
            Some(_) | None => Err(Errno::INVAL),
        }
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.client.close();
        if self.is_agreed() {
            self.function.detach();
        }
    }
}

fn device_info(request: &Message) -> Outcome {
    let DeviceInfo { argsz, .. } = exactly(request)?;
    let flags = (DeviceFlags::RESET | DeviceFlags::PCI).bits();
    let (num_regions, num_irqs) = (Region::ALL.len() as u32, Irq::ALL.len() as u32);
    answer(argsz, |argsz| DeviceInfo { argsz, flags, num_regions, num_irqs })
}

/// The answer that `make` makes of its own size, for a client that takes `argsz` bytes.
fn answer<T: IntoBytes + Immutable>(argsz: u32, make: impl FnOnce(u32) -> T) -> Outcome {
    let size = size_of::<T>() as u32;
    if argsz < size { Err(Errno::INVAL.into()) } else { Ok(make(size).as_bytes().to_vec()) }
}

fn fd_count(request: &Message, found: usize, expected: usize) -> Violation {
    Violation::FdCount { command: request.header.command, found, expected }
}
