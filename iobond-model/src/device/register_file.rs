//! What the base reaches: the register map of `iobond.rdl`, decoded by its generated offsets.

use iobond_spec::{
    ALL_ONES, MAGIC, MAX_FUNCTIONS, MAX_QUEUES, MAX_WINDOWS,
    address::{BaseAddr, FunctionId},
    offsets::{board, functions, ident, mailbox, qos, queues, status_page, windows},
    register_access::{decode, encode, extract, place},
    registers::components::{
        board_t::{control::Control as BoardControl, state::State as BoardState, wake::Wake},
        function_t::{control::Control as FunctionControl, inject::Inject, state::State as FunctionState},
        ident_t::{features::Features, sizes::Sizes, version::Version},
        mailbox_t::{answer::Answer, fill::Fill},
        window_t,
    },
};

use super::{Device, Effect, RangeFile, queue_file::Written};
use crate::{
    front_end::{ConfigSpace, Function},
    mailbox::CAPACITY,
    shadow::{Counters, QueueError},
};

/// The registers of a queue that its engine keeps.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[allow(missing_docs, reason = "the fields are those of the register file")]
pub struct QueueReport {
    pub head: u16,
    pub tail: u16,
    pub counters: Counters,
}

/// A register, by the register file that it is in and its offset there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Register {
    Ident(u32),
    Board(u32),
    Mailbox(u32),
    StatusPage(u32),
    Window(usize, u32),
    Function(usize, u32),
    Qos(usize, u32),
    Queue(usize, u32),
}

/// The register at `offset`, if one may be there: whether the file has it is for the file to say.
fn locate(offset: u32) -> Option<Register> {
    let within = |base: u32, size: u32| offset.checked_sub(base).filter(|at| *at < size);
    let element = |base: u32, stride: u32, count: u32| {
        within(base, stride * count).map(|at| ((at / stride) as usize, at % stride))
    };
    if !offset.is_multiple_of(4) {
        return None;
    }
    None.or_else(|| within(ident::BASE, ident::STRIDE).map(Register::Ident))
        .or_else(|| within(board::BASE, board::STRIDE).map(Register::Board))
        .or_else(|| within(mailbox::BASE, mailbox::STRIDE).map(Register::Mailbox))
        .or_else(|| within(status_page::BASE, status_page::STRIDE).map(Register::StatusPage))
        .or_else(|| {
            element(windows::BASE, windows::STRIDE, windows::COUNT).map(|(n, at)| Register::Window(n, at))
        })
        .or_else(|| {
            element(functions::BASE, functions::STRIDE, functions::COUNT)
                .map(|(n, at)| Register::Function(n, at))
        })
        .or_else(|| element(qos::BASE, qos::STRIDE, qos::COUNT).map(|(n, at)| Register::Qos(n, at)))
        .or_else(|| {
            element(queues::BASE, queues::STRIDE, queues::COUNT).map(|(n, at)| Register::Queue(n, at))
        })
}

/// The queue whose TAIL is at `offset`. It is the engine's register and the one that a poll pass writes, so
/// that a world takes such a write without asking the device, which refuses it.
pub fn tail_of(offset: u32) -> Option<usize> {
    match locate(offset) {
        Some(Register::Queue(queue, queues::TAIL)) => Some(queue),
        _ => None,
    }
}

impl Device {
    /// The base reads the register at `offset`. `report` asks a queue's engine.
    pub fn register_read(&mut self, now: u64, offset: u32, report: impl Fn(usize) -> QueueReport) -> u32 {
        let value = match locate(offset) {
            Some(Register::Ident(at)) => self.read_ident(now, at),
            Some(Register::Board(at)) => self.read_board(at),
            Some(Register::Mailbox(at)) => self.read_mailbox(at),
            Some(Register::StatusPage(at)) => read_range(&self.status_page, at, status_page::CONTROL),
            Some(Register::Window(n, at)) => read_range(&self.window_files[n], at, windows::CONTROL),
            Some(Register::Function(n, at)) => self.read_function(n, at),
            Some(Register::Qos(n, at)) => Some(self.qos[n].read(at)),
            Some(Register::Queue(n, at)) => self.read_queue(n, at, report),
            None => None,
        };
        value.unwrap_or_else(|| self.refuse())
    }

