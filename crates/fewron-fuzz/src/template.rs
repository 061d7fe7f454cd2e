//! Chat templates, which are programs.

use fewron_model::chat::{ChatTemplate, Message};

/// The source of a template, run on a conversation.
pub(crate) fn template(bytes: &[u8]) {
    let Ok(source) = std::str::from_utf8(bytes) else { return };
    let Ok(template) = ChatTemplate::new(source, "<s>", "</s>") else { return };
    let template = template.at_unix_time(1_700_000_000);
    let messages = [
        Message::new("system", "Be brief."),
        Message::new("user", "Why? <s>"),
        Message::new("assistant", "Because {{ 1 }}."),
        Message::new("user", ""),
    ];
    for generate in [false, true] {
        let _ = template.render(&messages, generate);
        let _ = template.render(&messages[1..2], generate);
    }
}
