//! Serving a board until a signal says that it is enough.

use std::{
    io::{self, Read},
    os::{
        fd::{AsRawFd, RawFd},
        unix::net::UnixStream,
    },
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use super::{
    confine::{Seccomp, confine},
    kept::{Inherited, ServiceManager},
};
use bm_hypervisor::{
    BoardState, Control, Poller,
    api::Server,
    config::{BoardConfig, PortConfig},
    keep::{Keeper, SavedFds},
    logging::LogLevel,
    machine::Cores,
    placement::{Placement, PlacementError, Taken},
    pool::IOVA,
    port::{Port, open::OpenPort},
};
use miette::{Context, IntoDiagnostic};
use rustix::fs::fstat;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use vmm_sys_util::epoll::{ControlOperation, Epoll, EpollEvent, EventSet};

/// Passes without work between two looks at the clock and at what ends the program.
const LOOK_EVERY: u32 = 4096;
/// Milliseconds of the longest sleep: how late a failure of the board is noticed by an idle program.
const LONGEST_SLEEP_MS: i32 = 500;

/// What the poll thread does when there is nothing to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rest {
    /// It looks again, always.
    Never,
    /// It sleeps when nothing happened for so long.
    After(Duration),
}

/// How a board is served.
#[derive(Clone, Debug)]
pub struct Options {
    /// What the poll thread does when there is nothing to do.
    pub rest: Rest,
    /// Who to become once everything is open.
    pub user: Option<String>,
    /// What happens to system calls that serving does not make.
    pub seccomp: Seccomp,
}

/// Serves the board of `config` until a signal comes or its device is lost.
pub fn serve(
    config: BoardConfig,
    options: &Options,
    log: LogLevel,
    inherited: Inherited,
) -> miette::Result<()> {
    let named = port_of(&config)?.clone();
    let (port, saved) = open_port(&named, inherited)?;
    let end = Signals::listen().into_diagnostic().wrap_err("cannot listen for signals")?;
    let (name, api) = (config.name.clone(), config.control.clone());
    let cores = take_cores(&config).into_diagnostic().wrap_err("cannot place the board's threads")?;
    // Threads run where the one that starts them does: the control thread is started next, and this one polls.
    let pinned = |pin: fn(&Taken) -> Result<(), PlacementError>| cores.as_ref().map_or(Ok(()), pin);
    pinned(Taken::pin_control).into_diagnostic()?;
    let keeper = || Box::new(ServiceManager) as Box<dyn Keeper>;
    let started = bm_hypervisor::start_kept(config, Arc::clone(&port), keeper, saved);
    let (mut poller, control) = started.into_diagnostic().wrap_err_with(|| format!("board {name}"))?;
    // With the control thread's core, before system calls that it needs are given up.
    let api = api.map(|api| Server::start(&api, control.handle(), log)).transpose().into_diagnostic()?;
    pinned(Taken::pin_poller).into_diagnostic()?;
    confine(options.user.as_deref(), options.seccomp)?;
    println!("board {name} is served");
    ServiceManager.ready();
    let stop = api.as_ref().map(|api| api.stop_event().as_raw_fd());
    let wakers = [Some(poller.waker().as_raw_fd()), Some(end.0.as_raw_fd()), stop];
    let sleep_set = SleepSet::new(wakers.into_iter().flatten()).into_diagnostic()?;
    work(&mut poller, &control, &end, api.as_ref(), options.rest, &sleep_set);
    // The control thread takes the queues back from a poll thread that is gone at once.
    drop(poller);
    // Nobody is answered any more.
    drop(api);
    let stopped = control.stop();
    ServiceManager.release_port(&port, &named);
    let statistics = stopped.into_diagnostic().wrap_err_with(|| format!("board {name}"))?;
    tracing::info!(board = name, ?statistics, "stopped");
    println!("board {name} is stopped");
    Ok(())
}

