//! What a recovery was begun with: going on with anything else would mix two of them.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use serde::Serialize;
use serde_json::{Map, Value};

use crate::store::write_whole;

const FILE: &str = "settings.json";

/// All that the recovered plan depends on; `None` is as the package has it.
#[derive(Serialize)]
pub(super) struct Settings<'a> {
    /// SHA-256 of the model.
    pub(super) model: String,
    /// SHA-256 of the plan that is given.
    pub(super) plan: Option<String>,
    /// Sparsity of the plan that is calibrated.
    pub(super) sparsity: Option<f32>,
    pub(super) data: &'a [String],
    pub(super) tokens: u64,
    pub(super) seed: u64,
    pub(super) steps: Option<usize>,
    pub(super) batch: Option<usize>,
    pub(super) max_edits: Option<f32>,
    pub(super) max_bytes: u64,
    /// Options of training behind `--`.
    pub(super) more: &'a [String],
}

impl Settings<'_> {
    /// Writes the settings into a new folder; in one that has some, they must be the same.
    ///
    /// # Errors
    /// When they differ, with what does, and when the file cannot be read or written.
    pub(super) fn keep(&self, folder: &Path) -> Result<()> {
        let file = folder.join(FILE);
        let text = serde_json::to_string_pretty(self)?;
        if !file.exists() {
            return write_whole(&file, text.as_bytes());
        }
        let cannot = || format!("cannot read {}; name another folder with --work", file.display());
        let known = fs::read(&file).with_context(cannot)?;
        let known: Map<String, Value> = serde_json::from_slice(&known).with_context(cannot)?;
        let now: Map<String, Value> = serde_json::from_str(&text)?;
        let differ = differences(&known, &now);
        ensure!(
            differ.is_empty(),
            "{} was begun with other settings ({}): give them again, or another folder with --work",
            folder.display(),
            differ.join("; ")
        );
        Ok(())
    }
}

fn differences(known: &Map<String, Value>, now: &Map<String, Value>) -> Vec<String> {
    let show = |value: Option<&Value>| match value {
        None | Some(Value::Null) => "not given".to_owned(),
        Some(value) => value.to_string(),
    };
    let differs = |(name, value): (&String, &Value)| {
        let before = known.get(name);
        let words = || format!("{name}: {}, now {}", show(before), show(Some(value)));
        (before != Some(value)).then(words)
    };
    now.iter().filter_map(differs).collect()
}
