//! Results of finished questions, kept so that a sweep can go on after an interruption.
//!
//! One safetensors file, replaced as a whole after every question: its metadata hold the samples and
//! sums as JSON, a tensor the keep counts of every neuron.

use super::{Sweep, SweepConfig, SweepError};
use fewron_sparsity::{Kept, Scores};
use safetensors::{Dtype, SafeTensors, tensor::TensorView};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use thiserror::Error;

/// Version of the file's content.
const FORMAT: u32 = 1;

/// Why a checkpoint cannot be used.
#[derive(Debug, Error)]
pub enum CheckpointError {
    /// Reading or writing failed.
    #[error(
        "cannot {action} {path}; the sweep needs a folder that it can write, with room: give --out DIR"
    )]
    Io {
        /// `read` or `write`.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The content makes no sense.
    #[error("{path} is damaged ({problem}); --restart begins anew, or name another --out")]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        problem: String,
    },
    /// The file belongs to another sweep.
    #[error(
        "{path} belongs to a sweep with another {what}; name another --out, or --restart to replace it"
    )]
    Other {
        /// The file.
        path: PathBuf,
        /// What differs.
        what: &'static str,
    },
}

/// One question at one point.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct PointSample {
    /// Masked steps whose greedy token is the label.
    pub(super) agree: u32,
    /// Σ KL over the masked steps, in nats.
    pub(super) kl: f64,
    /// BLEU of the free-running text, 0..100.
    pub(super) bleu: f64,
    /// The free-running text.
    pub(super) text: String,
}

/// One question. The fields that are skipped are sums that go into [`Sums`].
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Sample {
    /// The dense answer.
    pub(super) dense: String,
    /// Masked steps.
    pub(super) steps: usize,
    /// By point.
    pub(super) points: Vec<PointSample>,
    #[serde(skip)]
    sums: Sums,
    #[serde(skip)]
    activity: Vec<u32>,
}

/// Sums over questions.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct Sums {
    /// Neurons kept, `[points][layers]`.
    pub(super) neurons: Vec<Vec<u64>>,
    /// Heads kept, `[points][layers]`.
    pub(super) heads: Vec<Vec<u64>>,
    /// Σ share of the layer's absolute head score, `[names][layers · heads]`.
    pub(super) head_importance: Vec<Vec<f64>>,
    /// Σ Jaccard index of two names' kept sets, by pair, and how many there were.
    pub(super) overlap: Vec<(f64, u64)>,
}

impl Sums {
    fn merge(&mut self, other: &Sums) {
        merge(&mut self.neurons, &other.neurons);
        merge(&mut self.heads, &other.heads);
        merge(&mut self.head_importance, &other.head_importance);
        self.overlap.resize(other.overlap.len().max(self.overlap.len()), (0.0, 0));
        for (to, from) in self.overlap.iter_mut().zip(&other.overlap) {
            *to = (to.0 + from.0, to.1 + from.1);
        }
    }
}

fn merge<T: Copy + Default + std::ops::AddAssign>(to: &mut Vec<Vec<T>>, from: &[Vec<T>]) {
    to.resize_with(from.len().max(to.len()), Vec::new);
    for (to, from) in to.iter_mut().zip(from) {
        to.resize(from.len().max(to.len()), T::default());
        to.iter_mut().zip(from).for_each(|(to, &from)| *to += from);
    }
}

impl Sample {
    pub(super) fn new(sweep: &Sweep, dense: String, steps: usize) -> Self {
        let (points, layers) = (sweep.config.points(), sweep.model.config().layers.len());
        let sums = Sums {
            neurons: vec![vec![0; layers]; points],
            heads: vec![vec![0; layers]; points],
            ..Sums::default()
        };
        let points = vec![PointSample::default(); points];
        Self { dense, steps, points, sums, activity: Vec::new() }
    }

