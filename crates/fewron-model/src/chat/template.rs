//! A compiled template and the names it sees.

use std::io::{self, Write};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::LazyLock;
use std::time::{SystemTime, UNIX_EPOCH};

use minijinja::syntax::SyntaxConfig;
use minijinja::value::Serde;
use minijinja::{Environment, Error, Value, context};
use minijinja_contrib::pycompat;
use regex::Regex;

use super::functions;
use super::{ChatError, Message};

const NAME: &str = "chat_template";
/// Steps that one rendering may take; the longest real template needs a few hundred per message.
const FUEL: u64 = 5_000_000;
const RECURSION_LIMIT: usize = 100;
/// Longest text that a template may write: far more than any context holds.
const MOST_BYTES: usize = 64 << 20;

/// `{% generation %}` only marks a span for training; as a condition that holds it changes nothing.
static GENERATION: LazyLock<Regex> = LazyLock::new(|| {
    #[allow(clippy::expect_used)]
    Regex::new(r"\{%([-+]?)\s*(end)?generation\s*([-+]?)%\}").expect("a constant pattern")
});

#[derive(Debug)]
pub(super) struct Template {
    env: Environment<'static>,
    bos: String,
    eos: String,
}

impl Template {
    pub(super) fn new(source: &str, bos: &str, eos: &str) -> Result<Self, ChatError> {
        let source = GENERATION.replace_all(source, |found: &regex::Captures<'_>| {
            let tag = if found.get(2).is_some() { "endif" } else { "if true" };
            format!("{{%{} {tag} {}%}}", &found[1], &found[3])
        });
        let fail = |e: Error| ChatError::Template(describe(&e));
        let mut env = environment().map_err(fail)?;
        let added = guarded(|| env.add_template_owned(NAME, source.into_owned()));
        added.map_err(ChatError::Template)?.map_err(fail)?;
        Ok(Template { env, bos: bos.to_string(), eos: eos.to_string() })
    }

    pub(super) fn fix_time(&mut self, unix_s: u64) {
        self.env
            .add_function("strftime_now", move |format: &str| functions::strftime(format, unix_s));
    }

    pub(super) fn render(
        &self,
        messages: &[Message],
        add_generation_prompt: bool,
    ) -> Result<String, ChatError> {
        let context = context! {
            messages => Value::from(Serde(messages)),
            add_generation_prompt,
            bos_token => self.bos.as_str(),
            eos_token => self.eos.as_str(),
            tools => (),
            documents => (),
        };
        let template =
            self.env.get_template(NAME).map_err(|e| ChatError::Template(describe(&e)))?;
        let mut text = Limited(Vec::new());
        let rendered = guarded(|| template.render_captured_to(context, &mut text).map(drop));
        rendered.map_err(ChatError::Render)?.map_err(|e| ChatError::Render(describe(&e)))?;
        String::from_utf8(text.0).map_err(|e| ChatError::Render(e.to_string()))
    }
}

/// Does some work of minijinja's, whose faults (3.0 panics where an empty text is turned round by
/// `[::-1]`) are errors here: templates come out of files.
fn guarded<T>(work: impl FnOnce() -> T) -> Result<T, String> {
    catch_unwind(AssertUnwindSafe(work)).map_err(|panic| {
        let text = panic.downcast_ref::<String>().map(String::as_str);
        let text = text.or(panic.downcast_ref::<&str>().copied()).unwrap_or("no message");
        format!("the template engine has a fault here ({text})")
    })
}

/// A text of at most [`MOST_BYTES`].
struct Limited(Vec<u8>);

impl Write for Limited {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.0.len() + bytes.len() > MOST_BYTES {
            return Err(io::Error::other(format!("it writes more than {MOST_BYTES} bytes")));
        }
        self.0.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The environment of `transformers.utils.chat_template_utils._compile_jinja_template`.
fn environment() -> Result<Environment<'static>, Error> {
    let mut env = Environment::new();
    env.set_syntax(SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build()?);
    env.set_unknown_method_callback(pycompat::unknown_method_callback);
    env.set_auto_escape_callback(|_| minijinja::AutoEscape::None);
    env.set_fuel(Some(FUEL));
    env.set_recursion_limit(RECURSION_LIMIT);
    env.add_function("raise_exception", functions::raise_exception);
    env.add_function("strftime_now", |format: &str| functions::strftime(format, unix_now()));
    env.add_filter("tojson", functions::tojson);
    Ok(env)
}

fn unix_now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs())
}

/// The message of a template error with its line, without the source listing.
fn describe(error: &Error) -> String {
    let what = error.detail().map_or_else(|| error.kind().to_string(), str::to_string);
    match error.line() {
        Some(line) => format!("{what} (line {line} of the template)"),
        None => what,
    }
}
