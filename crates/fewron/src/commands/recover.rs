//! `fewron recover`: a plan that its model has learnt to live with. The Python package in `recover/` does
//! the work; this calls it step by step, and goes on where an earlier call was interrupted.

mod package;
mod settings;

use std::fs;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use anyhow::{Context, Result, bail, ensure};
use clap::Parser;
use fewron_eval::data::Dataset;
use fewron_sparsity::plan::record::PlanRecord;
use sha2::{Digest, Sha256};

use super::calibrate;
use crate::Outcome;
use crate::cli::{self, Cli, RecoverArgs};
use crate::mask::read_plan_record;
use crate::plan_words::words;
use crate::store::{self, ModelFile, hex, write_whole};
use crate::study::command_line;
use crate::ui::{self, show_bytes};
use package::{Package, option, run as run_package};
use settings::Settings;

/// Tokens that the model writes where there is a GPU.
const GPU_TOKENS: u64 = 20_000_000;

/// Tokens that it writes elsewhere.
const CPU_TOKENS: u64 = 2_000_000;

pub(crate) fn run(args: &RecoverArgs, threads: Option<NonZeroUsize>) -> Result<Outcome> {
    let recovery = Recovery::new(args, threads)?;
    let record = recovery.run();
    if ui::interrupted() {
        ui::note(&format!("this goes on where it was interrupted: {}", command_line()));
    }
    let record = record?;
    if args.json {
        println!("{}", serde_json::to_string_pretty(&record)?);
    } else {
        println!("{}", words(&record));
    }
    let size_bytes = args.out.metadata().map_or(0, |meta| meta.len());
    let (out, size) = (args.out.display(), show_bytes(size_bytes as f64));
    ui::note(&format!("plan in {out} ({size}); use it with --plan {out}"));
    Ok(Outcome::Done)
}

/// A recovery, and the folder of what lies between its steps.
struct Recovery<'a> {
    args: &'a RecoverArgs,
    threads: Option<NonZeroUsize>,
    began: Instant,
    package: Package,
    device: String,
    tokens: u64,
    model: ModelFile,
    /// The plan that is given.
    plan: Option<PathBuf>,
    work: PathBuf,
}

impl<'a> Recovery<'a> {
    /// Checks what can be checked before there is any work.
    fn new(args: &'a RecoverArgs, threads: Option<NonZeroUsize>) -> Result<Self> {
        let began = Instant::now();
        if let Some(text) = &args.eval_text {
            ensure!(text.is_file(), "there is no text {} to measure on", text.display());
        }
        let package = Package::find(args.machine.python.as_deref(), threads)?;
        let model = store::resolve(&args.model)?;
        let plan = args.plan.as_deref().map(|plan| model.plan(plan).into_owned());
        let default = if package.gpus > 0 { "cuda" } else { "cpu" };
        let device = args.machine.device.clone().unwrap_or_else(|| default.to_owned());
        let (wanted, there) = (args.machine.gpus.get(), package.gpus);
        ensure!(
            wanted == 1 || (wanted <= there && device == "cuda"),
            "--gpus {wanted} with device {device}: PyTorch sees {there}; leave out --device, and give as many at most"
        );
        let default = if device == "cpu" { CPU_TOKENS } else { GPU_TOKENS };
        let tokens = args.tokens.map_or(default, Into::into);
        let work = args.work.clone().unwrap_or_else(|| {
            let mut work = args.out.clone().into_os_string();
            work.push(".run");
            work.into()
        });
        Ok(Self { args, threads, began, package, device, tokens, model, plan, work })
    }

    /// All steps, of which those that are done cost little; what the recovered plan says about itself.
    fn run(&self) -> Result<PlanRecord> {
        self.settings()?.keep(&self.work)?;
        run_package(&mut self.check(self.plan.as_deref()))?;
        let plan = match &self.plan {
            Some(plan) => plan.clone(),
            None => self.calibrated()?,
        };
        if self.plan.is_none() {
            run_package(&mut self.check(Some(&plan)))?;
        }
        run_package(&mut self.generate()?)?;
        if self.left_s().is_some_and(|left_s| left_s <= 0.0) {
            bail!(
                "the hours were over before the training began; this goes on: {}",
                command_line()
            );
        }
        run_package(&mut self.train(&plan))?;
        let record = self.write()?;
        run_package(&mut self.evaluate(&plan))?;
        Ok(record)
    }

