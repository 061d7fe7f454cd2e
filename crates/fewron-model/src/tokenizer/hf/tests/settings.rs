//! What `tokenizer_config.json`, `special_tokens_map.json`, the generation's configuration and the
//! template files say.

use super::*;
use crate::chat::{ChatTemplate, Message};

const CONFIG: &str = "tokenizer_config.json";
const MAP: &str = "special_tokens_map.json";
const GENERATION: &str = "generation_config.json";

#[test]
fn bos_is_added_as_the_configuration_says() {
    // The file's own post-processor puts `<s>` first; `byte-level` has none.
    let prefix = |name: &str, config: Value| {
        Folder::made(name).json(CONFIG, &config).tokenizer().encode_prompt("a")[0]
    };
    let with = |add: Value| json!({"bos_token": "<s>", "eos_token": "</s>", "add_bos_token": add});
    let (plain, byte) = (
        Folder::made("replace").tokenizer().encode("a", Specials::Plain)[0],
        Folder::made("byte-level").tokenizer().encode("a", Specials::Plain)[0],
    );
    assert_eq!(prefix("replace", json!({"bos_token": "<s>"})), 1);
    assert_eq!(prefix("replace", with(json!(true))), 1);
    assert_eq!(prefix("replace", with(json!(false))), plain);
    assert_eq!(prefix("byte-level", json!({"bos_token": "<s>"})), byte);
    assert_eq!(prefix("byte-level", with(json!(true))), 1);
    assert_eq!(prefix("byte-level", with(Value::Null)), byte);
    // Without a BOS there is none to add.
    assert_eq!(prefix("byte-level", json!({"add_bos_token": true})), byte);
}

#[test]
fn roles_come_from_either_file_as_texts_or_objects() {
    let object = json!({"content": "</s>", "lstrip": false, "special": true});
    let config = json!({"bos_token": "<s>", "eos_token": object});
    let t = Folder::made("byte-level").json(CONFIG, &config).tokenizer();
    assert_eq!((t.bos(), t.eos()), (Some(1), Some(2)));
    let t = Folder::made("byte-level").json(MAP, &config).tokenizer();
    assert_eq!((t.bos(), t.eos()), (Some(1), Some(2)));
    let other = json!({"eos_token": "<s>"});
    let t = Folder::made("byte-level").json(MAP, &config).json(CONFIG, &other).tokenizer();
    assert_eq!((t.bos(), t.eos()), (Some(1), Some(1)));
    let t = Folder::made("byte-level").json(CONFIG, &json!({"eos_token": "<nowhere>"})).tokenizer();
    assert_eq!((t.bos(), t.eos()), (None, None));
}

/// A token that has a role is a control token, whatever its entry says: no text of a user makes it.
#[test]
fn tokens_with_a_role_are_never_text() {
    let t = Folder::made("byte-level").tokenizer();
    let tag = t.encode("<tag>", Specials::Plain);
    assert_eq!((tag.len(), t.token_type(tag[0])), (1, Some(TokenType::UserDefined)));
    let config = json!({"additional_special_tokens": ["<tag>"]});
    let t = Folder::made("byte-level").json(CONFIG, &config).tokenizer();
    assert_eq!(t.token_type(tag[0]), Some(TokenType::Control));
    assert_eq!(t.encode("<tag>", Specials::Parse), tag);
    let plain = t.encode("<tag>", Specials::Plain);
    assert!(!plain.contains(&tag[0]) && t.decode(&plain, false) == "<tag>", "{plain:?}");
}

#[test]
fn tokens_that_only_the_configuration_has() {
    let added = json!({"705": {"content": "<extra>", "special": true, "rstrip": true}});
    let config = json!({"added_tokens_decoder": added});
    let t = Folder::made("byte-level").json(CONFIG, &config).tokenizer();
    assert_eq!((t.vocab_size(), t.token_text(705)), (706, Some("<extra>")));
    let a = t.encode("a", Specials::Plain);
    assert_eq!(t.encode("a<extra>  a", Specials::Parse), [&a[..], &[705], &a].concat());
}

