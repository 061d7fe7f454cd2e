//! Arguments of the command that answers over HTTP: serve.

use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};

use super::model::ModelArgs;
use super::text::MaskArgs;
use super::values::{KvType, Policy, parse_ratio, plan_file};

pub(super) const SERVE_EXAMPLES: &str = "\
Examples:
  fewron serve smollm2
  fewron serve smollm2 --plan auto --ab dense=20,plan=80
  fewron serve smollm2 --policy gate --sparsity 0.5 --guard-agreement 0.95
  FEWRON_API_KEY=secret fewron serve smollm2 --host 0.0.0.0 --port 8080
  curl localhost:8080/v1/chat/completions -H 'Content-Type: application/json' \\
      -d '{\"model\": \"smollm2\", \"messages\": [{\"role\": \"user\", \"content\": \"Hi\"}]}'

Clients of OpenAI's API work with the base URL http://127.0.0.1:8080/v1. They ask for NAME, for
NAME:dense or NAME:VARIANT, or send {\"fewron\": {\"policy\": \"gate\", \"sparsity\": 0.5}} beside the other
parameters. The page at / shows what the server does. Ctrl-C lets running answers end; a second one
does not wait.";

#[derive(Debug, Args)]
pub(crate) struct ServeArgs {
    #[command(flatten)]
    pub(crate) model: ModelArgs,
    /// What clients call the model (default: its name here, or that of its file)
    #[arg(long = "name", value_name = "NAME")]
    pub(crate) served_name: Option<String>,
    #[command(flatten)]
    pub(crate) variants: VariantArgs,
    #[command(flatten)]
    pub(crate) guard: GuardArgs,
    #[command(flatten)]
    pub(crate) limits: LimitArgs,
    #[command(flatten)]
    pub(crate) network: NetworkArgs,
    /// What is logged to stderr
    #[arg(long, value_name = "LEVEL", default_value = "info", help_heading = "Log")]
    pub(crate) log_level: LogLevel,
    /// Log prompts and messages too
    #[arg(long, help_heading = "Log")]
    pub(crate) log_prompts: bool,
}

#[derive(Debug, Args)]
#[command(next_help_heading = "Sparsity", allow_negative_numbers = true)]
pub(crate) struct VariantArgs {
    /// A plan, as the variant `plan`: a file, or a name from `fewron models`; `auto` takes the one beside
    /// the model. Several plans are called by the names of their files
    #[arg(long, value_name = "PLAN", value_delimiter = ',', value_parser = plan_file())]
    pub(crate) plan: Vec<PathBuf>,
    /// A policy for a variant of its own, such as `gate@0.5`
    #[arg(long, value_name = "POLICY", default_value_t = Policy::Dense)]
    pub(crate) policy: Policy,
    /// Share of each layer's MLP neurons that the policy switches off (0.5 where only a policy is
    /// given)
    #[arg(long, value_name = "R", value_parser = parse_ratio)]
    pub(crate) sparsity: Option<f32>,
    /// Shares of the requests that name no variant, such as dense=20,plan=80 (default: all go to the
    /// first sparse variant, if there is one)
    #[arg(long, value_name = "A=N,B=N", value_delimiter = ',', value_parser = parse_share)]
    pub(crate) ab: Vec<(String, f64)>,
}

impl VariantArgs {
    /// The plans that are given.
    pub(crate) fn plans(&self) -> Vec<&Path> {
        self.plan.iter().map(PathBuf::as_path).collect()
    }

    /// The policy as other commands have it.
    pub(crate) fn mask(&self) -> MaskArgs {
        MaskArgs { policy: self.policy, sparsity: self.sparsity, plan: None }
    }
}

#[derive(Debug, Args)]
#[command(next_help_heading = "Quality")]
pub(crate) struct GuardArgs {
    /// Share of the sparse answers that the dense model reads again while nothing else runs
    #[arg(long, value_name = "R", default_value = "0.1", value_parser = parse_ratio)]
    pub(crate) guard_sample: f32,
    /// A variant is served dense once it has the dense model's likeliest token less often than this
    #[arg(long, value_name = "A", value_parser = parse_ratio)]
    pub(crate) guard_agreement: Option<f32>,
    /// And once its divergence from the dense model is above this, in nats a token
    #[arg(long, value_name = "K", value_parser = super::values::parse_positive)]
    pub(crate) guard_kl: Option<f32>,
    /// Tokens that are read again before a variant is judged
    #[arg(long, value_name = "N", default_value = "256")]
    pub(crate) guard_tokens: NonZeroUsize,
}

#[derive(Debug, Args)]
#[command(next_help_heading = "Limits")]
pub(crate) struct LimitArgs {
    /// Answers that are written at once
    #[arg(long, value_name = "N", default_value = "64")]
    pub(crate) max_running: NonZeroUsize,
    /// Requests that wait for a place; more are refused with status 429
    #[arg(long, value_name = "N", default_value = "256")]
    pub(crate) queue: NonZeroUsize,
    /// Memory for keys and values in MB (of 1,000,000 bytes), those of shared prompts included
    #[arg(long, value_name = "MB", default_value = "1000")]
    pub(crate) kv_budget: NonZeroUsize,
    /// Type of the keys and values that are kept
    #[arg(long, value_name = "TYPE", default_value_t = KvType::F16)]
    pub(crate) kv_type: KvType,
    /// Tokens of prompts that are read beside each token of the running answers
    #[arg(long, value_name = "N", default_value = "32")]
    pub(crate) prefill_chunk: NonZeroUsize,
    /// Longest time of a request in seconds
    #[arg(long, value_name = "SECONDS", default_value = "600")]
    pub(crate) timeout: NonZeroUsize,
    /// Time for running answers to end after Ctrl-C, in seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 30)]
    pub(crate) drain_timeout: u64,
}

#[derive(Debug, Args)]
#[command(next_help_heading = "Network")]
pub(crate) struct NetworkArgs {
    /// Address to listen on; one that others reach needs a key
    #[arg(long, value_name = "HOST", default_value = "127.0.0.1")]
    pub(crate) host: String,
    /// Port to listen on; 0 is any free one
    #[arg(long, value_name = "PORT", default_value_t = 8080)]
    pub(crate) port: u16,
    /// What clients must show as `Authorization: Bearer KEY`
    #[arg(long, value_name = "KEY", env = "FEWRON_API_KEY", hide_env_values = true)]
    pub(crate) api_key: Option<String>,
    /// The file that holds the key, which others can then not see among the processes
    #[arg(long, value_name = "FILE")]
    pub(crate) api_key_file: Option<PathBuf>,
    /// Let everyone in who reaches the address
    #[arg(long)]
    pub(crate) insecure_no_key: bool,
    /// Name of this machine that clients without a key may use besides localhost
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    pub(crate) allow_host: Vec<String>,
    /// Web pages that may use the server, by their origin such as `https://example.org`
    #[arg(long, value_name = "ORIGIN", value_delimiter = ',', value_parser = parse_origin)]
    pub(crate) cors_origin: Vec<String>,
    /// Longest request in MB (of 1,000,000 bytes)
    #[arg(long, value_name = "MB", default_value = "8")]
    pub(crate) max_body: NonZeroUsize,
    /// Connections that are open at once; beyond it the longest idle one is closed
    #[arg(long, value_name = "N", default_value = "512")]
    pub(crate) max_connections: NonZeroUsize,
}

/// How much is logged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum LogLevel {
    /// Nothing
    Off,
    /// What failed
    Error,
    /// And what is odd
    Warn,
    /// And a line for each request
    Info,
    /// And more
    Debug,
    /// Everything
    Trace,
}

