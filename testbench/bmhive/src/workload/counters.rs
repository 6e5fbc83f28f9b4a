//! What the devices counted, as the base reads it from their registers.

use bmhive_server::Live;
use iobond_spec::{
    offsets::{board, mailbox, queues},
    register_access::RegisterIo,
};
use results::RunResult;

/// Counters of a board: since it was made.
const OF_BOARD: [(&str, u32); 4] = [
    ("unsupported_requests", board::BASE + board::UNSUPPORTED_REQUESTS),
    ("dma_faults", board::BASE + board::DMA_FAULTS),
    ("expired_reads", mailbox::BASE + mailbox::EXPIRED_READS),
    ("expired_writes", mailbox::BASE + mailbox::EXPIRED_WRITES),
];

/// Counters of a queue: since it was enabled, so they are gone once its driver is.
const OF_QUEUE: [(&str, u32); 5] = [
    ("forwarded", queues::FORWARDED),
    ("retired", queues::RETIRED),
    ("stalls", queues::STALLS),
    ("doorbells", queues::DOORBELLS),
    ("interrupts", queues::INTERRUPTS),
];

/// Adds what every queue has counted to `result`, as `BOARD/QUEUE`, and notes what every board has. To be
/// called once for each driver, when it is dropped.
pub(super) fn tally(live: &Live, result: &mut RunResult) {
    for handle in live.boards() {
        let read = |offset| u64::from(handle.bond().read32(offset));
        let counters = OF_BOARD.map(|(name, offset)| (name.to_owned(), read(offset)));
        result.counters.insert(handle.name.clone(), counters.into());
        for queue in 0..queues::COUNT {
            let at = |register| queues::BASE + queue * queues::STRIDE + register;
            let counters = OF_QUEUE.map(|(name, register)| (name, read(at(register))));
            if counters.iter().any(|(_, count)| *count > 0) {
                let sums = result.counters.entry(format!("{}/{queue}", handle.name)).or_default();
                for (name, count) in counters {
                    *sums.entry(name.to_owned()).or_default() += count;
                }
            }
        }
    }
}
