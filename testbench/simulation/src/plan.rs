//! What is simulated: how many boards, how they are built, and what they are asked to do.

use bm_hypervisor::config::RingSizes;
use iobond_model::{
    cycle::Span,
    qos::{Limit, Limits},
    timing::{Timing, TimingError},
};
use iobond_spec::{MAX_QUEUES, MAX_RING};
use scenario::{Design, Function, MAX_BOARDS, Scenario};
use serde::{Deserialize, Serialize};

/// Requests of one queue, those before the measurement or in it. A judgement: hours of a processor's time.
const MAX_REQUESTS: u64 = 1_000_000_000;
/// Largest payload of a request in one direction: a frame of 64 KiB.
const MAX_PAYLOAD: u32 = 1 << 16;
/// Most frames a second for a board: one each nanosecond, seven times what 100 Gbit/s carry.
const MAX_FRAMES: u64 = 1_000_000_000;
/// Bytes before a frame in its buffer (virtio 1.3, 5.1.6: virtio_net_hdr, with num_buffers).
pub const NET_HEADER: u32 = 12;
/// Least that a request with a frame has to carry in a direction, if anything: headers of virtio-net,
/// Ethernet, IPv4 and UDP, and the frame's number.
pub(crate) const LEAST: u32 = NET_HEADER + 14 + 20 + 8 + 8;
/// Requests that a back end takes from one queue before another has its turn: a burst of DPDK's.
pub(crate) const BURST: usize = 32;

/// What one request carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    /// Bytes from the board to the back end.
    pub out: u32,
    /// Bytes from the back end to the board.
    pub back: u32,
}

/// When requests are made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pace {
    /// So many are always outstanding in each queue.
    Closed {
        /// Requests outstanding in each queue, 1 to as many as its ring holds.
        depth: u16,
    },
    /// They come by chance, independent of one another, so many a second in each queue on average (a Poisson
    /// process).
    Open {
        /// Requests a second in each queue.
        rate: u64,
    },
}

/// How long a back end takes for a request, besides `timing`'s cost of an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum Service {
    /// No longer: it has everything in memory.
    Memory,
    /// A disk that works at `channels` requests at a time, each for `fixed` and a random time of mean
    /// `random`, which is exponentially distributed.
    Disk {
        /// Requests that it works at together.
        channels: u16,
        /// What each takes at least.
        fixed: Span,
        /// Mean of what comes on top.
        random: Span,
    },
    /// The base server's one port to the network, `timing.network`, which all boards share in equal parts. A
    /// request is a frame behind the header of virtio-net.
    Network {
        /// The direction of the frames; the other is free.
        way: Way,
    },
}

/// Which way frames go.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Way {
    /// To the network: a request is used when its frame has left.
    Transmit,
    /// From the network, into buffers that the drivers posted; a frame that finds none is lost.
    Receive {
        /// Frames that come for each board in a second, evenly spaced.
        rate: u64,
    },
}

/// What one board is asked to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Load {
    /// It makes no requests.
    Idle,
    /// Other requests than the rest of the plan.
    Busy {
        /// In place of [`Plan::shape`].
        shape: Shape,
        /// In place of [`Plan::pace`].
        pace: Pace,
    },
}

/// A time for which is measured, whatever happens in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    /// How long the boards have been at work when it begins.
    pub after: Span,
    /// How long it is.
    pub length: Span,
}

/// What is in the buffers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Payload {
    /// Bytes that no end looks at.
    #[default]
    Blank,
    /// Ethernet frames with a number each, behind virtio-net headers. Both ends hold what arrives against
    /// what was sent.
    Frames,
}

/// Boards, how they are built, and the requests that they make: what a [`Bench`](crate::Bench) runs.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    /// Boards, 1 to 16.
    pub boards: u8,
    /// Queues of each board, 1 to 64.
    pub queues: u8,
    /// Rings and slots of each queue.
    pub rings: RingSizes,
    /// Latencies and widths, of which only virtual time makes use.
    pub timing: Timing,
    /// How notifications go.
    pub design: Design,
    /// How long back ends take.
    pub service: Service,
    /// Bytes of each request.
    pub shape: Shape,
    /// What is in them.
    pub payload: Payload,
    /// When they are made.
    pub pace: Pace,
    /// What the first boards are asked to do; those beyond do as `shape` and `pace` say.
    pub loads: Vec<Load>,
    /// What each board's function is held to.
    pub limits: Option<Limits>,
    /// Measures for a time in place of a number: `requests` and `warm_up` have no meaning then.
    pub window: Option<Window>,
    /// Requests of each queue that are measured.
    pub requests: u64,
    /// Requests of each queue before those.
    pub warm_up: u64,
    /// Seed of everything random.
    pub seed: u64,
}

