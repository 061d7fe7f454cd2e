//! A model file, opened: weights, tokenizer and chat template.

mod calibrated;

use std::ffi::OsString;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Once};
use std::thread;

use anyhow::{Context, Result, anyhow, bail, ensure};
use fewron_kernels::DType;
use fewron_model::chat::{ChatTemplate, Message};
use fewron_model::gguf::{Gguf, Recipe};
use fewron_model::hf::HfDirectory;
use fewron_model::tokenizer::{Tokenizer, TokenizerError};
use fewron_model::{Changes, LoadOptions, Model, ModelError, Pool, Residency, Session, Source};

use fewron_sparsity::PolicyKind;
use fewron_sparsity::plan::changes::{NO_CHANGES, read_changes};
use fewron_sparsity::plan::file::{read_frequency, read_record};

use crate::cli::{KvType, ModelArgs};
use crate::store::{self, ModelFile};
use crate::ui::{self, Progress, Unit};

/// Everything that a model file holds.
pub(crate) struct Loaded {
    /// The file and the name it goes by.
    pub(crate) file: ModelFile,
    /// Weights and configuration.
    pub(crate) model: Arc<Model>,
    /// Text to tokens and back.
    pub(crate) tokenizer: Arc<Tokenizer>,
    /// The chat template; base models have none.
    pub(crate) chat: Option<Arc<ChatTemplate>>,
    /// Why a template that is there cannot be used.
    pub(crate) chat_problem: Option<String>,
    /// The type that float weights were given while loading.
    quantized: Option<DType>,
    /// Which changes a plan has made to the weights: see [`read_changes`].
    changes: u64,
    template_note: Once,
}

/// Kernel threads: as many as asked for, else as many as this process may use.
pub(crate) fn pool(threads: Option<NonZeroUsize>) -> Arc<Pool> {
    Arc::new(Pool::new(thread_count(threads)))
}

/// The threads that are asked for, or as many as the process may use.
pub(crate) fn thread_count(threads: Option<NonZeroUsize>) -> usize {
    let threads = threads.or_else(|| thread::available_parallelism().ok());
    threads.map_or(1, NonZeroUsize::get)
}

impl Loaded {
    /// Finds the file that `MODEL` means, downloads it if need be, and loads it.
    ///
    /// # Errors
    /// One line that names the file, what is wrong with it and a way out. A chat template that
    /// cannot be used is an error only where it is needed.
    pub(crate) fn open(model_arg: &str) -> Result<Self> {
        Self::open_with(store::resolve(model_arg)?, None, LoadOptions::default(), NO_CHANGES)
    }

