use std::fs;

use super::*;

/// A folder with one whole model file in the cache.
fn home_with(file: &str, bytes: &[u8]) -> (tempfile::TempDir, Home) {
    let folder = tempfile::tempdir().unwrap();
    let home = Home::at(folder.path());
    fs::create_dir_all(home.models()).unwrap();
    fs::write(home.models().join(file), bytes).unwrap();
    (folder, home)
}

#[test]
fn hash_is_remembered_until_the_file_changes() {
    let (folder, home) = home_with("a.gguf", b"abc");
    let path = home.models().join("a.gguf");
    let abc = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
    assert_eq!(hash::file_sha256(&home, &path).unwrap(), abc);

    // A planted memory is believed, so the file was not read again.
    let memory = fs::read_dir(home.hashes()).unwrap().next().unwrap().unwrap().path();
    let planted = fs::read_to_string(&memory).unwrap().replace(abc, "planted");
    fs::write(&memory, planted).unwrap();
    assert_eq!(hash::file_sha256(&home, &path).unwrap(), "planted");

    fs::write(&path, b"abcd").unwrap();
    assert_ne!(hash::file_sha256(&home, &path).unwrap(), "planted");
    drop(folder);
}

#[test]
fn cached_files_are_found_by_name_and_stem() {
    let (_folder, home) = home_with("a.gguf", b"abc");
    fs::write(home.models().join("a.gguf.part"), b"x").unwrap();
    fs::create_dir(home.models().join("org--repo")).unwrap();
    fs::write(home.models().join("org--repo").join("b.gguf"), b"b").unwrap();
    let names: Vec<_> = home.cached_files().unwrap().into_iter().map(|f| f.name).collect();
    assert_eq!(names, ["a.gguf", "org--repo/b.gguf"]);
    assert!(home.cached_file("a").unwrap().is_some());
    assert!(home.cached_file("org--repo/b.gguf").unwrap().is_some());
    assert!(home.cached_file("c").unwrap().is_none());
}

#[test]
fn names_are_found_in_any_case_and_close_ones_are_suggested() {
    assert_eq!(registry::find("SmolLM2").unwrap().name, DEFAULT_MODEL);
    assert_eq!(registry::closest("smolm2"), Some("smollm2"));
    assert_eq!(registry::closest("gemma3-270"), Some("gemma3-270m"));
    assert_eq!(registry::closest("tiny-mobilama"), Some("tiny-mobillama"));
    assert_eq!(registry::closest("whale"), None);
}

#[test]
fn models_of_the_source_have_the_size_that_is_told() {
    let tiny = REGISTRY.iter().filter(|entry| entry.download().is_none());
    let sizes = tiny.map(|entry| (entry.size_bytes, resolve(entry.name).unwrap().size_bytes()));
    let sizes: Vec<_> = sizes.map(|(told, found)| (told, found.unwrap())).collect();
    assert_eq!(sizes.len(), 6);
    assert!(sizes.iter().all(|(told, found)| told == found), "{sizes:?}");
}

#[test]
fn plans_of_the_source_are_there_and_small() {
    for plan in PLANS {
        assert_eq!(registry::find(plan.model).map(|entry| entry.name), Some(plan.model));
        assert!(registry::find(plan.name).is_none(), "{} is a model's name", plan.name);
        let size_bytes = source_path(plan.file).metadata().unwrap().len();
        assert!(size_bytes <= 5_000_000, "{} has {size_bytes} bytes", plan.name);
    }
}

#[test]
fn plans_go_by_name_where_no_file_has_it() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("tiny-phi-70");
    assert_eq!(plan_file(file.clone()).unwrap(), file);
    let named = plan_file("Tiny-Phi-70".into()).unwrap();
    assert_eq!(named, source_path("plans/tiny-phi-70.plan"));
    assert_eq!(plan_file("auto".into()).unwrap(), Path::new("auto"));
    assert_eq!(plan_hint(Path::new("tiny-phi-07")), " (did you mean `tiny-phi-70`?)");
    assert_eq!(plan_hint(Path::new("whale")), "");
}
