//! Plans.

use crate::source;
use fewron_model::gguf::Gguf;
use fewron_model::{Logits, Model, Pool, Session};
use fewron_sparsity::Policy;
use fewron_sparsity::plan::changes::read_changes;
use fewron_sparsity::plan::file::{from_bytes, read_frequency, read_record};
use std::sync::{Arc, LazyLock};

static MODEL: LazyLock<Arc<Model>> = LazyLock::new(|| {
    let gguf = Gguf::open(&source("fixtures/goldens/tiny/tiny-llama.gguf"));
    Arc::new(Model::from_gguf(gguf.expect("the tiny model")).expect("the tiny model"))
});

/// A plan, whatever model it says it is for, on a tiny one.
pub(crate) fn plan(bytes: &[u8]) {
    let _ = read_frequency(bytes);
    let _ = read_changes(bytes);
    let Ok(record) = read_record(bytes) else { return };
    let (model, pool) = (&*MODEL, Arc::new(Pool::new(1)));
    let read = from_bytes(bytes, &record.model, model.config(), model.isa(), &pool);
    let Ok((plan, _)) = read else { return };
    let mut session = Session::new(Arc::clone(model), pool);
    let mut policy = Policy::new(&plan);
    let _ = policy.read_prompt(&mut session, &[1, 2, 3], Logits::None);
    for tokens in [&[4][..], &[5, 6]] {
        let _ = session.forward(tokens, Some(&mut policy), None, Logits::Last);
    }
}
