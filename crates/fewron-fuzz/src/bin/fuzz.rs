//! libFuzzer on the target that `FEWRON_FUZZ` names.
#![no_main]

use std::sync::LazyLock;

static TARGET: LazyLock<fn(&[u8])> = LazyLock::new(|| {
    let name = std::env::var("FEWRON_FUZZ").unwrap_or_default();
    abort_on_panics();
    fewron_fuzz::target(&name).unwrap_or_else(|| {
        let names: Vec<&str> = fewron_fuzz::TARGETS.iter().map(|(name, _)| *name).collect();
        panic!("FEWRON_FUZZ is {name:?}; it names one of {}", names.join(", "))
    })
});

/// A panic is a find, but for those of minijinja, which chat templates catch.
fn abort_on_panics() {
    let told = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        if !info.location().is_some_and(|at| at.file().contains("/minijinja-")) {
            told(info);
        }
    }));
}

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| TARGET(bytes));
