//! On which machine a result came about.

use std::fs;

use crate::Machine;

/// Describes the machine that this runs on.
#[must_use]
pub fn this_machine() -> Machine {
    let read = |path| fs::read_to_string(path).unwrap_or_default();
    let system = rustix::system::uname();
    let word = |text: &std::ffi::CStr| text.to_string_lossy().into_owned();
    let governor = read("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor");
    Machine {
        cpu: cpu_model(&read("/proc/cpuinfo")).unwrap_or_default(),
        cores: std::thread::available_parallelism().map_or(0, |cores| cores.get() as u64),
        kernel: [system.sysname(), system.release(), system.machine()].map(word).join(" "),
        memory_bytes: memory_bytes(&read("/proc/meminfo")).unwrap_or(0),
        governor: (!governor.trim().is_empty()).then(|| governor.trim().to_owned()),
    }
}

/// The first `model name` line of /proc/cpuinfo; Arm kernels have none.
fn cpu_model(cpuinfo: &str) -> Option<String> {
    let line = cpuinfo.lines().find(|line| line.starts_with("model name"))?;
    Some(line.split_once(':')?.1.trim().to_owned())
}

/// `MemTotal` of /proc/meminfo, which counts in kibibytes.
fn memory_bytes(meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().find(|line| line.starts_with("MemTotal:"))?;
    line.split_ascii_whitespace().nth(1)?.parse::<u64>().ok()?.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn proc_files_are_understood() {
        let cpuinfo = "processor\t: 0\nmodel name\t: Some CPU @ 2 GHz\nprocessor\t: 1\nmodel name\t: Some CPU @ 2 GHz\n";
        assert_eq!(cpu_model(cpuinfo).as_deref(), Some("Some CPU @ 2 GHz"));
        assert_eq!(cpu_model("processor: 0\n"), None);
        assert_eq!(memory_bytes("MemTotal:       24576 kB\nMemFree: 1 kB\n"), Some(24576 * 1024));
        assert_eq!(memory_bytes("MemFree: 1 kB\n"), None);
    }

    #[test]
    fn this_machine_has_processors_and_a_kernel() {
        let machine = this_machine();
        assert!(machine.cores >= 1, "{machine:?}");
        assert!(machine.kernel.starts_with("Linux "), "{machine:?}");
    }
}
