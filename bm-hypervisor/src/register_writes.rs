//! What bm-hypervisor writes to an IO-Bond, as values: each function gives the writes of one operation, in
//! their order. The control thread writes them to its [`Port`](crate::port::Port); a simulation sends them
//! over a link.
//!
//! The registers that an operation leaves out keep what they have. Writes of the poll thread are not among
//! these.

use iobond_spec::{
    address::{BaseAddr, FunctionId},
    offsets::{board, functions, mailbox, qos, queues, status_page, windows},
    queue_context::{DESCRIPTION, QueueContext},
    register_access::encode_with,
    registers::components::{
        board_t,
        function_t::{self, inject::Inject},
        ident_t::{features::Features, sizes::Sizes},
        mailbox_t, qos_t, queue_t, status_page_t, window_t,
    },
};

use crate::{config::Rates, virtio_pci::config_image::ConfigImage};

/// A write to a register: byte offset in BAR0, and value.
pub type Write = (u32, u32);

/// Gives the board power, or takes it away.
pub fn power(on: bool) -> [Write; 1] {
    let control = encode_with(|r: &mut board_t::control::Control| r.set_power(on));
    [(board::BASE + board::CONTROL, control)]
}

/// Resets every function, as a conventional reset does. The board keeps its power.
pub fn reset() -> [Write; 1] {
    let control = encode_with(|r: &mut board_t::control::Control| {
        r.set_power(true);
        r.set_reset(true);
    });
    [(board::BASE + board::CONTROL, control)]
}

/// Undoes whatever an earlier hypervisor may have left, on an IO-Bond that has so much: no power, no queue,
/// no function, no limits, no status page, no memory. What it claims beyond the register map is not written
/// to: other registers are there.
pub fn quiesce(sizes: Sizes, features: Features) -> impl Iterator<Item = Write> {
    let limits = if features.limits() { qos::COUNT } else { 0 };
    let limits = (0..limits).map(|function| limit_control(function, false));
    power(false)
        .into_iter()
        .chain((0..sizes.queues()).take(queues::COUNT as usize).flat_map(stop_queue))
        .chain((0..functions::COUNT.min(sizes.functions().into())).map(|n| function_control(n, false)))
        .chain(limits)
        .chain([status_page_control(false)])
        .chain((0..windows::COUNT.min(sizes.windows().into())).map(|window| window_control(window, false)))
}

/// Grants `length` bytes at `at`, as the first DMA window.
pub fn grant(at: BaseAddr, length: u64) -> [Write; 5] {
    let [address_lo, address_hi] = wide(windows::BASE + windows::ADDRESS_LO, at.0);
    let [length_lo, length_hi] = wide(windows::BASE + windows::LENGTH_LO, length);
    [address_lo, address_hi, length_lo, length_hi, window_control(0, true)]
}

/// Has IO-Bond keep the status page at `at`.
pub fn status_page(at: BaseAddr) -> [Write; 3] {
    let [low, high] = wide(status_page::BASE + status_page::ADDRESS_LO, at.0);
    [low, high, status_page_control(true)]
}

/// How long a forwarded access may wait for its answer.
pub fn mailbox_deadline(microseconds: u32) -> [Write; 1] {
    let deadline = encode_with(|r: &mut mailbox_t::deadline::Deadline| r.set_microseconds(microseconds));
    [(mailbox::BASE + mailbox::DEADLINE, deadline)]
}

/// Programs function `id`, and lets the board find it.
pub fn present(id: FunctionId, space: &ConfigImage) -> impl Iterator<Item = Write> {
    let file = functions::BASE + id.index() as u32 * functions::STRIDE;
    let words = |at: u32, bytes| {
        let (words, _) = <[u8]>::as_chunks::<4>(bytes);
        (file + at..).step_by(4).zip(words.iter().map(|word| u32::from_le_bytes(*word)))
    };
    words(functions::CONFIG, &space.image)
        .chain(words(functions::MASK, &space.mask))
        .chain([function_control(id.index() as u32, true)])
}

