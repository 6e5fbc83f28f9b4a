//! Every latency and width of the world of virtual time, with its source. "The paper" is BM-Hive, ASPLOS
//! 2020; a judgement is called one.
//!
//! How a round trip is taken apart:
//!
//! ```text
//!   board_access   request on the wire | board_flight ->  | (answered at once)
//!                                      | <- board_flight  | completion on the wire
//! ```
//! The flight is what is left: cables, retimers, the hard blocks of both ends, and the FPGA's logic, half of
//! it each way. So a DMA read of board memory takes two flights as well, with `board_memory` in between.

use serde::{Deserialize, Serialize};

use crate::{
    links::{Ethernet, Generation, Pcie, PcieError, Tlp},
    shadow::MOST_AHEAD,
    time::Span,
};

/// A board's read of a register of IO-Bond, there and back: the paper's 0.8 us.
pub const BOARD_ACCESS: Span = Span::from_ns(800);
/// Another hop, IO-Bond to the mailbox and back: the paper's 0.8 us, so that an access which the base answers
/// takes 1.6 us.
pub const MAILBOX_HOP: Span = Span::from_ns(800);
/// Lanes between a board and its IO-Bond: the paper's x4, which it calls 32 Gbit/s, hence 8 GT/s.
pub const BOARD_LANES: u8 = 4;
/// Lanes between IO-Bond and its base server: the paper's x8.
pub const BASE_LANES: u8 = 8;
/// From a read request at a root port to its first completion. A judgement: a load from DRAM of an x86 server
/// takes some 100 ns, and no published figure tells the port's part of a read from the link's.
pub const MEMORY: Span = Span::from_ns(100);
/// What the DMA engine moves, in bits a second: the paper's 50 Gbit/s.
pub const DMA_RATE: u64 = 50_000_000_000;
/// Clock of the DMA engine. A judgement: what PCIe blocks of FPGAs of the paper's time give the user's logic
/// at 8 GT/s and x8.
pub const DMA_CLOCK_MHZ: u32 = 250;
/// Bytes that the DMA engine moves in a clock. A judgement: the 256 bits of such a block, 64 Gbit/s at 250
/// MHz.
pub const DMA_WIDTH: u16 = 32;
/// Clocks from a command to its first request. A judgement: arbitration, address and gate, a few registers
/// each.
pub const DMA_SETUP_CLOCKS: u16 = 16;
/// Commands that the DMA engine works at together. A judgement.
pub const DMA_CHANNELS: u16 = 8;
/// Tags of the DMA engine. A judgement: 64 reads of 512 bytes cover 4 us of an x8 link, with 1 us to wait
/// for.
pub const DMA_READS: u16 = 64;
/// The base server's port to the network, in bits a second. A judgement: one port of 100 GbE for all boards.
pub const NETWORK_RATE: u64 = 100_000_000_000;
/// A poll pass that finds nothing in 32 queues, 18.9 ns: `bmhive bench poll` on a virtual machine with Linux
/// and two cores.
pub const POLL_PASS: Span = Span::from_ps(18_900);
/// What one entry adds to it, 9.6 ns: the same run.
pub const POLL_ENTRY: Span = Span::from_ps(9_600);

/// Descriptors that an engine reads at a time at most: 256 bytes, a common maximum payload.
pub const PREFETCH: u8 = MOST_AHEAD;
/// After so long without anything new an engine stops watching a guest's ring, and waits for a doorbell. A
/// judgement: some round trips of a request.
pub const WATCH_FOR: Span = Span::from_us(100);
/// What a driver spends on a request before it notifies. A judgement: a poll-mode driver's tens of
/// nanoseconds.
pub const GUEST_SUBMIT: Span = Span::from_ns(20);
/// What it spends on an answer. A judgement, as above.
pub const GUEST_COMPLETE: Span = Span::from_ns(20);
/// From an interrupt at the board until its driver looks. A judgement: a kernel's entry and its interrupt
/// thread, awake.
pub const GUEST_INTERRUPT: Span = Span::from_ns(1000);
/// What a back end spends on an entry: 45 ns, the 22.0 M packets a second that one core of DPDK 22.11's
/// testpmd takes from a split ring, measured on a virtual machine with Linux and two cores.
pub const BACK_END_ENTRY: Span = Span::from_ns(45);

