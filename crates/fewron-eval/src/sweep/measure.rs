//! One question at every point of the sweep.

use super::answer::{Dense, Forced, FreeRun, finish_runs, teacher_forced};
use super::checkpoint::{PointSample, Sample};
use super::{Masks, Sweep, SweepError};
use crate::bleu::sentence_bleu;
use fewron_model::{MaskSource, ModelError, Session};
use fewron_sparsity::{
    Attribution, Kept, Plan, Policy, PolicyKind, Recorder, Replay, Scores, select,
};

/// What a worker thread keeps between questions.
pub(super) struct Worker {
    pub(super) session: Session,
    pub(super) attribution: Attribution,
}

/// Measures a question at every point; `None` when told to stop.
pub(super) fn measure(
    sweep: &Sweep,
    worker: &mut Worker,
    index: usize,
    tick: &(dyn Fn() + Sync),
    stop: &dyn Fn() -> bool,
) -> Result<Option<Sample>, SweepError> {
    let prompt = &sweep.prompts[index];
    let fail = |source: ModelError| SweepError::Model {
        index: index + 1,
        question: prompt.question.clone(),
        source,
    };
    if stop() {
        return Ok(None);
    }
    let session = &mut worker.session;
    let prompt_scores = prompt_scores(sweep, session, &prompt.tokens).map_err(fail)?;
    let dense = Dense::answer(session, sweep.text, &prompt.tokens, sweep.config.max_new_tokens)
        .map_err(fail)?;
    let answer = text_of(sweep, &dense.tokens);
    let mut sample = Sample::new(sweep, answer, dense.labels().len());
    if sample.steps == 0 {
        (0..sweep.config.points()).for_each(|_| tick());
        return Ok(Some(sample));
    }
    let scores = dense.scores(session, &worker.attribution, index as u64);
    sample.add_head_importance(sweep, &scores);
    let mut focus_masks = Vec::new();
    let mut pending = Pending::default();
    for r in 0..sweep.config.ratios.len() {
        let mut runs = runs(sweep, &scores, &prompt_scores, r, sample.steps);
        while !runs.is_empty() {
            if stop() {
                return Ok(None);
            }
            let together = runs.len().min((FORCED_TOKENS / sample.steps).max(1));
            let batch = runs.drain(..together).collect();
            for Masked { names, forced, kept, run } in
                force(session, &dense, batch).map_err(fail)?
            {
                pending.bytes += kept.iter().map(Kept::bytes).sum::<usize>();
                for &name in &names {
                    sample.add_kept(sweep, name, r, &kept);
                    if r == sweep.config.focus() {
                        focus_masks.push((name, kept.clone()));
                    }
                    tick();
                }
                let points = names.iter().map(|name| name * sweep.config.ratios.len() + r);
                pending.points.push(points.collect());
                pending.runs.push(run);
                pending.forced.push(forced);
            }
            if pending.is_full() {
                pending.finish(sweep, session, &dense, &mut sample).map_err(fail)?;
            }
        }
    }
    pending.finish(sweep, session, &dense, &mut sample).map_err(fail)?;
    focus_masks.sort_by_key(|(name, _)| *name);
    let focus_masks: Vec<Vec<Kept>> = focus_masks.into_iter().map(|(_, kept)| kept).collect();
    sample.add_overlap(&focus_masks);
    Ok(Some(sample))
}

/// What the policy `prompt` knows of a question, if it takes part.
fn prompt_scores(
    sweep: &Sweep,
    session: &mut Session,
    prompt: &[u32],
) -> Result<Vec<Vec<f32>>, ModelError> {
    if sweep.plans.iter().flatten().all(|plan| plan.policy != PolicyKind::Prompt) {
        return Ok(Vec::new());
    }
    session.truncate(0);
    fewron_sparsity::prompt_scores(session, prompt)
}

/// Tokens of one batch of teacher-forced runs.
const FORCED_TOKENS: usize = 128;

/// What decides the masks of a run.
enum Source<'a> {
    Oracle(Replay),
    Runtime(Policy<&'a Plan>),
}

impl Source<'_> {
    fn masks(&mut self) -> &mut dyn MaskSource {
        match self {
            Source::Oracle(replay) => replay,
            Source::Runtime(policy) => policy,
        }
    }
}

