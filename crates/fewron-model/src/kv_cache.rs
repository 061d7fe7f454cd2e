//! Keys and values of past tokens.

/// Keys (after norm and RoPE) and values of every layer, `[positions, kv_width]` each, in f32.
/// Grows with the text.
pub(crate) struct KvCache {
    width: usize,
    layers: Vec<(Vec<f32>, Vec<f32>)>,
}

impl KvCache {
    pub(crate) fn new(layers: usize, width: usize) -> Self {
        Self { width, layers: vec![(Vec::new(), Vec::new()); layers] }
    }

    /// Forgets everything from position `len` on.
    pub(crate) fn truncate(&mut self, len: usize) {
        for (keys, values) in &mut self.layers {
            keys.truncate(len * self.width);
            values.truncate(len * self.width);
        }
    }

    /// Appends rows to a layer.
    pub(crate) fn extend(&mut self, layer: usize, keys: &[f32], values: &[f32]) {
        let (all_keys, all_values) = &mut self.layers[layer];
        all_keys.extend_from_slice(keys);
        all_values.extend_from_slice(values);
    }

    pub(crate) fn layer(&self, layer: usize) -> (&[f32], &[f32]) {
        let (keys, values) = &self.layers[layer];
        (keys, values)
    }
}
