//! Accumulators against naive counts, chance against simulation, planted neurons found.

use super::bits::BitStore;
use super::overlap::chance_jaccard;
use super::pairs::pairs;
use super::record::Kind;
use super::specificity::{Tested, Tests};
use super::tally::{Steps, Sums, Tally};
use proptest::prelude::*;
use rand::seq::SliceRandom;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use std::collections::BTreeSet;

const LAYERS: usize = 2;
const UNITS: usize = 70;

/// Answers of one to four steps with any kept sets, and their categories.
fn answers() -> impl Strategy<Value = Vec<(Steps, Option<usize>)>> {
    let kept = prop::collection::btree_set(0..UNITS as u32, 0..30);
    let layers = prop::collection::vec(kept.prop_map(|set| set.into_iter().collect()), LAYERS);
    let steps = prop::collection::vec(layers, 1..5);
    prop::collection::vec((steps, prop::option::of(0usize..3)), 1..12)
}

fn tally(answers: &[(Steps, Option<usize>)], budget_bytes: usize) -> Tally {
    let mut tally = Tally::new(LAYERS, UNITS, 3, budget_bytes);
    answers.iter().for_each(|(steps, category)| tally.add(steps.clone(), *category));
    tally
}

fn naive_jaccard(a: &[u32], b: &[u32]) -> Option<f64> {
    let (a, b): (BTreeSet<_>, BTreeSet<_>) = (a.iter().collect(), b.iter().collect());
    let either = a.union(&b).count();
    (either > 0).then(|| a.intersection(&b).count() as f64 / either as f64)
}

fn mean(values: &[f64]) -> Option<f64> {
    (!values.is_empty()).then(|| values.iter().sum::<f64>() / values.len() as f64)
}

fn close(a: Option<f64>, b: Option<f64>) -> bool {
    a.is_some() == b.is_some() && (a.unwrap_or(0.0) - b.unwrap_or(0.0)).abs() < 1e-9
}

