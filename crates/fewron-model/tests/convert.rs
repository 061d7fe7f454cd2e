//! GGUF files made from Hugging Face directories: the model, the tokens and the chat prompts are
//! those of the directory. Nothing here is compared with transformers: `families.rs` does that for
//! directories.

mod goldens;

use std::collections::BTreeSet;
use std::fs;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use fewron_kernels::DType;
use fewron_model::chat::{ChatTemplate, Message};
use fewron_model::gguf::{Gguf, NewFile, Recipe};
use fewron_model::hf::HfDirectory;
use fewron_model::tokenizer::{Specials, Tokenizer};
use fewron_model::{KvType, Logits, Model, ModelConfig, Pool, Session, Source, Stop, Trace};
use serde_json::{Value, json};

/// Random models that GGUF files can hold. Those of Gemma ask for another scale of attention.
const RANDOM: [&str; 9] = [
    "llama-bias",
    "llama-f16",
    "llama3-scaled",
    "mobillama",
    "mobillama-repeated",
    "phi",
    "phi-gqa",
    "qwen2",
    "qwen3",
];

const TRAINED: [&str; 5] =
    ["tiny-gemma3", "tiny-llama", "tiny-mobillama", "tiny-phi", "tiny-qwen3"];

fn trained(name: &str) -> PathBuf {
    goldens::folder().join("../../models/tiny").join(name)
}

/// A copy of a random model with another configuration.
fn random(name: &str, change: impl Fn(&mut Value)) -> tempfile::TempDir {
    let copy = tempfile::tempdir().unwrap();
    let source = goldens::folder().join("families").join(name);
    for entry in fs::read_dir(&source).unwrap() {
        let path = entry.unwrap().path();
        fs::copy(&path, copy.path().join(path.file_name().unwrap())).unwrap();
    }
    let config = fs::read_to_string(source.join("config.json")).unwrap();
    let mut config = serde_json::from_str(&config).unwrap();
    change(&mut config);
    fs::write(copy.path().join("config.json"), config.to_string()).unwrap();
    copy
}

/// Changes the tokenizer of a copy.
fn change_tokenizer(copy: &Path, change: impl Fn(&mut Value)) {
    let file = copy.join("tokenizer.json");
    let mut tokenizer = serde_json::from_str(&fs::read_to_string(&file).unwrap()).unwrap();
    change(&mut tokenizer);
    fs::write(file, tokenizer.to_string()).unwrap();
}

fn recipe(dtype: DType) -> Recipe {
    Recipe { dtype, output: None, embedding: None }
}

fn written(file: &NewFile<'_>) -> Gguf {
    let mut bytes = Vec::new();
    file.write(&mut bytes, &Pool::new(2), &mut |_| ControlFlow::Continue(())).unwrap();
    Gguf::from_bytes("converted", &bytes).unwrap()
}

fn converted(directory: &Path, dtype: DType) -> Gguf {
    let directory = HfDirectory::open(directory).unwrap();
    written(&directory.to_gguf(&recipe(dtype)).unwrap().file)
}

fn session(source: impl Into<Source>) -> Session {
    let model = Model::from_source(source.into()).unwrap();
    Session::with_kv_type(Arc::new(model), Arc::new(Pool::new(2)), KvType::F32)
}

fn of_directory(directory: &Path) -> Session {
    session(HfDirectory::open(directory).unwrap())
}

/// Asserts that two results are the same; to the last bit where rows keep their order, else within
/// what another order of sums makes.
#[track_caller]
fn assert_same(what: &str, exact: bool, got: &[f32], expected: &[f32]) {
    assert_eq!(got.len(), expected.len(), "{what}");
    if exact {
        assert!(got == expected, "{what} differs");
        return;
    }
    let largest = expected.iter().fold(0.0f32, |m, x| m.max(x.abs()));
    let worst = got.iter().zip(expected).fold(0.0f32, |m, (a, b)| m.max((a - b).abs()));
    assert!(worst <= 1e-5 * largest, "{what} differs by {worst:e}, values up to {largest}");
}

