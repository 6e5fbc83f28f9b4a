//! `bmhive bench guest`: what a stock Linux gets from IO-Bond, beside what the very same guest gets from
//! QEMU's own devices.
//!
//! ```text
//!   one guest --+-- IO-Bond, bm-hypervisor == vhost-blk -- image A
//!               +-- QEMU's vhost-user-blk ==== vhost-blk -- image B
//!               +-- QEMU's virtio-blk ------------------- image C      (A, B and C hold the same bytes)
//! ```
//!
//! Each disk takes its turn at each job, round by round, so that whatever else the machine does falls on all
//! of them. In TCG most of what is measured is the translated guest's own work; the rows compare paths, and
//! are not latencies of IO-Bond.

mod machine;
mod shell;

use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use bmhive_server::{
    Served,
    guest::{Accelerator, GuestFiles},
};
use results::{
    Figure,
    measure::{CpuMeter, Worker},
};
use scenario::Scenario;

use self::{
    machine::{Running, Workshop},
    shell::Shell,
};
use super::{OwnBackEnd, median};
use crate::workload::WorkloadError;

/// Bytes of each disk.
const DISK_MIB: usize = 128;
/// Rounds of each job on each disk, and of each kind of boot.
const ROUNDS: usize = 5;
/// Seconds of a job in one round.
const SECONDS: u32 = 2;
/// How long one run of fio may take; it is translated, too.
const FIO_TIMEOUT: Duration = Duration::from_secs(60);
/// How long a board is left alone, and then watched, for its idle cost.
const SETTLE: Duration = Duration::from_secs(5);
const WATCH: Duration = Duration::from_secs(20);
/// What the disks are called in the guest.
const DISKS: [&str; 3] = ["iobond", "vhostuser", "own"];
/// A figure and what fio does for it.
const JOBS: [(&str, &str); 6] = [
    ("read.1m.qd1", "--rw=read --bs=1m --iodepth=1"),
    ("write.1m.qd1", "--rw=write --bs=1m --iodepth=1"),
    ("randread.4k.qd1", "--rw=randread --bs=4k --iodepth=1"),
    ("randwrite.4k.qd1", "--rw=randwrite --bs=4k --iodepth=1"),
    ("randread.4k.qd32", "--rw=randread --bs=4k --iodepth=32"),
    ("randwrite.4k.qd32", "--rw=randwrite --bs=4k --iodepth=32"),
];

/// Measures disks, boot and idle cost.
///
/// # Errors
/// Whatever keeps a board from running, or fio from ending well.
pub fn run(
    program: &Path,
    files: &GuestFiles,
    accelerator: Accelerator,
) -> Result<Vec<Figure>, WorkloadError> {
    let workshop = Workshop { files, accelerator, program };
    let mut figures = disks(&workshop)?;
    figures.extend(boots(&workshop)?);
    Ok(figures)
}

fn file_error(path: &Path) -> impl Fn(std::io::Error) -> WorkloadError + use<> {
    let path = path.to_owned();
    move |source| WorkloadError::File { path: path.clone(), source }
}

/// A directory with the disks' images, which hold the same random bytes.
fn images() -> Result<tempfile::TempDir, WorkloadError> {
    let temporary = tempfile::Builder::new().prefix("bmhive-bench-").tempdir();
    let directory = temporary.map_err(file_error(&std::env::temp_dir()))?;
    let mut contents = vec![0; DISK_MIB << 20];
    fastrand::Rng::with_seed(super::SEED).fill(&mut contents);
    for disk in DISKS {
        let path = directory.path().join(disk);
        fs::write(&path, &contents).map_err(file_error(&path))?;
    }
    Ok(directory)
}

/// One board with a console, and with a disk and a network card where they are wanted.
fn scenario(functions: &str) -> Result<Scenario, WorkloadError> {
    super::scenario(&format!(
        "[server]\nname = \"bench guest\"\n[[board]]\nname = \"board\"\nmemory_mib = 512\n[board.guest]\n\
         [[board.function]]\nkind = \"console\"\n{functions}"
    ))
}

