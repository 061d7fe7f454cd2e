//! The tiny models, ready to run.

use crate::goldens::{self, Goldens};
use fewron_kernels::Isa;
use fewron_model::gguf::Gguf;
use fewron_model::{KvType, Logits, Model, Pool, Session, Trace};
use std::sync::Arc;

pub const MODELS: [&str; 3] = ["tiny-llama", "tiny-llama-odd", "tiny-gemma3"];

pub fn session(name: &str, isa: Isa) -> Session {
    let path = goldens::folder().join("tiny").join(format!("{name}.gguf"));
    let model = Model::with_isa(Gguf::open(&path).unwrap(), isa).unwrap();
    Session::with_kv_type(Arc::new(model), Arc::new(Pool::new(1)), KvType::F32)
}

pub fn goldens(name: &str) -> Goldens {
    Goldens::open(&format!("tiny/{name}.safetensors"))
}

/// A text of a tiny model with the trace, logits and labels of its last tokens.
pub struct Traced {
    pub session: Session,
    pub trace: Trace,
    pub logits: Vec<f32>,
    pub labels: Vec<u32>,
}

/// Runs the goldens' text and traces its last `count` tokens. The last label is the goldens', the
/// others are the text itself.
pub fn traced(name: &str, isa: Isa, count: usize) -> Traced {
    let goldens = goldens(name);
    let tokens = goldens.tokens();
    let mut session = session(name, isa);
    let mut trace = Trace::new(session.model().config());
    let start = tokens.len() - count;
    session.forward(&tokens[..start], None, None, Logits::None).unwrap();
    let last = session.forward(&tokens[start..], None, Some(&mut trace), Logits::All).unwrap();
    let logits = last.to_vec();
    let labels = tokens[start + 1..].iter().copied().chain([goldens.label()]).collect();
    Traced { session, trace, logits, labels }
}