/// The runs of a ratio, with the metrics or policies (by index) that each stands for: metrics that
/// keep the same units, as `snip` and `fisher` do for single tokens, share one.
fn runs<'a>(
    sweep: &'a Sweep,
    scores: &[Scores],
    prompt_scores: &[Vec<f32>],
    r: usize,
    steps: usize,
) -> Vec<(Vec<usize>, Source<'a>)> {
    let config = &sweep.config;
    let ratio = config.ratios[r];
    let mut runs: Vec<(Vec<usize>, Source)> = Vec::new();
    match &config.masks {
        Masks::Oracle(_) => {
            for (name, scores) in scores.iter().enumerate() {
                let masks = select(config.selection, scores, ratio, steps);
                let same =
                    |run: &&mut (_, Source)| matches!(&run.1, Source::Oracle(r) if r.0 == masks);
                match runs.iter_mut().find(same) {
                    Some((names, _)) => names.push(name),
                    None => runs.push((vec![name], Source::Oracle(Replay(masks)))),
                }
            }
        }
        Masks::Runtime(_) => {
            for (name, plans) in sweep.plans.iter().enumerate() {
                let mut policy = Policy::new(&plans[r]);
                if plans[r].policy == PolicyKind::Prompt {
                    policy.keep_for_prompt(prompt_scores);
                }
                runs.push((vec![name], Source::Runtime(policy)));
            }
        }
    }
    runs
}

/// A run after its teacher-forced part.
struct Masked<'a> {
    names: Vec<usize>,
    forced: Forced,
    /// By masked step.
    kept: Vec<Kept>,
    run: FreeRun<'a>,
}

/// The teacher-forced parts of some runs.
fn force<'a>(
    session: &mut Session,
    dense: &Dense,
    mut runs: Vec<(Vec<usize>, Source<'a>)>,
) -> Result<Vec<Masked<'a>>, ModelError> {
    let model = std::sync::Arc::clone(session.model());
    let sources = runs.iter_mut().map(|(_, source)| source.masks());
    let mut recorders: Vec<Recorder> =
        sources.map(|masks| Recorder::new(masks, model.config())).collect();
    let sources = recorders.iter_mut().map(|r| r as &mut dyn MaskSource).collect();
    let forced = teacher_forced(session, dense, sources)?;
    let kept: Vec<Vec<Kept>> = recorders.into_iter().map(|recorder| recorder.kept).collect();
    let masked = forced.into_iter().zip(kept).zip(runs);
    Ok(masked
        .map(|(((forced, text), kept), (names, source))| {
            let masks: Box<dyn MaskSource> = match source {
                Source::Oracle(replay) => Box::new(replay),
                Source::Runtime(policy) => Box::new(policy),
            };
            let run = FreeRun::new(dense, &forced, text, masks);
            Masked { names, forced, kept, run }
        })
        .collect())
}

/// Runs of a question whose free-running answers wait to be decoded as one batch.
#[derive(Default)]
struct Pending<'a> {
    /// The points that each run stands for.
    points: Vec<Vec<usize>>,
    forced: Vec<Forced>,
    runs: Vec<FreeRun<'a>>,
    /// Size of their masks.
    bytes: usize,
}

impl Pending<'_> {
    /// Whether more runs would take more memory than their batch saves in time.
    fn is_full(&self) -> bool {
        self.runs.len() >= 64 || self.bytes >= 128 << 20
    }

    /// Decodes the answers and judges them.
    fn finish(
        &mut self,
        sweep: &Sweep,
        session: &mut Session,
        dense: &Dense,
        sample: &mut Sample,
    ) -> Result<(), ModelError> {
        finish_runs(session, sweep.text, &mut self.runs, dense.tokens.len())?;
        let done = self.points.drain(..).zip(self.forced.drain(..)).zip(self.runs.drain(..));
        for ((points, forced), run) in done {
            let text = text_of(sweep, &run.tokens);
            let bleu = sentence_bleu(&text, &sample.dense);
            let result = PointSample { agree: forced.agree, kl: forced.kl, bleu, text };
            for point in points {
                sample.points[point] = result.clone();
            }
        }
        self.bytes = 0;
        Ok(())
    }
}

/// Text of an answer up to its end token.
fn text_of(sweep: &Sweep, tokens: &[u32]) -> String {
    let end = tokens.iter().position(|&t| sweep.text.is_end(t)).unwrap_or(tokens.len());
    sweep.text.decode(&tokens[..end])
}
