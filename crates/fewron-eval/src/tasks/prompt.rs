//! Jinja templates and expressions of a task, applied to the records of a data file.

use minijinja::{Environment, Error, Expression, UndefinedBehavior, Value};
use minijinja_contrib::pycompat;

use super::TaskError;
use crate::data::{Record, Records};

/// Steps that one rendering may take.
const FUEL: u64 = 1_000_000;
const RECURSION_LIMIT: usize = 50;

/// Where templates and expressions run. An undefined name is an error, unless it is asked for with
/// `is defined`.
pub(super) fn environment() -> Environment<'static> {
    let mut env = Environment::new();
    env.set_undefined_behavior(UndefinedBehavior::SemiStrict);
    env.set_unknown_method_callback(pycompat::unknown_method_callback);
    env.set_auto_escape_callback(|_| minijinja::AutoEscape::None);
    env.set_fuel(Some(FUEL));
    env.set_recursion_limit(RECURSION_LIMIT);
    env.add_filter("wikihow", wikihow);
    env.add_function("position", position);
    env
}

/// HellaSwag's text without WikiHow's marks, as lm-evaluation-harness cleans it: ` [title]` ends a
/// sentence, other text in brackets goes, and so do double spaces.
fn wikihow(text: &str) -> String {
    let mut text = text.trim().replace(" [title]", ". ");
    while let Some(start) = text.find('[')
        && let Some(len) = text[start..].find(']')
    {
        text.replace_range(start..=start + len, "");
    }
    text.replace("  ", " ")
}

/// Index of the first item that equals `wanted`; undefined without one.
fn position(items: &Value, wanted: &Value) -> Result<Value, Error> {
    let index = items.try_iter()?.position(|item| &item == wanted);
    Ok(index.map_or(Value::UNDEFINED, Value::from))
}

/// A field of a task's definition, ready for records.
pub(super) struct Field<'a> {
    task: &'a str,
    name: &'static str,
    source: Source<'a>,
}

enum Source<'a> {
    Template(minijinja::Template<'a, 'a>),
    Expression(Expression<'a, 'a>),
}

impl<'a> Field<'a> {
    pub(super) fn template(
        env: &'a Environment<'static>,
        task: &'a str,
        name: &'static str,
        source: &'a str,
    ) -> Result<Self, TaskError> {
        let template = env.template_from_str(source).map_err(|e| no_jinja(task, name, &e))?;
        Ok(Self { task, name, source: Source::Template(template) })
    }

    pub(super) fn expression(
        env: &'a Environment<'static>,
        task: &'a str,
        name: &'static str,
        source: &'a str,
    ) -> Result<Self, TaskError> {
        let expression = env.compile_expression(source).map_err(|e| no_jinja(task, name, &e))?;
        Ok(Self { task, name, source: Source::Expression(expression) })
    }

    /// The field's value for a record: text of a template, anything but undefined of an expression.
    pub(super) fn of(&self, records: &Records, record: &Record) -> Result<Value, TaskError> {
        let value = match &self.source {
            Source::Template(template) => template.render(&record.fields).map(Value::from),
            Source::Expression(expression) => expression.eval(&record.fields),
        };
        match value {
            Ok(value) if value.is_undefined() => {
                Err(self.problem(records, record, "a field that is not there".to_owned()))
            }
            Ok(value) => Ok(value),
            Err(error) => Err(self.problem(records, record, describe(&error))),
        }
    }

    /// The field's value as text.
    pub(super) fn text(&self, records: &Records, record: &Record) -> Result<String, TaskError> {
        Ok(self.of(records, record)?.to_string())
    }

    /// The field's value as text, without white space around it; `None` for `none` and for an empty
    /// text.
    pub(super) fn text_or_none(
        &self,
        records: &Records,
        record: &Record,
    ) -> Result<Option<String>, TaskError> {
        let value = self.of(records, record)?;
        let text = value.to_string().trim().to_owned();
        Ok(Some(text).filter(|text| !value.is_none() && !text.is_empty()))
    }

    /// The field's value as a list of texts.
    pub(super) fn texts(
        &self,
        records: &Records,
        record: &Record,
    ) -> Result<Vec<String>, TaskError> {
        let value = self.of(records, record)?;
        match value.try_iter() {
            Ok(items) if value.as_str().is_none() => Ok(items.map(|v| v.to_string()).collect()),
            _ => Err(self.problem(records, record, format!("no list but {value:?}"))),
        }
    }

    /// An error that names file, line, field and what the record has.
    pub(super) fn problem(&self, records: &Records, record: &Record, problem: String) -> TaskError {
        let fields = record.fields.try_iter().into_iter().flatten();
        let has: Vec<String> = fields.map(|name| format!("`{name}`")).collect();
        TaskError::Field {
            file: records.name.clone(),
            line: record.line,
            problem,
            field: self.name,
            task: self.task.to_owned(),
            has: has.join(", "),
        }
    }
}

fn no_jinja(task: &str, field: &'static str, error: &Error) -> TaskError {
    TaskError::Jinja { task: task.to_owned(), field, problem: describe(error) }
}

fn describe(error: &Error) -> String {
    error.detail().map_or_else(|| error.kind().to_string(), str::to_owned)
}
