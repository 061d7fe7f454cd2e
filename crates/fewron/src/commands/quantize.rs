//! `fewron quantize`: a model file with other weight types.

use std::iter;
use std::num::NonZeroUsize;
use std::time::Instant;

use anyhow::{Result, ensure};
use fewron_model::gguf::{Gguf, NewFile};

use crate::Outcome;
use crate::cli::QuantizeArgs;
use crate::store;
use crate::writing::{self, About, Job};

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
    writing::check_target(iter::once(input.as_path()), &args.write.output, &args.write)?;
    let gguf = Gguf::open(&input)?;
    let tied = gguf.tensor_info("output.weight").is_none();
    let recipe = writing::recipe(args.dtype, tied, &input, &args.write)?;
    let file = NewFile::requantized(&gguf, &recipe)?;
    let mut about = About::new(&input, gguf.len_bytes() as u64);
    for tensor in file.tensors() {
        about.count(tensor.change.from.name(), tensor.bytes_as(tensor.change.from));
    }
    let (dtype, notes) = (args.dtype, Vec::new());
    Job { doing: "quantizing", file, dtype, input: about, notes, start }
        .run(&args.write, threads)?;
    Ok(Outcome::Done)
}
