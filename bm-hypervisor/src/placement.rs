//! Puts a board's threads on cores: a poller takes a whole physical core, and no other board's gets a part of
//! it.
//!
//! Pollers of one server share nothing but a folder. Each locks a file in it that is named for its physical
//! core, by the lowest of its threads, and keeps the lock as long as it runs: the kernel releases it however
//! the process ends.

use std::{
    fs::{self, File, OpenOptions, TryLockError},
    io::{self, Write},
    path::{Path, PathBuf},
};

use rustix::thread::{CpuSet, sched_setaffinity};

use crate::{
    config::CoresConfig,
    machine::{Cores, CpuList},
};

/// Cores that a board cannot have.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs, reason = "the fields are those of the messages")]
pub enum PlacementError {
    /// The CPU does not run.
    #[error("{key} names CPU {cpu}, which does not run; those that do are {online}")]
    NoSuchCpu { key: &'static str, cpu: u32, online: CpuList },
    /// The process may not use it.
    #[error(
        "{key} names CPU {cpu}, and this process may only use {allowed}; widen its cpuset (AllowedCPUs= of the unit, `taskset`)"
    )]
    NotAllowed { key: &'static str, cpu: u32, allowed: CpuList },
    /// The control thread would take time from the poller.
    #[error(
        "cores.control names CPU {control}, which shares a physical core with cores.poll, CPU {poll}; name another one"
    )]
    SharedWithPoller { control: u32, poll: u32 },
    /// Another board's poller is on the same physical core.
    #[error(
        "CPU {poll} shares a physical core (CPUs {siblings}) with the poller of {owner}; choose another core"
    )]
    Taken { poll: u32, siblings: CpuList, owner: String },
    /// The lock cannot be made.
    #[error("cannot lock a core in {}: {source}; make the folder, or name another one with cores.locks", path.display())]
    Lock { path: PathBuf, source: io::Error },
    /// The thread cannot be moved.
    #[error("cannot run on CPUs {cpus}: {source}")]
    Pin { cpus: CpuList, source: io::Error },
}

/// Cores that suit the machine; nothing is taken yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Placement {
    poll: u32,
    /// All threads of the poller's physical core.
    siblings: CpuList,
    control: CpuList,
    lock: PathBuf,
}

/// A physical core that is the board's until this is dropped.
#[derive(Debug)]
pub struct Taken {
    placement: Placement,
    _lock: File,
}

impl Placement {
    /// Checks a configuration against the machine.
    ///
    /// # Errors
    /// [`PlacementError`] for a CPU that cannot be had.
    pub fn plan(config: &CoresConfig, cores: &Cores) -> Result<Self, PlacementError> {
        let poll = config.poll;
        usable("cores.poll", poll, cores)?;
        let siblings = cores.siblings(poll);
        for control in &config.control {
            usable("cores.control", *control, cores)?;
            if siblings.contains(*control) {
                return Err(PlacementError::SharedWithPoller { control: *control, poll });
            }
        }
        // Where nothing is said, anywhere but beside the poller.
        let control: CpuList = if config.control.is_empty() {
            cores.allowed.iter().filter(|cpu| !siblings.contains(*cpu)).collect()
        } else {
            config.control.iter().copied().collect()
        };
        let lock = config.locks.join(format!("core-{}", siblings.first().unwrap_or(poll)));
        Ok(Self { poll, siblings, control, lock })
    }

    /// All threads of the poller's physical core.
    pub fn siblings(&self) -> &CpuList {
        &self.siblings
    }

    /// Whether no poller has the physical core; nothing is taken or made.
    ///
    /// # Errors
    /// [`PlacementError::Taken`].
    pub fn check_free(&self) -> Result<(), PlacementError> {
        // A file that cannot be opened tells nothing; `take` says why.
        let Ok(file) = File::open(&self.lock) else { return Ok(()) };
        match file.try_lock_shared() {
            Err(TryLockError::WouldBlock) => Err(self.taken()),
            _ => Ok(()),
        }
    }

    fn taken(&self) -> PlacementError {
        let owner = owner(&self.lock);
        PlacementError::Taken { poll: self.poll, siblings: self.siblings.clone(), owner }
    }

    /// Takes the physical core for `board`.
    ///
    /// # Errors
    /// [`PlacementError::Taken`] or [`PlacementError::Lock`].
    pub fn take(self, board: &str) -> Result<Taken, PlacementError> {
        let failed = |source| PlacementError::Lock { path: self.lock.clone(), source };
        if let Some(folder) = self.lock.parent() {
            fs::create_dir_all(folder).map_err(failed)?;
        }
        // Not truncated: it is another's until it is locked.
        let options = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&self.lock);
        let mut lock = options.map_err(failed)?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(self.taken()),
            Err(TryLockError::Error(source)) => return Err(failed(source)),
        }
        let written = lock.set_len(0).and_then(|()| write!(lock, "{board} (process {})", std::process::id()));
        written.map_err(failed)?;
        Ok(Taken { placement: self, _lock: lock })
    }
}

impl Taken {
    /// Pins the calling thread, which polls, to its CPU.
    ///
    /// # Errors
    /// [`PlacementError::Pin`].
    pub fn pin_poller(&self) -> Result<(), PlacementError> {
        pin(&CpuList::from_iter([self.placement.poll]))
    }

