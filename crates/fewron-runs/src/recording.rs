//! A run at work.

use std::fs::File;
use std::time::SystemTime;

use rusqlite::{Connection, Error as SqlError, params};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::error::RunsError;
use crate::run::{NewRun, Point, State};
use crate::store::Store;

/// A run at work: what it measures is kept at once. Dropped without [`Recording::finish`] it is
/// interrupted, as it is when the process is killed.
#[derive(Debug)]
pub struct Recording {
    store: Store,
    id: i64,
    ended: bool,
    _lock: File,
}

impl Recording {
    pub(crate) fn new(store: Store, id: i64, lock: File) -> Self {
        Self { store, id, ended: false, _lock: lock }
    }

    /// The run's number.
    pub fn id(&self) -> i64 {
        self.id
    }

    /// What was kept of a task's samples, by their numbers, when the run was interrupted.
    ///
    /// # Errors
    /// When the store cannot be read, or a sample is no `T`.
    pub fn samples<T: DeserializeOwned>(&self, task: usize) -> Result<Vec<(usize, T)>, RunsError> {
        let read = || -> rusqlite::Result<Vec<(i64, String)>> {
            let sql =
                "SELECT number, json FROM sample WHERE run = ?1 AND task = ?2 ORDER BY number";
            let mut rows = self.store.db.prepare(sql)?;
            let row = |row: &rusqlite::Row| Ok((row.get(0)?, row.get(1)?));
            rows.query_map(params![self.id, task as i64], row)?.collect()
        };
        let rows = read().map_err(|e| self.store.problem(e))?;
        let sample = |(number, json): (i64, String)| {
            let damaged = |problem: String| RunsError::Damaged { id: self.id, problem };
            let number = usize::try_from(number).map_err(|e| damaged(e.to_string()))?;
            Ok((number, serde_json::from_str(&json).map_err(|e| damaged(e.to_string()))?))
        };
        rows.into_iter().map(sample).collect()
    }

    /// Keeps a sample: it is there after the process is killed.
    ///
    /// # Errors
    /// When the store cannot be written.
    pub fn keep(
        &self,
        task: usize,
        number: usize,
        sample: &impl Serialize,
    ) -> Result<(), RunsError> {
        let json = json(sample).map_err(|e| self.store.problem(e))?;
        let sql = "INSERT OR REPLACE INTO sample VALUES (?1, ?2, ?3, ?4)";
        self.write(|db| {
            db.prepare(sql)?.execute(params![self.id, task as i64, number as i64, json])
        })
    }

    /// Ends the run with its whole record, and the numbers that lists and histories show.
    ///
    /// # Errors
    /// When the store cannot be written; the run stays interrupted, with its samples.
    pub fn finish(mut self, record: &impl Serialize, points: &[Point]) -> Result<i64, RunsError> {
        let record = json(record).map_err(|e| self.store.problem(e))?;
        self.write(|db| {
            db.execute("INSERT OR REPLACE INTO record VALUES (?1, ?2)", params![self.id, record])?;
            db.execute("DELETE FROM sample WHERE run = ?1", [self.id])?;
            let sql = "INSERT INTO point VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)";
            let mut insert = db.prepare(sql)?;
            for Point { task, variant, metric, value, low, high } in points {
                insert.execute(params![self.id, task, variant, metric, value, low, high])?;
            }
            end(db, self.id, State::Done, None)
        })?;
        self.ended = true;
        Ok(self.id)
    }

    /// Ends the run with the reason why it failed. Its samples are kept: the same key goes on with them.
    ///
    /// # Errors
    /// When the store cannot be written.
    pub fn fail(mut self, problem: &str) -> Result<(), RunsError> {
        self.write(|db| end(db, self.id, State::Failed, Some(problem)))?;
        self.ended = true;
        Ok(())
    }

    fn write(&self, act: impl Fn(&Connection) -> rusqlite::Result<usize>) -> Result<(), RunsError> {
        let step = self.store.begin()?;
        act(&step).and_then(|_| step.commit()).map_err(|e| self.store.problem(e))
    }
}

impl Drop for Recording {
    fn drop(&mut self) {
        if !self.ended {
            // Where this fails too, the free lock says the same.
            let _ = self.write(|db| end(db, self.id, State::Interrupted, None));
        }
        self.store.unlock(self.id);
    }
}

fn end(db: &Connection, id: i64, state: State, problem: Option<&str>) -> rusqlite::Result<usize> {
    let sql = "UPDATE run SET state = ?2, finished_at = ?3, problem = ?4 WHERE id = ?1";
    db.execute(sql, params![id, state.as_str(), now(), problem])
}

fn json(value: &impl Serialize) -> rusqlite::Result<String> {
    serde_json::to_string(value).map_err(|e| SqlError::ToSqlConversionFailure(Box::new(e)))
}

/// The time, RFC 3339 in UTC.
fn now() -> String {
    humantime::format_rfc3339_millis(SystemTime::now()).to_string()
}

impl NewRun {
    /// Adds the run, and gives its number.
    pub(crate) fn insert(&self, db: &Connection) -> rusqlite::Result<i64> {
        let sql = "INSERT INTO run (kind, state, key, started_at, command, arguments, directory, \
                   version, commit_id, host, cpu, threads, model, model_sha256, folder) \
                   VALUES (?1, 'running', ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14)";
        let Self { kind, key, command, arguments, directory, tool, machine, model, folder } = self;
        db.execute(
            sql,
            params![
                kind,
                key,
                now(),
                command,
                json(arguments)?,
                directory,
                tool.version,
                tool.commit,
                machine.host,
                machine.cpu,
                machine.threads as i64,
                model.name,
                model.sha256,
                folder
            ],
        )?;
        Ok(db.last_insert_rowid())
    }
}
