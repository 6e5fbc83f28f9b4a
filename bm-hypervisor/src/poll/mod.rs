//! The poll thread's side: one bounded pass over mailbox, HEADs and used indices.
//!
//! A pass only reads base memory, posts TAIL writes, and kicks back ends that ask for it. It never sleeps,
//! never allocates and never frees, and makes no system call but a needed kick: of a back end, or of the
//! control thread when it has something for it. Whatever is slow goes to the control thread over bounded
//! lock-free channels.
//!
//! A thread that does not want to pass all the time sleeps between [`Poller::arm`] and [`Poller::disarm`].

mod bare;
pub(crate) mod channel;
mod outstanding;
mod poll_waker;
mod queue;
mod sleep;

use std::sync::{
    Arc,
    atomic::{AtomicU16, AtomicU32, Ordering, fence},
};

use iobond_spec::{
    ALL_ONES, MAX_QUEUES,
    offsets::{board, mailbox, queues},
    register_access::decode,
    registers::components::{board_t, mailbox_kind_e::MailboxKindE, mailbox_t},
    status_page,
};

use self::channel::{Event, Order, PollerEnd, Request};
pub(crate) use self::queue::{PolledQueue, Polling, UsedJump};
pub use self::{
    bare::{BareEvent, BareEvents, BareQueue},
    poll_waker::PollWaker,
};
use crate::{config::PollMode, pool::Mapping, port::Port};

/// Word of the status page's mailbox request in the pool, in units of 32 bits.
const MAILBOX_WORD: usize = (status_page::MAILBOX_WORD / 4) as usize;
/// First of its error words.
const ERROR_WORD: usize = (status_page::QUEUE_ERRORS / 4) as usize;
/// Words of error bits.
const ERROR_WORDS: usize = MAX_QUEUES / 32;
/// First of its HEADs.
pub(crate) const HEAD_WORD: usize = (status_page::HEADS / 4) as usize;

/// With [`PollMode::Registers`], passes between two reads for queues in error: no board waits for that, and
/// each costs a PCIe read.
const ERROR_INTERVAL: u32 = 256;

/// Is told what passes do; for measurements. Called once per queue and batch, from within the pass.
pub trait Observer {
    /// IO-Bond published buffers of queue context `queue`, up to this shadow available index, and the back
    /// end was kicked if it wanted to be.
    #[inline]
    fn published(&mut self, queue: u8, head: u16, kicked: bool) {
        let _ = (queue, head, kicked);
    }

    /// The back end used buffers of queue context `queue`, up to this shadow used index, and IO-Bond was told
    /// to return them.
    #[inline]
    fn returned(&mut self, queue: u8, tail: u16) {
        let _ = (queue, tail);
    }
}

/// An observer that does nothing.
impl Observer for () {}

/// What one pass did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// Mailbox requests handed to the control thread.
    pub requests: u32,
    /// Queues with a HEAD that had moved.
    pub published: u32,
    /// Kicks of back ends: at most one per queue.
    pub kicked: u32,
    /// Queues of which IO-Bond was told to return used buffers.
    pub returned: u32,
}

impl Progress {
    /// Whether there was nothing to do.
    pub fn is_idle(&self) -> bool {
        *self == Self::default()
    }
}

/// Polls one board, on any one thread of the embedder; see the [crate's introduction](crate).
pub struct Poller<P, O = ()> {
    memory: Arc<Mapping>,
    mode: PollMode,
    polled: Polled<P, O>,
}

/// All of a poller that a pass changes, apart from the memory that it reads meanwhile.
struct Polled<P, O> {
    port: Arc<P>,
    queues: Vec<PolledQueue>,
    end: PollerEnd,
    last_request: u32,
    last_errors: [u32; ERROR_WORDS],
    until_errors: u32,
    /// Back ends were asked to interrupt.
    armed: bool,
    observer: O,
}

impl<P: Port> Poller<P> {
    pub(crate) fn new(port: Arc<P>, memory: Arc<Mapping>, mode: PollMode, end: PollerEnd) -> Self {
        let polled = Polled {
            port,
            // All that there can ever be, so that a pass never allocates.
            queues: Vec::with_capacity(MAX_QUEUES),
            end,
            last_request: 0,
            last_errors: [0; ERROR_WORDS],
            until_errors: ERROR_INTERVAL,
            armed: false,
            observer: (),
        };
        Self { memory, mode, polled }
    }
}

