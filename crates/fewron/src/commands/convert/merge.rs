//! A GGUF file with what a recovered plan changes in it, and the plan's masks for that file.

use std::io::Write;
use std::num::NonZeroUsize;
use std::path::Path;
use std::time::Instant;

use anyhow::{Context, Result, anyhow, ensure};
use fewron_kernels::{DType, Isa};
use fewron_model::ModelConfig;
use fewron_model::gguf::{Gguf, NewFile, NewTensor};
use fewron_sparsity::plan::changes::{read_changes, without_changes};
use fewron_sparsity::plan::file::from_bytes;
use sha2::{Digest, Sha256};

use crate::cli::ConvertArgs;
use crate::loaded;
use crate::mask::{bad_plan, found_plan, plan_model_of, read_plan};
use crate::store::{self, ModelFile, hex};
use crate::whole_file::WholeFile;
use crate::writing::{self, About, Job};

/// The key of the new file that says which plan was merged.
const KEY: &str = "fewron.plan_sha256";

/// Writes the file, and the masks where `--mask-out` asks for them.
pub(super) fn run(
    args: &ConvertArgs,
    file: &ModelFile,
    plan: &Path,
    threads: Option<NonZeroUsize>,
) -> Result<()> {
    let start = Instant::now();
    let (input, output) = (file.path.as_path(), args.write.output.as_path());
    ensure!(
        !input.is_dir(),
        "{} is a Hugging Face directory, and what a plan changes is merged into GGUF files",
        input.display()
    );
    let gguf = Gguf::open(input)?;
    let config = ModelConfig::from_gguf(&gguf).map_err(|e| loaded::bad_model(input, e))?;
    let (pool, model) = (loaded::pool(threads), plan_model_of(file, &config)?);
    let plan = &*found_plan(plan, file, &model)?;
    let mask_file = check_targets(args, input, plan)?;
    let bytes = read_plan(plan)?;
    from_bytes(&bytes, &model, &config, Isa::detect(), &pool).map_err(|e| bad_plan(plan, &e))?;
    let (changes, _) = read_changes(&bytes).map_err(|e| bad_plan(plan, &e))?;
    let shown = plan.display();
    ensure!(
        !changes.is_empty(),
        "plan {shown} changes no weights, so there is nothing to merge; use it as it is, with --plan"
    );
    let new = NewFile::changed(&gguf, &changes);
    let mut new = new.map_err(|error| anyhow!("plan {shown}: {error}"))?;
    new.set_text(KEY, &hex(&Sha256::digest(&bytes)));
    let mut about = About::new(input, gguf.len_bytes() as u64);
    for tensor in new.tensors() {
        about.count(tensor.change.from.name(), tensor.len_bytes());
    }
    let (dtype, doing) = (most_bytes(&new), "merging");
    let notes = match &mask_file {
        Some(_) => Vec::new(),
        None => {
            vec![format!("{shown} is no plan for the new file; --mask-out writes its masks for it")]
        }
    };
    Job { doing, file: new, dtype, input: about, notes, start }.run(&args.write, threads)?;
    if let Some(mut mask_file) = mask_file {
        let model = plan_model_of(&store::resolve(&output.to_string_lossy())?, &config)?;
        let masks = without_changes(&bytes, &model).map_err(|e| bad_plan(plan, &e))?;
        mask_file
            .write_all(&masks)
            .with_context(|| format!("cannot write the masks of {shown}"))?;
        mask_file.commit()?;
    }
    Ok(())
}

/// Refuses to write over what is read, or over a file that is there; begins the file for the masks.
fn check_targets(args: &ConvertArgs, input: &Path, plan: &Path) -> Result<Option<WholeFile>> {
    let inputs = || [input, plan].into_iter();
    writing::check_target(inputs(), &args.write.output, &args.write)?;
    let Some(masks) = &args.mask_out else { return Ok(None) };
    writing::check_target(inputs(), masks, &args.write)?;
    ensure!(
        *masks != args.write.output,
        "the model and the masks cannot both be {}; name another file for --mask-out",
        masks.display()
    );
    WholeFile::create(masks).map(Some)
}

/// The type that most bytes of a file have.
fn most_bytes(file: &NewFile) -> DType {
    let bytes_of = |dtype: &DType| -> u64 {
        let own = file.tensors().filter(|tensor| tensor.change.to == *dtype);
        own.map(NewTensor::len_bytes).sum()
    };
    DType::ALL.into_iter().max_by_key(bytes_of).unwrap_or(DType::F32)
}
