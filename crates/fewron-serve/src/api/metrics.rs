//! `/metrics`: counts for Prometheus.

use axum::extract::State;
use axum::http::HeaderValue;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, MetricEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;
use std::fmt;

use super::Shared;
use crate::engine::{Engine, Percentiles, Status, VariantStatus};

/// Counts of the server as OpenMetrics text.
#[utoipa::path(
    get, path = "/metrics", tag = "Server",
    responses((status = 200, content_type = "application/openmetrics-text", body = String))
)]
pub(super) async fn metrics(State(app): State<Shared>) -> Response {
    let mut response = app.traffic.text().into_response();
    let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    response
}

/// Counts of the engine, read when they are asked for.
pub(super) struct OfEngine(Engine);

impl OfEngine {
    pub(super) fn new(engine: Engine) -> Self {
        Self(engine)
    }
}

impl fmt::Debug for OfEngine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("OfEngine")
    }
}

impl Collector for OfEngine {
    fn encode(&self, encoder: DescriptorEncoder) -> fmt::Result {
        let status = self.0.status();
        let mut writer = Writer(encoder);
        of_server(&status, &mut writer)?;
        of_variants(&status.variants, &mut writer)
    }
}

/// Writes families of counts.
struct Writer<'a>(DescriptorEncoder<'a>);

impl Writer<'_> {
    fn gauge(&mut self, name: &str, help: &str, value: f64) -> fmt::Result {
        self.family(name, help, MetricType::Gauge, |mut encoder| encoder.encode_gauge(&value))
    }

    fn counter(&mut self, name: &str, help: &str, value: u64) -> fmt::Result {
        self.family(name, help, MetricType::Counter, |mut encoder| {
            encoder.encode_counter::<NoLabelSet, _, u64>(&value, None)
        })
    }

    fn family(
        &mut self,
        name: &str,
        help: &str,
        kind: MetricType,
        write: impl FnOnce(MetricEncoder) -> fmt::Result,
    ) -> fmt::Result {
        write(self.0.encode_descriptor(name, help, None, kind)?)
    }

    /// One number of each variant.
    fn by_variant(
        &mut self,
        name: &str,
        help: &str,
        variants: &[VariantStatus],
        value: impl Fn(&VariantStatus) -> Option<f64>,
    ) -> fmt::Result {
        let mut encoder = self.0.encode_descriptor(name, help, None, MetricType::Gauge)?;
        for variant in variants {
            let Some(value) = value(variant) else { continue };
            let labels = [("variant", variant.name.as_str())];
            encoder.encode_family(&labels)?.encode_gauge(&value)?;
        }
        Ok(())
    }

    /// One count of each variant.
    fn count_by_variant(
        &mut self,
        name: &str,
        help: &str,
        variants: &[VariantStatus],
        value: impl Fn(&VariantStatus) -> u64,
    ) -> fmt::Result {
        let mut encoder = self.0.encode_descriptor(name, help, None, MetricType::Counter)?;
        for variant in variants {
            let labels = [("variant", variant.name.as_str())];
            let mut encoder = encoder.encode_family(&labels)?;
            encoder.encode_counter::<NoLabelSet, _, u64>(&value(variant), None)?;
        }
        Ok(())
    }

    /// Percentiles of each variant.
    fn quantiles(
        &mut self,
        name: &str,
        help: &str,
        variants: &[VariantStatus],
        value: impl Fn(&VariantStatus) -> Percentiles,
    ) -> fmt::Result {
        let mut encoder = self.0.encode_descriptor(name, help, None, MetricType::Gauge)?;
        for variant in variants {
            let Percentiles { p50, p90, p99, count } = value(variant);
            if count == 0 {
                continue;
            }
            for (quantile, ms) in [("0.5", p50), ("0.9", p90), ("0.99", p99)] {
                let labels = [("variant", variant.name.as_str()), ("quantile", quantile)];
                encoder.encode_family(&labels)?.encode_gauge(&(ms / 1e3))?;
            }
        }
        Ok(())
    }
}

fn of_server(status: &Status, to: &mut Writer) -> fmt::Result {
    let Status { load, totals, memory, .. } = status;
    to.counter("requests", "Requests taken on", totals.requests)?;
    to.counter("requests_finished", "Requests answered whole", totals.finished)?;
    to.counter("requests_cancelled", "Requests whose client went away", totals.cancelled)?;
    to.counter("requests_failed", "Requests that failed or took too long", totals.failed)?;
    to.counter("requests_refused", "Requests not taken on", totals.refused)?;
    to.counter("prompt_tokens", "Tokens of prompts", totals.prompt_tokens)?;
    to.counter("prompt_tokens_reused", "Tokens of prompts known already", totals.reused_tokens)?;
    to.counter("answer_tokens", "Tokens of answers", totals.answer_tokens)?;
    to.gauge("requests_running", "Requests at work", load.running as f64)?;
    to.gauge("requests_waiting", "Requests in the queue", load.waiting as f64)?;
    to.gauge("draining", "1 while nothing new is taken on", f64::from(u8::from(load.draining)))?;
    to.gauge("uptime_seconds", "Time since the start", status.uptime_s)?;
    to.gauge("decode_tokens_per_second", "Of the last seconds", status.decode_tok_s)?;
    to.gauge("prefill_tokens_per_second", "Of the last seconds", status.prefill_tok_s)?;
    to.gauge("resident_bytes", "Memory of the process", memory.resident_bytes as f64)?;
    to.gauge("kv_running_bytes", "Keys and values at work", memory.kv_running_bytes as f64)?;
    to.gauge("kv_prefix_bytes", "Keys and values kept", memory.kv_prefix_bytes as f64)?;
    to.gauge("kv_limit_bytes", "Most keys and values", memory.kv_limit_bytes as f64)
}

fn of_variants(all: &[VariantStatus], to: &mut Writer) -> fmt::Result {
    let quality = |variant: &VariantStatus| variant.quality.clone().filter(|q| q.tokens > 0);
    to.count_by_variant("variant_requests", "Requests taken on", all, |v| v.requests)?;
    to.count_by_variant("variant_answer_tokens", "Tokens of answers", all, |v| v.answer_tokens)?;
    to.by_variant("variant_active", "Share of neurons that ran", all, |v| Some(v.active))?;
    let fallen = |v: &VariantStatus| Some(f64::from(u8::from(v.fallen_back)));
    to.by_variant("variant_fallen_back", "1 while it is served dense", all, fallen)?;
    let agreement = |v: &VariantStatus| quality(v).map(|quality| quality.agreement.mean);
    to.by_variant("variant_agreement", "Tokens that are the dense ones", all, agreement)?;
    let kl = |v: &VariantStatus| quality(v).map(|quality| quality.kl.mean);
    to.by_variant("variant_kl_nats", "Divergence from dense, a token", all, kl)?;
    let name = "variant_first_token_seconds";
    to.quantiles(name, "From request to first token", all, |v| v.latency.first_token_ms)?;
    let name = "variant_inter_token_seconds";
    to.quantiles(name, "From token to token", all, |v| v.latency.inter_token_ms)
}
