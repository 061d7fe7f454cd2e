use super::*;
use crate::gguf::Writer;

fn floats(len: usize) -> Vec<u8> {
    (0..len).flat_map(|i| ((i * 37 % 101) as f32 / 50.0 - 1.0).to_le_bytes()).collect()
}

/// A file with an alignment of its own, keys of types that fewron has no field for, and tensors of
/// every sort.
fn source() -> Gguf {
    let writer = Writer::new()
        .field("general.architecture", Field::Str("llama".into()))
        .field("general.file_type", Field::U32(0))
        .field("general.alignment", Field::U32(64))
        .field("a.halves", Field::Raw(crate::gguf::ValueType::I16, vec![0xfe, 0xff]))
        .field("a.names", Field::Strs(vec!["ü".into(), String::new()]));
    let matrices = [
        ("token_embd.weight", 256),
        ("output.weight", 256),
        ("blk.0.ffn_down.weight", 512),
        ("blk.0.attn_q.weight", 96),
        ("blk.0.odd.weight", 80),
        ("blk.0.attn_q_norm.weight", 256),
        ("rope_freqs", 32),
    ];
    let writer = matrices.into_iter().fold(writer, |writer, (name, cols)| {
        writer.tensor(name, 0, &[cols, 3], floats(3 * cols as usize))
    });
    let writer = writer.tensor("blk.0.attn_norm.weight", 0, &[64], floats(64));
    Gguf::from_bytes("source", &writer.to_bytes()).unwrap()
}

fn recipe(dtype: DType) -> Recipe {
    Recipe { dtype, output: None, embedding: None }
}

fn written(gguf: &Gguf, recipe: Recipe, threads: usize) -> Vec<u8> {
    let mut out = Vec::new();
    let work = NewFile::requantized(gguf, &recipe).unwrap();
    work.write(&mut out, &Pool::new(threads), &mut |_| ControlFlow::Continue(())).unwrap();
    out
}

fn types(gguf: &Gguf) -> Vec<(&str, &str)> {
    gguf.tensors().map(|t| (t.name.as_str(), t.dtype.unwrap().name())).collect()
}

#[test]
fn every_tensor_gets_the_type_that_suits_it() {
    let source = source();
    let expect = |recipe, expected: [&str; 5]| {
        let bytes = written(&source, recipe, 1);
        let gguf = Gguf::from_bytes("written", &bytes).unwrap();
        let kept = ["F32"; 3];
        let names = source.tensors().map(|t| t.name.as_str());
        let expected: Vec<_> = names.zip(expected.into_iter().chain(kept)).collect();
        assert_eq!(types(&gguf), expected, "{recipe:?}");
    };
    use DType::{Bf16, F32, Q2_K, Q3_K, Q4_0, Q4_K, Q5_K, Q6_K, Q8_0};
    expect(recipe(Q8_0), ["Q8_0", "Q8_0", "Q8_0", "Q8_0", "F16"]);
    expect(recipe(Q4_0), ["Q4_0", "Q6_K", "Q4_0", "Q4_0", "F16"]);
    expect(recipe(Q2_K), ["Q2_K", "Q6_K", "Q2_K", "Q4_0", "F16"]);
    expect(recipe(Q3_K), ["Q3_K", "Q6_K", "Q3_K", "Q4_0", "F16"]);
    expect(recipe(Q4_K), ["Q4_K", "Q6_K", "Q4_K", "Q5_0", "F16"]);
    expect(recipe(Q5_K), ["Q5_K", "Q6_K", "Q5_K", "Q5_1", "F16"]);
    expect(recipe(Q6_K), ["Q6_K", "Q6_K", "Q6_K", "Q8_0", "F16"]);
    expect(recipe(F32), ["F32"; 5]);
    expect(recipe(Bf16), ["BF16"; 5]);
    let both = Recipe { dtype: Q4_K, output: Some(Q8_0), embedding: Some(Q5_K) };
    expect(both, ["Q5_K", "Q8_0", "Q4_K", "Q5_0", "F16"]);
    let file = NewFile::requantized(&source, &recipe(Q4_K)).unwrap();
    let instead_of: Vec<_> = file.tensors().map(|tensor| tensor.change.instead_of).collect();
    assert_eq!(instead_of[..5], [None, None, None, Some(Q4_K), Some(Q4_K)]);
}

