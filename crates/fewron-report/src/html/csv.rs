//! The numbers of a figure as a file to take away.

use std::fmt::Write as _;

use maud::{Markup, html};

/// A figure's numbers as CSV (RFC 4180). The link that saves it holds the whole file, so that it needs no
/// script and no server.
pub(super) struct Csv {
    /// Name of the file, without its end.
    name: String,
    text: String,
}

/// One value.
pub(super) enum Cell<'a> {
    Text(&'a str),
    Number(f64),
    /// A ratio as it was given, without the digits that a wider type would add.
    Ratio(f32),
    Missing,
}

impl<'a> From<&'a str> for Cell<'a> {
    fn from(text: &'a str) -> Self {
        Self::Text(text)
    }
}

impl<'a> From<&'a String> for Cell<'a> {
    fn from(text: &'a String) -> Self {
        Self::Text(text)
    }
}

impl From<f64> for Cell<'_> {
    fn from(value: f64) -> Self {
        Self::Number(value)
    }
}

impl From<f32> for Cell<'_> {
    fn from(value: f32) -> Self {
        Self::Ratio(value)
    }
}

impl From<usize> for Cell<'_> {
    fn from(value: usize) -> Self {
        Self::Number(value as f64)
    }
}

impl<'a, T: Into<Cell<'a>>> From<Option<T>> for Cell<'a> {
    fn from(value: Option<T>) -> Self {
        value.map_or(Self::Missing, Into::into)
    }
}

impl Csv {
    /// A file `name`, which may be any text, with a line of column names.
    pub(super) fn new(name: &str, columns: &[&str]) -> Self {
        let mut csv = Self { name: file_name(name), text: String::new() };
        let columns: Vec<Cell<'_>> = columns.iter().map(|column| Cell::Text(column)).collect();
        csv.row(&columns);
        csv
    }

    /// Adds a line.
    pub(super) fn row(&mut self, cells: &[Cell<'_>]) {
        for (at, cell) in cells.iter().enumerate() {
            if at > 0 {
                self.text.push(',');
            }
            self.cell(cell);
        }
        self.text.push_str("\r\n");
    }

    fn cell(&mut self, cell: &Cell<'_>) {
        // Writing to a string cannot fail.
        let _ = match cell {
            Cell::Number(value) if value.is_finite() => write!(self.text, "{value}"),
            Cell::Ratio(value) if value.is_finite() => write!(self.text, "{value}"),
            Cell::Text(text) => write!(self.text, "{}", quoted(text)),
            Cell::Number(_) | Cell::Ratio(_) | Cell::Missing => Ok(()),
        };
    }

    /// The link that saves the file.
    pub(super) fn link(&self) -> Markup {
        html! {
            a.csv download={ (self.name) ".csv" } aria-label={ "CSV: " (self.name) }
                href={ "data:text/csv;charset=utf-8," (percent_encoded(&self.text)) } { "CSV" }
        }
    }
}

/// The button that saves the numbers of a figure that the page's script draws; the script knows them by
/// `name`.
pub(super) fn drawn_by_script(name: &str) -> Markup {
    html! { button.csv type="button" data-csv=(name) aria-label={ "CSV: " (name) } { "CSV" } }
}

/// Text as a field. A sign that would make it a formula in a spreadsheet gets an apostrophe before it.
fn quoted(text: &str) -> String {
    let formula = text.starts_with(['=', '+', '-', '@', '\t', '\r']);
    let text = if formula { format!("'{text}") } else { text.to_owned() };
    if text.contains(['"', ',', '\n', '\r']) {
        return format!("\"{}\"", text.replace('"', "\"\""));
    }
    text
}

/// Letters, digits and what no file system minds; everything else becomes `-`.
fn file_name(text: &str) -> String {
    let plain = |c: char| if c.is_alphanumeric() || "._@".contains(c) { c } else { '-' };
    let name: String = text.chars().map(plain).take(80).collect();
    name.trim_matches(['-', '.']).to_owned()
}

/// Percent-encoding of what may not stand in the data of a URL (RFC 3986).
fn percent_encoded(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len() * 5 / 4);
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~,:@/".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            let _ = write!(encoded, "%{byte:02X}");
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_follow_rfc_4180() {
        let mut csv = Csv::new("a: b/c", &["name", "value"]);
        csv.row(&["says \"no\", twice".into(), 0.1.into()]);
        csv.row(&["=1+1".into(), f64::NAN.into()]);
        csv.row(&["two\nlines".into(), Cell::from(None::<f64>)]);
        csv.row(&["ratio".into(), 0.3_f32.into()]);
        assert_eq!(
            csv.text,
            "name,value\r\n\"says \"\"no\"\", twice\",0.1\r\n'=1+1,\r\n\"two\nlines\",\r\nratio,0.3\r\n"
        );
        assert_eq!(csv.name, "a--b-c");
        let link = csv.link().into_string();
        assert!(link.contains("data:text/csv;charset=utf-8,name,value%0D%0A%22says%20"), "{link}");
    }
}