    /// The base writes `value` to the register at `offset`.
    pub fn register_write(&mut self, now: u64, offset: u32, value: u32, effects: &mut Vec<Effect>) {
        let accepted = match locate(offset) {
            Some(Register::Ident(ident::SCRATCH)) => {
                self.scratch = value;
                true
            }
            Some(Register::Board(board::CONTROL)) => self.write_board_control(now, value, effects),
            Some(Register::Board(board::WAKE)) => {
                if extract(value, Wake::ARM_OFFSET, Wake::ARM_MASK) != 0 {
                    effects.push(Effect::Wake);
                }
                true
            }
            Some(Register::Mailbox(at)) => self.write_mailbox(at, value, effects),
            Some(Register::StatusPage(at)) => self.write_status_page(at, value, effects),
            Some(Register::Window(n, at)) => self.write_window(n, at, value, effects),
            Some(Register::Function(n, at)) => self.write_function(n, at, value, effects),
            Some(Register::Qos(n, at)) => self.write_qos(n, at, value, effects),
            Some(Register::Queue(n, at)) => self.write_queue(n, at, value, effects),
            _ => false,
        };
        if !accepted {
            self.refuse();
        }
    }

    fn refuse(&mut self) -> u32 {
        self.error_counters.refused_accesses = self.error_counters.refused_accesses.wrapping_add(1);
        ALL_ONES
    }

    fn read_ident(&mut self, now: u64, at: u32) -> Option<u32> {
        Some(match at {
            ident::MAGIC => MAGIC,
            ident::VERSION => encode(Version::default()),
            ident::SIZES => encode(Sizes::default()),
            ident::FEATURES => encode(Features::default()),
            ident::TIME_LO => {
                self.time_hi = (now >> 32) as u32;
                now as u32
            }
            ident::TIME_HI => self.time_hi,
            ident::SCRATCH => self.scratch,
            _ => return None,
        })
    }

    fn read_board(&self, at: u32) -> Option<u32> {
        Some(match at {
            board::CONTROL => {
                let mut control = BoardControl::default();
                control.set_power(self.powered);
                encode(control)
            }
            board::STATE => {
                place(BoardState::POWERED_OFFSET, u32::from(self.powered))
                    | place(BoardState::QUEUE_ERROR_OFFSET, u32::from(self.queue_errors() != 0))
            }
            board::UNSUPPORTED_REQUESTS => self.error_counters.unsupported_requests,
            board::REFUSED_ACCESSES => self.error_counters.refused_accesses,
            board::DMA_FAULTS => self.error_counters.dma_faults,
            _ => return None,
        })
    }

    /// Power off and reset both take every function back to its image; the base hears of each.
    fn write_board_control(&mut self, now: u64, value: u32, effects: &mut Vec<Effect>) -> bool {
        let control: BoardControl = decode(value);
        if control.reset() || self.powered && !control.power() {
            FunctionId::all().for_each(|function| self.reset_function(now, function, effects));
        }
        self.powered = control.power();
        true
    }

    fn read_mailbox(&self, at: u32) -> Option<u32> {
        let request = self.mailbox_request();
        let counters = self.mailbox.counters();
        Some(match at {
            mailbox::REQUEST => request.request.get(),
            mailbox::OFFSET => request.offset.get(),
            mailbox::DATA => request.data.get(),
            mailbox::ANSWER_DATA => self.answer_data,
            mailbox::DEADLINE => self.deadline_us,
            mailbox::FILL => {
                place(Fill::WAITING_OFFSET, self.mailbox.len() as u32)
                    | place(Fill::CAPACITY_OFFSET, CAPACITY as u32)
            }
            mailbox::EXPIRED_READS => counters.expired_reads,
            mailbox::EXPIRED_WRITES => counters.expired_writes,
            mailbox::LATE_ANSWERS => counters.late_answers,
            _ => return None,
        })
    }

    fn write_mailbox(&mut self, at: u32, value: u32, effects: &mut Vec<Effect>) -> bool {
        match at {
            mailbox::ANSWER_DATA => self.answer_data = value,
            mailbox::ANSWER => {
                let sequence = extract(value, Answer::SEQUENCE_OFFSET, Answer::SEQUENCE_MASK);
                let data = self.answer_data;
                self.with_mailbox(effects, |mailbox| mailbox.answer(sequence as u16, data));
            }
            mailbox::DEADLINE => {
                self.deadline_us = value;
                self.mailbox.set_timeout(u64::from(value) * 1000);
            }
            _ => return false,
        }
        true
    }

