//! Which modules of a kernel make its drivers work: modules.dep(5) and modules.builtin.

use anyhow::{Context, Result, bail};

/// The lines of `modules.dep` that loading `wanted` needs: those modules that are not built in, and what they
/// depend on.
///
/// # Errors
/// When a module is neither built in nor listed.
pub fn needed<'a>(wanted: &[&str], dependencies: &'a str, builtin: &str) -> Result<Vec<Line<'a>>> {
    let lines: Vec<_> = dependencies.lines().filter_map(Line::parse).collect();
    let at = |path: &str| {
        let found = lines.iter().position(|line| line.path == path);
        found.with_context(|| format!("modules.dep names {path} and has no line for it"))
    };
    let mut needed = vec![false; lines.len()];
    for module in wanted {
        let Some(index) = lines.iter().position(|line| name(line.path) == normal(module)) else {
            if builtin.lines().any(|path| name(path) == normal(module)) {
                continue;
            }
            bail!("the kernel has no module {module}");
        };
        needed[index] = true;
        // depmod lists what a module needs in full, not only the next step.
        for path in &lines[index].needs {
            needed[at(path)?] = true;
        }
    }
    Ok(lines.into_iter().zip(needed).filter_map(|(line, needed)| needed.then_some(line)).collect())
}

/// One line of `modules.dep`: `PATH: PATH PATH ...`, a module and what must be loaded before it, the last one
/// first.
#[derive(Debug, PartialEq, Eq)]
pub struct Line<'a> {
    /// The module's file, from the folder of the kernel's modules.
    pub path: &'a str,
    pub needs: Vec<&'a str>,
}

impl<'a> Line<'a> {
    fn parse(line: &'a str) -> Option<Self> {
        let (path, needs) = line.split_once(':')?;
        Some(Self { path, needs: needs.split_whitespace().collect() })
    }
}

impl std::fmt::Display for Line<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:", self.path)?;
        self.needs.iter().try_for_each(|need| write!(f, " {need}"))
    }
}

/// A module's name: its file's without folders and extensions. `-` and `_` are the same.
fn name(path: &str) -> String {
    let file = path.rsplit('/').next().unwrap_or(path);
    normal(file.split('.').next().unwrap_or(file))
}

fn normal(name: &str) -> String {
    name.replace('-', "_")
}

#[cfg(test)]
mod tests {
    use super::*;

    const DEPENDENCIES: &str = "\
kernel/drivers/net/virtio_net.ko.xz: kernel/drivers/net/net_failover.ko.xz kernel/net/core/failover.ko.xz
kernel/drivers/net/tun.ko.xz:
kernel/drivers/net/net_failover.ko.xz: kernel/net/core/failover.ko.xz
kernel/drivers/char/hw_random/virtio-rng.ko.xz:
kernel/net/core/failover.ko.xz:
";
    const BUILTIN: &str = "kernel/fs/ext4/ext4.ko\nkernel/drivers/virtio/virtio_pci.ko\n";

    fn names(wanted: &[&str]) -> Result<Vec<String>> {
        Ok(needed(wanted, DEPENDENCIES, BUILTIN)?.iter().map(|line| name(line.path)).collect())
    }

    #[test]
    fn a_module_brings_all_that_it_depends_on_in_the_order_of_the_file() {
        assert_eq!(names(&["virtio_net"]).unwrap(), ["virtio_net", "net_failover", "failover"]);
        assert_eq!(
            names(&["virtio_rng", "net_failover"]).unwrap(),
            ["net_failover", "virtio_rng", "failover"]
        );
    }

    #[test]
    fn what_is_built_in_needs_no_file_and_what_is_nowhere_is_an_error() {
        assert_eq!(names(&["ext4", "virtio-pci"]).unwrap(), [""; 0]);
        assert!(names(&["ext5"]).unwrap_err().to_string().contains("ext5"));
        assert!(needed(&["a"], "a.ko: b.ko\n", "").unwrap_err().to_string().contains("b.ko"));
    }

    #[test]
    fn lines_are_written_as_they_were_read() {
        let lines = needed(&["virtio_net"], DEPENDENCIES, BUILTIN).unwrap();
        assert_eq!(lines[0].to_string(), DEPENDENCIES.lines().next().unwrap());
        assert_eq!(lines[2].to_string(), "kernel/net/core/failover.ko.xz:");
    }
}
