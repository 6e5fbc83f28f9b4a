//! What a compute board's initramfs holds: busybox, the kernel's virtio drivers, the tools of the tests, and
//! the files of `guest/`.

use std::{fs, io::Write, path::Path};

use anyhow::{Context, Result, bail};
use flate2::{Compression, GzBuilder};

use super::{
    cache::digest,
    cpio::{Archive, Entry},
    modules,
    root::Root,
};
use crate::command;

/// Where each file of `guest/` goes and whether it is a program. The list is whole: a file that is not here
/// is an error.
const PLACES: &[(&str, &str, bool)] = &[
    ("fio", "usr/bin/fio", true),
    ("power-button", "etc/acpi/PWRF/00000080", true),
    ("init", "init", true),
    ("shell", "etc/shell", true),
    ("inittab", "etc/inittab", false),
    ("inputrc", "etc/inputrc", false),
    ("profile", "etc/profile", false),
];

/// Drivers of what IO-Bond shows to a board, the file system of the tests, and what hears the power button.
const DRIVERS: &[&str] =
    &["virtio_pci", "virtio_blk", "virtio_net", "virtio_console", "ext4", "button", "evdev"];

/// Drivers that are there and not loaded: with them a machine can be a base server that reaches its IO-Bond
/// through VFIO.
const SPARE: &[&str] = &["vfio_iommu_type1", "vfio_pci"];

/// Programs beside busybox. Its shell asks the terminal for the cursor at every prompt, and a client that
/// reads the replay of a console would answer: hence bash.
const PROGRAMS: &[&str] = &["usr/bin/bash", "usr/sbin/e2fsck", "usr/sbin/ethtool", "usr/sbin/mke2fs"];

/// Names by which `mkfs -t ext4` and `fsck -t ext4` know two of them.
const NAMES: &[(&str, &str)] = &[("usr/sbin/mkfs.ext4", "mke2fs"), ("usr/sbin/fsck.ext4", "e2fsck")];

/// Files that they read. The terminal is the one that `guest/profile` names.
const DATA: &[&str] = &["etc/mke2fs.conf", "usr/share/terminfo/v/vt220"];

/// fio links against every store that Debian knows, 56 MB of libraries. They travel as an archive in the
/// archive, which costs a boot nothing; `guest/fio` unpacks it when it is first called.
const FIO: &str = "usr/bin/fio";
const FIO_ARCHIVE: &str = "usr/lib/fio.cpio.gz";

const BUSYBOX: &str = "usr/bin/busybox";

/// Writes the initramfs.
pub fn write(root: &Root, files: &Files, to: &Path) -> Result<()> {
    let mut archive = Archive::default();
    for name in ["bin", "lib", "lib64", "sbin"] {
        archive.add(name, Entry::Link(format!("usr/{name}")));
        archive.add(&format!("usr/{name}"), Entry::Folder);
    }
    for folder in ["dev", "mnt", "proc", "root", "run", "sys", "tmp", "var/log"] {
        archive.add(folder, Entry::Folder);
    }
    archive.add("var/run", Entry::Link("/run".into()));
    // The kernel opens it for init before init can mount anything: Linux, init/main.c, console_on_rootfs.
    archive.add("dev/console", Entry::Device(5, 1));
    for (name, place, executable) in PLACES {
        archive.add(place, Entry::File { data: files.get(name)?.into(), executable: *executable });
    }
    archive.add("etc/passwd", text("root:x:0:0:root:/root:/bin/bash\n"));
    archive.add("etc/group", text("root:x:0:\n"));
    archive.add("etc/mtab", Entry::Link("/proc/self/mounts".into()));
    add_drivers(&mut archive, root)?;
    for program in PROGRAMS {
        archive.add(program, file(root, program, true)?);
    }
    NAMES.iter().for_each(|(name, target)| archive.add(name, Entry::Link((*target).into())));
    for path in DATA {
        archive.add(path, file(root, path, false)?);
    }
    let libraries = root.libraries(PROGRAMS)?;
    add_libraries(&mut archive, root, &libraries)?;
    // After the programs, because what is there already stays: `mke2fs` is not busybox's.
    add_busybox(&mut archive, root)?;
    archive.add(FIO_ARCHIVE, Entry::File { data: compress(&fio(root, &libraries)?)?, executable: false });
    let bytes = compress(&archive.bytes()?)?;
    fs::write(to, bytes).with_context(|| format!("cannot write {}", to.display()))
}

