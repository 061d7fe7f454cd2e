//! What `fewron neurons` prints.

use std::fmt::Write as _;

use comfy_table::{Cell, CellAlignment, Table, presets};
use fewron_eval::neurons::record::{
    Context, Kind, LayerRecord, MaskRecord, NeuronCard, NeuronRun, Overlap, TokenWeight,
};

/// The masks, which neurons stand out, and the neurons one by one where they were asked for.
pub(crate) fn summary(run: &NeuronRun, asked_for_neurons: bool) -> String {
    let mut text = format!("{}\n", masks(run));
    for overlap in &run.overlap {
        if let Some((mean, chance)) = mean(overlap.layers.iter()) {
            let kind = overlap.kind;
            let (a, b) = (&overlap.a, &overlap.b);
            let _ =
                writeln!(text, "{a} and {b} ({kind}): Jaccard {mean:.3}, by chance {chance:.3}");
        }
    }
    text.push_str(&categories(run));
    if asked_for_neurons {
        run.cards.iter().for_each(|card| text.push_str(&card_words(card)));
    }
    text
}

fn masks(run: &NeuronRun) -> String {
    let mut table = Table::new();
    table.load_style(presets::UTF8_HORIZONTAL_ONLY);
    table.set_header(["mask", "protocol", "kind", "kept", "hot", "never", "next token", "chance"]);
    for mask in &run.masks {
        for kind in Kind::ALL {
            let layers: Vec<&LayerRecord> = mask.layers.iter().filter(|l| l.kind == kind).collect();
            if !layers.is_empty() {
                table.add_row(mask_row(run, mask, kind, &layers));
            }
        }
    }
    table.to_string()
}

fn mask_row(run: &NeuronRun, mask: &MaskRecord, kind: Kind, layers: &[&LayerRecord]) -> Vec<Cell> {
    let width = if kind == Kind::Mlp { run.neurons } else { run.heads };
    let all = (layers.len() * width) as f64;
    let share = |value: fn(&LayerRecord) -> usize| {
        percent(layers.iter().map(|layer| value(layer)).sum::<usize>() as f64 / all)
    };
    let kept = layers.iter().map(|layer| layer.kept).sum::<f64>() / layers.len() as f64;
    let stability = mean(layers.iter().map(|layer| &layer.stability));
    let number = |value: Option<f64>| value.map_or_else(|| "–".to_owned(), |v| format!("{v:.3}"));
    let right = |text: String| Cell::new(text).set_alignment(CellAlignment::Right);
    vec![
        Cell::new(&mask.name),
        Cell::new(&mask.protocol),
        Cell::new(kind),
        right(percent(kept)),
        right(share(|layer| layer.hot)),
        right(share(|layer| layer.dead)),
        right(number(stability.map(|(mean, _)| mean))),
        right(number(stability.map(|(_, chance)| chance))),
    ]
}

/// Means over the layers of an overlap, and of what chance gives.
fn mean<'a>(layers: impl Iterator<Item = &'a Overlap>) -> Option<(f64, f64)> {
    let known: Vec<(f64, f64)> = layers.filter_map(|o| Some((o.jaccard?, o.chance?))).collect();
    let sum = known.iter().fold((0.0, 0.0), |(a, b), (x, y)| (a + x, b + y));
    let count = known.len() as f64;
    (!known.is_empty()).then_some((sum.0 / count, sum.1 / count))
}

/// A line for each mask and kind: in which categories units stand out.
fn categories(run: &NeuronRun) -> String {
    let mut text = String::new();
    for mask in &run.masks {
        for kind in Kind::ALL {
            let tested = || mask.specificity.iter().filter(|category| category.kind == kind);
            let found = tested().filter(|category| category.significant > 0);
            let found: Vec<String> =
                found.map(|c| format!("{} ({})", c.category, c.significant)).collect();
            if tested().next().is_some() {
                let colon = if found.is_empty() { "" } else { ": " };
                let _ = writeln!(
                    text,
                    "{} ({kind}): units stand out in {} of {} categories{colon}{}",
                    mask.name,
                    found.len(),
                    tested().count(),
                    found.join(", ")
                );
            }
        }
    }
    match (text.is_empty(), run.categories.is_empty()) {
        (false, _) => text,
        (true, true) => "the data names no categories\n".to_owned(),
        (true, false) => "no category has enough answers to be tested\n".to_owned(),
    }
}

fn card_words(card: &NeuronCard) -> String {
    let mut text = format!(
        "\nlayer {}, neuron {}: output {:+.3}, size {:.3}",
        card.layer, card.neuron, card.output, card.output_abs
    );
    for mask in &card.masks {
        let _ = write!(text, "; kept by {} {}", mask.name, percent(mask.kept));
        if let Some(score) = mask.score {
            let _ = write!(text, ", mean |score| {score:.2e}");
        }
    }
    text.push('\n');
    for (mask, category) in card.masks.iter().flat_map(|m| m.categories.iter().map(move |c| (m, c)))
    {
        let _ = writeln!(
            text,
            "  stands out in {} ({}): kept {} inside, {} elsewhere (z {:+.1}, p {:.3})",
            category.category,
            mask.name,
            percent(category.inside),
            percent(category.outside),
            category.z,
            category.p
        );
    }
    card.contexts.iter().for_each(|context| text.push_str(&context_words(context)));
    let _ = writeln!(text, "  promotes   {}", tokens(&card.promoted));
    let _ = writeln!(text, "  suppresses {}", tokens(&card.suppressed));
    text
}

/// The text around a token, which stands in brackets.
fn context_words(context: &Context) -> String {
    let line = |text: &str| text.replace(['\n', '\r'], "↵");
    format!(
        "  {:+8.2}  {}[{}]{}\n",
        context.output,
        line(&context.before),
        line(&context.token),
        line(&context.after)
    )
}

fn tokens(tokens: &[TokenWeight]) -> String {
    let shown = tokens.iter().map(|token| format!("{:?}", token.text));
    shown.collect::<Vec<_>>().join(" ")
}

fn percent(share: f64) -> String {
    format!("{:.1}%", 100.0 * share)
}
