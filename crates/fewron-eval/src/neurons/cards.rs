//! Neurons one by one: what they do, where they speak up, which tokens they promote.

use super::collect::State;
use super::contexts::Peak;
use super::record::{CardCategory, CardMask, Context, Kind, NeuronCard, TokenWeight};
use super::specificity::{SIGNIFICANT, Tested};
use super::{Cards, NeuronStudy};
use crate::sweep::Text;

/// Neurons of [`Cards::Highlights`].
const HIGHLIGHTS: usize = 12;

/// Tokens of the vocabulary that a card names at each end.
const TOKENS: usize = 10;

/// Tokens of context before and behind.
const BEFORE: usize = 16;
const AFTER: usize = 10;

/// Neurons whose products with the whole vocabulary are held at a time.
const TOGETHER: usize = 32;

/// Neurons that a category gives to [`Cards::Highlights`].
const OF_CATEGORY: usize = 4;

/// The cards that the study asks for, of MLP neurons alone.
pub(super) fn cards(
    study: &NeuronStudy,
    state: &State,
    names: &[String],
    tested: &[[Option<Tested>; 2]],
) -> Vec<NeuronCard> {
    let wanted = match study.config.cards {
        Cards::Neuron(layer, neuron) => vec![(layer, neuron)],
        Cards::Layer(layer, count) => largest(study, state, layer..layer + 1, count),
        Cards::Highlights => highlights(study, state, tested),
    };
    let vocabulary = vocabulary(study, &wanted);
    let card = |(&(layer, neuron), (promoted, suppressed))| {
        let at = layer * study.units(Kind::Mlp) + neuron;
        let outputs = &state.outputs[Kind::Mlp as usize];
        let mean = |sums: &[f64]| sums[at] / state.tokens() as f64;
        let masks = 0..names.len();
        NeuronCard {
            layer,
            neuron,
            output: mean(&outputs.signed),
            output_abs: mean(&outputs.absolute),
            masks: masks
                .filter_map(|mask| of_mask(state, mask, &names[mask], &tested[mask], layer, neuron))
                .collect(),
            contexts: state.peaks.of(at).map(|peak| context(study, state, peak)).collect(),
            promoted,
            suppressed,
        }
    };
    wanted.iter().zip(vocabulary).map(card).collect()
}

/// Neurons that stand out in a tested category, of the first mask that has neurons; where there are none
/// those with the largest scores.
fn highlights(
    study: &NeuronStudy,
    state: &State,
    tested: &[[Option<Tested>; 2]],
) -> Vec<(usize, usize)> {
    let first = tested.iter().find_map(|kinds| kinds[Kind::Mlp as usize].as_ref());
    let specific = first.map(Tested::specificity).unwrap_or_default();
    let best = specific.iter().flat_map(|category| category.units.iter().take(OF_CATEGORY));
    let mut best: Vec<_> = best.filter(|unit| unit.p <= SIGNIFICANT).collect();
    best.sort_by(|a, b| b.z.abs().total_cmp(&a.z.abs()));
    let mut places: Vec<(usize, usize)> = Vec::new();
    for place in best.into_iter().map(|unit| (unit.layer, unit.unit)) {
        if !places.contains(&place) && places.len() < HIGHLIGHTS {
            places.push(place);
        }
    }
    match places.is_empty() {
        true => largest(study, state, 0..study.model.config().layers.len(), HIGHLIGHTS),
        false => places,
    }
}

/// The neurons of some layers with the largest mean |score| of the first metric; without metrics those that
/// are kept most often.
fn largest(
    study: &NeuronStudy,
    state: &State,
    layers: std::ops::Range<usize>,
    count: usize,
) -> Vec<(usize, usize)> {
    let units = study.units(Kind::Mlp);
    let places = layers.flat_map(|layer| (0..units).map(move |unit| (layer, unit)));
    let tally = state.tallies.iter().find_map(|kinds| kinds[Kind::Mlp as usize].as_ref());
    let Some(tally) = tally else { return Vec::new() };
    let value = |(layer, unit): (usize, usize)| {
        let at = layer * units + unit;
        let score = state.scores.first().map(|sums| sums[Kind::Mlp as usize].absolute[at]);
        score.unwrap_or_else(|| f64::from(tally.kept[at]))
    };
    let mut ranked: Vec<(f64, (usize, usize))> = places.map(|p| (value(p), p)).collect();
    ranked.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
    ranked.into_iter().take(count).map(|(_, place)| place).collect()
}

