//! The real model files open, and say what they hold.

use fewron_model::gguf::{Gguf, TensorInfo};

use crate::support;

#[test]
fn smollm2_opens() {
    let Some(path) = support::smollm2() else { return };
    let gguf = Gguf::open(&path).unwrap();
    assert_eq!(gguf.len_bytes(), 98_362_432);
    assert_eq!(gguf.tensors().len(), 272);
    assert_eq!(gguf.metadata().u32("llama.block_count").unwrap(), 30);
    let down = gguf.tensor("blk.3.ffn_down.weight").unwrap();
    assert_eq!((down.rows(), down.cols(), down.dtype.name()), (576, 1536, "Q4_1"));
    let first = down.data[..64].to_vec();
    gguf.release_tensor(down.name);
    assert_eq!(down.data[..64], first);
    let parameters: usize = gguf.tensors().map(TensorInfo::elements).sum();
    assert_eq!(parameters, 134_515_008);
}

#[test]
fn gemma3_opens() {
    let Some(path) = support::gemma3() else { return };
    let gguf = Gguf::open(&path).unwrap();
    assert_eq!(gguf.tensors().len(), 236);
    assert_eq!(gguf.metadata().str("general.architecture").unwrap(), "gemma3");
    let head = gguf.tensor("token_embd.weight").unwrap();
    assert_eq!((head.rows(), head.cols()), (262_144, 640));
    assert!(gguf.tensors().all(|t| t.dtype.is_some()));
}
