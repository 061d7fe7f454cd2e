//! Records of neuron analytics. Plain data, no arithmetic.

use crate::record::{DataRecord, ModelRecord, Settings};
use serde::{Deserialize, Serialize};
use std::fmt;

/// What a unit is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// An MLP neuron.
    Mlp,
    /// An attention head.
    Head,
}

impl Kind {
    /// Both, in the order of records.
    pub const ALL: [Kind; 2] = [Kind::Mlp, Kind::Head];

    /// The name in records: `mlp` or `head`.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Mlp => "mlp",
            Kind::Head => "head",
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The JSON contract of `fewron neurons --json`, and what its report draws.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct NeuronRun {
    /// The model.
    pub model: ModelRecord,
    /// The data set; its tokens are masked steps.
    pub data: DataRecord,
    /// Seed of the random metric and of the permutations.
    pub seed: u64,
    /// Everything needed to repeat the run.
    pub settings: Settings,
    /// Nominal sparsity ratio of metrics and policies; a plan has its own.
    pub ratio: f32,
    /// Layers of the model.
    pub layers: usize,
    /// MLP neurons of a layer.
    pub neurons: usize,
    /// Heads of a layer.
    pub heads: usize,
    /// What co-activation and category tests could look at.
    pub stored: Stored,
    /// Categories of the questions, most frequent first; empty where the data names none.
    pub categories: Vec<CategoryRecord>,
    /// One entry for each metric, policy or plan.
    pub masks: Vec<MaskRecord>,
    /// How far the kept sets of two masks overlap, by kind and layer.
    pub overlap: Vec<MaskOverlap>,
    /// Neurons one by one: those that were asked for, else those that stand out in a category.
    pub cards: Vec<NeuronCard>,
}

/// Answers whose masks were kept in memory, token by token.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stored {
    /// Answers: the first of the data set, all of them where they fit.
    pub answers: usize,
    /// Their masked steps.
    pub tokens: usize,
}

/// A category of questions.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CategoryRecord {
    /// As the data names it.
    pub name: String,
    /// Answers with at least one masked step.
    pub answers: usize,
    /// Their masked steps.
    pub tokens: u64,
}

/// What one metric, policy or plan keeps.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct MaskRecord {
    /// Metric, policy or plan file.
    pub name: String,
    /// `oracle` (a metric, which knows the label) or `runtime`.
    pub protocol: String,
    /// By kind and layer.
    pub layers: Vec<LayerRecord>,
    /// `[layers][neurons]`: share of masked steps that keep the neuron, 0..=255 for 0..1.
    pub mlp: Vec<Vec<u8>>,
    /// `[layers][heads]`, likewise.
    pub heads: Vec<Vec<u8>>,
    /// Units that are kept together more or less often than chance has it, strongest first in each layer.
    pub pairs: Vec<Pair>,
    /// Which units stand out in which category; empty where no category has enough answers.
    pub specificity: Vec<Specificity>,
    /// How far the categories' core sets overlap, by pair of tested categories.
    pub category_overlap: Vec<CategoryOverlap>,
}

/// A layer's units of one kind.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LayerRecord {
    /// MLP neurons or heads.
    pub kind: Kind,
    /// The layer.
    pub layer: usize,
    /// Mean share of units kept.
    pub kept: f64,
    /// Units never kept.
    pub dead: usize,
    /// Units kept at nine steps in ten or more.
    pub hot: usize,
    /// Overlap of the kept sets of neighbouring steps of an answer.
    pub stability: Overlap,
    /// Overlap of the kept sets of the same step of two answers.
    pub between: Overlap,
    /// Attribution of the layer; policies have none.
    pub score: Option<LayerScore>,
}

/// Mean Jaccard index |A∩B| / |A∪B| of pairs of kept sets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Overlap {
    /// The mean, 0..1; `None` without pairs.
    pub jaccard: Option<f64>,
    /// The mean for sets of the same sizes that are drawn at random.
    pub chance: Option<f64>,
    /// Pairs of sets.
    pub pairs: u64,
}

/// Attribution totals of a layer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct LayerScore {
    /// Σ|score| of the layer's units of this kind over that of all layers and kinds.
    pub share: f64,
    /// Mean over steps of Σ|score|.
    pub absolute: f64,
    /// Mean over steps of Σ score.
    pub signed: f64,
}

/// Two units of a layer that are kept together.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Pair {
    /// MLP neurons or heads.
    pub kind: Kind,
    /// The layer.
    pub layer: usize,
    /// One unit.
    pub a: usize,
    /// The other.
    pub b: usize,
    /// Steps that keep both.
    pub both: u64,
    /// P(a,b) / (P(a)·P(b)).
    pub lift: f64,
    /// Correlation of the two indicators, −1..1.
    pub phi: f64,
}

