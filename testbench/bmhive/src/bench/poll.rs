//! `bmhive bench poll`: what a bm-hypervisor's poll pass costs, on one core and with nothing else on it.
//!
//! ```text
//!   two disks of 16 queues each on one IO-Bond, a driver that sets them up and then does nothing:
//!     pass          all 32 queues are idle             beside as many loads of as many cache lines
//!     per entry     their used indices move, as back ends move them; TAIL writes reach the IO-Bond, which
//!                   no thread polls
//! ```

use std::{
    hint::black_box,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use bm_hypervisor::{
    Poller,
    config::{BackEndConfig, BlkConfig, BoardConfig, FunctionConfig},
};
use iobond_model::{
    device::Access,
    fabric::{Fabric, ready},
    live::{BoardMemory, Bond, Memory},
};
use iobond_spec::{
    address::{BaseAddr, FunctionId},
    function::COMMON,
    offsets::queues,
    register_access::RegisterIo,
    ring::split::IDX,
};
use model_port::ModelPort;
use results::Figure;
use software_board::memory;

use super::{OwnBackEnd, Paired};
use crate::workload::WorkloadError;

/// Disks, and queues of each.
const DISKS: usize = 2;
const QUEUES: u16 = 16;
const ALL: usize = DISKS * QUEUES as usize;
/// What is in a back end's directory.
const SOCKET: &str = "disk.sock";
const IMAGE: &str = "disk.img";
/// Descriptors of each guest ring, and board memory between two of them.
const RING: u16 = 64;
const SPACING: u64 = 0x4000;
/// Used entries that a back end has ready at a time: one, so that each costs a TAIL write.
const BATCH: u16 = 1;
/// Nanoseconds that an entry may take. Our own choice: less than half of what the paper's FPGA takes for a
/// packet, at 16 M/s (BM-Hive, ASPLOS 2020, section 4.3).
const BUDGET: f64 = 30.0;
/// How long one round takes.
const ROUND: Duration = Duration::from_millis(200);
/// Passes between two looks at the clock.
const PASSES: u32 = 1000;

/// Runs the bench.
///
/// # Errors
/// [`WorkloadError`].
pub fn run(program: &Path) -> Result<Vec<Figure>, WorkloadError> {
    let back_end = |_| {
        OwnBackEnd::start(program, 1, |directory| {
            let [image, socket] = [IMAGE, SOCKET].map(|name| directory.join(name));
            std::fs::File::create(&image)?.set_len(1 << 20)?;
            let words = ["blk".into(), "--queues".into(), QUEUES.to_string().into(), "--socket".into()];
            Ok(words.into_iter().chain([socket.into(), "--image".into(), image.into()]).collect())
        })
    };
    let back_ends = (0..DISKS).map(back_end).collect::<Result<Vec<_>, _>>()?;
    Board::start(&back_ends)?.measure()
}

/// A board whose queues all run.
struct Board {
    poller: Poller<ModelPort>,
    bond: Arc<Bond>,
    /// Where each queue's used index is.
    used: Vec<BaseAddr>,
    _control: bm_hypervisor::Control,
}

impl Board {
    fn start(back_ends: &[OwnBackEnd]) -> Result<Self, WorkloadError> {
        let bond = Arc::new(Bond::new(Arc::new(())));
        let memory = memory::create(super::BOARD_MIB)?;
        bond.map_board_memory(&memory).map_err(rig_error)?;
        let functions = back_ends.iter().map(|back_end| {
            let mut blk = BlkConfig::new(BackEndConfig::new(back_end.path(SOCKET)));
            blk.queues = QUEUES;
            FunctionConfig::Blk(blk)
        });
        let config = BoardConfig::new("bench", functions.collect());
        let port = Arc::new(ModelPort(Arc::clone(&bond)));
        let (mut poller, control) = bm_hypervisor::start(config, port).map_err(rig_error)?;
        for disk in FunctionId::all().take(DISKS) {
            bring_up(&bond, disk, &mut || {
                poller.pass();
            });
        }
        if poller.queues() != ALL {
            return Err(WorkloadError::Count { what: "queues run", found: poller.queues(), expected: ALL });
        }
        let used = (0..ALL as u32).map(|queue| {
            let register = |at| u64::from(bond.read32(queues::BASE + queue * queues::STRIDE + at));
            BaseAddr(register(queues::SHADOW_USED_LO) | register(queues::SHADOW_USED_HI) << 32)
                .wrapping_add(IDX)
        });
        let used = used.collect();
        Ok(Self { poller, bond, used, _control: control })
    }

    fn measure(mut self) -> Result<Vec<Figure>, WorkloadError> {
        let lines: Vec<_> = (0..2 * ALL).map(|_| Line::default()).collect();
        let idle = Paired::measure(
            || {
                Ok(nanoseconds(|| {
                    black_box(self.poller.pass());
                }))
            },
            || {
                Ok(nanoseconds(|| {
                    lines.iter().for_each(|line| {
                        black_box(line.0.load(Ordering::Acquire));
                    });
                }))
            },
        )?;
        let idle = idle.figure("poll.pass.32", "ns", "64 loads of cache lines of their own");
        let entries = Paired::measure(|| self.entries(), || Ok(BUDGET))?;
        Ok(vec![idle, entries.figure("poll.entry", "ns", "budget of 30 ns")])
    }

    /// Nanoseconds of a pass for each used entry, in passes that find [`BATCH`] in every queue.
    fn entries(&mut self) -> Result<f64, WorkloadError> {
        let (mut passed, mut count, start) = (Duration::ZERO, 0u64, Instant::now());
        while start.elapsed() < ROUND {
            self.use_all()?;
            let begun = Instant::now();
            let returned = self.poller.pass().returned;
            passed += begun.elapsed();
            if returned as usize != ALL {
                let found = returned as usize;
                return Err(WorkloadError::Count { what: "entries were returned", found, expected: ALL });
            }
            count += u64::from(BATCH) * ALL as u64;
        }
        Ok(passed.as_nanos() as f64 / count as f64)
    }

    /// The back ends use [`BATCH`] entries of every queue.
    fn use_all(&self) -> Result<(), WorkloadError> {
        // They reach no board memory.
        let board = BoardMemory::default();
        let (board, base) = (board.lease(), self.bond.base_memory().lease());
        let memory = Memory::new(&board, &base, &());
        self.used.iter().try_for_each(|at| {
            let index = ready(memory.load((*at).into())).map_err(rig_error)?;
            ready(memory.store((*at).into(), index.wrapping_add(BATCH))).map_err(rig_error)
        })
    }
}

fn rig_error(error: impl std::error::Error + Send + Sync + 'static) -> WorkloadError {
    WorkloadError::bench("the board of the bench")(error)
}

/// Something in a cache line of its own, as a HEAD and a used index are.
#[derive(Default)]
#[repr(align(64))]
struct Line(AtomicU64);

/// Nanoseconds that `work` takes, on average over a round.
fn nanoseconds(mut work: impl FnMut()) -> f64 {
    let (mut count, start) = (0u64, Instant::now());
    while start.elapsed() < ROUND {
        (0..PASSES).for_each(|_| work());
        count += u64::from(PASSES);
    }
    start.elapsed().as_nanos() as f64 / count as f64
}

/// Sets all queues of a function up as a driver does (virtio 1.3, 3.1.1 and 4.1.4.3).
fn bring_up(bond: &Bond, function: FunctionId, wait: &mut dyn FnMut()) {
    let mut set = |offset: u32, width: u8, value: u32| {
        bond.access(Access::BarWrite { function, offset: COMMON + offset, width, value }, wait);
    };
    let (select_features, features, status) = (0x08, 0x0C, 0x14);
    let (select_queue, size, enable, addresses) = (0x16, 0x18, 0x1C, [0x20, 0x28, 0x30]);
    [1, 3].into_iter().for_each(|value| set(status, 1, value));
    set(select_features, 4, 1);
    set(features, 4, 1);
    set(status, 1, 0xB);
    for queue in 0..QUEUES {
        let place = (function.index() as u64 * u64::from(QUEUES) + u64::from(queue) + 1) * SPACING;
        set(select_queue, 2, queue.into());
        set(size, 2, RING.into());
        for (part, at) in addresses.into_iter().enumerate() {
            let address = place + part as u64 * 0x1000;
            set(at, 4, address as u32);
            set(at + 4, 4, (address >> 32) as u32);
        }
        set(enable, 2, 1);
    }
    set(status, 1, 0xF);
    // A read passes no write: what was written has been carried out.
    bond.access(Access::BarRead { function, offset: COMMON + status, width: 1 }, wait);
}
