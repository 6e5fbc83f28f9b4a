//! Answers accesses of the board that IO-Bond forwards.

use iobond_spec::{
    register_access::decode,
    registers::components::{mailbox_kind_e::MailboxKindE, mailbox_t},
};

use super::Board;
use crate::{
    control::notes::Journaled, poll::channel::Request, port::Port, register_writes, virtio_pci::Effect,
};

impl<P: Port> Board<P> {
    /// Answers one forwarded access, after carrying out what it asks for: a read never passes a write.
    pub(super) fn answer(&mut self, request: Request) {
        let word: mailbox_t::request::Request = decode(request.word);
        let index = usize::from(word.function_id());
        let Some(served) = self.functions.get_mut(index).and_then(Option::as_mut) else {
            self.mailbox.misdirected += 1;
            self.registers.write(register_writes::answer(word.sequence(), Some(0)));
            return;
        };
        let data = match word.kind() {
            MailboxKindE::None => return,
            MailboxKindE::Read => {
                self.mailbox.reads += 1;
                Some(served.function.read(request.offset, word.width()))
            }
            MailboxKindE::Write => {
                // Should it have expired, the next request's body may have been read with this one's word:
                // IO-Bond writes the body first, and does not wait for readers.
                if self.registers.request() != request.word {
                    return;
                }
                self.mailbox.writes += 1;
                let value = request.data & low_bytes(word.width());
                // Twice, by the rule of `Journaled`. What the driver set up is noted before IO-Bond or a back
                // end hears of it: another process that finds a queue running has to know of what driver.
                // What came of it, NEEDS_RESET among others, is noted before the driver may rely on it.
                let effect = self.committed(|board| {
                    let served = board.served(index);
                    served.map_or(Effect::None, |(served, _)| {
                        served.function.write(request.offset, word.width(), value)
                    })
                });
                self.committed(|board| board.take_effect(index, effect));
                None
            }
            MailboxKindE::Reset => {
                self.mailbox.resets += 1;
                // Noted before queues stop: another process would start those anew that the record has as
                // enabled, on rings that the driver has taken back.
                self.committed(|board| board.served(index).map(|(served, _)| served.function.reset()));
                self.committed(|board| board.with(index, |served, resources| served.stop_all(resources)));
                None
            }
        };
        // Last. Until it is answered the request stays in the mailbox, and is the next process's to answer.
        self.registers.write(register_writes::answer(word.sequence(), data));
    }

    /// Carries out what a driver's write asked for.
    fn take_effect(&mut self, index: usize, effect: Effect) {
        if effect == Effect::Start {
            // Noted in between: where the back end notes what is in flight is kept before anything is.
            let prepare = |board: &mut Self| board.with(index, |served, resources| served.prepare(resources));
            let failed = self.committed(prepare);
            // Its queues wait for another back end by now, or the driver has been asked for a reset.
            if failed.is_some() {
                return;
            }
        }
        self.with(index, |served, resources| served.carry_out(effect, resources));
    }
}

/// The low `width` bytes of a word.
fn low_bytes(width: u8) -> u32 {
    match width {
        1 => 0xFF,
        2 => 0xFFFF,
        _ => u32::MAX,
    }
}
