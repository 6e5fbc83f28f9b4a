//! Serves a board until a signal or a client ends that, or the board fails.

use std::{
    io::{self, Read},
    os::unix::net::UnixStream,
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use super::{
    confine::{Seccomp, confine},
    kept::{Inherited, ServiceManager},
};
use bm_hypervisor::{
    BoardState, Poller,
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
use unix_service::{Next, Polling, Rest, SleepSet};

/// Passes without work between two looks at the clock and at what ends the program: neither is to cost a busy
/// poller time.
const LOOK_EVERY: u32 = 4096;
/// The longest sleep: how late a failure of the board is noticed by an idle program.
const LONGEST_SLEEP: Duration = Duration::from_millis(500);

/// How a board is served.
#[derive(Clone, Debug)]
pub struct Options {
    /// What the poll thread does when there is nothing to do.
    pub rest: Rest,
    /// The user to become once everything is open.
    pub user: Option<String>,
    /// What happens to system calls that serving does not make.
    pub seccomp: Seccomp,
}

/// Serves the board of `config` until a signal comes, a client asks for the end, or the board fails.
pub fn serve(
    config: BoardConfig,
    options: &Options,
    log: LogLevel,
    inherited: Inherited,
) -> miette::Result<()> {
    let (name, control_config, port_config) =
        (config.name.clone(), config.control.clone(), port_of(&config)?.clone());
    let of_board = || format!("board {name}");
    let (port, saved) = open_port(&port_config, inherited)?;
    let signals = Signals::listen().into_diagnostic().wrap_err("cannot listen for signals")?;
    let cores = take_cores(&config).into_diagnostic().wrap_err("cannot place the board's threads")?;
    let pin = |thread: fn(&Taken) -> Result<(), PlacementError>| cores.as_ref().map_or(Ok(()), thread);
    // A thread starts on the cores of the one that starts it. So this one first takes those of the control
    // thread, which it starts along with the API's, and then, to poll, its own.
    pin(Taken::pin_control).into_diagnostic()?;
    let keeper = || Box::new(ServiceManager) as Box<dyn Keeper>;
    let started = bm_hypervisor::start_kept(config, Arc::clone(&port), keeper, saved);
    let (mut poller, control) = started.into_diagnostic().wrap_err_with(of_board)?;
    let api = control_config.map(|config| Server::start(&config, control.handle(), log));
    let api = api.transpose().into_diagnostic()?;
    pin(Taken::pin_poller).into_diagnostic()?;
    // All that root and rare system calls were needed for is open, bound or pinned by now.
    confine(options.user.as_deref(), options.seccomp)?;
    println!("board {name} is served");
    ServiceManager.ready();
    let sleep_set = sleep_set(&poller, &signals, api.as_ref()).into_diagnostic()?;
    poll_until(&mut poller, options.rest, &sleep_set, || {
        signals.came()
            || api.as_ref().is_some_and(Server::stop_asked)
            || matches!(control.statistics().state, BoardState::Failed)
    });
    // Without a poller the control thread has its queues back at once; without the API no command meets it in
    // its end.
    drop(poller);
    drop(api);
    let stopped = control.stop();
    // A board that was stopped leaves nothing to resume, also if stopping failed.
    ServiceManager.release_port(&port, &port_config);
    let statistics = stopped.into_diagnostic().wrap_err_with(of_board)?;
    tracing::info!(board = name, ?statistics, "stopped");
    println!("board {name} is stopped");
    Ok(())
}

/// The port as a previous process left it, with the other descriptors that were kept; or opened anew.
fn open_port(
    config: &PortConfig,
    mut inherited: Inherited,
) -> miette::Result<(Arc<OpenPort>, Option<SavedFds>)> {
    let kept = inherited.port_names();
    if let Some(saved) = inherited.saved_fds() {
        let length = fstat(&saved.pool).map_or(0, |stat| stat.st_size.cast_unsigned());
        match OpenPort::adopt(config, |name| inherited.take(name), &[(IOVA, length)]) {
            Ok(Some(port)) => return Ok((Arc::new(port), Some(saved))),
            Ok(None) => tracing::warn!(?kept, "this device was not kept; the board begins anew"),
            Err(error) => tracing::warn!(%error, "cannot resume the device; the board begins anew"),
        }
    }
    // A device is open once: what was kept of another run is closed, here and by its keeper, before it is
    // opened anew.
    drop(inherited);
    kept.iter().for_each(|name| ServiceManager.release(name));
    let port = OpenPort::open(config).into_diagnostic().wrap_err("cannot open the port")?;
    // Only now: one that was adopted stays kept, and stored again it would, for a moment, not be.
    ServiceManager.keep_port(&port, config);
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

/// Passes until `is_over`, which is asked now and then while there is no work.
fn poll_until<P: Port>(poller: &mut Poller<P>, rest: Rest, sleep_set: &SleepSet, is_over: impl Fn() -> bool) {
    let mut polling = Polling::new(rest, LOOK_EVERY, LOOK_EVERY);
    loop {
        if !poller.pass().is_idle() {
            polling.worked();
            continue;
        }
        match polling.idle(Instant::now) {
            Next::Poll => std::hint::spin_loop(),
            _ if is_over() => return,
            // The thread has a core of its own, which no other one wants.
            Next::Yield if rest == Rest::Never => {}
            Next::Yield => std::thread::yield_now(),
            Next::Sleep => {
                // What came since the last pass is found by arming, what comes from then on wakes.
                if !poller.arm() {
                    sleep_set.sleep(LONGEST_SLEEP);
                }
                poller.disarm();
                polling.worked();
            }
        }
    }
}

/// What wakes the poll thread: its back ends and the control thread, a signal, a client that asks for the
/// end.
fn sleep_set<P: Port>(poller: &Poller<P>, signals: &Signals, api: Option<&Server>) -> io::Result<SleepSet> {
    let set = SleepSet::new()?;
    set.add(poller.waker())?;
    set.add(&signals.0)?;
    api.map_or(Ok(()), |api| set.add(&api.stop_event()))?;
    Ok(set)
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
