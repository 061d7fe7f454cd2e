//! Advice from measurements: which sparsity to run.

mod candidates;

pub use candidates::{of_eval, of_plans, of_sweep};

use serde::Serialize;

/// A configuration that was measured.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Candidate {
    /// `dense`, a metric, policy or plan, with its ratio.
    pub name: String,
    /// Share of MLP neurons that are off.
    pub sparsity: f64,
    /// What it loses against the dense model; 0 for none.
    pub loss: f64,
    /// Weight bytes that a token reads, where known.
    pub bytes_per_token: Option<f64>,
    /// Dense bytes over these: the speed over dense if reading weights were all that takes time.
    pub speedup: Option<f64>,
    /// Expected tokens a second, where a bandwidth is known.
    pub tok_s: Option<f64>,
}

impl Candidate {
    /// The whole model.
    fn dense(bytes_per_token: Option<f64>) -> Self {
        let speedup = bytes_per_token.map(|_| 1.0);
        let name = "dense".to_owned();
        Self { name, sparsity: 0.0, loss: 0.0, bytes_per_token, speedup, tok_s: None }
    }

    /// What is read of the dense model's bytes, or, where bytes are not known, what runs of its neurons.
    fn size(&self) -> f64 {
        self.speedup.map_or(1.0 - self.sparsity, |speedup| 1.0 / speedup)
    }
}

/// What was measured of one model, the dense model first.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Candidates {
    /// The model's name.
    pub model: String,
    /// What losses are of.
    pub metric: String,
    /// `oracle` masks know the answer, which no running model does; else `runtime`.
    pub protocol: String,
    /// All of them.
    pub all: Vec<Candidate>,
}

/// What the advice has to meet. Without a limit it is the knee of the curve.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Target {
    /// Largest loss.
    pub max_loss: Option<f64>,
    /// Least tokens a second.
    pub min_tok_s: Option<f64>,
    /// Least speed over dense.
    pub min_speedup: Option<f64>,
}

impl Target {
    fn is_none(&self) -> bool {
        *self == Self::default()
    }

    fn holds_loss(&self, candidate: &Candidate) -> bool {
        self.max_loss.is_none_or(|most| candidate.loss <= most)
    }

    fn holds_speed(&self, candidate: &Candidate) -> bool {
        let above = |value: Option<f64>, least: Option<f64>| {
            least.is_none_or(|least| value.is_some_and(|value| value >= least))
        };
        above(candidate.tok_s, self.min_tok_s) && above(candidate.speedup, self.min_speedup)
    }
}

/// Which configuration to run.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Advice {
    /// What to run.
    pub run: Candidate,
    /// The knee of the curve, if it bends.
    pub knee: Option<Candidate>,
    /// Configurations that no other beats in both size and loss, the largest first.
    pub front: Vec<Candidate>,
}

/// Why there is no advice. Messages are one line and name the way out.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[allow(missing_docs)]
pub enum RecommendError {
    /// Nothing was measured but the dense model.
    #[error("{what} has nothing sparse in it; {way_out}")]
    Nothing { what: String, way_out: &'static str },
    /// The record does not have the metric.
    #[error("{what} has no metric {metric}; it has {has}")]
    Metric { what: String, metric: String, has: String },
    /// No configuration loses so little.
    #[error(
        "nothing sparse loses at most {most:.4} of {metric}{}: {} comes nearest with {:.4}",
        if *.fast { " at that speed" } else { "" }, nearest.name, nearest.loss
    )]
    Loss { most: f64, metric: String, fast: bool, nearest: Box<Candidate> },
    /// No configuration is so fast.
    #[error("nothing reaches {target}: {} comes nearest with {value}", nearest.name)]
    Speed { target: String, value: String, nearest: Box<Candidate> },
    /// Bytes or a bandwidth are not known.
    #[error("{target} needs {needs}")]
    Unknown { target: &'static str, needs: &'static str },
}

impl Candidates {
    /// Fills in tokens a second: `dense_tok_s` times the speed over dense.
    pub fn set_speed(&mut self, dense_tok_s: f64) {
        for candidate in &mut self.all {
            candidate.tok_s = candidate.speedup.map(|speedup| dense_tok_s * speedup);
        }
    }

