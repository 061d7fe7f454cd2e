//! Ids and texts of the reference tokenizers for awkward text (`fixtures/tokenizer/make.py`).

use fewron_model::gguf::Gguf;
use fewron_model::tokenizer::{Specials, Tokenizer};
use serde::Deserialize;

use crate::support;

#[derive(Deserialize)]
struct Corpus {
    texts: Vec<String>,
    smollm2: Vec<Case>,
    gemma3: Vec<Case>,
}

#[derive(Deserialize)]
struct Case {
    plain: Vec<u32>,
    parsed: Vec<u32>,
    decoded: String,
    skipped: String,
}

fn corpus() -> Corpus {
    serde_json::from_str(&support::fixture("corpus.json")).unwrap()
}

fn check(tokenizer: &Tokenizer, texts: &[String], cases: &[Case]) {
    assert_eq!(texts.len(), cases.len());
    for (text, case) in texts.iter().zip(cases) {
        assert_eq!(tokenizer.encode(text, Specials::Plain), case.plain, "plain {text:?}");
        assert_eq!(tokenizer.encode(text, Specials::Parse), case.parsed, "parsed {text:?}");
        assert_eq!(tokenizer.decode(&case.parsed, false), case.decoded, "decoded {text:?}");
        assert_eq!(tokenizer.decode(&case.parsed, true), case.skipped, "skipped {text:?}");
        let mut decoder = tokenizer.decoder(true);
        let mut streamed: String = case.parsed.iter().map(|&id| decoder.push(id)).collect();
        streamed.push_str(&decoder.finish());
        assert_eq!(streamed, case.skipped, "streamed {text:?}");
    }
}

/// Plain text holds no control token, and nothing is lost of it.
fn check_plain(tokenizer: &Tokenizer, texts: &[String]) {
    use fewron_model::tokenizer::TokenType;
    for text in texts {
        for id in tokenizer.encode(text, Specials::Plain) {
            assert_ne!(tokenizer.token_type(id), Some(TokenType::Control), "{text:?}");
        }
    }
}

#[test]
fn smollm2_matches_the_published_tokenizer() {
    let Some(path) = support::smollm2() else { return };
    let tokenizer = Tokenizer::from_gguf(&Gguf::open(&path).unwrap()).unwrap();
    let corpus = corpus();
    check(&tokenizer, &corpus.texts, &corpus.smollm2);
    check_plain(&tokenizer, &corpus.texts);
    assert_eq!(tokenizer.vocab_size(), 49_152);
    assert_eq!((tokenizer.bos(), tokenizer.eos(), tokenizer.eot()), (Some(1), Some(2), Some(2)));
    assert!(tokenizer.is_end(2) && tokenizer.is_end(0) && !tokenizer.is_end(1));
    assert!(!tokenizer.add_bos());
    assert_eq!(tokenizer.encode_prompt("Hi"), tokenizer.encode("Hi", Specials::Plain));
    assert_eq!(tokenizer.kind(), "byte-level BPE (smollm)");
    assert_eq!(tokenizer.token_text(49_152), None);
}

#[test]
fn gemma3_matches_the_published_tokenizer() {
    let Some(path) = support::gemma3() else { return };
    let tokenizer = Tokenizer::from_gguf(&Gguf::open(&path).unwrap()).unwrap();
    let corpus = corpus();
    check(&tokenizer, &corpus.texts, &corpus.gemma3);
    check_plain(&tokenizer, &corpus.texts);
    assert_eq!(tokenizer.vocab_size(), 262_144);
    assert_eq!((tokenizer.bos(), tokenizer.eos(), tokenizer.eot()), (Some(2), Some(1), Some(106)));
    assert!(tokenizer.is_end(1) && tokenizer.is_end(106));
    assert!(!tokenizer.is_end(212), "</s> is an HTML tag in this vocabulary");
    assert_eq!(tokenizer.encode_prompt("Hi")[0], 2);
    assert_eq!(tokenizer.kind(), "SentencePiece BPE");
}
