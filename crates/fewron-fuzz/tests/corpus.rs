//! Every input of the corpus once: those to start from, and those that were found to be trouble.

use std::fs;

#[test]
fn no_input_makes_a_target_panic() {
    for (name, run) in fewron_fuzz::TARGETS {
        let folder = fewron_fuzz::corpus(name);
        let inputs = fs::read_dir(&folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display()));
        let mut count = 0;
        for input in inputs {
            let path = input.unwrap().path();
            let bytes = fs::read(&path).unwrap();
            // What is cut short, too.
            for len in [bytes.len(), bytes.len() / 2, bytes.len().saturating_sub(1)] {
                run(&bytes[..len]);
            }
            count += 1;
        }
        assert!(count > 0, "{name} has no inputs");
    }
}
