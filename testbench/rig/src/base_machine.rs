//! A base server in a QEMU of its own, with an IOMMU and PCI functions that this process serves.
//!
//! ```text
//!   BaseMachine -- QEMU: stock kernel, IOMMU, vfio-pci, programs of target/static -- serial port -- Shell
//!                    \-- vfio-user -- a Function of the test
//! ```

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use crate::{
    bmhive::program,
    initramfs,
    linux::{Shell, guest_files},
    test_folder::TestFolder,
    wait::wait_until,
};
use bmhive_server::guest::GuestFiles;

/// PCI device number of the first function that is plugged in.
const FIRST_SLOT: usize = 0x10;
/// How long QEMU may take to make its serial port.
const START: Duration = Duration::from_secs(20);
const MEBIBYTES: u32 = 512;
/// Where the initial RAM disk has programs.
const PROGRAMS: &str = "usr/bin";

/// A base server that runs. Dropping it cuts its power.
pub struct BaseMachine {
    pub shell: Shell,
    qemu: Child,
    _folder: TestFolder,
}

impl BaseMachine {
    /// Boots a machine with the functions at `sockets` and these programs of `cargo xtask static`, and loads
    /// vfio-pci.
    pub fn start(sockets: &[PathBuf], programs: &[&str]) -> Self {
        let folder = TestFolder::new();
        let files = guest_files();
        let initrd = folder.path("initrd");
        let places: Vec<_> = programs.iter().map(|name| (static_program(name), place(name))).collect();
        let programs: Vec<_> = places.iter().map(|(path, place)| (path.clone(), place.as_str())).collect();
        initramfs::with_programs(&files.initrd, &programs, &initrd).unwrap();
        let [serial, log] = ["serial.sock", "qemu.log"].map(|name| folder.path(name));
        let mut qemu = Command::new(program())
            .arg("launch")
            .arg(&files.qemu)
            .args(arguments(&files, &initrd, &folder.path(""), sockets))
            .stdin(Stdio::null())
            .stderr(File::create(&log).unwrap())
            .spawn()
            .unwrap();
        let there = wait_until(START, || {
            let ended = qemu.try_wait().unwrap();
            assert!(ended.is_none(), "no serial port: {ended:?}, {:?}", fs::read_to_string(&log));
            serial.exists()
        });
        assert!(there, "no serial port: {:?}", fs::read_to_string(&log));
        let mut shell = Shell::connect(&serial, folder.path("serial.log"));
        shell.check("modprobe vfio_iommu_type1 && modprobe vfio-pci");
        Self { shell, qemu, _folder: folder }
    }

    /// The address of the function at socket `index`.
    pub fn address(index: usize) -> String {
        format!("0000:00:{:02x}.0", FIRST_SLOT + index)
    }

    /// Binds a function to vfio-pci.
    pub fn bind(&mut self, address: &str) {
        let device = format!("/sys/bus/pci/devices/{address}");
        self.shell.check(&format!(
            "echo vfio-pci > {device}/driver_override && echo {address} > /sys/bus/pci/drivers_probe"
        ));
    }
}

impl Drop for BaseMachine {
    fn drop(&mut self) {
        let _ = self.qemu.kill();
        let _ = self.qemu.wait();
    }
}

fn place(name: &str) -> String {
    format!("{PROGRAMS}/{}", Path::new(name).file_name().unwrap().to_str().unwrap())
}

/// Cargo's folder; the program is `target/PROFILE/bmhive`.
fn target() -> &'static Path {
    program().ancestors().nth(2).unwrap()
}

/// A program of `cargo xtask static`; an example is `examples/NAME`.
fn static_program(name: &str) -> PathBuf {
    let path = target().join("static/x86_64-unknown-linux-gnu/debug").join(name);
    assert!(fs::exists(&path).unwrap(), "{} is missing; `cargo xtask static` makes it", path.display());
    path
}

fn arguments(files: &GuestFiles, initrd: &Path, directory: &Path, sockets: &[PathBuf]) -> Vec<String> {
    let file = |name: &str| directory.join(name).display().to_string();
    let mut line: Vec<String> = [
        "-M q35 -accel tcg -cpu max -smp 2 -m 512M -machine memory-backend=ram -nodefaults -no-user-config -display none",
        // 48 bits: the pool's addresses begin at 1 TiB. QEMU wants the IOMMU before the devices behind it.
        "-device intel-iommu,caching-mode=on,aw-bits=48",
    ]
    .iter()
    .flat_map(|words| words.split(' ').map(str::to_owned))
    .collect();
    line.extend(["-object".into(), format!("memory-backend-memfd,id=ram,size={MEBIBYTES}M,share=on")]);
    line.extend(["-kernel".into(), files.kernel.display().to_string()]);
    line.extend(["-initrd".into(), initrd.display().to_string()]);
    line.extend(["-append".into(), "console=ttyS0 loglevel=5 intel_iommu=on bmhive.hostname=server".into()]);
    // It waits for its reader: nothing is lost.
    line.push("-chardev".into());
    line.push(format!(
        "socket,id=serial,server=on,wait=on,path={},logfile={}",
        file("serial.sock"),
        file("serial.log")
    ));
    line.extend(["-serial".into(), "chardev:serial".into()]);
    for (number, socket) in sockets.iter().enumerate() {
        let device = serde_json::json!({
            "driver": "vfio-user-pci",
            "id": format!("function{number}"),
            "bus": "pcie.0",
            "addr": format!("{:02x}.0", FIRST_SLOT + number),
            "socket": { "type": "unix", "path": socket.to_string_lossy() },
        });
        line.extend(["-device".into(), device.to_string()]);
    }
    line
}
