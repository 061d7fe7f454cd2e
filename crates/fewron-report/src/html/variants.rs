//! Variants of an evaluation: their styles, and which of them belong together.

use super::series::SLOTS;

/// The dense model's name in records.
pub(super) const DENSE: &str = "dense";

/// Style of a variant among `all`: the dense model has the colour of the text, the others take turns.
pub(super) fn style(variant: &str, all: &[&str]) -> Style {
    let sparse = all.iter().filter(|name| **name != DENSE);
    match sparse.into_iter().position(|name| *name == variant) {
        Some(place) => Style::Slot(place % SLOTS),
        None => Style::Dense,
    }
}

/// Colour and marker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Style {
    /// Of the dense model.
    Dense,
    /// One of [`SLOTS`].
    Slot(usize),
}

impl Style {
    /// Class of the style sheet.
    pub(super) fn class(self) -> String {
        match self {
            Self::Dense => "sd".to_owned(),
            Self::Slot(slot) => format!("s{slot}"),
        }
    }

    /// The marker's number.
    pub(super) fn marker(self) -> usize {
        match self {
            Self::Dense => 0,
            Self::Slot(slot) => slot,
        }
    }
}

/// What variants share that differ by their ratio alone: `gate@0.3` and `gate@0.5` are of `gate`,
/// `book-0.5.plan` of `book`.
pub(super) fn family(variant: &str) -> &str {
    let name = variant.strip_suffix(".plan").unwrap_or(variant);
    let (head, tail) = name.rsplit_once(['@', '-']).unwrap_or((name, ""));
    if !head.is_empty() && tail.parse::<f64>().is_ok() { head } else { name }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn families_are_names_without_their_ratio() {
        for (variant, of) in [
            ("gate@0.3", "gate"),
            ("gate-0.5.plan", "gate"),
            ("book.plan", "book"),
            ("top-down", "top-down"),
            ("dense", "dense"),
            ("@0.3", "@0.3"),
        ] {
            assert_eq!(family(variant), of);
        }
    }

    #[test]
    fn the_dense_model_takes_no_slot() {
        let all = ["dense", "a", "b"];
        assert_eq!(style("dense", &all), Style::Dense);
        assert_eq!(style("a", &all), Style::Slot(0));
        assert_eq!(style("b", &all), Style::Slot(1));
    }
}
