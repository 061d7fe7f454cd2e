//! Data sets and tasks.

use fewron_eval::data::Dataset;
use fewron_eval::tasks::Task;
use std::fs;

/// A data set; the first byte says by which extension it goes.
pub(crate) fn data(bytes: &[u8]) {
    let Some((&kind, bytes)) = bytes.split_first() else { return };
    let extensions = ["csv", "json", "jsonl", "txt", "dat"];
    let folder = tempfile::tempdir().expect("a temporary folder");
    let file = folder.path().join("data").with_extension(extensions[usize::from(kind) % 5]);
    fs::write(&file, bytes).expect("a place for the file");
    let _ = Dataset::load(&file.display().to_string(), Some(100));
    for task in ["arc_easy", "piqa", "boolq", "gsm8k", "truthfulqa_mc1", "perplexity"] {
        let _ = Task::load(task, &file, Some(20));
    }
}

/// A task's definition and its data, with a line of four equals signs between them.
pub(crate) fn task(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let Some((definition, data)) = text.split_once("====\n") else { return };
    let folder = tempfile::tempdir().expect("a temporary folder");
    let (task, file) = (folder.path().join("task.toml"), folder.path().join("data.jsonl"));
    fs::write(&task, definition).expect("a place for the file");
    fs::write(&file, data).expect("a place for the file");
    let _ = Task::load(&task.display().to_string(), &file, Some(20));
}
