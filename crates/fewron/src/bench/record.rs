//! The results of a bench: the JSON contract.

use fewron_eval::record::ModelRecord;
use serde::Serialize;

use super::bandwidth::Bandwidth;
use super::energy::modelled_joules;
use super::llama_cpp::About;
use super::runner::{Contestant, Phase, Series};
use super::statistics::{Summary, median, paired_ratio};
use super::variant::Cost;

/// Everything that a bench found out.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct BenchRun {
    pub(crate) version: String,
    pub(crate) command: String,
    pub(crate) finished_at: String,
    pub(crate) cpu: String,
    pub(crate) threads: usize,
    pub(crate) isa: String,
    pub(crate) model: ModelRecord,
    /// Type of the keys and values.
    pub(crate) kv_type: &'static str,
    /// Whether decoding computed every logit exactly.
    pub(crate) exact_head: bool,
    /// Memory for weights, where it is limited.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) resident_budget_bytes: Option<usize>,
    pub(crate) repetitions: usize,
    pub(crate) seed: u64,
    pub(crate) bandwidth_bytes_s: f64,
    pub(crate) bandwidth_buffer_bytes: u64,
    /// The same over a buffer as large as the weights of a token, which may fit a cache.
    pub(crate) working_set_bandwidth_bytes_s: f64,
    pub(crate) results: Vec<VariantRecord>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) llama_cpp: Option<LlamaCppRecord>,
}

/// Results of one variant.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct VariantRecord {
    pub(crate) name: String,
    /// Median; only of the dense model, since prompts run dense.
    pub(crate) prefill_tok_s: Option<f64>,
    /// Median at the first KV length.
    pub(crate) decode_tok_s: Option<f64>,
    /// Weights that a decoded token reads.
    pub(crate) bytes_per_token: u64,
    /// Operations of a decoded token at the first KV length.
    pub(crate) flops_per_token: u64,
    /// Of reading and multiplying, by a model; only where the machine measures no energy.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) modelled_joules_per_token: Option<f64>,
    /// Of the process, which all variants share.
    pub(crate) peak_rss_bytes: Option<u64>,
    /// Share of MLP neurons that ran.
    pub(crate) active_fraction: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) prefill: Option<Speed>,
    pub(crate) decode: Vec<Speed>,
}

/// Results of llama.cpp on the same file.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct LlamaCppRecord {
    /// Of llama-cpp-python.
    pub(crate) version: String,
    pub(crate) system_info: String,
    pub(crate) prefill_tok_s: Option<f64>,
    pub(crate) decode_tok_s: Option<f64>,
    /// Of its process, Python included.
    pub(crate) peak_rss_bytes: Option<u64>,
    /// Of Python alone, before it loaded the model.
    pub(crate) base_rss_bytes: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) prefill: Option<Speed>,
    pub(crate) decode: Vec<Speed>,
}

/// How fast one contestant was in one phase.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Speed {
    /// Tokens in the KV cache at the start; absent for prefill.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) kv_length: Option<usize>,
    /// Tokens of each repetition.
    pub(crate) tokens: usize,
    /// Median time from the prompt to the logits of its next token; prefill only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) time_to_first_token_s: Option<f64>,
    /// Of each repetition.
    pub(crate) tok_s: Vec<f64>,
    #[serde(flatten)]
    pub(crate) summary: Summary,
    /// Median of paired ratios.
    pub(crate) ratio_to_dense: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) ratio_to_llama_cpp: Option<f64>,
    /// Weight bytes per second over the memory bandwidth; decoding only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) fraction_of_floor: Option<f64>,
    /// Median, of the whole machine.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) joules_per_token: Option<f64>,
    /// Resident memory of the process after a repetition, median.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) resident_bytes: Option<u64>,
    /// Page faults that memory or the page cache could serve, median.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) minor_faults_per_token: Option<f64>,
    /// Page faults that read from the disk, median.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) major_faults_per_token: Option<f64>,
}

/// All series of a bench, by phase.
#[derive(Default)]
pub(crate) struct Measured {
    pub(crate) phases: Vec<(Phase, Vec<Series>)>,
    pub(crate) bandwidth: Bandwidth,
    /// Over a buffer as large as the weights of a token.
    pub(crate) working_set: Bandwidth,
    pub(crate) peak_rss_bytes: Option<u64>,
}

impl Measured {
    /// How fast a contestant read prompts and decoded. `bytes_per_token` are the weights that it
    /// reads for a token.
    pub(crate) fn speeds(
        &self,
        contestant: Contestant,
        bytes_per_token: f64,
    ) -> (Option<Speed>, Vec<Speed>) {
        let of = |(phase, series): &(Phase, Vec<Series>)| {
            self.speed(*phase, series, contestant, bytes_per_token)
        };
        let all = self.phases.iter().filter_map(of);
        let (prefill, decode): (Vec<_>, Vec<_>) = all.partition(|speed| speed.kv_length.is_none());
        (prefill.into_iter().next(), decode)
    }

