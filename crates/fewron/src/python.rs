//! The Python of the commands that drive one.

use std::ffi::OsString;
use std::path::Path;

/// Names the Python where `--python` does not.
const VARIABLE: &str = "FEWRON_PYTHON";

/// The interpreter that is given, or what [`VARIABLE`] names, or `python3`.
pub(crate) fn interpreter(given: Option<&Path>) -> OsString {
    let named = std::env::var_os(VARIABLE).filter(|name| !name.is_empty());
    given.map(OsString::from).or(named).unwrap_or_else(|| "python3".into())
}
