//! Virtual time: moments and spans in picoseconds, so that a byte on a link (254 ps at 8 GT/s, x4) is a whole
//! number to within a thousandth. 64 bits last for 213 days.

use std::{
    fmt,
    iter::Sum,
    ops::{Add, AddAssign, Div, Mul, Rem, Sub},
};

use serde::{Deserialize, Serialize};

/// Picoseconds in a nanosecond.
const PER_NS: u64 = 1000;

/// A moment, in picoseconds since the beginning of a run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Time(u64);

/// What lies between two moments, in picoseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Span(u64);

impl Time {
    /// The beginning of a run.
    pub const ZERO: Self = Self(0);
    /// The end: nothing happens then any more.
    pub const MAX: Self = Self(u64::MAX);

    /// So many picoseconds after the beginning.
    #[must_use]
    pub const fn from_ps(ps: u64) -> Self {
        Self(ps)
    }

    /// Picoseconds since the beginning.
    #[must_use]
    pub const fn ps(self) -> u64 {
        self.0
    }

    /// Whole nanoseconds since the beginning: the `now` of an IO-Bond's device.
    #[must_use]
    pub const fn ns(self) -> u64 {
        self.0 / PER_NS
    }

    /// What has passed since `earlier`; nothing if that is still to come.
    #[must_use]
    pub const fn since(self, earlier: Self) -> Span {
        Span(self.0.saturating_sub(earlier.0))
    }
}

impl Span {
    /// The span between a moment and itself.
    pub const ZERO: Self = Self(0);

    /// A span of so many picoseconds.
    #[must_use]
    pub const fn from_ps(ps: u64) -> Self {
        Self(ps)
    }

    /// So many nanoseconds; the longest span if that is more than it holds.
    #[must_use]
    pub const fn from_ns(ns: u64) -> Self {
        Self(ns.saturating_mul(PER_NS))
    }

    /// So many microseconds; the longest span if that is more than it holds.
    #[must_use]
    pub const fn from_us(us: u64) -> Self {
        Self::from_ns(us.saturating_mul(1000))
    }

    /// The span in picoseconds.
    #[must_use]
    pub const fn ps(self) -> u64 {
        self.0
    }

    /// The span in nanoseconds, with what is left of one.
    #[must_use]
    pub fn as_ns(self) -> f64 {
        self.0 as f64 / PER_NS as f64
    }

    /// The span in seconds.
    #[must_use]
    pub fn as_secs(self) -> f64 {
        self.0 as f64 / 1e12
    }

    /// This without `other`; nothing if that is longer.
    #[must_use]
    pub const fn saturating_sub(self, other: Self) -> Self {
        Self(self.0.saturating_sub(other.0))
    }

    /// How long `count` things take of which `rate` are done in a second, rounded up. Of no rate, for ever.
    #[must_use]
    pub fn at_rate(count: u64, rate: u64) -> Self {
        let ps = (u128::from(count) * 1_000_000_000_000).div_ceil(u128::from(rate.max(1)));
        if rate == 0 { Self(u64::MAX) } else { Self(u64::try_from(ps).unwrap_or(u64::MAX)) }
    }
}

impl Add<Span> for Time {
    type Output = Self;

    fn add(self, span: Span) -> Self {
        Self(self.0.saturating_add(span.0))
    }
}

impl AddAssign<Span> for Time {
    fn add_assign(&mut self, span: Span) {
        *self = *self + span;
    }
}

impl Sub<Span> for Time {
    type Output = Self;

    fn sub(self, span: Span) -> Self {
        Self(self.0.saturating_sub(span.0))
    }
}

impl Add for Span {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self(self.0.saturating_add(other.0))
    }
}

impl AddAssign for Span {
    fn add_assign(&mut self, other: Self) {
        *self = *self + other;
    }
}

impl Mul<u64> for Span {
    type Output = Self;

    fn mul(self, times: u64) -> Self {
        Self(self.0.saturating_mul(times))
    }
}

impl Div<u64> for Span {
    type Output = Self;

    fn div(self, parts: u64) -> Self {
        Self(self.0 / parts.max(1))
    }
}

impl Rem for Span {
    type Output = Self;

    fn rem(self, other: Self) -> Self {
        Self(self.0 % other.0.max(1))
    }
}

impl Sum for Span {
    fn sum<I: Iterator<Item = Self>>(spans: I) -> Self {
        spans.fold(Self::ZERO, |sum, span| sum + span)
    }
}

impl fmt::Display for Time {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        Span(self.0).fmt(out)
    }
}

/// As `12.345 us`: three digits behind the point, in the unit that leaves something before it.
impl fmt::Display for Span {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let units = [(1_000_000_000_000, "s"), (1_000_000_000, "ms"), (1_000_000, "us"), (1000, "ns")];
        match units.into_iter().find(|(size, _)| self.0 >= *size) {
            Some((size, unit)) => write!(out, "{}.{:03} {unit}", self.0 / size, self.0 % size * 1000 / size),
            None => write!(out, "{} ps", self.0),
        }
    }
}

/// Nanoseconds, as people type them: `400` or `0.5`.
impl Serialize for Span {
    fn serialize<S: serde::Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_f64(self.as_ns())
    }
}

impl<'de> Deserialize<'de> for Span {
    fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let ns = f64::deserialize(from)?;
        if (0.0..=1e15).contains(&ns) {
            Ok(Self((ns * PER_NS as f64).round() as u64))
        } else {
            Err(serde::de::Error::custom(format!("{ns} is not a time in nanoseconds from 0 to 10^15")))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_read_as_people_write_them() {
        let read = [
            (7, "7 ps"),
            (254, "254 ps"),
            (1500, "1.500 ns"),
            (12_345_678, "12.345 us"),
            (2_000_000_000_000, "2.000 s"),
        ];
        for (ps, text) in read {
            assert_eq!(Span::from_ps(ps).to_string(), text);
        }
    }

    #[test]
    fn a_rate_is_a_time_for_each() {
        assert_eq!(Span::at_rate(1, 50_000_000_000), Span::from_ps(20));
        assert_eq!(Span::at_rate(3, 2_000_000_000_000), Span::from_ps(2));
        assert_eq!(Span::at_rate(1, 0), Span::from_ps(u64::MAX));
    }

    #[test]
    fn time_does_not_wrap() {
        assert_eq!(Time::MAX + Span::from_us(1), Time::MAX);
        assert_eq!(Time::ZERO.since(Time::MAX), Span::ZERO);
    }
}