/// All that a scenario may change; by default the paper's design.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Timing {
    /// Between a board and its IO-Bond.
    pub board: Pcie,
    /// Between IO-Bond and its base server.
    pub base: Pcie,
    /// A board's read of a register of IO-Bond, there and back.
    pub board_access: Span,
    /// A read across the base's link, there and back.
    pub mailbox_hop: Span,
    /// From a read request at a board's root port to its first completion.
    pub board_memory: Span,
    /// From a read request at the base's root port to its first completion.
    pub base_memory: Span,
    /// What IO-Bond's DMA engine moves, and how many requests it has under way.
    pub dma: Dma,
    /// The base server's port to the network.
    pub network: Ethernet,
    /// How IO-Bond's queue engines are built.
    pub engine: Engine,
    /// What bm-hypervisor's poll pass costs.
    pub poll: Poll,
    /// What requests cost a board's driver.
    pub guest: Guest,
    /// What a back end spends on an entry, whatever it does besides.
    pub back_end_entry: Span,
}

/// How IO-Bond's queue engines are built. By default an engine asks for one thing after the other, once it is
/// notified.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Engine {
    /// Descriptors that are read at a time at most, 1 to 16.
    pub prefetch: u8,
    /// Available entries that are asked for together with the index, 0 to 16; 0: after it.
    pub entries_ahead: u8,
    /// Descriptors that are asked for together with the entries, 0 to 16, those that follow the last chain's;
    /// 0: after them.
    pub descriptors_ahead: u8,
    /// How often an engine reads the guest's ring without being notified, for [`WATCH_FOR`] after it found
    /// something; 0: never.
    pub watch: Span,
    /// Least time between two interrupts of a queue; 0: none.
    pub moderation: Span,
}

impl Default for Engine {
    fn default() -> Self {
        Self {
            prefetch: PREFETCH,
            entries_ahead: 0,
            descriptors_ahead: 0,
            watch: Span::ZERO,
            moderation: Span::ZERO,
        }
    }
}

impl Engine {
    fn check(&self) -> Result<(), TimingError> {
        let Self { prefetch, entries_ahead, descriptors_ahead, watch, .. } = *self;
        let most = u64::from(MOST_AHEAD);
        let buffer = "its buffer holds so many";
        // As if a read were under way at every clock of 250 MHz.
        let least_watch = if watch == Span::ZERO { 0 } else { 4 };
        let limits = [
            ("prefetch", prefetch.into(), buffer, 1, most),
            ("entries_ahead", entries_ahead.into(), buffer, u64::from(descriptors_ahead > 0), most),
            ("descriptors_ahead", descriptors_ahead.into(), buffer, 0, most),
            ("watch", watch.ps() / 1000, "a queue asks once a clock at most", least_watch, u64::MAX),
        ];
        match limits.into_iter().find(|(_, value, _, least, most)| !(least..=most).contains(&value)) {
            Some((field, value, why, least, most)) => {
                let expected = format!("choose {least} to {most}");
                Err(TimingError::new(format!("engine.{field}"), format!("= {value}: {why}"), expected))
            }
            None => Ok(()),
        }
    }

    /// Whether entries are read together with the index.
    #[must_use]
    pub fn reads_ahead(&self) -> bool {
        self.entries_ahead > 0
    }
}

/// What a board's driver spends its processor on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Guest {
    /// Time on a request, before the driver notifies.
    pub submit: Span,
    /// Time on an answer, from the used ring on.
    pub complete: Span,
    /// Time from an interrupt until the driver looks at the used ring.
    pub interrupt: Span,
}

/// What IO-Bond's DMA engine moves, and how many requests it has under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Dma {
    /// Commands that it works at together.
    pub channels: u16,
    /// Read requests that may be outstanding: tags.
    pub reads: u16,
    /// Its clock, in MHz.
    pub clock_mhz: u32,
    /// Bytes that it moves in a clock.
    pub width: u16,
    /// Bits that it moves in a second, at most `width` bytes in each clock.
    pub rate: u64,
    /// Clocks from a command to its first request.
    pub setup_clocks: u16,
}

/// bm-hypervisor's poll pass. Register reads come on top: [`Timing::base_register_read`] each.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Poll {
    /// A pass over all queues of one board that finds nothing.
    pub pass: Span,
    /// What an entry of an avail or used ring adds to it.
    pub entry: Span,
}

/// A timing that cannot be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("timing.{field} {found}; {expected}")]
pub struct TimingError {
    /// The key below `timing`, `board.lanes`.
    pub field: String,
    /// Its value, and what keeps a timing from having it: `= 3: there is no such link`.
    pub found: String,
    /// What to do.
    pub expected: String,
}

impl TimingError {
    fn new(field: impl Into<String>, found: String, expected: impl Into<String>) -> Self {
        Self { field: field.into(), found, expected: expected.into() }
    }

    fn of_link(link: &str, error: PcieError) -> Self {
        let PcieError { field, found, expected } = error;
        Self { field: format!("{link}.{field}"), found, expected }
    }
}

