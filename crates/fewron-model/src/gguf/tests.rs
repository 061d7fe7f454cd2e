use proptest::prelude::*;

use super::*;

fn sample() -> Writer {
    Writer::new()
        .field("general.architecture", Field::Str("llama".into()))
        .field("llama.block_count", Field::U64(2))
        .field("llama.eps", Field::F32(1e-5))
        .field("a.signed", Field::I32(-3))
        .field("a.flag", Field::Bool(true))
        .field("a.strs", Field::Strs(vec!["x".into(), String::new(), "ü▁".into()]))
        .field("a.f32s", Field::F32s(vec![0.5, -1.0]))
        .field("a.i32s", Field::I32s(vec![1, 2, 3]))
        .field("a.u32s", Field::U32s(vec![7]))
        .field("a.bools", Field::Bools(vec![true, false]))
        .tensor("w", 0, &[3, 2], (0..6).flat_map(|i| (i as f32).to_le_bytes()).collect())
        .tensor("q", 3, &[32, 2], vec![1; 40])
        .tensor("iq", 20, &[32], vec![0; 18])
}

fn open(bytes: &[u8]) -> Result<Gguf, GgufProblem> {
    Gguf::from_bytes("test.gguf", bytes).map_err(|e| *e.problem)
}

fn problem<T: std::fmt::Debug>(result: Result<T, GgufError>) -> GgufProblem {
    *result.unwrap_err().problem
}

/// Replaces the only occurrence of `from` in the sample file.
fn patched(from: &[u8], to: &[u8]) -> Vec<u8> {
    let mut bytes = sample().to_bytes();
    let hits: Vec<usize> =
        (0..bytes.len() - from.len()).filter(|&i| bytes[i..].starts_with(from)).collect();
    assert_eq!(hits.len(), 1, "the pattern must be unique");
    bytes.splice(hits[0]..hits[0] + from.len(), to.iter().copied());
    bytes
}

/// The entry of tensor `q` from its name to its offset, with the given fields.
fn q_entry(n_dims: u32, shape: &[u64], ggml_type: u32, offset: u64) -> Vec<u8> {
    let mut out = 1u64.to_le_bytes().to_vec();
    out.push(b'q');
    out.extend(n_dims.to_le_bytes());
    shape.iter().for_each(|e| out.extend(e.to_le_bytes()));
    out.extend(ggml_type.to_le_bytes());
    out.extend(offset.to_le_bytes());
    out
}

fn with_q(n_dims: u32, shape: &[u64], ggml_type: u32, offset: u64) -> GgufProblem {
    let bytes = patched(&q_entry(2, &[32, 2], 3, 32), &q_entry(n_dims, shape, ggml_type, offset));
    open(&bytes).unwrap_err()
}

#[test]
fn reads_back_metadata() {
    let gguf = open(&sample().to_bytes()).unwrap();
    let meta = gguf.metadata();
    assert_eq!(gguf.version(), 3);
    assert_eq!(meta.str("general.architecture").unwrap(), "llama");
    assert_eq!(meta.u32("llama.block_count").unwrap(), 2);
    assert_eq!(meta.require::<usize>("llama.block_count").unwrap(), 2);
    assert_eq!(meta.f32("llama.eps").unwrap(), 1e-5);
    assert_eq!(meta.f32("a.signed").unwrap(), -3.0);
    assert_eq!(meta.require::<i32>("a.signed").unwrap(), -3);
    assert!(meta.bool("a.flag").unwrap());
    assert_eq!(meta.require::<Vec<&str>>("a.strs").unwrap(), ["x", "", "ü▁"]);
    assert_eq!(meta.require::<Vec<f32>>("a.f32s").unwrap(), [0.5, -1.0]);
    assert_eq!(meta.require::<Vec<u32>>("a.i32s").unwrap(), [1, 2, 3]);
    assert_eq!(meta.require::<Vec<i32>>("a.u32s").unwrap(), [7]);
    assert_eq!(meta.require::<Vec<bool>>("a.bools").unwrap(), [true, false]);
    assert_eq!(meta.get::<u32>("absent").unwrap(), None);
    assert!(meta.contains("a.flag") && !meta.contains("a.fla"));
    assert_eq!(meta.keys().len(), 10);
}

