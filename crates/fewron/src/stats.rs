//! What an answer cost: tokens, speed, active neurons, bytes, memory.

use std::fmt;
use std::fs;
use std::time::Duration;

use crate::ui::show_bytes;

/// Counts and times of one answer.
#[derive(Clone, Debug, Default)]
pub(crate) struct Stats {
    /// Tokens of the prompt.
    pub(crate) prompt_tokens: usize,
    /// Those of them that were in the KV cache already.
    pub(crate) reused_tokens: usize,
    /// Time for the others.
    pub(crate) prefill: Duration,
    /// Tokens of the answer.
    pub(crate) answer_tokens: usize,
    /// Tokens that were run one by one: all of the answer but the first, and an end token.
    pub(crate) decoded_tokens: usize,
    /// Time for these.
    pub(crate) decode: Duration,
    /// Some of the tokens once more without the mask, and their time.
    pub(crate) dense: Option<(usize, Duration)>,
    /// Share of MLP neurons that ran at masked tokens.
    pub(crate) active: Option<f64>,
    /// Weight bytes that a dense token reads.
    pub(crate) dense_bytes: f64,
    /// Weight bytes that a masked token reads.
    pub(crate) sparse_bytes: Option<f64>,
}

impl fmt::Display for Stats {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let run = self.prompt_tokens - self.reused_tokens;
        write!(f, "prompt   {} tokens", self.prompt_tokens)?;
        if self.reused_tokens > 0 {
            write!(f, " ({} known)", self.reused_tokens)?;
        }
        writeln!(f, "{}", speed(run, self.prefill))?;
        let answer = speed(self.decoded_tokens, self.decode);
        write!(f, "answer   {} tokens{answer}", self.answer_tokens)?;
        if let Some((tokens, time)) = self.dense {
            write!(f, "; {:.1} tokens/s dense", tokens as f64 / time.as_secs_f64())?;
        }
        writeln!(f)?;
        if let Some(active) = self.active {
            writeln!(f, "active   {:.1}% of the MLP neurons", 100.0 * active)?;
        }
        write!(f, "weights  {} per token", show_bytes(self.dense_bytes))?;
        if let Some(sparse) = self.sparse_bytes {
            let saved = 100.0 * (1.0 - sparse / self.dense_bytes);
            write!(f, " dense, {} sparse ({saved:.1}% less)", show_bytes(sparse))?;
        }
        match peak_memory_bytes() {
            Some(bytes) => write!(f, "\nmemory   {} at most", show_bytes(bytes as f64)),
            None => Ok(()),
        }
    }
}

fn speed(tokens: usize, time: Duration) -> String {
    if tokens == 0 || time.is_zero() {
        return String::new();
    }
    format!(", {:.1} tokens/s", tokens as f64 / time.as_secs_f64())
}

/// The most resident memory this process has had, where the system tells (Linux: `VmHWM`).
pub(crate) fn peak_memory_bytes() -> Option<u64> {
    peak_memory_bytes_of("self")
}

/// Makes [`peak_memory_bytes`] start anew from what is resident now; whether the system can do that
/// (Linux: `clear_refs`).
pub(crate) fn forget_peak_memory() -> bool {
    fs::write("/proc/self/clear_refs", "5").is_ok()
}

/// [`peak_memory_bytes`] of another process, by its id.
pub(crate) fn peak_memory_bytes_of(process: &str) -> Option<u64> {
    status_bytes(process, "VmHWM:")
}

/// Resident memory of this process, anonymous and of files, where the system tells (Linux: `VmRSS`).
pub(crate) fn resident_bytes() -> Option<u64> {
    status_bytes("self", "VmRSS:")
}

/// Minor and major page faults of this process so far, where the system tells (Linux).
pub(crate) fn page_faults() -> Option<[u64; 2]> {
    let stat = fs::read_to_string("/proc/self/stat").ok()?;
    // The name before them may hold spaces, but ends with the last parenthesis.
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    Some([fields.get(7)?.parse().ok()?, fields.get(9)?.parse().ok()?])
}

fn status_bytes(process: &str, name: &str) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{process}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix(name))?;
    let kib: u64 = line.trim().strip_suffix(" kB")?.parse().ok()?;
    Some(kib * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn says_only_what_was_measured() {
        let dense = Stats {
            prompt_tokens: 30,
            reused_tokens: 10,
            prefill: Duration::from_millis(200),
            answer_tokens: 1,
            dense_bytes: 96.6e6,
            ..Stats::default()
        };
        let text = dense.to_string();
        let start = "prompt   30 tokens (10 known), 100.0 tokens/s\nanswer   1 tokens\n\
                     weights  96.6 MB per token";
        assert!(text.starts_with(start), "{text}");
        let sparse = Stats { active: Some(0.5), sparse_bytes: Some(72.45e6), ..dense };
        let text = sparse.to_string();
        assert!(text.contains("active   50.0% of the MLP neurons\n"), "{text}");
        assert!(text.contains("per token dense, 72.5 MB sparse (25.0% less)"), "{text}");
    }
}
