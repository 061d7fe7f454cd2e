use proptest::prelude::*;

use super::*;
use crate::gguf::{Field, Writer};

fn strs(texts: &[&str]) -> Field {
    Field::Strs(texts.iter().map(ToString::to_string).collect())
}

fn build(file: &Writer) -> Result<Tokenizer, TokenizerError> {
    Tokenizer::from_gguf(&Gguf::from_bytes("t.gguf", &file.to_bytes()).unwrap())
}

/// `<unk>`, `<s>`, `</s>`, all bytes, then pieces.
fn sentencepiece(pieces: &[(&str, f32)]) -> Writer {
    let mut tokens: Vec<String> = ["<unk>", "<s>", "</s>"].map(str::to_string).to_vec();
    let mut types = vec![2, 3, 3];
    tokens.extend((0..256).map(|b| format!("<0x{b:02X}>")));
    types.extend([6; 256]);
    tokens.extend(pieces.iter().map(|(text, _)| text.to_string()));
    types.extend(pieces.iter().map(|_| 1));
    let scores = [0.0; 259].into_iter().chain(pieces.iter().map(|(_, score)| *score)).collect();
    Writer::new()
        .field("tokenizer.ggml.model", Field::Str("llama".into()))
        .field("tokenizer.ggml.tokens", Field::Strs(tokens))
        .field("tokenizer.ggml.token_type", Field::I32s(types))
        .field("tokenizer.ggml.scores", Field::F32s(scores))
        .field("tokenizer.ggml.bos_token_id", Field::U32(1))
        .field("tokenizer.ggml.eos_token_id", Field::U32(2))
        .field("tokenizer.ggml.unknown_token_id", Field::U32(0))
}

fn byte_level(pre: &str, tokens: &[&str], merges: &[&str]) -> Writer {
    Writer::new()
        .field("tokenizer.ggml.model", Field::Str("gpt2".into()))
        .field("tokenizer.ggml.pre", Field::Str(pre.into()))
        .field("tokenizer.ggml.tokens", strs(tokens))
        .field("tokenizer.ggml.merges", strs(merges))
}

const PIECES: [(&str, f32); 6] =
    [("▁", -1.0), ("a", -2.0), ("b", -3.0), ("ab", -4.0), ("▁a", -5.0), ("▁ab", -6.0)];

#[test]
fn sentencepiece_merges_by_score_and_falls_back_to_bytes() {
    let t = build(&sentencepiece(&PIECES)).unwrap();
    assert_eq!(t.encode("ab", Specials::Plain), [264]);
    assert_eq!(t.encode("ba", Specials::Plain), [259, 261, 260]);
    assert_eq!(t.encode("é", Specials::Plain), [259, 3 + 0xc3, 3 + 0xa9]);
    assert_eq!(t.encode("", Specials::Plain), [0u32; 0]);
    assert_eq!(t.encode_prompt("ab"), [1, 264]);
    assert_eq!(t.encode("ab</s>ab", Specials::Parse), [264, 2, 264]);
    assert!(!t.encode("</s>", Specials::Plain).contains(&2));
    assert_eq!(t.decode(&[1, 264, 259, 260], true), "ab a");
    assert_eq!(t.decode(&[1, 264, 2, 9999], false), "<s> ab</s>");
    assert!(t.is_end(2) && t.add_bos());
}

#[test]
fn a_file_may_ask_for_no_prefix_and_no_bos() {
    let file = sentencepiece(&PIECES)
        .field("tokenizer.ggml.add_space_prefix", Field::Bool(false))
        .field("tokenizer.ggml.add_bos_token", Field::Bool(false));
    let t = build(&file).unwrap();
    assert_eq!(t.encode_prompt("ab a"), [262, 263]);
    assert_eq!(t.decode(&[263], false), " a");
}

#[test]
fn control_tokens_cannot_be_merged_from_text() {
    // Every prefix of `<|x|>` is a token and every merge towards it is a rule.
    let tokens = ["<|x|>", "<", "|", "x", ">", "<|", "<|x", "<|x|"];
    let merges = ["< |", "<| x", "<|x |", "<|x| >"];
    let types = Field::I32s(vec![3, 1, 1, 1, 1, 1, 1, 1]);
    let file = byte_level("llama-bpe", &tokens, &merges).field("tokenizer.ggml.token_type", types);
    let t = build(&file).unwrap();
    assert_eq!(t.encode("<|x|>", Specials::Parse), [0]);
    let plain = t.encode("<|x|>", Specials::Plain);
    assert!(!plain.contains(&0));
    assert_eq!(t.decode(&plain, false), "<|x|>");
    assert_eq!(t.control_starts("a<|x|><|x|>"), [1, 6]);
}