impl Default for Plan {
    /// One board with one queue of a network's size, one 64-byte request after the other, there and back.
    fn default() -> Self {
        Self {
            boards: 1,
            queues: 1,
            rings: RingSizes::NET,
            timing: Timing::default(),
            design: Design::default(),
            service: Service::Memory,
            shape: Shape { out: 64, back: 64 },
            payload: Payload::Blank,
            pace: Pace::Closed { depth: 1 },
            loads: Vec::new(),
            limits: None,
            window: None,
            requests: 1000,
            warm_up: 100,
            seed: 1,
        }
    }
}

/// A plan that cannot be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs, reason = "the fields are those of the message")]
pub enum PlanError {
    /// A latency or a width.
    #[error(transparent)]
    Timing(#[from] TimingError),
    #[error("{field} = {value}: {why}; choose {least} to {most}")]
    Range { field: &'static str, value: u64, why: &'static str, least: u64, most: u64 },
    #[error("{field} = {value}: choose a power of two")]
    NoPower { field: &'static str, value: u64 },
    /// No ring holds one request.
    #[error(
        "a request of {bytes} bytes takes {slots} slots of {slot_size}, and a queue has {there} of them and {shadow} \
         shadow descriptors; choose larger slots, more of them, or a longer shadow vring"
    )]
    TooLarge { bytes: u32, slots: u64, slot_size: u32, there: u16, shadow: u16 },
    /// More is asked for than the links carry: `bytes` are those of the direction that is short, `wanted` and
    /// `carries` are bits a second.
    #[error(
        "rate = {rate} requests a second in each of {queues} queues cannot be met: {bytes} bytes each are {wanted} bit/s \
         over {what}, which carries {carries} bit/s; lower the rate, or raise timing.{field}"
    )]
    Rate {
        rate: u64,
        queues: u8,
        bytes: u32,
        wanted: u64,
        what: &'static str,
        carries: u64,
        field: &'static str,
    },
}

impl Plan {
    /// As many boards as `scenario` has, each with the rings, request queues and limits of the first function
    /// of its first board, and a default load. Boards are alike in a simulation.
    #[must_use]
    pub fn of(scenario: &Scenario) -> Self {
        let boards = u8::try_from(scenario.boards.len()).unwrap_or(u8::MAX);
        let (timing, design) = (scenario.timing.clone(), scenario.design);
        let plan = Self { boards, timing, design, ..Self::default() };
        match scenario.boards.first().and_then(|board| board.functions.first()) {
            Some(function) => plan.with_function(function),
            None => plan,
        }
    }

    /// The same with rings, request queues and limits of `function`.
    #[must_use]
    pub fn with_function(self, function: &Function) -> Self {
        let &Function { rings, limits, .. } = function;
        let limit = |rate: Option<u64>, burst: u32| Limit { rate: rate.unwrap_or(0), burst: burst.into() };
        let limits = limits.and_then(|limits| limits.rates()).map(|rates| Limits {
            operations: limit(rates.operations_per_second, rates.operations_burst),
            bytes: limit(rates.bytes_per_second, rates.bytes_burst),
        });
        let queues = u8::try_from(function.request_queues()).unwrap_or(u8::MAX);
        Self { rings, queues, limits, ..self }
    }

    /// Whether there can be such a simulation.
    ///
    /// # Errors
    /// The first thing that is impossible, and what to do.
    pub fn check(&self) -> Result<(), PlanError> {
        self.check_one()?;
        (0..self.loads.len().min(self.boards.into())).try_for_each(|number| match self.loads[number] {
            Load::Idle => Ok(()),
            Load::Busy { .. } => self.of_board(number).check_one(),
        })
    }

    /// The plan as board `number` has to carry it out.
    pub(super) fn of_board(&self, number: usize) -> Self {
        let mut plan = Self { loads: Vec::new(), ..self.clone() };
        match self.loads.get(number) {
            None => {}
            Some(Load::Idle) => (plan.requests, plan.warm_up, plan.window) = (0, 0, None),
            Some(Load::Busy { shape, pace }) => (plan.shape, plan.pace) = (*shape, *pace),
        }
        plan
    }