/// Compares logits, and outputs and gradients of the last position.
fn check_model(what: &str, directory: &Path, dtype: DType) {
    let (mut ours, mut theirs) = (session(converted(directory, dtype)), of_directory(directory));
    // Queries and keys of Llama change the order of their rows, and so that of sums; another type may
    // sum in another order too.
    let kept = HfDirectory::open(directory).unwrap().float_type() == dtype;
    let exact = kept && ours.model().config().arch != "llama";
    let vocab = ours.model().config().vocab as u32;
    let tokens: Vec<u32> = (0..24).map(|i| (i * 37 + 11) % vocab).collect();
    let (last, prompt) = tokens.split_last().unwrap();
    let run = |session: &mut Session| {
        let all = session.forward(prompt, None, None, Logits::All).unwrap().to_vec();
        let mut trace = Trace::new(session.model().config());
        let logits = session.forward(&[*last], None, Some(&mut trace), Logits::Last).unwrap();
        let logits = logits.to_vec();
        let gradients = session.backward(&trace, &logits, &[5], Stop::Everything);
        (all, logits, trace, gradients)
    };
    let (a, b) = (run(&mut ours), run(&mut theirs));
    assert_same(&format!("{what}: logits"), exact, &a.0, &b.0);
    assert_same(&format!("{what}: last logits"), exact, &a.1, &b.1);
    for layer in 0..ours.model().config().layers.len() {
        let name = |part: &str| format!("{what}: {part} of layer {layer}");
        let (x, y) = (&a.3, &b.3);
        assert_same(&name("outputs"), exact, a.2.neuron_outputs(layer), b.2.neuron_outputs(layer));
        assert_same(&name("neuron gradients"), exact, &x.neurons[layer], &y.neurons[layer]);
        assert_same(&name("head gradients"), exact, &x.heads[layer], &y.heads[layer]);
    }
    check_configs(what, ours.model().config(), theirs.model().config());
}

/// The configurations but for what GGUF files say otherwise.
fn check_configs(what: &str, file: &ModelConfig, directory: &ModelConfig) {
    let neutral = |config: &ModelConfig| ModelConfig {
        arch: String::new(),
        rope_pairs: fewron_model::RopePairs::Halves,
        rope_factors: None,
        ..config.clone()
    };
    assert_eq!(neutral(file), neutral(directory), "{what}");
}

#[test]
fn random_models_compute_the_same() {
    for name in RANDOM {
        let copy = random(name, |_| {});
        let own = HfDirectory::open(copy.path()).unwrap().float_type();
        for dtype in BTreeSet::from([DType::F32.name(), own.name()]) {
            let dtype = DType::ALL.into_iter().find(|known| known.name() == dtype).unwrap();
            check_model(&format!("{name} {dtype}"), copy.path(), dtype);
        }
    }
}

#[test]
fn trained_models_compute_the_same() {
    for name in TRAINED {
        for dtype in [DType::F32, DType::F16] {
            check_model(&format!("{name} {dtype}"), &trained(name), dtype);
        }
    }
}

/// Gemma with windows and scaling as files can say them, of random weights in F32 and BF16.
#[test]
fn gemma_keeps_windows_scaling_and_precise_norms() {
    for (name, dtype) in [("gemma3", DType::F32), ("gemma3-bf16", DType::Bf16)] {
        let copy = random(name, |config| config["query_pre_attn_scalar"] = json!(14));
        check_model(name, copy.path(), dtype);
        let all_global = random(name, |config| {
            config["query_pre_attn_scalar"] = json!(14);
            config["layer_types"] = json!(vec!["full_attention"; 4]);
        });
        check_model(&format!("{name} without windows"), all_global.path(), DType::F32);
        let all_local = random(name, |config| {
            config["query_pre_attn_scalar"] = json!(14);
            config["layer_types"] = json!(vec!["sliding_attention"; 4]);
        });
        check_model(&format!("{name} with windows only"), all_local.path(), DType::F32);
    }
}

#[test]
fn one_mlp_for_all_layers_is_recognised_again() {
    let copy = random("mobillama", |_| {});
    let session = session(converted(copy.path(), DType::F32));
    let model = session.model();
    assert!(std::ptr::eq(model.down_proj(0), model.down_proj(2)));
}

