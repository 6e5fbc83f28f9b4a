//! Deficit round robin (M. Shreedhar, G. Varghese, "Efficient Fair Queueing using Deficit Round Robin",
//! 1996).

use std::collections::VecDeque;

/// One of the flows that share the link.
#[derive(Debug)]
struct Flow<T> {
    /// Bytes that it may send in a round.
    quantum: u64,
    /// What it may still send in this round, and what it could not use in the last one.
    deficit: u64,
    waiting: VecDeque<(u64, T)>,
}

/// Queues of packets that share a link in proportion to their quanta, by bytes and not by packets.
///
/// With a quantum of at least the largest packet, every [`DeficitRoundRobin::pop`] takes constant time; a
/// larger packet waits for as many rounds as it needs.
#[derive(Debug)]
pub struct DeficitRoundRobin<T> {
    flows: Vec<Flow<T>>,
    /// Flows with something to send, in the order of their turns.
    turns: VecDeque<usize>,
    /// The first of them has had its quantum for this turn.
    in_turn: bool,
}

impl<T> DeficitRoundRobin<T> {
    /// A flow for each of `quanta`, in bytes, at least 1.
    pub fn new(quanta: impl IntoIterator<Item = u64>) -> Self {
        let flow = |quantum: u64| Flow { quantum: quantum.max(1), deficit: 0, waiting: VecDeque::new() };
        let flows: Vec<_> = quanta.into_iter().map(flow).collect();
        Self { turns: VecDeque::with_capacity(flows.len()), flows, in_turn: false }
    }

    /// Appends a packet of `bytes` to `flow`.
    ///
    /// # Panics
    /// Panics if there is no such flow.
    pub fn push(&mut self, flow: usize, bytes: u64, item: T) {
        let waiting = &mut self.flows[flow].waiting;
        if waiting.is_empty() {
            self.turns.push_back(flow);
        }
        waiting.push_back((bytes, item));
    }

    /// Takes the packet that is to be sent next, and says which flow's it is; `None` when nothing waits.
    pub fn pop(&mut self) -> Option<(usize, T)> {
        loop {
            let turn = *self.turns.front()?;
            let flow = &mut self.flows[turn];
            if !self.in_turn {
                flow.deficit = flow.deficit.saturating_add(flow.quantum);
                self.in_turn = true;
            }
            if let Some((bytes, item)) = flow.waiting.pop_front_if(|(bytes, _)| *bytes <= flow.deficit) {
                flow.deficit -= bytes;
                if flow.waiting.is_empty() {
                    // What an idle flow did not use is lost.
                    flow.deficit = 0;
                    self.turns.pop_front();
                    self.in_turn = false;
                }
                return Some((turn, item));
            }
            self.turns.rotate_left(1);
            self.in_turn = false;
        }
    }

    /// Packets of `flow` that wait; 0 if there is no such flow.
    #[must_use]
    pub fn waiting(&self, flow: usize) -> usize {
        self.flows.get(flow).map_or(0, |flow| flow.waiting.len())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::qos::jain;

    const QUANTUM: u64 = 1500;

    /// Packets are their sizes here.
    fn sent(drr: &mut DeficitRoundRobin<u64>, flows: usize, bytes: u64) -> Vec<u64> {
        let mut sent = vec![0; flows];
        while sent.iter().sum::<u64>() < bytes {
            let (flow, size) = drr.pop().expect("a backlog");
            sent[flow] += size;
        }
        sent
    }

    #[test]
    fn packets_of_a_flow_keep_their_order_and_small_ones_do_not_lose_to_large_ones() {
        let mut drr = DeficitRoundRobin::new([QUANTUM; 2]);
        (0..2).for_each(|n| drr.push(0, 1500, n));
        (10..70).for_each(|n| drr.push(1, 50, n));
        let mut order: Vec<_> = std::iter::from_fn(|| drr.pop()).collect();
        assert_eq!(drr.pop(), None);
        assert_eq!(order[0], (0, 0));
        assert_eq!(order[31], (0, 1), "30 packets of 50 bytes are one of 1500");
        order.sort_by_key(|&(flow, _)| flow);
        assert!(order.iter().map(|&(_, n)| n).eq((0..2).chain(10..70)));
    }

    #[test]
    fn the_share_of_an_idle_flow_goes_to_the_others_and_is_not_saved_up() {
        let mut drr = DeficitRoundRobin::new([QUANTUM; 3]);
        for _ in 0..4000 {
            drr.push(0, 1500, 1500);
            drr.push(1, 1500, 1500);
        }
        let two = sent(&mut drr, 3, 1000 * QUANTUM);
        assert_eq!(two, [500 * QUANTUM, 500 * QUANTUM, 0]);
        (0..1000).for_each(|_| drr.push(2, 1500, 1500));
        assert_eq!(sent(&mut drr, 3, 900 * QUANTUM), [300 * QUANTUM; 3]);
    }

    #[test]
    fn a_packet_larger_than_the_quantum_waits_its_rounds() {
        let mut drr = DeficitRoundRobin::new([100, 0]);
        drr.push(0, 1000, 0);
        (0..10).for_each(|_| drr.push(1, 1, 1));
        let order: Vec<_> = std::iter::from_fn(|| drr.pop()).map(|(flow, _)| flow).collect();
        assert_eq!(order, [1, 1, 1, 1, 1, 1, 1, 1, 1, 0, 1]);
        assert_eq!((drr.waiting(0), drr.waiting(7)), (0, 0));
    }

    proptest! {
        #[test]
        fn backlogged_flows_get_equal_parts(
            sizes in prop::collection::vec(prop::collection::vec(1..=QUANTUM, 1..8), 2..9),
        ) {
            let flows = sizes.len();
            let mut drr = DeficitRoundRobin::new(vec![QUANTUM; flows]);
            // Enough for a hundred rounds of all flows, whatever the sizes.
            for (flow, sizes) in sizes.iter().enumerate() {
                let mut backlog = 0;
                for &size in sizes.iter().cycle() {
                    drr.push(flow, size, size);
                    backlog += size;
                    if backlog > 110 * QUANTUM {
                        break;
                    }
                }
            }
            let sent = sent(&mut drr, flows, 100 * QUANTUM * flows as u64);
            let shares: Vec<_> = sent.iter().map(|&bytes| bytes as f64).collect();
            prop_assert!(jain(&shares) >= 0.99, "{sent:?}");
            // No starvation: a flow is behind its part by less than a quantum and the largest packet.
            prop_assert!(sent.iter().all(|&bytes| bytes + 2 * QUANTUM > 100 * QUANTUM), "{sent:?}");
        }

        #[test]
        fn everything_comes_out_once(packets in prop::collection::vec((0..5_usize, 0..=QUANTUM), 0..200)) {
            let mut drr = DeficitRoundRobin::new([QUANTUM; 5]);
            for (n, &(flow, size)) in packets.iter().enumerate() {
                drr.push(flow, size, n);
            }
            let mut out: Vec<_> = std::iter::from_fn(|| drr.pop()).collect();
            prop_assert!(out.iter().all(|&(flow, n)| packets[n].0 == flow));
            out.sort_unstable_by_key(|&(_, n)| n);
            prop_assert!(out.iter().map(|&(_, n)| n).eq(0..packets.len()));
        }
    }
}
