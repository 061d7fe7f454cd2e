//! `fewron serve` as a process: its line at the start, its end, and what it refuses.

#[allow(dead_code, unreachable_pub)]
mod support;

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread::{self, sleep};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use support::{fewron, fewron_env, tiny};

/// Long enough for anything here, however slow the machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// A server at work.
struct Server {
    child: Child,
    address: String,
}

/// How a server ended.
struct Ended {
    code: Option<i32>,
    stderr: String,
}

impl Server {
    fn start(home: &Path, arguments: &[&str]) -> Self {
        Self::start_with(home, &[], arguments)
    }

    fn start_with(home: &Path, variables: &[(&str, &str)], arguments: &[&str]) -> Self {
        let model = tiny("tiny-llama");
        let mut child = Command::new(env!("CARGO_BIN_EXE_fewron"))
            .args(["serve", &model, "--name", "tiny", "--port", "0", "-t", "1"])
            .args(arguments)
            .env("FEWRON_HOME", home)
            .env_remove("FEWRON_API_KEY")
            .envs(variables.iter().copied())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let address = line.trim().strip_prefix("Serving tiny at http://");
        let address = address.unwrap_or_else(|| panic!("{line:?}")).to_owned();
        Self { child, address }
    }

    fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(&self.address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream
    }

    fn get(&self, path: &str, header: &str) -> String {
        let mut stream = self.connect();
        let head = "HTTP/1.1\r\nHost: localhost\r\nConnection: close";
        write!(stream, "GET {path} {head}\r\n{header}\r\n").unwrap();
        text(stream)
    }