fn serve(scenario: &Scenario, workshop: &Workshop<'_>, directory: &Path) -> Result<Served, WorkloadError> {
    Ok(Served::start(scenario, workshop.program, directory, &|| false)?)
}

fn terminal_of(served: &Served) -> PathBuf {
    served.boards()[0].terminal().map(Path::to_owned).unwrap_or_default()
}

fn disks(workshop: &Workshop<'_>) -> Result<Vec<Figure>, WorkloadError> {
    let images = images()?;
    let image = |disk: &str| images.path().join(disk);
    let blk = format!(
        "[[board.function]]\nkind = \"blk\"\nimage = {:?}\nserial = \"iobond\"\n",
        image("iobond").display().to_string()
    );
    let scenario = scenario(&blk)?;
    let world = tempfile::tempdir().map_err(file_error(&std::env::temp_dir()))?;
    let served = serve(&scenario, workshop, world.path())?;
    let beside = OwnBackEnd::start(workshop.program, 1, |directory| {
        let words = ["blk", "--serial", "vhostuser", "--socket"].map(std::ffi::OsString::from);
        let [socket, image] = [directory.join("blk.sock"), image("vhostuser")].map(Into::into);
        Ok([&words[..], &[socket, "--image".into(), image]].concat())
    })?;
    let extra = |_: &Path| {
        let vhost_user = format!("socket,id=beside,path={}", beside.path("blk.sock").display());
        let own = format!("if=none,id=own,format=raw,file={}", image("own").display());
        [
            "-chardev",
            &vhost_user,
            "-device",
            "vhost-user-blk-pci,chardev=beside,num-queues=1,queue-size=256",
            "-drive",
            &own,
            "-device",
            "virtio-blk-pci,drive=own,serial=own,num-queues=1,queue-size=256",
        ]
        .map(Into::into)
        .into()
    };
    let mut board = workshop.boot(&scenario, Some(&served), extra, |_| terminal_of(&served))?;
    let devices = find_disks(&mut board.shell)?;
    let mut figures = Vec::new();
    for (name, job) in JOBS {
        figures.extend(compare(&mut board, &devices, name, job)?);
    }
    Ok(figures)
}

/// The device of each of [`DISKS`], by its serial number.
fn find_disks(shell: &mut Shell) -> Result<[String; 3], WorkloadError> {
    let mut devices = [const { String::new() }; 3];
    for (device, disk) in devices.iter_mut().zip(DISKS) {
        let found = shell.run(&format!("grep -lx {disk} /sys/block/vd*/serial"), FIO_TIMEOUT);
        let found = found.map_err(in_guest)?;
        let name = found.trim().split('/').nth(3).unwrap_or_default();
        *device = format!("/dev/{name}");
    }
    Ok(devices)
}

fn in_guest(source: std::io::Error) -> WorkloadError {
    WorkloadError::Guest { board: "board".into(), source }
}

/// One job on every disk in turns: IO-Bond's median beside each of the others'.
fn compare(
    board: &mut Running,
    devices: &[String; 3],
    name: &str,
    job: &str,
) -> Result<[Figure; 2], WorkloadError> {
    let (mut rates, mut shares) = ([const { Vec::new() }; 3], Vec::new());
    for _ in 0..ROUNDS {
        for (rates, device) in rates.iter_mut().zip(devices) {
            let meter = CpuMeter::start(Worker::Process(board.qemu.pid())).map_err(WorkloadError::Meter)?;
            rates.push(fio(&mut board.shell, device, job)?);
            shares.push(meter.share().map_err(WorkloadError::Meter)?);
        }
    }
    let [mut io_bond, mut vhost_user, mut own] = rates;
    let bytes = median(&mut io_bond);
    let figure = |baseline: &str, value: f64, share| {
        Figure::new(&format!("guest.{name}"), bytes, "B/s", Some(share)).beside(baseline, value)
    };
    let share = median(&mut shares);
    Ok([
        figure("QEMU's vhost-user-blk, same back end", median(&mut vhost_user), share),
        figure("QEMU's virtio-blk", median(&mut own), share),
    ])
}