/// fio as `fio.real`, with the libraries that are not there for others.
fn fio(root: &Root, present: &[String]) -> Result<Vec<u8>> {
    let mut archive = Archive::default();
    archive.add(&format!("{FIO}.real"), file(root, FIO, true)?);
    let libraries: Vec<_> =
        root.libraries(&[FIO])?.into_iter().filter(|path| !present.contains(path)).collect();
    add_libraries(&mut archive, root, &libraries)?;
    archive.bytes()
}

fn add_busybox(archive: &mut Archive, root: &Root) -> Result<()> {
    archive.add(BUSYBOX, file(root, BUSYBOX, true)?);
    // It is static, so it runs here as well as there.
    let applets = command::output(std::process::Command::new(root.path(BUSYBOX)).arg("--list-full"))?;
    for applet in applets.lines() {
        archive.add(&merged(applet), Entry::Link(format!("/{BUSYBOX}")));
    }
    Ok(())
}

/// A path behind the links of a merged /usr: an archive cannot hold an entry below a link.
fn merged(path: &str) -> String {
    let inside = path.trim_start_matches('/');
    if inside.starts_with("usr/") || !inside.contains('/') {
        inside.to_owned()
    } else {
        format!("usr/{inside}")
    }
}

fn add_drivers(archive: &mut Archive, root: &Root) -> Result<()> {
    let folder = format!("usr/lib/modules/{}", root.kernel_version()?);
    let read = |name: &str| {
        let path = format!("{folder}/{name}");
        String::from_utf8(root.read(&path)?).with_context(|| format!("{path} is not text"))
    };
    let (dependencies, builtin) = (read("modules.dep")?, read("modules.builtin")?);
    let lines = modules::needed(&[DRIVERS, SPARE].concat(), &dependencies, &builtin)?;
    for line in &lines {
        let path = format!("{folder}/{}", line.path);
        archive.add(&path, file(root, &path, false)?);
    }
    let kept = lines.iter().map(|line| format!("{line}\n")).collect::<String>();
    archive.add(&format!("{folder}/modules.dep"), text(&kept));
    archive.add(&format!("{folder}/modules.builtin"), text(&builtin));
    archive.add("etc/modules", text(&DRIVERS.iter().map(|driver| format!("{driver}\n")).collect::<String>()));
    Ok(())
}

/// A library is found by the name that it is linked under; the link's target stands there itself.
fn add_libraries(archive: &mut Archive, root: &Root, libraries: &[String]) -> Result<()> {
    libraries.iter().try_for_each(|path| {
        archive.add(&merged(path), file(root, path, true)?);
        Ok(())
    })
}

fn file(root: &Root, path: &str, executable: bool) -> Result<Entry> {
    Ok(Entry::File { data: root.read(path)?, executable })
}

fn text(text: &str) -> Entry {
    Entry::File { data: text.into(), executable: false }
}

fn compress(bytes: &[u8]) -> Result<Vec<u8>> {
    // No time and no name in the header: equal contents, equal bytes.
    let mut encoder = GzBuilder::new().mtime(0).write(Vec::new(), Compression::default());
    encoder.write_all(bytes).context("cannot compress")?;
    encoder.finish().context("cannot compress")
}

/// The files of `guest/`.
pub struct Files(Vec<(String, String)>);

impl Files {
    /// Reads exactly the files that have a place.
    pub fn read(folder: &Path) -> Result<Self> {
        let entries = fs::read_dir(folder).with_context(|| format!("cannot list {}", folder.display()))?;
        let mut files = Vec::new();
        for entry in entries {
            let path = entry.with_context(|| format!("cannot list {}", folder.display()))?.path();
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            if !PLACES.iter().any(|(file, ..)| *file == name) {
                bail!(
                    "{} has no place in the initramfs; name one in xtask/src/guest/initramfs.rs",
                    path.display()
                );
            }
            files.push((
                name,
                fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?,
            ));
        }
        files.sort();
        Ok(Self(files))
    }

    fn get(&self, name: &str) -> Result<&str> {
        let found = self.0.iter().find(|(file, _)| file == name).map(|(_, text)| &**text);
        found.with_context(|| format!("guest/{name} is missing"))
    }

    /// What they hold, as one number.
    pub fn digest(&self) -> String {
        digest(self.0.iter().flat_map(|(name, text)| [name.as_bytes(), text.as_bytes()]))
    }
}
