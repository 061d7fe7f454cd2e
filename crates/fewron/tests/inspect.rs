//! `fewron inspect` on tiny models of every family.

#[allow(dead_code, unreachable_pub)]
mod support;

use serde_json::{Value, json};
use support::{FAMILIES, fewron, fixture, tiny, trained};

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

fn inspect_directory(path: &str, more: &[&str]) -> String {
    let home = tempfile::tempdir().unwrap();
    let run = fewron(home.path(), &[&["inspect", path], more].concat());
    assert_eq!((run.code, run.stderr.as_str()), (0, ""));
    run.stdout
}

fn facts(path: &str) -> Value {
    serde_json::from_str(&inspect_directory(path, &["--json"])).unwrap()
}

#[test]
fn words_of_directories() {
    for name in FAMILIES {
        let path = trained(name);
        let text = inspect_directory(&path, &[]).replace(&path, &format!("[MODELS]/{name}"));
        insta::assert_snapshot!(format!("inspect_dir_{name}"), text);
    }
    let path = fixture("goldens/families/llama3-scaled");
    let text = inspect_directory(&path, &[]).replace(&path, "[FAMILIES]/llama3-scaled");
    insta::assert_snapshot!("inspect_dir_llama3-scaled", text);
}

#[test]
fn json_of_a_directory() {
    let facts = facts(&trained("tiny-phi"));
    assert_eq!((&facts["format"], &facts["weight_files"]), (&json!("hugging_face"), &json!(1)));
    assert_eq!((&facts["gguf_version"], &facts["architecture"]), (&Value::Null, &json!("phi")));
    assert_eq!(facts["types"].as_object().unwrap().keys().collect::<Vec<_>>(), ["F16"]);
    assert_eq!(facts["name"], "tiny-phi");
    assert_eq!(facts["config"]["residual"], "parallel");
    assert_eq!(facts["config"]["biases"]["head"], true);
    assert_eq!(facts["most_sparsity_can_give"]["speedup_gate_half"], Value::Null);
    // Six layers of two 160 × 640 matrices and four of 160 × 160, two bytes each.
    let bytes = &facts["bytes_per_token"];
    assert_eq!((&bytes["mlp"], &bytes["gate"]), (&json!(6 * 2 * 160 * 640 * 2), &json!(0)));
    assert_eq!(bytes["attention"], 6 * 4 * 160 * 160 * 2);
    assert_eq!(bytes["mlp_in_memory"], bytes["mlp"]);
}

/// Every layer reads the one MLP again, so it counts for each, but lies in memory once.
#[test]
fn a_shared_mlp_is_read_by_every_layer() {
    let facts_of = |path: &str, layers: usize, matrix_bytes: usize| {
        let facts = facts(path);
        let bytes = &facts["bytes_per_token"];
        assert_eq!(facts["config"]["shared_mlp"], true);
        assert_eq!(bytes["mlp"], 3 * layers * matrix_bytes);
        assert_eq!(bytes["gate"], layers * matrix_bytes);
        assert_eq!(bytes["mlp_in_memory"], 3 * matrix_bytes);
        let parts = ["attention", "mlp", "head"].map(|part| bytes[part].as_u64().unwrap());
        assert_eq!(bytes["total"], parts.iter().sum::<u64>());
    };
    facts_of(&trained("tiny-mobillama"), 8, 192 * 1024 * 2);
    // Under one layer's names, or under every layer's.
    facts_of(&fixture("goldens/families/mobillama"), 3, 40 * 110 * 4);
    facts_of(&fixture("goldens/families/mobillama-repeated"), 3, 40 * 110 * 4);
    assert_eq!(facts(&trained("tiny-llama"))["config"]["shared_mlp"], false);
}

#[test]
fn json() {
    let facts: Value = serde_json::from_str(&inspect("tiny-llama", &["--json"])).unwrap();
    assert_eq!(facts["architecture"], "llama");
    assert_eq!((&facts["layers"], &facts["neurons"]), (&json!(3), &json!(240)));
    assert_eq!(facts["types"], json!({"F32": 30}));
    let files = (&facts["format"], &facts["gguf_version"], &facts["weight_files"]);
    assert_eq!(files, (&json!("gguf"), &json!(3), &json!(1)));
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
