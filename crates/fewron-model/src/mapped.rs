//! Memory-mapped files: the only `unsafe` of this crate.

use std::fs::File;
use std::io;
use std::ops::{Deref, Range};

use memmap2::{Mmap, MmapMut};

/// A read-only, private map of a file, or of bytes held in memory.
///
/// A file that another process shortens while it is open makes reads fault, as with every mapped
/// file: replace model files by renaming, not in place.
#[derive(Debug)]
pub(crate) struct Mapped {
    map: Mmap,
    from_file: bool,
}

impl Mapped {
    /// Maps a file, which must not be empty.
    pub(crate) fn file(file: &File) -> io::Result<Self> {
        Ok(Mapped { map: map_file(file)?, from_file: true })
    }

    /// A copy of `bytes`, which must not be empty.
    pub(crate) fn copy(bytes: &[u8]) -> io::Result<Self> {
        let mut map = MmapMut::map_anon(bytes.len())?;
        map.copy_from_slice(bytes);
        Ok(Mapped { map: map.make_read_only()?, from_file: false })
    }

    /// Tells the kernel that the pages of a byte range are not needed for now; reading them again
    /// loads them from the disk. A range beyond the end is cut; a refusal by the system is ignored,
    /// since nothing depends on it.
    pub(crate) fn release(&self, range: Range<usize>) {
        let end = range.end.min(self.map.len());
        if self.from_file && range.start < end {
            advise_unneeded(&self.map, range.start, end - range.start);
        }
    }
}

impl Deref for Mapped {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.map
    }
}

#[allow(unsafe_code)]
fn map_file(file: &File) -> io::Result<Mmap> {
    // SAFETY: the map is private and read-only, and every read of it goes through bounds-checked
    // slices whose content is treated as untrusted. Shrinking the file under us faults the process
    // (documented on `Mapped`), which no in-process check can prevent.
    unsafe { Mmap::map(file) }
}

#[cfg(unix)]
#[allow(unsafe_code)]
fn advise_unneeded(map: &Mmap, offset: usize, len: usize) {
    // SAFETY: `MADV_DONTNEED` on a file mapping that was never written only drops cached pages; the
    // next read brings the same bytes back from the file.
    let _ = unsafe { map.unchecked_advise_range(memmap2::UncheckedAdvice::DontNeed, offset, len) };
}

#[cfg(not(unix))]
fn advise_unneeded(_map: &Mmap, _offset: usize, _len: usize) {}
