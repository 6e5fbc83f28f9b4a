//! The back end of one board: takes what is published in its shadow vrings, serves it, and uses it.

use iobond_model::cycle::Executor;

use super::{
    Seen,
    board_tasks::{BoardTasks, Job},
    network::Network,
};
use crate::{Notice, Service, Way, plan::BURST, random::Chance};

/// Has `executor` work for the back end of a board, and for the disk behind it if there is one.
pub(super) fn employ<'a>(executor: &mut Executor<'a>, tasks: &'a BoardTasks<'a>, network: &'a Network) {
    let (plan, number) = (tasks.plan, tasks.number);
    executor.serve(format!("board{number}: back end"), serve(tasks, network));
    if let Service::Disk { channels, .. } = plan.service {
        for channel in 0..channels {
            let chance = Chance::new(plan.seed, (number as u64) << 32 | 1 << 24 | u64::from(channel));
            let name = format!("board{number}: disk channel {channel}");
            executor.serve(name, work_at_disk(tasks, channel, chance));
        }
    }
}

/// How far the back end may look.
fn available(tasks: &BoardTasks<'_>, queue: usize) -> u16 {
    let lane = &tasks.lanes[queue];
    match tasks.plan.design.notice {
        _ if tasks.shared => lane.published.get(),
        Notice::Ring => lane.published.get(),
        // A read's completion does not pass what was written before it (PCIe 5.0, 2.4.1), so that what it
        // tells of is there.
        Notice::Registers | Notice::StatusPage => earlier(lane.told.get(), lane.published.get()),
    }
}

/// Of two free-running indices that are less than half a round apart, the one that is behind.
const fn earlier(one: u16, other: u16) -> u16 {
    if one.wrapping_sub(other) < 1 << 15 { other } else { one }
}

/// Serves the queues in turn, from memory or by handing requests to a disk or to the network, on a processor
/// of its own.
async fn serve(tasks: &BoardTasks<'_>, network: &Network) {
    let (clock, plan) = (tasks.clock, tasks.plan);
    let entry = plan.timing.back_end_entry;
    let receives = matches!(plan.service, Service::Network { way: Way::Receive { .. } });
    let mut taken = vec![0u16; tasks.lanes.len()];
    loop {
        let mut idle = true;
        for (queue, taken) in taken.iter_mut().enumerate() {
            let lane = &tasks.lanes[queue];
            // A burst, so that no queue keeps the others waiting.
            for _ in 0..BURST {
                if available(tasks, queue) == *taken || (receives && tasks.arrived.get() == 0) {
                    break;
                }
                idle = false;
                let head = tasks.offered_head(queue, *taken);
                *taken = taken.wrapping_add(1);
                let (number, from) = (lane.requests.taken(), clock.now());
                let request = lane.requests.take(from);
                tasks.check_frame(queue, head, number);
                clock.sleep(entry).await;
                tasks.tell(Seen::Served { queue, request, from });
                let job = Job { queue, request, head, number };
                match plan.service {
                    Service::Memory => tasks.finish(job),
                    Service::Disk { .. } => {
                        tasks.jobs.borrow_mut().push_back(job);
                        tasks.disk.give(clock);
                    }
                    Service::Network { way: Way::Transmit } => {
                        network.send(clock, tasks.number, plan.shape.out, job);
                    }
                    Service::Network { way: Way::Receive { .. } } => {
                        tasks.arrived.set(tasks.arrived.get() - 1);
                        tasks.finish(job);
                    }
                }
            }
        }
        if idle {
            tasks.back_end.wait(clock).await;
        }
    }
}

/// One channel of the disk: takes the request that waits longest, and is busy with it for its time.
async fn work_at_disk(tasks: &BoardTasks<'_>, channel: u16, mut chance: Chance) {
    let Service::Disk { fixed, random, .. } = tasks.plan.service else { return };
    loop {
        tasks.disk.take(tasks.clock).await;
        let Some(job) = tasks.jobs.borrow_mut().pop_front() else { continue };
        let from = tasks.clock.now();
        tasks.clock.sleep(fixed + chance.exponential(random)).await;
        tasks.tell(Seen::Disk { channel, queue: job.queue, request: job.request, from });
        tasks.finish(job);
    }
}
