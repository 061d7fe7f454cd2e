//! Chats rendered by jinja2 and encoded by transformers (`fixtures/tokenizer/make.py`).

use std::collections::HashMap;

use fewron_model::chat::{ChatTemplate, Message};
use fewron_model::gguf::Gguf;
use fewron_model::tokenizer::{Specials, Tokenizer};
use serde::Deserialize;

use crate::support;

/// 2026-01-01, the time in the goldens.
const NOW: u64 = 1_767_225_600;

#[derive(Deserialize)]
struct Goldens {
    templates: HashMap<String, String>,
    chats: Vec<Vec<Turn>>,
    renderings: Vec<Rendering>,
    smollm2: Vec<Encoded>,
    gemma3: Vec<Encoded>,
}

#[derive(Deserialize)]
struct Turn {
    role: String,
    content: String,
}

#[derive(Deserialize)]
struct Rendering {
    template: String,
    chat: usize,
    add_generation_prompt: bool,
    text: Option<String>,
    error: Option<String>,
}

#[derive(Deserialize)]
struct Encoded {
    messages: Vec<Turn>,
    ids: Vec<u32>,
}

fn goldens() -> Goldens {
    serde_json::from_str(&support::fixture("chat.json")).unwrap()
}

fn messages(turns: &[Turn]) -> Vec<Message> {
    turns.iter().map(|t| Message::new(&t.role, &t.content)).collect()
}

#[test]
fn templates_render_as_in_jinja2() {
    let goldens = goldens();
    for case in &goldens.renderings {
        let source = &goldens.templates[&case.template];
        let template = ChatTemplate::new(source, "<s>", "</s>").unwrap().at_unix_time(NOW);
        let got = template.render(&messages(&goldens.chats[case.chat]), case.add_generation_prompt);
        let name = format!("{} chat {}", case.template, case.chat);
        match (&case.text, &case.error) {
            (Some(text), _) => assert_eq!(&got.unwrap(), text, "{name}"),
            (_, Some(error)) => {
                let message = got.unwrap_err().to_string();
                assert!(message.contains(error), "{name}: {message}, not {error}");
            }
            _ => panic!("{name} has neither text nor error"),
        }
    }
}

/// Equal ids for harmless contents; contents with control tokens give as many control tokens as
/// harmless ones do, and decode to what was typed.
fn check_ids(tokenizer: &Tokenizer, template: &ChatTemplate, cases: &[Encoded]) {
    let controls = |ids: &[u32]| {
        let control = |id: &&u32| {
            tokenizer.token_type(**id) == Some(fewron_model::tokenizer::TokenType::Control)
        };
        ids.iter().filter(control).count()
    };
    let usual = controls(&cases[0].ids);
    assert!(usual >= 3);
    for case in cases {
        let messages = messages(&case.messages);
        let ids = template.ids(tokenizer, &messages, true).unwrap();
        let text = template.render(&messages, true).unwrap();
        let content = &messages[0].content;
        assert_eq!(ids, case.ids, "{content:?}");
        assert_eq!(controls(&ids), usual, "{content:?}");
        assert_eq!(tokenizer.decode(&ids, false), text, "{content:?}");
        let parsed = tokenizer.encode(&text, Specials::Parse);
        assert_eq!(parsed == ids, controls(&parsed) == usual, "{content:?}");
    }
}

#[test]
fn smollm2_chats_encode_as_in_transformers() {
    let Some(path) = support::smollm2() else { return };
    let gguf = Gguf::open(&path).unwrap();
    let tokenizer = Tokenizer::from_gguf(&gguf).unwrap();
    let template = ChatTemplate::from_gguf(&gguf, &tokenizer).unwrap().unwrap();
    check_ids(&tokenizer, &template, &goldens().smollm2);
}

#[test]
fn gemma3_chats_encode_as_in_transformers() {
    let Some(path) = support::gemma3() else { return };
    let gguf = Gguf::open(&path).unwrap();
    let tokenizer = Tokenizer::from_gguf(&gguf).unwrap();
    assert!(ChatTemplate::from_gguf(&gguf, &tokenizer).unwrap().is_none(), "a base model");
    let goldens = goldens();
    let template = ChatTemplate::new(&goldens.templates["gemma"], "<bos>", "<eos>").unwrap();
    check_ids(&tokenizer, &template, &goldens.gemma3);
}
