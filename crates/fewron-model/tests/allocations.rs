//! Decoding takes no memory from the system once its buffers have grown, but for pages of the KV
//! cache.

use allocation_counter::measure;
use fewron_kernels::DType;
use fewron_model::gguf::Recipe;
use fewron_model::hf::HfDirectory;
use fewron_model::{Choice, Logits, MaskSource, Model, Pool, Session, Source};
use std::path::Path;
use std::sync::Arc;

const MODELS: [&str; 6] =
    ["tiny-gemma3", "tiny-llama", "tiny-mobillama", "tiny-opt", "tiny-phi", "tiny-qwen3"];

fn session(name: &str) -> Session {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../models/tiny").join(name);
    let source = Source::HuggingFace(HfDirectory::open(&folder).unwrap());
    let recipe = Recipe { dtype: DType::Q4_0, output: Some(DType::Q8_0), embedding: None };
    Session::new(Arc::new(Model::quantized(source, recipe).unwrap()), Arc::new(Pool::new(1)))
}

/// Every third neuron and head.
struct Thirds(Choice);

impl MaskSource for Thirds {
    fn neurons(&mut self, _: usize, token: usize, kept: &mut Vec<u32>) -> Choice {
        if self.0 == Choice::Listed {
            kept.extend((token as u32 % 3..300).step_by(3));
        }
        self.0
    }

    fn select_neurons(&mut self, _: usize, _: usize, values: &[f32], kept: &mut Vec<u32>) {
        kept.extend((0..values.len() as u32).step_by(3));
    }

    fn heads(&mut self, _: usize, _: usize, kept: &mut Vec<u32>) -> Choice {
        if self.0 == Choice::Dense {
            return Choice::Dense;
        }
        kept.push(1);
        Choice::Listed
    }
}

#[test]
fn decoding_allocates_nothing_between_pages() {
    for name in MODELS {
        let mut session = session(name);
        session.forward(&[5; 17], None, None, Logits::None).unwrap();
        // The first round makes all buffers as large as the second one needs them.
        for grown in [false, true] {
            for choice in [Choice::Dense, Choice::Listed, Choice::ByGate, Choice::ByOutput] {
                for logits in [Logits::Last, Logits::Shortlist(1.0)] {
                    let info = measure(|| {
                        let mut masks = Thirds(choice);
                        session.forward(&[7], Some(&mut masks), None, logits).unwrap();
                    });
                    let allowed = !grown || info.count_total == 0;
                    assert!(allowed, "{name}, {choice:?}, {logits:?}: {}", info.count_total);
                }
            }
            // Back to the second position of a page.
            session.truncate(17);
        }
    }
}

#[test]
fn a_new_page_is_seen() {
    let mut session = session("tiny-llama");
    session.forward(&[5; 16], None, None, Logits::None).unwrap();
    let info = measure(|| {
        session.forward(&[7], None, None, Logits::None).unwrap();
    });
    assert!(info.count_total >= 7, "a page for each layer: {}", info.count_total);
}
