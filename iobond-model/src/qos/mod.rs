//! Quality of service: how much a function may do, and which board's turn it is.
//!
//! * [`Bucket`] and [`Meter`]: limits on a function's operations and bytes;
//! * [`DeficitRoundRobin`]: a link that several boards share, in equal parts whatever the size of their
//!   packets;
//! * [`jain`]: how equal the parts were.
//!
//! Nothing here waits or looks at a clock: `now` is an argument in nanoseconds, and work that is refused is
//! told when to ask again.

mod bucket;
mod meter;
mod round_robin;

pub use bucket::Bucket;
pub use meter::{Cost, Limit, Limits, Meter};
pub use round_robin::DeficitRoundRobin;

/// Jain's fairness index of what each of several got: 1 when all got the same, 1/n when one of n got
/// everything (R. Jain, D. Chiu, W. Hawe, DEC-TR-301, 1984). Nothing shared among none is fair.
#[must_use]
pub fn jain(shares: &[f64]) -> f64 {
    let sum: f64 = shares.iter().sum();
    let squares: f64 = shares.iter().map(|share| share * share).sum();
    if squares == 0.0 { 1.0 } else { sum * sum / (shares.len() as f64 * squares) }
}

#[cfg(test)]
mod tests {
    use super::jain;

    #[test]
    fn jain_is_one_for_equals_and_one_nth_for_a_monopoly() {
        assert_eq!(jain(&[3.0, 3.0, 3.0]), 1.0);
        assert_eq!(jain(&[7.0, 0.0, 0.0, 0.0]), 0.25);
        assert_eq!((jain(&[]), jain(&[0.0, 0.0])), (1.0, 1.0));
    }
}
