//! Mask sources: replay of chosen masks, run-time policies, and a recorder of what was kept.

use crate::plan::{Cut, Heads, InputCut, LayerPlan, Plan};
use crate::prompt::{first_looked_at, look, prompt_scores};
use crate::selection::{Kept, top_k};
use fewron_model::{
    Choice, InputSite, Logits, LowRank, MaskSource, ModelConfig, ModelError, PerMatrix, Session,
};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::ops::Deref;
use std::str::FromStr;
use std::sync::Arc;
use thiserror::Error;

/// Plays back masks that were chosen before, token by token.
#[derive(Clone, Debug)]
pub struct Replay(pub Vec<Kept>);

impl MaskSource for Replay {
    fn neurons(&mut self, layer: usize, token: usize, kept: &mut Vec<u32>) -> Choice {
        replay(&self.0[token].neurons, layer, kept)
    }

    fn heads(&mut self, layer: usize, token: usize, kept: &mut Vec<u32>) -> Choice {
        replay(&self.0[token].heads, layer, kept)
    }
}

fn replay(layers: &[Vec<u32>], layer: usize, kept: &mut Vec<u32>) -> Choice {
    match layers.get(layer) {
        Some(list) => {
            kept.extend_from_slice(list);
            Choice::Listed
        }
        None => Choice::Dense,
    }
}

/// A policy that masks without label and without backward pass over the answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PolicyKind {
    /// |act(gate_i)|·c_i with calibrated c_i: up rows and down columns of the others are never touched.
    Gate,
    /// Scores from a low-rank predictor of the MLP's input, trained on attribution: nothing of the
    /// others is touched, and no gate is needed.
    Predict,
    /// One set of neurons for a request, by the attribution of its prompt's own tokens.
    Prompt,
    /// One set of neurons for every token, by the attribution of calibration text.
    Static,
    /// Input channels of every matrix whose products are small are left out.
    Input,
    /// Exact outputs, the largest kept: a reference, since everything is computed first.
    Magnitude,
}

/// A name that no policy has.
#[derive(Debug, Error)]
#[error("no policy {0:?}; there are gate, predict, prompt, static, input, magnitude")]
pub struct UnknownPolicy(String);

impl PolicyKind {
    /// All of them.
    pub const ALL: [PolicyKind; 6] = [
        PolicyKind::Gate,
        PolicyKind::Predict,
        PolicyKind::Prompt,
        PolicyKind::Static,
        PolicyKind::Input,
        PolicyKind::Magnitude,
    ];

    /// The name on the command line and in records.
    pub fn name(self) -> &'static str {
        match self {
            PolicyKind::Gate => "gate",
            PolicyKind::Predict => "predict",
            PolicyKind::Prompt => "prompt",
            PolicyKind::Static => "static",
            PolicyKind::Input => "input",
            PolicyKind::Magnitude => "magnitude",
        }
    }

    /// The bytes (or weights) of a layer that a token does not read where `active` of its neurons run; for policy
    /// `input`, where that share of its weights is read.
    pub fn spared(self, matrices: &PerMatrix, active: f64) -> f64 {
        let skippable = match self {
            PolicyKind::Gate => matrices.up + matrices.down,
            PolicyKind::Predict | PolicyKind::Prompt | PolicyKind::Static => matrices.mlp(),
            PolicyKind::Input => matrices.total(),
            PolicyKind::Magnitude => 0,
        };
        skippable as f64 * (1.0 - active)
    }
}

impl fmt::Display for PolicyKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for PolicyKind {
    type Err = UnknownPolicy;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        Self::ALL
            .into_iter()
            .find(|policy| policy.name() == name)
            .ok_or_else(|| UnknownPolicy(name.into()))
    }
}

/// Masks tokens as a [`Plan`] says, which is borrowed or shared (`Arc<Plan>`).
#[derive(Clone, Debug)]
pub struct Policy<P> {
    plan: P,
    /// The neurons of each layer that run whatever the token: of the policies that keep one set. Empty
    /// before there is one.
    fixed: Vec<Vec<u32>>,
    /// Scores of the prompt as far as it has been looked at, by layer.
    looked: Vec<Vec<f32>>,
    /// Whether any layer leaves out channels.
    thins: bool,
    scores: Vec<f32>,
}

