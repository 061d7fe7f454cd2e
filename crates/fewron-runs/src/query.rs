//! Looking into the store, and taking runs out of it.

use rusqlite::types::Value;
use rusqlite::{OptionalExtension, Row, params_from_iter};

use crate::error::RunsError;
use crate::run::{Machine, ModelId, Point, PointOfRun, Run, State, Tool};
use crate::store::Store;

/// Which runs. What is `None` does not matter.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    /// These alone; none means all.
    pub ids: Vec<i64>,
    /// Of a command.
    pub kind: Option<String>,
    /// Whose model's name has this text in it.
    pub model: Option<String>,
    /// In a state.
    pub state: Option<State>,
    /// Started at this time or later, RFC 3339 in UTC.
    pub since: Option<String>,
    /// With a task, or data, of this name.
    pub task: Option<String>,
    /// With a variant of this name.
    pub variant: Option<String>,
    /// With a metric of this name.
    pub metric: Option<String>,
    /// The newest so many.
    pub limit: Option<usize>,
}

/// A condition with its values.
struct Where {
    sql: String,
    values: Vec<Value>,
}

impl Filter {
    /// On runs, and with `of_points` on the table of points too.
    fn condition(&self, of_points: bool) -> Where {
        let mut all = Where { sql: "1".to_owned(), values: Vec::new() };
        let text = |text: &Option<String>| text.clone().map(Value::Text);
        all.add("run.kind = ?", text(&self.kind));
        all.add("instr(lower(run.model), lower(?)) > 0", text(&self.model));
        all.add("run.state = ?", self.state.map(|s| Value::Text(s.as_str().to_owned())));
        all.add("run.started_at >= ?", text(&self.since));
        if !self.ids.is_empty() {
            let marks = vec!["?"; self.ids.len()].join(", ");
            all.sql += &format!(" AND run.id IN ({marks})");
            all.values.extend(self.ids.iter().map(|&id| Value::Integer(id)));
        }
        let named = [("task", &self.task), ("variant", &self.variant), ("metric", &self.metric)];
        if of_points {
            named
                .iter()
                .for_each(|(name, value)| all.add(&format!("point.{name} = ?"), text(value)));
            return all;
        }
        let wanted: Vec<_> = named.iter().filter(|(_, value)| value.is_some()).collect();
        if !wanted.is_empty() {
            let sql: String = wanted.iter().map(|(name, _)| format!(" AND {name} = ?")).collect();
            all.sql += &format!(" AND EXISTS (SELECT 1 FROM point WHERE run = run.id{sql})");
            all.values.extend(wanted.iter().filter_map(|(_, value)| text(value)));
        }
        all
    }
}

impl Where {
    fn add(&mut self, sql: &str, value: Option<Value>) {
        if let Some(value) = value {
            self.sql += " AND ";
            self.sql += sql;
            self.values.push(value);
        }
    }
}

