//! `fewron inspect` on tiny models.

#[allow(dead_code, unreachable_pub)]
mod support;

use serde_json::{Value, json};
use support::{fewron, tiny};

fn inspect(model: &str, more: &[&str]) -> String {
    let home = tempfile::tempdir().unwrap();
    let path = tiny(model);
    let run = fewron(home.path(), &[&["inspect", &path], more].concat());
    assert_eq!((run.code, run.stderr.as_str()), (0, ""));
    run.stdout.replace(&path, &format!("[TINY]/{model}.gguf"))
}

#[test]
fn words() {
    insta::assert_snapshot!("inspect_llama", inspect("tiny-llama-odd", &[]));
    insta::assert_snapshot!("inspect_gemma3", inspect("tiny-gemma3", &[]));
}

#[test]
fn json() {
    let facts: Value = serde_json::from_str(&inspect("tiny-llama", &["--json"])).unwrap();
    assert_eq!(facts["architecture"], "llama");
    assert_eq!((&facts["layers"], &facts["neurons"]), (&json!(3), &json!(240)));
    assert_eq!(facts["types"], json!({"F32": 30}));
    assert_eq!(facts["config"]["kv_heads"], 2);
    assert_eq!(facts["tokenizer"]["eos"], json!({"id": 2, "text": "<|im_end|>"}));
    assert_eq!(facts["plan"], Value::Null);
    // Three layers of three 48 × 80 matrices, of 48 × (48 + 16 + 16 + 48) attention weights, and a
    // head of 300 × 48, four bytes each.
    let bytes = &facts["bytes_per_token"];
    let (mlp, attention, head) = (3 * 3 * 48 * 80 * 4, 3 * 48 * 128 * 4, 300 * 48 * 4);
    assert_eq!((&bytes["mlp"], &bytes["gate"]), (&json!(mlp), &json!(mlp / 3)));
    assert_eq!((&bytes["attention"], &bytes["head"]), (&json!(attention), &json!(head)));
    assert_eq!(bytes["total"], mlp + attention + head);
}
