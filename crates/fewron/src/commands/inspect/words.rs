//! The facts of a model in words.

use comfy_table::{Table, presets};
use fewron_model::{LayerConfig, ModelConfig, RopePairs};

use crate::ui::show_bytes;

use super::facts::{Facts, Token, TokenizerFacts};

/// The facts as lines of a name and a value.
pub(super) fn table(facts: &Facts) -> String {
    let c = &facts.config;
    let parameters = facts.parameters as f64 / 1e6;
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    let mut row = |name: &str, value: String| {
        table.add_row([name.to_owned(), value]);
    };
    row("model", facts.name.clone());
    row("file", format!("{} ({})", facts.path.display(), show_bytes(facts.size_bytes as f64)));
    row("sha256", facts.sha256.clone());
    row("format", format!("GGUF {}, {}", facts.gguf_version, types(facts)));
    row("parameters", format!("{parameters:.1} million, architecture {}", c.arch));
    row("layers", format!("{} of width {}", c.layers.len(), c.hidden));
    row("neurons", format!("{} per layer, {} in total", c.intermediate, facts.neurons));
    row("heads", heads(facts));
    row("attention", attention(c));
    row("block", block(c));
    row("context", format!("{} tokens", c.context));
    row("vocabulary", format!("{} tokens, {}", c.vocab, facts.tokenizer.kind));
    row("special", specials(&facts.tokenizer));
    row("prompt", prompt(&facts.tokenizer));
    row("per token", per_token(facts));
    row("sparsity", gain(facts));
    row("plan", "none".to_owned());
    table.lines().map(|line| line.trim().to_owned()).collect::<Vec<_>>().join("\n")
}

fn types(facts: &Facts) -> String {
    let mut types: Vec<_> = facts.types.iter().collect();
    types.sort_by_key(|(_, count)| std::cmp::Reverse(**count));
    let words: Vec<String> = types.iter().map(|(name, count)| format!("{count} {name}")).collect();
    format!("tensors: {}", words.join(", "))
}

fn heads(facts: &Facts) -> String {
    let c = &facts.config;
    format!(
        "{} per layer of {} elements, {} in total; key-value heads: {}",
        c.heads, c.head_dim, facts.heads, c.kv_heads
    )
}

fn attention(c: &ModelConfig) -> String {
    let pairs = match c.rope_pairs {
        RopePairs::Neighbours => "neighbours",
        RopePairs::Halves => "halves",
    };
    let mut kinds: Vec<(LayerConfig, usize)> = Vec::new();
    for layer in &c.layers {
        match kinds.iter_mut().find(|(kind, _)| kind == layer) {
            Some((_, count)) => *count += 1,
            None => kinds.push((*layer, 1)),
        }
    }
    let words: Vec<String> = kinds.iter().map(|(kind, count)| reach(kind, *count)).collect();
    format!("RoPE in {pairs} over {} elements: {}", c.rope_dim, words.join("; "))
}

/// What layers of one kind see, and their RoPE base.
fn reach(kind: &LayerConfig, count: usize) -> String {
    let sees =
        kind.window.map_or("the whole text".to_owned(), |w| format!("a window of {w} tokens"));
    let scale = match kind.rope_scale {
        1.0 => String::new(),
        scale => format!(", positions times {scale}"),
    };
    let layers = if count == 1 { "1 layer sees".into() } else { format!("{count} layers see") };
    format!("{layers} {sees} (theta {}{scale})", kind.rope_theta)
}

fn block(c: &ModelConfig) -> String {
    let activation = match c.activation {
        fewron_kernels::Activation::Silu => "SiLU",
        fewron_kernels::Activation::GeluTanh => "GELU (tanh)",
        fewron_kernels::Activation::Relu => "ReLU",
    };
    let mut norms = "RMS norm before attention and MLP".to_owned();
    if c.post_norm {
        norms.push_str(" and after each");
    }
    if c.qk_norm {
        norms.push_str(", and of queries and keys");
    }
    format!("{norms}; MLP with a {activation} gate")
}

fn specials(t: &TokenizerFacts) -> String {
    let show = |token: &Token| format!("{} ({})", token.text, token.id);
    let named = [("BOS", &t.bos), ("EOS", &t.eos), ("end of turn", &t.eot)];
    let mut words: Vec<String> = named
        .iter()
        .filter_map(|(name, token)| token.as_ref().map(|t| format!("{name} {}", show(t))))
        .collect();
    words
        .push(format!("answers end at {}", t.ends.iter().map(show).collect::<Vec<_>>().join(", ")));
    words.join("; ")
}

fn prompt(t: &TokenizerFacts) -> String {
    let bos = if t.add_bos { "starts with BOS" } else { "no BOS added" };
    let chat = match &t.chat_template_problem {
        Some(problem) => problem,
        None if t.chat_template => "chat template present",
        None => "no chat template",
    };
    format!("{bos}; {chat}")
}

fn per_token(facts: &Facts) -> String {
    let bytes = &facts.bytes_per_token;
    let part = |part: usize| {
        let share = 100.0 * part as f64 / bytes.total as f64;
        format!("{} ({share:.0}%)", show_bytes(part as f64))
    };
    format!(
        "{} of weights: attention {}, MLP {}, output head {}",
        show_bytes(bytes.total as f64),
        part(bytes.parts.attention),
        part(bytes.parts.mlp),
        part(bytes.parts.head)
    )
}

fn gain(facts: &Facts) -> String {
    let gain = &facts.most_sparsity_can_give;
    format!(
        "the MLP is {:.0}% of the bytes: without it at most {:.2}x faster, gate policy at 0.5 at \
         most {:.2}x",
        100.0 * gain.mlp_share,
        gain.speedup_without_mlp,
        gain.speedup_gate_half
    )
}
