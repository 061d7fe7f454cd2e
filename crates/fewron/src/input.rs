//! Text that the user hands over in files or on stdin.

use std::fs;
use std::io::{Read, stdin};
use std::path::Path;

use anyhow::{Context, Result, anyhow};

/// The text of a file, or of stdin for `-`.
///
/// # Errors
/// When it cannot be read or is not UTF-8; the message names the file and the place.
pub(crate) fn read_text(file: &Path) -> Result<String> {
    let (name, bytes) = if file == Path::new("-") {
        let mut bytes = Vec::new();
        stdin().read_to_end(&mut bytes).context("cannot read stdin")?;
        ("stdin".to_owned(), bytes)
    } else {
        let name = file.display().to_string();
        let bytes = fs::read(file).with_context(|| format!("cannot read {name}"))?;
        (name, bytes)
    };
    String::from_utf8(bytes).map_err(|e| {
        let at = e.utf8_error().valid_up_to();
        anyhow!(
            "{name} is not UTF-8 text (byte {at}); convert it, for example with `iconv -t UTF-8`"
        )
    })
}
