//! Tables, and how an older store becomes one of today.

use rusqlite::{Connection, TransactionBehavior};

/// Steps from an empty file to today's tables. `PRAGMA user_version` says how many a file has taken.
/// A step is never changed once it was released: a new one is added.
pub(crate) const MIGRATIONS: [&str; 2] = [
    // 1: runs, what they found, and their whole records.
    "CREATE TABLE run (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        kind TEXT NOT NULL,
        state TEXT NOT NULL,
        started_at TEXT NOT NULL,
        finished_at TEXT,
        command TEXT NOT NULL,
        version TEXT NOT NULL,
        commit_id TEXT,
        host TEXT NOT NULL,
        cpu TEXT NOT NULL,
        threads INTEGER NOT NULL,
        model TEXT NOT NULL,
        model_sha256 TEXT NOT NULL,
        folder TEXT,
        problem TEXT
     );
     CREATE TABLE point (
        run INTEGER NOT NULL REFERENCES run(id) ON DELETE CASCADE,
        task TEXT NOT NULL,
        variant TEXT NOT NULL,
        metric TEXT NOT NULL,
        value REAL NOT NULL,
        low REAL,
        high REAL
     );
     CREATE INDEX point_of_run ON point(run);
     CREATE TABLE record (
        run INTEGER PRIMARY KEY REFERENCES run(id) ON DELETE CASCADE,
        json TEXT NOT NULL
     );",
    // 2: runs that can be resumed: by whom, from where, with which samples.
    "ALTER TABLE run ADD COLUMN key TEXT NOT NULL DEFAULT '';
     ALTER TABLE run ADD COLUMN arguments TEXT NOT NULL DEFAULT '[]';
     ALTER TABLE run ADD COLUMN directory TEXT NOT NULL DEFAULT '';
     CREATE INDEX run_by_key ON run(key, state);
     CREATE TABLE sample (
        run INTEGER NOT NULL REFERENCES run(id) ON DELETE CASCADE,
        task INTEGER NOT NULL,
        number INTEGER NOT NULL,
        json TEXT NOT NULL,
        PRIMARY KEY (run, task, number)
     ) WITHOUT ROWID;",
];

/// Brings the tables up to date; `Ok(Err(found))` for a file of a newer fewron.
pub(crate) fn migrate(db: &mut Connection) -> rusqlite::Result<Result<(), i64>> {
    // Nothing to do is the common case, and needs no lock.
    if version(db)? == MIGRATIONS.len() as i64 {
        return Ok(Ok(()));
    }
    let step = db.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let found = version(&step)?;
    let Some(missing) = usize::try_from(found).ok().and_then(|done| MIGRATIONS.get(done..)) else {
        return Ok(Err(found));
    };
    missing.iter().try_for_each(|sql| step.execute_batch(sql))?;
    step.pragma_update(None, "user_version", MIGRATIONS.len() as i64)?;
    step.commit()?;
    Ok(Ok(()))
}

fn version(db: &Connection) -> rusqlite::Result<i64> {
    db.pragma_query_value(None, "user_version", |row| row.get(0))
}
