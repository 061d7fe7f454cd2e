//! One question at every point of the sweep.

use super::answer::{Dense, Forced, FreeRun, finish_runs, teacher_forced};
use super::checkpoint::{PointSample, Sample};
use super::{Masks, Sweep, SweepError};
use crate::bleu::sentence_bleu;
use fewron_model::{MaskSource, ModelError, Session};
use fewron_sparsity::{Attribution, Kept, Recorder, Replay, Scores, select};

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
    for name in 0..sweep.config.masks.names().len() {
        for (r, &ratio) in sweep.config.ratios.iter().enumerate() {
            if stop() {
                return Ok(None);
            }
            let Masked { forced, kept, masks } =
                force(sweep, session, &dense, name, ratio, &scores).map_err(fail)?;
            sample.add_kept(sweep, name, r, &kept);
            pending.bytes += kept.iter().map(Kept::bytes).sum::<usize>();
            pending.runs.push(FreeRun::new(session, &dense, &forced, masks));
            pending.forced.push(forced);
            if r == sweep.config.focus() {
                focus_masks.push(kept);
            }
            if pending.is_full() {
                pending.finish(sweep, session, &dense, &mut sample).map_err(fail)?;
            }
            tick();
        }
    }
    pending.finish(sweep, session, &dense, &mut sample).map_err(fail)?;
    sample.add_overlap(&focus_masks);
    Ok(Some(sample))
}

/// A point after its teacher-forced run.
struct Masked<'a> {
    forced: Forced,
    /// By masked step.
    kept: Vec<Kept>,
    masks: Box<dyn MaskSource + 'a>,
}

/// The teacher-forced run of a point.
fn force<'a>(
    sweep: &'a Sweep,
    session: &mut Session,
    dense: &Dense,
    name: usize,
    ratio: f32,
    scores: &[Scores],
) -> Result<Masked<'a>, ModelError> {
    match &sweep.config.masks {
        Masks::Oracle(_) => {
            let kept = select(sweep.config.selection, &scores[name], ratio, dense.labels().len());
            let mut masks = Box::new(Replay(kept.clone()));
            let forced = teacher_forced(session, dense, &mut *masks)?;
            Ok(Masked { forced, kept, masks })
        }
        Masks::Runtime(policies) => {
            let policy = sweep.policy(policies[name], ratio).expect("checked at the start");
            let mut masks = Box::new(policy);
            let mut recorder = Recorder::new(&mut *masks);
            let forced = teacher_forced(session, dense, &mut recorder)?;
            let kept = recorder.kept;
            Ok(Masked { forced, kept, masks })
        }
    }
}

/// Points of a question whose free-running answers wait to be decoded as one batch.
#[derive(Default)]
struct Pending<'a> {
    forced: Vec<Forced>,
    runs: Vec<FreeRun<'a>>,
    /// Size of their masks.
    bytes: usize,
}

impl Pending<'_> {
    /// Whether more points would take more memory than their batch saves in time.
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
        for (forced, run) in self.forced.drain(..).zip(self.runs.drain(..)) {
            let text = text_of(sweep, &run.tokens);
            let bleu = sentence_bleu(&text, &sample.dense);
            sample.points.push(PointSample { agree: forced.agree, kl: forced.kl, bleu, text });
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
