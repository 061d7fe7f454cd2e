//! Units that run together, and neurons one by one.

use fewron_eval::neurons::record::{
    CardMask, Context, Kind, NeuronCard, NeuronRun, Pair, TokenWeight,
};
use maud::{Markup, html};

use super::super::format::{number, percent};
use super::figure::{Data, cell, figure};
use super::{Drawn, panels, section};

/// Pairs of a mask in the table on the page; the file has all that the record has.
const SHOWN: usize = 20;

pub(super) fn sections(run: &NeuronRun, drawn: &mut Drawn) {
    if run.masks.iter().any(|mask| !mask.pairs.is_empty()) {
        let content = pairs(run, drawn);
        drawn.sections.push(("pairs", "Pairs", section("pairs", "What runs together", &content)));
    }
    if !run.cards.is_empty() {
        let content = cards(run, drawn);
        drawn.sections.push(("cards", "Neurons", section("cards", "Neuron by neuron", &content)));
    }
}

fn pairs(run: &NeuronRun, drawn: &mut Drawn) -> Markup {
    let mut data = Data::new("pairs", &["mask", "kind", "layer", "a", "b", "both", "lift", "phi"]);
    for mask in &run.masks {
        for pair in &mask.pairs {
            data.push(vec![
                mask.name.as_str().into(),
                pair.kind.name().into(),
                pair.layer.into(),
                pair.a.into(),
                pair.b.into(),
                pair.both.into(),
                cell(Some(pair.lift)),
                cell(Some(pair.phi)),
            ]);
        }
    }
    let picture = panels(run, |mask| {
        let mut strongest: Vec<&Pair> = mask.pairs.iter().collect();
        strongest.sort_by(|a, b| b.phi.abs().total_cmp(&a.phi.abs()));
        html! {
            div.scroll.tall tabindex="0" role="region" aria-label={ "Units that run together, " (mask.name) } {
                table {
                    caption.unseen { "Units that run together, by " (mask.name) }
                    thead { tr { @for name in ["Units", "Layer", "Tokens with both", "Lift", "φ"] { th scope="col" { (name) } } } }
                    tbody { @for pair in strongest.into_iter().take(SHOWN) {
                        tr {
                            th scope="row" { (if pair.kind == Kind::Head { "heads" } else { "neurons" }) " " (pair.a) " and " (pair.b) }
                            td { (pair.layer) } td { (pair.both) }
                            td { (number(pair.lift)) } td { (format!("{:+.3}", pair.phi)) }
                        }
                    } }
                }
            }
        }
    });
    let note = "The strongest pairs of all layers by |φ|, the correlation of “is kept” of two units of a \
                layer, among the 256 units of each layer that vary most. Lift is how much more often both \
                are kept than two independent units would be; a negative φ means that one stands in for \
                the other.";
    let figure = figure("Which units run together?", &data, false, &picture, note);
    drawn.tables.push(data);
    figure
}

fn cards(run: &NeuronRun, drawn: &mut Drawn) -> Markup {
    let columns = ["layer", "neuron", "output", "sample", "before", "token", "after"];
    let mut data = Data::new("contexts", &columns);
    for card in &run.cards {
        for context in &card.contexts {
            data.push(vec![
                card.layer.into(),
                card.neuron.into(),
                cell(Some(context.output)),
                context.sample.into(),
                context.before.as_str().into(),
                context.token.as_str().into(),
                context.after.as_str().into(),
            ]);
        }
    }
    let picture = html! { div.cards { @for neuron in &run.cards { (card(neuron)) } } };
    let note = "Contexts are the steps with the largest output by size, at most one of each answer; the \
                token that the model read is marked. Promoted and suppressed tokens are those whose logits \
                a positive output moves most: products of the output head with the neuron’s row of the \
                down projection, without the last norm (Geva et al., arXiv 2012.14913). Where the output \
                is negative the two lists change places.";
    let figure = figure(
        "What do these neurons react to, and what do they promote?",
        &data,
        false,
        &picture,
        note,
    );
    drawn.tables.push(data);
    figure
}

fn card(card: &NeuronCard) -> Markup {
    html! {
        article.card aria-label={ "Layer " (card.layer) ", neuron " (card.neuron) } {
            h4 { "Layer " (card.layer) " · neuron " (card.neuron) }
            dl.pairs {
                @for mask in &card.masks { div { dt { "kept by " (mask.name) } dd { (percent(mask.kept, 1)) } } }
                div { dt { "mean output" } dd { (number(card.output)) } }
                div { dt { "mean size" } dd { (number(card.output_abs)) } }
            }
            @for mask in &card.masks { (stands_out(mask)) }
            @if card.contexts.is_empty() { p.missing { "Its output was 0 at every token." } }
            ul.contexts { @for context in &card.contexts { (one_context(context)) } }
            (tokens("promotes", &card.promoted))
            (tokens("suppresses", &card.suppressed))
        }
    }
}

fn stands_out(mask: &CardMask) -> Markup {
    html! {
        @for category in mask.categories.iter().take(2) {
            p.stands-out {
                b { (category.category) } ": kept by " (mask.name) " at " (percent(category.inside, 0))
                " of its tokens, elsewhere " (percent(category.outside, 0))
                span.muted { " z " (format!("{:+.1}", category.z)) ", p " (format!("{:.3}", category.p)) }
            }
        }
    }
}

fn one_context(context: &Context) -> Markup {
    html! {
        li title=(context.question) {
            span.muted { (format!("{:+.2}", context.output)) } " "
            (context.before) mark { (context.token) } (context.after)
        }
    }
}

fn tokens(what: &str, tokens: &[TokenWeight]) -> Markup {
    html! {
        @if !tokens.is_empty() {
            p.tokens { span.muted { (what) } @for token in tokens { " " code title=(format!("{:+.3}", token.weight)) { (visible(&token.text)) } } }
        }
    }
}

/// A token with spaces and line breaks shown, and other control characters as escapes.
fn visible(text: &str) -> String {
    let shown = |letter: char| match letter {
        ' ' => "␣".to_owned(),
        '\n' => "↵".to_owned(),
        '\t' => "⇥".to_owned(),
        control if control.is_control() => control.escape_default().to_string(),
        other => other.to_string(),
    };
    text.chars().map(shown).collect()
}

#[cfg(test)]
mod tests {
    #[test]
    fn tokens_are_visible() {
        assert_eq!(super::visible(" a\n\u{c}b"), "␣a↵\\u{c}b");
    }
}
