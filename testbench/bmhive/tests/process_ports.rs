//! One conformance suite, and every port that there is to an IO-Bond held against it.
//!
//! ```text
//!   bm_hypervisor::port::conformance --+-- ModelPort ------------------------------- Bond
//!                                      +-- VfioUserPort -- socket -- bmhive iobond -- Bond
//!                                      +-- bm-hypervisor selftest: the same one --- bmhive iobond -- Bond
//! ```
//! The third port, VFIO, is held against it where there is a device: tests/linux_vfio_port.rs.
#![allow(clippy::unwrap_used, reason = "a test's own functions fail as its tests do")]

use std::{
    io::{BufRead, BufReader},
    path::PathBuf,
    process::{Child, Command, Stdio},
    sync::Arc,
};

use bm_hypervisor::port::{Port, conformance, vfio_user::VfioUserPort};
use iobond_model::live::Bond;
use model_port::ModelPort;
use rig::{
    bmhive::program,
    test_folder::TestFolder,
    toml::{SERVER, blk, board},
};

/// One board, of which only the IO-Bond matters.
fn scenario() -> String {
    SERVER.to_owned() + &board("board0", &[blk("size_mib = 1")])
}

/// `bmhive iobond`, killed when it is dropped.
struct IoBond {
    child: Child,
    folder: TestFolder,
}

impl IoBond {
    fn start() -> Self {
        let folder = TestFolder::new();
        let scenario = folder.write("scenario.toml", scenario());
        let mut command = Command::new(program());
        command.arg("iobond").arg(scenario).arg("--directory").arg(folder.path(""));
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let mut said = BufReader::new(child.stdout.take().unwrap()).lines();
        assert!(said.any(|line| line.unwrap() == "ready"));
        Self { child, folder }
    }

    fn base_socket(&self) -> PathBuf {
        self.folder.path("0.base")
    }
}

impl Drop for IoBond {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn hold<P: Port>(port: &P) {
    let failed: Vec<_> = conformance::checks()
        .into_iter()
        .filter_map(|check| check.run(port).err().map(|failure| format!("{}: {failure}", check.name)))
        .collect();
    assert_eq!(failed, [""; 0]);
}

#[test]
fn the_model_conforms() {
    hold(&ModelPort(Arc::new(Bond::new(Arc::new(())))));
}

#[test]
fn vfio_user_conforms_for_one_base_after_another() {
    let iobond = IoBond::start();
    for _ in 0..3 {
        hold(&VfioUserPort::open(&iobond.base_socket()).unwrap());
    }
}

#[test]
fn a_user_can_ask_for_it() {
    let iobond = IoBond::start();
    let config = iobond.folder.write(
        "board.toml",
        format!(
            "name = \"board0\"\nport = {{ vfio-user = {:?} }}\n[[functions]]\n[functions.blk]\nbackend = {{ socket = \"/nowhere\" }}\n",
            iobond.base_socket()
        ),
    );
    let program = program().with_file_name("bm-hypervisor");
    let output = Command::new(program).arg("selftest").arg(config).output().unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
    assert!(said.ends_with("13 passed, 0 failed\n"), "{said}");
}

#[test]
fn another_function_s_socket_is_refused() {
    let iobond = IoBond::start();
    // A board's function has a BAR 0 of the same size: what is behind it is no IO-Bond.
    let config = iobond.folder.write(
        "board.toml",
        format!(
            "name = \"board0\"\nport = {{ vfio-user = {:?} }}\n[[functions]]\n[functions.blk]\nbackend = {{ socket = \"/nowhere\" }}\n",
            iobond.folder.path("0.0.vfio")
        ),
    );
    let program = program().with_file_name("bm-hypervisor");
    let output = Command::new(program).arg("--config").arg(config).output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(!output.status.success() && said.contains("its registers read all ones"), "{said}");
}
