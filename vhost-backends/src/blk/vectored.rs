//! File to guest memory and back without a buffer in between: one `preadv` or `pwritev` per request.
#![allow(unsafe_code)] // The kernel takes addresses of guest memory. No safe wrapper takes volatile memory.

use std::fs::File;
use std::io::{Error, ErrorKind, Result};
use std::os::fd::{AsRawFd, RawFd};

use libc::{c_int, iovec, off64_t, ssize_t};

use crate::chain::Segments;

/// Descriptors in one system call. Fewer than IOV_MAX (1024), so that the array is cheap to prepare.
const BATCH: usize = 64;

/// Fills `len` bytes of `into` from its start with the bytes of `file` from `offset` on.
pub(crate) fn read(file: &File, offset: u64, into: &Segments<'_>, len: usize) -> Result<()> {
    transfer(libc::preadv64, file, offset, into, 0, len)
}

/// Writes `len` bytes of `from`, after `skip` bytes of it, to `file` at `offset`.
pub(crate) fn write(file: &File, offset: u64, from: &Segments<'_>, skip: usize, len: usize) -> Result<()> {
    transfer(libc::pwritev64, file, offset, from, skip, len)
}

type Call = unsafe extern "C" fn(RawFd, *const iovec, c_int, off64_t) -> ssize_t;

fn transfer(
    call: Call,
    file: &File,
    offset: u64,
    segments: &Segments<'_>,
    skip: usize,
    len: usize,
) -> Result<()> {
    let mut done = 0;
    while done < len {
        let mut vectors = [iovec { iov_base: std::ptr::null_mut(), iov_len: 0 }; BATCH];
        let mut count = 0;
        for (vector, slice) in vectors.iter_mut().zip(segments.range(skip + done, len - done)) {
            let guard = slice.ptr_guard_mut();
            *vector = iovec { iov_base: guard.as_ptr().cast(), iov_len: guard.len() };
            count += 1;
        }
        let at = off64_t::try_from(offset + done as u64).map_err(|_| ErrorKind::InvalidInput)?;
        // SAFETY: the first `count` vectors cover slices of `segments`, whose mapping outlives the call.
        // Memory that a front end shares may change at any time; it is handed to the kernel and never
        // borrowed as a reference.
        match unsafe { call(file.as_raw_fd(), vectors.as_ptr(), count, at) } {
            0 => return Err(ErrorKind::UnexpectedEof.into()),
            moved if moved > 0 => done += moved.unsigned_abs(),
            _ => match Error::last_os_error() {
                error if error.kind() == ErrorKind::Interrupted => {}
                error => return Err(error),
            },
        }
    }
    Ok(())
}
