//! What a survey means.

use super::{Finding, Level, Survey};
use crate::{
    config::{BoardConfig, CoresConfig, PortConfig},
    machine::{Cores, CpuList},
    placement::Placement,
    pool::{HUGE_PAGE, Pool},
    port::vfio::{VfioError, discovery::Discovered},
};

fn finding(level: Level, subject: &'static str, text: impl Into<String>) -> Finding {
    Finding { level, subject, text: text.into() }
}

/// Judges everything that matters to the board.
pub fn judge(config: &BoardConfig, survey: &Survey) -> Vec<Finding> {
    let mut findings = port(config, survey);
    let pool = Pool::length_for(&config.queue_sizes(), config.hugepages);
    findings.push(huge_pages(config, survey, pool));
    if survey.device.is_some() {
        findings.push(locked_memory(survey, pool));
    }
    findings.extend(cores(config, survey));
    findings
}

fn port(config: &BoardConfig, survey: &Survey) -> Vec<Finding> {
    const SUBJECT: &str = "port";
    match (&config.port, &survey.device) {
        (Some(PortConfig::VfioUser(path)), _) => {
            let path = path.display();
            vec![if survey.socket == Some(true) {
                finding(Level::Ok, SUBJECT, format!("{path} is there"))
            } else {
                let text = format!("{path} is not there; start the process that serves the IO-Bond first");
                finding(Level::Error, SUBJECT, text)
            }]
        }
        (Some(PortConfig::Vfio(_)), Some(device)) => device_findings(survey, device),
        (Some(PortConfig::Vfio(_)) | None, _) => {
            let text = "none is configured: a program that embeds bm-hypervisor opens it";
            vec![finding(Level::Ok, SUBJECT, text)]
        }
    }
}

fn device_findings(survey: &Survey, device: &Result<Discovered, VfioError>) -> Vec<Finding> {
    let found = match device {
        Ok(found) => found,
        Err(error) => return vec![finding(Level::Error, "device", error.to_string())],
    };
    let mut findings = vec![if found.has_iommu {
        finding(Level::Ok, "IOMMU", "is there and translates")
    } else {
        finding(Level::Error, "IOMMU", VfioError::NoIommu { address: found.address }.to_string())
    }];
    if !survey.machine.has_vfio {
        findings.push(finding(
            Level::Error,
            "VFIO",
            VfioError::NoVfio { path: "/dev/vfio/vfio".into() }.to_string(),
        ));
    }
    match found.group() {
        Ok(group) => {
            let text = format!("{} is bound to vfio-pci, in IOMMU group {group}", found.address);
            findings.push(finding(Level::Ok, "device", text));
        }
        // Said already.
        Err(VfioError::NoIommu { .. }) => {}
        Err(error) => findings.push(finding(Level::Error, "device", error.to_string())),
    }
    findings
}

fn huge_pages(config: &BoardConfig, survey: &Survey, pool: u64) -> Finding {
    const SUBJECT: &str = "huge pages";
    let pages = survey.machine.huge_pages;
    let wanted = pool.div_ceil(HUGE_PAGE);
    let pool = mebibytes(pool);
    if !config.hugepages {
        let text = format!(
            "not asked for: {pool} of rings and slots come in pages of 4 KiB, each an entry of its own for the IOMMU; \
             hugepages = true takes {wanted} of 2 MiB"
        );
        let level = if survey.device.is_some() { Level::Warning } else { Level::Ok };
        return finding(level, SUBJECT, text);
    }
    if pages.free >= wanted {
        return finding(
            Level::Ok,
            SUBJECT,
            format!("{wanted} of 2 MiB for {pool} of rings and slots; {} are free", pages.free),
        );
    }
    let total = pages.reserved + (wanted - pages.free);
    let text = format!(
        "{wanted} of 2 MiB are wanted for {pool} of rings and slots, {} of {} are free; `sysctl vm.nr_hugepages={total}`, \
         or smaller ring.slots",
        pages.free, pages.reserved
    );
    finding(Level::Error, SUBJECT, text)
}

fn locked_memory(survey: &Survey, pool: u64) -> Finding {
    const SUBJECT: &str = "memory";
    let wanted = mebibytes(pool);
    match survey.machine.lockable {
        None => {
            finding(Level::Ok, SUBJECT, format!("{wanted} can be locked for the device, without a limit"))
        }
        Some(limit) if limit >= pool => finding(
            Level::Ok,
            SUBJECT,
            format!("{wanted} can be locked for the device, of at most {}", mebibytes(limit)),
        ),
        Some(limit) => finding(
            Level::Error,
            SUBJECT,
            format!(
                "{wanted} are to be locked for the device, and the limit is {}; `ulimit -l unlimited`, LimitMEMLOCK=infinity of \
                 the unit, or CAP_IPC_LOCK",
                mebibytes(limit)
            ),
        ),
    }
}

fn cores(config: &BoardConfig, survey: &Survey) -> Vec<Finding> {
    const SUBJECT: &str = "cores";
    let (Some(wanted), Some(placement)) = (&config.cores, &survey.placement) else {
        let text = "none are named: the poll thread runs wherever the scheduler puts it; name a core with cores = { poll = N }";
        return vec![finding(Level::Warning, SUBJECT, text)];
    };
    let placement = match placement {
        Ok(placement) => placement,
        Err(error) => return vec![finding(Level::Error, SUBJECT, error.to_string())],
    };
    let cores = &survey.machine.cores;
    let mut findings = vec![finding(Level::Ok, SUBJECT, takes(wanted, placement))];
    findings.extend(isolation(cores, placement));
    findings.extend(numa(survey, wanted, cores));
    findings
}

fn takes(wanted: &CoresConfig, placement: &Placement) -> String {
    let idle = placement.siblings().without(wanted.poll);
    if idle.is_empty() {
        return format!("CPU {} polls, which is a core of its own", wanted.poll);
    }
    format!("CPU {} polls; its siblings ({idle}) are kept free of other pollers", wanted.poll)
}

fn isolation(cores: &Cores, placement: &Placement) -> Option<Finding> {
    let shared: CpuList = placement.siblings().iter().filter(|cpu| !cores.isolated.contains(*cpu)).collect();
    (!shared.is_empty()).then(|| {
        let text = format!(
            "CPUs {shared} are not isolated, so that the poller shares its core with whatever the scheduler puts there; start \
             Linux with isolcpus={siblings} nohz_full={siblings}",
            siblings = placement.siblings()
        );
        finding(Level::Warning, "isolation", text)
    })
}

fn numa(survey: &Survey, wanted: &CoresConfig, cores: &Cores) -> Option<Finding> {
    let node = survey.device.as_ref()?.as_ref().ok()?.numa_node?;
    let polls = cores.node(wanted.poll)?;
    Some(if node == polls {
        finding(Level::Ok, "NUMA", format!("device and poller are on node {node}"))
    } else {
        let text = format!(
            "the device is on node {node}, CPU {} on node {polls}: every register and ring crosses between them; choose one of \
             CPUs {}",
            wanted.poll,
            cores.of_node(node)
        );
        finding(Level::Warning, "NUMA", text)
    })
}

fn mebibytes(bytes: u64) -> String {
    format!("{} MiB", bytes.div_ceil(1 << 20))
}
