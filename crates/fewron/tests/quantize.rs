//! `fewron quantize`: files in, files out, and what it refuses.

#[allow(dead_code, unreachable_pub)]
mod support;

use std::fs;
use std::path::Path;

use fewron_model::gguf::{Gguf, Writer};
use serde_json::{Value, json};
use support::{Run, fewron, tiny};

fn quantize(home: &Path, input: &str, output: &str, more: &[&str]) -> Run {
    fewron(home, &[&["quantize", input, output], more].concat())
}

fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).unwrap();
    let mut names: Vec<_> =
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

/// Asserts that it refuses with one line and leaves nothing but what was there.
#[track_caller]
fn refused(home: &Path, run: &Run) -> String {
    assert_eq!((run.code, run.stdout.as_str()), (2, ""), "{}", run.stderr);
    assert_eq!(run.stderr.lines().count(), 1, "{}", run.stderr);
    assert!(names(home).iter().all(|name| name.ends_with(".gguf")), "{:?}", names(home));
    run.stderr.clone()
}

#[test]
fn a_file_in_another_type_says_the_same() {
    let home = tempfile::tempdir().unwrap();
    let output = home.path().join("tiny-f16.gguf");
    let output = output.to_str().unwrap();
    let run = quantize(home.path(), &tiny("tiny-llama"), output, &["--type", "F16"]);
    assert_eq!((run.code, run.stderr.as_str()), (0, ""));
    let words = run.stdout.replace(output, "[OUT]");
    let words =
        words.split_once(", in ").map(|(head, tail)| (head, tail.split_once('\n').unwrap().1));
    let (head, types) = words.unwrap();
    assert!(head.starts_with("[OUT]: ") && head.contains(" kB, from "), "{head}");
    assert_eq!(types, "  F16     23 tensors    163.6 kB\n  F32      7 tensors      1.3 kB\n");
    let say = |model: &str| fewron(home.path(), &["generate", model, "-p", "Hi", "-n", "8"]).stdout;
    assert_eq!(say(output), say(&tiny("tiny-llama")));
}

#[test]
fn json_and_what_may_surprise() {
    let home = tempfile::tempdir().unwrap();
    let output = home.path().join("tiny.gguf");
    let output = output.to_str().unwrap();
    let input = tiny("tiny-gemma3");
    let run = quantize(home.path(), &input, output, &["--type", "q4_k", "--json"]);
    assert_eq!(run.code, 0, "{}", run.stderr);
    assert_eq!(
        run.stderr,
        "Q4_K does not fit the rows of 35 matrices: they get F16\n\
         Q4_K does not fit the rows of 14 matrices: they get Q5_0\n\
         Q8_0 does not fit the rows of 1 matrix: it gets F16\n"
    );
    let facts: Value = serde_json::from_str(&run.stdout).unwrap();
    assert_eq!((&facts["type"], &facts["fallbacks"]), (&json!("Q4_K"), &json!(50)));
    assert_eq!(facts["input"]["path"], input);
    assert_eq!(facts["input"]["size_bytes"], fs::metadata(&input).unwrap().len());
    assert_eq!(facts["output"]["size_bytes"], fs::metadata(output).unwrap().len());
    assert_eq!(
        facts["output"]["types"]["Q5_0"],
        json!({"tensors": 14, "size_bytes": 14 * 40 * 44})
    );
    assert!(facts["wall_s"].as_f64().unwrap() > 0.0);

    let again = home.path().join("again.gguf");
    let run = quantize(home.path(), output, again.to_str().unwrap(), &["--type", "q8_0"]);
    assert_eq!(run.code, 0, "{}", run.stderr);
    assert!(run.stderr.contains("quantised already (14) lose quality"), "{}", run.stderr);
}

