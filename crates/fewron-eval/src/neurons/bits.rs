//! Masks of whole answers, a bit a unit.

/// Masks of the first answers of a run, token by token, as far as they fit a budget.
#[derive(Debug)]
pub(super) struct BitStore {
    /// Layers and units of a layer.
    layers: usize,
    units: usize,
    /// 64-bit words of a layer.
    words: usize,
    /// `[tokens][layers][words]`.
    bits: Vec<u64>,
    answers: Vec<StoredAnswer>,
    budget_bytes: usize,
    full: bool,
}

/// An answer of the store.
#[derive(Clone, Copy, Debug)]
pub(super) struct StoredAnswer {
    /// Its first token in the store.
    first: usize,
    /// Its masked steps.
    pub(super) steps: usize,
    pub(super) category: Option<usize>,
}

impl BitStore {
    pub(super) fn new(layers: usize, units: usize, budget_bytes: usize) -> Self {
        let words = units.div_ceil(64);
        let (bits, answers) = (Vec::new(), Vec::new());
        Self { layers, units, words, bits, answers, budget_bytes, full: false }
    }

    /// Adds an answer's kept units, `[steps][layers]`. Once one does not fit, all later ones are left out.
    pub(super) fn add(&mut self, steps: &[Vec<Vec<u32>>], category: Option<usize>) {
        let row = self.layers * self.words;
        self.full |= 8 * (self.bits.len() + steps.len() * row) > self.budget_bytes;
        if self.full {
            return;
        }
        self.answers.push(StoredAnswer { first: self.tokens(), steps: steps.len(), category });
        for layers in steps {
            let start = self.bits.len();
            self.bits.resize(start + row, 0);
            for (layer, kept) in layers.iter().enumerate() {
                let bits = &mut self.bits[start + layer * self.words..][..self.words];
                kept.iter().for_each(|&unit| bits[unit as usize / 64] |= 1 << (unit % 64));
            }
        }
    }

    pub(super) fn answers(&self) -> &[StoredAnswer] {
        &self.answers
    }

    pub(super) fn tokens(&self) -> usize {
        self.bits.len() / (self.layers * self.words).max(1)
    }

    fn kept(&self, token: usize, layer: usize) -> &[u64] {
        &self.bits[(token * self.layers + layer) * self.words..][..self.words]
    }

    /// The tokens that keep each of some units of a layer, a bit a token: `[units][tokens / 64]`.
    pub(super) fn columns(&self, layer: usize, units: &[usize]) -> Vec<Vec<u64>> {
        let mut columns = vec![vec![0; self.tokens().div_ceil(64)]; units.len()];
        for token in 0..self.tokens() {
            let kept = self.kept(token, layer);
            for (&unit, column) in units.iter().zip(&mut columns) {
                column[token / 64] |= (kept[unit / 64] >> (unit % 64) & 1) << (token % 64);
            }
        }
        columns
    }

    /// Share of an answer's steps that keep each unit of a layer, `[units]`.
    pub(super) fn shares(&self, answer: &StoredAnswer, layer: usize) -> Vec<f32> {
        let mut counts = vec![0.0; self.units];
        for token in answer.first..answer.first + answer.steps {
            for (word, &bits) in self.kept(token, layer).iter().enumerate() {
                let mut rest = bits;
                while rest != 0 {
                    counts[word * 64 + rest.trailing_zeros() as usize] += 1.0;
                    rest &= rest - 1;
                }
            }
        }
        counts.iter_mut().for_each(|count| *count /= answer.steps as f32);
        counts
    }
}