    /// Requests that a driver makes before it ends.
    pub(super) fn total(&self) -> u64 {
        self.window.map_or_else(|| self.warm_up.saturating_add(self.requests), |_| u64::MAX)
    }

    fn check_one(&self) -> Result<(), PlanError> {
        self.timing.check()?;
        let range = |field, value: u64, why, least, most| match (least..=most).contains(&value) {
            true => Ok(()),
            false => Err(PlanError::Range { field, value, why, least, most }),
        };
        let RingSizes { guest, shadow, slot_size, slots } = self.rings;
        let shape = self.shape.out.max(self.shape.back).into();
        let payload = u64::from(self.shape.out) + u64::from(self.shape.back);
        range("boards", self.boards.into(), "a base server has so many board slots", 1, MAX_BOARDS.into())?;
        range("queues", self.queues.into(), "an IO-Bond has so many queue contexts", 1, MAX_QUEUES as u64)?;
        range("slot_size", slot_size.into(), "a slot holds four descriptors at least", 64, 1 << 20)?;
        range("slots", slots.into(), "there is nowhere to put a payload otherwise", 4, u16::MAX.into())?;
        range("ring", guest.into(), "a request takes two descriptors", 2, MAX_RING.into())?;
        range(
            "shadow",
            shadow.into(),
            "it is at least as long as the guest's ring",
            guest.into(),
            MAX_RING.into(),
        )?;
        for (field, value) in
            [("slot_size", u64::from(slot_size)), ("ring", guest.into()), ("shadow", shadow.into())]
        {
            if !value.is_power_of_two() {
                return Err(PlanError::NoPower { field, value });
            }
        }
        range(
            "size",
            shape,
            "a request carries something, and no more than a frame of 64 KiB",
            1,
            MAX_PAYLOAD.into(),
        )?;
        if self.payload == Payload::Frames {
            let size = [self.shape.out, self.shape.back].into_iter().filter(|size| *size > 0).min();
            let (size, why) = (size.unwrap_or(0).into(), "a frame has headers and a number in it");
            range("size", size, why, LEAST.into(), MAX_PAYLOAD.into())?;
        }
        range(
            "requests",
            self.requests,
            "nothing is measured without one, and a run has an end",
            1,
            MAX_REQUESTS,
        )?;
        range("warm_up", self.warm_up, "a run has an end", 0, MAX_REQUESTS)?;
        if let Pace::Closed { depth } = self.pace {
            let most = u64::from(guest / self.descriptors());
            range("depth", depth.into(), "a ring holds so many requests", 1, most)?;
        }
        if let Service::Disk { channels, .. } = self.service {
            range("channels", channels.into(), "the disk would never work", 1, u16::MAX.into())?;
        }
        if let Service::Network { way } = self.service {
            let (frame, other) = match way {
                Way::Transmit => (self.shape.out, self.shape.back),
                Way::Receive { rate } => {
                    range("rate", rate, "no frame would ever come", 1, MAX_FRAMES)?;
                    (self.shape.back, self.shape.out)
                }
            };
            let least = u64::from(NET_HEADER) + 1;
            range("size", frame.into(), "a frame has its header before it", least, MAX_PAYLOAD.into())?;
            range("size", other.into(), "a frame goes one way", 0, 0)?;
        }
        if let Some(Window { length, .. }) = self.window {
            range("window", length.ps(), "nothing would be measured", 1, u64::MAX)?;
        }
        let taken =
            [self.shape.out, self.shape.back].map(|bytes| u64::from(bytes.div_ceil(slot_size))).iter().sum();
        if taken > u64::from(slots) || taken > u64::from(shadow) {
            let bytes = payload as u32;
            return Err(PlanError::TooLarge { bytes, slots: taken, slot_size, there: slots, shadow });
        }
        self.check_rate()
    }

    /// Descriptors of a request.
    #[must_use]
    pub fn descriptors(&self) -> u16 {
        u16::from(self.shape.out > 0) + u16::from(self.shape.back > 0)
    }

