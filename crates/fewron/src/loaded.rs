//! A model file, opened: weights, tokenizer and chat template.

mod calibrated;
mod models;
mod wishes;

pub(crate) use models::Models;
use wishes::Wishes;

use std::num::NonZeroUsize;
use std::path::Path;
use std::sync::{Arc, Once};
use std::thread;

use anyhow::{Context, Result, anyhow, bail, ensure};
use fewron_kernels::DType;
use fewron_model::chat::{ChatTemplate, Message};
use fewron_model::gguf::{Gguf, Recipe};
use fewron_model::hf::HfDirectory;
use fewron_model::tokenizer::{Tokenizer, TokenizerError};
use fewron_model::{LoadOptions, Model, ModelError, Pool, Session, Source};

use fewron_sparsity::plan::changes::{NO_CHANGES, read_changes};

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
        let wishes = plans.iter().map(|path| Wishes::of(path, &file, args.quantize));
        let wishes: Vec<Wishes> = wishes.collect();
        let id = common_id(plans, &wishes)?;
        let budget = args.resident_budget_bytes();
        Self::open_with(file, args.quantize, wishes::options(&wishes, budget)?, id)
    }

    fn open_with(
        mut file: ModelFile,
        quantize: Option<DType>,
        options: LoadOptions,
        changes: u64,
    ) -> Result<Self> {
        let source = open_source(&file.path)?;
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
        if let Some(dtype) = quantize {
            file.name = format!("{} as {dtype}", file.name);
        }
        let model = load(source, &file.path, quantize, options)?;
        let (tokens, vocab) = (tokenizer.vocab_size(), model.config().vocab);
        ensure!(
            tokens <= vocab,
            "{}: the tokenizer has {tokens} tokens, but the model has embeddings for {vocab}; the \
             file is damaged: download it again with `fewron pull`",
            file.path.display()
        );
        Ok(Self {
            file,
            model: Arc::new(model),
            tokenizer: Arc::new(tokenizer),
            chat,
            chat_problem,
            quantized: quantize,
            changes,
            template_note: Once::new(),
        })
    }

    /// The same file with other changes to its weights.
    fn again(&self, options: LoadOptions, changes: u64) -> Result<Self> {
        let path = &self.file.path;
        Ok(Self {
            file: self.file.clone(),
            model: Arc::new(load(open_source(path)?, path, self.quantized, options)?),
            tokenizer: Arc::clone(&self.tokenizer),
            chat: self.chat.clone(),
            chat_problem: self.chat_problem.clone(),
            quantized: self.quantized,
            changes,
            template_note: Once::new(),
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
            "it changes the model's weights, and this command runs those of the file; write a file that has \
             the changes with `fewron convert MODEL OUT.gguf --plan PLAN --mask-out MASKS`"
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

/// The file or directory of a model, its weights unread.
fn open_source(path: &Path) -> Result<Source> {
    Ok(if path.is_dir() {
        Source::HuggingFace(HfDirectory::open(path).map_err(|e| bad_model(path, e))?)
    } else {
        Source::Gguf(Gguf::open(path)?)
    })
}

/// Loads the weights, with progress.
fn load(
    source: Source,
    path: &Path,
    quantize: Option<DType>,
    options: LoadOptions,
) -> Result<Model> {
    let recipe = quantize.map(|dtype| Recipe { dtype, output: None, embedding: None });
    let mut progress = None;
    let options = LoadOptions { recipe, ..options };
    let model = Model::load(source, &options, &mut |done, parts| {
        let new = || Progress::late("loading", Unit::Items, parts as u64);
        progress.get_or_insert_with(new).set(done as u64);
    });
    model.map_err(|e| bad_model(path, e))
}

/// What all of the plans change in the weights.
fn common_id(plans: &[&Path], wishes: &[Wishes]) -> Result<u64> {
    let mut all = plans.iter().zip(wishes).filter(|(_, wishes)| wishes.readable);
    let Some((first, Wishes { id, .. })) = all.next() else { return Ok(NO_CHANGES) };
    if let Some((other, _)) = all.find(|(_, other)| other.id != *id) {
        bail!(
            "{} and {} change the model's weights in different ways; run them one at a time",
            first.display(),
            other.display()
        );
    }
    if *id != NO_CHANGES {
        let plan = first.display();
        ui::note(&format!(
            "{plan} changes the model's weights: here dense is that model, unmasked"
        ));
    }
    Ok(*id)
}

/// A problem of the model, with the file that has it; errors of reading a file name it themselves.
pub(crate) fn bad_model(path: &Path, error: ModelError) -> anyhow::Error {
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