/// Hides function `id` from the board; its queues are forgotten.
pub fn withdraw(id: FunctionId) -> [Write; 1] {
    [function_control(id.index() as u32, false)]
}

/// Holds function `id` to `rates`, or to nothing. Limits are taken when they are enabled, and so are disabled
/// first.
pub fn limit(id: FunctionId, rates: Option<&Rates>) -> impl Iterator<Item = Write> {
    let function = id.index() as u32;
    let file = qos::BASE + function * qos::STRIDE;
    let enabled = rates.map(|rates| {
        let [operations_lo, operations_hi] =
            wide(file + qos::OPERATIONS_LO, rates.operations_per_second.unwrap_or(0));
        let [bytes_lo, bytes_hi] = wide(file + qos::BYTES_LO, rates.bytes_per_second.unwrap_or(0));
        [
            operations_lo,
            operations_hi,
            bytes_lo,
            bytes_hi,
            (file + qos::OPERATIONS_BURST, rates.operations_burst),
            (file + qos::BYTES_BURST, rates.bytes_burst),
            limit_control(function, true),
        ]
    });
    [limit_control(function, false)].into_iter().chain(enabled.into_iter().flatten())
}

/// Describes a queue in context `number`, and enables it: IO-Bond takes the other registers when
/// `control.enable` rises, which therefore comes last.
pub fn start_queue(number: u8, context: &QueueContext) -> impl Iterator<Item = Write> {
    let (file, words) = (queue(number), context.to_words());
    let registers = DESCRIPTION.step_by(4).chain([queues::CONTROL]);
    registers.map(move |at| (file + at, words[(at / 4) as usize]))
}

/// Has IO-Bond forget the queue in context `number`.
pub fn stop_queue(number: u8) -> [Write; 1] {
    let control = encode_with(|r: &mut queue_t::control::Control| r.set_enable(false));
    [(queue(number) + queues::CONTROL, control)]
}

/// Tells IO-Bond how far used buffers may be returned, for a queue that is not polled.
pub fn tail(number: u8, used: u16) -> [Write; 1] {
    [(queue(number) + queues::TAIL, used.into())]
}

/// Answers the forwarded access numbered `sequence`: a read with `data`, which stands there before IO-Bond
/// looks.
pub fn answer(sequence: u16, data: Option<u32>) -> impl Iterator<Item = Write> {
    let answer = encode_with(|r: &mut mailbox_t::answer::Answer| r.set_sequence(sequence));
    let data = data.map(|data| (mailbox::BASE + mailbox::ANSWER_DATA, data));
    data.into_iter().chain([(mailbox::BASE + mailbox::ANSWER, answer)])
}

/// Raises a configuration change interrupt (virtio 1.3, 4.1.5.4).
pub fn inject_config_change(id: FunctionId, vector: u16) -> [Write; 1] {
    let inject = encode_with(|r: &mut Inject| {
        r.set_vector(vector);
        r.set_configuration(true);
    });
    [(functions::BASE + id.index() as u32 * functions::STRIDE + functions::INJECT, inject)]
}

fn function_control(function: u32, present: bool) -> Write {
    let control = encode_with(|r: &mut function_t::control::Control| r.set_present(present));
    (functions::BASE + function * functions::STRIDE + functions::CONTROL, control)
}

fn limit_control(function: u32, enable: bool) -> Write {
    let control = encode_with(|r: &mut qos_t::control::Control| r.set_enable(enable));
    (qos::BASE + function * qos::STRIDE + qos::CONTROL, control)
}

fn window_control(window: u32, grant: bool) -> Write {
    let control = encode_with(|r: &mut window_t::control::Control| r.set_grant(grant));
    (windows::BASE + window * windows::STRIDE + windows::CONTROL, control)
}

