//! What handlers share.

use fewron_model::chat::ChatTemplate;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Semaphore, watch};

use super::error::ApiError;
use super::served::now_s;
use super::traffic::Traffic;
use crate::engine::Engine;

/// Texts that are made tokens at the same time: the kernels need the processor too.
const TOKENIZING: usize = 2;

/// How conversations become prompts.
#[derive(Clone, Debug, Default)]
pub struct Chat {
    /// The model's template; base models have none.
    pub template: Option<Arc<ChatTemplate>>,
    /// Why a template that is there cannot be used.
    pub problem: Option<String>,
}

impl Chat {
    /// The template.
    ///
    /// # Errors
    /// When there is none that can be used.
    pub(crate) fn template(&self) -> Result<Arc<ChatTemplate>, ApiError> {
        if let Some(template) = &self.template {
            return Ok(Arc::clone(template));
        }
        let why = self.problem.as_deref().unwrap_or("this model has no chat template");
        let message = format!("{why}; use /v1/completions");
        Err(ApiError::invalid(message).param("messages").code("no_chat_template"))
    }
}

/// What the operator sets about HTTP.
#[derive(Clone, Debug)]
pub struct Config {
    /// What clients show in `Authorization: Bearer`; none lets everyone in.
    pub api_key: Option<String>,
    /// Whether the header `Host` must name this machine: without a key, a page that a browser on it
    /// shows could else reach the server under the page's own name (DNS rebinding).
    pub check_host: bool,
    /// Names that `Host` may have besides those of the loopback interface.
    pub allowed_hosts: Vec<String>,
    /// Origins whose pages may use the server.
    pub cors_origins: Vec<String>,
    /// Longest body of a request in bytes.
    pub max_body_bytes: usize,
    /// Longest time for a body to come.
    pub body_timeout: Duration,
    /// Whether prompts are logged.
    pub log_prompts: bool,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            api_key: None,
            check_host: true,
            allowed_hosts: Vec::new(),
            cors_origins: Vec::new(),
            max_body_bytes: 8_000_000,
            body_timeout: Duration::from_secs(30),
            log_prompts: false,
        }
    }
}

/// How far the server is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    /// It answers.
    Serving,
    /// It answers what it has taken on.
    Draining,
    /// Connections end.
    Ending,
}

/// What handlers share.
pub struct App {
    pub(crate) engine: Engine,
    pub(crate) chat: Chat,
    pub(crate) config: Config,
    pub(crate) traffic: Traffic,
    pub(crate) phase: watch::Sender<Phase>,
    pub(crate) tokenizing: Semaphore,
    /// Seconds since the Unix epoch.
    pub(crate) started_s: u64,
}

impl App {
    /// What handlers share.
    pub fn new(engine: Engine, chat: Chat, config: Config) -> Arc<Self> {
        Arc::new(Self {
            traffic: Traffic::new(&engine),
            engine,
            chat,
            config,
            phase: watch::Sender::new(Phase::Serving),
            tokenizing: Semaphore::new(TOKENIZING),
            started_s: now_s(),
        })
    }

    /// Runs work that takes a while beside the handlers. It goes on if nobody waits for it.
    ///
    /// # Errors
    /// When it panics.
    pub(crate) async fn beside<T: Send + 'static>(
        self: &Arc<Self>,
        work: impl FnOnce(&Self) -> T + Send + 'static,
    ) -> Result<T, ApiError> {
        let _place = self.tokenizing.acquire().await.map_err(|_| fault())?;
        let app = Arc::clone(self);
        tokio::task::spawn_blocking(move || work(&app)).await.map_err(|_| fault())
    }
}

fn fault() -> ApiError {
    ApiError::internal("a fault of the server; its log says more")
}
