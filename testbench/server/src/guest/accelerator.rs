//! What runs a guest's instructions: the processor (KVM) or QEMU's translator (TCG).
//!
//! That `/dev/kvm` can be opened says little: inside of some virtual machines it is there, and stock kernels
//! hang in it before their first word. So the question is put to a guest: the very kernel that boards run,
//! without a root file system. Where KVM works it talks within half a second and, finding no root, panics and
//! resets after about one, which `-no-reboot` turns into an exit.

use std::{
    fmt, fs, io,
    os::unix::process::CommandExt,
    path::Path,
    process::{Child, Command, ExitStatus, Stdio},
    time::{Duration, Instant},
};

use super::GuestFiles;

/// How long the kernel may take to its first word.
const FIRST_WORD: Duration = Duration::from_secs(3);
/// How long it may take to its end; TCG takes three seconds on a slow laptop.
const LIFETIME: Duration = Duration::from_secs(15);
/// The device by which a process reaches it.
const KVM: &str = "/dev/kvm";

/// What runs a guest's instructions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Deserialize, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Accelerator {
    /// The processor's virtualisation, by Linux.
    Kvm,
    /// QEMU's translator, in software.
    Tcg,
}

impl Accelerator {
    /// The value of QEMU's option `-accel`.
    pub(super) const fn option(self) -> &'static str {
        match self {
            Self::Kvm => "kvm",
            Self::Tcg => "tcg,thread=multi",
        }
    }

    /// The value of QEMU's option `-cpu`: all that there is.
    pub(super) const fn cpu(self) -> &'static str {
        match self {
            Self::Kvm => "host",
            Self::Tcg => "max",
        }
    }
}

impl fmt::Display for Accelerator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Kvm => "KVM",
            Self::Tcg => "TCG",
        })
    }
}

/// What a user asks for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Wanted {
    /// KVM if a guest runs in it, else TCG
    #[default]
    Auto,
    /// KVM, untried
    Kvm,
    /// TCG
    Tcg,
}

/// An accelerator and the reason for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Choice {
    /// What guests are run by.
    pub accelerator: Accelerator,
    /// Why this one, in half a sentence.
    pub reason: String,
}

impl Wanted {
    /// Chooses; with [`Wanted::Auto`] by running a small guest in KVM, which is over within 15 s, or as soon
    /// as `give_up` says that the answer is not waited for. Logs go to `directory`.
    #[must_use]
    pub fn choose(
        self,
        files: &GuestFiles,
        program: &Path,
        directory: &Path,
        give_up: &dyn Fn() -> bool,
    ) -> Choice {
        let asked = |accelerator| Choice { accelerator, reason: "as asked".into() };
        match self {
            Self::Kvm => asked(Accelerator::Kvm),
            Self::Tcg => asked(Accelerator::Tcg),
            Self::Auto => match probe(files, program, directory, give_up) {
                Ok(took) => Choice {
                    accelerator: Accelerator::Kvm,
                    reason: format!("a kernel ran in it for {:.1} s", took.as_secs_f64()),
                },
                Err(error) => Choice { accelerator: Accelerator::Tcg, reason: error.to_string() },
            },
        }
    }
}

/// Why guests cannot run in KVM.
#[derive(Debug, thiserror::Error)]
enum Unusable {
    #[error("{KVM} cannot be used: {0}")]
    Device(io::Error),
    #[error("KVM cannot be tried: {0}")]
    Start(io::Error),
    #[error("QEMU with KVM cannot be waited for: {0}")]
    Wait(io::Error),
    #[error("QEMU with KVM ended at once ({0})")]
    Ended(ExitStatus),
    #[error("a kernel in KVM was not waited for")]
    GivenUp,
    #[error("{KVM} is there, but a kernel in it says nothing for {0:?}")]
    Silent(Duration),
    #[error("{KVM} is there, but a kernel in it does not end within {0:?}")]
    Endless(Duration),
}

/// How long a kernel without a root took to its end in KVM, or why KVM will not do.
fn probe(
    files: &GuestFiles,
    program: &Path,
    directory: &Path,
    give_up: &dyn Fn() -> bool,
) -> Result<Duration, Unusable> {
    fs::OpenOptions::new().read(true).write(true).open(KVM).map_err(Unusable::Device)?;
    let serial = directory.join("probe.log");
    let mut guest = Guest::start(files, program, &serial).map_err(Unusable::Start)?;
    let outcome = guest.watch(&serial, FIRST_WORD, LIFETIME, give_up);
    drop(guest);
    // Only for the probe; an error leaves a small file in a directory that is removed later.
    let _ = fs::remove_file(&serial);
    outcome
}

