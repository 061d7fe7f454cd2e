//! What a plan says about itself, in words: for `calibrate` and `inspect`.

use comfy_table::{Table, presets};
use fewron_sparsity::plan::record::{HeldOut, PlanRecord, Quality, RecoveryRecord};

use crate::ui::show_bytes;

/// Lines of a name and a value.
pub(crate) fn words(record: &PlanRecord) -> String {
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    for (name, value) in rows(record) {
        table.add_row([name, value]);
    }
    table.lines().map(|line| line.trim_end().to_owned()).collect::<Vec<_>>().join("\n")
}

/// A plan in one line: what it leaves out, and what that costs.
pub(crate) fn one_line(record: &PlanRecord) -> String {
    let off = format!("{}, {:.0}% off", record.policy, 100.0 * record.sparsity);
    let cost = record.held_out.as_ref().map(|h| {
        let (ratio, saved) = (h.perplexity_ratio(), saved(h));
        format!("; perplexity {ratio:.3} times the dense one, {saved} bytes")
    });
    off + &cost.unwrap_or_default()
}

/// By how much the bytes of a token are fewer than those of the dense model, or more.
fn saved(h: &HeldOut) -> String {
    let percent = 100.0 * (h.bytes_per_token / h.dense_bytes_per_token - 1.0);
    format!("{:.1}% {}", percent.abs(), if percent > 0.0 { "more" } else { "less" })
}

fn rows(record: &PlanRecord) -> Vec<(String, String)> {
    let mut rows = Vec::new();
    let mut row = |name: &str, value: String| rows.push((name.to_owned(), value));
    let by = match record.weighting.as_str() {
        "" => String::new(),
        weighting => format!(", scores weighted by {weighting}"),
    };
    let off = 100.0 * record.sparsity;
    row("model", record.model.name.clone());
    row("policy", format!("{}, {off:.0}% of the MLP neurons off{by}", record.policy));
    for (name, rank) in [("compensation", record.compensation), ("predictor", record.predictor)] {
        if rank > 0 {
            row(name, format!("rank {rank}"));
        }
    }
    if let Some(recall) = record.recall {
        row("recall", format!("{:.1}% of what attribution keeps", 100.0 * recall));
    }
    let from = &record.calibration;
    row("calibrated on", format!("{} tokens of {}", from.tokens, from.data));
    if let Some(held_out) = &record.held_out {
        held_out_rows(held_out, &mut row);
    }
    if let Some(recovery) = &record.recovery {
        recovery_rows(recovery, &mut row);
    }
    for compared in &record.compared {
        let kl = format!("KL {:.4} in the comparison of weightings", compared.kl);
        row(&format!("  {}", compared.weighting), kl);
    }
    if !record.layers.is_empty() {
        let share = |share: &f32| format!("{:.0}", 100.0 * share);
        let shares: Vec<String> = record.layers.iter().map(share).collect();
        row("off by layer", format!("{} %", shares.join(" ")));
    }
    rows
}

fn held_out_rows(h: &HeldOut, row: &mut impl FnMut(&str, String)) {
    let ratio = h.perplexity_ratio();
    row("held out", format!("{} tokens", h.tokens));
    row(
        "perplexity",
        format!("{:.3}, dense {:.3}: {ratio:.3} times", h.perplexity, h.dense_perplexity),
    );
    row("agreement", format!("{:.1}% of the tokens", 100.0 * h.agreement));
    row("KL", format!("{:.4} nats per token", h.kl));
    row("active", format!("{:.1}% of the MLP neurons", 100.0 * h.active));
    let (bytes, dense) = (show_bytes(h.bytes_per_token), show_bytes(h.dense_bytes_per_token));
    row("weights", format!("{bytes} per token, dense {dense} ({})", saved(h)));
}

fn recovery_rows(recovery: &RecoveryRecord, row: &mut impl FnMut(&str, String)) {
    let (steps, tokens) = (recovery.steps, recovery.tokens);
    row("recovered", format!("{steps} steps on {tokens} tokens that the model wrote"));
    if let Some(edits) = &recovery.edits {
        let share = 100.0 * edits.count as f64 / edits.codes.max(1) as f64;
        row("edits", format!("{} of {} codes ({share:.2}%)", edits.count, edits.codes));
    }
    let quality = |q: &Quality| format!("perplexity {:.3}, KL {:.4}", q.perplexity, q.kl);
    row("before", quality(&recovery.held_out.before));
    row("without mask", quality(&recovery.held_out.after_dense));
}
