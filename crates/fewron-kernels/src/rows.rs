//! Rows of weights: all in memory, or some of them in a file.

use crate::memory::{Memory, Piece};
use bytemuck::Pod;
use memmap2::{Mmap, MmapOptions};
use std::fs::File;
use std::io::{self, Seek, SeekFrom, Write};
use std::marker::PhantomData;
use std::sync::Arc;

/// Matrices begin at pages of the file, whatever the system's page size.
const PAGE: u64 = 64 << 10;

/// Bytes that are written at a time.
const WRITE_BYTES: usize = 1 << 20;

/// A file that takes the rows of matrices which are to be read from there. Their pages take memory only
/// from a read until they are released.
pub struct ColdFile {
    file: File,
    end: u64,
}

impl ColdFile {
    /// Takes over an empty file that nothing else writes to.
    pub fn new(file: File) -> Self {
        Self { file, end: 0 }
    }

    /// Bytes so far.
    pub fn len_bytes(&self) -> u64 {
        self.end
    }

    /// Appends rows and `margin` elements, and maps them.
    fn append<'a, T: Pod>(
        &mut self,
        rows: impl Iterator<Item = &'a [T]>,
        margin: usize,
    ) -> io::Result<Cold<T>> {
        let start = self.end.next_multiple_of(PAGE);
        self.file.seek(SeekFrom::Start(start))?;
        let mut out = io::BufWriter::with_capacity(WRITE_BYTES, &self.file);
        let mut len = margin * size_of::<T>();
        for row in rows {
            out.write_all(bytemuck::cast_slice(row))?;
            len += size_of_val(row);
        }
        out.write_all(&vec![0; margin * size_of::<T>()])?;
        out.flush()?;
        drop(out);
        self.end = start + len as u64;
        if len == 0 {
            return Ok(Cold { map: None, of: PhantomData });
        }
        // SAFETY: the file has these bytes, and is this crate's alone.
        let map = unsafe { MmapOptions::new().offset(start).len(len).map(&self.file)? };
        Ok(Cold { map: Some(map), of: PhantomData })
    }
}

/// Which rows of a matrix lie in memory, and in what order all of them lie.
#[derive(Clone)]
pub struct Placement {
    /// Where each row lies: from `hot` on in the file.
    places: Arc<[u32]>,
    hot: usize,
}

impl Placement {
    /// Rows in the order in which they are to lie; the first `hot` of them in memory.
    ///
    /// # Panics
    /// When `order` is no permutation, or shorter than `hot`.
    pub fn new(order: &[u32], hot: usize) -> Self {
        assert!(hot <= order.len(), "more hot rows than rows");
        let mut places = vec![u32::MAX; order.len()];
        for (place, &row) in order.iter().enumerate() {
            places[row as usize] = place as u32;
        }
        assert!(!places.contains(&u32::MAX), "every row has a place");
        Self { places: places.into(), hot }
    }

    /// All rows in the file.
    pub fn cold(rows: usize) -> Self {
        Self { places: (0..rows as u32).collect(), hot: 0 }
    }

    /// Rows in memory.
    pub fn hot(&self) -> usize {
        self.hot
    }

    /// Rows of the matrix.
    pub fn rows(&self) -> usize {
        self.places.len()
    }
}

/// Rows of equal width, and a few elements behind the last one that may be read.
pub(crate) struct Rows<T> {
    width: usize,
    margin: usize,
    hot: Piece<T>,
    split: Option<Split<T>>,
}

struct Split<T> {
    placement: Placement,
    cold: Cold<T>,
}

/// Rows in a file.
struct Cold<T> {
    map: Option<Mmap>,
    of: PhantomData<T>,
}

impl<T: Pod> Rows<T> {
    /// Zeros in memory.
    pub(crate) fn new(memory: &mut Memory, rows: usize, width: usize, margin: usize) -> Self {
        Self::of(memory.take(rows * width + margin), width, margin)
    }