#[test]
fn head_and_embedding_have_types_of_their_own() {
    let home = tempfile::tempdir().unwrap();
    let output = home.path().join("tiny.gguf");
    let output = output.to_str().unwrap();
    let types = ["--type", "f16", "--output-type", "bf16", "--embedding-type", "f32"];
    assert_eq!(quantize(home.path(), &tiny("tiny-llama"), output, &types).code, 0);
    let gguf = Gguf::open(output.as_ref()).unwrap();
    let of = |name| gguf.tensor_info(name).unwrap().type_name();
    assert_eq!(
        [of("output.weight"), of("token_embd.weight"), of("blk.0.ffn_up.weight")],
        ["BF16", "F32", "F16"]
    );
    let tied = home.path().join("tied.gguf");
    let run = quantize(home.path(), &tiny("tiny-llama-odd"), tied.to_str().unwrap(), &types);
    let error = refused(home.path(), &run);
    assert!(error.contains("its embedding is the head: say --output-type instead"), "{error}");
}

#[test]
fn nothing_is_overwritten_unasked() {
    let home = tempfile::tempdir().unwrap();
    let input = home.path().join("in.gguf");
    fs::copy(tiny("tiny-llama"), &input).unwrap();
    let before = fs::read(&input).unwrap();
    let here = home.path().join(".").join("in.gguf");
    let (input, here) = (input.to_str().unwrap(), here.to_str().unwrap());
    for more in [&["--type", "f16"][..], &["--type", "f16", "--force"]] {
        let error = refused(home.path(), &quantize(home.path(), input, here, more));
        assert!(error.contains("is the file that is read; name another one"), "{error}");
    }
    assert!(fs::read(input).unwrap() == before);
    let output = home.path().join("out.gguf");
    fs::write(&output, "old").unwrap();
    let output = output.to_str().unwrap();
    let error = refused(home.path(), &quantize(home.path(), input, output, &["--type", "f16"]));
    assert!(error.contains("is there already; name another file, or add --force"), "{error}");
    assert_eq!(fs::read(output).unwrap(), b"old");
    assert_eq!(quantize(home.path(), input, output, &["--type", "f16", "--force"]).code, 0);
    assert!(Gguf::open(output.as_ref()).is_ok());
}

#[test]
fn what_cannot_be_done_leaves_nothing() {
    let home = tempfile::tempdir().unwrap();
    let path = |name: &str| home.path().join(name).to_str().unwrap().to_owned();
    let input = tiny("tiny-llama");
    let error =
        refused(home.path(), &quantize(home.path(), &input, &path("no/out"), &["--type", "f16"]));
    assert!(error.contains("there is no folder "), "{error}");
    let folder = home.path().to_str().unwrap();
    let error = refused(home.path(), &quantize(home.path(), &input, folder, &["--type", "f16"]));
    assert!(error.contains("is a folder; name a file in it"), "{error}");
    let run = quantize(home.path(), &input, &path("out.gguf"), &["--type", "iq2_xs"]);
    assert!(run.code == 2 && run.stderr.contains("q4_k, q5_k, q6_k"), "{}", run.stderr);

    let bad = [1.0f32, f32::NAN].iter().flat_map(|x| x.to_le_bytes()).collect();
    Writer::new().tensor("a.weight", 0, &[1, 2], bad).write(path("bad.gguf").as_ref()).unwrap();
    let run = quantize(home.path(), &path("bad.gguf"), &path("out.gguf"), &["--type", "f16"]);
    let error = refused(home.path(), &run);
    assert!(
        error.ends_with(
            "bad.gguf: tensor a.weight, row 1: element 0 is NaN; weights are finite numbers\n"
        ),
        "{error}"
    );

    let iq = Writer::new().tensor("a.weight", 16, &[256, 1], vec![0; 66]);
    iq.write(path("iq.gguf").as_ref()).unwrap();
    let run = quantize(home.path(), &path("iq.gguf"), &path("out.gguf"), &["--type", "f16"]);
    let error = refused(home.path(), &run);
    assert!(error.contains("tensor a.weight has type IQ2_XXS, which fewron cannot"), "{error}");
    assert_eq!(names(home.path()), ["bad.gguf", "iq.gguf"]);
}
