//! Attention over pages of keys and values.

use crate::naive::{Rng, assert_near, assert_same_bits};
use fewron_kernels::{AttentionScratch, Isa, KvPage, KvShape, KvType, Query, attend};
use proptest::prelude::*;
use proptest::sample::select;
use std::sync::Arc;

/// Positions as they are kept, `[positions, width]` of keys and of values, and their pages.
struct Past {
    shape: KvShape,
    keys: Vec<f32>,
    values: Vec<f32>,
    pages: Vec<Arc<KvPage>>,
}

impl Past {
    fn random(shape: KvShape, positions: usize, rng: &mut Rng) -> Self {
        let width = shape.width();
        let mut past = Self { shape, keys: Vec::new(), values: Vec::new(), pages: Vec::new() };
        for position in 0..positions {
            let slot = position % KvPage::POSITIONS;
            if slot == 0 {
                past.pages.push(Arc::new(KvPage::new(&shape)));
            }
            let page = Arc::make_mut(past.pages.last_mut().unwrap());
            let (mut keys, mut values) = (rng.vector(width), rng.vector(width));
            page.write(&shape, slot, &keys, &values);
            let (written_keys, written_values) = (keys.clone(), values.clone());
            page.read(&shape, slot, &mut keys, &mut values);
            let step = match shape.kind {
                KvType::F16 => 1e-3,
                KvType::F32 => 0.0,
                KvType::Q8 => 1.0 / 127.0,
            };
            for (kept, written) in keys.iter().zip(&written_keys) {
                assert!((kept - written).abs() <= step);
            }
            for (kept, written) in values.iter().zip(&written_values) {
                assert!((kept - written).abs() <= step);
            }
            past.keys.extend(keys);
            past.values.extend(values);
        }
        past
    }

    /// softmax(scale · q·k) · v in f64, and Σ p·|v|.
    fn naive(&self, head: usize, scale: f32, query: &Query) -> Vec<(f64, f64)> {
        let (width, dim) = (self.shape.width(), self.shape.dim);
        let row = |x: &'_ [f32], position: usize| -> Vec<f64> {
            x[position * width + head * dim..][..dim].iter().map(|&x| f64::from(x)).collect()
        };
        let positions = if query.first <= query.last { query.first..query.last + 1 } else { 0..0 };
        let mut rows: Vec<(Vec<f64>, Vec<f64>)> =
            positions.map(|p| (row(&self.keys, p), row(&self.values, p))).collect();
        if let Some((k, v)) = query.own {
            let wide = |x: &[f32]| x.iter().map(|&x| f64::from(x)).collect();
            rows.push((wide(k), wide(v)));
        }
        let score = |k: &[f64]| {
            f64::from(scale) * k.iter().zip(query.q).map(|(k, &q)| k * f64::from(q)).sum::<f64>()
        };
        let weights: Vec<f64> = rows.iter().map(|(k, _)| score(k).exp()).collect();
        let total: f64 = weights.iter().sum();
        (0..dim)
            .map(|i| {
                let parts = rows.iter().zip(&weights).map(|((_, v), w)| w / total * v[i]);
                parts.fold((0.0, 0.0), |(sum, size), part| (sum + part, size + part.abs()))
            })
            .collect()
    }
}

proptest! {
    #[test]
    fn attention_equals_the_formula_and_is_the_same_in_any_company(
        kind in select(&[KvType::F16, KvType::F32, KvType::Q8][..]),
        heads in 1usize..4,
        dim in select(&[2usize, 15, 16, 64, 80][..]),
        positions in 1usize..90,
        count in 1usize..11,
        seed: u64,
    ) {
        let mut rng = Rng::new(seed);
        let past = Past::random(KvShape { kind, heads, dim }, positions, &mut rng);
        let (head, scale) = (rng.below(heads), 0.5);
        let numbers = rng.vector(count * 3 * dim);
        let queries: Vec<Query> = numbers
            .chunks_exact(3 * dim)
            .map(|x| {
                let last = rng.below(positions);
                let own = rng.below(2) == 0;
                // Without pages only with a position of its own.
                let none = own && rng.below(3) == 0;
                let (first, last) = if none { (1, 0) } else { (rng.below(last + 1), last) };
                let own = own.then(|| (&x[dim..2 * dim], &x[2 * dim..]));
                Query { q: &x[..dim], first, last, own }
            })
            .collect();
        for isa in Isa::available() {
            let run = |queries: &[Query]| {
                let mut z = vec![f32::NAN; queries.len() * dim];
                let mut scratch = AttentionScratch::default();
                let (shape, pages) = (&past.shape, &past.pages);
                attend(isa, shape, pages, head, scale, queries, &mut scratch, &mut z);
                z
            };
            let z = run(&queries);
            for (query, z) in queries.iter().zip(z.chunks_exact(dim)) {
                for (&got, (expected, size)) in z.iter().zip(past.naive(head, scale, query)) {
                    assert_near(isa.name(), got, expected, size, 2e-5);
                }
                assert_same_bits(isa.name(), z, &run(&[*query]));
            }
        }
    }
}

#[test]
#[should_panic(expected = "pages of another shape")]
fn pages_of_another_shape_are_refused() {
    let shape = |kind| KvShape { kind, heads: 1, dim: 16 };
    let pages = [Arc::new(KvPage::new(&shape(KvType::Q8)))];
    let query = Query { q: &[0.0; 16], first: 0, last: 3, own: None };
    let scratch = &mut AttentionScratch::default();
    let shape = shape(KvType::F32);
    attend(Isa::SCALAR, &shape, &pages, 0, 1.0, &[query], scratch, &mut [0.0; 16]);
}

#[test]
fn sizes_are_those_of_the_types() {
    let shape = |kind| KvShape { kind, heads: 3, dim: 64 };
    assert_eq!(KvPage::bytes(&shape(KvType::F32)), 2 * 3 * 64 * 16 * 4);
    assert_eq!(KvPage::bytes(&shape(KvType::F16)), 2 * 3 * 64 * 16 * 2);
    assert_eq!(KvPage::bytes(&shape(KvType::Q8)), 2 * 3 * (64 + 4) * 16);
}