    /// Sends a completion and leaves the reply unread.
    fn ask(&self, body: &Value) -> TcpStream {
        let mut stream = self.connect();
        let body = body.to_string();
        write!(
            stream,
            "POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\
             Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        )
        .unwrap();
        stream
    }

    fn signal(&self) {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
    }

    fn wait(mut self) -> Ended {
        let start = Instant::now();
        while self.child.try_wait().unwrap().is_none() {
            if start.elapsed() > PATIENCE {
                self.child.kill().unwrap();
                panic!("the server did not end");
            }
            sleep(Duration::from_millis(10));
        }
        let mut stderr = String::new();
        self.child.stderr.take().unwrap().read_to_string(&mut stderr).unwrap();
        Ended { code: self.child.wait().unwrap().code(), stderr }
    }

    fn end(self) -> Ended {
        self.signal();
        self.wait()
    }
}

/// Everything until the server closes the connection.
fn text(mut stream: TcpStream) -> String {
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    text
}

fn prompt(max_tokens: usize, stream: bool) -> Value {
    json!({ "model": "tiny", "prompt": "Once", "max_tokens": max_tokens, "stream": stream })
}

#[test]
fn it_answers_and_keeps_a_record() {
    let home = tempfile::tempdir().unwrap();
    let server = Server::start(home.path(), &["--policy", "magnitude", "--sparsity", ".25"]);
    assert!(server.get("/health", "").starts_with("HTTP/1.1 200"));
    let reply = text(server.ask(&prompt(4, false)));
    assert!(reply.contains("\"model\":\"tiny:magnitude@0.25\""), "{reply}");
    let ended = server.end();
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    assert!(!ended.stderr.contains("Once"), "{}", ended.stderr);

    let runs = fewron(home.path(), &["runs", "--kind", "serve", "--json"]);
    let runs: Value = serde_json::from_str(&runs.stdout).unwrap();
    assert_eq!(runs[0]["state"], "done", "{runs}");
    let shown = fewron(home.path(), &["runs", "show", "latest"]);
    assert!(shown.stdout.contains("time_to_first_token_s"), "{}", shown.stdout);
}

#[test]
fn prompts_are_logged_where_that_is_asked_for() {
    let home = tempfile::tempdir().unwrap();
    let server = Server::start(home.path(), &["--log-prompts"]);
    text(server.ask(&prompt(1, false)));
    assert!(server.end().stderr.contains("Once"));
    let server = Server::start(home.path(), &["--log-level", "off"]);
    text(server.ask(&prompt(1, false)));
    assert_eq!(server.end().stderr, "");
}

#[test]
fn a_signal_lets_answers_end() {
    let home = tempfile::tempdir().unwrap();
    let server = Server::start(home.path(), &[]);
    let streams: Vec<TcpStream> = (0..16).map(|_| server.ask(&prompt(110, true))).collect();
    let readers: Vec<_> = streams.into_iter().map(|s| thread::spawn(|| text(s))).collect();
    let ended = server.end();
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    for reader in readers {
        let reply = reader.join().unwrap();
        // Those that came after the signal have been told so.
        let whole = reply.contains("data: [DONE]");
        assert!(whole || reply.contains("shutting_down") || reply.is_empty(), "{reply}");
    }
}

#[test]
fn a_second_signal_does_not_wait() {
    let home = tempfile::tempdir().unwrap();
    let server = Server::start(home.path(), &[]);
    // A request whose body does not come is waited for.
    let mut slow = server.connect();
    let head = "POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json";
    write!(slow, "{head}\r\nContent-Length: 9\r\n\r\n{{").unwrap();
    sleep(Duration::from_millis(200));
    server.signal();
    sleep(Duration::from_millis(200));
    let ended = server.end();
    assert_eq!(ended.code, Some(130), "{}", ended.stderr);
}

#[test]
fn a_store_that_cannot_be_used_is_a_warning() {
    let home = tempfile::tempdir().unwrap();
    let file = home.path().join("file");
    fs::write(&file, "").unwrap();
    let runs = file.join("runs");
    let variables = [("FEWRON_RUNS", runs.to_str().unwrap())];
    let server = Server::start_with(home.path(), &variables, &[]);
    assert!(text(server.ask(&prompt(2, false))).starts_with("HTTP/1.1 200"));
    let ended = server.end();
    assert_eq!(ended.code, Some(0));
    assert!(ended.stderr.contains("this run is not recorded"), "{}", ended.stderr);
}

#[test]
fn a_key_from_a_file_or_the_environment() {
    let home = tempfile::tempdir().unwrap();
    let file = home.path().join("key");
    fs::write(&file, "from-file\n").unwrap();
    let by_file = ["--api-key-file", file.to_str().unwrap()];
    let by_variable = [("FEWRON_API_KEY", "from-environment")];
    let starts = [
        (Server::start(home.path(), &by_file), "from-file"),
        (Server::start_with(home.path(), &by_variable, &[]), "from-environment"),
        (Server::start_with(home.path(), &by_variable, &by_file), "from-file"),
    ];
    for (server, key) in starts {
        let right = format!("Authorization: Bearer {key}\r\n");
        assert!(server.get("/v1/models", &right).starts_with("HTTP/1.1 200"), "{key}");
        assert!(server.get("/v1/models", "").starts_with("HTTP/1.1 401"), "{key}");
        assert!(server.get("/health", "").starts_with("HTTP/1.1 200"), "{key}");
        assert_eq!(server.end().code, Some(0));
    }
}

#[test]
fn what_cannot_be_served() {
    let home = tempfile::tempdir().unwrap();
    let model = tiny("tiny-llama");
    let refused = |arguments: &[&str]| {
        let all = [&["serve", model.as_str(), "--port", "0"], arguments].concat();
        let run = fewron_env(home.path(), &[("FEWRON_API_KEY", "")], &all);
        assert_eq!((run.code, run.stdout.as_str()), (2, ""), "{arguments:?} {}", run.stderr);
        run.stderr
    };
    let mut problems = Vec::new();
    for (arguments, problem) in [
        (&["--host", "0.0.0.0"][..], "API key is empty"),
        (&["--api-key", "a b"], "characters that no header may have"),
        (&["--api-key", "k", "--ab", "plan=80"], "plan"),
        (&["--api-key", "k", "--ab", "plan"], "is no share"),
        (&["--api-key", "k", "--plan", "none.plan"], "cannot read the plan"),
        (&["--api-key", "k", "--policy", "predict"], "needs a plan"),
        (&["--api-key", "k", "--sparsity", ".5"], "needs a policy"),
        (&["--api-key", "k", "--name", "a:b"], "cannot be the name"),
        (&["--api-key", "k", "--cors-origin", "*"], "is no origin"),
        (&["--api-key", "k", "--host", "no such host"], "cannot listen"),
        (&["--api-key-file", "none"], "cannot read the key"),
    ] {
        let said = refused(arguments);
        if !said.contains(problem) {
            problems.push(format!("{arguments:?}: {said}"));
        }
    }
    assert!(problems.is_empty(), "{problems:#?}");
}

#[test]
fn others_need_a_key() {
    let home = tempfile::tempdir().unwrap();
    let model = tiny("tiny-llama");
    let run = fewron(home.path(), &["serve", &model, "--port", "0", "--host", "0.0.0.0"]);
    assert_eq!((run.code, run.stdout.as_str()), (2, ""));
    assert!(run.stderr.contains("--insecure-no-key"), "{}", run.stderr);
}