impl Default for Timing {
    fn default() -> Self {
        Self {
            board: Pcie::new(Generation::Gen3, BOARD_LANES),
            base: Pcie::new(Generation::Gen3, BASE_LANES),
            board_access: BOARD_ACCESS,
            mailbox_hop: MAILBOX_HOP,
            board_memory: MEMORY,
            base_memory: MEMORY,
            dma: Dma::default(),
            network: Ethernet { rate: NETWORK_RATE },
            engine: Engine::default(),
            poll: Poll::default(),
            guest: Guest::default(),
            back_end_entry: BACK_END_ENTRY,
        }
    }
}

impl Default for Dma {
    fn default() -> Self {
        Self {
            channels: DMA_CHANNELS,
            reads: DMA_READS,
            clock_mhz: DMA_CLOCK_MHZ,
            width: DMA_WIDTH,
            rate: DMA_RATE,
            setup_clocks: DMA_SETUP_CLOCKS,
        }
    }
}

impl Default for Poll {
    fn default() -> Self {
        Self { pass: POLL_PASS, entry: POLL_ENTRY }
    }
}

impl Default for Guest {
    fn default() -> Self {
        Self { submit: GUEST_SUBMIT, complete: GUEST_COMPLETE, interrupt: GUEST_INTERRUPT }
    }
}

impl Dma {
    /// Bits in a second that width and clock make.
    #[must_use]
    pub fn raw_rate(&self) -> u64 {
        (u64::from(self.width) * 8).saturating_mul(u64::from(self.clock_mhz) * 1_000_000)
    }

    /// From a command to its first request.
    #[must_use]
    pub fn setup(&self) -> Span {
        Span::at_rate(self.setup_clocks.into(), u64::from(self.clock_mhz) * 1_000_000)
    }
}

impl Timing {
    /// One way between a board and IO-Bond: half of `board_access`, less what request and completion are on
    /// the wire.
    #[must_use]
    pub fn board_flight(&self) -> Span {
        flight(self.board_access, &self.board)
    }

    /// One way between IO-Bond and the base: half of `mailbox_hop`, less what request and completion are on
    /// the wire.
    #[must_use]
    pub fn base_flight(&self) -> Span {
        flight(self.mailbox_hop, &self.base)
    }

    /// A read of a register of IO-Bond by the base: request, completion, and a flight for each.
    #[must_use]
    pub fn base_register_read(&self) -> Span {
        self.base_flight() * 2 + on_the_wire(&self.base)
    }

    /// Whether time passes, everything moves, and no rate is asked for that cannot be met.
    ///
    /// # Errors
    ///
    /// The first thing found, with its field, its value, and what to do.
    pub fn check(&self) -> Result<(), TimingError> {
        let links = [
            ("board", &self.board, "board_access", self.board_access),
            ("base", &self.base, "mailbox_hop", self.mailbox_hop),
        ];
        for (link, pcie, field, span) in links {
            pcie.check().map_err(|error| TimingError::of_link(link, error))?;
            let wire = on_the_wire(pcie);
            if span < wire {
                let (asked, wire) = (span.as_ns(), wire.as_ns());
                let found =
                    format!("= {asked} ns cannot be met: request and completion are {wire} ns on the wire");
                return Err(TimingError::new(
                    field,
                    found,
                    format!("raise it, or make timing.{link} faster"),
                ));
            }
        }
        let dma = &self.dma;
        let zero = [
            ("dma.channels", u64::from(dma.channels), "no command would ever begin"),
            ("dma.reads", dma.reads.into(), "no read would ever get a tag"),
            ("dma.clock_mhz", dma.clock_mhz.into(), "the DMA engine would stand still"),
            ("dma.width", dma.width.into(), "the DMA engine would move nothing"),
            ("dma.rate", dma.rate, "the DMA engine would move nothing"),
            ("network.rate", self.network.rate, "no frame would ever leave"),
            (
                "poll.pass",
                self.poll.pass.ps(),
                "a base core that finds nothing would look for ever at one moment",
            ),
        ];
        if let Some((field, _, why)) = zero.into_iter().find(|(_, value, _)| *value == 0) {
            return Err(TimingError::new(field, format!("= 0: {why}"), "choose more than 0"));
        }
        self.engine.check()?;
        if dma.rate > dma.raw_rate() {
            let (Dma { rate, width, clock_mhz, .. }, raw) = (*dma, dma.raw_rate());
            let found =
                format!("= {rate} bit/s cannot be met: {width} bytes at {clock_mhz} MHz are {raw} bit/s");
            return Err(TimingError::new("dma.rate", found, "lower rate, or raise width or clock_mhz"));
        }
        Ok(())
    }
}

/// Request and completion of a register read, each on its direction of the wire.
fn on_the_wire(link: &Pcie) -> Span {
    [Tlp::MemoryRead, Tlp::Completion { data: 4 }]
        .into_iter()
        .map(|tlp| link.serialization(link.wire_bytes(tlp).into()))
        .sum()
}

