//! A server on a real socket: clients that vanish, do not read, do not write, or are too many, and the end.

#[allow(dead_code, unreachable_pub)]
mod support;

use fewron_serve::engine::{Engine, Limits, Totals};
use fewron_serve::{App, Config, Server, Timeouts};
use serde_json::{Value, json};
use std::fs;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle, sleep};
use std::time::{Duration, Instant};
use support::engine;

/// Long enough for anything here, however slow the machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// Looked at so often.
const TICK: Duration = Duration::from_millis(10);

struct Running {
    engine: Engine,
    address: SocketAddr,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<std::io::Result<()>>>,
}

impl Running {
    fn new(timeouts: Timeouts, connections: usize) -> Self {
        let (engine, chat) = engine(Limits::default());
        let app = App::new(engine.clone(), chat, Config::default());
        let server = Server::bind("127.0.0.1", 0).unwrap();
        let address = server.address();
        let stop = Arc::new(AtomicBool::new(false));
        let flag = Arc::clone(&stop);
        let run = move || server.run(&app, &timeouts, connections, &flag);
        Self { engine, address, stop, thread: Some(thread::spawn(run)) }
    }

    fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream
    }

    /// Sends a completion and leaves the reply unread.
    fn ask(&self, max_tokens: usize, stream: bool) -> TcpStream {
        let body = json!({
            "model": "tiny", "prompt": "Once upon", "max_tokens": max_tokens, "stream": stream,
            "temperature": 1.5, "n": 4,
        });
        let mut connection = self.connect();
        post(&mut connection, &body);
        connection
    }

    fn totals(&self) -> Totals {
        self.engine.status().totals
    }

    /// Signals the end and waits for it.
    fn end(mut self) {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.take().unwrap().join().unwrap().unwrap();
    }
}

fn post(connection: &mut TcpStream, body: &Value) {
    let body = body.to_string();
    let head = "POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n";
    let kind = "Content-Type: application/json";
    write!(connection, "{head}{kind}\r\nContent-Length: {}\r\n\r\n{body}", body.len()).unwrap();
}

/// Everything until the server closes the connection.
fn rest(mut connection: TcpStream) -> String {
    let mut text = Vec::new();
    match connection.read_to_end(&mut text) {
        Ok(_) => {}
        // The server had closed it while something was still on its way to it.
        Err(error) => assert_eq!(error.kind(), ErrorKind::ConnectionReset, "{error}"),
    }
    String::from_utf8(text).unwrap()
}

fn wait(what: &str, done: impl Fn() -> bool) {
    let start = Instant::now();
    while !done() {
        assert!(start.elapsed() < PATIENCE, "{what}: waited for too long");
        sleep(TICK);
    }
}

fn open_files() -> usize {
    fs::read_dir("/proc/self/fd").map_or(0, Iterator::count)
}

#[test]
fn answers_of_clients_that_vanish_are_cancelled() {
    let server = Running::new(Timeouts::default(), 64);
    let files = open_files();
    for stream in [true, false] {
        let before = server.totals();
        let many: Vec<TcpStream> = (0..8).map(|_| server.ask(120, stream)).collect();
        wait("requests", || server.totals().requests == before.requests + 8);
        drop(many);
        // None is left at work; those that were not done already are cancelled.
        wait("the end of all", || {
            let now = server.totals();
            now.cancelled + now.finished == before.cancelled + before.finished + 8
        });
        assert!(server.engine.is_idle());
    }
    wait("closed connections", || open_files() <= files + 1);
    // It answers others as before.
    let reply = rest(server.ask(3, false));
    assert!(reply.starts_with("HTTP/1.1 200"), "{reply}");
    server.end();
}

#[test]
fn a_reader_that_is_slow_gets_everything() {
    let server = Running::new(Timeouts::default(), 64);
    let mut slow = server.ask(100, true);
    let mut text = vec![0; 200];
    let first = slow.read(&mut text).unwrap();
    // Others do not wait for it.
    for _ in 0..3 {
        assert!(rest(server.ask(3, true)).ends_with("data: [DONE]\n\n\r\n0\r\n\r\n"));
    }
    wait("the answer", || server.engine.is_idle());
    let whole = String::from_utf8_lossy(&text[..first]).into_owned() + &rest(slow);
    assert!(whole.ends_with("data: [DONE]\n\n\r\n0\r\n\r\n"), "{whole}");
    assert_eq!(whole.matches("\"finish_reason\":\"").count(), 4);
    server.end();
}