#[test]
fn every_id_of_a_list_ends_an_answer() {
    let ends = |generation: Value, config: Value| {
        let folder = Folder::made("byte-level").json(GENERATION, &generation);
        folder.change("config.json", |all| all["eos_token_id"] = config);
        let t = folder.tokenizer();
        (0..t.vocab_size() as u32).filter(|&id| t.is_end(id)).collect::<Vec<_>>()
    };
    assert_eq!(ends(json!({"eos_token_id": [2, 704, 1]}), json!(0)), [1, 2, 704]);
    assert_eq!(ends(json!({"eos_token_id": 2}), json!(0)), [2]);
    assert_eq!(ends(json!({"eos_token_id": null}), json!([0, 2])), [0, 2]);
    assert_eq!(ends(json!({}), json!(1)), [1]);
    assert_eq!(ends(json!({}), Value::Null), [0u32; 0]);
}

#[test]
fn an_end_beyond_the_vocabulary_is_an_error() {
    let folder = Folder::made("byte-level").json(GENERATION, &json!({"eos_token_id": [2, 705]}));
    let expected = "eos_token_id is 705, but the vocabulary ends at 704; the file is damaged";
    assert_eq!(folder.error(), expected);
    let folder = Folder::made("byte-level").json(GENERATION, &json!({"eos_token_id": 704}));
    assert!(folder.tokenizer().is_end(704));
}

#[test]
fn an_eos_after_every_text_is_refused() {
    let config = json!({"eos_token": "</s>", "add_eos_token": true});
    let error = Folder::made("byte-level").json(CONFIG, &config).error();
    assert!(error.contains("puts eos_token after every text"), "{error}");
}

fn rendered(folder: &Folder) -> Option<String> {
    let directory = folder.directory();
    let tokenizer = Tokenizer::from_hf(&directory).unwrap();
    let template = ChatTemplate::from_hf(&directory, &tokenizer).unwrap()?;
    Some(template.render(&[Message::new("user", "hi")], false).unwrap())
}

#[test]
fn templates_come_from_the_first_file_that_has_one() {
    let folder = Folder::made("byte-level");
    assert_eq!(rendered(&folder), None);
    let special = json!({"bos_token": "<s>", "eos_token": "</s>"});
    let mut config = special.clone();
    config["chat_template"] =
        json!("{{ bos_token }}config {{ messages[0]['content'] }}{{ eos_token }}");
    let folder = folder.json(CONFIG, &config);
    assert_eq!(rendered(&folder).unwrap(), "<s>config hi</s>");
    let folder = folder.json("chat_template.json", &json!({"chat_template": "json"}));
    assert_eq!(rendered(&folder).unwrap(), "json");
    let folder = folder.write("chat_template.jinja", "jinja {{ messages[0].role }}");
    assert_eq!(rendered(&folder).unwrap(), "jinja user");
}

#[test]
fn the_default_of_several_templates_is_taken() {
    let templates = |named: &str| {
        json!({"chat_template": [
            {"name": "tool_use", "template": "tools"}, {"name": named, "template": "plain"}
        ]})
    };
    let folder = Folder::made("byte-level").json(CONFIG, &templates("default"));
    assert_eq!(rendered(&folder).unwrap(), "plain");
    let folder = folder.json(CONFIG, &templates("other"));
    let directory = folder.directory();
    let tokenizer = Tokenizer::from_hf(&directory).unwrap();
    let error = ChatTemplate::from_hf(&directory, &tokenizer).unwrap_err().to_string();
    assert!(error.contains("none of several is named default; use `--raw`"), "{error}");
    let folder = folder.json(CONFIG, &json!({"chat_template": null}));
    assert_eq!(rendered(&folder), None);
}