proptest! {
    #[test]
    fn counts_are_the_naive_ones(answers in answers()) {
        let tally = tally(&answers, 1 << 20);
        let steps = || answers.iter().flat_map(|(steps, category)| steps.iter().map(move |s| (s, category)));
        prop_assert_eq!(tally.tokens, steps().count() as u64);
        for layer in 0..LAYERS {
            for unit in 0..UNITS {
                let kept = |step: &[Vec<u32>]| step[layer].contains(&(unit as u32));
                let at = layer * UNITS + unit;
                prop_assert_eq!(tally.kept[at] as usize, steps().filter(|(s, _)| kept(s)).count());
                for category in 0..3 {
                    let own = steps().filter(|(s, c)| **c == Some(category) && kept(s)).count();
                    prop_assert_eq!(tally.by_category[category][at] as usize, own);
                }
            }
            // What the units add up to is what the tokens kept.
            let total: usize = steps().map(|(s, _)| s[layer].len()).sum();
            prop_assert_eq!(tally.of_layer(layer).iter().sum::<u32>() as usize, total);
        }
    }

    #[test]
    fn overlaps_are_the_naive_ones(answers in answers()) {
        let tally = tally(&answers, 1 << 20);
        for layer in 0..LAYERS {
            let index = |a: &Vec<Vec<u32>>, b: &Vec<Vec<u32>>| naive_jaccard(&a[layer], &b[layer]);
            let within = answers.iter().flat_map(|(steps, _)| steps.windows(2));
            let within: Vec<f64> = within.filter_map(|w| index(&w[0], &w[1])).collect();
            let between = answers.windows(2).flat_map(|w| w[0].0.iter().zip(&w[1].0));
            let between: Vec<f64> = between.filter_map(|(a, b)| index(a, b)).collect();
            prop_assert!(close(tally.stability[layer].mean().jaccard, mean(&within)));
            prop_assert!(close(tally.between[layer].mean().jaccard, mean(&between)));
            prop_assert_eq!(tally.between[layer].mean().pairs, between.len() as u64);
        }
    }

    #[test]
    fn the_store_gives_back_what_it_took(answers in answers()) {
        let mut store = BitStore::new(LAYERS, UNITS, 1 << 20);
        answers.iter().for_each(|(steps, category)| store.add(steps, *category));
        prop_assert_eq!(store.answers().len(), answers.len());
        for (stored, (steps, category)) in store.answers().iter().zip(&answers) {
            prop_assert_eq!(stored.category, *category);
            for layer in 0..LAYERS {
                for (unit, share) in store.shares(stored, layer).into_iter().enumerate() {
                    let kept = steps.iter().filter(|s| s[layer].contains(&(unit as u32))).count();
                    prop_assert!((share - kept as f32 / steps.len() as f32).abs() < 1e-6);
                }
            }
        }
        let columns = store.columns(1, &[0, 63, 64, 69]);
        for (unit, column) in [0, 63, 64, 69].into_iter().zip(columns) {
            let steps = answers.iter().flat_map(|(steps, _)| steps);
            for (token, step) in steps.enumerate() {
                let bit = column[token / 64] >> (token % 64) & 1 == 1;
                prop_assert_eq!(bit, step[1].contains(&unit));
            }
        }
    }

    #[test]
    fn pairs_are_counted_as_they_are(answers in answers()) {
        let tally = tally(&answers, 1 << 20);
        let steps: Vec<&Vec<Vec<u32>>> = answers.iter().flat_map(|(steps, _)| steps).collect();
        for pair in pairs(&tally.store, Kind::Mlp, 1, tally.of_layer(1), tally.tokens) {
            let count = |units: &[usize]| {
                let kept = |s: &&&Vec<Vec<u32>>| units.iter().all(|u| s[1].contains(&(*u as u32)));
                steps.iter().filter(kept).count() as f64
            };
            let (n, both) = (steps.len() as f64, count(&[pair.a, pair.b]));
            prop_assert_eq!(pair.both as f64, both);
            let expected = count(&[pair.a]) * count(&[pair.b]) / n;
            prop_assert!((pair.lift - both / expected).abs() < 1e-9);
            prop_assert!(pair.phi.abs() <= 1.0 + 1e-9);
        }
    }

    #[test]
    fn chance_is_symmetric_and_bounded(n in 1usize..400, a in 0usize..400, b in 0usize..400) {
        let (a, b) = (a.min(n), b.min(n));
        let index = chance_jaccard(n, a, b);
        prop_assert_eq!(index.is_some(), a + b > 0);
        if let Some(index) = index {
            prop_assert!((0.0..=1.0 + 1e-12).contains(&index));
            prop_assert!((index - chance_jaccard(n, b, a).unwrap()).abs() < 1e-12);
        }
    }
}

#[test]
fn chance_is_what_random_sets_give() {
    let mut rng = ChaCha8Rng::seed_from_u64(1);
    for (n, a, b) in [(50, 10, 10), (1536, 307, 307), (40, 30, 25), (9, 2, 5), (12, 12, 3)] {
        let mut units: Vec<u32> = (0..n as u32).collect();
        let mut draw = |count: usize| {
            units.shuffle(&mut rng);
            units[..count].to_vec()
        };
        let indices: Vec<f64> =
            (0..3000).map(|_| naive_jaccard(&draw(a), &draw(b)).unwrap()).collect();
        let simulated = mean(&indices).unwrap();
        let exact = chance_jaccard(n, a, b).unwrap();
        assert!((simulated - exact).abs() < 0.006, "{n} {a} {b}: {simulated} and {exact}");
    }
    assert_eq!(chance_jaccard(10, 0, 0), None);
    assert_eq!(chance_jaccard(10, 10, 10), Some(1.0));
    assert_eq!(chance_jaccard(10, 0, 4), Some(0.0));
}

#[test]
fn a_store_takes_whole_answers_up_to_its_budget() {
    let step = vec![vec![1, 69], vec![]];
    // Two layers of two words are 32 bytes a step.
    let mut store = BitStore::new(LAYERS, UNITS, 32 * 5);
    store.add(&vec![step.clone(); 3], None);
    store.add(&vec![step.clone(); 3], None);
    store.add(&vec![step; 1], None);
    assert_eq!((store.answers().len(), store.tokens()), (1, 3));
}

