//! `fewron convert`: a Hugging Face directory as a GGUF file, or a GGUF file with what a plan changes in it.

mod merge;

use std::num::NonZeroUsize;
use std::time::Instant;

use anyhow::{Result, anyhow, ensure};
use fewron_model::ModelError;
use fewron_model::hf::{Conversion, ConvertError, HfDirectory};
use fewron_model::tokenizer::TokenizerError;

use crate::Outcome;
use crate::cli::ConvertArgs;
use crate::store;
use crate::writing::{self, About, Job};

pub(crate) fn run(args: &ConvertArgs, threads: Option<NonZeroUsize>) -> Result<Outcome> {
    let start = Instant::now();
    let file = store::resolve(&args.input)?;
    if let Some(plan) = &args.plan {
        merge::run(args, &file, plan, threads)?;
        return Ok(Outcome::Done);
    }
    let input = file.path;
    ensure!(
        input.is_dir(),
        "{} is a GGUF file already; `fewron quantize` writes it with other types, --plan with what a \
         recovered plan changes",
        input.display()
    );
    let directory = HfDirectory::open(&input)?;
    writing::check_target(directory.weight_files(), &args.write.output, &args.write)?;
    let dtype = args.dtype.unwrap_or_else(|| directory.float_type());
    let tied = !directory.model_config()?.untied_head;
    let recipe = writing::recipe(dtype, tied, &input, &args.write)?;
    let Conversion { file, notes } = directory.to_gguf(&recipe).map_err(|error| match error {
        ConvertError::Model(ModelError::HuggingFace(error))
        | ConvertError::Tokenizer(TokenizerError::HuggingFace(error)) => error.into(),
        error => anyhow!("{}: {error}", input.display()),
    })?;
    let mut about = About::new(&input, directory.len_bytes());
    for (_, dtype, shape) in directory.tensors() {
        // Files with other weights than F32, F16 and BF16 do not open.
        let element_bytes = if dtype == "F32" { 4 } else { 2 };
        about.count(dtype, (shape.iter().product::<usize>() * element_bytes) as u64);
    }
    Job { doing: "converting", file, dtype, input: about, notes, start }
        .run(&args.write, threads)?;
    Ok(Outcome::Done)
}