    fn write_status_page(&mut self, at: u32, value: u32, effects: &mut Vec<Effect>) -> bool {
        let was_on = self.status_page.on;
        let accepted =
            at <= status_page::CONTROL && write_range(&mut self.status_page, at, status_page::CONTROL, value);
        if was_on != self.status_page.on {
            effects.push(Effect::StatusPage);
        }
        accepted
    }

    fn write_window(&mut self, n: usize, at: u32, value: u32, effects: &mut Vec<Effect>) -> bool {
        debug_assert!(n < MAX_WINDOWS);
        let file = &mut self.window_files[n];
        let was_on = file.on;
        let accepted = write_range(file, at, windows::CONTROL, value);
        match (was_on, file.on) {
            (false, true) => self.windows.grant(n, BaseAddr(file.address), file.length),
            (true, false) => self.windows.revoke(n),
            _ => return accepted,
        }
        effects.push(Effect::Windows);
        accepted
    }

    fn read_function(&self, n: usize, at: u32) -> Option<u32> {
        let file = &self.functions[n];
        let function = file.function.as_ref();
        Some(match at {
            functions::CONTROL => {
                let mut control = FunctionControl::default();
                control.set_present(function.is_some());
                encode(control)
            }
            functions::STATE => {
                let bit = |offset, of: fn(&ConfigSpace) -> bool| {
                    place(offset, u32::from(function.is_some_and(|function| of(&function.config))))
                };
                bit(FunctionState::MEMORY_ENABLE_OFFSET, ConfigSpace::memory_enable)
                    | bit(FunctionState::BUS_MASTER_OFFSET, ConfigSpace::bus_master)
                    | bit(FunctionState::MSIX_ENABLE_OFFSET, ConfigSpace::msix_enable)
            }
            functions::INTERRUPTS => function.map_or(0, Function::interrupts),
            _ => {
                *word_of(&file.config, at, functions::CONFIG).or(word_of(&file.mask, at, functions::MASK))?
            }
        })
    }

    fn write_function(&mut self, n: usize, at: u32, value: u32, effects: &mut Vec<Effect>) -> bool {
        debug_assert!(n < MAX_FUNCTIONS);
        let Some(id) = FunctionId::new(n as u8) else { return false };
        match at {
            functions::CONTROL => self.write_function_control(id, decode(value), effects),
            functions::INJECT => {
                let vector = extract(value, Inject::VECTOR_OFFSET, Inject::VECTOR_MASK);
                let configuration = extract(value, Inject::CONFIGURATION_OFFSET, Inject::CONFIGURATION_MASK);
                effects.extend(self.raise(id, vector as u16, configuration != 0));
            }
            _ => {
                let file = &mut self.functions[n];
                let word = word_of_mut(&mut file.config, at, functions::CONFIG).or(word_of_mut(
                    &mut file.mask,
                    at,
                    functions::MASK,
                ));
                let Some(word) = word else { return false };
                *word = value;
            }
        }
        true
    }

    fn write_function_control(
        &mut self,
        id: FunctionId,
        control: FunctionControl,
        effects: &mut Vec<Effect>,
    ) {
        let file = &mut self.functions[id.index()];
        match (file.function.is_some(), control.present()) {
            (false, true) => {
                let space = ConfigSpace::new(bytes(&file.config), bytes(&file.mask));
                file.function = Some(Function::new(space));
            }
            (true, false) => {
                file.function = None;
                self.disable_queues_of(id, effects);
            }
            _ => {}
        }
    }

    fn write_qos(&mut self, n: usize, at: u32, value: u32, effects: &mut Vec<Effect>) -> bool {
        debug_assert!(n < MAX_FUNCTIONS);
        let Some(function) = FunctionId::new(n as u8) else { return false };
        let before = self.qos[n].limits();
        let accepted = self.qos[n].write(at, value);
        let limits = self.qos[n].limits();
        if limits != before {
            effects.push(Effect::Limits { function, limits });
        }
        accepted
    }

    fn read_queue(&self, n: usize, at: u32, report: impl Fn(usize) -> QueueReport) -> Option<u32> {
        let file = &self.queues[n];
        let counter = |of: fn(&Counters) -> u32| Some(of(&report(n).counters));
        match at {
            queues::STATE => Some(file.state()),
            queues::DOORBELLS => Some(file.doorbells()),
            queues::HEAD => Some(u32::from(report(n).head)),
            queues::TAIL => Some(u32::from(report(n).tail)),
            queues::FORWARDED => counter(|c| c.forwarded),
            queues::RETIRED => counter(|c| c.retired),
            queues::BYTES_UP => counter(|c| c.bytes_up),
            queues::BYTES_DOWN => counter(|c| c.bytes_down),
            queues::STALLS => counter(|c| c.stalls),
            queues::INTERRUPTS => counter(|c| c.interrupts),
            _ if at <= queues::INTERRUPTS => Some(file.read(at)),
            _ => None,
        }
    }

