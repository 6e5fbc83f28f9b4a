//! Which port an Ethernet address was last seen at: bounded, and with an age. Pure.

use std::collections::HashMap;
use std::time::Duration;

/// An Ethernet address, first byte on the wire first.
pub(crate) type Mac = [u8; 6];

/// Most addresses that one port may have (16 ports: 1024 in all). The bound is per port, so that a board that
/// makes addresses up does not push out those of its neighbours.
pub(crate) const ADDRESSES_PER_PORT: usize = 64;

/// How long an address that is not heard of is remembered (IEEE 802.1Q, 8.8.3, recommends 300 s).
pub(crate) const AGEING: Duration = Duration::from_secs(300);

/// How often a port that is full is searched for addresses that are too old.
const SWEEP: Duration = Duration::from_secs(1);

#[derive(Debug)]
struct Entry {
    port: usize,
    seen: Duration,
}

/// Addresses and their ports. `now` is the time since any fixed moment and never goes back.
#[derive(Debug)]
pub(crate) struct MacTable {
    entries: HashMap<Mac, Entry>,
    /// Entries of each port.
    counts: Vec<usize>,
    next_sweep: Duration,
}

impl MacTable {
    pub(crate) fn new(ports: usize) -> Self {
        Self { entries: HashMap::new(), counts: vec![0; ports], next_sweep: Duration::ZERO }
    }

    /// The port of `mac`, if it was heard of in time.
    pub(crate) fn port(&self, mac: &Mac, now: Duration) -> Option<usize> {
        let entry = self.entries.get(mac)?;
        (now.saturating_sub(entry.seen) < AGEING).then_some(entry.port)
    }

    /// Notes that `mac` sent from `port`. A port that is full learns nothing new: frames to that address are
    /// flooded.
    pub(crate) fn learn(&mut self, mac: Mac, port: usize, now: Duration) {
        if let Some(entry) = self.entries.get_mut(&mac)
            && entry.port == port
        {
            entry.seen = now;
            return;
        }
        if self.count(port) >= ADDRESSES_PER_PORT && now >= self.next_sweep {
            self.next_sweep = now + SWEEP;
            self.retain(|entry| now.saturating_sub(entry.seen) < AGEING);
        }
        if self.count(port) < ADDRESSES_PER_PORT {
            let left = self.entries.insert(mac, Entry { port, seen: now });
            self.counts[port] += 1;
            if let Some(left) = left {
                self.counts[left.port] -= 1;
            }
        }
    }

    /// Forgets the addresses of a port whose board has gone.
    pub(crate) fn forget(&mut self, port: usize) {
        self.retain(|entry| entry.port != port);
    }

    fn count(&self, port: usize) -> usize {
        self.counts.get(port).copied().unwrap_or(usize::MAX)
    }

    fn retain(&mut self, keep: impl Fn(&Entry) -> bool) {
        let counts = &mut self.counts;
        self.entries.retain(|_, entry| {
            let stays = keep(entry);
            counts[entry.port] -= usize::from(!stays);
            stays
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn mac(number: u16) -> Mac {
        let [high, low] = number.to_be_bytes();
        [2, 0, 0, 0, high, low]
    }

    #[test]
    fn an_address_moves_ages_and_is_forgotten() {
        let mut table = MacTable::new(2);
        let at = Duration::from_secs;
        table.learn(mac(1), 0, at(0));
        assert_eq!(table.port(&mac(1), at(299)), Some(0));
        assert_eq!(table.port(&mac(1), at(300)), None);
        table.learn(mac(1), 1, at(10));
        assert_eq!(table.port(&mac(1), at(10)), Some(1));
        table.learn(mac(1), 1, at(300));
        assert_eq!(table.port(&mac(1), at(400)), Some(1));
        table.forget(1);
        assert_eq!(table.port(&mac(1), at(400)), None);
    }

    #[test]
    fn a_port_that_makes_addresses_up_harms_only_itself() {
        let mut table = MacTable::new(2);
        table.learn(mac(0), 1, Duration::ZERO);
        for number in 1..10_000 {
            table.learn(mac(number), 0, Duration::ZERO);
        }
        assert_eq!(table.entries.len(), ADDRESSES_PER_PORT + 1);
        assert_eq!(table.port(&mac(0), Duration::ZERO), Some(1));
        // Once they are too old the port learns again.
        table.learn(mac(9_999), 0, AGEING);
        assert_eq!(table.port(&mac(9_999), AGEING), Some(0));
        assert_eq!(table.entries.len(), 1);
    }

    proptest! {
        /// The counts, which bound the table, are those of the table.
        #[test]
        fn counts_match(
            steps in prop::collection::vec((0u16..200, 0usize..3, 0u64..400, any::<bool>()), 0..400),
        ) {
            let mut table = MacTable::new(3);
            let mut now = Duration::ZERO;
            for (number, port, seconds, forget) in steps {
                now += Duration::from_secs(seconds / 100);
                if forget && seconds < 4 { table.forget(port) } else { table.learn(mac(number), port, now) }
                for port in 0..3 {
                    let count = table.entries.values().filter(|entry| entry.port == port).count();
                    prop_assert_eq!(table.counts[port], count);
                    prop_assert!(count <= ADDRESSES_PER_PORT);
                }
            }
        }
    }
}
