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
    let ratios = sweep.config.ratios.len();
    let points: Vec<usize> = (0..sweep.config.points()).collect();
    let mut focus_masks = Vec::new();
    let mut pending = Pending::default();
    for points in points.chunks((FORCED_TOKENS / sample.steps).max(1)) {
        if stop() {
            return Ok(None);
        }
        let masked = force(sweep, session, &dense, points, &scores).map_err(fail)?;
        for (&point, Masked { forced, kept, run }) in points.iter().zip(masked) {
            let (name, r) = (point / ratios, point % ratios);
            sample.add_kept(sweep, name, r, &kept);
            pending.bytes += kept.iter().map(Kept::bytes).sum::<usize>();
            pending.runs.push(run);
            pending.forced.push(forced);
            if r == sweep.config.focus() {
                focus_masks.push(kept);
            }
            tick();
        }
        if pending.is_full() {
            pending.finish(sweep, session, &dense, &mut sample).map_err(fail)?;
        }
    }
    pending.finish(sweep, session, &dense, &mut sample).map_err(fail)?;
    sample.add_overlap(&focus_masks);
    Ok(Some(sample))
}

/// Tokens of one batch of teacher-forced runs.
const FORCED_TOKENS: usize = 128;

/// A point after its teacher-forced run.
struct Masked<'a> {
    forced: Forced,
    /// By masked step.
    kept: Vec<Kept>,
    run: FreeRun<'a>,
}

/// The teacher-forced runs of some points.
fn force<'a>(
    sweep: &'a Sweep,
    session: &mut Session,
    dense: &Dense,
    points: &[usize],
    scores: &[Scores],
) -> Result<Vec<Masked<'a>>, ModelError> {
    let config = &sweep.config;
    let source = |&point: &usize| -> Box<dyn MaskSource + 'a> {
        let (name, ratio) =
            (point / config.ratios.len(), config.ratios[point % config.ratios.len()]);
        match &config.masks {
            Masks::Oracle(_) => {
                let steps = dense.labels().len();
                Box::new(Replay(select(config.selection, &scores[name], ratio, steps)))
            }
            Masks::Runtime(policies) => {
                Box::new(sweep.policy(policies[name], ratio).expect("checked at the start"))
            }
        }
    };
    let mut masks: Vec<_> = points.iter().map(source).collect();
    let mut recorders: Vec<Recorder> = masks.iter_mut().map(|m| Recorder::new(&mut **m)).collect();
    let sources = recorders.iter_mut().map(|r| r as &mut dyn MaskSource).collect();
    let forced = teacher_forced(session, dense, sources)?;
    let kept: Vec<Vec<Kept>> = recorders.into_iter().map(|recorder| recorder.kept).collect();
    let masked = forced.into_iter().zip(kept).zip(masks);
    Ok(masked
        .map(|(((forced, text), kept), masks)| {
            let run = FreeRun::new(dense, &forced, text, masks);
            Masked { forced, kept, run }
        })
        .collect())
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
