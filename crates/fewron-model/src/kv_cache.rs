//! Keys and values of past tokens.

use fewron_kernels::{KvPage, KvShape};
use std::ops::Range;
use std::sync::Arc;

/// Keys (after norm and RoPE) and values of a text, for every layer.
///
/// Grows page by page. A clone shares the pages of its origin until one of the two writes to them,
/// so texts with a common beginning keep it once.
#[derive(Clone)]
pub struct KvCache {
    shape: KvShape,
    layers: Vec<LayerCache>,
}

/// One layer's pages.
#[derive(Clone, Default)]
pub(crate) struct LayerCache {
    len: usize,
    pages: Vec<Arc<KvPage>>,
}

impl KvCache {
    pub(crate) fn new(layers: usize, shape: KvShape) -> Self {
        Self { shape, layers: vec![LayerCache::default(); layers] }
    }

    /// Tokens of the text.
    pub fn position(&self) -> usize {
        self.layers.last().map_or(0, |layer| layer.len)
    }

    /// Bytes of the keys and values of `tokens` tokens, in whole pages, were they shared with no other text.
    pub fn bytes_of(&self, tokens: usize) -> usize {
        tokens.div_ceil(KvPage::POSITIONS) * self.shape.page_bytes() * self.layers.len()
    }

    /// Forgets everything from position `len` on.
    pub fn truncate(&mut self, len: usize) {
        for layer in &mut self.layers {
            layer.len = layer.len.min(len);
            layer.pages.truncate(layer.len.div_ceil(KvPage::POSITIONS));
        }
    }

    /// Appends rows to a layer.
    pub(crate) fn extend(&mut self, layer: usize, keys: &[f32], values: &[f32]) {
        let (shape, width) = (&self.shape, self.shape.width());
        let layer = &mut self.layers[layer];
        for (key, value) in keys.chunks_exact(width).zip(values.chunks_exact(width)) {
            let slot = layer.len % KvPage::POSITIONS;
            if slot == 0 {
                layer.pages.push(Arc::new(KvPage::new(shape)));
            }
            if let Some(page) = layer.pages.last_mut() {
                Arc::make_mut(page).write(shape, slot, key, value);
            }
            layer.len += 1;
        }
    }

    pub(crate) fn shape(&self) -> &KvShape {
        &self.shape
    }

    pub(crate) fn layer(&self, layer: usize) -> &[Arc<KvPage>] {
        &self.layers[layer].pages
    }

    /// Keys and values of a range of a layer's positions, in f32, row after row.
    pub(crate) fn rows(&self, layer: usize, range: Range<usize>) -> (Vec<f32>, Vec<f32>) {
        let width = self.shape.width();
        let (mut keys, mut values) =
            (vec![0.0; range.len() * width], vec![0.0; range.len() * width]);
        let rows = keys.chunks_exact_mut(width).zip(values.chunks_exact_mut(width));
        for (position, (key, value)) in range.zip(rows) {
            let page = &self.layers[layer].pages[position / KvPage::POSITIONS];
            page.read(&self.shape, position % KvPage::POSITIONS, key, value);
        }
        (keys, values)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use fewron_kernels::KvType;

    fn row(value: usize) -> [f32; 2] {
        [value as f32, -(value as f32)]
    }

    fn extend(cache: &mut KvCache, values: Range<usize>) {
        for value in values {
            cache.extend(0, &row(value), &row(value + 1000));
        }
    }

    fn keys(cache: &KvCache, range: Range<usize>) -> Vec<usize> {
        cache.rows(0, range).0.chunks_exact(2).map(|key| key[0] as usize).collect()
    }

    fn cache() -> KvCache {
        KvCache::new(1, KvShape { kind: KvType::F16, heads: 2, dim: 1 })
    }

    #[test]
    fn rows_come_back_across_pages() {
        let mut cache = cache();
        extend(&mut cache, 0..40);
        assert_eq!(cache.position(), 40);
        assert_eq!(keys(&cache, 13..37), (13..37).collect::<Vec<_>>());
        assert!(keys(&cache, 16..16).is_empty());
        assert_eq!(cache.rows(0, 31..33).1, [1031.0, -1031.0, 1032.0, -1032.0]);
    }

    #[test]
    fn a_clone_goes_its_own_way() {
        let mut cache = cache();
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