/// The port as an earlier life of this process left it, with what else that left; or opened anew.
fn open_port(
    named: &PortConfig,
    mut inherited: Inherited,
) -> miette::Result<(Arc<OpenPort>, Option<SavedFds>)> {
    let kept = inherited.port_names();
    if let Some(saved) = inherited.saved_fds() {
        let length = fstat(&saved.pool).map_or(0, |stat| stat.st_size.cast_unsigned());
        let adopted = OpenPort::adopt(named, |name| inherited.take(name), &[(IOVA, length)]);
        match adopted {
            Ok(Some(port)) => return Ok((Arc::new(port), Some(saved))),
            Ok(None) => tracing::warn!(?kept, "this device was not kept; the board begins anew"),
            Err(error) => tracing::warn!(%error, "cannot go on with the device; the board begins anew"),
        }
    }
    // Whatever was kept of another life keeps no device from being opened.
    drop(inherited);
    kept.iter().for_each(|name| ServiceManager.release(name));
    let port = OpenPort::open(named).into_diagnostic().wrap_err("cannot open the port")?;
    // One that was adopted stays kept: stored again it would, for a moment, not be.
    ServiceManager.keep_port(&port, named);
    Ok((Arc::new(port), None))
}

/// Takes the cores that a configuration names.
fn take_cores(config: &BoardConfig) -> Result<Option<Taken>, PlacementError> {
    let Some(cores) = &config.cores else { return Ok(None) };
    Placement::plan(cores, &Cores::read(Path::new("/")))?.take(&config.name).map(Some)
}

/// The port that a configuration names.
pub fn port_of(config: &BoardConfig) -> miette::Result<&PortConfig> {
    config.port.as_ref().ok_or_else(|| {
        miette::miette!(
            "the configuration names no port; add port = {{ vfio = \"0000:01:00.0\" }} or {{ vfio-user = \"/run/iobond.sock\" }}"
        )
    })
}

/// Passes until there is an end.
fn work<P: Port>(
    poller: &mut Poller<P>,
    control: &Control,
    end: &Signals,
    api: Option<&Server>,
    rest: Rest,
    sleep_set: &SleepSet,
) {
    let asked = || api.is_some_and(Server::stop_asked);
    let is_over = || end.came() || asked() || matches!(control.statistics().state, BoardState::Failed);
    let (mut idle, mut since) = (0u32, Instant::now());
    loop {
        if !poller.pass().is_idle() {
            idle = 0;
            continue;
        }
        idle += 1;
        std::hint::spin_loop();
        if !idle.is_multiple_of(LOOK_EVERY) {
            continue;
        }
        if is_over() {
            return;
        }
        match rest {
            _ if idle == LOOK_EVERY => since = Instant::now(),
            Rest::After(limit) if since.elapsed() >= limit => {
                sleep_set.sleep(poller);
                idle = 0;
            }
            // Few cores: whoever else wants this one gets it.
            Rest::After(_) => std::thread::yield_now(),
            Rest::Never => {}
        }
    }
}

/// What the poll thread sleeps on.
struct SleepSet(Epoll);

impl SleepSet {
    fn new(wakers: impl IntoIterator<Item = RawFd>) -> io::Result<Self> {
        let epoll = Epoll::new()?;
        for waker in wakers {
            epoll.ctl(ControlOperation::Add, waker, EpollEvent::new(EventSet::IN, 0))?;
        }
        Ok(Self(epoll))
    }

    /// Sleeps until something happens, unless it has already.
    fn sleep<P: Port>(&self, poller: &mut Poller<P>) {
        if !poller.arm() {
            // An interrupted sleep is a short one.
            let _ = self.0.wait(LONGEST_SLEEP_MS, &mut [EpollEvent::default()]);
        }
        poller.disarm();
    }
}

/// The signals that end the program, as a descriptor that one can wait for.
struct Signals(UnixStream);

impl Signals {
    fn listen() -> io::Result<Self> {
        let (ours, theirs) = UnixStream::pair()?;
        for signal in [SIGHUP, SIGINT, SIGTERM] {
            signal_hook::low_level::pipe::register(signal, theirs.try_clone()?)?;
        }
        ours.set_nonblocking(true)?;
        Ok(Self(ours))
    }

    fn came(&self) -> bool {
        (&self.0).read(&mut [0]).is_ok()
    }
}