    /// Adds what `name`'s masks keep at ratio `r`.
    pub(super) fn add_kept(&mut self, sweep: &Sweep, name: usize, r: usize, kept: &[Kept]) {
        let at = name * sweep.config.ratios.len() + r;
        for kept in kept {
            for (sum, list) in self.sums.neurons[at].iter_mut().zip(&kept.neurons) {
                *sum += list.len() as u64;
            }
            for (sum, list) in self.sums.heads[at].iter_mut().zip(&kept.heads) {
                *sum += list.len() as u64;
            }
        }
        if r == sweep.config.focus() && sweep.config.scope.has_neurons() {
            let units = sweep.model.config().intermediate;
            let layers = sweep.model.config().layers.len();
            let start = self.activity.len();
            self.activity.resize(start + layers * units, 0);
            for kept in kept {
                for (layer, list) in kept.neurons.iter().enumerate() {
                    list.iter()
                        .for_each(|&i| self.activity[start + layer * units + i as usize] += 1);
                }
            }
        }
    }

    /// Adds each head's share of its layer's absolute score, for scores of the oracle.
    pub(super) fn add_head_importance(&mut self, sweep: &Sweep, scores: &[Scores]) {
        if !sweep.config.scope.has_heads() {
            return;
        }
        let heads = sweep.model.config().heads;
        for scores in scores {
            let mut sums = vec![0.0; scores.heads.len() * heads];
            for (layer, scores) in scores.heads.iter().enumerate() {
                for row in scores.chunks_exact(heads) {
                    let total: f64 = row.iter().map(|s| f64::from(s.abs())).sum();
                    for (head, score) in row.iter().enumerate() {
                        sums[layer * heads + head] += f64::from(score.abs()) / total.max(1e-30);
                    }
                }
            }
            self.sums.head_importance.push(sums);
        }
    }

    /// Adds the overlap of every pair of masks, in the order of [`pairs`].
    pub(super) fn add_overlap(&mut self, masks: &[Vec<Kept>]) {
        for (a, b) in pairs(masks.len()) {
            let mut sum = (0.0, 0);
            for (a, b) in masks[a].iter().zip(&masks[b]) {
                let layers = a.neurons.iter().zip(&b.neurons).chain(a.heads.iter().zip(&b.heads));
                for (a, b) in layers {
                    if let Some(index) = jaccard(a, b) {
                        sum = (sum.0 + index, sum.1 + 1);
                    }
                }
            }
            self.sums.overlap.push(sum);
        }
    }
}

/// All pairs a < b of `n` things.
pub(crate) fn pairs(n: usize) -> impl Iterator<Item = (usize, usize)> {
    (0..n).flat_map(move |a| (a + 1..n).map(move |b| (a, b)))
}

/// |A∩B| / |A∪B| of two ascending lists; `None` for two empty ones.
pub(crate) fn jaccard(a: &[u32], b: &[u32]) -> Option<f64> {
    let both = a.iter().filter(|i| b.binary_search(i).is_ok()).count();
    let either = a.len() + b.len() - both;
    (either > 0).then(|| both as f64 / either as f64)
}

#[derive(Serialize, Deserialize)]
struct State {
    format: u32,
    model: String,
    data: String,
    questions: usize,
    config: SweepConfig,
    wall_s: f64,
    samples: BTreeMap<usize, Sample>,
    sums: Sums,
}

/// Everything measured so far, in memory and on disk.
pub(super) struct Checkpoint {
    path: Option<PathBuf>,
    state: State,
    /// Masked steps at which a neuron was kept, `[names, layers, neurons]`.
    pub(super) activity: Vec<u32>,
}