impl<P: Port, O: Observer> Poller<P, O> {
    /// The same poller with another observer.
    pub fn observed_by<N: Observer>(self, observer: N) -> Poller<P, N> {
        let Self { memory, mode, polled } = self;
        let Polled { port, queues, end, last_request, last_errors, until_errors, armed, .. } = polled;
        let polled = Polled { port, queues, end, last_request, last_errors, until_errors, armed, observer };
        Poller { memory, mode, polled }
    }

    /// Queues that are polled at present.
    pub fn queues(&self) -> usize {
        self.polled.queues.len()
    }

    /// One pass: carries out what the control thread ordered, looks for a mailbox request and for queues in
    /// error, kicks back ends for new buffers, and has used buffers returned. Bounded by the number of
    /// queues.
    pub fn pass(&mut self) -> Progress {
        let Self { memory, mode, polled } = self;
        let (words16, words32) = (memory.words16(), memory.words32());
        let mut progress = Progress::default();
        // First: a queue that is ordered back is not touched after this, and one that is added is looked at
        // right away.
        if polled.end.has_orders() {
            polled.take_orders(words16);
        }
        match mode {
            PollMode::StatusPage => {
                polled.look_at_page(words32, &mut progress);
                polled.poll_queues(words16, |_, queue| page_head(words32, queue), &mut progress);
            }
            PollMode::Registers => {
                polled.look_at_registers(&mut progress);
                polled.poll_queues(words16, register_head, &mut progress);
            }
        }
        polled.end.count(progress);
        progress
    }
}

impl<P: Port, O: Observer> Polled<P, O> {
    #[inline]
    fn poll_queues(
        &mut self,
        words16: &[AtomicU16],
        head_of: impl Fn(&P, &PolledQueue) -> u16,
        progress: &mut Progress,
    ) {
        let Self { port, queues, end, observer, .. } = self;
        for queue in queues {
            // HEAD is loaded with acquire ordering, after which the ring entries up to it are visible to a
            // back end that is kicked. HEAD is followed also while the used ring is broken: otherwise every
            // pass would find it moved.
            let head = head_of(port, queue);
            if head != queue.last_head {
                publish(queue, head, words16, observer, progress);
            }
            let used = queue.used(words16);
            if used != queue.last_used && !queue.broken {
                give_back(queue, used, (&**port, words16), end, observer, progress);
            }
        }
    }

    /// A new word is a new request: its number differs from the last one's. The word is written after the
    /// body.
    fn look_at_page(&mut self, words: &[AtomicU32], progress: &mut Progress) {
        let request = page_word(words, MAILBOX_WORD);
        if request != self.last_request {
            let [offset, data] = [MAILBOX_WORD - 2, MAILBOX_WORD - 1].map(|at| page_word(words, at));
            self.hand_over(Request { word: request, offset, data }, progress);
        }
        let errors = page_errors(words);
        if errors != self.last_errors && self.end.tell(Event::QueueErrors) {
            self.last_errors = errors;
        }
    }

    fn look_at_registers(&mut self, progress: &mut Progress) {
        let request = self.port.read32(mailbox::BASE + mailbox::REQUEST);
        if request != self.last_request {
            let [offset, data] =
                [mailbox::OFFSET, mailbox::DATA].map(|at| self.port.read32(mailbox::BASE + at));
            self.hand_over(Request { word: request, offset, data }, progress);
        }
        self.until_errors -= 1;
        if self.until_errors == 0 {
            self.until_errors = ERROR_INTERVAL;
            let state: board_t::state::State = decode(self.port.read32(board::BASE + board::STATE));
            if state.queue_error() {
                // Told again after the next interval if the channel is full, and for as long as the error
                // stands.
                self.end.tell(Event::QueueErrors);
            }
        }
    }

    /// Hands a request over, or leaves it for the next pass if the channel is full.
    fn hand_over(&mut self, request: Request, progress: &mut Progress) {
        let word: mailbox_t::request::Request = decode(request.word);
        if word.kind() == MailboxKindE::None {
            self.last_request = request.word;
            return;
        }
        let event = if request.word == ALL_ONES { Event::Gone } else { Event::Request(request) };
        if self.end.tell(event) {
            self.last_request = request.word;
            progress.requests += 1;
        }
    }

