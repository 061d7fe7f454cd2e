pub fn render(_: &fewron_eval::record::SweepRun) -> String { String::new() }
