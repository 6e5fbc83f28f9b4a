//! How much is asked for at a time.

use std::{fmt, str::FromStr};

/// How many requests are outstanding, or how many are made in a second.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Load {
    /// One request at a time in each queue.
    Idle,
    /// So many percent, 1 to 99, of the rate that requests at random times come through at, at most.
    Percent(u8),
    /// The ring is always full.
    Saturation,
}

/// A text that is not a load.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LoadError {
    /// 100 % or more: nothing comes through beyond the capacity.
    #[error("a load of {0} % cannot be met: 100 % is all that comes through; choose 1 to 99")]
    TooMuch(u64),
    /// Neither a word nor a number, or none at all.
    #[error("{0:?} is not a load; choose idle, saturation, or a percentage of the capacity, 1 to 99")]
    Word(String),
}

impl Load {
    /// Requests a second in each of `queues` queues that are this share of `full` in all of them, at least
    /// one.
    pub(super) fn share_of(self, full: f64, queues: u64) -> u64 {
        let percent = match self {
            Self::Percent(percent) => f64::from(percent),
            Self::Idle | Self::Saturation => 100.0,
        };
        ((full * percent / 100.0 / queues.max(1) as f64) as u64).max(1)
    }

    /// Where it is on an axis in percent: idle is as little as there can be.
    pub(super) fn percent(self) -> f64 {
        match self {
            Self::Idle => 0.0,
            Self::Percent(percent) => percent.into(),
            Self::Saturation => 100.0,
        }
    }

    /// Its part of a dotted name.
    pub(super) fn name(self) -> String {
        match self {
            Self::Idle => "qd1".to_owned(),
            Self::Percent(percent) => format!("load{percent}"),
            Self::Saturation => "saturation".to_owned(),
        }
    }
}

impl fmt::Display for Load {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Idle => out.write_str("idle"),
            Self::Percent(percent) => write!(out, "{percent} % load"),
            Self::Saturation => out.write_str("saturation"),
        }
    }
}

impl FromStr for Load {
    type Err = LoadError;

    fn from_str(text: &str) -> Result<Self, LoadError> {
        match (text, text.trim_end_matches('%').parse::<u64>()) {
            ("idle", _) => Ok(Self::Idle),
            ("saturation", _) => Ok(Self::Saturation),
            (_, Ok(percent @ 1..=99)) => Ok(Self::Percent(percent as u8)),
            (_, Ok(percent @ 100..)) => Err(LoadError::TooMuch(percent)),
            _ => Err(LoadError::Word(text.to_owned())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_load_is_a_word_or_a_percentage() {
        let read = |text: &str| text.parse::<Load>();
        assert_eq!(read("idle"), Ok(Load::Idle));
        assert_eq!(read("saturation"), Ok(Load::Saturation));
        assert_eq!(read("50"), Ok(Load::Percent(50)));
        assert_eq!(read("50%"), Ok(Load::Percent(50)));
        assert_eq!(read("100"), Err(LoadError::TooMuch(100)));
        for nonsense in ["0", "", "half", "-5", "5.5"] {
            assert_eq!(read(nonsense), Err(LoadError::Word(nonsense.to_owned())));
        }
    }

    #[test]
    fn a_share_is_divided_between_queues() {
        assert_eq!(Load::Percent(25).share_of(1e6, 5), 50_000);
        assert_eq!(Load::Percent(1).share_of(10.0, 64), 1);
    }
}
