//! What every selection keeps, on random scores.

use fewron_sparsity::selection::kept_count;
use fewron_sparsity::{Kept, Scores, Selection, select};
use proptest::prelude::*;
use proptest::sample::select as one_of;

const SELECTIONS: [Selection; 3] = [Selection::Layer, Selection::Global, Selection::Threshold];

/// Layers, tokens, neurons and heads of a layer, and scores: few values, so that there are ties.
fn cases() -> impl Strategy<Value = (usize, usize, usize, usize, Scores)> {
    (1usize..4, 1usize..5, 1usize..40, 1usize..9).prop_flat_map(
        |(layers, tokens, neurons, heads)| {
            let scores = |units: usize| {
                let score = (-20i8..20).prop_map(|i| f32::from(i) * 0.25);
                prop::collection::vec(prop::collection::vec(score, tokens * units), layers)
            };
            (scores(neurons), scores(heads)).prop_map(move |(n, h)| {
                (layers, tokens, neurons, heads, Scores { neurons: n, heads: h })
            })
        },
    )
}

/// The scores that compete for a place, as lists of (score, whether it is kept).
fn contests(
    selection: Selection,
    scores: &[Vec<f32>],
    kept: &[&Vec<Vec<u32>>],
) -> Vec<Vec<(f32, bool)>> {
    let (layers, tokens) = (scores.len(), kept.len());
    let contest = |layer: usize, token: usize| -> Vec<(f32, bool)> {
        let units = scores[layer].len() / tokens;
        let row = scores[layer][token * units..][..units].iter();
        row.zip(0..).map(|(&score, i)| (score, kept[token][layer].contains(&i))).collect()
    };
    match selection {
        Selection::Layer => {
            let pairs = (0..layers).flat_map(|l| (0..tokens).map(move |t| (l, t)));
            pairs.map(|(l, t)| contest(l, t)).collect()
        }
        Selection::Global => {
            (0..tokens).map(|t| (0..layers).flat_map(|l| contest(l, t)).collect()).collect()
        }
        Selection::Threshold => {
            (0..layers).map(|l| (0..tokens).flat_map(|t| contest(l, t)).collect()).collect()
        }
    }
}

fn check(selection: Selection, scores: &[Vec<f32>], ratio: f32, kept: &[&Vec<Vec<u32>>]) {
    for layers in kept {
        assert_eq!(layers.len(), scores.len());
        assert!(layers.iter().all(|list| list.is_sorted_by(|a, b| a < b)), "ascending");
    }
    for contest in contests(selection, scores, kept) {
        let on = contest.iter().filter(|(_, kept)| *kept);
        assert_eq!(on.clone().count(), kept_count(contest.len(), ratio), "{selection} {ratio}");
        let lowest = on.map(|(score, _)| *score).fold(f32::INFINITY, f32::min);
        let off = contest.iter().filter(|(_, kept)| !kept);
        assert!(off.clone().all(|(score, _)| *score <= lowest), "the best are kept");
        // Of equals, those that come first.
        let tied = contest.iter().filter(|(score, _)| *score == lowest);
        assert!(tied.is_sorted_by(|(_, a), (_, b)| a >= b), "ties");
    }
}

fn neurons(kept: &[Kept]) -> Vec<&Vec<Vec<u32>>> {
    kept.iter().map(|kept| &kept.neurons).collect()
}

fn heads(kept: &[Kept]) -> Vec<&Vec<Vec<u32>>> {
    kept.iter().map(|kept| &kept.heads).collect()
}

proptest! {
    #[test]
    fn the_best_are_kept(
        (_, tokens, _, _, scores) in cases(),
        selection in one_of(&SELECTIONS[..]),
        ratio in 0.0f32..=1.0,
    ) {
        let kept = select(selection, &scores, ratio, tokens);
        prop_assert_eq!(kept.len(), tokens);
        check(selection, &scores.neurons, ratio, &neurons(&kept));
        check(selection, &scores.heads, ratio, &heads(&kept));
    }

    #[test]
    fn the_ends_keep_all_and_none((layers, tokens, units, count, scores) in cases()) {
        for selection in SELECTIONS {
            let lists = |kept: bool, units: usize| -> Vec<Vec<u32>> {
                vec![if kept { (0..units as u32).collect() } else { Vec::new() }; layers]
            };
            for (ratio, on) in [(0.0, true), (1.0, false)] {
                let expected = Kept { neurons: lists(on, units), heads: lists(on, count) };
                prop_assert_eq!(select(selection, &scores, ratio, tokens), vec![expected; tokens]);
            }
        }
    }

    /// What a higher ratio keeps, a lower one keeps too.
    #[test]
    fn ratios_are_nested(
        (_, tokens, _, _, scores) in cases(),
        selection in one_of(&SELECTIONS[..]),
        low in 0.0f32..=1.0,
        high in 0.0f32..=1.0,
    ) {
        let (low, high) = (low.min(high), low.max(high));
        let more = select(selection, &scores, low, tokens);
        let fewer = select(selection, &scores, high, tokens);
        for (more, fewer) in more.iter().zip(&fewer) {
            for (more, fewer) in more.neurons.iter().zip(&fewer.neurons) {
                prop_assert!(fewer.iter().all(|i| more.contains(i)));
            }
        }
    }
}

/// A kind outside the scope has no layers, which stands for all on.
#[test]
fn a_kind_without_scores_stays_dense() {
    let scores = Scores { neurons: vec![vec![1.0, 2.0, 3.0, 4.0]], heads: Vec::new() };
    for selection in SELECTIONS {
        let kept = select(selection, &scores, 0.5, 2);
        assert_eq!(kept.len(), 2);
        assert!(kept.iter().all(|kept| kept.heads.is_empty() && kept.neurons.len() == 1));
    }
}