    fn write_queue(&mut self, n: usize, at: u32, value: u32, effects: &mut Vec<Effect>) -> bool {
        debug_assert!(n < MAX_QUEUES);
        let owner = self.queues[n].context().map(|context| (context.function, context.index));
        let had_failed = self.queues[n].has_failed();
        match self.queues[n].write(at, value) {
            Written::Stored => {}
            Written::Refused => return false,
            Written::Enable(context) => self.enable_queue(n, context, effects),
            Written::Impossible => effects.push(Effect::QueueErrors),
            Written::Disable => self.disabled_queue(n, owner, had_failed, effects),
        }
        true
    }

    /// Connects the doorbell of a queue that the base enabled.
    fn enable_queue(&mut self, n: usize, context: super::Context, effects: &mut Vec<Effect>) {
        let doorbell = self.doorbells[context.function.index()].get_mut(usize::from(context.index));
        match doorbell {
            Some(free @ None) => {
                *free = Some(n as u8);
                effects.push(Effect::Enable { queue: n, context });
            }
            taken => {
                let reason = if taken.is_some() {
                    "another queue context has this virtqueue"
                } else {
                    "virtqueue index is beyond the doorbells"
                };
                self.queues[n].refuse(&QueueError::BadContext(reason));
                effects.push(Effect::QueueErrors);
            }
        }
    }

    fn disabled_queue(
        &mut self,
        n: usize,
        owner: Option<(FunctionId, u16)>,
        had_failed: bool,
        effects: &mut Vec<Effect>,
    ) {
        if let Some((function, index)) = owner {
            self.doorbells[function.index()][usize::from(index)] = None;
            effects.push(Effect::Disable { queue: n });
        }
        if had_failed {
            effects.push(Effect::QueueErrors);
        }
    }

    /// Disables every queue of a function that was reset or removed.
    pub(super) fn disable_queues_of(&mut self, function: FunctionId, effects: &mut Vec<Effect>) {
        for n in 0..MAX_QUEUES {
            let file = &mut self.queues[n];
            let owner = file.context().map(|context| (context.function, context.index));
            if owner.is_some_and(|(owner, _)| owner == function) {
                let had_failed = file.has_failed();
                file.disable();
                self.disabled_queue(n, owner, had_failed, effects);
            }
        }
    }
}

fn read_range(file: &RangeFile, at: u32, control: u32) -> Option<u32> {
    Some(match at {
        _ if at == control => u32::from(file.on),
        windows::ADDRESS_LO => file.address as u32,
        windows::ADDRESS_HI => (file.address >> 32) as u32,
        windows::LENGTH_LO => file.length as u32,
        windows::LENGTH_HI => (file.length >> 32) as u32,
        _ => return None,
    })
}

/// Address and length can be written only while the range is off.
fn write_range(file: &mut RangeFile, at: u32, control: u32, value: u32) -> bool {
    let low = |old: u64| old >> 32 << 32 | u64::from(value);
    let high = |old: u64| u64::from(value) << 32 | old & u64::from(u32::MAX);
    match at {
        _ if at == control => {
            let register: window_t::control::Control = decode(value);
            file.on = register.grant();
        }
        _ if file.on => return false,
        windows::ADDRESS_LO => file.address = low(file.address),
        windows::ADDRESS_HI => file.address = high(file.address),
        windows::LENGTH_LO => file.length = low(file.length),
        windows::LENGTH_HI => file.length = high(file.length),
        _ => return false,
    }
    true
}

fn word_of(words: &[u32], at: u32, base: u32) -> Option<&u32> {
    words.get((at.checked_sub(base)? / 4) as usize)
}

fn word_of_mut(words: &mut [u32], at: u32, base: u32) -> Option<&mut u32> {
    words.get_mut((at.checked_sub(base)? / 4) as usize)
}

fn bytes<const N: usize>(words: &[u32]) -> [u8; N] {
    let mut bytes = [0; N];
    for (into, word) in bytes.chunks_exact_mut(4).zip(words) {
        into.copy_from_slice(&word.to_le_bytes());
    }
    bytes
}