    /// An open load above what the links carry would queue without end.
    fn check_rate(&self) -> Result<(), PlanError> {
        let Pace::Open { rate } = self.pace else { return Ok(()) };
        let Self { queues, shape, timing, .. } = self;
        if rate == 0 {
            let why = "no request would ever be made";
            return Err(PlanError::Range { field: "rate", value: 0, why, least: 1, most: u64::MAX });
        }
        let wanted = |bytes: u32| u64::from(bytes) * 8 * u64::from(*queues);
        let largest = shape.out.max(shape.back);
        let limits = [
            ("the board's link", timing.board.bandwidth(), "board.lanes", largest),
            ("the DMA engine", timing.dma.rate, "dma.rate", shape.out + shape.back),
        ];
        for (what, carries, field, bytes) in limits {
            let wanted = wanted(bytes).saturating_mul(rate);
            if wanted > carries {
                return Err(PlanError::Rate { rate, queues: *queues, bytes, wanted, what, carries, field });
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn refused(change: impl FnOnce(&mut Plan)) -> PlanError {
        let mut plan = Plan::default();
        change(&mut plan);
        plan.check().unwrap_err()
    }

    #[test]
    fn a_plan_is_the_base_server_of_a_scenario() {
        let disk = "kind = \"blk\"\nsize_mib = 8\nqueues = 3\nqueue_size = 256\nslots = 700\n";
        let board =
            |name| format!("[[board]]\nname = \"{name}\"\nmemory_mib = 64\n[[board.function]]\n{disk}");
        let text = format!(
            "[server]\nname = \"s\"\n{}{}[timing]\nboard_access = 300\n[design]\nevent_idx = true\n",
            board("left"),
            board("right")
        );
        let scenario = Scenario::parse("scenario.toml", &text, Path::new("")).unwrap();
        let plan = Plan::of(&scenario);
        assert_eq!((plan.boards, plan.queues), (2, 3));
        assert_eq!(plan.rings, RingSizes { guest: 256, slots: 700, ..RingSizes::BLK });
        assert_eq!((&plan.timing, plan.design), (&scenario.timing, scenario.design));
        plan.check().unwrap();
    }

    #[test]
    fn every_number_has_a_range() {
        type Change = fn(&mut Plan);
        let odd: [(&str, u64, Change); 13] = [
            ("boards", 17, |plan| plan.boards = 17),
            ("boards", 0, |plan| plan.boards = 0),
            ("queues", 65, |plan| plan.queues = 65),
            ("slot_size", 0, |plan| plan.rings.slot_size = 0),
            ("shadow", 128, |plan| plan.rings.shadow = 128),
            ("size", 0, |plan| plan.shape = Shape { out: 0, back: 0 }),
            ("size", 61, |plan| (plan.payload, plan.shape.back) = (Payload::Frames, 61)),
            ("requests", 0, |plan| plan.requests = 0),
            ("requests", u64::MAX, |plan| plan.requests = u64::MAX),
            ("warm_up", u64::MAX, |plan| plan.warm_up = u64::MAX),
            ("depth", 129, |plan| plan.pace = Pace::Closed { depth: 129 }),
            ("rate", 0, |plan| plan.pace = Pace::Open { rate: 0 }),
            ("channels", 0, |plan| {
                plan.service = Service::Disk { channels: 0, fixed: Span::ZERO, random: Span::ZERO };
            }),
        ];
        for (name, given, change) in odd {
            match refused(change) {
                PlanError::Range { field, value, least, most, .. } => {
                    assert_eq!((field, value), (name, given));
                    assert!(!(least..=most).contains(&value), "{name}: {least} to {most}");
                }
                other => panic!("{name} = {given}: {other}"),
            }
        }
        Plan::default().check().unwrap();
    }

    #[test]
    fn what_cannot_be_together_is_refused() {
        let no_power = refused(|plan| plan.rings.slot_size = 96);
        assert_eq!(no_power, PlanError::NoPower { field: "slot_size", value: 96 });
        let too_large = refused(|plan| (plan.shape.out, plan.rings.slots) = (65536, 16));
        assert!(matches!(too_large, PlanError::TooLarge { slots: 33, there: 16, slot_size: 2048, .. }));
        let rate = refused(|plan| (plan.pace, plan.shape.out) = (Pace::Open { rate: 1_000_000 }, 4096));
        assert!(matches!(rate, PlanError::Rate { field: "board.lanes", bytes: 4096, .. }), "{rate}");
        assert!(matches!(refused(|plan| plan.timing.board.lanes = 3), PlanError::Timing(_)));
        assert!(matches!(refused(|plan| plan.timing.base.max_payload = 1024), PlanError::Timing(_)));
        assert!(matches!(refused(|plan| plan.timing.dma.rate = 100_000_000_000), PlanError::Timing(_)));
    }
}
