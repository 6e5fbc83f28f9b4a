//! The back end of one board: takes what is published in its shadow vrings, serves it, and uses it.

use iobond_model::cycle::Executor;

use super::{Seen, network::Network, station::Station};
use crate::{Notice, Plan, Service, Way, plan::BURST, random::Chance};

/// Has `executor` work for the back end of board `number`, and for the disk behind it if there is one.
pub(super) fn employ<'a>(
    executor: &mut Executor<'a>,
    plan: &'a Plan,
    number: usize,
    station: &'a Station<'a>,
    network: &'a Network,
) {
    executor.serve(format!("board{number}: back end"), serve(plan, station, network, number));
    if let Service::Disk { channels, .. } = plan.service {
        for channel in 0..channels {
            let chance = Chance::new(plan.seed, (number as u64) << 32 | 1 << 24 | u64::from(channel));
            let name = format!("board{number}: disk channel {channel}");
            executor.serve(name, work_at_disk(plan, station, channel, chance));
        }
    }
}

/// How far the back end may look.
fn available(plan: &Plan, station: &Station<'_>, queue: usize) -> u16 {
    let lane = &station.lanes[queue];
    match plan.design.notice {
        _ if station.shared => lane.published.get(),
        _ if station.shared => lane.published.get(),
        Notice::Ring => lane.published.get(),
        // A read's completion does not pass what was written before it (PCIe 5.0, 2.4.1), so that what it tells of is there.
        Notice::Registers | Notice::StatusPage => earlier(lane.told.get(), lane.published.get()),
    }
}

/// Of two free-running indices that are less than half a round apart, the one that is behind.
const fn earlier(one: u16, other: u16) -> u16 {
    if one.wrapping_sub(other) < 1 << 15 { other } else { one }
}

/// Serves the queues in turn, from memory or by handing requests to a disk or to the network, on a processor of its own.
async fn serve(plan: &Plan, station: &Station<'_>, network: &Network, board: usize) {
    let (clock, entry) = (station.clock, plan.timing.back_end_entry);
    let receives = matches!(plan.service, Service::Network { way: Way::Receive { .. } });
    let mut taken = vec![0u16; station.lanes.len()];
    loop {
        let mut idle = true;
        for (queue, taken) in taken.iter_mut().enumerate() {
            let lane = &station.lanes[queue];
            // A burst, so that no queue keeps the others waiting.
            for _ in 0..BURST {
                if available(plan, station, queue) == *taken || (receives && station.arrived.get() == 0) {
                    break;
                }
                idle = false;
                let head = station.offered_head(queue, *taken);
                *taken = taken.wrapping_add(1);
                let (number, from) = (lane.requests.taken(), clock.now());
                let request = lane.requests.take(from);
                if let Some(frames) = &station.frames {
                    frames.check(station, queue, head, number);
                }
                clock.sleep(entry).await;
                station.tell(Seen::Served { queue, request, from });
                let job = Job { queue, request, head, number };
                match plan.service {
                    Service::Memory => finish(plan, station, job),
                    Service::Disk { .. } => {
                        station.jobs.borrow_mut().push_back(job);
                        station.disk.give(clock);
                    }
                    Service::Network { way: Way::Transmit } => {
                        network.send(clock, board, plan.shape.out, job);
                    }
                    Service::Network { way: Way::Receive { .. } } => {
                        station.arrived.set(station.arrived.get() - 1);
                        finish(plan, station, job);
                    }
                }
            }
        }
        if idle {
            station.back_end.wait(clock).await;
        }
    }
}

/// Uses a chain.
pub(super) fn finish(plan: &Plan, station: &Station<'_>, job: Job) {
    let Job { queue, request, head, number } = job;
    let requests = &station.lanes[queue].requests;
    if let Some(frames) = &station.frames {
        frames.answer(station, queue, head, number);
    }
    station.tell(Seen::Used { queue, request });
    let index = requests.used() as u16;
    requests.finish(request, station.clock.now());
    station.use_shadow(queue, index, head, plan.shape.back);
}

/// One channel of the disk: takes the request that waits longest, and is busy with it for its time.
async fn work_at_disk(plan: &Plan, station: &Station<'_>, channel: u16, mut chance: Chance) {
    let Service::Disk { fixed, random, .. } = plan.service else { return };
    loop {
        station.disk.take(station.clock).await;
        let Some(job) = station.jobs.borrow_mut().pop_front() else { continue };
        let from = station.clock.now();
        station.clock.sleep(fixed + chance.exponential(random)).await;
        station.tell(Seen::Disk { channel, queue: job.queue, request: job.request, from });
        finish(plan, station, job);
    }
}

/// A request that the back end has taken, and that waits for the disk or for its turn on the network.
#[derive(Clone, Copy, Debug)]
pub(super) struct Job {
    queue: usize,
    request: u16,
    head: u16,
    /// As which it was made.
    number: u64,
}
