//! From answers to the record.

use super::answer::Answer;
use super::bits::BitStore;
use super::cards::cards;
use super::contexts::Peaks;
use super::overlap::{Chances, OverlapSum};
use super::pairs::pairs;
use super::record::{
    CategoryRecord, Kind, LayerRecord, LayerScore, MaskOverlap, MaskRecord, MaskUnits, NeuronRun,
    Stored,
};
use super::specificity::{Tested, Tests};
use super::tally::{Sums, Tally, compare};
use super::{MOST_CATEGORIES, NeuronResult, NeuronStudy};
use crate::record::{DataRecord, Settings};
use crate::sweep::pairs as all_pairs;

/// Everything that was counted so far.
pub(super) struct State {
    /// By mask and kind.
    pub(super) tallies: Vec<[Option<Tally>; 2]>,
    /// By pair of masks, kind and layer.
    overlap: Vec<[Vec<OverlapSum>; 2]>,
    chances: Chances,
    /// By metric and kind.
    pub(super) scores: Vec<[Sums; 2]>,
    /// By kind.
    pub(super) outputs: [Sums; 2],
    pub(super) peaks: Peaks,
    /// The answers' tokens.
    pub(super) answers: Vec<Vec<u32>>,
    pub(super) categories: Vec<CategoryRecord>,
    /// Answers with masked steps, and these steps.
    pub(super) masked: (usize, u64),
}

impl State {
    pub(super) fn new(study: &NeuronStudy, store_bytes: usize) -> Self {
        let categories = categories(&study.categories);
        let masks = study.names().len();
        let layers = study.model.config().layers.len();
        let tally = |mask: usize| {
            Kind::ALL.map(|kind| {
                let budget = store_bytes / masks.max(1);
                let tally = || Tally::new(layers, study.units(kind), categories.len(), budget);
                study.kinds(mask)[kind as usize].then(tally)
            })
        };
        Self {
            tallies: (0..masks).map(tally).collect(),
            overlap: all_pairs(masks).map(|_| [(); 2].map(|()| sums(layers))).collect(),
            chances: Chances::default(),
            scores: vec![Default::default(); study.config.metrics.len()],
            outputs: Default::default(),
            peaks: Peaks::new(layers * study.units(Kind::Mlp)),
            answers: Vec::new(),
            categories,
            masked: (0, 0),
        }
    }

    /// Masked steps.
    pub(super) fn tokens(&self) -> u64 {
        self.masked.1
    }

    /// Adds the answer to the next question.
    pub(super) fn add(&mut self, study: &NeuronStudy, index: usize, answer: Answer) {
        self.answers.push(answer.tokens);
        if answer.steps == 0 {
            return;
        }
        self.masked = (self.masked.0 + 1, self.masked.1 + answer.steps as u64);
        let named = study.categories[index].as_ref();
        let category = named.and_then(|n| self.categories.iter().position(|c| c.name == *n));
        if let Some(category) = category {
            self.categories[category].answers += 1;
            self.categories[category].tokens += answer.steps as u64;
        }
        for (pair, sums) in all_pairs(answer.kept.len()).zip(&mut self.overlap) {
            let (a, b) = (&answer.kept[pair.0], &answer.kept[pair.1]);
            for kind in Kind::ALL {
                if let (Some(a), Some(b)) = (&a[kind as usize], &b[kind as usize]) {
                    let (sums, chances) = (&mut sums[kind as usize], &mut self.chances);
                    compare(a.iter().zip(b), study.units(kind), sums, chances);
                }
            }
        }
        let kept = answer.kept.into_iter().flatten();
        for (tally, kept) in self.tallies.iter_mut().flatten().zip(kept) {
            if let (Some(tally), Some(kept)) = (tally, kept) {
                tally.add(kept, category);
            }
        }
        let scores = self.scores.iter_mut().flatten().zip(answer.scores.iter().flatten());
        scores.for_each(|(sums, own)| own.iter().for_each(|own| sums.merge(own)));
        self.outputs.iter_mut().zip(&answer.outputs).for_each(|(sums, own)| sums.merge(own));
        self.peaks.add(index as u32, &answer.largest);
    }

