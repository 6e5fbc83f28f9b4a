//! What the program gives up once everything that it needs is open: its user, and the system calls that
//! serving a board does not make.
//!
//! By then the device is open, the pool is mapped to it, and sockets are bound. What is left to do is reading
//! and writing, reconnecting to back ends, and answering the control socket.

use std::collections::BTreeMap;

use miette::{Context, IntoDiagnostic, miette};
use nix::unistd::{Uid, User, getuid, setgid, setgroups, setuid};
use seccompiler::{BpfProgram, SeccompAction, SeccompFilter, TargetArch};

/// What happens to a system call that is not on the list.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Seccomp {
    /// The process is ended, and the kernel logs which call it was.
    On,
    /// The kernel logs it; for finding out what a list lacks.
    Log,
    /// Everything may be called.
    Off,
}

/// System calls of a program that serves: by what they are for.
const CALLS: &[i64] = &[
    // Descriptors and sockets: back ends, the control socket, the IO-Bond over vfio-user.
    libc::SYS_read,
    libc::SYS_readv,
    libc::SYS_pread64,
    libc::SYS_write,
    libc::SYS_writev,
    libc::SYS_pwrite64,
    libc::SYS_close,
    libc::SYS_dup,
    libc::SYS_fcntl,
    libc::SYS_fstat,
    libc::SYS_newfstatat,
    libc::SYS_statx,
    libc::SYS_lseek,
    libc::SYS_socket,
    libc::SYS_connect,
    libc::SYS_accept4,
    libc::SYS_bind,
    libc::SYS_listen,
    libc::SYS_getsockname,
    libc::SYS_getpeername,
    libc::SYS_getsockopt,
    libc::SYS_setsockopt,
    libc::SYS_sendmsg,
    libc::SYS_sendto,
    libc::SYS_recvmsg,
    libc::SYS_recvfrom,
    libc::SYS_shutdown,
    libc::SYS_socketpair,
    libc::SYS_unlink,
    libc::SYS_unlinkat,
    // Waiting.
    libc::SYS_poll,
    libc::SYS_ppoll,
    libc::SYS_epoll_create1,
    libc::SYS_epoll_ctl,
    libc::SYS_epoll_wait,
    libc::SYS_epoll_pwait,
    libc::SYS_eventfd2,
    libc::SYS_nanosleep,
    libc::SYS_clock_nanosleep,
    libc::SYS_clock_gettime,
    libc::SYS_gettimeofday,
    libc::SYS_restart_syscall,
    // VFIO, `FIONBIO` and the like.
    libc::SYS_ioctl,
    // Memory, and the memfd of a function's in-flight region.
    libc::SYS_mmap,
    libc::SYS_munmap,
    libc::SYS_mremap,
    libc::SYS_mprotect,
    libc::SYS_madvise,
    libc::SYS_brk,
    libc::SYS_memfd_create,
    libc::SYS_ftruncate,
    libc::SYS_getrandom,
    // Threads and signals: a watchdog comes with every connection.
    libc::SYS_clone,
    libc::SYS_clone3,
    libc::SYS_set_robust_list,
    libc::SYS_rseq,
    libc::SYS_futex,
    libc::SYS_sched_yield,
    libc::SYS_sched_getaffinity,
    libc::SYS_prctl,
    libc::SYS_gettid,
    libc::SYS_getpid,
    libc::SYS_tgkill,
    libc::SYS_sigaltstack,
    libc::SYS_rt_sigaction,
    libc::SYS_rt_sigprocmask,
    libc::SYS_rt_sigreturn,
    libc::SYS_exit,
    libc::SYS_exit_group,
];

/// Gives up root for `user`, if one is named, and then the system calls that are not needed. For all threads.
pub fn confine(user: Option<&str>, seccomp: Seccomp) -> miette::Result<()> {
    if let Some(name) = user {
        become_user(name)?;
    }
    let otherwise = match seccomp {
        Seccomp::On => SeccompAction::KillProcess,
        Seccomp::Log => SeccompAction::Log,
        Seccomp::Off => return Ok(()),
    };
    let program = filter(otherwise).into_diagnostic().wrap_err("cannot make the seccomp filter")?;
    seccompiler::apply_filter_all_threads(&program)
        .into_diagnostic()
        .wrap_err("cannot set the seccomp filter")
}

fn filter(otherwise: SeccompAction) -> Result<BpfProgram, seccompiler::BackendError> {
    let rules: BTreeMap<i64, Vec<seccompiler::SeccompRule>> =
        CALLS.iter().map(|call| (*call, Vec::new())).collect();
    SeccompFilter::new(rules, otherwise, SeccompAction::Allow, TargetArch::x86_64)?.try_into()
}

fn become_user(name: &str) -> miette::Result<()> {
    let user = User::from_name(name)
        .into_diagnostic()?
        .ok_or_else(|| miette!("there is no user {name:?}; make one with `useradd --system {name}`"))?;
    if getuid() == user.uid {
        return Ok(());
    }
    // Groups first: they are root's to give up.
    let given_up = setgroups(&[user.gid]).and_then(|()| setgid(user.gid)).and_then(|()| setuid(user.uid));
    given_up.into_diagnostic().wrap_err_with(|| format!("cannot become user {name:?}; is this root?"))?;
    if setuid(Uid::from_raw(0)).is_ok() {
        miette::bail!("user {name:?} can become root again; choose one that cannot");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_call_is_on_the_list_once_and_the_list_fits_a_filter() {
        let mut calls = CALLS.to_vec();
        calls.sort_unstable();
        assert!(calls.is_sorted_by(|call, next| call < next));
        assert!(filter(SeccompAction::KillProcess).is_ok());
    }
}
