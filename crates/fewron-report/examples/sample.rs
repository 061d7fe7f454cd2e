//! Writes the report of a synthetic run: `cargo run -p fewron-report --example sample -- out.html`.
//! A second argument `runtime` or `empty` picks another run; `both` puts a run of each protocol on a page.

#[path = "../tests/fixture/mod.rs"]
mod fixture;

use std::path::PathBuf;

fn main() -> Result<(), fewron_report::ReportError> {
    let mut arguments = std::env::args_os().skip(1);
    let path = arguments.next().map_or_else(|| PathBuf::from("sample.html"), PathBuf::from);
    let kind = arguments.next();
    let kind = kind.as_deref().and_then(|kind| kind.to_str());
    let beside = (kind == Some("both")).then(fixture::runtime);
    let run = match kind {
        Some("runtime") => fixture::runtime(),
        Some("empty") => fixture::empty(),
        _ => fixture::oracle(),
    };
    fewron_report::write_report(&run, beside.as_ref(), &path)
}
