//! Vectors and the eventfds behind them (section "VFIO_USER_DEVICE_SET_IRQS").

use std::{
    ops::Range,
    os::fd::{AsFd, AsRawFd, OwnedFd},
    sync::{Mutex, MutexGuard, PoisonError},
};

use rustix::{
    fs::{OFlags, fcntl_getfl, fcntl_setfl, readlink},
    io::Errno,
};

use crate::{Description, Irq};

/// One vector as the client set it up.
#[derive(Debug, Default)]
struct Vector {
    eventfd: Option<OwnedFd>,
    masked: bool,
    /// Raised while it could not fire. Not for INTx, whose level is asked for instead.
    pending: bool,
}

impl Vector {
    /// Signals the eventfd if there is one and the vector is not masked.
    fn fire(&mut self) -> bool {
        let Some(eventfd) = self.eventfd.as_ref().filter(|_| !self.masked) else { return false };
        // Fails only when the counter is full (it does not block), and then the client has been signalled
        // already.
        let _ = rustix::io::write(eventfd, &1u64.to_ne_bytes());
        self.pending = false;
        true
    }

    /// Fires if it has something to fire for.
    fn catch_up(&mut self) {
        if self.pending {
            self.fire();
        }
    }
}

/// All vectors of a function, from a client's arrival to its departure. Raised from any thread: no lock is
/// held for longer than it takes to signal or set up some vectors, and none while the socket is used.
#[derive(Debug)]
pub(crate) struct Interrupts(Mutex<[Vec<Vector>; Irq::ALL.len()]>);

impl Interrupts {
    pub(crate) fn new(description: &Description) -> Self {
        let vectors = |irq| (0..description.vectors(irq)).map(|_| Vector::default()).collect();
        Self(Mutex::new(Irq::ALL.map(vectors)))
    }

    /// Raises a vector. One that cannot fire now does when it can, except INTx: when that can fire again, its
    /// level is asked for. INTx masks itself. A vector that does not exist is not raised.
    pub(crate) fn trigger(&self, irq: Irq, vector: u16) {
        if let Some(vector) = self.lock()[irq as usize].get_mut(usize::from(vector)) {
            let fired = vector.fire();
            if irq == Irq::Intx {
                vector.masked |= fired;
            } else {
                vector.pending = !fired;
            }
        }
    }

    /// Gives `vectors` an eventfd each, or takes theirs when there are none.
    ///
    /// # Errors
    /// `EINVAL` when one is not an eventfd or a vector does not exist. None is set then.
    pub(crate) fn connect(
        &self,
        irq: Irq,
        vectors: Range<usize>,
        eventfds: Vec<OwnedFd>,
    ) -> Result<(), Errno> {
        eventfds.iter().try_for_each(make_harmless)?;
        let mut eventfds = eventfds.into_iter();
        for vector in self.lock()[irq as usize].get_mut(vectors).ok_or(Errno::INVAL)? {
            vector.eventfd = eventfds.next();
            vector.catch_up();
        }
        Ok(())
    }

    /// Masks a vector that exists.
    pub(crate) fn mask(&self, irq: Irq, vector: usize) {
        if let Some(vector) = self.lock()[irq as usize].get_mut(vector) {
            vector.masked = true;
        }
    }

    /// Unmasks a vector; it fires if it is pending.
    pub(crate) fn unmask(&self, irq: Irq, vector: usize) {
        if let Some(vector) = self.lock()[irq as usize].get_mut(vector) {
            vector.masked = false;
            vector.catch_up();
        }
    }

    /// Takes all eventfds and masks of a type. What is pending stays so: QEMU disables all vectors of MSI-X
    /// to enable one more.
    pub(crate) fn disable(&self, irq: Irq) {
        for vector in &mut self.lock()[irq as usize] {
            *vector = Vector { pending: vector.pending, ..Vector::default() };
        }
    }

    /// Nothing is pending after a reset.
    pub(crate) fn reset(&self) {
        self.lock().iter_mut().flatten().for_each(|vector| vector.pending = false);
    }

    /// Lets every eventfd go; nothing fires from now on.
    pub(crate) fn close(&self) {
        *self.lock() = Default::default();
    }

    fn lock(&self) -> MutexGuard<'_, [Vec<Vector>; Irq::ALL.len()]> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Takes eventfds only, and sees to it that writing to one does not block: a full pipe, or a counter that the
/// client filled, would stop the thread that raises an interrupt. (A client that takes `O_NONBLOCK` away
/// again still can.)
fn make_harmless(fd: &OwnedFd) -> Result<(), Errno> {
    let kind = readlink(format!("/proc/self/fd/{}", fd.as_raw_fd()), Vec::new())?;
    if kind.to_bytes() != b"anon_inode:[eventfd]" {
        return Err(Errno::INVAL);
    }
    let flags = fcntl_getfl(fd.as_fd())?;
    fcntl_setfl(fd.as_fd(), flags | OFlags::NONBLOCK)
}

#[cfg(test)]
mod tests {
    use rustix::event::{EventfdFlags, eventfd};

    use super::*;