impl Checkpoint {
    /// Reads the sweep's checkpoint or starts an empty one.
    pub(super) fn open(sweep: &Sweep) -> Result<Self, SweepError> {
        let empty = State {
            format: FORMAT,
            model: sweep.model_record.sha256.clone(),
            data: sweep.data.sha256.clone(),
            questions: sweep.prompts.len(),
            config: sweep.config.clone(),
            wall_s: 0.0,
            samples: BTreeMap::new(),
            sums: Sums::default(),
        };
        let fresh = Self { path: sweep.checkpoint.clone(), state: empty, activity: Vec::new() };
        let Some(path) = &sweep.checkpoint else { return Ok(fresh) };
        match std::fs::read(path) {
            Ok(bytes) => Ok(fresh.restore(path, &bytes)?),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                // Written at once, so that an unwritable folder shows before hours of work.
                fresh.write()?;
                Ok(fresh)
            }
            Err(source) => {
                Err(CheckpointError::Io { action: "read", path: path.clone(), source }.into())
            }
        }
    }

    fn restore(self, path: &Path, bytes: &[u8]) -> Result<Self, CheckpointError> {
        let damaged = |problem: &dyn std::fmt::Display| CheckpointError::Damaged {
            path: path.to_owned(),
            problem: problem.to_string(),
        };
        let (_, meta) = SafeTensors::read_metadata(bytes).map_err(|e| damaged(&e))?;
        let json = meta.metadata().as_ref().and_then(|m| m.get("state"));
        let json = json.ok_or_else(|| damaged(&"it has no state"))?;
        let state: State = serde_json::from_str(json).map_err(|e| damaged(&e))?;
        let other = |what| Err(CheckpointError::Other { path: path.to_owned(), what });
        let own = &self.state;
        if state.format != own.format {
            return other("version of fewron");
        }
        if state.model != own.model {
            return other("model");
        }
        if (&state.data, state.questions) != (&own.data, own.questions) {
            return other("data set or limit");
        }
        if state.config != own.config {
            return other("setting");
        }
        let tensors = SafeTensors::deserialize(bytes).map_err(|e| damaged(&e))?;
        let tensor = tensors.tensor("activity").map_err(|e| damaged(&e))?;
        let activity = tensor.data().chunks_exact(4);
        let activity = activity.map(|b| u32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect();
        Ok(Self { path: self.path, state, activity })
    }

    fn write(&self) -> Result<(), CheckpointError> {
        let Some(path) = &self.path else { return Ok(()) };
        let fail = |source| CheckpointError::Io { action: "write", path: path.clone(), source };
        let state = serde_json::to_string(&self.state).map_err(|e| fail(e.into()))?;
        let bytes: Vec<u8> = self.activity.iter().flat_map(|n| n.to_le_bytes()).collect();
        let view = TensorView::new(Dtype::U32, vec![self.activity.len()], &bytes)
            .map_err(|e| fail(std::io::Error::other(e)))?;
        let meta = Some(HashMap::from([("state".to_owned(), state)]));
        let file = safetensors::serialize([("activity", view)], meta)
            .map_err(|e| fail(std::io::Error::other(e)))?;
        let folder = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
        std::fs::create_dir_all(folder).map_err(fail)?;
        let mut temporary = tempfile::NamedTempFile::new_in(folder).map_err(fail)?;
        std::io::Write::write_all(&mut temporary, &file).map_err(fail)?;
        temporary.persist(path).map_err(|e| fail(e.error))?;
        Ok(())
    }

    /// Adds a finished question and writes the file.
    pub(super) fn add(
        &mut self,
        index: usize,
        sample: Sample,
        wall_s: f64,
    ) -> Result<(), SweepError> {
        self.state.sums.merge(&sample.sums);
        self.activity.resize(self.activity.len().max(sample.activity.len()), 0);
        self.activity.iter_mut().zip(&sample.activity).for_each(|(to, from)| *to += from);
        self.state
            .samples
            .insert(index, Sample { sums: Sums::default(), activity: Vec::new(), ..sample });
        self.state.wall_s = wall_s;
        Ok(self.write()?)
    }

    pub(super) fn has(&self, index: usize) -> bool {
        self.state.samples.contains_key(&index)
    }

    pub(super) fn len(&self) -> usize {
        self.state.samples.len()
    }

    pub(super) fn wall_s(&self) -> f64 {
        self.state.wall_s
    }

    pub(super) fn sample(&self, index: usize) -> Option<&Sample> {
        self.state.samples.get(&index)
    }

    /// Finished questions in which something was masked, in the order of the data.
    pub(super) fn samples(&self) -> impl Iterator<Item = &Sample> {
        self.state.samples.values().filter(|s| s.steps > 0)
    }

    pub(super) fn sums(&self) -> &Sums {
        &self.state.sums
    }
}
