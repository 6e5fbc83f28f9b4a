//! The checks.

use iobond_spec::{
    ALL_ONES, MAGIC,
    address::BaseAddr,
    offsets::{board, functions, ident, queues, status_page, windows},
    status_page::{HEADS, MAILBOX_WORD, QUEUE_ERRORS, SIZE},
};

use super::{
    Check, Failure,
    bench::{
        IOVA, LENGTH, Mapped, Memory, PAINT, enable_nonsense, grant, hide_status, holds, queue, revoke, same,
        show_status, within_timeout, write64,
    },
};
use crate::port::{Port, PortError};

/// An offset behind the register map.
const NOWHERE: u32 = queues::BASE + queues::COUNT * queues::STRIDE;
/// `queues[n].state`: an error, and why.
const STATE_ERROR: u32 = 2;
const BAD_CONTEXT: u32 = 1;
/// `board.state.queue_error`: any queue is in the error state.
const BOARD_QUEUE_ERROR: u32 = 1 << 1;
/// `board.wake.arm`: one interrupt, for whatever comes next.
const ARM: u32 = 1;

pub(super) fn all<P: Port>() -> Vec<Check<P>> {
    vec![
        Check { name: "an IO-Bond says what it is", run: identity },
        Check { name: "a register holds what is written, bit by bit", run: bits },
        Check { name: "writes arrive in order, and before a read", run: order },
        Check { name: "its clock goes on", run: clock },
        Check { name: "what is not there reads all ones and is counted", run: refusals },
        Check { name: "functions and queues hold what describes them", run: files },
        Check { name: "memory is mapped once, and unmapped as it was mapped", run: mappings },
        Check { name: "the status page is written where it was granted", run: status },
        Check { name: "memory that was not granted is left alone", run: grants },
        Check { name: "memory that was unmapped is not reached any more", run: unmapped },
        Check { name: "a queue in error shows in register and status page", run: errors },
        Check { name: "the wake-up comes once, when it was asked for", run: wake_up },
        Check { name: "a reset is a power-on", run: reset },
    ]
}

fn identity(port: &impl Port) -> Result<(), Failure> {
    same("ident.magic", port.read32(ident::BASE + ident::MAGIC), MAGIC)?;
    same("ident.version.major", port.read32(ident::BASE + ident::VERSION) >> 16, 1)?;
    let sizes = port.read32(ident::BASE + ident::SIZES).to_le_bytes();
    holds(sizes.iter().all(|count| *count > 0), "ident.sizes names something of which there is none")
}

fn bits(port: &impl Port) -> Result<(), Failure> {
    let at = ident::BASE + ident::SCRATCH;
    let patterns = (0..32).flat_map(|bit| [1 << bit, !(1 << bit)]).chain([0, ALL_ONES, 0x0123_4567]);
    patterns.into_iter().try_for_each(|pattern| {
        port.write32(at, pattern);
        same("ident.scratch", port.read32(at), pattern)
    })
}

fn order(port: &impl Port) -> Result<(), Failure> {
    let at = ident::BASE + ident::SCRATCH;
    (0..1000).step_by(10).try_for_each(|first| {
        (first..first + 10).for_each(|value| port.write32(at, value));
        same("ident.scratch after ten writes", port.read32(at), first + 9)
    })
}

fn clock(port: &impl Port) -> Result<(), Failure> {
    let now = || {
        let low = port.read32(ident::BASE + ident::TIME_LO);
        u64::from(port.read32(ident::BASE + ident::TIME_HI)) << 32 | u64::from(low)
    };
    let start = now();
    holds(within_timeout(|| now() > start), "ident.time stands still")
}

fn refusals(port: &impl Port) -> Result<(), Failure> {
    let refused = || port.read32(board::BASE + board::REFUSED_ACCESSES);
    let before = refused();
    same("a register that is not there", port.read32(NOWHERE), ALL_ONES)?;
    port.write32(NOWHERE, 7);
    port.write32(ident::BASE + ident::MAGIC, 7);
    same("board.refused_accesses after three", refused(), before + 3)?;
    same("ident.magic after a write", port.read32(ident::BASE + ident::MAGIC), MAGIC)
}

