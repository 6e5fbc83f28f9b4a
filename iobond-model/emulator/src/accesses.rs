//! Accesses to a region as a PCI function takes them: naturally aligned, four bytes at most.

use iobond_vfio_user::Errno;

/// Reads `data.len()` bytes at `offset`, each piece with `piece`, which is told its offset and width.
pub(super) fn read(
    offset: u64,
    data: &mut [u8],
    mut piece: impl FnMut(u64, u8) -> Result<u32, Errno>,
) -> Result<(), Errno> {
    for (done, width) in accesses(offset, data.len()) {
        let value = piece(offset + done as u64, width)?;
        let width = usize::from(width);
        data[done..done + width].copy_from_slice(&value.to_le_bytes()[..width]);
    }
    Ok(())
}

/// Writes `data` at `offset`, each piece with `piece`, which is told its offset, width and value.
pub(super) fn write(
    offset: u64,
    data: &[u8],
    mut piece: impl FnMut(u64, u8, u32) -> Result<(), Errno>,
) -> Result<(), Errno> {
    accesses(offset, data.len()).try_for_each(|(done, width)| {
        let bytes = data[done..done + usize::from(width)].iter();
        piece(offset + done as u64, width, bytes.rev().fold(0, |value, byte| value << 8 | u32::from(*byte)))
    })
}

/// Cuts `len` bytes at `offset` into naturally aligned accesses of at most four bytes, as PCI knows them:
/// where each begins in the whole, and its width.
fn accesses(offset: u64, len: usize) -> impl Iterator<Item = (usize, u8)> {
    let mut done = 0;
    std::iter::from_fn(move || {
        let at = offset + done as u64;
        let fits = |width: &u8| at.is_multiple_of(u64::from(*width)) && usize::from(*width) <= len - done;
        let width = [4, 2, 1].into_iter().find(fits).filter(|_| done < len)?;
        done += usize::from(width);
        Some((done - usize::from(width), width))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_access_is_cut_where_pci_would() {
        let cut = |offset, len| accesses(offset, len).collect::<Vec<_>>();
        assert_eq!(cut(0, 4), [(0, 4)]);
        assert_eq!(cut(8, 8), [(0, 4), (4, 4)]);
        assert_eq!(cut(1, 7), [(0, 1), (1, 2), (3, 4)]);
        assert_eq!(cut(6, 3), [(0, 2), (2, 1)]);
        assert_eq!(cut(0, 4096).len(), 1024);
        assert_eq!(cut(3, 0), []);
    }
}