    /// The record, and the counts of every unit.
    pub(super) fn collect(mut self, study: &NeuronStudy, settings: Settings) -> NeuronResult {
        let names = study.names();
        let config = study.model.config();
        let labels: Vec<String> = self.categories.iter().map(|c| c.name.clone()).collect();
        let tested: Vec<[Option<Tested>; 2]> = (0..names.len())
            .map(|mask| Kind::ALL.map(|kind| self.test(study, mask, kind, &labels)))
            .collect();
        let masks = names.iter().enumerate();
        let masks = masks.map(|(mask, name)| self.mask(study, mask, name, &tested[mask])).collect();
        let run = NeuronRun {
            model: study.model_record.clone(),
            data: DataRecord {
                samples: self.masked.0,
                tokens: self.masked.1,
                ..study.data.clone()
            },
            seed: study.config.seed,
            settings,
            ratio: study.config.ratio,
            layers: config.layers.len(),
            neurons: config.intermediate,
            heads: config.heads,
            stored: self.stored(),
            categories: self.categories.clone(),
            masks,
            overlap: self.overlaps(&names),
            cards: cards(study, &self, &names, &tested),
        };
        NeuronResult { run, units: self.units(&names) }
    }

    fn test(
        &self,
        study: &NeuronStudy,
        mask: usize,
        kind: Kind,
        labels: &[String],
    ) -> Option<Tested> {
        let tally = self.tallies[mask][kind as usize].as_ref()?;
        let shape = (tally.layers, tally.units);
        let tests = Tests::new(&tally.store, kind, shape, labels.len(), study.config.seed);
        tests.any().then(|| tests.run(labels, study.threads))
    }

    fn mask(
        &self,
        study: &NeuronStudy,
        mask: usize,
        name: &str,
        tested: &[Option<Tested>; 2],
    ) -> MaskRecord {
        let tallies = || Kind::ALL.into_iter().zip(&self.tallies[mask]);
        let present = || tallies().filter_map(|(kind, tally)| Some((kind, tally.as_ref()?)));
        let pairs = present().flat_map(|(kind, tally)| {
            let of_layer = move |layer: usize| {
                pairs(&tally.store, kind, layer, tally.of_layer(layer), tally.tokens)
            };
            (0..tally.layers).flat_map(of_layer)
        });
        let [mlp, heads] = &self.tallies[mask];
        let oracle = mask < study.config.metrics.len();
        MaskRecord {
            name: name.to_owned(),
            protocol: if oracle { "oracle" } else { "runtime" }.to_owned(),
            layers: present().flat_map(|(kind, tally)| self.layers(mask, kind, tally)).collect(),
            mlp: mlp.as_ref().map(frequencies).unwrap_or_default(),
            heads: heads.as_ref().map(frequencies).unwrap_or_default(),
            pairs: pairs.collect(),
            specificity: tested.iter().flatten().flat_map(Tested::specificity).collect(),
            category_overlap: tested.iter().flatten().flat_map(Tested::category_overlap).collect(),
        }
    }

    fn layers(&self, mask: usize, kind: Kind, tally: &Tally) -> Vec<LayerRecord> {
        let steps = tally.tokens;
        let record = |layer: usize| {
            let kept = tally.of_layer(layer);
            let total: u64 = kept.iter().map(|&count| u64::from(count)).sum();
            LayerRecord {
                kind,
                layer,
                kept: total as f64 / (steps * tally.units as u64) as f64,
                dead: kept.iter().filter(|&&count| count == 0).count(),
                hot: kept.iter().filter(|&&count| u64::from(count) * 10 >= steps * 9).count(),
                stability: tally.stability[layer].mean(),
                between: tally.between[layer].mean(),
                score: self.scores.get(mask).map(|sums| layer_score(sums, kind, layer, tally)),
            }
        };
        (0..tally.layers).map(record).collect()
    }