    /// As [`Self::open`], with what the arguments say about float weights.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub(crate) fn from_args(args: &ModelArgs) -> Result<Self> {
        Self::for_plans(args, &[])
    }

    /// As [`Self::from_args`], laid out for these plans: what they keep most often stays in memory under a
    /// budget, and all matrices lie by input if each plan leaves out input channels.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub(crate) fn for_plans(args: &ModelArgs, plans: &[&Path]) -> Result<Self> {
        let file = store::resolve(&args.name)?;
        let wishes: Vec<Wishes> = plans.iter().map(|path| Wishes::of(path, &file)).collect();
        let by_input = !wishes.is_empty() && wishes.iter().all(|wishes| wishes.by_input);
        let (changes, id) = changes(plans, &wishes)?;
        let heat = wishes.into_iter().next().map(|wishes| wishes.heat).unwrap_or_default();
        let budget = args.resident_budget_bytes();
        let residency = budget.map(|bytes| residency(bytes, heat)).transpose()?;
        Self::open_with(
            file,
            args.quantize,
            LoadOptions { residency, by_input, changes, ..LoadOptions::default() },
            id,
        )
    }

    fn open_with(
        mut file: ModelFile,
        quantize: Option<DType>,
        options: LoadOptions,
        changes: u64,
    ) -> Result<Self> {
        let source = if file.path.is_dir() {
            let directory = HfDirectory::open(&file.path);
            Source::HuggingFace(directory.map_err(|e| bad_model(&file.path, e))?)
        } else {
            Source::Gguf(Gguf::open(&file.path)?)
        };
        let tokenizer = match &source {
            Source::Gguf(gguf) => Tokenizer::from_gguf(gguf),
            Source::HuggingFace(directory) => Tokenizer::from_hf(directory),
        };
        let tokenizer = tokenizer.map_err(|e| bad_tokenizer(&file.path, e))?;
        let chat = match &source {
            Source::Gguf(gguf) => ChatTemplate::from_gguf(gguf, &tokenizer),
            Source::HuggingFace(directory) => ChatTemplate::from_hf(directory, &tokenizer),
        };
        let (chat, chat_problem) = match chat {
            Ok(chat) => (chat.map(Arc::new), None),
            Err(error) => (None, Some(error.to_string())),
        };
        let recipe = quantize.map(|dtype| Recipe { dtype, output: None, embedding: None });
        if let Some(dtype) = quantize {
            file.name = format!("{} as {dtype}", file.name);
        }
        let mut progress = None;
        let options = LoadOptions { recipe, ..options };
        let model = Model::load(source, &options, &mut |done, parts| {
            let new = || Progress::late("loading", Unit::Items, parts as u64);
            progress.get_or_insert_with(new).set(done as u64);
        });
        drop(progress);
        let model = model.map_err(|e| bad_model(&file.path, e))?;
        let (tokens, vocab) = (tokenizer.vocab_size(), model.config().vocab);
        ensure!(
            tokens <= vocab,
            "{}: the tokenizer has {tokens} tokens, but the model has embeddings for {vocab}; the \
             file is damaged: download it again with `fewron pull`",
            file.path.display()
        );
        let (model, tokenizer) = (Arc::new(model), Arc::new(tokenizer));
        let template_note = Once::new();
        Ok(Self {
            file,
            model,
            tokenizer,
            chat,
            chat_problem,
            quantized: quantize,
            changes,
            template_note,
        })
    }

    /// The tokens of a question, ready for an answer: through the chat template, or as they are
    /// with `raw` and for a model without a template, which a line on stderr tells once.
    ///
    /// # Errors
    /// When the template cannot be used, or the prompt is empty or longer than the context.
    pub(crate) fn prompt(
        &self,
        question: &str,
        system: Option<&str>,
        raw: bool,
    ) -> Result<Vec<u32>> {
        let ids = if raw {
            self.tokenizer.encode_prompt(question)
        } else {
            let system = system.map(|text| Message::new("system", text));
            let messages: Vec<Message> =
                system.into_iter().chain([Message::new("user", question)]).collect();
            self.conversation(&messages)?
        };
        let context = self.context();
        ensure!(!ids.is_empty(), "the prompt is empty; give the model some text");
        ensure!(
            ids.len() <= context,
            "the prompt has {} tokens, but the context of {} holds {context}; shorten the prompt",
            ids.len(),
            self.file.name
        );
        Ok(ids)
    }

    /// The tokens of a conversation up to where the model's answer starts; of any length. Without a
    /// template the messages follow each other line by line.
    ///
    /// # Errors
    /// When the template cannot be used or refuses the messages.
    pub(crate) fn conversation(&self, messages: &[Message]) -> Result<Vec<u32>> {
        match (&self.chat, &self.chat_problem) {
            (Some(chat), _) => Ok(chat.ids(&self.tokenizer, messages, true)?),
            (None, Some(problem)) => bail!("{}: {problem}", self.file.path.display()),
            (None, None) => {
                self.template_note.call_once(|| {
                    let name = &self.file.name;
                    ui::note(&format!("{name} has no chat template: it gets the text as it is"));
                });
                let texts: Vec<&str> = messages.iter().map(|m| m.content.as_str()).collect();
                Ok(self.tokenizer.encode_prompt(&texts.join("\n")))
            }
        }
    }

    /// An empty text.
    pub(crate) fn session(&self, pool: &Arc<Pool>, kv_type: KvType) -> Session {
        Session::with_kv_type(Arc::clone(&self.model), Arc::clone(pool), kv_type.into())
    }

    /// Tokens that a text may have, the answer included.
    pub(crate) fn context(&self) -> usize {
        self.model.config().context
    }

    /// The type that float weights were given while loading.
    pub(crate) fn quantized(&self) -> Option<DType> {
        self.quantized
    }

    /// Refuses a plan that changes the weights in another way than they were while loading.
    ///
    /// # Errors
    /// When it does.
    pub(crate) fn check_changes(&self, plan: &[u8]) -> Result<()> {
        let (_, id) = read_changes(plan)?;
        ensure!(
            id == self.changes,
            "it changes the model's weights, or others do: this command takes such plans one at a time, and \
             not beside others"
        );
        Ok(())
    }

    /// SHA-256 of the file, lower-case hex.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub(crate) fn sha256(&self) -> Result<String> {
        self.file.sha256().with_context(|| format!("cannot hash {}", self.file.path.display()))
    }
}