/// A variant and its share of the requests, `plan=80`.
fn parse_share(text: &str) -> Result<(String, f64), String> {
    let share = text.rsplit_once('=').and_then(|(name, share)| {
        let share: f64 = share.trim().trim_end_matches('%').parse().ok()?;
        (share.is_finite() && share > 0.0).then(|| (name.trim().to_owned(), share))
    });
    share.ok_or_else(|| format!("`{text}` is no share; write VARIANT=NUMBER, such as plan=80"))
}

/// A scheme and a host, without a path.
fn parse_origin(text: &str) -> Result<String, String> {
    let host = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://"));
    match host {
        Some(host) if !host.is_empty() && !host.contains(['/', '*', ' ']) => Ok(text.to_owned()),
        _ => Err(format!("`{text}` is no origin; write https://HOST or http://HOST:PORT")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares() {
        assert_eq!(parse_share("plan=80"), Ok(("plan".to_owned(), 80.0)));
        assert_eq!(parse_share("gate@0.5=20%"), Ok(("gate@0.5".to_owned(), 20.0)));
        for wrong in ["plan", "plan=", "plan=0", "plan=-1", "plan=inf", "80"] {
            assert!(parse_share(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn origins() {
        assert!(parse_origin("https://example.org").is_ok());
        for wrong in ["*", "example.org", "https://", "https://a/b", "https://*.example.org"] {
            assert!(parse_origin(wrong).is_err(), "{wrong}");
        }
    }
}
