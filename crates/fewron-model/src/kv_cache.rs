//! Keys and values of past tokens.

use std::ops::Range;
use std::sync::Arc;

/// Positions of a page.
const PAGE: usize = 16;

/// Keys (after norm and RoPE) and values of a text, for every layer, in f32.
///
/// Grows page by page. A clone shares the pages of its origin until one of the two writes to them,
/// so texts with a common beginning keep it once.
#[derive(Clone)]
pub struct KvCache {
    width: usize,
    layers: Vec<LayerCache>,
}

/// One layer's rows of width `kv_width`.
#[derive(Clone, Default)]
pub(crate) struct LayerCache {
    width: usize,
    len: usize,
    pages: Vec<Arc<Page>>,
}

#[derive(Clone)]
struct Page {
    keys: Box<[f32]>,
    values: Box<[f32]>,
}

impl KvCache {
    pub(crate) fn new(layers: usize, width: usize) -> Self {
        let layer = LayerCache { width, len: 0, pages: Vec::new() };
        Self { width, layers: vec![layer; layers] }
    }

    /// Tokens of the text.
    pub fn position(&self) -> usize {
        self.layers.last().map_or(0, |layer| layer.len)
    }

    /// Forgets everything from position `len` on.
    pub fn truncate(&mut self, len: usize) {
        for layer in &mut self.layers {
            layer.len = layer.len.min(len);
            layer.pages.truncate(layer.len.div_ceil(PAGE));
        }
    }

    /// Appends rows to a layer.
    pub(crate) fn extend(&mut self, layer: usize, keys: &[f32], values: &[f32]) {
        let width = self.width;
        let layer = &mut self.layers[layer];
        for (key, value) in keys.chunks_exact(width).zip(values.chunks_exact(width)) {
            let place = layer.len % PAGE * width;
            if place == 0 {
                let empty = || vec![0.0; PAGE * width].into_boxed_slice();
                layer.pages.push(Arc::new(Page { keys: empty(), values: empty() }));
            }
            if let Some(page) = layer.pages.last_mut().map(Arc::make_mut) {
                page.keys[place..place + width].copy_from_slice(key);
                page.values[place..place + width].copy_from_slice(value);
            }
            layer.len += 1;
        }
    }

    pub(crate) fn layer(&self, layer: usize) -> &LayerCache {
        &self.layers[layer]
    }
}

impl LayerCache {
    /// Keys of a range of positions, row after row.
    pub(crate) fn keys(&self, range: Range<usize>) -> impl Iterator<Item = &[f32]> {
        self.rows(range, |page| &page.keys)
    }

    /// Values of a range of positions, row after row.
    pub(crate) fn values(&self, range: Range<usize>) -> impl Iterator<Item = &[f32]> {
        self.rows(range, |page| &page.values)
    }

    fn rows<'a>(
        &'a self,
        range: Range<usize>,
        side: impl Fn(&'a Page) -> &'a [f32],
    ) -> impl Iterator<Item = &'a [f32]> {
        let pages = range.start / PAGE..range.end.div_ceil(PAGE);
        let first = pages.start * PAGE;
        let rows =
            self.pages[pages].iter().flat_map(move |page| side(page).chunks_exact(self.width));
        rows.skip(range.start - first).take(range.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(value: usize) -> [f32; 2] {
        [value as f32, -(value as f32)]
    }

    fn extend(cache: &mut KvCache, values: Range<usize>) {
        for value in values {
            cache.extend(0, &row(value), &row(value + 1000));
        }
    }

    fn keys(cache: &KvCache, range: Range<usize>) -> Vec<usize> {
        cache.layer(0).keys(range).map(|key| key[0] as usize).collect()
    }

    #[test]
    fn rows_come_back_across_pages() {
        let mut cache = KvCache::new(1, 2);
        extend(&mut cache, 0..40);
        assert_eq!(cache.position(), 40);
        assert_eq!(keys(&cache, 13..37), (13..37).collect::<Vec<_>>());
        assert!(keys(&cache, 16..16).is_empty());
        let values: Vec<f32> = cache.layer(0).values(31..33).map(|value| value[1]).collect();
        assert_eq!(values, [-1031.0, -1032.0]);
    }

    #[test]
    fn a_clone_goes_its_own_way() {
        let mut cache = KvCache::new(1, 2);
        extend(&mut cache, 0..20);
        let mut other = cache.clone();
        other.truncate(18);
        extend(&mut other, 100..120);
        extend(&mut cache, 20..22);
        assert_eq!(keys(&cache, 15..22), [15, 16, 17, 18, 19, 20, 21]);
        assert_eq!(keys(&other, 16..20), [16, 17, 100, 101]);
        assert_eq!((cache.position(), other.position()), (22, 38));
        assert!(Arc::ptr_eq(&cache.layers[0].pages[0], &other.layers[0].pages[0]));
    }
}
