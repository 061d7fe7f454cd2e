//! The facts of a model in words.

use comfy_table::{Table, presets};
use fewron_kernels::Activation;
use fewron_model::{
    Biases, BytesPerToken, LayerConfig, ModelConfig, NormKind, Residual, RopePairs,
};

use crate::plan_words;
use crate::ui::show_bytes;

use super::facts::{Facts, Format, Token, TokenizerFacts};

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
    row("format", format!("{}, {}", format(facts), types(facts)));
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
    row("plan", plan(facts));
    table.lines().map(|line| line.trim().to_owned()).collect::<Vec<_>>().join("\n")
}

fn format(facts: &Facts) -> String {
    let files = match facts.weight_files {
        1 => "1 weight file".to_owned(),
        count => format!("{count} weight files"),
    };
    match (facts.format, facts.gguf_version) {
        (Format::Gguf, Some(version)) => format!("GGUF {version}"),
        (Format::Gguf, None) => "GGUF".to_owned(),
        (Format::HuggingFace, _) => format!("Hugging Face directory, {files}"),
    }
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
    let mut kinds: Vec<(LayerConfig, usize)> = Vec::new();
    for layer in &c.layers {
        match kinds.iter_mut().find(|(kind, _)| kind == layer) {
            Some((_, count)) => *count += 1,
            None => kinds.push((*layer, 1)),
        }
    }
    let rotates = c.rope_dim > 0;
    let words: Vec<String> = kinds.iter().map(|(kind, n)| reach(kind, *n, rotates)).collect();
    format!("{}: {}", positions(c), words.join("; "))
}

/// How the model tells positions apart.
fn positions(c: &ModelConfig) -> String {
    let mut words = Vec::new();
    if let Some(first) = c.learned_positions {
        words.push(format!("learned positions from row {first}"));
    }
    if c.rope_dim > 0 {
        let pairs = match c.rope_pairs {
            RopePairs::Neighbours => "neighbours",
            RopePairs::Halves => "halves",
        };
        let scaled = if c.rope_factors.is_some() { ", frequencies scaled one by one" } else { "" };
        words.push(format!("RoPE in {pairs} over {}{scaled}", rotated(c)));
    }
    if words.is_empty() { "no positions".to_owned() } else { words.join(" and ") }
}

fn rotated(c: &ModelConfig) -> String {
    let all = if c.rope_dim == c.head_dim { String::new() } else { format!(" of {}", c.head_dim) };
    format!("{}{all} elements", c.rope_dim)
}

/// What layers of one kind see, and their RoPE base.
fn reach(kind: &LayerConfig, count: usize, rotates: bool) -> String {
    let sees =
        kind.window.map_or("the whole text".to_owned(), |w| format!("a window of {w} tokens"));
    let scale = match kind.rope_scale {
        1.0 => String::new(),
        scale => format!(", positions times {scale}"),
    };
    let layers = if count == 1 { "1 layer sees".into() } else { format!("{count} layers see") };
    let theta =
        if rotates { format!(" (theta {}{scale})", kind.rope_theta) } else { String::new() };
    format!("{layers} {sees}{theta}")
}

/// The wiring, part by part.
fn block(c: &ModelConfig) -> String {
    let head = if c.untied_head { "a head of its own" } else { "head tied to the embeddings" };
    [norms(c), mlp(c), biases(c.biases), block_positions(c), head.to_owned()].join("; ")
}

/// Norms, and what reads what they give.
fn norms(c: &ModelConfig) -> String {
    let kind = match c.norm {
        NormKind::Rms => "RMS norm",
        NormKind::Layer => "LayerNorm",
    };
    let mut words = match c.residual {
        Residual::Sequential => format!("{kind} before attention and before the MLP, in sequence"),
        Residual::Parallel => format!("one {kind} before attention and MLP, in parallel"),
    };
    if c.post_norm {
        words.push_str(", and after each");
    }
    if c.qk_norm {
        words.push_str(", and of queries and keys");
    }
    words
}

fn mlp(c: &ModelConfig) -> String {
    let activation = match c.activation {
        Activation::Silu => "SiLU",
        Activation::GeluTanh => "GELU (tanh)",
        Activation::Relu => "ReLU",
    };
    let mlp = if c.shared_mlp { "one MLP for all layers" } else { "MLP" };
    if c.gated {
        format!("{mlp} with a {activation} gate")
    } else {
        format!("{mlp} with {activation} and no gate")
    }
}

fn biases(b: Biases) -> String {
    let parts = [
        (b.qkv, "queries, keys and values"),
        (b.attention_output, "attention's output"),
        (b.mlp, "the MLP"),
        (b.head, "the head"),
    ];
    let with: Vec<&str> = parts.iter().filter(|(has, _)| *has).map(|(_, name)| *name).collect();
    match (with.as_slice(), b.head) {
        ([], _) => "no biases".to_owned(),
        ([_, _, _, _], _) => "biases everywhere".to_owned(),
        ([_, _, _], false) => "biases everywhere but in the head".to_owned(),
        _ => format!("biases of {}", with.join(" and ")),
    }
}

/// Positions and windows in a word or two; `attention` has the details.
fn block_positions(c: &ModelConfig) -> String {
    let positions = match (c.learned_positions, c.rope_dim) {
        (Some(_), 0) => "learned positions".to_owned(),
        (Some(_), _) => format!("learned positions and RoPE over {}", rotated(c)),
        (None, 0) => "no positions".to_owned(),
        (None, dim) if dim == c.head_dim => "RoPE over the whole head".to_owned(),
        (None, _) => format!("RoPE over {} of a head", rotated(c)),
    };
    match c.layers.iter().filter(|layer| layer.window.is_some()).count() {
        0 => positions,
        local => format!("{positions}, windows in {local} of {} layers", c.layers.len()),
    }
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
    let BytesPerToken { attention, mlp, mlp_in_memory, head } = bytes.parts;
    let shared = if mlp_in_memory == mlp {
        String::new()
    } else {
        format!("; layers share MLPs, of which {} lie in memory", show_bytes(mlp_in_memory as f64))
    };
    format!(
        "{} of weights: attention {}, MLP {}, output head {}{shared}",
        show_bytes(bytes.total as f64),
        part(attention),
        part(mlp),
        part(head)
    )
}

fn plan(facts: &Facts) -> String {
    let Some(path) = &facts.plan else { return "none".to_owned() };
    let says = match (&facts.plan_problem, &facts.plan_record) {
        (Some(problem), _) => problem.clone(),
        (None, Some(record)) => plan_words::one_line(record),
        (None, None) => return path.display().to_string(),
    };
    format!("{}: {says}", path.display())
}

fn gain(facts: &Facts) -> String {
    let gain = &facts.most_sparsity_can_give;
    let gate = gain.speedup_gate_half.map_or("no gate policy".to_owned(), |speedup| {
        format!("gate policy at 0.5 at most {speedup:.2}x")
    });
    format!(
        "the MLP is {:.0}% of the bytes: without it at most {:.2}x faster, {gate}",
        100.0 * gain.mlp_share,
        gain.speedup_without_mlp
    )
}
