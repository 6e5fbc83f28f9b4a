//! Guest files whose QEMU is a shell script: for what has to be right around a QEMU, whatever runs in it.

use std::{fs, os::unix::fs::PermissionsExt};

use crate::test_folder::TestFolder;

/// What the script does, said by a word in the guest's `cmdline`: `fake=off` ends in order, `fake=crash`
/// without; everything else stays until it is killed. Opening a FIFO for both directions and reading from it
/// waits without a process of its own.
const SCRIPT: &str = r#"#!/bin/sh
case "$*" in
*fake=off*) exit 0 ;;
*fake=crash*) echo "first words" >&2; echo "no such device" >&2; exit 3 ;;
esac
mkfifo "$0.$$" && exec 3<>"$0.$$" && rm "$0.$$" && read -r _ <&3
"#;

/// Makes `guest` in `folder`; the option that names it.
pub fn fake_qemu(folder: &TestFolder) -> [String; 2] {
    let directory = folder.path("guest");
    fs::create_dir(&directory).unwrap();
    let manifest = "qemu = \"qemu\"\nqemu_version = \"0\"\nkernel = \"vmlinux\"\nkernel_version = \"0\"\ninitrd = \"initrd\"\n";
    for (name, contents) in
        [("qemu", SCRIPT), ("vmlinux", "\x7fELF"), ("initrd", ""), ("guest.toml", manifest)]
    {
        fs::write(directory.join(name), contents).unwrap();
    }
    fs::set_permissions(directory.join("qemu"), fs::Permissions::from_mode(0o755)).unwrap();
    ["--guest".into(), directory.to_str().unwrap().into()]
}

/// A board with a console whose guest is told `fake`.
pub fn fake_board(name: &str, fake: &str) -> String {
    format!(
        "[[board]]\nname = {name:?}\nmemory_mib = 16\n[board.guest]\ncmdline = \"fake={fake}\"\n\
         [[board.function]]\nkind = \"console\"\n"
    )
}