/// How a category's masks differ from those of the other answers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Specificity {
    /// Name of the category.
    pub category: String,
    /// MLP neurons or heads.
    pub kind: Kind,
    /// By layer: root mean square of z over the tested units; 1 by chance. `None` where none was tested.
    pub rms_z: Vec<Option<f64>>,
    /// Units with `p` ≤ 0.05.
    pub significant: usize,
    /// The units that differ most.
    pub units: Vec<SpecificUnit>,
}

/// A unit that is kept more or less often in a category.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SpecificUnit {
    /// The layer.
    pub layer: usize,
    /// The unit.
    pub unit: usize,
    /// Mean share of an answer's steps that keep it, over the category's answers.
    pub inside: f64,
    /// The same over all other answers.
    pub outside: f64,
    /// Difference in standard deviations of its permutation distribution.
    pub z: f64,
    /// Share of permutations of the categories whose largest |z| over all units is as large.
    pub p: f64,
}

/// Overlap of the core sets of two categories.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CategoryOverlap {
    /// One category.
    pub a: String,
    /// The other.
    pub b: String,
    /// MLP neurons or heads.
    pub kind: Kind,
    /// Mean Jaccard index over the layers.
    pub jaccard: f64,
    /// The same where the answers are dealt to categories at random.
    pub shuffled: f64,
}

/// Overlap of the kept sets of two masks at the same step.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct MaskOverlap {
    /// One mask's name.
    pub a: String,
    /// The other's.
    pub b: String,
    /// MLP neurons or heads.
    pub kind: Kind,
    /// By layer.
    pub layers: Vec<Overlap>,
}

/// A single MLP neuron.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct NeuronCard {
    /// The layer.
    pub layer: usize,
    /// The neuron.
    pub neuron: usize,
    /// Mean output over the dense steps.
    pub output: f64,
    /// Mean size of the output.
    pub output_abs: f64,
    /// By mask.
    pub masks: Vec<CardMask>,
    /// Steps with the largest outputs by size, at most one of each answer.
    pub contexts: Vec<Context>,
    /// Tokens whose logits a positive output raises most: largest products of output head and down
    /// projection, without the last norm.
    pub promoted: Vec<TokenWeight>,
    /// Tokens whose logits a positive output lowers most.
    pub suppressed: Vec<TokenWeight>,
}

/// What a mask does with a single neuron.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CardMask {
    /// Name of the mask.
    pub name: String,
    /// Share of steps that keep the neuron.
    pub kept: f64,
    /// Mean |score|; policies have none.
    pub score: Option<f64>,
    /// Categories in which it stands out (p ≤ 0.05), largest |z| first.
    pub categories: Vec<CardCategory>,
}

/// A category in which a neuron stands out.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CardCategory {
    /// Name of the category.
    pub category: String,
    /// As in [`SpecificUnit`].
    pub inside: f64,
    /// As in [`SpecificUnit`].
    pub outside: f64,
    /// As in [`SpecificUnit`].
    pub z: f64,
    /// As in [`SpecificUnit`].
    pub p: f64,
}

/// A step at which a neuron's output was large.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Context {
    /// The output.
    pub output: f64,
    /// Number of the sample, from 0.
    pub sample: usize,
    /// The question.
    pub question: String,
    /// The answer's text before the token.
    pub before: String,
    /// The token that the model read.
    pub token: String,
    /// The answer's text behind it.
    pub after: String,
}

/// A token of the vocabulary and its product with a neuron's weights.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TokenWeight {
    /// The token's number.
    pub token: u32,
    /// Its text.
    pub text: String,
    /// What an output of 1 adds to its logit, the last norm left out.
    pub weight: f32,
}

/// Everything that is counted of the units of one kind under one mask: too large for the JSON record.
#[derive(Clone, Debug, Default)]
pub struct MaskUnits {
    /// Name of the mask.
    pub name: String,
    /// MLP neurons or heads.
    pub kind: Option<Kind>,
    /// Units of a layer.
    pub units: usize,
    /// Masked steps.
    pub tokens: u64,
    /// Steps that keep each unit, `[layers · units]`.
    pub kept: Vec<u32>,
    /// The same by category, `[categories][layers · units]`.
    pub by_category: Vec<Vec<u32>>,
    /// Means of the score and of its size over the steps, `[layers · units]`; empty for policies.
    pub scores: Means,
    /// Means of the output and of its size in the dense model; of heads the norm.
    pub outputs: Means,
}

/// Means over steps, by unit.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Means {
    /// Of the values.
    pub signed: Vec<f64>,
    /// Of their sizes.
    pub absolute: Vec<f64>,
}
