//! llama.cpp's vocabulary files and the ids that it expects for its test texts; fetched by
//! `fixtures/tokenizer/fetch_vocabs.sh`.

use fewron_model::gguf::Gguf;
use fewron_model::tokenizer::{Specials, Tokenizer};

use crate::support;

const VOCABS: [&str; 9] = [
    "gpt-2",
    "mpt",
    "qwen2",
    "llama-bpe",
    "starcoder",
    "refact",
    "command-r",
    "llama-spm",
    "phi-3",
];

#[test]
fn every_vector_of_llama_cpp_is_met() {
    let Some(folder) = support::find("FEWRON_VOCABS", "vocabs") else { return };
    for name in VOCABS {
        let path = folder.join(format!("ggml-vocab-{name}.gguf"));
        let beside =
            |end: &str| std::fs::read_to_string(format!("{}.{end}", path.display())).unwrap();
        let tokenizer = Tokenizer::from_gguf(&Gguf::open(&path).unwrap()).unwrap();
        let (texts, ids) = (beside("inp"), beside("out"));
        let texts: Vec<&str> = texts.split("\n__ggml_vocab_test__\n").collect();
        let ids: Vec<&str> = ids.lines().collect();
        assert!(ids.len() > 40, "{name} has {} vectors", ids.len());
        for (text, line) in texts.iter().zip(&ids) {
            let expected: Vec<u32> =
                line.split_whitespace().map(|id| id.parse().unwrap()).collect();
            assert_eq!(tokenizer.encode(text, Specials::Plain), expected, "{name}: {text:?}");
            assert_eq!(tokenizer.decode(&expected, false), *text, "{name}");
        }
    }
}

#[test]
fn kinds_that_are_not_supported_are_named() {
    let Some(folder) = support::find("FEWRON_VOCABS", "vocabs") else { return };
    for (name, part) in [
        ("bert-bge", "tokenizer.ggml.model is \"bert\""),
        ("falcon", "tokenizer.ggml.pre is \"falcon\""),
    ] {
        let gguf = Gguf::open(&folder.join(format!("ggml-vocab-{name}.gguf"))).unwrap();
        let message = Tokenizer::from_gguf(&gguf).unwrap_err().to_string();
        assert!(message.contains(part), "{message}");
    }
}
