//! Sets of CPUs as Linux writes them.

use std::{collections::BTreeSet, fmt, str::FromStr};

/// CPUs by number, written `0-3,8`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CpuList(BTreeSet<u32>);

/// A text that is not a list of CPUs.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a list of CPUs such as 0-3,8")]
pub struct CpuListError(String);

/// No machine has more; a longer range is not from Linux.
const MOST: u32 = 1 << 16;

impl CpuList {
    /// Whether `cpu` is in it.
    pub fn contains(&self, cpu: u32) -> bool {
        self.0.contains(&cpu)
    }

    /// The CPUs in ascending order.
    pub fn iter(&self) -> impl Iterator<Item = u32> {
        self.0.iter().copied()
    }

    /// The CPU with the lowest number.
    pub fn first(&self) -> Option<u32> {
        self.0.first().copied()
    }

    /// The same without `cpu`.
    #[must_use]
    pub fn without(&self, cpu: u32) -> Self {
        Self(self.0.iter().copied().filter(|other| *other != cpu).collect())
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl FromIterator<u32> for CpuList {
    fn from_iter<I: IntoIterator<Item = u32>>(cpus: I) -> Self {
        Self(cpus.into_iter().collect())
    }
}

impl FromStr for CpuList {
    type Err = CpuListError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let wrong = || CpuListError(text.trim().into());
        let number = |digits: &str| digits.parse::<u32>().ok().filter(|cpu| *cpu < MOST).ok_or_else(wrong);
        let mut cpus = BTreeSet::new();
        for part in text.trim().split(',').filter(|part| !part.is_empty()) {
            let (first, last) = part.split_once('-').unwrap_or((part, part));
            let range = number(first)?..=number(last)?;
            if range.is_empty() {
                return Err(wrong());
            }
            cpus.extend(range);
        }
        Ok(Self(cpus))
    }
}

impl fmt::Display for CpuList {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut cpus = self.iter().peekable();
        let mut separator = "";
        while let Some(first) = cpus.next() {
            let mut last = first;
            while let Some(next) = cpus.next_if_eq(&(last + 1)) {
                last = next;
            }
            write!(f, "{separator}{first}")?;
            if last > first {
                write!(f, "-{last}")?;
            }
            separator = ",";
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_read_as_linux_writes_them() {
        for (text, written) in
            [("0-3,8\n", "0-3,8"), ("", ""), ("2,1", "1-2"), ("7", "7"), ("0-1,3-4,6", "0-1,3-4,6")]
        {
            assert_eq!(text.parse::<CpuList>().unwrap().to_string(), written);
        }
        for wrong in ["3-1", "a", "0-", "-1", "0-4294967295", "1 2"] {
            assert!(wrong.parse::<CpuList>().is_err(), "{wrong}");
        }
    }
}
