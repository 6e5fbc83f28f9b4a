//! SHA-256 of what passes by.

use std::{
    fs::File,
    io::{self, Read, Write},
    path::Path,
};

use sha2::{Digest, Sha256};

/// Passes everything on and keeps its digest.
pub struct Hashing<S> {
    stream: S,
    digest: Sha256,
    bytes: u64,
    progress: Box<dyn FnMut(u64)>,
}

impl<S> Hashing<S> {
    /// Nothing has passed yet.
    pub fn new(stream: S) -> Self {
        Self { stream, digest: Sha256::new(), bytes: 0, progress: Box::new(|_| {}) }
    }

    /// Tells `progress` how many bytes have passed, whenever some have.
    #[must_use]
    pub fn reporting(mut self, progress: impl FnMut(u64) + 'static) -> Self {
        self.progress = Box::new(progress);
        self
    }

    /// Digest of what passed, in hexadecimal.
    pub fn digest(self) -> String {
        hex(&self.digest.finalize())
    }

    fn passed(&mut self, bytes: &[u8]) {
        self.digest.update(bytes);
        self.bytes += bytes.len() as u64;
        (self.progress)(self.bytes);
    }
}

impl<S: Read> Read for Hashing<S> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.stream.read(buffer)?;
        self.passed(&buffer[..read]);
        Ok(read)
    }
}

impl<S: Write> Write for Hashing<S> {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        let written = self.stream.write(buffer)?;
        self.passed(&buffer[..written]);
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.stream.flush()
    }
}

/// Digest of the first `bytes` bytes of a file, in hexadecimal.
///
/// # Errors
/// The file cannot be read.
pub fn digest_of(path: &Path, bytes: u64) -> io::Result<String> {
    let mut hashing = Hashing::new(io::sink());
    io::copy(&mut File::open(path)?.take(bytes), &mut hashing)?;
    Ok(hashing.digest())
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_digest_is_that_of_fips_180() {
        let mut hashing = Hashing::new(io::sink());
        hashing.write_all(b"abc").unwrap();
        assert_eq!(hashing.digest(), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    }
}