impl Store {
    /// Runs, the newest first. Those whose process is gone are marked as interrupted first.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn runs(&self, filter: &Filter) -> Result<Vec<Run>, RunsError> {
        self.mark_interrupted()?;
        let Where { sql, mut values } = filter.condition(false);
        let limit = filter.limit.map_or(-1, |limit| limit as i64);
        values.push(Value::Integer(limit));
        let sql = format!(
            "SELECT run.*, (SELECT count(*) FROM sample WHERE run = run.id) AS samples, \
             (SELECT count(*) FROM point WHERE run = run.id) AS points \
             FROM run WHERE {sql} ORDER BY run.id DESC LIMIT ?"
        );
        self.rows(&sql, values, run)
    }

    /// One run.
    ///
    /// # Errors
    /// When there is none of this number.
    pub fn run(&self, id: i64) -> Result<Run, RunsError> {
        let filter = Filter { ids: vec![id], ..Filter::default() };
        let path = self.path();
        self.runs(&filter)?.pop().ok_or(RunsError::NoRun { id, path })
    }

    /// A run's whole record as JSON; `None` before the run has ended well.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn record(&self, id: i64) -> Result<Option<String>, RunsError> {
        let sql = "SELECT json FROM record WHERE run = ?1";
        let record = self.db.query_row(sql, [id], |row| row.get(0)).optional();
        record.map_err(|e| self.problem(e))
    }

    /// Points of runs that have ended well, the oldest run first, in the order in which they came.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn points(&self, filter: &Filter) -> Result<Vec<PointOfRun>, RunsError> {
        let Where { sql, mut values } = filter.condition(true);
        values.push(Value::Integer(filter.limit.map_or(-1, |limit| limit as i64)));
        let sql = format!(
            "SELECT * FROM (SELECT run.id, run.kind, run.finished_at, run.model, run.commit_id, \
             run.cpu, run.threads, point.task, point.variant, point.metric, point.value, point.low, \
             point.high, point.rowid AS place FROM point JOIN run ON run.id = point.run \
             WHERE run.state = 'done' AND {sql} ORDER BY place DESC LIMIT ?) ORDER BY place"
        );
        self.rows(&sql, values, point)
    }

    /// Takes a run out, with everything of it in the database. Files in its folder stay.
    ///
    /// # Errors
    /// When there is no such run, or a process is at work on it.
    pub fn delete(&self, id: i64) -> Result<(), RunsError> {
        self.mark_interrupted()?;
        let step = self.begin()?;
        let gone = step.execute("DELETE FROM run WHERE id = ?1 AND state != 'running'", [id]);
        let gone = gone.map_err(|e| self.problem(e))?;
        step.commit().map_err(|e| self.problem(e))?;
        if gone == 0 {
            self.run(id)?;
            return Err(RunsError::AtWork { id });
        }
        self.unlock(id);
        Ok(())
    }

    fn rows<T>(
        &self,
        sql: &str,
        values: Vec<Value>,
        read: fn(&Row) -> rusqlite::Result<T>,
    ) -> Result<Vec<T>, RunsError> {
        let rows = || -> rusqlite::Result<Vec<T>> {
            let mut rows = self.db.prepare(sql)?;
            rows.query_map(params_from_iter(values), read)?.collect()
        };
        rows().map_err(|e| self.problem(e))
    }
}

fn run(row: &Row) -> rusqlite::Result<Run> {
    let state: String = row.get("state")?;
    let arguments: String = row.get("arguments")?;
    Ok(Run {
        id: row.get("id")?,
        kind: row.get("kind")?,
        state: state.parse().unwrap_or(State::Failed),
        started_at: row.get("started_at")?,
        finished_at: row.get("finished_at")?,
        command: row.get("command")?,
        arguments: serde_json::from_str(&arguments).unwrap_or_default(),
        directory: row.get("directory")?,
        tool: Tool { version: row.get("version")?, commit: row.get("commit_id")? },
        machine: Machine {
            host: row.get("host")?,
            cpu: row.get("cpu")?,
            threads: count(row, "threads")? as usize,
        },
        model: ModelId { name: row.get("model")?, sha256: row.get("model_sha256")? },
        folder: row.get("folder")?,
        samples: count(row, "samples")?,
        points: count(row, "points")?,
        problem: row.get("problem")?,
    })
}

fn point(row: &Row) -> rusqlite::Result<PointOfRun> {
    Ok(PointOfRun {
        run: row.get("id")?,
        kind: row.get("kind")?,
        finished_at: row.get("finished_at")?,
        model: row.get("model")?,
        commit: row.get("commit_id")?,
        cpu: row.get("cpu")?,
        threads: count(row, "threads")? as usize,
        point: Point {
            task: row.get("task")?,
            variant: row.get("variant")?,
            metric: row.get("metric")?,
            value: row.get("value")?,
            low: row.get("low")?,
            high: row.get("high")?,
        },
    })
}

fn count(row: &Row, column: &str) -> rusqlite::Result<u64> {
    Ok(u64::try_from(row.get::<_, i64>(column)?).unwrap_or(0))
}
