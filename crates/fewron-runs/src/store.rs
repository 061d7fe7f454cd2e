//! The store's file, and the locks beside it.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use std::{io, thread};

use rusqlite::{Connection, ErrorCode, OptionalExtension, Transaction, TransactionBehavior};

use crate::error::RunsError;
use crate::recording::Recording;
use crate::run::NewRun;
use crate::schema;

/// Name of the database in the store's folder.
const DATABASE: &str = "runs.db";

/// Longest wait for other writers.
const PATIENCE: Duration = Duration::from_secs(60);

/// Between two tries at what SQLite itself does not wait for.
const PAUSE: Duration = Duration::from_millis(20);

/// A folder with a database of runs.
#[derive(Debug)]
pub struct Store {
    pub(crate) db: Connection,
    folder: PathBuf,
}

impl Store {
    /// Opens the store of a folder, which is made if need be; an older store is brought up to date.
    ///
    /// # Errors
    /// When the folder cannot be written, the file is no store, or a newer fewron made it.
    pub fn open(folder: &Path) -> Result<Self, RunsError> {
        let locks = folder.join("locks");
        fs::create_dir_all(&locks).map_err(|source| {
            let action = "make the folder of runs";
            RunsError::Io { action, path: folder.to_owned(), source }
        })?;
        let path = folder.join(DATABASE);
        let fail = |source| RunsError::Database { path: path.clone(), source };
        let mut db = Connection::open(&path).map_err(fail)?;
        db.busy_timeout(PATIENCE).map_err(fail)?;
        // SQLite does not wait where the kind of journal changes.
        patiently(|| db.pragma_update(None, "journal_mode", "WAL")).map_err(fail)?;
        db.pragma_update(None, "synchronous", "NORMAL").map_err(fail)?;
        db.pragma_update(None, "foreign_keys", true).map_err(fail)?;
        let known = schema::MIGRATIONS.len() as i64;
        match patiently(|| schema::migrate(&mut db)).map_err(fail)? {
            Ok(()) => Ok(Self { db, folder: folder.to_owned() }),
            Err(found) => Err(RunsError::Newer { path, found, known }),
        }
    }

    /// The database file.
    pub fn path(&self) -> PathBuf {
        self.folder.join(DATABASE)
    }

    /// Starts a run, or goes on with the last of the same key that did not come to its end, unless it is
    /// to start `anew`.
    ///
    /// # Errors
    /// When the store cannot be written.
    pub fn start(self, new: &NewRun, anew: bool) -> Result<Recording, RunsError> {
        self.mark_interrupted()?;
        let step = self.begin()?;
        let find = "SELECT id FROM run WHERE key = ?1 AND state IN ('interrupted', 'failed') \
                    ORDER BY id DESC";
        let found = step.query_row(find, [&new.key], |row| row.get(0)).optional();
        let found = found.map_err(|e| self.problem(e))?.filter(|_| !anew && !new.key.is_empty());
        let id = match found {
            Some(id) => id,
            None => new.insert(&step).map_err(|e| self.problem(e))?,
        };
        let set = "UPDATE run SET state = 'running', problem = NULL WHERE id = ?1";
        step.execute(set, [id]).map_err(|e| self.problem(e))?;
        // Whoever sees the run finds its lock taken.
        let lock = self.lock(id)?;
        step.commit().map_err(|e| self.problem(e))?;
        Ok(Recording::new(self, id, lock))
    }

    /// A transaction that may write; it waits for other writers.
    pub(crate) fn begin(&self) -> Result<Transaction<'_>, RunsError> {
        let step = Transaction::new_unchecked(&self.db, TransactionBehavior::Immediate);
        step.map_err(|source| self.problem(source))
    }

    /// Marks runs whose process is gone.
    pub(crate) fn mark_interrupted(&self) -> Result<(), RunsError> {
        let running = || -> rusqlite::Result<Vec<i64>> {
            let mut rows = self.db.prepare("SELECT id FROM run WHERE state = 'running'")?;
            rows.query_map([], |row| row.get(0))?.collect()
        };
        let running = running().map_err(|e| self.problem(e))?;
        for id in running.into_iter().filter(|&id| self.is_abandoned(id)) {
            let set = "UPDATE run SET state = 'interrupted' WHERE id = ?1 AND state = 'running'";
            let step = self.begin()?;
            step.execute(set, [id]).and_then(|_| step.commit()).map_err(|e| self.problem(e))?;
        }
        Ok(())
    }

    fn lock_path(&self, id: i64) -> PathBuf {
        self.folder.join("locks").join(id.to_string())
    }

    /// Takes the run's lock, which the system frees when the process ends.
    fn lock(&self, id: i64) -> Result<File, RunsError> {
        let path = self.lock_path(id);
        let take = || {
            let file = File::create(&path)?;
            match file.lock() {
                // Then a killed run stays `running` until it is deleted.
                Err(error) if error.kind() == io::ErrorKind::Unsupported => Ok(file),
                taken => taken.map(|()| file),
            }
        };
        take().map_err(|source| RunsError::Io { action: "lock", path: path.clone(), source })
    }

    /// Whether nobody holds the run's lock.
    pub(crate) fn is_abandoned(&self, id: i64) -> bool {
        match File::open(self.lock_path(id)) {
            Ok(file) => file.try_lock_shared().is_ok(),
            Err(error) => error.kind() == io::ErrorKind::NotFound,
        }
    }

    /// Removes the run's lock file. One that stays says nothing once it is free.
    pub(crate) fn unlock(&self, id: i64) {
        let _ = fs::remove_file(self.lock_path(id));
    }

    pub(crate) fn problem(&self, source: rusqlite::Error) -> RunsError {
        RunsError::Database { path: self.path(), source }
    }
}

/// Tries again while another process is at work, up to the store's patience.
fn patiently<T>(mut act: impl FnMut() -> rusqlite::Result<T>) -> rusqlite::Result<T> {
    let start = Instant::now();
    loop {
        match act() {
            Err(error) if is_busy(&error) && start.elapsed() < PATIENCE => thread::sleep(PAUSE),
            result => return result,
        }
    }
}

fn is_busy(error: &rusqlite::Error) -> bool {
    matches!(error.sqlite_error_code(), Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked))
}
