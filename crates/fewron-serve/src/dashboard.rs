//! The dashboard: a page, its styles and its scripts, in the binary as they are in the source.
//!
//! The page speaks the same HTTP as every client, with the user's key where there is one. It needs nothing
//! from elsewhere, so the policy `default-src 'none'; script-src 'self'; style-src 'self'; connect-src
//! 'self'; img-src 'self' data:` holds for it.

/// A file that is served as it is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Asset {
    /// Path of its URL.
    pub(crate) path: &'static str,
    /// Its media type.
    pub(crate) content_type: &'static str,
    /// What it holds.
    pub(crate) body: &'static str,
}

/// The page at `/`, and what it loads.
pub(crate) const ASSETS: &[Asset] = &[
    page("/", include_str!("dashboard/index.html")),
    style("/dashboard/style.css", include_str!("dashboard/style.css")),
    style("/dashboard/figures.css", include_str!("dashboard/figures.css")),
    script("/dashboard/agreement.js", include_str!("dashboard/agreement.js")),
    script("/dashboard/answer.js", include_str!("dashboard/answer.js")),
    script("/dashboard/api.js", include_str!("dashboard/api.js")),
    script("/dashboard/app.js", include_str!("dashboard/app.js")),
    script("/dashboard/chat.js", include_str!("dashboard/chat.js")),
    script("/dashboard/completion.js", include_str!("dashboard/completion.js")),
    script("/dashboard/dom.js", include_str!("dashboard/dom.js")),
    script("/dashboard/format.js", include_str!("dashboard/format.js")),
    script("/dashboard/heat_map.js", include_str!("dashboard/heat_map.js")),
    script("/dashboard/history.js", include_str!("dashboard/history.js")),
    script("/dashboard/latency.js", include_str!("dashboard/latency.js")),
    script("/dashboard/live.js", include_str!("dashboard/live.js")),
    script("/dashboard/overview.js", include_str!("dashboard/overview.js")),
    script("/dashboard/quality.js", include_str!("dashboard/quality.js")),
    script("/dashboard/requests.js", include_str!("dashboard/requests.js")),
    script("/dashboard/table.js", include_str!("dashboard/table.js")),
    script("/dashboard/theme.js", include_str!("dashboard/theme.js")),
    script("/dashboard/tip.js", include_str!("dashboard/tip.js")),
    script("/dashboard/variants.js", include_str!("dashboard/variants.js")),
    script("/dashboard/verdict.js", include_str!("dashboard/verdict.js")),
];

const fn page(path: &'static str, body: &'static str) -> Asset {
    Asset { path, content_type: "text/html; charset=utf-8", body }
}

const fn style(path: &'static str, body: &'static str) -> Asset {
    Asset { path, content_type: "text/css; charset=utf-8", body }
}

const fn script(path: &'static str, body: &'static str) -> Asset {
    Asset { path, content_type: "text/javascript; charset=utf-8", body }
}

#[cfg(test)]
mod tests {
    use super::{ASSETS, Asset};

    fn scripts() -> impl Iterator<Item = &'static Asset> {
        ASSETS.iter().filter(|asset| asset.path.ends_with(".js"))
    }

    #[test]
    fn paths_are_served_once() {
        for (at, asset) in ASSETS.iter().enumerate() {
            assert!(ASSETS[..at].iter().all(|other| other.path != asset.path), "{}", asset.path);
        }
    }

    #[test]
    fn what_scripts_import_is_served() {
        for script in scripts() {
            let imports = script.body.lines().filter_map(|line| line.split_once("from \"./"));
            for (_, name) in imports {
                let path = format!("/dashboard/{}", name.trim_end_matches("\";"));
                assert!(ASSETS.iter().any(|asset| asset.path == path), "{}: {path}", script.path);
            }
        }
    }

    #[test]
    fn what_the_page_loads_is_served() {
        let page = ASSETS[0].body;
        let loaded: Vec<_> =
            page.split('"').filter(|part| part.starts_with("/dashboard/")).collect();
        assert_eq!(loaded, ["/dashboard/style.css", "/dashboard/figures.css", "/dashboard/app.js"]);
    }

    #[test]
    fn nothing_needs_more_than_the_policy_allows() {
        let page = ASSETS[0].body;
        for inline in [" style=", "<style", " onclick=", "<script>", "http://", "https://"] {
            let found = page.replace("http://www.w3.org/2000/svg", "").contains(inline);
            assert!(!found, "the page has {inline}");
        }
        for script in scripts() {
            for html in ["innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval("]
            {
                assert!(!script.body.contains(html), "{} has {html}", script.path);
            }
        }
    }
}