fn files(port: &impl Port) -> Result<(), Failure> {
    let sizes = port.read32(ident::BASE + ident::SIZES).to_le_bytes();
    for function in 0..u32::from(sizes[0]) {
        let base = functions::BASE + function * functions::STRIDE;
        for word in 0..functions::CONFIG_COUNT {
            port.write32(base + functions::CONFIG + 4 * word, function << 16 | word);
            port.write32(base + functions::MASK + 4 * word, function << 24 | word);
        }
    }
    for function in 0..u32::from(sizes[0]) {
        let base = functions::BASE + function * functions::STRIDE;
        for word in 0..functions::CONFIG_COUNT {
            let of = |what| format!("functions[{function}].{what}[{word}]");
            let config = port.read32(base + functions::CONFIG + 4 * word);
            same(of("config"), config, function << 16 | word)?;
            same(of("mask"), port.read32(base + functions::MASK + 4 * word), function << 24 | word)?;
        }
    }
    for number in 0..u32::from(sizes[1]) {
        write64(port, queue(number) + queues::SLOTS_LO, u64::from(number) << 40 | 0x1000);
    }
    (0..u32::from(sizes[1])).try_for_each(|number| {
        let of = |what| format!("queues[{number}].{what}");
        same(of("slots_lo"), port.read32(queue(number) + queues::SLOTS_LO), 0x1000)?;
        same(of("slots_hi"), port.read32(queue(number) + queues::SLOTS_HI), number << 8)
    })
}

fn mappings(port: &impl Port) -> Result<(), Failure> {
    let memory = Memory::painted()?;
    for _ in 0..3 {
        port.map_dma(&memory.region(IOVA))?;
        let again = port.map_dma(&memory.region(IOVA));
        let behind = port.map_dma(&memory.region(BaseAddr(IOVA.0 + SIZE)));
        let refused =
            matches!((again, behind), (Err(PortError::Overlap { .. }), Err(PortError::Overlap { .. })));
        let inside = port.unmap_dma(BaseAddr(IOVA.0 + SIZE));
        port.unmap_dma(IOVA)?;
        holds(refused, "memory was mapped over memory that is mapped")?;
        holds(matches!(inside, Err(PortError::NotMapped { .. })), "half of a mapping was unmapped")?;
        let gone = matches!(port.unmap_dma(IOVA), Err(PortError::NotMapped { .. }));
        holds(gone, "what is not mapped was unmapped")?;
    }
    Ok(())
}

/// The second page of the memory, which the checks use.
const PAGE: BaseAddr = BaseAddr(IOVA.0 + SIZE);

/// That the second page is a status page of an IO-Bond after a reset, and the others are as they were.
fn is_status_page(memory: &Memory) -> Result<(), Failure> {
    same("mailbox word of the status page", memory.word(SIZE + MAILBOX_WORD), 0)?;
    same("error bits of the status page", memory.word(SIZE + QUEUE_ERRORS), 0)?;
    same("HEAD of queue 0 in the status page", memory.word(SIZE + HEADS), 0)?;
    holds(memory.is_painted(0) && memory.is_painted(2), "a page beside the status page was written")
}

fn status(port: &impl Port) -> Result<(), Failure> {
    let mapped = Mapped::new(port)?;
    grant(port, 0, IOVA, LENGTH);
    for _ in 0..3 {
        show_status(port, PAGE);
        is_status_page(&mapped.memory)?;
        hide_status(port);
        mapped.memory.paint();
    }
    Ok(())
}