#[test]
fn heads_that_do_not_come_are_not_waited_for() {
    let timeouts = Timeouts { head: Duration::from_millis(200), ..Timeouts::default() };
    let server = Running::new(timeouts, 64);
    let idle = server.connect();
    let mut slow = server.connect();
    slow.write_all(b"GET /health HTTP/1.1\r\nHost: local").unwrap();
    for connection in [idle, slow] {
        let text = rest(connection);
        assert!(text.is_empty() || text.starts_with("HTTP/1.1 408"), "{text}");
    }
    server.end();
}

#[test]
fn a_thousand_idle_connections_do_no_harm() {
    let server = Running::new(Timeouts::default(), 100);
    let files = open_files();
    let mut idle = Vec::new();
    for _ in 0..1000 {
        idle.push(server.connect());
        if idle.len() > 150 {
            // Their other ends are closed already; these here need not use up this process's files.
            idle.remove(0);
        }
    }
    let reply = rest(server.ask(3, false));
    assert!(reply.starts_with("HTTP/1.1 200"), "{reply}");
    drop(idle);
    wait("closed connections", || open_files() <= files + 1);
    server.end();
}

#[test]
fn connections_at_work_are_not_closed_for_others() {
    let server = Running::new(Timeouts::default(), 4);
    let busy: Vec<TcpStream> = (0..3).map(|_| server.ask(120, true)).collect();
    wait("requests", || server.totals().requests == 3);
    let idle: Vec<TcpStream> = (0..20).map(|_| server.connect()).collect();
    for connection in busy {
        assert!(rest(connection).ends_with("data: [DONE]\n\n\r\n0\r\n\r\n"));
    }
    drop(idle);
    server.end();
}

#[test]
fn requests_that_are_no_http() {
    let server = Running::new(Timeouts::default(), 64);
    for bytes in [&b"\x16\x03\x01\x02\x00\x01"[..], b"nonsense\r\n\r\n", b"GET / HTTP/9.9\r\n\r\n"]
    {
        let mut connection = server.connect();
        connection.write_all(bytes).unwrap();
        connection.shutdown(std::net::Shutdown::Write).unwrap();
        let text = rest(connection);
        assert!(text.is_empty() || text.starts_with("HTTP/1.1 4"), "{text}");
    }
    // A body that is shorter than it says.
    let mut connection = server.connect();
    let head =
        "POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n";
    write!(connection, "{head}Content-Length: 100\r\n\r\n{{").unwrap();
    connection.shutdown(std::net::Shutdown::Write).unwrap();
    let text = rest(connection);
    assert!(text.is_empty() || text.starts_with("HTTP/1.1 4"), "{text}");
    assert!(rest(server.ask(2, false)).starts_with("HTTP/1.1 200"));
    server.end();
}

#[test]
fn a_body_over_the_limit_is_told() {
    let server = Running::new(Timeouts::default(), 64);
    let mut connection = server.connect();
    post(&mut connection, &json!({ "model": "tiny", "prompt": "x".repeat(10_000_000) }));
    let reply = rest(connection);
    assert!(reply.starts_with("HTTP/1.1 413"), "{reply}");
    assert!(reply.contains("\"code\":\"body_too_large\""), "{reply}");
    server.end();
}

#[test]
fn the_end_lets_streams_end() {
    let server = Running::new(Timeouts::default(), 64);
    let streams: Vec<TcpStream> = (0..8).map(|_| server.ask(100, true)).collect();
    wait("requests", || server.totals().requests == 8);
    server.end();
    for stream in streams {
        let text = rest(stream);
        assert!(text.ends_with("data: [DONE]\n\n\r\n0\r\n\r\n"), "{text}");
    }
}

#[test]
fn what_does_not_end_in_time_fails_cleanly() {
    let timeouts = Timeouts { drain: Duration::ZERO, ..Timeouts::default() };
    let server = Running::new(timeouts, 64);
    let streams: Vec<TcpStream> = (0..8).map(|i| server.ask(120, i % 2 == 0)).collect();
    wait("requests", || server.totals().requests == 8);
    server.end();
    for stream in streams {
        let text = rest(stream);
        let whole =
            text.contains("data: [DONE]") || text.contains("\"object\":\"text_completion\"");
        assert!(whole || text.contains("\"code\":\"shutting_down\""), "{text}");
    }
}