    fn interrupts() -> Interrupts {
        Interrupts::new(&Description::default().with_vectors(Irq::Intx, 1).with_vectors(Irq::Msix, 4))
    }

    /// An eventfd for a vector, and the same to read it by.
    fn event() -> (OwnedFd, OwnedFd) {
        let fd = eventfd(0, EventfdFlags::empty()).unwrap();
        (fd.try_clone().unwrap(), fd)
    }

    /// How often it was signalled since it was asked last.
    fn signals(fd: &OwnedFd) -> u64 {
        let mut count = [0; 8];
        match rustix::io::read(fd, &mut count) {
            Ok(_) => u64::from_ne_bytes(count),
            Err(errno) => {
                assert_eq!(errno, Errno::AGAIN);
                0
            }
        }
    }

    #[test]
    fn a_vector_without_an_eventfd_fires_once_when_it_gets_one() {
        let interrupts = interrupts();
        interrupts.trigger(Irq::Msix, 2);
        interrupts.trigger(Irq::Msix, 2);
        let ((a, at_2), (b, at_3)) = (event(), event());
        interrupts.connect(Irq::Msix, 2..4, vec![a, b]).unwrap();
        assert_eq!((signals(&at_2), signals(&at_3)), (1, 0));
        interrupts.trigger(Irq::Msix, 3);
        assert_eq!((signals(&at_2), signals(&at_3)), (0, 1));
        interrupts.connect(Irq::Msix, 3..4, vec![]).unwrap();
        interrupts.trigger(Irq::Msix, 3);
        assert_eq!(signals(&at_3), 0);
    }

    #[test]
    fn a_masked_vector_fires_once_when_it_is_unmasked() {
        let interrupts = interrupts();
        let (a, at_0) = event();
        interrupts.connect(Irq::Msix, 0..1, vec![a]).unwrap();
        (0..4).for_each(|vector| interrupts.mask(Irq::Msix, vector));
        interrupts.trigger(Irq::Msix, 0);
        interrupts.trigger(Irq::Msix, 0);
        assert_eq!(signals(&at_0), 0);
        interrupts.unmask(Irq::Msix, 0);
        assert_eq!(signals(&at_0), 1);
        interrupts.unmask(Irq::Msix, 0);
        assert_eq!(signals(&at_0), 0);
    }

    #[test]
    fn what_is_pending_outlives_disabling_and_not_a_reset() {
        let interrupts = interrupts();
        let ((a, at_0), (b, _)) = (event(), event());
        interrupts.connect(Irq::Msix, 0..1, vec![b]).unwrap();
        interrupts.mask(Irq::Msix, 0);
        interrupts.disable(Irq::Msix);
        interrupts.trigger(Irq::Msix, 0);
        interrupts.trigger(Irq::Msix, 1);
        interrupts.connect(Irq::Msix, 0..1, vec![a]).unwrap();
        assert_eq!(signals(&at_0), 1, "neither masked nor lost");
        interrupts.reset();
        let (c, at_1) = event();
        interrupts.connect(Irq::Msix, 1..2, vec![c]).unwrap();
        assert_eq!(signals(&at_1), 0);
    }

    #[test]
    fn intx_masks_itself() {
        let interrupts = interrupts();
        let (a, line) = event();
        interrupts.connect(Irq::Intx, 0..1, vec![a]).unwrap();
        interrupts.trigger(Irq::Intx, 0);
        interrupts.trigger(Irq::Intx, 0);
        assert_eq!(signals(&line), 1);
        interrupts.unmask(Irq::Intx, 0);
        assert_eq!(signals(&line), 0, "whether it is still asserted is for the function to say");
        interrupts.trigger(Irq::Intx, 0);
        assert_eq!(signals(&line), 1);
    }

    #[test]
    fn only_eventfds_are_taken_and_a_full_one_does_not_block() {
        let interrupts = interrupts();
        let (pipe, _other) = rustix::pipe::pipe().unwrap();
        let (a, at_0) = event();
        assert_eq!(interrupts.connect(Irq::Msix, 0..2, vec![a, pipe]), Err(Errno::INVAL));
        let (a, _) = (at_0.try_clone().unwrap(), at_0.as_fd());
        interrupts.connect(Irq::Msix, 0..1, vec![a]).unwrap();
        rustix::io::write(&at_0, &(u64::MAX - 1).to_ne_bytes()).unwrap();
        interrupts.trigger(Irq::Msix, 0);
        assert_eq!(signals(&at_0), u64::MAX - 1);
    }

    #[test]
    fn there_are_no_other_vectors() {
        let interrupts = interrupts();
        interrupts.trigger(Irq::Msix, 4);
        interrupts.trigger(Irq::Err, 0);
        interrupts.mask(Irq::Msix, 4);
        assert_eq!(interrupts.connect(Irq::Msix, 3..5, vec![]), Err(Errno::INVAL));
        interrupts.close();
        interrupts.trigger(Irq::Msix, 0);
        interrupts.unmask(Irq::Msix, 0);
        assert_eq!(interrupts.connect(Irq::Msix, 0..1, vec![]), Err(Errno::INVAL));
    }
}
