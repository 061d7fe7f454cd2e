//! A policy that counts what it keeps.

use crate::plan::Plan;
use crate::policy::{Policy, PolicyKind};
use fewron_model::{Choice, InputSite, Logits, MaskSource, Model, ModelError, Session};
use std::ops::Deref;

/// A policy that counts the neurons it keeps: what share of them ran.
#[derive(Clone, Debug)]
pub struct Counted<P> {
    policy: Policy<P>,
    counts: Counts,
    /// Bytes of the matrices that read each input, by layer.
    site_bytes: Vec<[usize; 4]>,
}

/// Neurons kept and seen at masked tokens, by layer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Those that ran.
    pub kept: Vec<u64>,
    /// All of them.
    pub seen: Vec<u64>,
}

/// Shares of MLP neurons that ran at masked tokens.
#[derive(Clone, Debug, PartialEq)]
pub struct Active {
    /// Over all layers.
    pub mean: f64,
    /// By layer.
    pub layers: Vec<f64>,
}

impl Counts {
    /// Nothing counted yet, of so many layers.
    pub fn new(layers: usize) -> Self {
        Self { kept: vec![0; layers], seen: vec![0; layers] }
    }

    fn add(&mut self, layer: usize, kept: usize, of: usize) {
        self.kept[layer] += kept as u64;
        self.seen[layer] += of as u64;
    }

    /// Adds another's counts.
    ///
    /// # Panics
    /// When it has another number of layers.
    pub fn join(&mut self, other: &Self) {
        assert_eq!(self.kept.len(), other.kept.len(), "counts of one model");
        self.kept.iter_mut().zip(&other.kept).for_each(|(sum, more)| *sum += more);
        self.seen.iter_mut().zip(&other.seen).for_each(|(sum, more)| *sum += more);
    }

    /// The shares that ran; `None` if nothing was masked. A layer without masked tokens ran whole.
    pub fn active(&self) -> Option<Active> {
        let share = |(&kept, &seen): (&u64, &u64)| match seen {
            0 => 1.0,
            seen => kept as f64 / seen as f64,
        };
        let layers: Vec<f64> = self.kept.iter().zip(&self.seen).map(share).collect();
        let mean = layers.iter().sum::<f64>() / layers.len() as f64;
        self.seen.iter().any(|&seen| seen > 0).then_some(Active { mean, layers })
    }
}

impl<P: Deref<Target = Plan>> Counted<P> {
    /// Masks by a plan for a model.
    pub fn new(plan: P, model: &Model) -> Self {
        let layers = 0..model.config().layers.len();
        let of = |layer| InputSite::ALL.map(|site| model.site_bytes(layer, site));
        let site_bytes: Vec<_> = layers.map(of).collect();
        Self { policy: Policy::new(plan), counts: Counts::new(site_bytes.len()), site_bytes }
    }

    /// The plan.
    pub fn plan(&self) -> &Plan {
        self.policy.plan()
    }

    /// Runs tokens dense, as prompts run: see [`Policy::read_prompt`].
    ///
    /// # Errors
    /// As [`Session::forward`].
    pub fn read_prompt<'s>(
        &mut self,
        session: &'s mut Session,
        tokens: &[u32],
        wanted: Logits,
    ) -> Result<&'s [f32], ModelError> {
        self.policy.read_prompt(session, tokens, wanted)
    }

    /// Whether the policy looks at the whole prompt at once.
    pub fn reads_prompts(&self) -> bool {
        self.plan().policy == PolicyKind::Prompt
    }

    /// See [`Policy::looks_from`].
    pub fn looks_from(&self, prompt: usize) -> Option<usize> {
        self.policy.looks_from(prompt)
    }

    /// See [`Policy::look`].
    ///
    /// # Errors
    /// As [`Session::forward`].
    pub fn look(&mut self, session: &mut Session, rest: &[u32]) -> Result<usize, ModelError> {
        self.policy.look(session, rest)
    }

    /// Takes what was counted since the last call.
    pub fn take_counts(&mut self) -> Counts {
        let layers = self.site_bytes.len();
        std::mem::replace(&mut self.counts, Counts::new(layers))
    }
}

impl<P: Deref<Target = Plan>> MaskSource for Counted<P> {
    fn inner(&mut self, token: usize) -> Option<(&mut dyn MaskSource, usize)> {
        Some((&mut self.policy, token))
    }

    fn neurons(&mut self, layer: usize, token: usize, kept: &mut Vec<u32>) -> Choice {
        let choice = self.policy.neurons(layer, token, kept);
        let neurons = self.plan().neurons;
        match choice {
            Choice::Dense if self.plan().policy == PolicyKind::Input => {}
            Choice::Dense => self.counts.add(layer, neurons, neurons),
            Choice::Listed => self.counts.add(layer, kept.len(), neurons),
            _ => {}
        }
        choice
    }

    fn thin(&mut self, site: InputSite, layer: usize, token: usize, values: &mut [f32]) {
        self.policy.thin(site, layer, token, values);
        let plan = self.policy.plan();
        if plan.layers[layer].input(site).is_some() {
            // The down projection counts beside what was computed, so that the share is the mean of both;
            // where all inputs are cut, each counts by the bytes that read it.
            let bytes = match plan.policy {
                PolicyKind::Input => self.site_bytes[layer][site as usize] / values.len(),
                _ => 1,
            };
            let on = values.iter().filter(|value| **value != 0.0).count();
            self.counts.add(layer, on * bytes, values.len() * bytes);
        }
    }

    fn select_neurons(&mut self, layer: usize, token: usize, values: &[f32], kept: &mut Vec<u32>) {
        self.policy.select_neurons(layer, token, values, kept);
        self.counts.add(layer, kept.len(), values.len());
    }
}