#[test]
fn reads_back_tensors_in_ggml_order() {
    let gguf = open(&sample().to_bytes()).unwrap();
    let w = gguf.tensor("w").unwrap();
    assert_eq!((w.cols(), w.rows(), w.dtype), (3, 2, DType::F32));
    assert_eq!(w.data.len(), 24);
    assert_eq!(w.data.as_ptr() as usize % 8, 0);
    assert_eq!(f32::from_le_bytes(w.data[20..].try_into().unwrap()), 5.0);
    assert_eq!(gguf.tensor("q").unwrap().data, [1; 40]);
    assert!(gguf.find_tensor("absent").unwrap().is_none());
    assert_eq!(gguf.tensors().map(TensorInfo::elements).collect::<Vec<_>>(), [6, 64, 32]);
}

#[test]
fn opens_from_disk_and_releases_pages() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("m.gguf");
    sample().write(&path).unwrap();
    let gguf = Gguf::open(&path).unwrap();
    let before = gguf.tensor("q").unwrap().data.to_vec();
    gguf.release_tensor("q");
    gguf.release_tensor("absent");
    gguf.release(0..usize::MAX);
    assert_eq!(gguf.tensor("q").unwrap().data, before);
    assert_eq!(gguf.path(), path);
    assert_eq!(gguf.len_bytes(), sample().to_bytes().len());
    assert!(matches!(problem(Gguf::open(dir.path())), GgufProblem::NotAFile | GgufProblem::Io(_)));
    assert!(matches!(problem(Gguf::open(&dir.path().join("no"))), GgufProblem::Io(_)));
}

#[test]
fn accepts_version_2() {
    let mut bytes = sample().to_bytes();
    bytes[4] = 2;
    assert_eq!(open(&bytes).unwrap().version(), 2);
}

#[test]
fn refuses_other_formats() {
    assert!(matches!(open(b"").unwrap_err(), GgufProblem::NotGguf { .. }));
    assert!(matches!(open(b"GGML").unwrap_err(), GgufProblem::NotGguf { .. }));
    let mut bytes = sample().to_bytes();
    bytes[4] = 1;
    assert!(matches!(open(&bytes).unwrap_err(), GgufProblem::Version(1)));
    bytes[4..8].copy_from_slice(&3u32.to_be_bytes());
    assert!(matches!(open(&bytes).unwrap_err(), GgufProblem::BigEndian));
}

#[test]
fn wrong_access_names_key_or_tensor() {
    let gguf = open(&sample().to_bytes()).unwrap();
    let meta = gguf.metadata();
    let text = |e: GgufError| e.to_string();
    assert_eq!(
        text(meta.u32("a.signed").unwrap_err()),
        "test.gguf: metadata key a.signed should be an unsigned 32-bit integer, but is the number -3"
    );
    assert!(text(meta.str("a.flag").unwrap_err()).contains("but is true"));
    assert!(text(meta.require::<Vec<u32>>("a.strs").unwrap_err()).contains("an array of 3 Str"));
    assert!(text(meta.u32("absent").unwrap_err()).contains("no metadata key absent"));
    assert!(text(gguf.tensor("absent").unwrap_err()).contains("no tensor absent"));
    assert!(text(gguf.tensor("iq").unwrap_err()).contains("tensor iq has type IQ4_NL"));
}

#[test]
fn refuses_damaged_headers() {
    let count = |at: usize, n: u64| {
        let mut bytes = sample().to_bytes();
        bytes[at..at + 8].copy_from_slice(&n.to_le_bytes());
        open(&bytes).unwrap_err()
    };
    assert!(matches!(count(8, u64::MAX), GgufProblem::AbsurdCount { what: "tensors", .. }));
    assert!(matches!(count(16, 1 << 40), GgufProblem::AbsurdCount { .. }));
    // The length of the first key.
    assert!(matches!(count(24, u64::MAX - 4), GgufProblem::TruncatedHeader { .. }));
    let bytes = patched(b"llama.eps\x06", b"llama.eps\x0d");
    assert!(matches!(open(&bytes).unwrap_err(), GgufProblem::UnknownValueType { id: 13, .. }));
    let bytes = patched(b"a.f32s\x09\0\0\0\x06", b"a.f32s\x09\0\0\0\x09");
    assert!(matches!(open(&bytes).unwrap_err(), GgufProblem::NestedArray { .. }));
    let bytes = patched(b"a.f32s\x09\0\0\0\x06\0\0\0\x02", b"a.f32s\x09\0\0\0\x06\0\0\x80\x02");
    assert!(open(&bytes).is_err());
    let bytes = patched(b"ama.eps", b"ama.\xff\xff\xff");
    assert!(matches!(open(&bytes).unwrap_err(), GgufProblem::NotUtf8 { .. }));
    let bytes = patched(b"a.i32s", b"a.f32s");
    assert!(matches!(open(&bytes).unwrap_err(), GgufProblem::DuplicateKey { .. }));
}

