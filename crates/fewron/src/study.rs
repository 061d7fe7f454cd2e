//! Running a study of a model: questions in, a sweep's record out.

use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;
use std::{env, fs};

use anyhow::{Context, Result, bail};
use fewron_eval::data::Dataset;
use fewron_eval::record::{DataRecord, ModelRecord, Settings, SweepRun};
use fewron_eval::sweep::{Prompt, Sweep, SweepConfig, SweepError, Text};
use fewron_sparsity::Plan;
use sha2::{Digest, Sha256};

use crate::loaded::{Loaded, thread_count};
use crate::runs::{self, Planned, Recorder};
use crate::store::{Home, write_whole};
use crate::ui::{self, Interrupted, Progress, Unit};

/// Name of a sweep's record in its folder.
pub(crate) const RECORD: &str = "run.json";
/// Name of the file that an interrupted sweep goes on from.
const CHECKPOINT: &str = "checkpoint.safetensors";

/// A study that can be run.
pub(crate) struct Study<'a> {
    pub(crate) loaded: &'a Loaded,
    pub(crate) config: SweepConfig,
    /// By run-time policy and ratio; empty for the oracle.
    pub(crate) plans: Vec<Vec<Plan>>,
    pub(crate) data: &'a Dataset,
    /// Folder for results; `None` takes one in the cache, named after the settings.
    pub(crate) out: Option<&'a Path>,
    pub(crate) restart: bool,
    pub(crate) threads: Option<NonZeroUsize>,
}

/// Text of a loaded model's answers.
pub(crate) struct Answers<'a>(pub(crate) &'a Loaded);

impl Text for Answers<'_> {
    fn decode(&self, tokens: &[u32]) -> String {
        self.0.tokenizer.decode(tokens, true)
    }

    fn is_end(&self, token: u32) -> bool {
        self.0.tokenizer.is_end(token)
    }
}

/// The questions of a data set as prompts, with the longest answer still inside the context.
pub(crate) fn prompts(
    loaded: &Loaded,
    data: &Dataset,
    raw: bool,
    max_new_tokens: usize,
) -> Result<Vec<Prompt>> {
    let prompt = |(index, sample): (usize, &fewron_eval::data::Sample)| {
        let tokens = loaded
            .prompt(&sample.question, None, raw)
            .with_context(|| format!("{}, sample {} ({})", data.name, index + 1, sample.id))?;
        anyhow::ensure!(
            tokens.len() + max_new_tokens <= loaded.context(),
            "{}, sample {} ({}): {} tokens of prompt and {max_new_tokens} of answer do not fit the \
             context of {}; lower --max-new-tokens or drop the sample",
            data.name,
            index + 1,
            sample.id,
            tokens.len(),
            loaded.context()
        );
        Ok(Prompt { question: sample.question.clone(), tokens })
    };
    data.samples.iter().enumerate().map(prompt).collect()
}

/// Identity of a loaded model for records.
pub(crate) fn model_record(loaded: &Loaded) -> Result<ModelRecord> {
    Ok(ModelRecord {
        name: loaded.file.name.clone(),
        sha256: loaded.sha256()?,
        arch: loaded.model.config().arch.clone(),
        parameters: loaded.model.parameters(),
    })
}