/// A budget for weights in memory; the others go to a file in the cache folder.
fn residency(budget_bytes: usize, heat: Vec<Vec<f32>>) -> Result<Residency> {
    let directory = store::Home::find()?.folder()?;
    Ok(Residency { budget_bytes, heat, gate_stays_hot: true, directory })
}

/// How a plan wants a model to lie in memory.
#[derive(Default)]
struct Wishes {
    by_input: bool,
    heat: Vec<Vec<f32>>,
    changes: Option<(Changes, u64)>,
}

impl Wishes {
    /// What a plan file says before its model is loaded; nothing for one that cannot be read, which is told
    /// when it is used.
    fn of(path: &Path, model: &ModelFile) -> Self {
        let path = if path == Path::new("auto") { beside(&model.path) } else { path.to_owned() };
        let Ok(bytes) = std::fs::read(path) else { return Self::default() };
        let policy = read_record(&bytes).map(|record| record.policy);
        let by_input = matches!(policy, Ok(PolicyKind::Input));
        Self { by_input, heat: read_frequency(&bytes), changes: read_changes(&bytes).ok() }
    }
}

/// The changes that all of the plans make to the weights.
fn changes(plans: &[&Path], wishes: &[Wishes]) -> Result<(Changes, u64)> {
    let mut all = plans.iter().zip(wishes).filter_map(|(p, w)| Some((p, w.changes.as_ref()?)));
    let Some((first, (changes, id))) = all.next() else {
        return Ok((Changes::default(), NO_CHANGES));
    };
    if let Some((other, _)) = all.find(|(_, (_, other))| other != id) {
        bail!(
            "{} and {} change the model's weights in different ways; run them one at a time",
            first.display(),
            other.display()
        );
    }
    if !changes.is_empty() {
        let plan = first.display();
        ui::note(&format!(
            "{plan} changes the model's weights: here dense is that model, unmasked"
        ));
    }
    Ok((changes.clone(), *id))
}

/// Where the plan of a model lies by itself: `MODEL.fewron`.
pub(crate) fn beside(model: &Path) -> PathBuf {
    let mut path: OsString = model.components().as_path().into();
    path.push(".fewron");
    path.into()
}

/// A problem of the model, with the file that has it; errors of reading a file name it themselves.
fn bad_model(path: &Path, error: ModelError) -> anyhow::Error {
    match error {
        ModelError::Gguf(error) => error.into(),
        ModelError::HuggingFace(error) => error.into(),
        error @ ModelError::Shape { .. } if path.is_dir() => anyhow!(
            "{}: {error}; config.json and the weights do not belong together, download the model \
             again",
            path.display()
        ),
        error => anyhow!("{}: {error}; `fewron models` lists models that work", path.display()),
    }
}

fn bad_tokenizer(path: &Path, error: TokenizerError) -> anyhow::Error {
    match error {
        TokenizerError::Gguf(error) => error.into(),
        TokenizerError::HuggingFace(error) => error.into(),
        error => anyhow!("{}: {error}", path.display()),
    }
}