fn flight(round_trip: Span, link: &Pcie) -> Span {
    round_trip.saturating_sub(on_the_wire(link)) / 2
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(change: impl Fn(&mut Timing)) -> String {
        let mut timing = Timing::default();
        change(&mut timing);
        timing.check().unwrap_err().to_string()
    }

    /// Gen3 x4: request 8 + 16 and completion 8 + 12 + 4 are 24 bytes each; 24 * 253.90625 / 0.9786 =
    /// 6227.01, hence 6228 ps. (800000 - 2 * 6228) / 2 = 393772 ps. Gen3 x8: 3113.5, hence 3114 ps; (800000 -
    /// 2 * 3114) / 2 = 396886 ps.
    #[test]
    fn a_flight_is_what_the_wire_leaves() {
        let timing = Timing::default();
        assert_eq!(timing.board_flight(), Span::from_ps(393_772));
        assert_eq!(timing.base_flight(), Span::from_ps(396_886));
        assert_eq!(timing.base_register_read(), MAILBOX_HOP);
    }

    /// The 1.6 us that the paper gives for an access which the base answers.
    #[test]
    fn the_design_of_the_paper() {
        let timing = Timing::default();
        timing.check().unwrap();
        assert_eq!(timing.board_access + timing.mailbox_hop, Span::from_ns(1600));
        assert_eq!(timing.board.bandwidth() / 100_000_000, 315);
        assert_eq!(timing.dma.raw_rate(), 64_000_000_000);
        assert_eq!(timing.dma.setup(), Span::from_ns(64));
    }

    #[test]
    fn nothing_may_stand_still() {
        assert_eq!(
            refused(|timing| timing.dma.channels = 0),
            "timing.dma.channels = 0: no command would ever begin; choose more than 0"
        );
        for (field, change) in [
            ("dma.reads", (|timing| timing.dma.reads = 0) as fn(&mut Timing)),
            ("dma.clock_mhz", |timing| timing.dma.clock_mhz = 0),
            ("dma.width", |timing| timing.dma.width = 0),
            ("dma.rate", |timing| timing.dma.rate = 0),
            ("network.rate", |timing| timing.network.rate = 0),
            ("poll.pass", |timing| timing.poll.pass = Span::ZERO),
        ] {
            let text = refused(change);
            assert!(text.starts_with(&format!("timing.{field} = 0: ")), "{text}");
        }
    }

    #[test]
    fn what_cannot_be_met_is_refused() {
        assert_eq!(
            refused(|timing| timing.dma.rate = 64_000_000_001),
            "timing.dma.rate = 64000000001 bit/s cannot be met: 32 bytes at 250 MHz are 64000000000 bit/s; lower rate, \
             or raise width or clock_mhz"
        );
        assert_eq!(
            refused(|timing| timing.board_access = Span::from_ns(12)),
            "timing.board_access = 12 ns cannot be met: request and completion are 12.456 ns on the wire; raise it, or \
             make timing.board faster"
        );
        assert!(
            refused(|timing| timing.mailbox_hop = Span::from_ns(6)).starts_with("timing.mailbox_hop = 6 ns")
        );
        assert_eq!(
            refused(|timing| timing.base.lanes = 3),
            "timing.base.lanes = 3: there is no such link; choose 1, 2, 4, 8, 12, 16 or 32"
        );
        let mut timing = Timing { board_access: Span::from_ps(12_456), ..Timing::default() };
        timing.dma.rate = timing.dma.raw_rate();
        timing.check().unwrap();
        assert_eq!(timing.board_flight(), Span::ZERO);
    }

    #[test]
    fn a_document_changes_what_it_names() {
        let text = "board_access = 300\nnetwork.rate = 25e9";
        assert!(toml::from_str::<Timing>(text).is_err(), "a rate is a whole number");
        let text = "
            board_access = 300
            poll.entry = 0.5
            [board]
            generation = \"gen4\"
            lanes = 4
            [dma]
            reads = 256
        ";
        let timing: Timing = toml::from_str(text).unwrap();
        let expected = Timing {
            board_access: Span::from_ns(300),
            poll: Poll { entry: Span::from_ps(500), ..Poll::default() },
            board: Pcie::new(Generation::Gen4, 4),
            dma: Dma { reads: 256, ..Dma::default() },
            ..Timing::default()
        };
        assert_eq!(timing, expected);
        let written = toml::to_string(&timing).unwrap();
        assert_eq!(toml::from_str::<Timing>(&written).unwrap(), timing);
        assert!(toml::from_str::<Timing>("board_acces = 300").is_err());
        assert!(toml::from_str::<Timing>("dma.tags = 3").is_err());
    }
}
