//! Damaged directories: one line that names the file, the thing and a way out; never a panic.

use super::*;
use crate::hf::safetensors::parse;

/// A copy of a small fixture.
fn copy_of(name: &str) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for entry in std::fs::read_dir(fixtures().join(name)).unwrap() {
        let path = entry.unwrap().path();
        std::fs::copy(&path, folder.path().join(path.file_name().unwrap())).unwrap();
    }
    folder
}

fn message(folder: &Path) -> String {
    let error = HfDirectory::open(folder).expect_err("a damaged directory was opened");
    let message = error.to_string();
    assert!(!message.contains('\n') && message.len() < 700, "{message}");
    message
}

#[track_caller]
fn assert_says(folder: &Path, parts: &[&str]) {
    let message = message(folder);
    for part in parts {
        assert!(message.contains(part), "{part:?} is not in: {message}");
    }
}

const INDEX: &str = "model.safetensors.index.json";
const SECOND: &str = "model-00002-of-00003.safetensors";

#[test]
fn missing_files_are_named() {
    let folder = tempfile::tempdir().unwrap();
    assert_says(folder.path(), &["config.json", "Download it again"]);
    assert_says(&folder.path().join("nowhere"), &["nowhere", "not a folder"]);
    let folder = copy_of("qwen2");
    std::fs::remove_file(folder.path().join("model.safetensors")).unwrap();
    assert_says(folder.path(), &["no model.safetensors", "download"]);
    std::fs::write(folder.path().join("pytorch_model.bin"), "x").unwrap();
    assert_says(folder.path(), &["pytorch_model.bin", "save_pretrained"]);
    let folder = copy_of("llama3-scaled");
    std::fs::remove_file(folder.path().join(SECOND)).unwrap();
    assert_says(folder.path(), &[SECOND, INDEX, "missing", "download"]);
    std::fs::write(folder.path().join("model.safetensors"), "x").unwrap();
    assert_says(folder.path(), &["both", INDEX, "remove"]);
}

#[test]
fn damaged_json_is_named() {
    let folder = copy_of("llama3-scaled");
    for (file, text) in [("config.json", "{\"a\": "), ("config.json", "[]"), (INDEX, "nonsense")] {
        let before = std::fs::read(folder.path().join(file)).unwrap();
        std::fs::write(folder.path().join(file), text).unwrap();
        assert_says(folder.path(), &[file, "damaged", "download"]);
        std::fs::write(folder.path().join(file), before).unwrap();
    }
    let file = File::create(folder.path().join("config.json")).unwrap();
    file.set_len(1 << 40).unwrap();
    assert_says(folder.path(), &["config.json", "1099511627776 bytes"]);
}

#[test]
fn indexes_that_lie_are_refused() {
    let cases = [
        (json!({}), "weight_map"),
        (json!({"weight_map": {}}), "empty"),
        (
            json!({"weight_map": {"t": "../model.safetensors"}}),
            "\"../model.safetensors\" for tensor t",
        ),
        (json!({"weight_map": {"t": "/etc/passwd"}}), "/etc/passwd"),
        (json!({"weight_map": {"t": "a/b.safetensors"}}), "a/b.safetensors"),
        (json!({"weight_map": {"t": ".."}}), "\"..\""),
        (json!({"weight_map": {"t": 3}}), "\"\" for tensor t"),
        (json!({"weight_map": {"model.nothing.weight": SECOND}}), "model.nothing.weight"),
    ];
    for (index, part) in cases {
        let folder = copy_of("llama3-scaled");
        std::fs::write(folder.path().join(INDEX), index.to_string()).unwrap();
        assert_says(folder.path(), &[part]);
    }
}

#[test]
fn a_tensor_in_two_files_is_refused() {
    let folder = copy_of("llama3-scaled");
    let first = folder.path().join("model-00001-of-00003.safetensors");
    std::fs::copy(first, folder.path().join(SECOND)).unwrap();
    assert_says(folder.path(), &[SECOND, "model-00001-of-00003.safetensors", "download"]);
}

/// The header of `a` (F32, 2 × 3) and `b` (F16, 4), with one thing changed.
fn two_tensors(change: impl Fn(&mut Value)) -> String {
    let mut header = json!({
        "a": {"dtype": "F32", "shape": [2, 3], "data_offsets": [0, 24]},
        "b": {"dtype": "F16", "shape": [4], "data_offsets": [24, 32]},
    });
    change(&mut header);
    header.to_string()
}

