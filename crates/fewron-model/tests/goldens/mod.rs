//! Reading of golden files.
#![allow(dead_code, clippy::print_stderr)]

use safetensors::{Dtype, SafeTensors};
use std::path::PathBuf;

pub fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/goldens")
}

/// The file of a real model: named by `FEWRON_SMOLLM2` or `FEWRON_GEMMA3`, else in the cache. Says
/// so when it is in neither place.
pub fn real_file(name: &str) -> Option<PathBuf> {
    let (variable, file) = match name {
        "smollm2" => ("FEWRON_SMOLLM2", "SmolLM2-135M-Instruct.Q4_1.gguf"),
        "gemma3" => ("FEWRON_GEMMA3", "gemma-3-270m-q4_k_m.gguf"),
        other => panic!("no real model {other}"),
    };
    let home = std::env::var_os("FEWRON_HOME")
        .map(PathBuf::from)
        .or_else(|| std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".cache/fewron")));
    let cached = home.map(|home| home.join("models").join(file));
    let path = std::env::var_os(variable).map(PathBuf::from).or(cached)?;
    if path.exists() {
        return Some(path);
    }
    let required = std::env::var_os("FEWRON_REQUIRE_MODELS").is_some();
    assert!(!required, "no {}, and FEWRON_REQUIRE_MODELS is set", path.display());
    eprintln!("skipped: no {}; `fewron pull {name}` fetches it", path.display());
    None
}

pub struct Goldens(Vec<u8>);

impl Goldens {
    pub fn open(name: &str) -> Self {
        let path = folder().join(name);
        Self(std::fs::read(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display())))
    }

    fn data(&self, name: &str, dtype: Dtype) -> Vec<u8> {
        let tensors = SafeTensors::deserialize(&self.0).unwrap();
        let tensor = tensors.tensor(name).unwrap_or_else(|e| panic!("{name}: {e}"));
        assert_eq!(tensor.dtype(), dtype, "{name}");
        tensor.data().to_vec()
    }

    pub fn f32(&self, name: &str) -> Vec<f32> {
        let bytes = self.data(name, Dtype::F32);
        bytes.chunks_exact(4).map(|b| f32::from_le_bytes(b.try_into().unwrap())).collect()
    }

    pub fn u32(&self, name: &str) -> Vec<u32> {
        let bytes = self.data(name, Dtype::I32);
        bytes.chunks_exact(4).map(|b| u32::from_le_bytes(b.try_into().unwrap())).collect()
    }

    pub fn i64(&self, name: &str) -> Vec<i64> {
        let bytes = self.data(name, Dtype::I64);
        bytes.chunks_exact(8).map(|b| i64::from_le_bytes(b.try_into().unwrap())).collect()
    }

    pub fn tokens(&self) -> Vec<u32> {
        self.i64("tokens").iter().map(|&t| t as u32).collect()
    }

    pub fn label(&self) -> u32 {
        self.i64("label")[0] as u32
    }
}

/// Largest difference relative to the largest expected magnitude.
#[track_caller]
pub fn assert_close(what: &str, got: &[f32], expected: &[f32], tolerance: f32) {
    assert_eq!(got.len(), expected.len(), "{what}: length");
    let scale = expected.iter().fold(0.0f32, |m, x| m.max(x.abs()));
    let worst = got.iter().zip(expected).map(|(a, b)| (a - b).abs()).fold(0.0f32, f32::max);
    assert!(got.iter().all(|x| x.is_finite()), "{what}: not finite");
    assert!(worst <= tolerance * scale, "{what}: differs by {worst:e} on a scale of {scale:e}");
}