    /// The smallest configuration that loses no more than allowed; with a speed alone, the one that loses
    /// least; with neither, the knee.
    ///
    /// # Errors
    /// When nothing meets the target, with what comes nearest.
    pub fn advise(&self, target: &Target) -> Result<Advice, RecommendError> {
        self.check_known(target)?;
        let front = self.front();
        let knee = knee(&front).cloned();
        let fast: Vec<&Candidate> = front.iter().filter(|c| target.holds_speed(c)).collect();
        let run = match (target.is_none(), target.max_loss) {
            (true, _) => knee.clone().or_else(|| front.last().cloned()),
            (_, Some(_)) => smallest_sparse(&fast, target).cloned(),
            (_, None) => fast.first().copied().cloned(),
        };
        match run {
            Some(run) => Ok(Advice { run, knee, front }),
            None => Err(self.nearest(target, &fast)),
        }
    }

    /// Configurations that no other beats in both size and loss, the largest first.
    fn front(&self) -> Vec<Candidate> {
        let mut sorted: Vec<&Candidate> = self.all.iter().collect();
        sorted.sort_by(|a, b| a.size().total_cmp(&b.size()).then(a.loss.total_cmp(&b.loss)));
        let mut front: Vec<Candidate> = Vec::new();
        for candidate in sorted {
            if front.last().is_none_or(|smaller| candidate.loss < smaller.loss) {
                front.push(candidate.clone());
            }
        }
        front.reverse();
        front
    }

    fn check_known(&self, target: &Target) -> Result<(), RecommendError> {
        let any = |known: fn(&Candidate) -> bool| self.all.iter().any(known);
        if target.min_speedup.is_some() && !any(|c| c.speedup.is_some()) {
            let needs = "the bytes that a token reads: name the model with --model";
            return Err(RecommendError::Unknown { target: "--speedup", needs });
        }
        if target.min_tok_s.is_some() && !any(|c| c.tok_s.is_some()) {
            let needs = "the bytes that a token reads and a bandwidth: name the model with --model";
            return Err(RecommendError::Unknown { target: "--min-speed", needs });
        }
        Ok(())
    }

    fn nearest(&self, target: &Target, fast: &[&Candidate]) -> RecommendError {
        let fastest = self.all.iter().min_by(|a, b| a.size().total_cmp(&b.size()));
        let least =
            fast.iter().filter(|c| c.sparsity > 0.0).min_by(|a, b| a.loss.total_cmp(&b.loss));
        match (least, fastest, target) {
            (Some(&least), _, Target { max_loss: Some(most), .. }) => RecommendError::Loss {
                most: *most,
                metric: self.metric.clone(),
                fast: target.min_tok_s.is_some() || target.min_speedup.is_some(),
                nearest: Box::new(least.clone()),
            },
            (_, Some(nearest), _) => {
                let times = |speed: f64| format!("{speed:.2}x of the dense speed");
                let rate = |speed: f64| format!("{speed:.1} tokens/s");
                let (target, value) = match (target.min_tok_s, target.min_speedup) {
                    (Some(least), _) => (rate(least), nearest.tok_s.map(rate)),
                    (None, least) => (times(least.unwrap_or(1.0)), nearest.speedup.map(times)),
                };
                let value = value.unwrap_or_default();
                RecommendError::Speed { target, value, nearest: Box::new(nearest.clone()) }
            }
            _ => RecommendError::Nothing { what: self.model.clone(), way_out: "measure something" },
        }
    }
}

/// The smallest of `fast`, the largest first, that loses no more than allowed and is not the whole model.
fn smallest_sparse<'a>(fast: &[&'a Candidate], target: &Target) -> Option<&'a Candidate> {
    fast.iter().rev().copied().find(|c| target.holds_loss(c) && c.sparsity > 0.0)
}

/// Where a curve of loss against saving bends: the point farthest below the chord from its first to its
/// last point, both axes scaled to 0..1 (the idea of Kneedle: Satopää et al. 2011, "Finding a 'Kneedle' in
/// a Haystack"). `None` for fewer than three points and for a curve that does not lie below its chord.
fn knee(front: &[Candidate]) -> Option<&Candidate> {
    let [first, inner @ .., last] = front else { return None };
    let (saved, lost) = (first.size() - last.size(), last.loss - first.loss);
    let below = |c: &Candidate| (first.size() - c.size()) / saved - (c.loss - first.loss) / lost;
    let farthest = inner.iter().max_by(|a, b| below(a).total_cmp(&below(b)))?;
    (below(farthest) > 0.0).then_some(farthest)
}

#[cfg(test)]
mod tests;