/// A guest that ends by itself, or is killed.
struct Guest(Child);

impl Guest {
    fn start(files: &GuestFiles, program: &Path, serial: &Path) -> io::Result<Self> {
        let log = serial.to_string_lossy().replace(',', ",,");
        let child = Command::new(program)
            .arg("launch")
            .arg(&files.qemu)
            .args([
                "-M",
                "q35",
                "-accel",
                Accelerator::Kvm.option(),
                "-cpu",
                Accelerator::Kvm.cpu(),
                "-m",
                "256",
            ])
            .args(["-nodefaults", "-no-user-config", "-display", "none", "-no-reboot"])
            .arg("-kernel")
            .arg(&files.kernel)
            .args(["-append", "console=ttyS0 earlyprintk=serial panic=-1"])
            .args(["-chardev", &format!("file,id=serial,path={log}"), "-serial", "chardev:serial"])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            // A terminal's Ctrl-C is for `bmhive`, which then ends the probe.
            .process_group(0)
            .spawn()?;
        Ok(Self(child))
    }

    /// Waits for the guest's end, which has to come in order, after it has said something.
    fn watch(
        &mut self,
        serial: &Path,
        first_word: Duration,
        lifetime: Duration,
        give_up: &dyn Fn() -> bool,
    ) -> Result<Duration, Unusable> {
        let start = Instant::now();
        loop {
            let ended = self.0.try_wait().map_err(Unusable::Wait)?;
            let took = start.elapsed();
            let spoke = fs::metadata(serial).is_ok_and(|log| log.len() > 0);
            match ended {
                Some(status) if status.success() && spoke => return Ok(took),
                Some(status) => return Err(Unusable::Ended(status)),
                None if give_up() => return Err(Unusable::GivenUp),
                None if !spoke && took > first_word => return Err(Unusable::Silent(first_word)),
                None if took > lifetime => return Err(Unusable::Endless(lifetime)),
                None => std::thread::sleep(Duration::from_millis(10)),
            }
        }
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        // The only error is that it has ended already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// More than any script takes, also on a busy machine.
    const LONG: Duration = Duration::from_secs(30);
    /// A bound that a script is to exceed, which sleeps for longer than all of them.
    const SHORT: Duration = Duration::from_millis(100);

    /// Watches a shell script in the place of QEMU; `$1` is the serial port's log.
    fn watch(
        script: &str,
        [first_word, lifetime]: [Duration; 2],
        give_up: bool,
    ) -> Result<Duration, Unusable> {
        let directory = tempfile::tempdir().unwrap();
        let serial = directory.path().join("serial");
        let child = Command::new("sh").args(["-c", script, "sh"]).arg(&serial).spawn().unwrap();
        Guest(child).watch(&serial, first_word, lifetime, &|| give_up)
    }

    #[test]
    fn a_guest_that_talks_and_ends_is_good() {
        let took = watch("echo Linux > $1; sleep 0.05", [LONG; 2], false).unwrap();
        assert!(took >= Duration::from_millis(50) && took < LONG, "{took:?}");
    }

    /// Nothing but being ended ends it in time.
    #[test]
    fn a_guest_that_is_not_waited_for_is_ended() {
        let outcome = watch("exec sleep 600", [LONG; 2], true);
        assert!(matches!(outcome, Err(Unusable::GivenUp)), "{outcome:?}");
    }

    #[test]
    fn a_silent_guest_is_given_up() {
        let outcome = watch("exec sleep 600", [SHORT, LONG], false);
        assert!(matches!(outcome, Err(Unusable::Silent(SHORT))), "{outcome:?}");
    }

    #[test]
    fn a_guest_that_does_not_end_is_given_up() {
        let outcome = watch("echo Linux > $1; exec sleep 600", [LONG, SHORT], false);
        assert!(matches!(outcome, Err(Unusable::Endless(SHORT))), "{outcome:?}");
    }

    #[test]
    fn a_guest_that_ends_without_a_word_or_in_failure_is_no_good() {
        for (script, code) in [("exit 0", 0), ("echo Linux > $1; exit 1", 1)] {
            let outcome = watch(script, [LONG; 2], false);
            let ended = matches!(&outcome, Err(Unusable::Ended(status)) if status.code() == Some(code));
            assert!(ended, "{script}: {outcome:?}");
        }
    }
}