#[test]
fn refuses_damaged_tensor_entries() {
    assert!(matches!(with_q(0, &[], 3, 32), GgufProblem::Dimensions { n_dims: 0, .. }));
    assert!(matches!(with_q(5, &[1; 5], 3, 32), GgufProblem::Dimensions { n_dims: 5, .. }));
    assert!(matches!(with_q(2, &[0, 2], 3, 32), GgufProblem::ZeroExtent { .. }));
    assert!(matches!(with_q(2, &[1 << 40, 1 << 40], 3, 32), GgufProblem::HugeTensor { .. }));
    assert!(matches!(with_q(2, &[1 << 30, 1 << 20], 3, 32), GgufProblem::TruncatedTensor { .. }));
    assert!(matches!(with_q(2, &[33, 2], 3, 32), GgufProblem::PartialBlock { .. }));
    assert!(matches!(with_q(2, &[32, 2], 3, 33), GgufProblem::Misaligned { .. }));
    assert!(matches!(with_q(2, &[32, 2], 3, 0), GgufProblem::Overlap { .. }));
    assert!(matches!(with_q(2, &[32, 2], 3, u64::MAX - 31), GgufProblem::TruncatedTensor { .. }));
    let twice = sample().tensor("w", 0, &[1], vec![0; 4]);
    assert!(matches!(open(&twice.to_bytes()).unwrap_err(), GgufProblem::DuplicateTensor { .. }));
}

#[test]
fn refuses_truncated_data_with_a_way_out() {
    let bytes = sample().to_bytes();
    let cut = &bytes[..bytes.len() - 60];
    let message = Gguf::from_bytes("m.gguf", cut).unwrap_err().to_string();
    assert!(
        message.starts_with("m.gguf: the file is truncated: tensor q needs bytes "),
        "{message}"
    );
    assert!(message.ends_with("download it again with `fewron pull`"), "{message}");
}

#[test]
fn refuses_bad_alignment_and_split_models() {
    for bad in [0, 4, 33, 1 << 21] {
        let file = sample().field("general.alignment", Field::U32(bad)).to_bytes();
        assert!(matches!(open(&file).unwrap_err(), GgufProblem::Alignment { .. }));
    }
    assert!(open(&sample().field("general.alignment", Field::U32(32)).to_bytes()).is_ok());
    let split = sample().field("split.count", Field::U32(3)).to_bytes();
    assert!(matches!(open(&split).unwrap_err(), GgufProblem::Split { parts: 3 }));
}

/// Reads everything an opened file offers; must not panic whatever the file holds.
fn read_all(bytes: &[u8]) {
    let Ok(gguf) = open(bytes) else { return };
    let meta = gguf.metadata();
    for key in meta.keys() {
        let _ = meta.value(key);
        let _ = meta.get::<Vec<&str>>(key);
        let _ = meta.get::<Vec<f32>>(key);
        let _ = meta.get::<u32>(key);
    }
    for info in gguf.tensors() {
        if let Ok(t) = gguf.tensor(&info.name) {
            let row = t.dtype.row_bytes(t.cols()).unwrap();
            assert_eq!(t.data.len(), row * t.rows());
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn mutated_files_never_panic(
        edits in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6)
    ) {
        let mut bytes = sample().to_bytes();
        for (at, value) in edits {
            let at = at.index(bytes.len());
            bytes[at] = value;
        }
        read_all(&bytes);
    }

    #[test]
    fn truncated_files_never_panic(len in any::<prop::sample::Index>()) {
        let bytes = sample().to_bytes();
        read_all(&bytes[..len.index(bytes.len())]);
    }

    #[test]
    fn extreme_words_never_panic(
        at in any::<prop::sample::Index>(),
        word in prop::sample::select(vec![0u64, 1, 31, 1 << 31, 1 << 32, 1 << 62, u64::MAX - 7, u64::MAX]),
    ) {
        let mut bytes = sample().to_bytes();
        let at = at.index(bytes.len() - 8);
        bytes[at..at + 8].copy_from_slice(&word.to_le_bytes());
        read_all(&bytes);
    }

    #[test]
    fn noise_behind_the_magic_never_panics(noise in prop::collection::vec(any::<u8>(), 0..300)) {
        let mut bytes = b"GGUF\x03\0\0\0".to_vec();
        bytes.extend(noise);
        read_all(&bytes);
    }
}
