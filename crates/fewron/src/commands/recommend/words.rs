//! Advice in words.

use comfy_table::{Cell, CellAlignment, Table, presets};
use fewron_eval::recommend::Candidate;

use super::Record;
use crate::ui::show_bytes;

/// The advice, what it costs, and what else there is.
pub(super) fn of(record: &Record) -> String {
    let run = &record.advice.run;
    let mut lines = vec![
        format!("{}: run {}, {}", record.model, run.name, reason(record)),
        format!("  {}", cost(record.metric, run)),
    ];
    if let Some(bytes) = run.bytes_per_token {
        let bytes = show_bytes(bytes);
        lines.push(format!("  {bytes} of weights per token{}", speed(record, run)));
    }
    if let Some(bytes) = record.memory_bytes {
        lines.push(format!("  {} of weights in memory", show_bytes(bytes as f64)));
    }
    match &record.advice.knee {
        Some(knee) if knee != run => lines.push(format!("The knee of the curve is {}.", knee.name)),
        Some(_) => {}
        None => lines.push("The curve has no knee: it does not bend.".to_owned()),
    }
    if record.protocol == "oracle" {
        lines.push(
            "These masks know the answer: no running model can have them; measure with --protocol runtime."
                .to_owned(),
        );
    }
    lines.push("What nothing else beats in both:".to_owned());
    lines.push(table(record));
    lines.join("\n")
}

fn reason(record: &Record) -> &'static str {
    let target = &record.target;
    match (target.max_loss, target.min_tok_s.or(target.min_speedup)) {
        (Some(_), _) => "the smallest that loses no more than allowed",
        (None, Some(_)) => "the one that loses least at that speed",
        (None, None) if record.advice.knee.is_some() => "the knee of the curve",
        (None, None) => "the smallest",
    }
}

fn cost(metric: &str, run: &Candidate) -> String {
    let off = 100.0 * run.sparsity;
    format!("{off:.0}% of the MLP neurons off; loss of {metric}: {}", loss(metric, run.loss))
}

fn loss(metric: &str, loss: f64) -> String {
    match metric {
        "kl" => format!("{loss:.4} nats"),
        _ => format!("{:.2}%", 100.0 * loss),
    }
}

fn speed(record: &Record, run: &Candidate) -> String {
    let (Some(times), Some(tok_s), Some(speed)) = (run.speedup, run.tok_s, &record.speed) else {
        return String::new();
    };
    let most = match speed.from {
        "bench" => "about",
        _ => "at most",
    };
    let bandwidth = speed.bandwidth_bytes_s / 1e9;
    format!(", {most} {tok_s:.1} tokens/s at {bandwidth:.1} GB/s, {times:.2} times the dense speed")
}

fn table(record: &Record) -> String {
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    for candidate in &record.advice.front {
        let bytes = candidate.bytes_per_token.map(show_bytes);
        let times = candidate.speedup.map(|times| format!("{times:.2}x"));
        let numbers = [
            Some(format!("{:.0}% off", 100.0 * candidate.sparsity)),
            Some(loss(record.metric, candidate.loss)),
            bytes,
            times,
        ];
        let numbers = numbers.into_iter().flatten();
        let right = |text| Cell::new(text).set_alignment(CellAlignment::Right);
        table.add_row(std::iter::once(Cell::new(&candidate.name)).chain(numbers.map(right)));
    }
    table.lines().map(|line| format!(" {}", line.trim_end())).collect::<Vec<_>>().join("\n")
}