#[test]
fn damaged_headers_are_named() {
    let huge = json!([1u64 << 40, 1u64 << 40]);
    let cases: Vec<(String, u64, &[&str])> = vec![
        (two_tensors(|_| ()), 31, &["truncated", "tensor b", "needs"]),
        (two_tensors(|_| ()), 33, &["1 bytes after the last tensor"]),
        (two_tensors(|h| h["b"]["dtype"] = json!("F99")), 32, &["tensor b has type F99"]),
        (
            two_tensors(|h| h["b"]["shape"] = json!([5])),
            32,
            &["tensor b of shape [5]", "10 bytes", "has 8"],
        ),
        (two_tensors(|h| h["b"]["shape"] = huge.clone()), 32, &["tensor b", "more elements"]),
        (two_tensors(|h| h["b"]["shape"] = json!([-4])), 32, &["tensor b"]),
        (
            two_tensors(|h| h["b"]["data_offsets"] = json!([20, 28])),
            28,
            &["tensors a and b overlap"],
        ),
        (
            two_tensors(|h| h["b"]["data_offsets"] = json!([28, 36])),
            36,
            &["4 bytes before tensor b"],
        ),
        (
            two_tensors(|h| h["b"]["data_offsets"] = json!([32, 24])),
            32,
            &["tensor b", "data_offsets"],
        ),
        (
            two_tensors(|h| h["b"]["data_offsets"] = json!([u64::MAX - 8, u64::MAX])),
            32,
            &["tensor b"],
        ),
        (two_tensors(|h| h["b"] = json!(3)), 32, &["tensor b"]),
        (r#"{"a": {}, "a": {}}"#.into(), 0, &["tensor a"]),
        ("{".into(), 0, &["header", "download"]),
        ("[]".into(), 0, &["header", "download"]),
    ];
    for (header, bytes, parts) in cases {
        let folder = copy_of("qwen2");
        write_safetensors(&folder.path().join("model.safetensors"), &header, bytes);
        assert_says(folder.path(), &[&["model.safetensors: "], parts].concat());
    }
}

#[test]
fn damaged_starts_are_named() {
    let cases: [(&[u8], &str); 5] = [
        (b"", "truncated"),
        (b"short", "truncated"),
        (&1000u64.to_le_bytes(), "truncated: the header needs 1008 bytes"),
        (&u64::MAX.to_le_bytes(), "18446744073709551615"),
        (&[2, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xfe], "UTF-8"),
    ];
    for (bytes, part) in cases {
        let folder = copy_of("qwen2");
        std::fs::write(folder.path().join("model.safetensors"), bytes).unwrap();
        assert_says(folder.path(), &["model.safetensors: ", part, "download"]);
    }
}

/// Whatever the `safetensors` crate takes is taken here, and the other way round, with the same
/// result.
#[test]
fn the_safetensors_crate_agrees() {
    for name in ["qwen2/model.safetensors", "gemma3-bf16/model.safetensors", "phi.safetensors"] {
        let file = std::fs::read(fixtures().join(name)).unwrap();
        let theirs = ::safetensors::SafeTensors::deserialize(&file).unwrap();
        let ours = parse(&file).unwrap();
        assert_eq!(ours.len(), theirs.len());
        for entry in ours {
            let tensor = theirs.tensor(&entry.name).unwrap();
            assert_eq!(entry.shape, tensor.shape());
            assert!(std::ptr::eq(&raw const file[entry.bytes], tensor.data()));
        }
    }
}

proptest::proptest! {
    #[test]
    fn random_damage_never_panics(
        changes in proptest::collection::vec((0usize..2600, proptest::num::u8::ANY), 1..8),
        cut in proptest::option::of(0usize..4000),
    ) {
        let mut file = std::fs::read(fixtures().join("qwen2/model.safetensors")).unwrap();
        for (at, byte) in changes {
            file[at] = byte;
        }
        file.truncate(cut.unwrap_or(usize::MAX));
        let ours = parse(&file);
        let theirs = ::safetensors::SafeTensors::deserialize(&file);
        if let (Ok(ours), Ok(theirs)) = (&ours, &theirs) {
            proptest::prop_assert_eq!(ours.len(), theirs.len());
        }
        // A name that comes twice is the one thing that only the crate takes.
        proptest::prop_assert!(ours.is_ok() == theirs.is_ok() || theirs.is_ok());
    }

    #[test]
    fn random_damage_of_digits_never_panics(
        changes in proptest::collection::vec((8usize..2600, proptest::char::range('0', '9')), 1..4),
    ) {
        let mut file = std::fs::read(fixtures().join("qwen2/model.safetensors")).unwrap();
        for (at, digit) in changes {
            if file[at].is_ascii_digit() {
                file[at] = digit as u8;
            }
        }
        let ours = parse(&file).map_err(|e| e.to_string());
        let theirs = ::safetensors::SafeTensors::deserialize(&file);
        proptest::prop_assert_eq!(ours.is_ok(), theirs.is_ok(), "{:?}", ours);
    }
}