#[test]
fn longest_special_token_wins_and_user_defined_ones_always_count() {
    let tokens = ["<a>", "<a><a>", "ab", "a", "b", "<", ">"];
    let types = Field::I32s(vec![3, 3, 4, 1, 1, 1, 1]);
    let t = build(&byte_level("gpt-2", &tokens, &[]).field("tokenizer.ggml.token_type", types))
        .unwrap();
    assert_eq!(t.encode("<a><a><a>", Specials::Parse), [1, 0]);
    assert_eq!(t.encode("<a>ab", Specials::Plain), [5, 3, 6, 2]);
}

#[test]
fn damaged_vocabularies_are_named() {
    let message = |file: Writer| build(&file).unwrap_err().to_string();
    let good = || byte_level("gpt-2", &["a", "b", "ab"], &["a b"]);
    assert!(build(&good()).is_ok());
    let no_model = message(Writer::new());
    assert!(no_model.contains("tokenizer.ggml.model"), "{no_model}");
    assert!(
        message(byte_level("qwen9", &["a"], &[])).contains("\"qwen9\"; known splits are gpt-2")
    );
    assert!(message(byte_level("gpt-2", &[], &[])).contains("no tokenizer.ggml.tokens"));
    assert!(message(byte_level("gpt-2", &["a"], &["ab"])).contains("not two tokens"));
    assert!(message(byte_level("gpt-2", &["a"], &["a "])).contains("not two tokens"));
    assert!(
        message(byte_level("gpt-2", &["a", "b"], &["a b"])).contains("merge rule 0 is \"a b\"")
    );
    let types = |t: Vec<i32>| good().field("tokenizer.ggml.token_type", Field::I32s(t));
    assert!(message(types(vec![1, 1])).contains("has 2 entries, but tokenizer.ggml.tokens has 3"));
    assert!(message(types(vec![1, 1, 77])).contains("token 2 has type 77"));
    let eos = |id| good().field("tokenizer.ggml.eos_token_id", Field::U32(id));
    assert!(message(eos(3)).contains("tokenizer.ggml.eos_token_id is 3"));
    assert_eq!(build(&eos(u32::MAX)).unwrap().eos(), None);
    let no_merges = Writer::new()
        .field("tokenizer.ggml.model", Field::Str("gpt2".into()))
        .field("tokenizer.ggml.pre", Field::Str("gpt-2".into()))
        .field("tokenizer.ggml.tokens", strs(&["a"]));
    assert!(message(no_merges).contains("no tokenizer.ggml.merges"));
    let no_scores = Writer::new()
        .field("tokenizer.ggml.model", Field::Str("llama".into()))
        .field("tokenizer.ggml.tokens", strs(&["a"]));
    assert!(message(no_scores).contains("no tokenizer.ggml.scores"));
    let no_pre = Writer::new()
        .field("tokenizer.ggml.model", Field::Str("gpt2".into()))
        .field("tokenizer.ggml.tokens", strs(&["a"]));
    assert!(message(no_pre).contains("tokenizer.ggml.pre is absent"));
}

#[test]
fn streaming_holds_back_half_characters() {
    let t = build(&sentencepiece(&PIECES)).unwrap();
    let byte = |b: u32| 3 + b;
    let mut decoder = t.decoder(true);
    let emoji = [0xf0, 0x9f, 0x98, 0x80].map(|b| decoder.push(byte(b)));
    assert_eq!(emoji, ["", "", "", "😀"]);
    assert_eq!(decoder.push(byte(0xc3)), "");
    assert_eq!(decoder.push(264), "\u{fffd} ab");
    assert_eq!(decoder.push(byte(0xe2)), "");
    assert_eq!(decoder.finish(), "\u{fffd}");
}

proptest! {
    #[test]
    fn any_text_comes_back(text in "\\PC{0,20}|[ab \n\t▁é😀<>|/s]{0,30}") {
        let t = build(&sentencepiece(&PIECES)).unwrap();
        let ids = t.encode(&text, Specials::Plain);
        prop_assert!(ids.iter().all(|&id| id > 2));
        prop_assert_eq!(t.decode(&ids, true), text.replace('▁', " "));
    }

    #[test]
    fn streamed_pieces_join_to_the_decoded_text(ids in prop::collection::vec(0u32..270, 0..40)) {
        let file = sentencepiece(&PIECES).field("tokenizer.ggml.add_space_prefix", Field::Bool(false));
        let t = build(&file).unwrap();
        let mut decoder = t.decoder(false);
        let mut text: String = ids.iter().map(|&id| decoder.push(id)).collect();
        text.push_str(&decoder.finish());
        prop_assert_eq!(text, t.decode(&ids, false));
    }
}
