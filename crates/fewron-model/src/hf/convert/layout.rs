//! The tensors of a model by its configuration, as GGUF files name them.

use crate::config::{ModelConfig, NormKind, Residual};

/// Names with shapes, elements of a row first.
pub(super) fn tensors(config: &ModelConfig) -> Vec<(String, Vec<usize>)> {
    let mut list = List(Vec::new());
    let (hidden, vocab) = (config.hidden, config.vocab);
    list.add(true, "token_embd.weight", &[hidden, vocab]);
    list.norm(true, "output_norm", hidden, config.norm);
    list.add(config.untied_head, "output.weight", &[hidden, vocab]);
    list.add(config.biases.head, "output.bias", &[vocab]);
    for layer in 0..config.layers.len() {
        list.layer(&format!("blk.{layer}"), config);
    }
    list.0
}

struct List(Vec<(String, Vec<usize>)>);

impl List {
    fn add(&mut self, wanted: bool, name: &str, shape: &[usize]) {
        if wanted {
            self.0.push((name.to_owned(), shape.to_vec()));
        }
    }

    fn norm(&mut self, wanted: bool, name: &str, len: usize, kind: NormKind) {
        self.add(wanted, &format!("{name}.weight"), &[len]);
        self.add(wanted && kind == NormKind::Layer, &format!("{name}.bias"), &[len]);
    }

    fn matrix(&mut self, name: &str, [cols, rows]: [usize; 2], bias: bool) {
        self.add(true, &format!("{name}.weight"), &[cols, rows]);
        self.add(bias, &format!("{name}.bias"), &[rows]);
    }

    fn layer(&mut self, block: &str, config: &ModelConfig) {
        let name = |part: &str| format!("{block}.{part}");
        let (hidden, neurons, norm) = (config.hidden, config.intermediate, config.norm);
        let (queries, keys) = (config.query_width(), config.kv_width());
        let biases = config.biases;
        self.norm(true, &name("attn_norm"), hidden, norm);
        self.matrix(&name("attn_q"), [hidden, queries], biases.qkv);
        self.matrix(&name("attn_k"), [hidden, keys], biases.qkv);
        self.matrix(&name("attn_v"), [hidden, keys], biases.qkv);
        self.matrix(&name("attn_output"), [queries, hidden], biases.attention_output);
        self.norm(config.qk_norm, &name("attn_q_norm"), config.head_dim, norm);
        self.norm(config.qk_norm, &name("attn_k_norm"), config.head_dim, norm);
        self.norm(config.post_norm, &name("post_attention_norm"), hidden, norm);
        let own_norm = config.residual == Residual::Sequential;
        self.norm(own_norm, &name("ffn_norm"), hidden, norm);
        if config.gated {
            self.matrix(&name("ffn_gate"), [hidden, neurons], biases.mlp);
        }
        self.matrix(&name("ffn_up"), [hidden, neurons], biases.mlp);
        self.matrix(&name("ffn_down"), [neurons, hidden], biases.mlp);
        self.norm(config.post_norm, &name("post_ffw_norm"), hidden, norm);
    }
}