#[test]
fn what_gguf_cannot_say_is_refused_by_name() {
    let error = |name: &str, key: &str, value: Value| {
        let copy = random(name, |config| config[key] = value.clone());
        let directory = HfDirectory::open(copy.path()).unwrap();
        directory.to_gguf(&recipe(DType::F32)).unwrap_err().to_string()
    };
    let gemma = error("gemma3", "hidden_size", json!(42));
    assert!(gemma.contains("query_pre_attn_scalar is 20, but"), "{gemma}");
    let act = error("phi", "hidden_act", json!("relu"));
    assert!(act.contains("hidden_act is relu, but the GGUF architecture phi2 always"), "{act}");
    let irregular = random("gemma3", |config| {
        config["query_pre_attn_scalar"] = json!(14);
        config["layer_types"] =
            json!(["full_attention", "sliding_attention", "full_attention", "full_attention"]);
    });
    let directory = HfDirectory::open(irregular.path()).unwrap();
    let error_ = directory.to_gguf(&recipe(DType::F32)).unwrap_err().to_string();
    assert!(error_.contains("layer_types is irregular"), "{error_}");
    let llama3 = json!({"rope_type": "llama3", "rope_theta": 1e4, "factor": 8.0,
        "low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 16});
    let scaled = error("qwen2", "rope_parameters", llama3);
    assert!(scaled.contains("rope_type is llama3"), "{scaled}");
    let opt = HfDirectory::open(&trained("tiny-opt")).unwrap();
    let opt = opt.to_gguf(&recipe(DType::F32)).unwrap_err().to_string();
    assert!(opt.contains("GGUF has no architecture for opt models"), "{opt}");
}

/// The texts that the tokenizer goldens are made from.
fn texts() -> Vec<String> {
    let file = goldens::folder().join("../tokenizer/corpus.json");
    let corpus: Value = serde_json::from_str(&fs::read_to_string(file).unwrap()).unwrap();
    serde_json::from_value(corpus["texts"].clone()).unwrap()
}

#[track_caller]
fn check_tokens(what: &str, directory: &Path, texts: &[String]) {
    let gguf = converted(directory, DType::F16);
    let directory = HfDirectory::open(directory).unwrap();
    let ours = Tokenizer::from_gguf(&gguf).unwrap();
    let theirs = Tokenizer::from_hf(&directory).unwrap();
    for text in texts {
        for specials in [Specials::Plain, Specials::Parse] {
            let ids = theirs.encode(text, specials);
            assert_eq!(ours.encode(text, specials), ids, "{what}: {text:?} {specials:?}");
            for skip in [false, true] {
                assert_eq!(ours.decode(&ids, skip), theirs.decode(&ids, skip), "{what}: {text:?}");
            }
        }
        assert_eq!(ours.encode_prompt(text), theirs.encode_prompt(text), "{what}: {text:?}");
    }
    let rows = directory.model_config().unwrap().vocab;
    assert_eq!(ours.vocab_size(), rows, "{what}");
    let ends = |t: &Tokenizer| (0..rows as u32).filter(|&id| t.is_end(id)).collect::<Vec<_>>();
    let ids = |t: &Tokenizer| (t.bos(), t.eos(), t.eot(), t.add_bos(), ends(t));
    assert_eq!(ids(&ours), ids(&theirs), "{what}");
    for id in 0..rows as u32 {
        assert_eq!(ours.decode(&[id], false), theirs.decode(&[id], false), "{what}: {id}");
    }
}

#[test]
fn tokens_are_those_of_the_directory() {
    for name in TRAINED {
        check_tokens(name, &trained(name), &texts());
    }
    for name in RANDOM {
        check_tokens(name, &goldens::folder().join("families").join(name), &texts());
    }
}

#[test]
fn rows_without_a_token_are_padding() {
    let copy = random("qwen3", |_| {});
    change_tokenizer(copy.path(), |tokenizer| {
        let vocab = tokenizer["model"]["vocab"].as_object_mut().unwrap();
        vocab.retain(|_, id| id.as_u64().unwrap() < 290);
        let known: BTreeSet<String> = vocab.keys().cloned().collect();
        let merges = tokenizer["model"]["merges"].as_array_mut().unwrap();
        let joined = |merge: &Value| {
            let part = |at: usize| merge[at].as_str().unwrap().to_owned();
            part(0) + &part(1)
        };
        merges.retain(|merge| known.contains(&joined(merge)));
    });
    check_tokens("padded", copy.path(), &texts());
    let gguf = converted(copy.path(), DType::F32);
    let tokens: Vec<&str> = gguf.metadata().require("tokenizer.ggml.tokens").unwrap();
    assert_eq!(tokens[299], "[PAD299]");
}

#[test]
fn splits_are_recognised_or_refused() {
    const LLAMA3: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
    let by_pattern = |pattern: &str| {
        json!({"type": "Sequence", "pretokenizers": [
            {"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": false},
            {"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": false},
        ]})
    };
    let qwen2 = LLAMA3.replace("{1,3}", "");
    let split = |pre_tokenizer: Value, ignore_merges: bool| {
        let copy = random("qwen3", |_| {});
        change_tokenizer(copy.path(), |tokenizer| {
            tokenizer["pre_tokenizer"] = pre_tokenizer.clone();
            tokenizer["model"]["ignore_merges"] = json!(ignore_merges);
        });
        copy
    };
    for (name, value, ignore_merges) in
        [("llama-bpe", by_pattern(LLAMA3), true), ("qwen2", by_pattern(&qwen2), false)]
    {
        let copy = split(value, ignore_merges);
        let gguf = converted(copy.path(), DType::F32);
        assert_eq!(gguf.metadata().str("tokenizer.ggml.pre").unwrap(), name);
        check_tokens(name, copy.path(), &texts());
    }
    let error = |value: Value, ignore_merges: bool| {
        let copy = split(value, ignore_merges);
        let directory = HfDirectory::open(copy.path()).unwrap();
        directory.to_gguf(&recipe(DType::F32)).unwrap_err().to_string()
    };
    let unknown = error(by_pattern(r"\w+|\s+(?!\S)|\s+"), false);
    assert!(unknown.contains(r#"{"Regex":"\\w+|"#) && unknown.contains("llama-bpe"), "{unknown}");
    let merges = error(by_pattern(&qwen2), true);
    assert!(merges.contains("ignore_merges true with the split of qwen2"), "{merges}");
    let prefix = json!({"type": "ByteLevel", "add_prefix_space": true, "trim_offsets": true,
                        "use_regex": true});
    assert!(error(prefix, false).contains(r#""add_prefix_space":true"#));
}

#[test]
fn chat_prompts_are_those_of_the_directory() {
    let messages = [
        Message::new("user", "What is 2 + 2?"),
        Message::new("assistant", "4</s><eos>"),
        Message::new("user", "  ünï\n<|im_end|>"),
    ];
    for name in TRAINED {
        let gguf = converted(&trained(name), DType::F16);
        let directory = HfDirectory::open(&trained(name)).unwrap();
        let ours = Tokenizer::from_gguf(&gguf).unwrap();
        let theirs = Tokenizer::from_hf(&directory).unwrap();
        let our_chat = ChatTemplate::from_gguf(&gguf, &ours).unwrap().unwrap();
        let their_chat = ChatTemplate::from_hf(&directory, &theirs).unwrap().unwrap();
        assert_eq!(
            our_chat.render(&messages, true).unwrap(),
            their_chat.render(&messages, true).unwrap(),
            "{name}"
        );
        assert_eq!(
            our_chat.ids(&ours, &messages, true).unwrap(),
            their_chat.ids(&theirs, &messages, true).unwrap(),
            "{name}"
        );
    }
}

#[test]
fn quantised_files_are_those_of_two_steps() {
    for name in TRAINED {
        let float = converted(&trained(name), DType::F16);
        for dtype in [DType::Q8_0, DType::Q4_0, DType::Q4_K] {
            let two_steps = written(&NewFile::requantized(&float, &recipe(dtype)).unwrap());
            let one_step = converted(&trained(name), dtype);
            assert_eq!(one_step.tensors().len(), two_steps.tensors().len());
            for tensor in two_steps.tensors() {
                let (a, b) = (
                    one_step.tensor(&tensor.name).unwrap(),
                    two_steps.tensor(&tensor.name).unwrap(),
                );
                assert_eq!((a.dtype, a.shape), (b.dtype, b.shape), "{name} {}", tensor.name);
                assert!(a.data == b.data, "{name} {dtype} {}", tensor.name);
            }
            let file_type = |gguf: &Gguf| gguf.metadata().u32("general.file_type").unwrap();
            assert_eq!(file_type(&one_step), file_type(&two_steps));
        }
    }
}

/// A SentencePiece tokenizer as `tokenizer.json` has it: bytes, characters, pieces by falling score,
/// and every pair that joins to a piece as a merge.
fn sentencepiece(prefix: bool) -> Value {
    let pieces = ["▁t", "he", "in", "th", "▁the", "the", "▁a", "an", "er", "▁th", "▁▁", "▁an"];
    let mut texts: Vec<String> = ["<unk>", "<s>", "</s>"].map(String::from).to_vec();
    texts.extend((0..256).map(|byte| format!("<0x{byte:02X}>")));
    texts.extend(["▁", "t", "h", "e", "a", "i", "n", "r", "s", "o"].map(String::from));
    texts.extend(pieces.map(String::from));
    let merges: Vec<Value> = pieces
        .iter()
        .flat_map(|piece| {
            let splits = piece.char_indices().skip(1).map(|(at, _)| piece.split_at(at));
            let mut pairs: Vec<_> = splits
                .filter(|(l, r)| [l, r].iter().all(|part| texts.iter().any(|t| t == *part)))
                .collect();
            pairs.reverse();
            pairs.into_iter().map(|(left, right)| json!([left, right]))
        })
        .collect();
    let vocab: serde_json::Map<String, Value> =
        texts.iter().enumerate().map(|(id, text)| (text.clone(), json!(id))).collect();
    let added = |id: u32, content: &str| {
        json!({"id": id, "content": content, "single_word": false, "lstrip": false,
               "rstrip": false, "normalized": false, "special": true})
    };
    let replace = |from: &str, to: &str| json!({"type": "Replace", "pattern": {"String": from}, "content": to});
    let mut normalizers = vec![replace(" ", "▁")];
    let mut decoders =
        vec![replace("▁", " "), json!({"type": "ByteFallback"}), json!({"type": "Fuse"})];
    if prefix {
        normalizers.insert(0, json!({"type": "Prepend", "prepend": "▁"}));
        decoders.push(json!({"type": "Strip", "content": " ", "start": 1, "stop": 0}));
    }
    json!({
        "added_tokens": [added(0, "<unk>"), added(1, "<s>"), added(2, "</s>")],
        "normalizer": {"type": "Sequence", "normalizers": normalizers},
        "pre_tokenizer": null,
        "post_processor": null,
        "decoder": {"type": "Sequence", "decoders": decoders},
        "model": {"type": "BPE", "vocab": vocab, "merges": merges, "unk_token": "<unk>",
                  "fuse_unk": true, "byte_fallback": true},
    })
}

fn with_sentencepiece(prefix: bool) -> tempfile::TempDir {
    let copy = random("llama-bias", |_| {});
    let settings = json!({"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>",
                          "add_bos_token": true, "add_eos_token": false});
    fs::write(copy.path().join("tokenizer_config.json"), settings.to_string()).unwrap();
    change_tokenizer(copy.path(), |tokenizer| *tokenizer = sentencepiece(prefix));
    copy
}

#[test]
fn sentencepiece_vocabularies_get_scores_from_their_merges() {
    let more = ["the in  an", "  then another hen  ", "ththe ▁the</s>the<s> in"].map(String::from);
    for prefix in [true, false] {
        let copy = with_sentencepiece(prefix);
        check_tokens(&format!("prefix {prefix}"), copy.path(), &[&texts()[..], &more].concat());
        let gguf = converted(copy.path(), DType::F32);
        let scores: Vec<f32> = gguf.metadata().require("tokenizer.ggml.scores").unwrap();
        assert_eq!(scores[269..273], [0.0, -1.0, -2.0, -3.0]);
        assert_eq!(gguf.metadata().str("tokenizer.ggml.model").unwrap(), "llama");
    }
}

#[test]
fn merges_that_no_scores_give_are_refused() {
    let error = |change: fn(&mut Vec<Value>)| {
        let copy = with_sentencepiece(false);
        change_tokenizer(copy.path(), |tokenizer| {
            change(tokenizer["model"]["merges"].as_array_mut().unwrap());
        });
        let directory = HfDirectory::open(copy.path()).unwrap();
        directory.to_gguf(&recipe(DType::F32)).unwrap_err().to_string()
    };
    let missing = error(|merges| merges.retain(|merge| *merge != json!(["▁t", "he"])));
    assert!(missing.contains(r#""▁t" and "he" are no merge"#), "{missing}");
    let late = error(|merges| {
        let at = merges.iter().position(|merge| *merge == json!(["▁t", "he"])).unwrap();
        let merge = merges.remove(at);
        merges.push(merge);
    });
    assert!(late.contains("come after those of other tokens"), "{late}");
}
