//! The kernel proper out of a bzImage.
//!
//! QEMU starts an ELF image through PVH, without the real-mode code and without the decompressor: 6 s instead
//! of 10 s to a shell under TCG. The header is described in Linux, Documentation/arch/x86/boot.rst.

use std::io::Read;

use anyhow::{Context, Result, bail};
use flate2::read::GzDecoder;
use ruzstd::decoding::StreamingDecoder;

/// Offsets of "The Real-Mode Kernel Header".
const SETUP_SECTS: usize = 0x1f1;
const MAGIC: usize = 0x202;
const VERSION: usize = 0x206;
const PAYLOAD_OFFSET: usize = 0x248;
const PAYLOAD_LENGTH: usize = 0x24c;
/// `payload_offset` is there since protocol 2.08.
const FIRST_VERSION: u16 = 0x0208;
/// A sector of the setup code.
const SECTOR: usize = 512;
/// No kernel is larger; bounds what a broken image can inflate to.
const LARGEST: u64 = 512 << 20;

/// The uncompressed ELF image inside a bzImage.
///
/// # Errors
/// When this is no bzImage, when its compression is neither gzip nor zstd, and when what comes out is no ELF
/// image.
pub fn vmlinux(image: &[u8]) -> Result<Vec<u8>> {
    if bytes::<4>(image, MAGIC)? != *b"HdrS" {
        bail!("no bzImage: its header lacks the magic number");
    }
    let version = u16::from_le_bytes(bytes(image, VERSION)?);
    if version < FIRST_VERSION {
        bail!("boot protocol {version:#06x} does not say where the kernel is, {FIRST_VERSION:#06x} does");
    }
    // Zero means four: "For backwards compatibility, if the setup_sects field contains 0,
    // the real value is 4."
    let sectors = match bytes::<1>(image, SETUP_SECTS)? {
        [0] => 4,
        [sectors] => usize::from(sectors),
    };
    let offset = u32::from_le_bytes(bytes(image, PAYLOAD_OFFSET)?) as usize;
    let length = u32::from_le_bytes(bytes(image, PAYLOAD_LENGTH)?) as usize;
    let start = (sectors + 1) * SECTOR + offset;
    let payload = image
        .get(start..start + length)
        .with_context(|| format!("the kernel at {start:#x}, {length} bytes, lies outside of the image"))?;
    let kernel = inflate(payload)?;
    if !kernel.starts_with(b"\x7fELF") {
        bail!("what the image holds is no ELF image");
    }
    Ok(kernel)
}

/// The build appends the inflated size to the compressed stream, hence both decoders stop where the stream
/// does.
fn inflate(payload: &[u8]) -> Result<Vec<u8>> {
    let mut kernel = Vec::new();
    match payload {
        [0x1f, 0x8b, ..] => {
            GzDecoder::new(payload).take(LARGEST).read_to_end(&mut kernel).context("broken gzip stream")?
        }
        [0x28, 0xb5, 0x2f, 0xfd, ..] => {
            let decoder = StreamingDecoder::new(payload).context("broken zstd stream")?;
            decoder.take(LARGEST).read_to_end(&mut kernel).context("broken zstd stream")?
        }
        [0x7f, b'E', b'L', b'F', ..] => return Ok(payload.to_vec()),
        _ => bail!("the kernel is compressed by something that is neither gzip nor zstd"),
    };
    Ok(kernel)
}

fn bytes<const N: usize>(image: &[u8], at: usize) -> Result<[u8; N]> {
    let bytes = image.get(at..at + N).and_then(|bytes| bytes.try_into().ok());
    bytes.with_context(|| format!("no bzImage: it ends before its header does, at {at:#x}"))
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use flate2::{Compression, write::GzEncoder};
    use ruzstd::encoding::{CompressionLevel, compress_to_vec};

    use super::*;

    const KERNEL: &[u8] = b"\x7fELF and the rest of a kernel";

    /// A bzImage of protocol 2.15 with one sector of setup code and the payload 16 bytes into the code after
    /// it.
    fn image(payload: &[u8]) -> Vec<u8> {
        let mut image = vec![0; 2 * SECTOR + 16];
        image[SETUP_SECTS] = 1;
        image[MAGIC..MAGIC + 4].copy_from_slice(b"HdrS");
        image[VERSION..VERSION + 2].copy_from_slice(&0x020f_u16.to_le_bytes());
        image[PAYLOAD_OFFSET..PAYLOAD_OFFSET + 4].copy_from_slice(&16_u32.to_le_bytes());
        let length = u32::try_from(payload.len()).unwrap();
        image[PAYLOAD_LENGTH..PAYLOAD_LENGTH + 4].copy_from_slice(&length.to_le_bytes());
        image.extend_from_slice(payload);
        image
    }

    fn with_size(mut stream: Vec<u8>) -> Vec<u8> {
        stream.extend_from_slice(&u32::try_from(KERNEL.len()).unwrap().to_le_bytes());
        stream
    }

    fn gzip(data: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
        encoder.write_all(data).unwrap();
        encoder.finish().unwrap()
    }

    #[test]
    fn the_kernel_comes_out_of_gzip_zstd_and_no_compression() {
        let zstd = compress_to_vec(KERNEL, CompressionLevel::Fastest);
        for payload in [with_size(gzip(KERNEL)), with_size(zstd), KERNEL.to_vec()] {
            assert_eq!(vmlinux(&image(&payload)).unwrap(), KERNEL);
        }
    }

    #[test]
    fn what_is_no_kernel_is_an_error_that_says_so() {
        let said = |image: &[u8]| format!("{:#}", vmlinux(image).unwrap_err());
        assert!(said(&[]).contains("ends before its header"));
        assert!(said(&[0; 2048]).contains("magic number"));
        assert!(said(&image(b"\xfd7zXZ\0 and so on")).contains("neither gzip nor zstd"));
        assert!(said(&image(&gzip(b"no kernel"))).contains("no ELF image"));
        let whole = image(&gzip(KERNEL));
        assert!(said(&whole[..whole.len() - 1]).contains("outside of the image"));
        let mut old = whole;
        old[VERSION] = 0x07;
        assert!(said(&old).contains("0x0207"));
    }
}
