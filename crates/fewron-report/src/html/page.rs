//! The frame around the report: head, content security policy, styles, scripts, header, footer.

use std::fmt::Write as _;

use maud::{DOCTYPE, Markup, PreEscaped, html};
use sha2::{Digest, Sha256};

const STYLES: [&str; 3] = [
    include_str!("../../assets/base.css"),
    include_str!("../../assets/charts.css"),
    include_str!("../../assets/print.css"),
];
const SCRIPTS: [&str; 3] = [
    include_str!("../../assets/page.js"),
    include_str!("../../assets/charts.js"),
    include_str!("../../assets/maps.js"),
];

/// What a kind of page has beside the common styles and scripts.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Extra {
    pub(super) style: &'static str,
    pub(super) script: &'static str,
}

/// The whole document around `body`, with `data` for the script.
pub(super) fn document(title: &str, body: &Markup, data: &str, extra: Extra) -> Markup {
    let style = STYLES.concat() + &heat_classes() + extra.style;
    let script = SCRIPTS.concat() + extra.script;
    html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta http-equiv="Content-Security-Policy" content=(policy(&style, &script));
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                meta name="referrer" content="no-referrer";
                meta name="generator" content={ "fewron " (env!("CARGO_PKG_VERSION")) };
                title { (title) }
                style { (PreEscaped(&style)) }
            }
            body {
                a.skip href="#top" { "Skip to the report" }
                (body)
                div #tip role="status" aria-live="polite" hidden {}
                script type="application/json" id="data" { (PreEscaped(data)) }
                script { (PreEscaped(&script)) }
            }
        }
    }
}

/// Name, contents (target, name, whether it is there) and the theme switch.
pub(super) fn header(links: &[(&str, &str, bool)]) -> Markup {
    html! {
        header.bar {
            a.brand href="#top" { (logo()) "fewron" }
            nav aria-label="Contents" {
                @for (target, name, _) in links.iter().filter(|(_, _, there)| *there) {
                    a href=(target) { (name) }
                }
            }
            button #theme type="button" aria-label="Dark theme" aria-pressed="false" {
                svg viewBox="0 0 20 20" width="18" height="18" aria-hidden="true" {
                    circle cx="10" cy="10" r="7.2" fill="none" stroke="currentColor" stroke-width="1.6" {}
                    path d="M10 2.8a7.2 7.2 0 0 1 0 14.4z" fill="currentColor" {}
                }
            }
        }
    }
}

/// Nine neurons, two of them on.
fn logo() -> Markup {
    html! {
        svg viewBox="0 0 20 20" width="20" height="20" aria-hidden="true" {
            @for (place, on) in [false, true, false, false, false, true, false, false, false].iter().enumerate() {
                circle class=(if *on { "on" } else { "off" })
                    cx=(3 + place % 3 * 7) cy=(3 + place / 3 * 7) r="2.4" {}
            }
        }
    }
}

/// Version that measured, and licence.
pub(super) fn footer(version: &str) -> Markup {
    html! {
        footer {
            p {
                "Measured by fewron " (version) ", drawn by fewron "
                (env!("CARGO_PKG_VERSION")) ". fewron is open source under the "
                (env!("CARGO_PKG_LICENSE")) " licence. This page is one file and fetches nothing."
            }
        }
    }
}

/// Scripts and styles by hash, nothing else; a block of JSON is data and needs no permission.
fn policy(style: &str, script: &str) -> String {
    format!(
        "default-src 'none'; script-src 'sha256-{}'; style-src 'sha256-{}'; base-uri 'none'; \
         form-action 'none'",
        base64(&Sha256::digest(script)),
        base64(&Sha256::digest(style))
    )
}

/// The heat scale in 21 steps: `q0` is nothing, `q20` is all.
fn heat_classes() -> String {
    let mut css = String::new();
    for step in 0..=20 {
        let (from, to, share) = if step <= 10 {
            ("--heat-0", "--heat-1", step * 10)
        } else {
            ("--heat-1", "--heat-2", (step - 10) * 10)
        };
        let ink = if step <= 8 { "--heat-ink-low" } else { "--heat-ink-high" };
        let _ = writeln!(
            css,
            ".q{step}{{--q:color-mix(in srgb,var({to}) {share}%,var({from}));background:var(--q);\
             fill:var(--q);color:var({ink})}}"
        );
    }
    css
}

/// Standard base64 with padding (RFC 4648, section 4).
fn base64(bytes: &[u8]) -> String {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for group in bytes.chunks(3) {
        let word = group
            .iter()
            .enumerate()
            .fold(0u32, |word, (i, b)| word | u32::from(*b) << (16 - 8 * i));
        for place in 0..4 {
            let letter = LETTERS[(word >> (18 - 6 * place)) as usize & 63];
            text.push(if place <= group.len() { char::from(letter) } else { '=' });
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::base64;

    #[test]
    fn base64_equals_the_vectors_of_rfc_4648() {
        for (bytes, text) in
            [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foob", "Zm9vYg==")]
        {
            assert_eq!(base64(bytes.as_bytes()), text);
        }
    }
}
