//! Damaged tokenizers, by name; ids that mean nothing; and round trips.

use proptest::prelude::*;

use super::*;

/// A made tokenizer with something changed.
fn changed(name: &str, change: impl FnOnce(&mut Value)) -> Folder {
    let folder = Folder::made(name);
    folder.change(FILE, change);
    folder
}

#[test]
fn damage_is_named() {
    let missing = Folder::made("replace");
    std::fs::remove_file(missing.0.path().join(FILE)).unwrap();
    assert!(missing.error().starts_with("there is no tokenizer.json; make it with `AutoTokenizer"));

    for text in ["", "nonsense", "{\"model\": ", "[]", "{}", "{\"model\": {\"type\": \"BPE\"}}"] {
        let error = Folder::new(text).error();
        let named = error.starts_with("tokenizer.json is damaged: ");
        assert!(named && error.ends_with("; download it again"), "{text:?}: {error}");
    }
    let huge = Folder::made("replace");
    let file = std::fs::File::create(huge.0.path().join(FILE)).unwrap();
    file.set_len(1 << 40).unwrap();
    assert!(huge.error().contains("tokenizer.json: has 1099511627776 bytes"), "{}", huge.error());
}

#[test]
fn kinds_that_are_not_there_are_named() {
    type Change = fn(&mut Value);
    let cases: [(Change, &str); 6] = [
        (|file| file["model"]["type"] = json!("WordPiece"), "a model of type \"WordPiece\""),
        (|file| file["model"]["dropout"] = json!(0.1), "drops merges at random"),
        (
            |file| file["decoder"] = json!({"type": "WordPiece"}),
            "neither ByteLevel nor SentencePiece",
        ),
        (
            |file| file["post_processor"]["type"] = json!("RobertaProcessing"),
            "\"RobertaProcessing\"",
        ),
        (
            |file| file["added_tokens"][1]["single_word"] = json!(true),
            "\"<s>\" for whole words only",
        ),
        (
            |file| {
                let single = file["post_processor"]["single"].as_array_mut().unwrap();
                single.reverse();
            },
            "puts <s> after every text",
        ),
    ];
    for (change, part) in cases {
        // Without its model's fallback to bytes the decoder alone says how texts are spelt.
        let folder = changed("replace", |file| {
            file["model"]["byte_fallback"] = json!(false);
            change(file);
        });
        let error = folder.error();
        assert!(error.starts_with("tokenizer.json ") && error.contains(part), "{part}: {error}");
        assert!(error.contains("which fewron does not have; "), "{error}");
    }
}

#[test]
fn vocabularies_that_contradict_themselves_are_named() {
    let huge = changed("replace", |file| file["model"]["vocab"]["x"] = json!(4_000_000_000u32));
    let error = huge.error();
    assert!(
        error.starts_with("tokenizer.json is 4000000000, but the vocabulary ends at"),
        "{error}"
    );
    let merge = changed("replace", |file| file["model"]["merges"][3] = json!(["no", "where"]));
    let error = merge.error();
    let expected = "merge rule 3 is \"no where\": it names a token that is not in model.vocab";
    assert!(error.starts_with(expected), "{error}");
    let merge = changed("replace", |file| file["model"]["merges"][3] = json!("one"));
    assert!(merge.error().contains("merge rule 3 is \"\": not two tokens"), "{}", merge.error());
    let empty = changed("replace", |file| {
        file["model"]["vocab"] = json!({});
        file["added_tokens"] = json!([]);
        file["model"]["merges"] = json!([]);
    });
    assert!(empty.error().contains("has no model.vocab"), "{}", empty.error());
}

/// Merges in the older spelling, `"a b"`, are the same.
#[test]
fn merges_in_either_spelling() {
    let plain = Folder::made("byte-level").tokenizer();
    let older = changed("byte-level", |file| {
        for merge in file["model"]["merges"].as_array_mut().unwrap() {
            let (left, right) = (merge[0].as_str().unwrap(), merge[1].as_str().unwrap());
            *merge = json!(format!("{left} {right}"));
        }
    });
    let text = "the rain of the sand and the wind in the hall";
    let ids = plain.encode(text, Specials::Plain);
    assert!(ids.len() < text.len() / 2);
    assert_eq!(older.tokenizer().encode(text, Specials::Plain), ids);
}

#[test]
fn ids_beyond_the_vocabulary_give_nothing() {
    for name in ["byte-level", "metaspace"] {
        let t = Folder::made(name).tokenizer();
        let last = t.vocab_size() as u32 - 1;
        let text = t.decode(&[last], false);
        assert_eq!(t.decode(&[last, last + 1, u32::MAX], false), text);
        assert_eq!((t.token_text(last + 1), t.token_type(u32::MAX)), (None, None));
        assert!(!t.is_end(last + 1) && !text.is_empty());
    }
}

/// Ids that a file leaves out are tokens without a text.
#[test]
fn holes_in_the_vocabulary_are_unused_tokens() {
    let folder = changed("byte-level", |file| file["added_tokens"][7]["id"] = json!(720));
    let t = folder.tokenizer();
    assert_eq!((t.vocab_size(), t.token_type(710)), (721, Some(TokenType::Unused)));
    assert_eq!(t.decode(&[710], false), "");
}

fn round_trip(t: &Tokenizer, text: &str) {
    let ids = t.encode(text, Specials::Plain);
    assert_eq!(t.decode(&ids, true), text);
    let mut decoder = t.decoder(true);
    let mut streamed: String = ids.iter().map(|&id| decoder.push(id)).collect();
    streamed += &decoder.finish();
    // A stream continues a text, so that the space before it stays.
    assert_eq!(
        streamed.strip_prefix(' ').unwrap_or(&streamed),
        text.strip_prefix(' ').unwrap_or(text)
    );
}

#[test]
fn texts_come_back() {
    for name in ["tiny-phi", "replace", "metaspace"] {
        let t = golden(name);
        for text in ["Why is the sky blue?", "a\n\n  b", "東京 🙂", "x</s>y", "don't", "1 234"]
        {
            round_trip(&t, text);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// `byte-level` composes characters (NFC); the tiny models' tokenizer changes nothing.
    #[test]
    fn any_text_comes_back(text in "\\PC{0,40}") {
        let t = golden("tiny-phi");
        let ids = t.encode(&text, Specials::Plain);
        prop_assert_eq!(t.decode(&ids, true), text);
    }

    #[test]
    fn random_damage_never_panics(at in 0usize..16000, byte in proptest::num::u8::ANY) {
        let file = goldens().join("tokenizers/metaspace.json");
        let mut bytes = std::fs::read(file).unwrap();
        bytes[at] = byte;
        let folder = Folder::new("");
        std::fs::write(folder.0.path().join(FILE), bytes).unwrap();
        if let Ok(tokenizer) = Tokenizer::from_hf(&folder.directory()) {
            tokenizer.encode("the <s> rain", Specials::Parse);
        }
    }
}
