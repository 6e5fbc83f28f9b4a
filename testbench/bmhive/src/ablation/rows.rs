//! Which simulations there are.

use bm_hypervisor::config::RingSizes;
use iobond_model::{cycle::Span, timing::Engine};
use simulation::{Design, Notice, Plan, Shape};

use super::{PAPER, PROPOSED};

/// One simulation, and what is different in it.
#[derive(Clone, Debug, PartialEq)]
pub struct Row {
    /// For figures: no spaces.
    pub key: String,
    /// For people: what is changed.
    pub name: String,
    /// What it is changed of: the name of another row, or nothing.
    pub of: &'static str,
    /// What is simulated, with the change.
    pub plan: Plan,
}

/// What this project proposes: back ends that poll their vrings, doorbells that say how far, and engines that
/// look at a guest's ring every 250 ns for a while after it had something, at index, entries and descriptors
/// together.
#[must_use]
pub fn proposed() -> Plan {
    let mut plan = Plan { design: Design::default(), ..Plan::default() };
    plan.timing.engine =
        Engine { entries_ahead: 4, descriptors_ahead: 4, watch: Span::from_ns(250), ..Engine::default() };
    plan
}

/// A request of 4 KiB there and back, in slots of 2 KiB.
const LARGE: &str = "4 KiB there and back";

struct Rows(Vec<Row>);

impl Rows {
    fn add(&mut self, key: &str, name: &str, of: &'static str, plan: Plan) {
        self.0.push(Row { key: key.to_owned(), name: name.to_owned(), of, plan });
    }

    /// One change of the row that is called `of`.
    fn change(&mut self, key: &str, name: &str, of: &'static str, change: impl FnOnce(&mut Plan)) {
        let base = self.0.iter().find(|row| row.name == of).map(|row| row.plan.clone());
        let mut plan = base.unwrap_or_default();
        change(&mut plan);
        self.add(key, name, of, plan);
    }
}

/// All simulations, in the order of the table.
#[must_use]
pub fn rows() -> Vec<Row> {
    let mut rows = Rows(Vec::new());
    rows.add("paper", PAPER, "", Plan { design: Design::PAPER, ..Plan::default() });
    of_the_paper(&mut rows);
    rows.add("proposed", PROPOSED, "", proposed());
    of_the_proposed(&mut rows);
    rows.add("large", LARGE, PROPOSED, Plan { shape: Shape { out: 4096, back: 4096 }, ..proposed() });
    for slot_size in [256, 1024, 4096, 16384] {
        rows.change(&format!("slots.{slot_size}"), &format!("slots of {slot_size} bytes"), LARGE, |plan| {
            // As much memory as before.
            let memory = RingSizes::NET.slot_size * u32::from(RingSizes::NET.slots);
            plan.rings.slots = u16::try_from(memory / slot_size).unwrap_or(u16::MAX);
            plan.rings.slot_size = slot_size;
        });
    }
    rows.0
}

fn of_the_paper(rows: &mut Rows) {
    rows.change("paper.status_page", "status page polled, not registers", PAPER, |plan| {
        plan.design.notice = Notice::StatusPage;
    });
    rows.change("paper.ring", "back ends poll their vrings", PAPER, |plan| plan.design.notice = Notice::Ring);
    rows.change("paper.notification_data", "NOTIFICATION_DATA", PAPER, |plan| {
        plan.design.notification_data = true
    });
    rows.change("paper.entries_ahead", "index and entries read together", PAPER, |plan| {
        plan.timing.engine.entries_ahead = 16;
    });
    rows.change("paper.descriptors_ahead", "index, entries and descriptors read together", PAPER, |plan| {
        (plan.timing.engine.entries_ahead, plan.timing.engine.descriptors_ahead) = (16, 16);
    });
    for prefetch in [1, 4, 8] {
        let name = format!("descriptors read {prefetch} at a time, not 16");
        rows.change(&format!("paper.prefetch.{prefetch}"), &name, PAPER, |plan| {
            plan.timing.engine.prefetch = prefetch
        });
    }
    for channels in [1, 2] {
        let name = format!("{channels} of 8 DMA channels");
        rows.change(&format!("paper.channels.{channels}"), &name, PAPER, |plan| {
            plan.timing.dma.channels = channels
        });
    }
    for reads in [4, 16] {
        let name = format!("{reads} reads outstanding, not 64");
        rows.change(&format!("paper.reads.{reads}"), &name, PAPER, |plan| plan.timing.dma.reads = reads);
    }
}

fn of_the_proposed(rows: &mut Rows) {
    rows.change("proposed.no_watch", "rings not watched", PROPOSED, |plan| {
        plan.timing.engine.watch = Span::ZERO
    });
    for watch in [100, 1000] {
        let name = format!("rings looked at every {watch} ns, not 250");
        rows.change(&format!("proposed.watch.{watch}"), &name, PROPOSED, |plan| {
            plan.timing.engine.watch = Span::from_ns(watch);
        });
    }
    rows.change("proposed.event_idx", "notifications suppressed by index", PROPOSED, |plan| {
        plan.design.event_idx = true
    });
    rows.change("proposed.polled", "a driver that polls", PROPOSED, |plan| plan.design.interrupts = false);
    for moderation in [5, 20] {
        let name = format!("interrupts {moderation} us apart at least");
        rows.change(&format!("proposed.moderation.{moderation}"), &name, PROPOSED, |plan| {
            plan.timing.engine.moderation = Span::from_us(moderation);
        });
    }
    for pass in [100, 1000] {
        let name = format!("a poll pass of {pass} ns, not 18.9");
        rows.change(&format!("proposed.pass.{pass}"), &name, PROPOSED, |plan| {
            plan.timing.poll.pass = Span::from_ns(pass)
        });
    }
}
