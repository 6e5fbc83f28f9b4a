//! What one function may do: operations and bytes.

use super::Bucket;

/// A rate, and how much of it may come at once.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Limit {
    /// Units a second; 0: no limit.
    pub rate: u64,
    /// Units at once, at least one.
    pub burst: u64,
}

/// What one function may do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    /// Chains: packets of a network device, requests of a block device.
    pub operations: Limit,
    /// Payload bytes copied, in both directions together.
    pub bytes: Limit,
}

/// Bytes of a chain when none has been seen yet: the largest packet with segmentation offload.
const UNSEEN: u64 = 64 << 10;

/// Holds one function to its [`Limits`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Meter {
    operations: Bucket,
    bytes: Bucket,
    /// Bytes in a large chain of late: a mean per charge, of which the larger ones are forgotten slowly. It
    /// keeps the debt small that a batch of chains leaves behind, whose bytes are not known before.
    large: u64,
}

impl Meter {
    /// A meter with full buckets.
    #[must_use]
    pub fn new(limits: Limits, now: u64) -> Self {
        let Limits { operations, bytes } = limits;
        Self {
            operations: Bucket::new(operations.rate, operations.burst, now),
            bytes: Bucket::new(bytes.rate, bytes.burst, now),
            large: UNSEEN,
        }
    }

    /// How many chains may be worked at, at least one.
    ///
    /// # Errors
    /// None now; the time at which to ask again, later than `now`.
    pub fn allowance(&self, now: u64) -> Result<u16, u64> {
        let by_bytes = self.allowance_of_bytes(now);
        let ready = self.operations.ready_at(now);
        if ready > now {
            return Err(by_bytes.err().unwrap_or(now).max(ready));
        }
        by_bytes.map(|chains| cap(self.operations.available(now)).min(chains))
    }

    /// The same of chains that cost their bytes only, as they were counted before.
    ///
    /// # Errors
    /// As [`Meter::allowance`].
    pub fn allowance_of_bytes(&self, now: u64) -> Result<u16, u64> {
        let ready = self.bytes.ready_at(now);
        if ready > now { Err(ready) } else { Ok(cap(self.bytes.available(now).div_ceil(self.large))) }
    }

    /// Charges what was done, be it more than was allowed: `operations` chains and the payload `bytes` of one
    /// or more.
    pub fn charge(&mut self, now: u64, operations: u16, bytes: u64) {
        self.operations.charge(now, operations.into());
        self.bytes.charge(now, bytes);
        let mean = bytes / u64::from(operations.max(1));
        self.large = mean.max(self.large - self.large / 8).max(1);
    }
}

/// What a piece of an engine's work costs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cost {
    /// Every chain is an operation.
    Operations,
    /// The chains are not operations, or were counted before; their bytes cost.
    Bytes,
    /// Buffers are offered: whatever that costs, it does not wait.
    Nothing,
}

impl Cost {
    /// Of forwarding, in a queue whose chains count when they are returned, or do not.
    #[must_use]
    pub const fn of_forwarding(count_on_return: bool) -> Self {
        if count_on_return { Self::Nothing } else { Self::Operations }
    }

    /// Of returning, in such a queue; `copies`: there may be bytes to be copied. Where there are none, as in
    /// a queue that transmits, nothing waits for bytes.
    #[must_use]
    pub const fn of_returning(count_on_return: bool, copies: bool) -> Self {
        match (count_on_return, copies) {
            (true, _) => Self::Operations,
            (false, true) => Self::Bytes,
            (false, false) => Self::Nothing,
        }
    }
}

impl Meter {
    /// How many chains may be worked at that cost so much.
    ///
    /// # Errors
    /// As [`Meter::allowance`].
    pub fn admit(&self, cost: Cost, now: u64) -> Result<u16, u64> {
        match cost {
            Cost::Operations => self.allowance(now),
            Cost::Bytes => self.allowance_of_bytes(now),
            Cost::Nothing => Ok(u16::MAX),
        }
    }

    /// Charges `chains` that cost so much, and their `bytes`.
    pub fn pay(&mut self, cost: Cost, chains: u16, bytes: u64, now: u64) {
        match cost {
            Cost::Operations => self.charge(now, chains, bytes),
            Cost::Bytes | Cost::Nothing => self.charge(now, 0, bytes),
        }
    }
}

fn cap(chains: u64) -> u16 {
    u16::try_from(chains).unwrap_or(u16::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_scarcer_of_the_two_decides() {
        let operations = Limit { rate: 1000, burst: 10 };
        let bytes = Limit { rate: 1_000_000, burst: 1 << 20 };
        let mut meter = Meter::new(Limits { operations, bytes }, 0);
        assert_eq!(meter.allowance(0), Ok(10));
        meter.charge(0, 9, 9000);
        assert_eq!(meter.allowance(0), Ok(1));
        meter.charge(0, 1, 4 << 20);
        let debt = (4 << 20) + 9000 - (1 << 20);
        assert_eq!(meter.allowance(0), Err(debt * 1000 + 1));
        assert_eq!(meter.allowance(debt * 1000 + 1), Ok(1), "a byte's worth admits a chain");
        let mut meter = Meter::new(Limits { operations, bytes: Limit::default() }, 0);
        meter.charge(0, 10, 1 << 40);
        assert_eq!((meter.allowance(0), meter.allowance_of_bytes(0)), (Err(1), Ok(u16::MAX)));
    }

    #[test]
    fn a_few_large_chains_are_let_through_at_once_or_many_small_ones() {
        let bytes = Limit { rate: 1 << 30, burst: 1 << 20 };
        let mut meter = Meter::new(Limits { bytes, ..Limits::default() }, 0);
        assert_eq!(meter.allowance(0), Ok(16), "of 64 KiB, until any has been seen");
        for _ in 0..100 {
            meter.charge(0, 64, 64 * 64);
        }
        assert_eq!(meter.allowance(1_000_000_000), Ok(16384));
        meter.charge(1_000_000_000, 1, 1 << 20);
        assert_eq!(meter.allowance(2_000_000_000), Ok(1));
    }

    #[test]
    fn no_limits_are_no_limits() {
        let mut meter = Meter::new(Limits::default(), 0);
        meter.charge(0, u16::MAX, u64::MAX);
        assert_eq!(meter.allowance(0), Ok(u16::MAX));
    }
}
