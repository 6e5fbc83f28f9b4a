//! Sleeping between passes: what the base asks for before it does, so that it is woken.
//!
//! ```text
//!   back end                          poll thread
//!   used index                        used_event, or flags      <- arm
//!   full fence                        full fence
//!   used_event, or flags: interrupt?  used index: anything new?
//! ```
//!
//! Each side writes, then reads what the other one writes, with a full fence between the two (virtio 1.3,
//! 2.7.7.1 and 2.7.8.2): at least one of them sees the other's write, so that a buffer which is used while
//! the thread arms is either found or wakes it.

use std::sync::atomic::{AtomicU32, Ordering, fence};

use iobond_spec::{
    offsets::{board, mailbox},
    register_access::decode,
    registers::components::board_t,
};

use super::{
    MAILBOX_WORD, Observer, PollWaker, Polled, Poller, page_errors, page_head, page_word, register_head,
};
use crate::{config::PollMode, poll::channel::Event, port::Port};

/// `board.wake.arm`: one interrupt, for whatever comes next.
const ARM: u32 = 1;

impl<P: Port, O: Observer> Poller<P, O> {
    /// Wakes when a back end interrupted an armed queue, and when the control thread ordered something.
    ///
    /// It wakes for what the board does only where the port has an interrupt ([`Port::wake_up`]), since no
    /// code of the base runs when IO-Bond publishes buffers or fills the mailbox. The emulator in the same
    /// process calls back instead.
    pub fn waker(&self) -> &PollWaker {
        self.polled.end.poll_waker()
    }

    /// Before sleeping: clears the waker, asks back ends to interrupt at the next buffer that they use
    /// (virtio 1.3, 2.7.7), and looks whether anything waits already. If so the caller passes again instead
    /// of sleeping. If not, it may sleep until the waker or IO-Bond wakes it, without another pass in
    /// between; whatever wakes it from IO-Bond is to be asked for before this call.
    ///
    /// Makes one system call, and a register read where the port has an interrupt.
    pub fn arm(&mut self) -> bool {
        let Self { memory, mode, polled } = self;
        let (words16, words32) = (memory.words16(), memory.words32());
        // First, so that only what came before the looks below is forgotten: they find it.
        polled.end.poll_waker().clear();
        polled.armed = true;
        polled.queues.iter().for_each(|queue| queue.want_interrupt(words16));
        if polled.port.wake_up().is_some() {
            polled.port.write32(board::BASE + board::WAKE, ARM);
            // The write is posted. A read completes after it has arrived, and after whatever IO-Bond wrote
            // before it answered (PCIe 5.0, 2.4.1), so that the looks below see all that came too early for
            // the interrupt.
            polled.port.read32(board::BASE + board::STATE);
        }
        // Between what this thread asks of back ends and its look at their used indices, as drawn above.
        fence(Ordering::SeqCst);
        let ordered = polled.end.has_orders();
        let waiting = match mode {
            PollMode::StatusPage => polled.waits_on_page(words32),
            PollMode::Registers => polled.waits_in_registers(),
        };
        let moved = polled.queues.iter().any(|queue| {
            let head = match mode {
                PollMode::StatusPage => page_head(words32, queue),
                PollMode::Registers => register_head(&*polled.port, queue),
            };
            head != queue.last_head || (queue.used(words16) != queue.last_used && !queue.broken)
        });
        ordered || waiting || moved
    }

    /// After sleeping: takes back what [`Poller::arm`] asked of back ends. Used buffers are polled for again.
    pub fn disarm(&mut self) {
        let words16 = self.memory.words16();
        self.polled.armed = false;
        self.polled.queues.iter().for_each(|queue| queue.want_silence(words16));
    }
}

impl<P: Port, O> Polled<P, O> {
    fn waits_on_page(&self, words: &[AtomicU32]) -> bool {
        page_word(words, MAILBOX_WORD) != self.last_request || page_errors(words) != self.last_errors
    }

    /// An error that stands is told before every sleep and in the first pass after it, since it may have come
    /// in between. It does not keep the thread awake, since it stands until the driver resets the queue.
    fn waits_in_registers(&mut self) -> bool {
        self.until_errors = 1;
        let state: board_t::state::State = decode(self.port.read32(board::BASE + board::STATE));
        let untold = state.queue_error() && !self.end.tell(Event::QueueErrors);
        untold || self.port.read32(mailbox::BASE + mailbox::REQUEST) != self.last_request
    }
}
