//! Writing a model file: what is refused beforehand, progress, and what is told afterwards.

use std::collections::BTreeMap;
use std::io::{Write, stdout};
use std::num::NonZeroUsize;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, Result, anyhow, ensure};
use fewron_kernels::DType;
use fewron_model::gguf::{NewFile, NewFileError, Recipe};
use serde::Serialize;

use crate::cli::WriteArgs;
use crate::loaded;
use crate::ui::{self, Interrupted, Progress, Unit};
use crate::whole_file::WholeFile;

/// A file to write.
pub(crate) struct Job<'a> {
    /// For the progress bar.
    pub(crate) doing: &'static str,
    pub(crate) file: NewFile<'a>,
    /// The type that was asked for.
    pub(crate) dtype: DType,
    /// What is read.
    pub(crate) input: About,
    /// What the user may not have expected.
    pub(crate) notes: Vec<String>,
    /// When the work began.
    pub(crate) start: Instant,
}

/// The JSON contract.
#[derive(Serialize)]
struct Written {
    r#type: String,
    input: About,
    output: About,
    /// Matrices whose rows do not fit the type, which got another one.
    fallbacks: usize,
    /// Quantised matrices that were quantised again, so that they lost more.
    requantized: usize,
    /// What the user may not have expected, as on stderr.
    notes: Vec<String>,
    wall_s: f64,
}

/// A file or folder.
#[derive(Serialize)]
pub(crate) struct About {
    path: PathBuf,
    size_bytes: u64,
    types: BTreeMap<String, Share>,
}

/// Tensors of a type.
#[derive(Default, Serialize)]
struct Share {
    tensors: usize,
    size_bytes: u64,
}

impl About {
    pub(crate) fn new(path: &Path, size_bytes: u64) -> Self {
        Self { path: path.to_owned(), size_bytes, types: BTreeMap::new() }
    }

    pub(crate) fn count(&mut self, dtype: &str, size_bytes: u64) {
        let share = self.types.entry(dtype.to_owned()).or_default();
        share.tensors += 1;
        share.size_bytes += size_bytes;
    }
}

/// Refuses to write over a file that is read, or over any file unless it is asked for.
pub(crate) fn check_target<'a>(
    mut inputs: impl Iterator<Item = &'a Path>,
    output: &Path,
    args: &WriteArgs,
) -> Result<()> {
    let written = output.canonicalize();
    let same = |input: &Path| match (input.canonicalize(), &written) {
        (Ok(input), Ok(written)) => input == *written,
        _ => false,
    };
    ensure!(
        !inputs.any(same),
        "{} is the file that is read; name another one to write",
        output.display()
    );
    ensure!(
        args.force || output.is_dir() || !output.exists(),
        "{} is there already; name another file, or add --force to replace it",
        output.display()
    );
    Ok(())
}

/// What the arguments say about types, for a model whose head is tied to the embedding or not.
pub(crate) fn recipe(dtype: DType, tied: bool, model: &Path, args: &WriteArgs) -> Result<Recipe> {
    ensure!(
        !tied || args.embedding_type.is_none(),
        "{} has no head of its own, its embedding is the head: say --output-type instead of \
         --embedding-type",
        model.display()
    );
    Ok(Recipe { dtype, output: args.output_type, embedding: args.embedding_type })
}

impl Job<'_> {
    /// Writes the file and tells what it did.
    pub(crate) fn run(self, args: &WriteArgs, threads: Option<NonZeroUsize>) -> Result<()> {
        let mut written = Written {
            r#type: self.dtype.to_string(),
            input: self.input,
            output: About::new(&args.output, 0),
            fallbacks: 0,
            requantized: 0,
            notes: self.notes,
            wall_s: 0.0,
        };
        written.count(&self.file);
        written.note_types(&self.file);
        written.notes.iter().for_each(|note| ui::note(note));
        written.output.size_bytes =
            write(&self.file, self.doing, &written.input.path, &args.output, threads)?;
        written.wall_s = self.start.elapsed().as_secs_f64();
        let mut out = stdout();
        if args.json {
            serde_json::to_writer_pretty(&mut out, &written)?;
            writeln!(out)?;
        } else {
            write!(out, "{}", written.words())?;
        }
        Ok(())
    }
}

/// Writes the file; gives its size.
fn write(
    work: &NewFile<'_>,
    doing: &'static str,
    input: &Path,
    output: &Path,
    threads: Option<NonZeroUsize>,
) -> Result<u64> {
    let mut file = WholeFile::create(output)?;
    let progress = Progress::late(doing, Unit::Bytes, work.data_bytes());
    let result = work.write(&mut file, &loaded::pool(threads), &mut |done| {
        progress.set(done);
        if ui::interrupted() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    });
    drop(progress);
    result.map_err(|error| match error {
        NewFileError::Stopped => Interrupted.into(),
        NewFileError::Io(error) => {
            anyhow!(error).context(format!("cannot write {}", output.display()))
        }
        error @ NewFileError::Encode { .. } => anyhow!("{}: {error}", input.display()),
    })?;
    file.commit()?;
    let meta = output.metadata().with_context(|| format!("cannot read {}", output.display()))?;
    Ok(meta.len())
}

impl Written {
    fn count(&mut self, work: &NewFile<'_>) {
        for tensor in work.tensors() {
            let change = tensor.change;
            self.output.count(change.to.name(), tensor.len_bytes());
            self.fallbacks += usize::from(change.instead_of.is_some());
            let again = change.from != change.to && change.from.is_quantized();
            self.requantized += usize::from(again && change.to.is_quantized());
        }
    }

    /// Notes what the user may not have expected of types.
    fn note_types(&mut self, work: &NewFile<'_>) {
        if self.requantized > 0 {
            self.notes.push(format!(
                "matrices that are quantised already ({}) lose quality a second time; start from a \
                 float file where there is one",
                self.requantized
            ));
        }
        let mut fallbacks: BTreeMap<(&str, &str), usize> = BTreeMap::new();
        for tensor in work.tensors() {
            if let Some(wanted) = tensor.change.instead_of {
                *fallbacks.entry((wanted.name(), tensor.change.to.name())).or_default() += 1;
            }
        }
        for ((wanted, used), tensors) in fallbacks {
            let they = if tensors == 1 {
                "1 matrix: it gets"
            } else {
                &format!("{tensors} matrices: they get")
            };
            self.notes.push(format!("{wanted} does not fit the rows of {they} {used}"));
        }
    }

    fn words(&self) -> String {
        let mut text = format!(
            "{}: {}, from {}, in {:.1} s\n",
            self.output.path.display(),
            ui::show_bytes(self.output.size_bytes as f64),
            ui::show_bytes(self.input.size_bytes as f64),
            self.wall_s
        );
        for (name, share) in &self.output.types {
            let size = ui::show_bytes(share.size_bytes as f64);
            let tensors = if share.tensors == 1 { "tensor " } else { "tensors" };
            text.push_str(&format!("  {name:4} {:5} {tensors} {size:>11}\n", share.tensors));
        }
        text
    }
}