fn status_page_control(enable: bool) -> Write {
    let control = encode_with(|r: &mut status_page_t::control::Control| r.set_enable(enable));
    (status_page::BASE + status_page::CONTROL, control)
}

/// Offset of the registers of queue context `number`.
pub(crate) const fn queue(number: u8) -> u32 {
    queues::BASE + number as u32 * queues::STRIDE
}

/// A `_lo`/`_hi` pair.
fn wide(low: u32, value: u64) -> [Write; 2] {
    [(low, value as u32), (low + 4, (value >> 32) as u32)]
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use iobond_spec::{
        address::BoardAddr,
        queue_context::{QueueFeatures, Ring},
        register_access::{Over, RegisterIo, decode},
        registers::Iobond,
    };

    use super::*;

    #[derive(Default)]
    struct Log(RefCell<Vec<Write>>);

    impl RegisterIo for Log {
        fn read32(&self, _: u32) -> u32 {
            0
        }

        fn write32(&self, offset: u32, value: u32) {
            self.0.borrow_mut().push((offset, value));
        }
    }

    /// What the generated accessors write, which know offsets and fields from `iobond.rdl`.
    fn written(write: impl FnOnce(Iobond<'_, Over<Log>>)) -> Vec<Write> {
        let over = Over(Log::default());
        write(over.registers());
        over.0.0.into_inner()
    }

    fn sent(writes: impl IntoIterator<Item = Write>) -> Vec<Write> {
        writes.into_iter().collect()
    }

    const ID: fn() -> FunctionId = || FunctionId::new(3).unwrap();

    #[test]
    fn the_board_and_its_memory() {
        assert_eq!(sent(power(true)), written(|r| r.board().control().write(|r| r.set_power(true))));
        let reset_by_accessor = written(|r| {
            r.board().control().write(|r| {
                r.set_power(true);
                r.set_reset(true);
            });
        });
        assert_eq!(sent(reset()), reset_by_accessor);
        let by_accessor = written(|r| {
            let [window, ..] = r.windows();
            window.address_lo().write(|r| r.set_value(2));
            window.address_hi().write(|r| r.set_value(1));
            window.length_lo().write(|r| r.set_value(4));
            window.length_hi().write(|r| r.set_value(3));
            window.control().write(|r| r.set_grant(true));
            r.status_page().address_lo().write(|r| r.set_value(2));
            r.status_page().address_hi().write(|r| r.set_value(1));
            r.status_page().control().write(|r| r.set_enable(true));
            r.mailbox().deadline().write(|r| r.set_microseconds(500));
        });
        let at = BaseAddr(1 << 32 | 2);
        let programs = sent(grant(at, 3 << 32 | 4)).into_iter().chain(status_page(at));
        assert_eq!(sent(programs.chain(mailbox_deadline(500))), by_accessor);
    }

    #[test]
    fn a_function_is_programmed_before_the_board_finds_it() {
        let mut space = ConfigImage { image: [0; 256], mask: [0; 256] };
        (space.image[4], space.mask[255]) = (0x11, 0x22);
        let by_accessor = written(|r| {
            let file = r.functions()[3];
            file.config().iter().enumerate().for_each(|(n, word)| {
                word.write(|r| r.set_value(if n == 1 { 0x11 } else { 0 }));
            });
            file.mask().iter().enumerate().for_each(|(n, word)| {
                word.write(|r| r.set_value(if n == 63 { 0x2200_0000 } else { 0 }));
            });
            file.control().write(|r| r.set_present(true));
            file.inject().write(|r| {
                r.set_vector(7);
                r.set_configuration(true);
            });
            file.control().write(|r| r.set_present(false));
        });
        let programs = present(ID(), &space).chain(inject_config_change(ID(), 7)).chain(withdraw(ID()));
        assert_eq!(sent(programs), by_accessor);
    }

    #[test]
    fn limits_are_disabled_while_they_change() {
        let rates = Rates {
            operations_per_second: Some(1 << 32 | 2),
            operations_burst: 3,
            bytes_per_second: None,
            bytes_burst: 4,
        };
        let by_accessor = written(|r| {
            let file = r.qos()[3];
            file.control().write(|r| r.set_enable(false));
            file.operations_lo().write(|r| r.set_value(2));
            file.operations_hi().write(|r| r.set_value(1));
            file.bytes_lo().write(|r| r.set_value(0));
            file.bytes_hi().write(|r| r.set_value(0));
            file.operations_burst().write(|r| r.set_value(3));
            file.bytes_burst().write(|r| r.set_value(4));
            file.control().write(|r| r.set_enable(true));
        });
        assert_eq!(sent(limit(ID(), Some(&rates))), by_accessor);
        assert_eq!(sent(limit(ID(), None)), by_accessor[..1]);
    }

    #[test]
    fn a_queue_is_described_before_it_is_enabled() {
        let ring = |at: u64| (BoardAddr(at), BoardAddr(at + 0x1000), BoardAddr(at + 0x2000));
        let ((desc, avail, used), base) = (ring(0x10_0000), BaseAddr(0x20_0000));
        let context = QueueContext {
            function: ID(),
            index: 1,
            vector: 2,
            guest: Ring { size: 8, desc, avail, used },
            shadow: Ring { size: 8, desc: base, avail: base, used: base },
            slots: base,
            slot_size: 64,
            slot_count: 8,
            features: QueueFeatures::default(),
        };
        let writes = sent(start_queue(5, &context));
        // The registers of a context but state, HEAD, TAIL and counters; control is the last of them.
        let offsets = (0x4288..0x42D0).step_by(4).chain([0x4280]);
        assert!(writes.iter().map(|(at, _)| *at).eq(offsets), "{writes:x?}");
        assert!(
            writes.last().is_some_and(|(_, control)| decode::<queue_t::control::Control>(*control).enable())
        );
        let stop = written(|r| r.queues()[5].control().write(|r| r.set_enable(false)));
        assert_eq!(sent(stop_queue(5)), stop);
        assert_eq!(sent(tail(5, 9)), written(|r| r.queues()[5].tail().write(|r| r.set_index(9))));
    }

    #[test]
    fn data_stands_there_before_the_answer() {
        let by_accessor = written(|r| {
            r.mailbox().answer_data().write(|r| r.set_value(7));
            r.mailbox().answer().write(|r| r.set_sequence(9));
        });
        assert_eq!(sent(answer(9, Some(7))), by_accessor);
        assert_eq!(sent(answer(9, None)), by_accessor[1..]);
    }

    #[test]
    fn power_goes_first_and_memory_last() {
        let mut features = 0u32;
        features |= Features::LIMITS_MASK << Features::LIMITS_OFFSET;
        let sizes = 2 << Sizes::FUNCTIONS_OFFSET | 3 << Sizes::QUEUES_OFFSET | 4 << Sizes::WINDOWS_OFFSET;
        let writes = sent(quiesce(decode(sizes), decode(features)));
        let by_accessor = written(|r| {
            r.board().control().write(|r| r.set_power(false));
            r.queues().iter().take(3).for_each(|queue| queue.control().write(|r| r.set_enable(false)));
            r.functions().iter().take(2).for_each(|file| file.control().write(|r| r.set_present(false)));
            r.qos().iter().for_each(|qos| qos.control().write(|r| r.set_enable(false)));
            r.status_page().control().write(|r| r.set_enable(false));
            r.windows().iter().take(4).for_each(|window| window.control().write(|r| r.set_grant(false)));
        });
        assert_eq!(writes, by_accessor);
    }

    #[test]
    fn nothing_is_written_beyond_the_register_map() {
        let writes = sent(quiesce(decode(u32::MAX), decode(0)));
        assert_eq!(writes.len(), 1 + 64 + 8 + 1 + 8, "power, queues, functions, status page, windows");
    }
}