impl<P: Deref<Target = Plan>> Policy<P> {
    /// Masks by a plan.
    pub fn new(plan: P) -> Self {
        let best = |layer: &LayerPlan| {
            let mut kept = Vec::new();
            layer.cut.keep(&layer.weights, &mut kept);
            kept
        };
        let fixed = match plan.policy {
            PolicyKind::Static => plan.layers.iter().map(best).collect(),
            _ => Vec::new(),
        };
        let thins = plan.layers.iter().flat_map(|layer| &layer.inputs).any(InputCut::is_some);
        Self { plan, fixed, looked: Vec::new(), thins, scores: Vec::new() }
    }

    /// The plan.
    pub fn plan(&self) -> &Plan {
        &self.plan
    }

    /// Lets the policy `prompt` keep the neurons with the highest of these scores, by layer: see
    /// [`prompt_scores`]. No layers leave it dense.
    pub fn keep_for_prompt(&mut self, scores: &[Vec<f32>]) {
        let best = |(layer, scores): (&LayerPlan, &Vec<f32>)| {
            let mut kept = Vec::new();
            layer.cut.keep(scores, &mut kept);
            kept
        };
        self.fixed = self.plan.layers.iter().zip(scores).map(best).collect();
    }

    /// Runs tokens dense, as prompts run, and lets the policy `prompt` choose its neurons by them.
    ///
    /// # Errors
    /// As [`Session::forward`].
    pub fn read_prompt<'s>(
        &mut self,
        session: &'s mut Session,
        tokens: &[u32],
        wanted: Logits,
    ) -> Result<&'s [f32], ModelError> {
        if self.plan.policy == PolicyKind::Prompt {
            let scores = prompt_scores(session, tokens)?;
            if !scores.is_empty() {
                self.keep_for_prompt(&scores);
            }
            return session.forward(&tokens[tokens.len().max(1) - 1..], None, None, wanted);
        }
        session.forward(tokens, None, None, wanted)
    }

    /// Where policy `prompt` begins to look at a prompt of this length; what is before may have run dense
    /// already. `None` for policies that look at no prompt.
    pub fn looks_from(&self, prompt: usize) -> Option<usize> {
        (self.plan.policy == PolicyKind::Prompt).then(|| first_looked_at(prompt))
    }

    /// The same as [`Self::read_prompt`] in short steps: runs some of the `rest` of a prompt, from
    /// [`Self::looks_from`] on, and returns how many tokens. With all but the last token run, the neurons are
    /// chosen.
    ///
    /// # Errors
    /// As [`Session::forward`].
    pub fn look(&mut self, session: &mut Session, rest: &[u32]) -> Result<usize, ModelError> {
        let mut count = 0;
        if rest.len() > 1 {
            count = look(session, rest, &mut self.looked)?;
        }
        if count + 1 >= rest.len() {
            let scores = std::mem::take(&mut self.looked);
            self.keep_for_prompt(&scores);
        }
        Ok(count)
    }
}

impl<P: Deref<Target = Plan>> MaskSource for Policy<P> {
    fn neurons(&mut self, layer: usize, _: usize, kept: &mut Vec<u32>) -> Choice {
        if self.plan.layers[layer].cut == Cut::Dense {
            return Choice::Dense;
        }
        match self.plan.policy {
            PolicyKind::Gate => Choice::ByGate,
            PolicyKind::Predict => Choice::ByPrediction,
            PolicyKind::Magnitude => Choice::ByOutput,
            PolicyKind::Input => Choice::Dense,
            PolicyKind::Prompt | PolicyKind::Static => match self.fixed.get(layer) {
                Some(fixed) => {
                    kept.extend_from_slice(fixed);
                    Choice::Listed
                }
                None => Choice::Dense,
            },
        }
    }

    fn select_neurons(&mut self, layer: usize, _: usize, values: &[f32], kept: &mut Vec<u32>) {
        let layer = &self.plan.layers[layer];
        layer.score(self.plan.policy, values, &mut self.scores);
        layer.cut.keep(&self.scores, kept);
    }

    fn thins(&mut self, _: usize) -> bool {
        self.thins
    }

    fn thin(&mut self, site: InputSite, layer: usize, _: usize, values: &mut [f32]) {
        let cut = self.plan.layers[layer].input(site);
        if cut.is_some() {
            cut.thin(values);
        }
    }

