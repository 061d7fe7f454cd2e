//! `fewron quantize`: a model file with other weight types.

use std::collections::BTreeMap;
use std::io::{Write, stdout};
use std::num::NonZeroUsize;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, Result, anyhow, ensure};
use fewron_model::gguf::{Gguf, Recipe, Requantize, RequantizeError};
use serde::Serialize;

use crate::Outcome;
use crate::cli::QuantizeArgs;
use crate::loaded;
use crate::store;
use crate::ui::{self, Interrupted, Progress, Unit};
use crate::whole_file::WholeFile;

/// The JSON contract.
#[derive(Serialize)]
struct Quantized {
    r#type: String,
    input: About,
    output: About,
    /// Matrices whose rows do not fit the type, which got another one.
    fallbacks: usize,
    /// Quantised matrices that were quantised again, so that they lost more.
    requantized: usize,
    wall_s: f64,
}

/// A file.
#[derive(Serialize)]
struct About {
    path: PathBuf,
    size_bytes: u64,
    types: BTreeMap<&'static str, Share>,
}

/// Tensors of a type.
#[derive(Default, Serialize)]
struct Share {
    tensors: usize,
    size_bytes: u64,
}

pub(crate) fn run(args: &QuantizeArgs, threads: Option<NonZeroUsize>) -> Result<Outcome> {
    let start = Instant::now();
    let input = store::resolve(&args.input)?.path;
    ensure!(
        !input.is_dir(),
        "{} is a Hugging Face directory, and quantize reads GGUF files; write one first with `fewron \
         convert {} OUT.gguf`",
        input.display(),
        args.input
    );
    check_target(&input, &args.output, args.force)?;
    let gguf = Gguf::open(&input)?;
    let work = Requantize::new(&gguf, recipe(args, &gguf)?)?;
    let mut quantized = Quantized {
        r#type: args.dtype.to_string(),
        input: About { path: input, size_bytes: gguf.len_bytes() as u64, types: BTreeMap::new() },
        output: About { path: args.output.clone(), size_bytes: 0, types: BTreeMap::new() },
        fallbacks: 0,
        requantized: 0,
        wall_s: 0.0,
    };
    quantized.count(&work);
    quantized.warn(&work);
    quantized.output.size_bytes = write(&work, &quantized.input.path, &args.output, threads)?;
    quantized.wall_s = start.elapsed().as_secs_f64();
    let mut out = stdout();
    if args.json {
        serde_json::to_writer_pretty(&mut out, &quantized)?;
        writeln!(out)?;
    } else {
        write!(out, "{}", quantized.words())?;
    }
    Ok(Outcome::Done)
}

/// Refuses to write over the input, or over any file unless it is asked for.
fn check_target(input: &Path, output: &Path, force: bool) -> Result<()> {
    let same = |other: PathBuf| input.canonicalize().is_ok_and(|input| input == other);
    ensure!(
        !output.canonicalize().is_ok_and(same),
        "{} is the file that is read; name another one to write",
        output.display()
    );
    ensure!(
        force || output.is_dir() || !output.exists(),
        "{} is there already; name another file, or add --force to replace it",
        output.display()
    );
    Ok(())
}

fn recipe(args: &QuantizeArgs, gguf: &Gguf) -> Result<Recipe> {
    let tied = gguf.tensor_info("output.weight").is_none();
    ensure!(
        !tied || args.embedding_type.is_none(),
        "{} has no head of its own, its embedding is the head: say --output-type instead of \
         --embedding-type",
        gguf.path().display()
    );
    Ok(Recipe { dtype: args.dtype, output: args.output_type, embedding: args.embedding_type })
}

/// Writes the file; gives its size.
fn write(
    work: &Requantize<'_>,
    input: &Path,
    output: &Path,
    threads: Option<NonZeroUsize>,
) -> Result<u64> {
    let mut file = WholeFile::create(output)?;
    let progress = Progress::late("quantizing", Unit::Bytes, work.data_bytes());
    let result = work.write(&mut file, &loaded::pool(threads), &mut |done| {
        progress.set(done);
        if ui::interrupted() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    });
    drop(progress);
    result.map_err(|error| match error {
        RequantizeError::Stopped => Interrupted.into(),
        RequantizeError::Gguf(error) => error.into(),
        RequantizeError::Io(error) => {
            anyhow!(error).context(format!("cannot write {}", output.display()))
        }
        error @ RequantizeError::Encode { .. } => anyhow!("{}: {error}", input.display()),
    })?;
    file.commit()?;
    let meta = output.metadata().with_context(|| format!("cannot read {}", output.display()))?;
    Ok(meta.len())
}

impl Quantized {
    fn count(&mut self, work: &Requantize<'_>) {
        for (tensor, change) in work.changes() {
            for (about, dtype) in [(&mut self.input, change.from), (&mut self.output, change.to)] {
                let share = about.types.entry(dtype.name()).or_default();
                let rows: usize = tensor.shape[1..].iter().product();
                let row_bytes = dtype.row_bytes(tensor.shape[0]).unwrap_or_default();
                share.tensors += 1;
                share.size_bytes += (rows * row_bytes) as u64;
            }
            self.fallbacks += usize::from(change.instead_of.is_some());
            let again = change.from != change.to && change.from.is_quantized();
            self.requantized += usize::from(again && change.to.is_quantized());
        }
    }

    /// Says on stderr what the user may not have expected.
    fn warn(&self, work: &Requantize<'_>) {
        if self.requantized > 0 {
            ui::note(&format!(
                "matrices that are quantised already ({}) lose quality a second time; start from a \
                 float file where there is one",
                self.requantized
            ));
        }
        let mut fallbacks: BTreeMap<(&str, &str), usize> = BTreeMap::new();
        for (_, change) in work.changes() {
            if let Some(wanted) = change.instead_of {
                *fallbacks.entry((wanted.name(), change.to.name())).or_default() += 1;
            }
        }
        for ((wanted, used), tensors) in fallbacks {
            let they = if tensors == 1 {
                "1 matrix: it gets"
            } else {
                &format!("{tensors} matrices: they get")
            };
            ui::note(&format!("{wanted} does not fit the rows of {they} {used}"));
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
