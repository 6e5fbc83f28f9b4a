//! `bmhive bench blk`: 4 KiB random reads through an IO-Bond, and by the same driver directly on the same
//! kind of back end.

use std::{fs::File, path::Path, rc::Rc};

use bmhive_server::Live;
use results::{Figure, measure::per_second};
use software_board::{
    blk::Blk,
    bus::Bus,
    direct::DeviceConfig,
    memory::DmaMemory,
    pci,
    transport::{BoardTransport, PciTransport},
};
use virtio_drivers::transport::DeviceType;

use super::{Bare, OwnBackEnd, Paired, RINGS, ROUND, SEED, scenario};
use crate::workload::{Watch, WorkloadError, disk::random_reads};

const SCENARIO: &str = r#"
[server]
name = "bench blk"
execution = "inline"
[[board]]
name = "board"
memory_mib = 64
[[board.function]]
kind = "blk"
size_mib = 256
"#;

/// Bytes of the baseline's disk, as in the scenario.
const DISK: u64 = 256 << 20;

/// Runs the bench.
///
/// # Errors
/// [`WorkloadError`].
pub fn run(program: &Path) -> Result<Vec<Figure>, WorkloadError> {
    let scenario = scenario(SCENARIO)?;
    let live = Live::start(&scenario, program, Path::new(""), None)?;
    let board = live.boards().first().ok_or(WorkloadError::Needs("a board"))?;
    let memory = DmaMemory::new(board.bus.memory())?;
    let function = pci::enumerate(&*board.bus)?.pop().ok_or(WorkloadError::Needs("a disk"))?;
    let mut through = Blk::<_>::new(PciTransport::new(Rc::clone(&board.bus), function)?, &memory, RINGS)?;

    let back_end = OwnBackEnd::start(program, 1, |directory| {
        let image = directory.join("disk.img");
        File::create(&image)?.set_len(DISK)?;
        Ok(vec![
            "blk".into(),
            "--socket".into(),
            directory.join("disk.sock").into(),
            "--image".into(),
            image.into(),
        ])
    })?;
    let bare = Bare::new()?;
    let transport =
        bare.connect(&back_end.path("disk.sock"), DeviceType::Block, 1, 0, DeviceConfig::BackEnd)?;
    let mut direct = Blk::<_>::new(transport, &bare.memory, RINGS)?;

    let healthy = || live.failure().map_or(Ok(()), |failure| Err(failure.into()));
    [1, 32]
        .into_iter()
        .map(|depth| {
            let paired = Paired::measure(
                || round(&mut through, depth, &healthy),
                || round(&mut direct, depth, &|| Ok(())),
            )?;
            let name = format!("blk.randread.4k.qd{depth}");
            Ok(paired.figure(&name, "reads/s", "same driver on the back end, no IO-Bond"))
        })
        .collect()
}

fn round<T: BoardTransport>(
    disk: &mut Blk<T>,
    depth: u16,
    healthy: &dyn Fn() -> Result<(), WorkloadError>,
) -> Result<f64, WorkloadError> {
    let mut watch = Watch::new("random reads", healthy);
    let measured = random_reads(disk, depth, ROUND, SEED, None, &mut watch, |_, _| {})?;
    Ok(per_second(measured.latency.count(), measured.elapsed))
}
