//! `cargo xtask guest`: what a compute board boots, below `target/guest`.
//!
//! QEMU (the machine's own where it is new enough), a stock Debian kernel, and an initramfs with busybox, the
//! kernel's own virtio drivers and the tools of the tests. Nothing of the machine changes and nothing but
//! apt's own tools is needed. The manifest, `guest.toml`, is made last: where it is, all that it names is.

mod apt;
mod cache;
mod cpio;
mod initramfs;
mod kernel;
mod modules;
mod qemu;
mod root;
mod sources;

use std::{fs, os::unix::fs::PermissionsExt, process::Command};

use anyhow::{Context, Result};
use serde::Serialize;

use self::{
    apt::{Apt, SUITES},
    cache::{Cache, digest},
    initramfs::Files,
    root::Root,
};
use crate::{report::Report, tree::Checkout};

const FOLDER: &str = "target/guest";
const MANIFEST: &str = "guest.toml";
const KERNEL: &str = "boot/vmlinux";
const INITRD: &str = "boot/initrd.cpio.gz";
/// Packages of the board; what they depend on comes with them. kmod orders the kernel's modules.
const PACKAGES: &[&str] = &[
    "bash",
    "busybox-static",
    "e2fsprogs",
    "ethtool",
    "fio",
    "kmod",
    "linux-image-cloud-amd64",
    "ncurses-base",
];
const QEMU_PACKAGE: &str = "qemu-system-x86";

/// The code that makes each result: a change of it makes the result again.
const FETCHING: &str = include_str!("apt.rs");
const UNPACKING: &str = include_str!("root.rs");
const EXTRACTING: &str = include_str!("kernel.rs");
const PACKING: &str =
    concat!(include_str!("initramfs.rs"), include_str!("cpio.rs"), include_str!("modules.rs"));

/// `guest.toml`: what there is, as paths from its own folder.
#[derive(Serialize)]
struct Manifest {
    qemu: String,
    qemu_version: String,
    kernel: String,
    kernel_version: String,
    initrd: String,
}

/// Makes what is missing or out of date; says whether everything is there.
pub fn run(checkout: &Checkout, report: &mut Report) -> bool {
    report.step("guest", || make(checkout))
}

fn make(checkout: &Checkout) -> Result<()> {
    let files = Files::read(&checkout.path("guest"))?;
    let cache = Cache::open(checkout.path(FOLDER), MANIFEST)?;
    let own = qemu::of_this_machine();
    let unpacked = unpack(&cache, own.is_none())?;
    let root = Root::new(cache.path("root"));

    let kernel = digest([unpacked.as_bytes(), EXTRACTING.as_bytes()]);
    cache.make(KERNEL, &kernel, |to| {
        eprintln!("    extracting the kernel");
        let image = root.read(&format!("usr/lib/modules/{}/vmlinuz", root.kernel_version()?))?;
        fs::write(to, kernel::vmlinux(&image)?).with_context(|| format!("cannot write {}", to.display()))
    })?;
    let initrd = digest([unpacked.as_bytes(), PACKING.as_bytes(), files.digest().as_bytes()]);
    cache.make(INITRD, &initrd, |to| {
        eprintln!("    packing the initramfs");
        initramfs::write(&root, &files, to)
    })?;
    let program = format!("bin/{}", qemu::PROGRAM);
    let script = qemu::script(own.as_ref().map(|own| &*own.path));
    cache.make(&program, &digest([script.as_bytes()]), |to| {
        fs::write(to, &script)?;
        fs::set_permissions(to, fs::Permissions::from_mode(0o755))
            .context("cannot make QEMU's script executable")
    })?;
    let version = own.map(|own| own.version).unwrap_or_default();
    let all = digest([&kernel, &initrd, &script, &version].map(|input| input.as_bytes()));
    let made = cache.make(MANIFEST, &all, |to| {
        let manifest = Manifest {
            qemu_version: qemu::ask(&mut Command::new(cache.path(&program)))?,
            qemu: program.clone(),
            kernel: KERNEL.into(),
            kernel_version: root.kernel_version()?,
            initrd: INITRD.into(),
        };
        let text = toml::to_string(&manifest).context("cannot write the manifest")?;
        fs::write(to, text).with_context(|| format!("cannot write {}", to.display()))
    })?;
    let told = if made { "made" } else { "up to date" };
    eprintln!("    {FOLDER}/{MANIFEST}: {told}");
    Ok(())
}

/// The tree of packages; says which they are, as one number.
fn unpack(cache: &Cache, with_qemu: bool) -> Result<String> {
    let mut packages = PACKAGES.to_vec();
    if with_qemu {
        packages.push(QEMU_PACKAGE);
    }
    let wanted = packages.iter().chain(&SUITES).map(|name| name.as_bytes());
    let inputs = digest(wanted.chain([FETCHING, UNPACKING].map(str::as_bytes)));
    cache.make("root", &inputs, |to| {
        let mirror = sources::mirror()?;
        let archives = Apt::new(cache.path("downloads"), &mirror)?.fetch(&packages)?;
        eprintln!("    unpacking");
        root::unpack(&archives, to)
    })?;
    // What is wanted stays the same when the mirror has newer versions; what was unpacked does not.
    Ok(digest([&*Root::new(cache.path("root")).read(root::CONTENTS)?]))
}