#[test]
fn the_embedding_is_the_head_where_there_is_no_other() {
    let tied = |cols: u64| {
        let data = floats(3 * cols as usize);
        let writer = Writer::new().tensor("token_embd.weight", 0, &[cols, 3], data);
        let gguf = Gguf::from_bytes("tied", &writer.to_bytes()).unwrap();
        let recipe = Recipe { embedding: Some(DType::F32), ..recipe(DType::Q4_0) };
        let file = NewFile::requantized(&gguf, &recipe).unwrap();
        file.tensors().next().unwrap().change.to
    };
    assert_eq!((tied(256), tied(96)), (DType::Q6_K, DType::Q8_0));
}

#[test]
fn metadata_stays_but_for_two_keys() {
    let source = source();
    let gguf = Gguf::from_bytes("written", &written(&source, recipe(DType::Q8_0), 1)).unwrap();
    let (old, new) = (source.metadata(), gguf.metadata());
    assert_eq!(new.u32("general.file_type").unwrap(), 7);
    assert_eq!(new.u32("general.quantization_version").unwrap(), 2);
    let keys: Vec<&str> = old.keys().chain(["general.quantization_version"]).collect();
    assert_eq!(new.keys().collect::<Vec<_>>(), keys);
    for key in old.keys().filter(|&key| key != "general.file_type") {
        let raw = |metadata: crate::gguf::Metadata<'_>| match metadata.field(key).unwrap() {
            Some(Field::Raw(ty, bytes)) => (ty, bytes),
            other => panic!("{key}: {other:?}"),
        };
        assert_eq!(raw(old), raw(new), "{key}");
    }
    assert!(gguf.tensors().all(|tensor| tensor.range.start.is_multiple_of(64)));
    assert!(gguf.len_bytes().is_multiple_of(64), "the last tensor is padded too");
}

#[test]
fn values_are_those_of_the_encoder_whatever_the_number_of_threads() {
    let source = source();
    let bytes = written(&source, recipe(DType::Q4_K), 1);
    assert!(bytes == written(&source, recipe(DType::Q4_K), 3));
    let gguf = Gguf::from_bytes("written", &bytes).unwrap();
    let (old, new) =
        (source.tensor("output.weight").unwrap(), gguf.tensor("output.weight").unwrap());
    let row: Vec<f32> = old.data.as_chunks().0.iter().map(|&b| f32::from_le_bytes(b)).collect();
    let mut expected = vec![0; 3 * 210];
    DType::Q6_K.encode_row(&row, &mut expected).unwrap();
    assert_eq!(new.data, expected);
    let again = written(&gguf, recipe(DType::Q4_K), 2);
    assert!(again == bytes, "tensors that keep their type keep their bytes");
}

#[test]
fn progress_counts_and_stops() {
    let source = source();
    let work = NewFile::requantized(&source, &recipe(DType::Q8_0)).unwrap();
    let mut last = 0;
    let mut count = |done| {
        assert!(done > last);
        last = done;
        ControlFlow::Continue(())
    };
    work.write(&mut Vec::new(), &Pool::new(1), &mut count).unwrap();
    assert_eq!(last, work.data_bytes());
    let stopped = work.write(&mut Vec::new(), &Pool::new(1), &mut |_| ControlFlow::Break(()));
    assert!(matches!(stopped, Err(NewFileError::Stopped)));
}

#[test]
fn weights_that_are_no_numbers_are_named() {
    let mut data = floats(64 * 9);
    for row in [7, 4] {
        data[(64 * row + 5) * 4..][..4].copy_from_slice(&f32::NAN.to_le_bytes());
    }
    let writer = Writer::new().tensor("a.weight", 0, &[64, 9], data);
    let source = Gguf::from_bytes("source", &writer.to_bytes()).unwrap();
    let work = NewFile::requantized(&source, &recipe(DType::Q8_0)).unwrap();
    let error = work.write(&mut Vec::new(), &Pool::new(3), &mut |_| ControlFlow::Continue(()));
    let message = error.unwrap_err().to_string();
    assert_eq!(message, "tensor a.weight, row 4: element 5 is NaN; weights are finite numbers");
}
