//! How a run was made: its command, its settings, and what the words mean.

use maud::{Markup, html};

/// A command with a button that copies it.
pub(super) fn command(command: &str) -> Markup {
    html! {
        div.command {
            pre tabindex="0" aria-label="Command" { code { (command) } }
            button type="button" data-copy=(command) { "Copy" }
        }
    }
}

/// Names and values; hashes get the room they need.
pub(super) fn list(facts: &[(impl AsRef<str>, String)]) -> Markup {
    html! {
        dl.facts {
            @for (name, value) in facts {
                @let name = name.as_ref();
                div class=[name.ends_with("SHA-256").then_some("hash")] { dt { (name) } dd { (value) } }
            }
        }
    }
}

/// Words and what they mean.
pub(super) fn terms(terms: &[(&str, &str)]) -> Markup {
    html! { dl.terms { @for (name, text) in terms { div { dt { (name) } dd { (text) } } } } }
}
