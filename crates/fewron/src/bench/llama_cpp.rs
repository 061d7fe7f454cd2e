//! llama.cpp as a contestant: a Python process with llama-cpp-python that obeys line by line.

use std::fs::File;
use std::io::{BufRead, BufReader, Read, Seek, SeekFrom, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use anyhow::{Context, Result, anyhow, bail};
use serde::Deserialize;

use crate::python;
use crate::stats::peak_memory_bytes_of;

/// The other end of the pipe.
const SCRIPT: &str = include_str!("llama_cpp.py");

/// A line of the process.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Answer {
    Ready(About),
    Took { seconds: f64 },
    NoLlamaCpp { no_llama_cpp: String },
    Failed { error: String },
}

/// What was measured, in its own words.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct About {
    /// Version of llama-cpp-python.
    pub(crate) version: String,
    /// What llama.cpp was built with.
    pub(crate) system_info: String,
    /// Resident memory of Python before the model was loaded.
    pub(crate) base_rss_bytes: Option<u64>,
}

/// A process with a model loaded. It is killed when this is dropped.
pub(crate) struct LlamaCpp {
    child: Child,
    commands: ChildStdin,
    answers: BufReader<ChildStdout>,
    words: File,
    pub(crate) about: About,
}

impl LlamaCpp {
    /// Starts `python`, or the default interpreter, and loads a model with a context of `context` tokens.
    ///
    /// # Errors
    /// When Python cannot be started, has no llama_cpp, or cannot load the model.
    pub(crate) fn start(
        python: Option<&Path>,
        model: &Path,
        threads: usize,
        context: usize,
    ) -> Result<Self> {
        let python = python::interpreter(python);
        let words = tempfile::tempfile().context("cannot make a temporary file")?;
        let mut child = Command::new(&python)
            .args(["-c", SCRIPT])
            .arg(model)
            .args([threads.to_string(), context.to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(words.try_clone().context("cannot share a temporary file")?)
            .spawn()
            .with_context(|| {
                let python = python.display();
                format!("cannot start {python} (--python names one with llama-cpp-python)")
            })?;
        let (Some(commands), Some(answers)) = (child.stdin.take(), child.stdout.take()) else {
            bail!("no pipe to {}", python.display());
        };
        let about =
            About { version: String::new(), system_info: String::new(), base_rss_bytes: None };
        let answers = BufReader::new(answers);
        let mut process = Self { child, commands, answers, words, about };
        process.about = match process.answer()? {
            Answer::Ready(about) => about,
            Answer::NoLlamaCpp { no_llama_cpp } => bail!(
                "{} cannot import llama_cpp ({no_llama_cpp}): `pip install llama-cpp-python` \
                 builds it from source, --python names the Python that has it",
                python.display()
            ),
            Answer::Failed { error } => bail!("llama.cpp cannot run this model: {error}"),
            Answer::Took { .. } => bail!("llama.cpp answered before it was asked"),
        };
        Ok(process)
    }

    /// Seconds to read `tokens` tokens into an empty cache.
    ///
    /// # Errors
    /// When llama.cpp fails or dies.
    pub(crate) fn prefill(&mut self, tokens: usize) -> Result<f64> {
        self.ask(&format!("prefill {tokens}"))
    }

    /// Seconds to decode `tokens` tokens with `kv_length` tokens in the cache.
    ///
    /// # Errors
    /// When llama.cpp fails or dies.
    pub(crate) fn decode(&mut self, kv_length: usize, tokens: usize) -> Result<f64> {
        self.ask(&format!("decode {kv_length} {tokens}"))
    }

    /// The most resident memory the process has had, Python's own included.
    pub(crate) fn peak_memory_bytes(&self) -> Option<u64> {
        peak_memory_bytes_of(&self.child.id().to_string())
    }

    fn ask(&mut self, command: &str) -> Result<f64> {
        // A process that has died is noticed when it does not answer.
        let _ = writeln!(self.commands, "{command}");
        match self.answer()? {
            Answer::Took { seconds } => Ok(seconds),
            Answer::Failed { error } => bail!("llama.cpp failed at `{command}`: {error}"),
            other => bail!("llama.cpp answered `{command}` with {other:?}"),
        }
    }

    fn answer(&mut self) -> Result<Answer> {
        let mut line = String::new();
        match self.answers.read_line(&mut line) {
            Ok(0) | Err(_) => Err(self.ended()),
            Ok(_) => serde_json::from_str(&line)
                .with_context(|| format!("the llama.cpp process wrote {:?}", line.trim_end())),
        }
    }

    /// How the process ended, with the last line that it wrote on stderr.
    fn ended(&mut self) -> anyhow::Error {
        let mut words = Vec::new();
        let _ = self.words.seek(SeekFrom::Start(0));
        let _ = self.words.read_to_end(&mut words);
        let words = String::from_utf8_lossy(&words);
        let last = words.lines().map(str::trim).rfind(|line| !line.is_empty());
        let last = last.map_or(String::new(), |line| format!(": {line}"));
        match self.child.wait() {
            Ok(status) => anyhow!("the llama.cpp process died ({status}){last}"),
            Err(error) => anyhow!("the llama.cpp process is gone ({error}){last}"),
        }
    }
}

impl Drop for LlamaCpp {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