fn of_mask(
    state: &State,
    mask: usize,
    name: &str,
    tested: &[Option<Tested>; 2],
    layer: usize,
    neuron: usize,
) -> Option<CardMask> {
    let tally = state.tallies[mask][Kind::Mlp as usize].as_ref()?;
    let at = layer * tally.units + neuron;
    let steps = tally.tokens as f64;
    let score = state.scores.get(mask).map(|s| s[Kind::Mlp as usize].absolute[at] / steps);
    let mut categories: Vec<CardCategory> =
        tested[Kind::Mlp as usize].iter().flat_map(|t| stands_out(t, layer, neuron)).collect();
    categories.sort_by(|a, b| b.z.abs().total_cmp(&a.z.abs()));
    Some(CardMask {
        name: name.to_owned(),
        kept: f64::from(tally.kept[at]) / steps,
        score,
        categories,
    })
}

fn stands_out(tested: &Tested, layer: usize, neuron: usize) -> Vec<CardCategory> {
    let of_category = |(index, name): (usize, &String)| {
        let d = tested.difference(index, layer, neuron)?;
        let p = tested.p(index, d.z);
        let (inside, outside, z) = (d.inside, d.outside, d.z);
        let category = name.clone();
        (p <= SIGNIFICANT).then_some(CardCategory { category, inside, outside, z, p })
    };
    tested.names.iter().enumerate().filter_map(of_category).collect()
}

fn context(study: &NeuronStudy, state: &State, peak: &Peak) -> Context {
    let (answer, step) = (peak.answer as usize, peak.step as usize);
    let tokens = &state.answers[answer];
    let end = (step + 1 + AFTER).min(tokens.len());
    let tokens = &tokens[step.saturating_sub(BEFORE)..end];
    let step = step.min(BEFORE);
    Context {
        output: f64::from(peak.output),
        sample: answer,
        question: study.prompts[answer].question.clone(),
        before: study.text.decode(&tokens[..step]),
        token: behind(study.text, tokens, step, step + 1),
        after: behind(study.text, tokens, step + 1, tokens.len()),
    }
}

/// Text of the tokens from `first` to `last` as it stands behind those before: spaces stay.
fn behind(text: &dyn Text, tokens: &[u32], first: usize, last: usize) -> String {
    let (before, whole) = (text.decode(&tokens[..first]), text.decode(&tokens[..last]));
    let rest = whole.strip_prefix(&before).map(ToOwned::to_owned);
    rest.unwrap_or_else(|| text.decode(&tokens[first..last]))
}

/// Of each neuron the tokens that its row of the down projection promotes and suppresses most.
fn vocabulary(
    study: &NeuronStudy,
    wanted: &[(usize, usize)],
) -> Vec<(Vec<TokenWeight>, Vec<TokenWeight>)> {
    wanted.chunks(TOGETHER).flat_map(|wanted| chunk_vocabulary(study, wanted)).collect()
}

fn chunk_vocabulary(
    study: &NeuronStudy,
    wanted: &[(usize, usize)],
) -> Vec<(Vec<TokenWeight>, Vec<TokenWeight>)> {
    let model = &study.model;
    let (hidden, vocab) = (model.config().hidden, model.config().vocab);
    let mut directions = vec![0.0; wanted.len() * hidden];
    for (&(layer, neuron), row) in wanted.iter().zip(directions.chunks_exact_mut(hidden)) {
        model.down_proj(layer).weights(model.isa(), neuron, row);
    }
    let ends = |logits: &[f32]| {
        let mut order: Vec<u32> = (0..logits.len() as u32).collect();
        order.sort_by(|a, b| logits[*b as usize].total_cmp(&logits[*a as usize]));
        let weight = |&token: &u32| TokenWeight {
            token,
            text: token_text(study.text, token),
            weight: logits[token as usize],
        };
        let promoted = order.iter().take(TOKENS).map(weight).collect();
        (promoted, order.iter().rev().take(TOKENS).map(weight).collect())
    };
    model.vocabulary_of(&directions).chunks_exact(vocab).map(ends).collect()
}

/// A token's text; its number where it has none, as end tokens.
fn token_text(text: &dyn Text, token: u32) -> String {
    let shown = text.decode(&[token]);
    if shown.is_empty() { format!("<{token}>") } else { shown }
}