    fn predictor(&mut self, layer: usize, _: usize) -> Option<Arc<LowRank>> {
        self.plan.layers[layer].predictor.clone()
    }

    fn compensation(&mut self, layer: usize, _: usize) -> Option<Arc<LowRank>> {
        self.plan.layers[layer].compensation.clone()
    }

    fn heads(&mut self, layer: usize, _: usize, kept: &mut Vec<u32>) -> Choice {
        match &self.plan.layers[layer].heads {
            Heads::All => Choice::Dense,
            Heads::Largest(_) => Choice::ByOutput,
            Heads::Listed(heads) => {
                kept.extend_from_slice(heads);
                Choice::Listed
            }
        }
    }

    fn select_heads(
        &mut self,
        layer: usize,
        _: usize,
        outputs: &[f32],
        heads: usize,
        kept: &mut Vec<u32>,
    ) {
        let Heads::Largest(count) = self.plan.layers[layer].heads else {
            return kept.extend(0..heads as u32);
        };
        self.scores.clear();
        let norm = |head: &[f32]| head.iter().map(|x| x * x).sum::<f32>();
        self.scores.extend(outputs.chunks_exact(outputs.len() / heads).map(norm));
        top_k(&self.scores, count, kept);
    }
}

/// Passes another source's decisions on and keeps a copy of what stayed on, by token.
pub struct Recorder<'a> {
    source: &'a mut dyn MaskSource,
    /// Neurons and heads of a layer.
    units: (usize, usize),
    /// What was kept, by token of the call.
    pub kept: Vec<Kept>,
}

impl<'a> Recorder<'a> {
    /// Records the decisions of `source` over a model.
    pub fn new(source: &'a mut dyn MaskSource, config: &ModelConfig) -> Self {
        Self { source, units: (config.intermediate, config.heads), kept: Vec::new() }
    }

    fn token(&mut self, token: usize) -> &mut Kept {
        if self.kept.len() <= token {
            self.kept.resize_with(token + 1, Kept::default);
        }
        &mut self.kept[token]
    }
}

/// Adds what a layer kept to the lists of the layers before it. Dense layers are whole lists, but a
/// token of dense layers alone has none.
fn record(layers: &mut Vec<Vec<u32>>, layer: usize, units: usize, kept: Option<&[u32]>) {
    if kept.is_none() && layers.is_empty() {
        return;
    }
    layers.resize_with(layer, || (0..units as u32).collect());
    layers.push(kept.map_or_else(|| (0..units as u32).collect(), <[u32]>::to_vec));
}

impl MaskSource for Recorder<'_> {
    fn inner(&mut self, token: usize) -> Option<(&mut dyn MaskSource, usize)> {
        Some((self.source, token))
    }

    fn neurons(&mut self, layer: usize, token: usize, kept: &mut Vec<u32>) -> Choice {
        let (choice, units) = (self.source.neurons(layer, token, kept), self.units.0);
        match choice {
            Choice::Listed => record(&mut self.token(token).neurons, layer, units, Some(kept)),
            Choice::Dense => record(&mut self.token(token).neurons, layer, units, None),
            _ => {}
        }
        choice
    }

    fn select_neurons(&mut self, layer: usize, token: usize, values: &[f32], kept: &mut Vec<u32>) {
        self.source.select_neurons(layer, token, values, kept);
        record(&mut self.token(token).neurons, layer, values.len(), Some(kept));
    }

    fn heads(&mut self, layer: usize, token: usize, kept: &mut Vec<u32>) -> Choice {
        let (choice, units) = (self.source.heads(layer, token, kept), self.units.1);
        match choice {
            Choice::Listed => record(&mut self.token(token).heads, layer, units, Some(kept)),
            Choice::Dense => record(&mut self.token(token).heads, layer, units, None),
            _ => {}
        }
        choice
    }

    fn select_heads(
        &mut self,
        layer: usize,
        token: usize,
        outputs: &[f32],
        heads: usize,
        kept: &mut Vec<u32>,
    ) {
        self.source.select_heads(layer, token, outputs, heads, kept);
        record(&mut self.token(token).heads, layer, heads, Some(kept));
    }
}
