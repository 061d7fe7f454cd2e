//! Weights that are changed while they are loaded, against a file that has the changes already.

use fewron_kernels::DType;
use fewron_model::gguf::{Gguf, NewFile, Recipe};
use fewron_model::hf::HfDirectory;
use fewron_model::{Changes, Edit, LoadOptions, Logits, Model, ModelError, Pool, Session, Source};
use std::collections::HashMap;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;

const PROMPT: [u32; 6] = [5, 40, 7, 99, 3, 12];

/// A trained model as a quantised file.
fn tiny(folder: &Path, dtype: DType) -> PathBuf {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../models/tiny/tiny-llama");
    let directory = HfDirectory::open(&directory).unwrap();
    let recipe = Recipe { dtype, output: None, embedding: None };
    let file = directory.to_gguf(&recipe).unwrap().file;
    let path = folder.join(format!("{dtype}.gguf"));
    let mut bytes = Vec::new();
    file.write(&mut bytes, &Pool::new(2), &mut |_| ControlFlow::Continue(())).unwrap();
    std::fs::write(&path, bytes).unwrap();
    path
}

fn load(path: &Path, changes: Changes, by_input: bool) -> Result<Model, ModelError> {
    let source = Source::Gguf(Gguf::open(path).unwrap());
    let options = LoadOptions { changes, by_input, ..LoadOptions::default() };
    Model::load(source, &options, &mut |_, _| {})
}

fn logits(model: Model) -> Vec<f32> {
    let mut session = Session::new(Arc::new(model), Arc::new(Pool::new(2)));
    session.forward(&PROMPT, None, None, Logits::All).unwrap().to_vec()
}

/// Changes of every quantised matrix of the blocks and of some norms, and a file that has them.
fn changed(tiny: &Path) -> (Changes, PathBuf) {
    let gguf = Gguf::open(tiny).unwrap();
    let mut bytes = std::fs::read(tiny).unwrap();
    let mut changes = Changes::default();
    for tensor in gguf.tensors().filter(|tensor| tensor.name.starts_with("blk.")) {
        let view = gguf.find_tensor(&tensor.name).unwrap().unwrap();
        let start = bytes.windows(view.data.len()).position(|part| part == view.data).unwrap();
        let data = &mut bytes[start..start + view.data.len()];
        let elements: usize = view.shape.iter().product();
        if view.dtype.is_quantized() {
            let places = (0..elements).step_by(7);
            let edits: Vec<Edit> = places
                .map(|place| Edit { place: place as u32, step: [1, -1, 2, -7][place % 4] })
                .collect();
            let (len, size) = (view.dtype.block_len(), view.dtype.block_bytes());
            for edit in &edits {
                let place = edit.place as usize;
                let block = &mut data[place / len * size..][..size];
                view.dtype.step_code(block, place % len, edit.step.into());
            }
            changes.edits.insert(tensor.name.clone(), edits);
        } else if tensor.name.ends_with("norm.weight") {
            let values: Vec<f32> = (0..elements).map(|i| 0.5 + i as f32 / 64.0).collect();
            let new: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
            data.copy_from_slice(&new);
            changes.vectors.insert(tensor.name.clone(), values);
        }
    }
    let path = tiny.with_extension("changed");
    std::fs::write(&path, bytes).unwrap();
    (changes, path)
}

#[test]
fn a_changed_model_is_the_one_whose_file_has_the_changes() {
    let folder = tempfile::tempdir().unwrap();
    for dtype in [DType::Q4_0, DType::Q4_1, DType::Q5_1, DType::Q8_0] {
        let tiny = tiny(folder.path(), dtype);
        let (changes, path) = changed(&tiny);
        assert!(changes.edits.len() > 10 && changes.vectors.len() > 2);
        let plain = logits(load(&tiny, Changes::default(), false).unwrap());
        for by_input in [false, true] {
            let merged = logits(load(&tiny, changes.clone(), by_input).unwrap());
            let expected = logits(load(&path, Changes::default(), by_input).unwrap());
            assert_eq!(merged, expected, "{dtype} {by_input}");
            assert_ne!(merged, plain, "{dtype}");
        }
        let gguf = Gguf::open(&tiny).unwrap();
        let mut bytes = Vec::new();
        let file = NewFile::changed(&gguf, &changes).unwrap();
        file.write(&mut bytes, &Pool::new(1), &mut |_| ControlFlow::Continue(())).unwrap();
        assert!(bytes == std::fs::read(&path).unwrap(), "{dtype}");
    }
}

#[test]
fn changes_that_fit_nothing_are_refused() {
    let edits = |name: &str, place| Changes {
        edits: HashMap::from([(name.to_owned(), vec![Edit { place, step: 1 }])]),
        ..Changes::default()
    };
    let vector = |name: &str, len| Changes {
        vectors: HashMap::from([(name.to_owned(), vec![1.0; len])]),
        ..Changes::default()
    };
    let wrong = [
        (edits("blk.0.ffn_up.weight", u32::MAX), "has no weight there"),
        (edits("blk.99.ffn_up.weight", 0), "no such layer"),
        (edits("blk.0.attn_norm.weight", 0), "no codes"),
        (vector("blk.0.attn_norm.weight", 3), "another width"),
        (vector("blk.0.none.weight", 3), "no such norm"),
        (vector("blk.0.ffn_up.weight", 160 * 432), "a matrix"),
    ];
    let folder = tempfile::tempdir().unwrap();
    let tiny = tiny(folder.path(), DType::Q8_0);
    let gguf = Gguf::open(&tiny).unwrap();
    for (changes, why) in wrong {
        let name = changes.edits.keys().chain(changes.vectors.keys()).next().unwrap().clone();
        let error = NewFile::changed(&gguf, &changes).unwrap_err();
        assert!(matches!(error, ModelError::Change { tensor, .. } if tensor == name), "{why}");
        match load(&tiny, changes, false) {
            Err(ModelError::Change { tensor, .. }) => assert_eq!(tensor, name, "{why}"),
            Err(error) => panic!("{why}: {error}"),
            Ok(_) => panic!("{why}: loaded"),
        }
    }
}