    fn speed(
        &self,
        phase: Phase,
        all: &[Series],
        contestant: Contestant,
        bytes_per_token: f64,
    ) -> Option<Speed> {
        let find = |wanted| all.iter().find(|series| series.contestant == wanted);
        let own = find(contestant)?;
        let summary = Summary::of(&own.tok_s)?;
        let ratio_to = |other| paired_ratio(&own.tok_s, &find(other)?.tok_s);
        let kv_length = match phase {
            Phase::Prefill { .. } => None,
            Phase::Decode { kv_length, .. } => Some(kv_length),
        };
        let used = bytes_per_token * summary.median / self.bandwidth.bytes_s;
        Some(Speed {
            kv_length,
            tokens: phase.tokens(),
            time_to_first_token_s: kv_length
                .is_none()
                .then(|| phase.tokens() as f64 / summary.median),
            tok_s: own.tok_s.clone(),
            summary,
            ratio_to_dense: ratio_to(Contestant::Own(0)),
            ratio_to_llama_cpp: ratio_to(Contestant::LlamaCpp),
            fraction_of_floor: kv_length.map(|_| used),
            joules_per_token: median(&own.joules_per_token),
            resident_bytes: median(&own.resident_bytes).map(|bytes| bytes as u64),
            minor_faults_per_token: median(&own.faults_per_token[0]),
            major_faults_per_token: median(&own.faults_per_token[1]),
        })
    }

    /// The record of a variant.
    pub(crate) fn variant(&self, index: usize, name: &str, cost: Cost) -> VariantRecord {
        let (prefill, decode) = self.speeds(Contestant::Own(index), cost.bytes);
        let measured = decode.iter().any(|speed| speed.joules_per_token.is_some());
        let modelled = (!measured).then(|| modelled_joules(cost.bytes, cost.flops));
        VariantRecord {
            name: name.to_owned(),
            prefill_tok_s: prefill.as_ref().map(|speed| speed.summary.median),
            decode_tok_s: decode.first().map(|speed| speed.summary.median),
            bytes_per_token: cost.bytes.round() as u64,
            flops_per_token: cost.flops.round() as u64,
            modelled_joules_per_token: modelled,
            peak_rss_bytes: self.peak_rss_bytes,
            active_fraction: cost.active,
            prefill,
            decode,
        }
    }

    /// The record of llama.cpp, which reads all weights for a token.
    pub(crate) fn llama_cpp(
        &self,
        about: &About,
        bytes_per_token: f64,
        peak_rss_bytes: Option<u64>,
    ) -> LlamaCppRecord {
        let (prefill, decode) = self.speeds(Contestant::LlamaCpp, bytes_per_token);
        LlamaCppRecord {
            version: about.version.clone(),
            system_info: about.system_info.clone(),
            prefill_tok_s: prefill.as_ref().map(|speed| speed.summary.median),
            decode_tok_s: decode.first().map(|speed| speed.summary.median),
            peak_rss_bytes,
            base_rss_bytes: about.base_rss_bytes,
            prefill,
            decode,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn series(contestant: Contestant, tok_s: [f64; 3]) -> Series {
        let joules_per_token = vec![0.2, 0.1, 0.3];
        Series { tok_s: tok_s.to_vec(), joules_per_token, ..Series::new(contestant) }
    }

    #[test]
    fn ratios_are_those_of_one_phase() {
        let decode = |kv_length, faster: f64| {
            let all = vec![
                series(Contestant::Own(0), [100.0, 110.0, 10.0]),
                series(Contestant::Own(1), [100.0 * faster, 110.0 * faster, 15.0]),
                series(Contestant::LlamaCpp, [50.0, 55.0, 5.0]),
            ];
            (Phase::Decode { kv_length, tokens: 8 }, all)
        };
        let prompt = vec![series(Contestant::Own(0), [1.0, 2.0, 3.0])];
        let measured = Measured {
            phases: vec![(Phase::Prefill { tokens: 32 }, prompt), decode(0, 1.5), decode(512, 2.0)],
            bandwidth: Bandwidth { bytes_s: 1e9, buffer_bytes: 1 },
            ..Measured::default()
        };
        let cost = |active, bytes| Cost { active, bytes, flops: 8e6 };
        let dense = measured.variant(0, "dense", cost(1.0, 4e6));
        assert_eq!((dense.prefill_tok_s, dense.decode_tok_s), (Some(2.0), Some(100.0)));
        let prefill = dense.prefill.unwrap();
        assert_eq!((prefill.fraction_of_floor, prefill.time_to_first_token_s), (None, Some(16.0)));
        assert_eq!((dense.flops_per_token, dense.modelled_joules_per_token), (8_000_000, None));
        let sparse = measured.variant(1, "random-0.5", cost(0.5, 2e6));
        assert!(sparse.prefill.is_none() && sparse.prefill_tok_s.is_none());
        let ratios = |at: usize| (sparse.decode[at].ratio_to_dense, sparse.decode[at].kv_length);
        assert_eq!((ratios(0), ratios(1)), ((Some(1.5), Some(0)), (Some(2.0), Some(512))));
        assert_eq!(sparse.decode[0].ratio_to_llama_cpp, Some(3.0));
        // 150 tokens/s of 2 MB each are 0.3 of 1 GB/s.
        assert!((sparse.decode[0].fraction_of_floor.unwrap() - 0.3).abs() < 1e-9);
        assert_eq!(sparse.decode[0].joules_per_token, Some(0.2));
    }
}
