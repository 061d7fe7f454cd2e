//! Memory for weights: large mappings on huge pages, handed out piece by piece.
//!
//! Weights are streamed once for each token. Huge pages spare most of the address translation, and let
//! the processor's own prefetchers run on past 4 KiB.

use bytemuck::Pod;
use memmap2::{MmapMut, MmapOptions};
use std::marker::PhantomData;
use std::ops::{Deref, DerefMut};
use std::sync::Arc;

/// Bytes of a mapping, unless a piece needs more. What is never written takes no memory.
const MAPPING: usize = 64 << 20;

/// Pieces begin at cache lines.
const LINE: usize = 64;

/// A source of zeroed memory for weights. Pieces that are taken one after the other lie side by side.
#[derive(Default)]
pub struct Memory {
    mapping: Option<Arc<MmapMut>>,
    used: usize,
}

impl Memory {
    /// A piece of `len` zeros.
    pub(crate) fn take<T: Pod>(&mut self, len: usize) -> Piece<T> {
        let bytes = len * size_of::<T>();
        let room = self.mapping.as_ref().map_or(0, |mapping| mapping.len() - self.used);
        if room < bytes {
            self.mapping = map(bytes.max(MAPPING)).map(Arc::new);
            self.used = 0;
        }
        match &self.mapping {
            Some(mapping) if bytes > 0 => {
                let start = self.used;
                self.used = (start + bytes).next_multiple_of(LINE).min(mapping.len());
                Piece { memory: Owner::Mapping(Arc::clone(mapping)), start, len, of: PhantomData }
            }
            _ => {
                let memory = Owner::Heap(vec![T::zeroed(); len]);
                Piece { memory, start: 0, len, of: PhantomData }
            }
        }
    }
}

/// A mapping of zeros, if the system has one to give.
fn map(bytes: usize) -> Option<MmapMut> {
    let mapping = MmapOptions::new().len(bytes).no_reserve_swap().map_anon().ok()?;
    #[cfg(target_os = "linux")]
    let _ = mapping.advise(memmap2::Advice::HugePage);
    Some(mapping)
}

/// A slice in [`Memory`].
pub(crate) struct Piece<T> {
    memory: Owner<T>,
    start: usize,
    len: usize,
    of: PhantomData<T>,
}

impl<T: Pod> Piece<T> {
    /// A copy in other memory.
    pub(crate) fn copied(&self, memory: &mut Memory) -> Self {
        let mut copy = memory.take(self.len);
        copy.copy_from_slice(self);
        copy
    }
}

enum Owner<T> {
    /// A part of a mapping that no other piece has.
    Mapping(Arc<MmapMut>),
    Heap(Vec<T>),
}

impl<T: Pod> Deref for Piece<T> {
    type Target = [T];

    #[inline(always)]
    fn deref(&self) -> &[T] {
        match &self.memory {
            // SAFETY: the part lies in the mapping at a multiple of 64 bytes, and any bytes are a `T`.
            Owner::Mapping(mapping) => unsafe {
                std::slice::from_raw_parts(mapping.as_ptr().add(self.start).cast(), self.len)
            },
            Owner::Heap(values) => values,
        }
    }
}

impl<T: Pod> DerefMut for Piece<T> {
    fn deref_mut(&mut self) -> &mut [T] {
        match &mut self.memory {
            // SAFETY: as for `deref`; the part is this piece's alone, and the piece is borrowed
            // exclusively.
            Owner::Mapping(mapping) => unsafe {
                let start = mapping.as_ptr().add(self.start).cast_mut();
                std::slice::from_raw_parts_mut(start.cast(), self.len)
            },
            Owner::Heap(values) => values,
        }
    }
}

/// Asks for cache lines, one for each 64 bytes of a slice from its first on.
#[inline(always)]
pub(crate) fn prefetch<T: Pod>(values: &[T]) {
    for line in values.chunks(LINE / size_of::<T>()) {
        prefetch_line(line.as_ptr().cast());
    }
}

/// Asks for the cache line at an address, which need not be a valid one.
#[inline(always)]
pub(crate) fn prefetch_line(at: *const u8) {
    #[cfg(target_arch = "x86_64")]
    {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        // SAFETY: a prefetch has no effect but on the caches, whatever the address.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(at.cast()) };
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = at;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_are_zero_and_their_own() {
        let mut memory = Memory::default();
        let mut pieces: Vec<Piece<u32>> = (0..100).map(|i| memory.take(i * 7)).collect();
        let mut large: Piece<u8> = memory.take(MAPPING + 5);
        for (i, piece) in pieces.iter_mut().enumerate() {
            assert_eq!(piece.len(), i * 7);
            assert!(piece.iter().all(|&x| x == 0));
            piece.fill(i as u32 + 1);
        }
        large[MAPPING + 4] = 1;
        drop(memory);
        for (i, piece) in pieces.iter().enumerate() {
            assert!(piece.iter().all(|&x| x == i as u32 + 1));
        }
        assert_eq!(large.iter().filter(|&&x| x != 0).count(), 1);
    }
}