fn grants(port: &impl Port) -> Result<(), Failure> {
    let mapped = Mapped::new(port)?;
    let untouched = || (0..3).all(|page| mapped.memory.is_painted(page));
    show_status(port, PAGE);
    holds(untouched(), "the status page was written without a window")?;
    hide_status(port);
    // A window of half a page does not grant the status page.
    grant(port, 7, PAGE, SIZE / 2);
    show_status(port, PAGE);
    holds(untouched(), "the status page was written into half a window")?;
    hide_status(port);
    revoke(port, 7);
    grant(port, 7, PAGE, SIZE);
    show_status(port, PAGE);
    is_status_page(&mapped.memory)?;
    hide_status(port);
    revoke(port, 7);
    mapped.memory.paint();
    show_status(port, PAGE);
    holds(untouched(), "the status page was written into a window that was taken back")?;
    same("windows[7].control", port.read32(windows::BASE + 7 * windows::STRIDE + windows::CONTROL), 0)
}

fn unmapped(port: &impl Port) -> Result<(), Failure> {
    let mapped = Mapped::new(port)?;
    grant(port, 0, IOVA, LENGTH);
    show_status(port, PAGE);
    is_status_page(&mapped.memory)?;
    hide_status(port);
    port.unmap_dma(IOVA)?;
    mapped.memory.paint();
    show_status(port, PAGE);
    enable_nonsense(port, 0);
    holds((0..3).all(|page| mapped.memory.is_painted(page)), "memory was written after it was unmapped")?;
    same("ident.magic", port.read32(ident::BASE + ident::MAGIC), MAGIC)
}

fn errors(port: &impl Port) -> Result<(), Failure> {
    let mapped = Mapped::new(port)?;
    grant(port, 0, IOVA, LENGTH);
    show_status(port, PAGE);
    let bits = || mapped.memory.word(SIZE + QUEUE_ERRORS);
    let state = || port.read32(board::BASE + board::STATE) & BOARD_QUEUE_ERROR;
    same("board.state.queue_error", state(), 0)?;
    enable_nonsense(port, 5);
    same("queues[5].state", port.read32(queue(5) + queues::STATE), BAD_CONTEXT << 2 | STATE_ERROR)?;
    same("board.state.queue_error", state(), BOARD_QUEUE_ERROR)?;
    same("error bits of the status page", bits(), 1 << 5)?;
    port.write32(queue(5) + queues::CONTROL, 0);
    same("board.state.queue_error", state(), 0)?;
    same("error bits of the status page", bits(), 0)
}

fn wake_up(port: &impl Port) -> Result<(), Failure> {
    let Some(event) = port.wake_up() else { return Ok(()) };
    let came = || rustix::io::read(event, &mut [0; 8]).is_ok();
    let change = |number| {
        enable_nonsense(port, number);
        port.write32(queue(number) + queues::CONTROL, 0);
        port.read32(queue(number) + queues::STATE);
    };
    came();
    change(0);
    holds(!came(), "it woke without being asked")?;
    for _ in 0..3 {
        port.write32(board::BASE + board::WAKE, ARM);
        port.read32(board::BASE + board::STATE);
        holds(!came(), "it woke although nothing had happened")?;
        change(1);
        holds(within_timeout(came), "it did not wake")?;
        change(2);
        holds(!came(), "it woke twice")?;
    }
    Ok(())
}

fn reset(port: &impl Port) -> Result<(), Failure> {
    let mapped = Mapped::new(port)?;
    port.write32(ident::BASE + ident::SCRATCH, PAINT);
    grant(port, 0, IOVA, LENGTH);
    show_status(port, PAGE);
    enable_nonsense(port, 3);
    port.write32(board::BASE + board::CONTROL, 1);
    port.reset()?;
    mapped.memory.paint();
    for (what, at) in [
        ("ident.scratch", ident::BASE + ident::SCRATCH),
        ("board.control", board::BASE + board::CONTROL),
        ("status_page.control", status_page::BASE + status_page::CONTROL),
        ("windows[0].control", windows::BASE + windows::CONTROL),
        ("queues[3].state", queue(3) + queues::STATE),
    ] {
        same(format!("{what} after a reset"), port.read32(at), 0)?;
    }
    holds((0..3).all(|page| mapped.memory.is_painted(page)), "memory was written after a reset")?;
    // It can be used again.
    grant(port, 0, IOVA, LENGTH);
    show_status(port, PAGE);
    is_status_page(&mapped.memory)
}
