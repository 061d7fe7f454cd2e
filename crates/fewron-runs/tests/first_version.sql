CREATE TABLE run (
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
);
INSERT INTO run VALUES
   (1, 'eval', 'done', '2026-11-01T10:00:00.000Z', '2026-11-01T10:05:00.000Z', 'fewron eval smollm2', '0.1.0',
    'abc', 'host', 'cpu', 2, 'smollm2', 'b179', NULL, NULL),
   (2, 'sweep', 'running', '2026-11-02T10:00:00.000Z', NULL, 'fewron sweep smollm2', '0.1.0', NULL, 'host',
    'cpu', 2, 'smollm2', 'b179', 'runs/first', NULL);
INSERT INTO point VALUES (1, 'arc_easy', 'dense', 'acc', 0.25, 0.2, NULL);
INSERT INTO record VALUES (1, '{"a": 1}');
PRAGMA user_version = 1;