/// Answers of 40 questions in four categories that keep 14 of 70 units at random; with `planted` the
/// answers of category 2 always keep unit 5 of layer 1, the others seldom.
fn dealt(planted: bool, seed: u64) -> Tested {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let mut store = BitStore::new(LAYERS, UNITS, 1 << 20);
    for answer in 0..40 {
        let category = answer % 4;
        let mut step = || -> Vec<Vec<u32>> {
            let mut layer = || {
                let mut units: Vec<u32> = (0..UNITS as u32).collect();
                units.shuffle(&mut rng);
                let mut kept: BTreeSet<u32> = units[..14].iter().copied().collect();
                if planted {
                    kept.remove(&5);
                    let wanted = category == 2 || rng.random_range(0..10) == 0;
                    kept.extend(wanted.then_some(5));
                }
                kept.into_iter().collect()
            };
            let (first, second) = (layer(), layer());
            vec![if planted { Vec::new() } else { first }, second]
        };
        let steps: Steps = (0..8).map(|_| step()).collect();
        store.add(&steps, Some(category));
    }
    let names = ["a", "b", "c", "d"].map(String::from);
    let tests = Tests::new(&store, Kind::Mlp, (LAYERS, UNITS), 4, seed);
    assert!(tests.any());
    let (one, many) = (tests.run(&names, 1), tests.run(&names, 3));
    assert_eq!(one.specificity(), many.specificity(), "threads change nothing");
    one
}

#[test]
fn a_planted_neuron_is_found_and_others_are_not() {
    let tested = dealt(true, 3);
    let c = &tested.specificity()[2];
    assert_eq!(c.category, "c");
    let first = &c.units[0];
    assert_eq!((first.layer, first.unit), (1, 5));
    assert!(first.p < 0.01 && first.z > 4.0 && first.inside > 0.99, "{first:?}");
    assert!(c.units[1].p > 0.05, "{:?}", c.units[1]);
    assert_eq!(c.significant, 1);
    // No unit of layer 0 is ever kept, so none is tested.
    assert_eq!(c.rms_z[0], None);
}

#[test]
fn without_a_difference_the_tests_hold_their_level() {
    let (mut found, mut squares) = (0, Vec::new());
    for seed in 0..12 {
        for category in dealt(false, 100 + seed).specificity() {
            found += usize::from(category.significant > 0);
            squares.extend(category.rms_z.iter().flatten().map(|z| z * z));
        }
    }
    // 48 categories at 5% each: 2.4 expected.
    assert!(found <= 7, "{found} of 48 categories have a unit that stands out");
    let rms = mean(&squares).unwrap().sqrt();
    assert!((rms - 1.0).abs() < 0.1, "z has a spread of {rms}");
}

#[test]
fn core_sets_of_like_categories_overlap_as_shuffled_ones() {
    for pair in dealt(false, 9).category_overlap() {
        assert!((pair.jaccard - pair.shuffled).abs() < 0.15, "{pair:?}");
    }
}

#[test]
fn categories_with_few_answers_are_not_tested() {
    let mut store = BitStore::new(1, 4, 1 << 20);
    for answer in 0..9 {
        store.add(&[vec![vec![answer % 4]]], Some(usize::from(answer > 4)));
    }
    let tests = Tests::new(&store, Kind::Mlp, (1, 4), 2, 0);
    assert!(!tests.any(), "5 answers inside, but 4 outside");
    store.add(&[vec![vec![1]]], Some(1));
    assert!(Tests::new(&store, Kind::Mlp, (1, 4), 2, 0).any());
}

#[test]
fn sums_of_layers_follow_each_other() {
    let mut sums = Sums::default();
    sums.push_layer(&[1.0, -2.0, 3.0, 4.0], 2);
    sums.push_layer(&[-1.0, 0.5], 2);
    assert_eq!(sums.signed, [4.0, 2.0, -1.0, 0.5]);
    assert_eq!(sums.absolute, [4.0, 6.0, 1.0, 0.5]);
    let mut total = Sums::default();
    total.merge(&sums);
    total.merge(&sums);
    assert_eq!(total.means(2).absolute, sums.absolute);
}