/// Bytes per second of one job, as fio counts them.
fn fio(shell: &mut Shell, device: &str, job: &str) -> Result<f64, WorkloadError> {
    let command = format!(
        "fio --name=job --filename={device} --direct=1 --ioengine=libaio --time_based --runtime={SECONDS} \
         --randseed=1 --output-format=terse --terse-version=3 {job}"
    );
    let said = shell.run(&command, FIO_TIMEOUT).map_err(in_guest)?;
    let line = said.lines().find(|line| line.starts_with("3;")).unwrap_or_default();
    let fields: Vec<&str> = line.split(';').collect();
    // KiB and milliseconds, of reads and of writes (fio(1), "Terse output").
    let number = |at: usize| fields.get(at).and_then(|field| field.parse::<f64>().ok()).unwrap_or(0.0);
    let (kibibytes, milliseconds) = (number(5) + number(46), number(8) + number(49));
    if milliseconds > 0.0 {
        Ok(kibibytes * 1024.0 / (milliseconds / 1000.0))
    } else {
        Err(in_guest(std::io::Error::other(said)))
    }
}

/// A card's function, or QEMU's.
const NET: &str = "[[board.function]]\nkind = \"net\"\nmac = \"52:54:00:10:0b:00\"\n";

/// Boots with IO-Bond's functions and with QEMU's, in turns; and what an idle board with IO-Bond's costs the
/// base.
fn boots(workshop: &Workshop<'_>) -> Result<Vec<Figure>, WorkloadError> {
    let images = images()?;
    let image = |disk: &str| images.path().join(disk).display().to_string();
    let blk = format!("[[board.function]]\nkind = \"blk\"\nimage = {:?}\n", image("iobond"));
    let scenario = scenario(&[&blk, NET].concat())?;
    let own = |directory: &Path| {
        let drive = format!("if=none,id=own,format=raw,file={}", image("own"));
        let terminal = format!("socket,id=term,server=on,wait=off,path={}", directory.join("term").display());
        [
            ["-drive", &drive],
            ["-device", "virtio-blk-pci,drive=own"],
            ["-netdev", "hubport,hubid=0,id=net"],
            ["-device", "virtio-net-pci,netdev=net"],
            ["-chardev", &terminal],
            ["-device", "virtio-serial-pci"],
            ["-device", "virtconsole,chardev=term"],
        ]
        .concat()
        .into_iter()
        .map(Into::into)
        .collect()
    };
    let (mut ours, mut theirs, mut figures) = (Vec::new(), Vec::new(), Vec::new());
    for round in 0..ROUNDS {
        // Anew each time: a console shows what it has seen, "ready" among it.
        let world = tempfile::tempdir().map_err(file_error(&std::env::temp_dir()))?;
        let served = serve(&scenario, workshop, world.path())?;
        let board = workshop.boot(&scenario, Some(&served), |_| Vec::new(), |_| terminal_of(&served))?;
        ours.push(board.boot.as_secs_f64());
        if round == 0 {
            figures.push(idle(&served)?);
        }
        drop((board, served));
        let board = workshop.boot(&scenario, None, own, |directory| directory.join("term"))?;
        theirs.push(board.boot.as_secs_f64());
    }
    let boot = Figure::new("guest.boot", median(&mut ours), "s", None);
    figures.insert(0, boot.beside("QEMU's own devices", median(&mut theirs)));
    Ok(figures)
}

/// Processor time of IO-Bond, hypervisor and back ends while a board idles, as a share of one core.
fn idle(served: &Served) -> Result<Figure, WorkloadError> {
    std::thread::sleep(SETTLE);
    let start = |worker| CpuMeter::start(worker).map_err(WorkloadError::Meter);
    let back_ends = served.back_ends().map(|(_, process)| Worker::Process(process.pid()));
    let meters = back_ends.chain([Worker::ThisProcess]).map(start).collect::<Result<Vec<_>, _>>()?;
    std::thread::sleep(WATCH);
    let shares = meters.iter().map(|meter| meter.share().map_err(WorkloadError::Meter));
    let cores = shares.sum::<Result<f64, _>>()?;
    Ok(Figure::new("guest.idle", 100.0 * cores, "% of a core", None).beside("what was asked for", 3.0))
}
