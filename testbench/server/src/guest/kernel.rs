//! Whether a file can be a kernel at all. QEMU takes any file for one, and says of most that they are "too
//! old".

use std::{
    fs::File,
    io::{self, Read},
    path::{Path, PathBuf},
};

/// How an uncompressed kernel begins (ELF, System V ABI, "ELF Header").
const ELF: &[u8] = b"\x7fELF";
/// Where a bzImage says what it is (Linux x86 boot protocol, `header`), and how.
const BZ_IMAGE: (usize, &[u8]) = (0x202, b"HdrS");

/// A file that cannot be a kernel.
#[allow(missing_docs, reason = "the fields are those of the message")]
#[derive(Debug, thiserror::Error)]
pub enum KernelError {
    /// It cannot be read.
    #[error("cannot read kernel {}: {reason}", path.display())]
    Read { path: PathBuf, reason: io::Error },
    /// It is something else.
    #[error("{} is not a kernel; `kernel` wants an uncompressed vmlinux with a PVH entry, or a bzImage", .0.display())]
    Other(PathBuf),
}

/// Looks at the beginning of the file at `path`.
///
/// # Errors
/// [`KernelError`]
pub fn check_kernel(path: &Path) -> Result<(), KernelError> {
    let (at, magic) = BZ_IMAGE;
    let mut head = Vec::new();
    let read = File::open(path).and_then(|file| file.take((at + magic.len()) as u64).read_to_end(&mut head));
    read.map_err(|reason| KernelError::Read { path: path.into(), reason })?;
    let is_kernel = head.starts_with(ELF) || head.get(at..) == Some(magic);
    if is_kernel { Ok(()) } else { Err(KernelError::Other(path.into())) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kernel_begins_like_one() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("kernel");
        let mut bz_image = vec![0; 0x202];
        bz_image.extend(b"HdrS and more");
        for (contents, is_kernel) in [
            (&b"\x7fELF\x02"[..], true),
            (&bz_image, true),
            (&bz_image[..0x204], false),
            (b"\x1f\x8b\x08", false),
            (b"", false),
        ] {
            std::fs::write(&path, contents).unwrap();
            assert_eq!(check_kernel(&path).is_ok(), is_kernel, "{contents:?}");
        }
        let error = check_kernel(&directory.path().join("none")).unwrap_err();
        assert!(matches!(error, KernelError::Read { .. }), "{error}");
    }
}