    /// Rows that lie one after the other.
    pub(crate) fn of(hot: Piece<T>, width: usize, margin: usize) -> Self {
        Self { width, margin, hot, split: None }
    }

    /// All rows in order, with the margin: before they are placed.
    pub(crate) fn all(&mut self) -> &mut [T] {
        assert!(self.split.is_none(), "rows are written before they are placed");
        &mut self.hot
    }

    /// The same rows, some of them in a file.
    pub(crate) fn place(
        self,
        memory: &mut Memory,
        file: &mut ColdFile,
        placement: &Placement,
    ) -> io::Result<Self> {
        let (width, margin, hot) = (self.width, self.margin, placement.hot);
        let mut order = vec![0; placement.rows()];
        for (row, &place) in placement.places.iter().enumerate() {
            order[place as usize] = row;
        }
        assert!(self.split.is_none() && order.len() * width + margin == self.hot.len());
        let mut piece = memory.take(hot * width + margin);
        for (place, &row) in order[..hot].iter().enumerate() {
            piece[place * width..][..width].copy_from_slice(self.row(row));
        }
        let cold = file.append(order[hot..].iter().map(|&row| self.row(row)), margin)?;
        let split = Some(Split { placement: placement.clone(), cold });
        Ok(Self { width, margin, hot: piece, split })
    }

    #[inline(always)]
    pub(crate) fn row(&self, row: usize) -> &[T] {
        self.view().row(row)
    }

    /// The rows as a loop reads them: where they lie is looked up once.
    #[inline(always)]
    pub(crate) fn view(&self) -> View<'_, T> {
        View { width: self.width, hot: &self.hot, split: self.split.as_ref() }
    }

    /// Elements of a row.
    pub(crate) fn width(&self) -> usize {
        self.width
    }

    /// Bytes of all rows.
    pub(crate) fn bytes(&self) -> usize {
        self.hot.len() * size_of::<T>() + self.cold_bytes()
    }

    /// Bytes in the file.
    pub(crate) fn cold_bytes(&self) -> usize {
        self.split.as_ref().map_or(0, |split| size_of_val(split.cold.values()))
    }

    /// Gives back the pages of the file that were read.
    pub(crate) fn release(&self) {
        if let Some(map) = self.split.as_ref().and_then(|split| split.cold.map.as_ref()) {
            release(map);
        }
    }
}

/// Rows that are read one after the other.
pub(crate) struct View<'a, T> {
    width: usize,
    hot: &'a [T],
    split: Option<&'a Split<T>>,
}

impl<'a, T: Pod> View<'a, T> {
    #[inline(always)]
    pub(crate) fn row(&self, row: usize) -> &'a [T] {
        match self.split {
            None => &self.hot[row * self.width..][..self.width],
            Some(split) => self.placed_row(split, row),
        }
    }

    #[cold]
    fn placed_row(&self, split: &'a Split<T>, row: usize) -> &'a [T] {
        let (place, hot) = (split.placement.places[row] as usize, split.placement.hot);
        if place < hot {
            &self.hot[place * self.width..][..self.width]
        } else {
            &split.cold.values()[(place - hot) * self.width..][..self.width]
        }
    }
}

impl<T: Pod> Cold<T> {
    #[inline]
    fn values(&self) -> &[T] {
        let Some(map) = &self.map else { return &[] };
        // SAFETY: the mapping begins at a page, and any bytes are a `T`.
        unsafe { std::slice::from_raw_parts(map.as_ptr().cast(), map.len() / size_of::<T>()) }
    }
}

#[cfg(unix)]
fn release(map: &Mmap) {
    // SAFETY: the mapping is shared with a file and is never written through: dropped pages come back
    // from the file as they were.
    let _ = unsafe { map.unchecked_advise(memmap2::UncheckedAdvice::DontNeed) };
}

#[cfg(not(unix))]
fn release(_: &Mmap) {}
