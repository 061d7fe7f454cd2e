//! What tests read of a page.

#![allow(dead_code)]

/// Text of the first `name` element.
pub(crate) fn element<'a>(page: &'a str, name: &str) -> &'a str {
    let open = page.find(&format!("<{name}>")).expect("element is there") + name.len() + 2;
    let close = page[open..].find(&format!("</{name}>")).expect("element is closed");
    &page[open..open + close]
}

/// Walks the tags: everything that opens must close in order. Text of `script` and `style` is raw.
pub(crate) fn assert_well_formed(page: &str) {
    const VOID: [&str; 2] = ["meta", "br"];
    let mut open: Vec<&str> = Vec::new();
    let mut rest = page.strip_prefix("<!DOCTYPE html>").expect("a doctype");
    while let Some(start) = rest.find('<') {
        let tag = &rest[start + 1..];
        let end = tag.find('>').expect("a tag ends");
        let (body, after) = (&tag[..end], &tag[end + 1..]);
        let name = body.trim_start_matches('/').split([' ', '\n']).next().unwrap();
        assert!(name.chars().all(|c| c.is_ascii_alphanumeric()), "bad tag <{body}>");
        rest = after;
        if body.starts_with('/') {
            assert_eq!(open.pop(), Some(name), "</{name}> closes another element");
        } else if !VOID.contains(&name) {
            open.push(name);
            if ["script", "style"].contains(&name) {
                rest = &rest[rest.find(&format!("</{name}>")).expect("raw text ends")..];
            }
        }
    }
    assert_eq!(open, Vec::<&str>::new());
}

/// The lines of the file `name.csv` that a link of the page saves.
pub(crate) fn csv(page: &str, name: &str) -> Vec<String> {
    let link = page.find(&format!("download=\"{name}.csv\"")).expect("the figure has a link");
    let data = &page[link..][page[link..].find("utf-8,").expect("the link has data") + 6..];
    let mut bytes = Vec::new();
    let mut rest = data[..data.find('"').expect("the link ends")].bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'%' => {
                let hex = [rest.next().unwrap(), rest.next().unwrap()];
                u8::from_str_radix(std::str::from_utf8(&hex).unwrap(), 16).unwrap()
            }
            plain => plain,
        });
    }
    String::from_utf8(bytes).unwrap().lines().map(str::to_owned).collect()
}

/// Figures of the page, as markup.
pub(crate) fn figures(page: &str) -> Vec<&str> {
    page.split("<figure").skip(1).map(|figure| figure.split("</figure>").next().unwrap()).collect()
}