    fn settings(&self) -> Result<Settings<'_>> {
        let (args, training) = (self.args, &self.args.training);
        let sha256 = |plan: &PathBuf| -> Result<String> {
            read_plan_record(plan)?;
            Ok(hex(&Sha256::digest(fs::read(plan)?)))
        };
        Ok(Settings {
            model: self.model.sha256()?,
            plan: self.plan.as_ref().map(sha256).transpose()?,
            sparsity: self.plan.is_none().then_some(args.sparsity),
            data: &args.data,
            tokens: self.tokens,
            seed: args.seed,
            steps: training.steps.map(NonZeroUsize::get),
            batch: training.batch.map(NonZeroUsize::get),
            max_edits: training.max_edits,
            max_bytes: training.max_bytes,
            more: &training.more,
        })
    }

    /// The plan of `fewron calibrate` at its defaults, made unless it is there.
    fn calibrated(&self) -> Result<PathBuf> {
        let plan = self.work.join("calibrated.plan");
        if !plan.exists() {
            let (sparsity, seed) = (self.args.sparsity.to_string(), self.args.seed.to_string());
            let data = self.args.data.join(",");
            let options = ["--sparsity", &sparsity, "--data", &data, "--seed", &seed];
            let words = ["fewron", "calibrate", &self.args.model].into_iter().chain(options);
            let cli::Command::Calibrate(args) = Cli::try_parse_from(words)?.command else {
                unreachable!("these are the words of calibrate");
            };
            calibrate::write_plan(&args, &plan, self.threads)?;
        }
        Ok(plan)
    }

    fn check(&self, plan: Option<&Path>) -> Command {
        let mut command = self.command("check");
        option(&mut command, "--plan", plan.map(Path::display));
        self.training_options(&mut command);
        command
    }

    /// The model goes on from pieces of the data's texts, which are trained on too, and answers its questions.
    fn generate(&self) -> Result<Command> {
        let mut command = self.command("generate");
        command.arg("--out").arg(self.text());
        option(&mut command, "--tokens", Some(self.tokens));
        option(&mut command, "--seed", Some(self.args.seed));
        option(&mut command, "--max-seconds", self.left_s());
        let texts: Vec<&String> =
            self.args.data.iter().filter(|source| calibrate::is_text(source)).collect();
        for text in &texts {
            command.args(["--text", text]);
        }
        if !texts.is_empty() {
            command.arg("--train-on-text");
        }
        if let Some(questions) = self.questions()? {
            command.arg("--questions").arg(questions);
        }
        Ok(command)
    }

    /// The questions of the data's files, one in a line; none where there are none.
    fn questions(&self) -> Result<Option<PathBuf>> {
        let mut lines = String::new();
        for file in self.args.data.iter().filter(|source| calibrate::is_questions(source)) {
            for sample in Dataset::load(file, None)?.samples {
                let words: Vec<&str> = sample.question.split_whitespace().collect();
                lines.push_str(&words.join(" "));
                lines.push('\n');
            }
        }
        if lines.is_empty() {
            return Ok(None);
        }
        let path = self.work.join("questions.txt");
        write_whole(&path, lines.as_bytes())?;
        Ok(Some(path))
    }

    fn train(&self, plan: &Path) -> Command {
        let mut command = self.command_on("train", self.args.machine.gpus.get());
        let folder = self.work.join("training");
        command.arg("--plan").arg(plan).arg("--data").arg(self.text());
        command.arg("--out").arg(self.recovered()).arg("--run").arg(&folder);
        if folder.join("checkpoint.pt").exists() {
            command.arg("--resume");
        }
        option(&mut command, "--max-seconds", self.left_s());
        self.training_options(&mut command);
        command
    }

    /// Those behind `--` come last, so they hold. Compensations of 4 bits leave more room for edits; on a GPU the
    /// time to compile is won back within minutes.
    fn training_options(&self, command: &mut Command) {
        let training = &self.args.training;
        command.args(["--compensation-bits", "4"]);
        if self.device != "cpu" {
            command.arg("--compile");
        }
        option(command, "--steps", training.steps);
        option(command, "--batch", training.batch);
        option(command, "--seed", Some(self.args.seed));
        option(command, "--max-edits", training.max_edits);
        option(command, "--max-bytes", Some(training.max_bytes));
        command.args(&training.more);
    }

    fn evaluate(&self, plan: &Path) -> Command {
        let mut command = self.command("evaluate");
        command.arg("--plan").arg(plan).arg("--plan").arg(self.recovered());
        match &self.args.eval_text {
            Some(text) => command.arg("--text").arg(text),
            None => command.arg("--data").arg(self.text()),
        };
        command.arg("--json").arg(self.work.join("evaluation.json"));
        command
    }

    fn command(&self, name: &str) -> Command {
        self.command_on(name, 1)
    }

    /// A command of the package for this model on this device, in so many processes.
    fn command_on(&self, name: &str, processes: usize) -> Command {
        let mut command = self.package.command(name, processes);
        command.arg(&self.model.path).args(["--device", &self.device]);
        command
    }

    /// Puts the trained plan where it was asked for.
    fn write(&self) -> Result<PlanRecord> {
        let trained = self.recovered();
        let record = read_plan_record(&trained)?;
        let bytes =
            fs::read(&trained).with_context(|| format!("cannot read {}", trained.display()))?;
        write_whole(&self.args.out, &bytes)?;
        if let (Some(hours), Some(..=0.0)) = (self.args.machine.max_hours, self.left_s()) {
            let steps = record.recovery.as_ref().map_or(0, |recovery| recovery.steps);
            ui::note(&format!(
                "{hours} h are over at step {steps}; this goes on: {}",
                command_line()
            ));
        }
        Ok(record)
    }

    /// The text that the model writes.
    fn text(&self) -> PathBuf {
        self.work.join("text")
    }

    fn recovered(&self) -> PathBuf {
        self.work.join("recovered.plan")
    }

    /// Seconds until `--max-hours` are over.
    fn left_s(&self) -> Option<f64> {
        let hours = self.args.machine.max_hours?;
        Some((3600.0 * f64::from(hours) - self.began.elapsed().as_secs_f64()).max(0.0))
    }
}
