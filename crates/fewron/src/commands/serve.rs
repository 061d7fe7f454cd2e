//! `fewron serve`: answers over HTTP.

mod record;
mod variants;

use std::fs;
use std::io::{Write, stdout};
use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use fewron_serve::engine::{Engine, Guard, Limits, Settings};
use fewron_serve::{App, Chat, Config, Server, Timeouts};
use tracing::level_filters::LevelFilter;

use crate::Outcome;
use crate::cli::{GuardArgs, LimitArgs, LogLevel, NetworkArgs, ServeArgs};
use crate::loaded::{self, Loaded};
use crate::runs::{self, Planned};
use crate::study::model_record;
use crate::ui;

use record::ServeRun;

/// Bytes of a MB on the command line.
const MB: usize = 1_000_000;

pub(crate) fn run(args: &ServeArgs, threads: Option<NonZeroUsize>) -> Result<Outcome> {
    args.variants.mask().check()?;
    let name = name(args)?;
    let key = key(&args.network)?;
    let (host, port) = (args.network.host.as_str(), args.network.port);
    let server = Server::bind(host, port)
        .with_context(|| format!("cannot listen on {host} port {port}; name another --port"))?;
    check_open(&args.network, key.as_deref(), server.address())?;
    log_to_stderr(args.log_level);
    let loaded = Arc::new(Loaded::for_plans(&args.model, &args.variants.plans())?);
    let pool = loaded::pool(threads);
    let settings = Settings {
        name: name.clone(),
        variants: variants::all(&args.variants, &loaded, &pool)?,
        split: args.variants.ab.clone(),
        maker: variants::maker(&loaded, pool.threads()),
        limits: limits(&args.limits),
        guard: guard(&args.guard),
        kv_type: args.limits.kv_type.into(),
    };
    let (model, tokenizer) = (Arc::clone(&loaded.model), Arc::clone(&loaded.tokenizer));
    let engine = Engine::start(model, tokenizer, Arc::clone(&pool), settings)?;
    let chat = Chat { template: loaded.chat.clone(), problem: loaded.chat_problem.clone() };
    let config = config(args, key, server.address());
    let app = App::new(engine.clone(), chat, config);
    let model = model_record(&loaded)?;
    let planned = Planned {
        kind: "serve",
        what: String::new(),
        model: &model,
        threads: pool.threads(),
        folder: None,
        anew: true,
    };
    ui::check_interrupt()?;
    runs::recorded(&planned, record::points, |_| {
        let (address, most) = (server.address(), args.network.max_connections.get());
        writeln!(stdout(), "Serving {name} at http://{}", shown(host, address))?;
        stdout().flush()?;
        server.run(&app, &timeouts(&args.limits), most, ui::interrupt_flag())?;
        // The signal has done its work.
        ui::clear_interrupt();
        Ok(ServeRun::new(&engine, &loaded, model.clone(), args.limits.kv_type))
    })?;
    Ok(Outcome::Done)
}

/// What clients call the model: what it is called here, without folders, and without colons, which stand
/// before the variant.
fn name(args: &ServeArgs) -> Result<String> {
    let default = || {
        let last = args.model.name.trim_end_matches('/').rsplit('/').next().unwrap_or_default();
        last.strip_suffix(".gguf").unwrap_or(last).replace([':', ' '], "-")
    };
    let name = args.served_name.clone().unwrap_or_else(default);
    let allowed = |c: char| !c.is_whitespace() && !c.is_control() && c != ':';
    ensure!(
        !name.is_empty() && name.chars().all(allowed),
        "{name:?} cannot be the name of the model: --name NAME has no spaces and no colon"
    );
    Ok(name)
}

/// The key that clients must show.
fn key(args: &NetworkArgs) -> Result<Option<String>> {
    let key = match &args.api_key_file {
        Some(file) => {
            let text = fs::read_to_string(file)
                .with_context(|| format!("cannot read the key in {}", file.display()))?;
            Some(text.trim().to_owned())
        }
        None => args.api_key.clone(),
    };
    let Some(key) = key else { return Ok(None) };
    ensure!(
        !key.is_empty() && key.bytes().all(|byte| byte.is_ascii_graphic()),
        "the API key is empty, or has characters that no header may have: use letters and digits"
    );
    Ok(Some(key))
}

/// Refuses to answer everyone on the network unless that is asked for.
fn check_open(args: &NetworkArgs, key: Option<&str>, address: SocketAddr) -> Result<()> {
    if address.ip().is_loopback() || key.is_some() || args.insecure_no_key {
        return Ok(());
    }
    bail!(
        "others can reach {}: give a key by FEWRON_API_KEY, --api-key-file or --api-key, or let everyone \
         in with --insecure-no-key",
        address.ip()
    )
}

fn log_to_stderr(level: LogLevel) {
    let level = match level {
        LogLevel::Off => LevelFilter::OFF,
        LogLevel::Error => LevelFilter::ERROR,
        LogLevel::Warn => LevelFilter::WARN,
        LogLevel::Info => LevelFilter::INFO,
        LogLevel::Debug => LevelFilter::DEBUG,
        LogLevel::Trace => LevelFilter::TRACE,
    };
    let log = tracing_subscriber::fmt().with_writer(std::io::stderr).with_max_level(level);
    log.with_target(false).init();
}

fn limits(args: &LimitArgs) -> Limits {
    Limits {
        running: args.max_running.get(),
        waiting: args.queue.get(),
        kv_bytes: args.kv_budget.get().saturating_mul(MB),
        prefill_chunk: args.prefill_chunk.get(),
        timeout: Duration::from_secs(args.timeout.get() as u64),
    }
}

fn guard(args: &GuardArgs) -> Guard {
    Guard {
        sample: f64::from(args.guard_sample),
        min_agreement: f64::from(args.guard_agreement.unwrap_or(0.0)),
        max_kl: args.guard_kl.map_or(f64::INFINITY, f64::from),
        tokens: args.guard_tokens.get(),
    }
}

fn config(args: &ServeArgs, key: Option<String>, address: SocketAddr) -> Config {
    let network = &args.network;
    Config {
        check_host: key.is_none() && address.ip().is_loopback(),
        api_key: key,
        allowed_hosts: network.allow_host.clone(),
        cors_origins: network.cors_origin.clone(),
        max_body_bytes: network.max_body.get().saturating_mul(MB),
        log_prompts: args.log_prompts,
        ..Config::default()
    }
}

fn timeouts(args: &LimitArgs) -> Timeouts {
    Timeouts { drain: Duration::from_secs(args.drain_timeout), ..Timeouts::default() }
}

/// The address as the user gave it, with the port that it is.
fn shown(host: &str, address: SocketAddr) -> String {
    let port = address.port();
    if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
}