impl Study<'_> {
    /// Runs the sweep, writes its record into the folder and returns both.
    pub(crate) fn run(&self) -> Result<(SweepRun, PathBuf)> {
        let model_record = model_record(self.loaded)?;
        let folder = match self.out {
            Some(folder) => folder.to_owned(),
            None => self.default_folder(&model_record)?,
        };
        let planned = Planned {
            kind: "sweep",
            what: serde_json::to_string(&(&folder, self.key(&model_record)?))?,
            model: &model_record,
            threads: thread_count(self.threads),
            folder: Some(&folder),
            anew: self.restart,
        };
        let sweep = |_: &Recorder| self.sweep(&model_record, &folder);
        let run = runs::recorded(&planned, runs::of_sweep, sweep)?;
        Ok((run, folder))
    }

    fn sweep(&self, model_record: &ModelRecord, folder: &Path) -> Result<SweepRun> {
        fs::create_dir_all(folder)
            .with_context(|| format!("cannot make the folder {}", folder.display()))?;
        let checkpoint = folder.join(CHECKPOINT);
        if self.restart {
            for old in [&checkpoint, &folder.join(RECORD)] {
                remove(old)?;
            }
        }
        let threads = thread_count(self.threads);
        let max_new_tokens = self.config.max_new_tokens;
        let prompts = prompts(self.loaded, self.data, self.config.raw, max_new_tokens)?;
        let steps = (prompts.len() * self.config.points()) as u64;
        let progress = Progress::new("sweep", Unit::Items, steps);
        let sweep = Sweep {
            model: Arc::clone(&self.loaded.model),
            config: self.config.clone(),
            model_record: model_record.clone(),
            data: DataRecord {
                name: self.data.name.clone(),
                sha256: self.data.sha256.clone(),
                samples: prompts.len(),
                tokens: 0,
            },
            prompts,
            text: &Answers(self.loaded),
            plans: self.plans.clone(),
            threads,
            checkpoint: Some(checkpoint),
            progress: &|done, _| progress.set(done),
            stop: ui::interrupt_flag(),
        };
        let result = sweep.run(self.settings(threads));
        drop(progress);
        let run = match result {
            Ok(run) => run,
            Err(SweepError::Interrupted { done, total }) => {
                ui::note(&format!(
                    "{done} of {total} questions are kept in {}; the same command goes on from there",
                    folder.display()
                ));
                return Err(Interrupted.into());
            }
            Err(error) => return Err(error.into()),
        };
        write_json(&run, &folder.join(RECORD))?;
        Ok(run)
    }

    /// What is measured.
    fn key(&self, model: &ModelRecord) -> Result<String> {
        let samples = self.data.samples.len();
        Ok(serde_json::to_string(&(model, &self.data.sha256, samples, &self.config))?)
    }

    fn default_folder(&self, model: &ModelRecord) -> Result<PathBuf> {
        let hash: String =
            Sha256::digest(self.key(model)?).iter().take(6).map(|b| format!("{b:02x}")).collect();
        Ok(Home::find()?.runs().join(format!("sweep-{hash}")))
    }

    fn settings(&self, threads: usize) -> Settings {
        Settings {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            command: command_line(),
            scope: self.config.scope.to_string(),
            selection: self.config.selection.to_string(),
            correction: self.config.correction,
            ig_steps: self.config.ig_steps,
            max_new_tokens: self.config.max_new_tokens,
            raw: self.config.raw,
            cpu: cpu_name(),
            threads,
            wall_s: 0.0,
            finished_at: humantime::format_rfc3339_seconds(SystemTime::now()).to_string(),
        }
    }
}

fn remove(path: &Path) -> Result<()> {
    match fs::remove_file(path) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
            Err(e).with_context(|| format!("cannot remove {}", path.display()))
        }
        _ => Ok(()),
    }
}

/// Writes a record as JSON, whole or not at all; `-` prints it.
pub(crate) fn write_json(value: &impl serde::Serialize, path: &Path) -> Result<()> {
    let mut json = serde_json::to_vec_pretty(value)?;
    json.push(b'\n');
    if path == Path::new("-") {
        use std::io::Write;
        return std::io::stdout().write_all(&json).context("cannot write to stdout");
    }
    write_whole(path, &json)
}

/// The file that holds a run's record: the one in its folder, or the JSON file itself.
///
/// # Errors
/// When the folder has none.
pub(crate) fn record_file(path: &Path) -> Result<PathBuf> {
    let file = if path.is_dir() { path.join(RECORD) } else { path.to_owned() };
    if path.is_dir() && !file.exists() {
        let unfinished = path.join(CHECKPOINT).exists();
        let way_out = if unfinished {
            "its sweep is unfinished: run the same `fewron sweep` again"
        } else {
            "`fewron sweep --out` makes one"
        };
        bail!("{} has no {RECORD}; {way_out}", path.display());
    }
    Ok(file)
}

/// The record of a sweep: a folder of results, the JSON file itself, or a run of the store.
pub(crate) fn read_run(path: &Path) -> Result<SweepRun> {
    serde_json::from_str(&runs::read_record(path)?)
        .with_context(|| format!("{} is no record of `fewron sweep`", path.display()))
}

/// The command as it can be typed again.
pub(crate) fn command_line() -> String {
    let quote = |word: String| {
        let plain = |c: char| c.is_ascii_alphanumeric() || "-_./,:=@%+".contains(c);
        if !word.is_empty() && word.chars().all(plain) {
            word
        } else {
            format!("'{}'", word.replace('\'', r"'\''"))
        }
    };
    let words = env::args_os().skip(1).map(|word| quote(word.to_string_lossy().into_owned()));
    std::iter::once("fewron".to_owned()).chain(words).collect::<Vec<_>>().join(" ")
}

/// The processor's name where the system tells it.
pub(crate) fn cpu_name() -> String {
    let info = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let name = info.lines().find_map(|line| line.strip_prefix("model name"));
    let name = name.and_then(|rest| rest.split_once(':')).map(|(_, name)| name.trim().to_owned());
    name.unwrap_or_else(|| env::consts::ARCH.to_owned())
}