    /// Orders are taken in the order in which they were given, so that a queue which is removed and started
    /// anew in between two passes is the new one after them; tickets tell the two apart.
    #[cold]
    fn take_orders(&mut self, words16: &[AtomicU16]) {
        while let Some(order) = self.end.next_order() {
            match order {
                Order::Add(queue) if self.queues.len() < self.queues.capacity() => {
                    if self.armed {
                        // Between `arm` and `disarm` every back end is asked to interrupt, this one too. As
                        // in `arm`, asking comes before the fence and looking after it: `poll_queues` looks,
                        // later in this pass.
                        queue.want_interrupt(words16);
                        fence(Ordering::SeqCst);
                    }
                    self.queues.push(queue);
                }
                // There cannot be more queues than contexts; one too many goes back to the control thread.
                Order::Add(queue) => self.end.give_back(queue),
                // What is given back has seen its last access: the send is this thread's release, the receive
                // the control thread's acquire, and only then does it zero the rings or hand them to another
                // back end. It also frees the queue, since a pass frees nothing. A ticket that is not here
                // was given back already, to a wait that had timed out.
                Order::Remove { ticket } => {
                    if let Some(index) = self.queues.iter().position(|queue| queue.ticket == ticket) {
                        let queue = self.queues.swap_remove(index);
                        self.end.give_back(queue);
                    }
                }
            }
        }
    }
}

/// A word of the status page.
#[inline]
fn page_word(words: &[AtomicU32], index: usize) -> u32 {
    words.get(index).map_or(0, |word| word.load(Ordering::Acquire))
}

/// The error bits of all queues in the status page.
#[inline]
fn page_errors(words: &[AtomicU32]) -> [u32; ERROR_WORDS] {
    std::array::from_fn(|index| page_word(words, ERROR_WORD + index))
}

/// A queue's HEAD in the status page.
#[inline]
fn page_head(words: &[AtomicU32], queue: &PolledQueue) -> u16 {
    page_word(words, queue.head_word as usize) as u16
}

/// A queue's HEAD in its register. All ones, which says that the device is gone, counts as one that has not
/// moved.
#[inline]
fn register_head<P: Port>(port: &P, queue: &PolledQueue) -> u16 {
    match port.read32(queue.tail - queues::TAIL + queues::HEAD) {
        ALL_ONES => queue.last_head,
        head => head as u16,
    }
}

/// HEAD has moved: IO-Bond published buffers.
///
/// Whether to kick depends on both ends of the move (virtio 1.3, 2.7.10: `avail_event` was passed), so that
/// `last_head` changes last. A broken queue is not kicked: its back end is about to be stopped.
fn publish(
    queue: &mut PolledQueue,
    head: u16,
    words16: &[AtomicU16],
    observer: &mut impl Observer,
    progress: &mut Progress,
) {
    let kick = queue.kick.as_ref().filter(|_| !queue.broken && queue.wants_kick(words16, head));
    if let Some(kick) = kick {
        // Fails only when 2^64 - 2 kicks are pending, and then the back end knows.
        let _ = kick.write(1);
        progress.kicked += 1;
    }
    progress.published += 1;
    observer.published(queue.context, head, kick.is_some());
    queue.last_head = head;
}

/// The used index has moved: the back end used buffers. A jump of more than the ring holds is not passed on.
///
/// The account is brought up to date before TAIL is written: from then on IO-Bond publishes these descriptors
/// anew, and the used ring may be overwritten. `used` was loaded with acquire ordering, and the write is
/// posted behind it, so that IO-Bond's DMA finds the entries.
fn give_back<P: Port>(
    queue: &mut PolledQueue,
    used: u16,
    (port, words16): (&P, &[AtomicU16]),
    end: &PollerEnd,
    observer: &mut impl Observer,
    progress: &mut Progress,
) {
    if used.wrapping_sub(queue.last_used) > queue.size {
        let jump =
            Event::UsedJump { context: queue.context, ticket: queue.ticket, from: queue.last_used, to: used };
        queue.broken = end.tell(jump);
        return;
    }
    queue.account(words16, used);
    port.write32(queue.tail, used.into());
    queue.last_used = used;
    progress.returned += 1;
    observer.returned(queue.context, used);
}

#[cfg(test)]
mod tests;
