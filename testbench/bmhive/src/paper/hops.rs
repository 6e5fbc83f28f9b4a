//! Accesses to registers.

use iobond_model::cycle::Span;
use results::report::quantity;
use simulation::{BenchError, Design, Plan, cycle::accesses};

use super::{Row, plan};

/// The paper's: a board's access to IO-Bond.
const ACCESS: Span = Span::from_ns(800);
/// The paper's: from there to the mailbox, another.
const HOP: Span = Span::from_ns(800);
/// The paper's: an access that the base answers.
const FORWARDED: Span = Span::from_ns(1600);

pub(super) fn rows() -> Result<Vec<Row>, BenchError> {
    let polled = accesses(&plan())?;
    let page = accesses(&Plan { design: Design::default(), ..plan() })?;
    let ns = |span: Span| span.as_ns();
    let row = |figure, published, ours, how| Row::new(figure, "ns", Some(ns(published)), ns(ours), how);
    Ok(vec![
        row(
            "register of IO-Bond, read by the board",
            ACCESS,
            polled.local,
            "reads of a function's ISR byte, simulated",
        )
        .calibrated(),
        row(
            "another hop: register of IO-Bond, read by the base",
            HOP,
            polled.base,
            "reads of the mailbox's request register, simulated",
        )
        .calibrated(),
        row(
            "forwarded access, base sees the mailbox in its status page",
            FORWARDED,
            page.forwarded,
            "reads of a function's common configuration, which bm-hypervisor's pass notices and answers",
        ),
        row(
            "forwarded access, base polls the mailbox's registers",
            FORWARDED,
            polled.forwarded,
            "the same with register polling and one queue; mean over passes at any moment",
        )
        .because(format!(
            "1.6 us are two hops and no waiting. Here a request waits for the pass to come round to its mailbox; request, offset and \
             data are three registers, hence three hops one after the other. The quickest access took {}.",
            quantity(ns(polled.quickest), "ns")
        )),
    ])
}
