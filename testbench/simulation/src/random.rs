//! Chance that is the same on every machine: integers only, since the logarithms of two machines may differ
//! in their last bit.

use iobond_model::cycle::Span;

/// A source of chance of its own: equal seeds and names give equal sequences.
#[derive(Debug)]
pub(crate) struct Chance(fastrand::Rng);

impl Chance {
    /// The source `name` of a run with `seed`.
    pub(crate) fn new(seed: u64, name: u64) -> Self {
        // Neighbouring seeds must not give neighbouring sequences; the odd constant is 2^64 divided by the
        // golden ratio.
        Self(fastrand::Rng::with_seed(seed ^ name.wrapping_add(1).wrapping_mul(0x9E37_79B9_7F4A_7C15)))
    }

    /// An exponentially distributed time, by comparisons alone (von Neumann 1951, "Various techniques used in
    /// connection with random digits", section 3): of runs of falling numbers those of odd length are kept,
    /// and their first number is what is wanted, above as many whole means as were not kept.
    pub(crate) fn exponential(&mut self, mean: Span) -> Span {
        let mut whole = 0;
        loop {
            let first = self.0.u64(..);
            let (mut last, mut length) = (first, 1);
            loop {
                let next = self.0.u64(..);
                if next >= last {
                    break;
                }
                (last, length) = (next, length + 1);
            }
            if length % 2 == 1 {
                let part = (u128::from(first) * u128::from(mean.ps())) >> 64;
                return mean * whole + Span::from_ps(part as u64);
            }
            whole += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_exponential() {
        let (mut chance, mean) = (Chance::new(7, 0), Span::from_us(10));
        let times: Vec<u64> = (0..100_000).map(|_| chance.exponential(mean).ps()).collect();
        let average = times.iter().sum::<u64>() as f64 / times.len() as f64;
        assert!((9.8e6..10.2e6).contains(&average), "{average}");
        // e^-1, e^-2 and e^-3 of them are longer than one, two and three means.
        for (means, share) in [(1, 0.3679), (2, 0.1353), (3, 0.0498)] {
            let longer =
                times.iter().filter(|time| **time > means * mean.ps()).count() as f64 / times.len() as f64;
            assert!(
                (longer - share).abs() < 0.006,
                "{longer} of the times are over {means} means, not {share}"
            );
        }
    }

    #[test]
    fn equal_seeds_are_equal_and_others_are_not() {
        let draw = |seed, name| {
            let mut chance = Chance::new(seed, name);
            std::array::from_fn::<_, 4, _>(|_| chance.exponential(Span::from_us(1)))
        };
        assert_eq!(draw(1, 2), draw(1, 2));
        assert_ne!(draw(1, 2), draw(1, 3));
        assert_ne!(draw(1, 2), draw(2, 2));
    }
}