    /// Keeps the calling thread, and all that it starts, off the poller's core.
    ///
    /// # Errors
    /// [`PlacementError::Pin`].
    pub fn pin_control(&self) -> Result<(), PlacementError> {
        // On a machine with one core there is nowhere else.
        if self.placement.control.is_empty() { Ok(()) } else { pin(&self.placement.control) }
    }
}

fn usable(key: &'static str, cpu: u32, cores: &Cores) -> Result<(), PlacementError> {
    if !cores.online.contains(cpu) {
        return Err(PlacementError::NoSuchCpu { key, cpu, online: cores.online.clone() });
    }
    if !cores.allowed.contains(cpu) {
        return Err(PlacementError::NotAllowed { key, cpu, allowed: cores.allowed.clone() });
    }
    Ok(())
}

fn pin(cpus: &CpuList) -> Result<(), PlacementError> {
    let mut set = CpuSet::new();
    // A set of Linux's has a fixed size; what does not fit cannot be asked for.
    cpus.iter().filter(|cpu| (*cpu as usize) < CpuSet::MAX_CPU).for_each(|cpu| set.set(cpu as usize));
    sched_setaffinity(None, &set)
        .map_err(|errno| PlacementError::Pin { cpus: cpus.clone(), source: errno.into() })
}

/// What a lock's owner wrote into it; it may be about to.
fn owner(lock: &Path) -> String {
    let text = fs::read_to_string(lock).unwrap_or_default();
    if text.is_empty() { "another board".into() } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::machine::fake::Tree;

    fn config(poll: u32, control: &[u32], tree: &Tree) -> CoresConfig {
        CoresConfig { control: control.to_vec(), locks: tree.path("run"), ..CoresConfig::new(poll) }
    }

    fn plan(poll: u32, control: &[u32], tree: &Tree) -> Result<Placement, String> {
        Placement::plan(&config(poll, control, tree), &Cores::read(tree.root()))
            .map_err(|error| error.to_string())
    }

    #[test]
    fn a_poller_takes_a_whole_core_until_it_is_gone() {
        let tree = Tree::new();
        let first = plan(2, &[], &tree).unwrap();
        assert!(first.siblings().to_string() == "2,6" && first.check_free().is_ok());
        let first = first.take("board0").unwrap();
        let sibling = plan(6, &[], &tree).unwrap();
        let owner = format!("board0 (process {})", std::process::id());
        let refused = sibling.clone().take("board1").unwrap_err().to_string();
        assert!(refused.contains("(CPUs 2,6)") && refused.contains(&owner), "{refused}");
        assert_eq!(sibling.check_free().unwrap_err().to_string(), refused);
        let elsewhere = plan(3, &[], &tree).unwrap().take("board1").unwrap();
        drop(first);
        // A process that another test starts has every descriptor, and with it the lock, until it is that
        // program.
        let free = (0..1000).any(|_| {
            std::thread::sleep(std::time::Duration::from_millis(1));
            sibling.check_free().is_ok()
        });
        assert!(free);
        sibling.take("board2").unwrap();
        drop(elsewhere);
    }

    #[test]
    fn cpus_that_cannot_be_had_are_named_with_those_that_can() {
        let tree = Tree::new();
        assert!(
            plan(8, &[], &tree)
                .unwrap_err()
                .contains("cores.poll names CPU 8, which does not run; those that do are 0-7")
        );
        assert!(plan(2, &[0, 9], &tree).unwrap_err().contains("cores.control names CPU 9"));
        assert!(
            plan(2, &[0, 6], &tree)
                .unwrap_err()
                .contains("CPU 6, which shares a physical core with cores.poll, CPU 2")
        );
        tree.write("proc/self/status", "Cpus_allowed_list:\t0-1\n");
        assert!(plan(2, &[], &tree).unwrap_err().contains("may only use 0-1; widen its cpuset"));
    }

    #[test]
    fn the_control_thread_keeps_off_the_pollers_core() {
        let tree = Tree::new();
        assert_eq!(plan(2, &[], &tree).unwrap().control.to_string(), "0-1,3-5,7");
        assert_eq!(plan(2, &[0, 4], &tree).unwrap().control.to_string(), "0,4");
    }

    #[test]
    fn a_thread_is_pinned() {
        let tree = Tree::new();
        let here = rustix::thread::sched_getaffinity(None).unwrap();
        let cpu = (0..CpuSet::MAX_CPU).find(|cpu| here.is_set(*cpu)).unwrap() as u32;
        tree.write("sys/devices/system/cpu/online", &format!("{cpu}\n"));
        tree.write("proc/self/status", &format!("Cpus_allowed_list:\t{cpu}\n"));
        let taken = plan(cpu, &[], &tree).unwrap().take("board0").unwrap();
        std::thread::spawn(move || {
            taken.pin_poller().unwrap();
            let now = rustix::thread::sched_getaffinity(None).unwrap();
            assert_eq!((now.count(), now.is_set(cpu as usize)), (1, true));
            taken.pin_control().unwrap();
        })
        .join()
        .unwrap();
    }
}
