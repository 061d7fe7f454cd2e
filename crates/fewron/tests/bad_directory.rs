//! Hugging Face directories that are damaged or of a kind fewron does not have: exit code 2, one line
//! that names the file, the thing and a way out, no panic. What the headers of weight files can lie
//! about is tested where they are read (`fewron-model/src/hf/tests/damage.rs`).

#[allow(dead_code, unreachable_pub)]
mod support;

use std::fs::{self, File};
use std::path::Path;

use serde_json::{Value, json};
use support::{fewron, fixture};
use tempfile::TempDir;

const INDEX: &str = "model.safetensors.index.json";
const WEIGHTS: &str = "model.safetensors";

/// A copy of a random model of the goldens.
struct Directory(TempDir);

impl Directory {
    fn of(name: &str) -> Self {
        let copy = TempDir::new().unwrap();
        for entry in fs::read_dir(fixture(&format!("goldens/families/{name}"))).unwrap() {
            let path = entry.unwrap().path();
            fs::copy(&path, copy.path().join(path.file_name().unwrap())).unwrap();
        }
        Self(copy)
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    fn remove(self, file: &str) -> Self {
        fs::remove_file(self.path().join(file)).unwrap();
        self
    }

    fn write(self, file: &str, bytes: impl AsRef<[u8]>) -> Self {
        fs::write(self.path().join(file), bytes).unwrap();
        self
    }

    fn json(self, file: &str, change: impl Fn(&mut Value)) -> Self {
        let mut value = serde_json::from_slice(&self.bytes(file)).unwrap();
        change(&mut value);
        self.write(file, value.to_string())
    }

    fn bytes(&self, file: &str) -> Vec<u8> {
        fs::read(self.path().join(file)).unwrap()
    }

    /// The header of the weights with one text for another of the same length.
    fn header(self, from: &str, to: &str) -> Self {
        assert_eq!(from.len(), to.len());
        let mut bytes = self.bytes(WEIGHTS);
        let at = bytes.windows(from.len()).position(|window| window == from.as_bytes()).unwrap();
        bytes[at..at + to.len()].copy_from_slice(to.as_bytes());
        self.write(WEIGHTS, bytes)
    }

    /// The error of every command that opens a model, which must be the same line, after the path.
    #[track_caller]
    fn error(&self) -> String {
        let home = TempDir::new().unwrap();
        let model = self.path().to_str().unwrap();
        let text = fixture("text/prose.txt");
        let commands: [&[&str]; 5] = [
            &["inspect", model],
            &["generate", model, "-p", "Hi", "--quantize", "q8_0"],
            &["chat", model],
            &["score", model, "--text-file", &text],
            &["sweep", model, "--limit", "1"],
        ];
        let errors = commands.map(|arguments| {
            let run = fewron(home.path(), arguments);
            assert_eq!((run.code, run.stdout.as_str()), (2, ""), "{arguments:?}: {}", run.stderr);
            assert_eq!(run.stderr.lines().count(), 1, "{}", run.stderr);
            let error = run.stderr.trim_end().strip_prefix("error: ").unwrap().to_owned();
            error.strip_prefix(model).unwrap_or_else(|| panic!("names no file: {error}")).to_owned()
        });
        assert!(errors.iter().all(|error| *error == errors[0]), "{errors:?}");
        errors[0].clone()
    }

    #[track_caller]
    fn fails(&self, expected: &str) {
        assert_eq!(self.error(), expected);
    }
}

#[test]
fn a_missing_shard() {
    Directory::of("llama3-scaled").remove("model-00002-of-00003.safetensors").fails(
        ": the file model-00002-of-00003.safetensors, which model.safetensors.index.json \
         names, is missing; download it again",
    );
}

#[test]
fn an_index_that_points_outside() {
    let directory = Directory::of("llama3-scaled");
    directory
        .json(INDEX, |index| index["weight_map"]["lm_head.weight"] = json!("../w.safetensors"))
        .fails(
            "/model.safetensors.index.json: names the file \"../w.safetensors\" for tensor \
         lm_head.weight; only files in the same folder are opened, download the model again \
         from a place you trust",
        );
}

#[test]
fn weights_of_another_type() {
    Directory::of("llama-f16").header("\"F16\"", "\"I16\"").fails(
        "/model.safetensors: tensor lm_head.weight has type I16, which fewron cannot compute \
         with; use a model with F32, F16 or BF16 weights",
    );
}

/// Sizes of the configuration allocate nothing before the weights have them too.
#[test]
fn shapes_that_disagree() {
    let with = |key: &str, value: u64| {
        Directory::of("qwen2").json("config.json", |config| config[key] = json!(value)).error()
    };
    let together = "config.json and the weights do not belong together, download the model again";
    let cases = [
        (
            "intermediate_size",
            60,
            "model.layers.0.mlp.up_proj.weight has shape [48, 65], expected [48, 60]",
        ),
        (
            "vocab_size",
            1 << 27,
            "model.embed_tokens.weight has shape [48, 300], expected [48, 134217728]",
        ),
        (
            "num_key_value_heads",
            4,
            "model.layers.0.self_attn.k_proj.weight has shape [48, 24], expected [48, 48]",
        ),
    ];
    for (key, value, what) in cases {
        assert_eq!(with(key, value), format!(": tensor {what} (columns first); {together}"));
    }
    let fewer = with("num_hidden_layers", 2);
    assert!(fewer.starts_with(": the file has the tensor model.layers.2."), "{fewer}");
    let more = with("num_hidden_layers", 4);
    assert!(more.starts_with(": the model has no tensor model.layers.3."), "{more}");
    assert!(more.ends_with("; `fewron models` lists models that work"), "{more}");
}

#[test]
fn a_huge_header() {
    let directory = Directory::of("qwen2");
    let mut bytes = directory.bytes(WEIGHTS);
    bytes[..8].copy_from_slice(&(1u64 << 62).to_le_bytes());
    directory.write(WEIGHTS, bytes).fails(
        "/model.safetensors: is damaged or no safetensors file: its header says to have \
         4611686018427387904 bytes, 100000000 are the most; download it again",
    );
}

#[test]
fn a_file_that_is_cut_off() {
    let directory = Directory::of("qwen2");
    let bytes = directory.bytes(WEIGHTS);
    let half = bytes.len() / 2;
    directory.write(WEIGHTS, &bytes[..half]).fails(
        "/model.safetensors: the file is truncated: tensor \
         model.layers.1.mlp.down_proj.weight needs 139992 bytes, the file has 129612; \
         download it again",
    );
}

#[test]
fn no_tokenizer() {
    Directory::of("phi").remove("tokenizer.json").fails(
        ": there is no tokenizer.json; make it with \
         `AutoTokenizer.from_pretrained(DIR).save_pretrained(DIR)` of the Python package \
         transformers",
    );
}

#[test]
fn a_damaged_tokenizer() {
    Directory::of("phi").write("tokenizer.json", "{\"model\": {\"type\": \"Unigram\"}}").fails(
        ": tokenizer.json has a model of type \"Unigram\" instead of BPE, which fewron does \
         not have; a GGUF file of the model may work",
    );
}

#[test]
fn damaged_tokenizer_config() {
    Directory::of("phi").write("tokenizer_config.json", "{\"a\": ").fails(
        "/tokenizer_config.json: is damaged: EOF while parsing a value at line 1 column 6; \
         download it again",
    );
}

#[test]
fn a_damaged_config() {
    Directory::of("phi").write("config.json", "{\"model_type\": \"phi\"").fails(
        "/config.json: is damaged: EOF while parsing an object at line 1 column 20; download \
         it again",
    );
}

#[test]
fn an_unknown_family() {
    Directory::of("qwen3")
        .json("config.json", |config| config["model_type"] = json!("mamba"))
        .fails(
            ": config.json: model_type is \"mamba\", which fewron does not have (it has: llama, \
         phi, qwen2, qwen3, gemma3, gemma3_text, opt); `fewron models` lists models that work",
        );
}

#[test]
fn an_unknown_rope_scaling() {
    let scaling = json!({"rope_type": "yarn", "factor": 4.0});
    Directory::of("qwen2")
        .json("config.json", |config| config["rope_scaling"] = scaling.clone())
        .fails(
            ": config.json: rope_scaling.rope_type is \"yarn\", which fewron does not have (it \
         has: default, linear, llama3); `fewron models` lists models that work",
        );
}

#[test]
fn pickled_weights_only() {
    Directory::of("opt").remove(WEIGHTS).write("pytorch_model.bin", "PK").fails(
        ": has weights as pytorch_model.bin only, which is a Python pickle; convert them with \
         `AutoModelForCausalLM.from_pretrained(DIR).save_pretrained(DIR)` of the Python \
         package transformers, which writes safetensors",
    );
}

#[test]
fn a_folder_without_a_model() {
    Directory(TempDir::new().unwrap()).fails(
        " is a folder without config.json: name a .gguf file or a Hugging Face model folder",
    );
}

/// A configuration that is a hole of a terabyte is not read.
#[test]
fn a_huge_configuration() {
    let directory = Directory::of("phi");
    File::create(directory.path().join("config.json")).unwrap().set_len(1 << 40).unwrap();
    directory.fails(
        "/config.json: has 1099511627776 bytes, more than the 16777216 that such a file has; \
         download it again",
    );
}