    fn stored(&self) -> Stored {
        let stores = self.tallies.iter().flatten().flatten().map(|tally| &tally.store);
        let stored = |s: &BitStore| Stored { answers: s.answers().len(), tokens: s.tokens() };
        stores.map(stored).min_by_key(|stored| stored.answers).unwrap_or_default()
    }

    fn overlaps(&self, names: &[String]) -> Vec<MaskOverlap> {
        let of_pair = |((a, b), sums): ((usize, usize), &[Vec<OverlapSum>; 2])| {
            let record = |kind: Kind| MaskOverlap {
                a: names[a].clone(),
                b: names[b].clone(),
                kind,
                layers: sums[kind as usize].iter().map(OverlapSum::mean).collect(),
            };
            let both =
                |kind: &Kind| [a, b].iter().all(|m| self.tallies[*m][*kind as usize].is_some());
            Kind::ALL.into_iter().filter(both).map(record).collect::<Vec<_>>()
        };
        all_pairs(names.len()).zip(&self.overlap).flat_map(of_pair).collect()
    }

    fn units(&mut self, names: &[String]) -> Vec<MaskUnits> {
        let mut units = Vec::new();
        for (mask, tallies) in std::mem::take(&mut self.tallies).into_iter().enumerate() {
            for (kind, tally) in Kind::ALL.into_iter().zip(tallies) {
                let Some(tally) = tally else { continue };
                let scores = self.scores.get(mask).map(|sums| &sums[kind as usize]);
                units.push(MaskUnits {
                    name: names[mask].clone(),
                    kind: Some(kind),
                    units: tally.units,
                    tokens: tally.tokens,
                    kept: tally.kept,
                    by_category: tally.by_category,
                    scores: scores.map(|sums| sums.means(tally.tokens)).unwrap_or_default(),
                    outputs: self.outputs[kind as usize].means(tally.tokens),
                });
            }
        }
        units
    }
}

fn sums(layers: usize) -> Vec<OverlapSum> {
    vec![OverlapSum::default(); layers]
}

/// The categories with the most questions, those first; of equal ones the one that is named first.
fn categories(of_questions: &[Option<String>]) -> Vec<CategoryRecord> {
    let mut counted: Vec<(&String, usize)> = Vec::new();
    for name in of_questions.iter().flatten() {
        match counted.iter_mut().find(|(known, _)| *known == name) {
            Some((_, count)) => *count += 1,
            None => counted.push((name, 1)),
        }
    }
    counted.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
    counted.truncate(MOST_CATEGORIES);
    let record =
        |(name, _): (&String, usize)| CategoryRecord { name: name.clone(), answers: 0, tokens: 0 };
    counted.into_iter().map(record).collect()
}

fn frequencies(tally: &Tally) -> Vec<Vec<u8>> {
    let level = |&count: &u32| (f64::from(count) / tally.tokens as f64 * 255.0).round() as u8;
    (0..tally.layers).map(|layer| tally.of_layer(layer).iter().map(level).collect()).collect()
}

fn layer_score(sums: &[Sums; 2], kind: Kind, layer: usize, tally: &Tally) -> LayerScore {
    let own = layer * tally.units..(layer + 1) * tally.units;
    let sum = |values: &[f64]| values[own.clone()].iter().sum::<f64>();
    let own_sums = &sums[kind as usize];
    let (absolute, signed) = (sum(&own_sums.absolute), sum(&own_sums.signed));
    let all: f64 = sums.iter().flat_map(|sums| &sums.absolute).sum();
    let steps = tally.tokens as f64;
    LayerScore {
        share: if all > 0.0 { absolute / all } else { 0.0 },
        absolute: absolute / steps,
        signed: signed / steps,
    }
}
