//! One question: its dense answer, what every mask keeps of it, scores and outputs.

use super::contexts::largest;
use super::record::Kind;
use super::tally::{Steps, Sums};
use super::{NeuronStudy, Runtime};
use crate::sweep::{Dense, Prompt, teacher_forced};
use fewron_model::{MaskSource, ModelError, Session, Trace};
use fewron_sparsity::{
    Attribution, Kept, Policy, PolicyKind, Recorder, Scores, prompt_scores, select,
};
use std::sync::Arc;

/// What a worker thread keeps between questions.
pub(super) struct Worker {
    pub(super) session: Session,
    pub(super) attribution: Attribution,
}

/// What one answer shows.
pub(super) struct Answer {
    /// Its tokens; step s of the masks reads token s.
    pub(super) tokens: Vec<u32>,
    /// Masked steps; an answer of none says nothing.
    pub(super) steps: usize,
    /// By mask and kind.
    pub(super) kept: Vec<[Option<Steps>; 2]>,
    /// By metric and kind.
    pub(super) scores: Vec<[Option<Sums>; 2]>,
    /// By kind; of heads the norm.
    pub(super) outputs: [Sums; 2],
    /// Largest output of every neuron and its step, `[layers · neurons]`.
    pub(super) largest: Vec<(f32, u32)>,
}

/// Asks a question.
pub(super) fn ask(
    study: &NeuronStudy,
    worker: &mut Worker,
    index: usize,
) -> Result<Answer, ModelError> {
    let Worker { session, attribution } = worker;
    let Prompt { tokens, .. } = &study.prompts[index];
    let wants_prompt = |runtime: &Runtime| runtime.plan.policy == PolicyKind::Prompt;
    let of_prompt = match study.runtime.as_ref().is_some_and(wants_prompt) {
        true => {
            session.truncate(0);
            prompt_scores(session, tokens)?
        }
        false => Vec::new(),
    };
    let dense = Dense::answer(session, study.text, tokens, study.config.max_new_tokens)?;
    let steps = dense.labels().len();
    let mut answer = Answer {
        tokens: dense.tokens().to_vec(),
        steps,
        kept: Vec::new(),
        scores: Vec::new(),
        outputs: Default::default(),
        largest: Vec::new(),
    };
    if steps == 0 {
        return Ok(answer);
    }
    answer.add_outputs(study, dense.trace());
    for scores in dense.scores(session, attribution, index as u64) {
        let kept = select(study.config.selection, &scores, study.config.ratio, steps);
        answer.add_mask(study, kept, study.kinds(0));
        answer.scores.push(sums(study, &scores));
    }
    if let Some(runtime) = &study.runtime {
        let kept = runtime_masks(session, &dense, runtime, &of_prompt)?;
        answer.add_mask(study, kept, study.kinds(study.config.metrics.len()));
    }
    Ok(answer)
}

/// What a policy keeps while it reads the dense answer.
fn runtime_masks(
    session: &mut Session,
    dense: &Dense,
    runtime: &Runtime,
    of_prompt: &[Vec<f32>],
) -> Result<Vec<Kept>, ModelError> {
    let model = Arc::clone(session.model());
    let mut policy = Policy::new(&runtime.plan);
    if runtime.plan.policy == PolicyKind::Prompt {
        policy.keep_for_prompt(of_prompt);
    }
    let mut recorder = Recorder::new(&mut policy, model.config());
    teacher_forced(session, dense, vec![&mut recorder as &mut dyn MaskSource])?;
    let mut kept = recorder.kept;
    kept.resize_with(dense.labels().len(), Kept::default);
    Ok(kept)
}

fn sums(study: &NeuronStudy, scores: &Scores) -> [Option<Sums>; 2] {
    [(&scores.neurons, Kind::Mlp), (&scores.heads, Kind::Head)].map(|(layers, kind)| {
        let mut sums = Sums::default();
        layers.iter().for_each(|layer| sums.push_layer(layer, study.units(kind)));
        (!layers.is_empty()).then_some(sums)
    })
}

impl Answer {
    /// Takes a mask's kept units apart by kind. Layers that a policy leaves dense keep all.
    fn add_mask(&mut self, study: &NeuronStudy, kept: Vec<Kept>, kinds: [bool; 2]) {
        let layers = study.model.config().layers.len();
        let [mut neurons, mut heads]: [Steps; 2] = Default::default();
        for kept in kept {
            neurons.push(whole(kept.neurons, layers, study.units(Kind::Mlp)));
            heads.push(whole(kept.heads, layers, study.units(Kind::Head)));
        }
        self.kept.push([kinds[0].then_some(neurons), kinds[1].then_some(heads)]);
    }

    fn add_outputs(&mut self, study: &NeuronStudy, trace: &Trace) {
        let config = study.model.config();
        let (neurons, heads) = (config.intermediate, config.heads);
        let norm = |head: &[f32]| head.iter().map(|x| x * x).sum::<f32>().sqrt();
        for layer in 0..config.layers.len() {
            let outputs = trace.neuron_outputs(layer);
            self.outputs[0].push_layer(outputs, neurons);
            self.largest.append(&mut largest(outputs, neurons));
            let norms = trace.head_outputs(layer).chunks_exact(config.head_dim).map(norm);
            self.outputs[1].push_layer(&norms.collect::<Vec<f32>>(), heads);
        }
    }
}

/// The lists of all layers, with all units where there is none.
fn whole(mut kept: Vec<Vec<u32>>, layers: usize, units: usize) -> Vec<Vec<u32>> {
    kept.resize_with(layers, || (0..units as u32).collect());
    kept
}
