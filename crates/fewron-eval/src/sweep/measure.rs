//! One question at every point of the sweep.

use super::answer::{Dense, Forced, free_running, teacher_forced};
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
    for name in 0..sweep.config.masks.names().len() {
        for (r, &ratio) in sweep.config.ratios.iter().enumerate() {
            if stop() {
                return Ok(None);
            }
            let (point, kept) =
                measure_point(sweep, session, &dense, &sample.dense, name, ratio, &scores)
                    .map_err(fail)?;
            sample.add(sweep, name, r, point, &kept);
            if r == sweep.config.focus() {
                focus_masks.push(kept);
            }
            tick();
        }
    }
    sample.add_overlap(&focus_masks);
    Ok(Some(sample))
}

fn measure_point(
    sweep: &Sweep,
    session: &mut Session,
    dense: &Dense,
    dense_text: &str,
    name: usize,
    ratio: f32,
    scores: &[Scores],
) -> Result<(PointSample, Vec<Kept>), ModelError> {
    match &sweep.config.masks {
        Masks::Oracle(_) => {
            let kept = select(sweep.config.selection, &scores[name], ratio, dense.labels().len());
            let forced = teacher_forced(session, dense, &mut Replay(&kept))?;
            let point = finish(sweep, session, dense, dense_text, &forced, &mut Replay(&kept))?;
            Ok((point, kept))
        }
        Masks::Runtime(policies) => {
            let mut policy = sweep.policy(policies[name], ratio).expect("checked at the start");
            let mut recorder = Recorder::new(&mut policy);
            let forced = teacher_forced(session, dense, &mut recorder)?;
            let kept = recorder.kept;
            let point = finish(sweep, session, dense, dense_text, &forced, &mut policy)?;
            Ok((point, kept))
        }
    }
}

/// Runs the free-running answer and judges it.
fn finish(
    sweep: &Sweep,
    session: &mut Session,
    dense: &Dense,
    dense_text: &str,
    forced: &Forced,
    masks: &mut dyn MaskSource,
) -> Result<PointSample, ModelError> {
    let tokens = free_running(session, sweep.text, dense, forced, masks)?;
    let text = text_of(sweep, &tokens);
    let bleu = sentence_bleu(&text, dense_text);
    Ok(PointSample { agree: forced.agree, kl: forced.kl, bleu, text })
}

/// Text of an answer up to its end token.
fn text_of(sweep: &Sweep, tokens: &[u32]) -> String {
    let end = tokens.iter().position(|&t| sweep.text.is_end(t)).unwrap_or(tokens.len());
    sweep.text.decode(&tokens[..end])
}
