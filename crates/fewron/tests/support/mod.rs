//! The binary in a home of its own, and a hub on a local socket.

use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::thread;

use assert_cmd::Command;

/// The trained models of the source, one of each family.
pub const FAMILIES: [&str; 6] =
    ["tiny-phi", "tiny-mobillama", "tiny-llama", "tiny-qwen3", "tiny-gemma3", "tiny-opt"];

/// What a run gave back.
pub struct Run {
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
}

/// Runs `fewron` with a cache of its own and no way to a real hub.
pub fn fewron(home: &Path, arguments: &[&str]) -> Run {
    fewron_with(home, "http://127.0.0.1:9", arguments)
}

/// Runs `fewron` with a cache and a hub.
pub fn fewron_with(home: &Path, hub: &str, arguments: &[&str]) -> Run {
    run(&mut command(home, hub, arguments))
}

fn command(home: &Path, hub: &str, arguments: &[&str]) -> Command {
    let mut command = Command::cargo_bin("fewron").unwrap();
    command
        .args(arguments)
        .env("FEWRON_HOME", home)
        .env("HF_ENDPOINT", hub)
        .env_remove("HF_TOKEN")
        .env_remove("FEWRON_SOURCE")
        .env_remove("http_proxy")
        .env_remove("HTTP_PROXY")
        .env_remove("ALL_PROXY")
        .env_remove("all_proxy")
        .env("PIP_NO_INDEX", "1")
        .env("PIP_FIND_LINKS", home);
    command
}

fn run(command: &mut Command) -> Run {
    let output = command.output().unwrap();
    Run {
        code: output.status.code().unwrap(),
        stdout: String::from_utf8(output.stdout).unwrap(),
        stderr: String::from_utf8(output.stderr).unwrap(),
    }
}

/// A hub with one repository, `org/repo`, that lists `listing` and serves `bytes` for any file.
/// Transfers from the start break off half way; transfers from an offset go to the end.
pub fn serve_hub(listing: String, bytes: Vec<u8>) -> String {
    serve(listing, move |_| Some(bytes.clone()))
}

/// As [`serve_hub`], with the files that `find` has by their names.
pub fn serve(listing: String, find: impl Fn(&str) -> Option<Vec<u8>> + Send + 'static) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    thread::spawn(move || {
        for stream in listener.incoming() {
            let _ = answer(stream.unwrap(), listing.as_bytes(), &find);
        }
    });
    address
}

fn answer(
    mut stream: TcpStream,
    listing: &[u8],
    find: &impl Fn(&str) -> Option<Vec<u8>>,
) -> std::io::Result<()> {
    let lines = BufReader::new(stream.try_clone()?).lines().map_while(Result::ok);
    let head: Vec<String> = lines.take_while(|line| !line.is_empty()).collect();
    let offset = head.iter().find_map(|line| {
        line.to_lowercase().strip_prefix("range: bytes=")?.strip_suffix('-')?.parse::<usize>().ok()
    });
    let path = head[0].split(' ').nth(1).unwrap_or_default();
    let file = path.strip_prefix("/org/repo/resolve/main/").and_then(find);
    let (status, body, sent) = match (&file, offset) {
        _ if path.starts_with("/api/models/org/repo/") => ("200 OK", listing, listing.len()),
        (None, _) => ("404 Not Found", &[][..], 0),
        (Some(bytes), Some(offset)) => {
            ("206 Partial Content", &bytes[offset..], bytes.len() - offset)
        }
        (Some(bytes), None) => ("200 OK", bytes.as_slice(), bytes.len() / 2),
    };
    let length = body.len();
    write!(stream, "HTTP/1.1 {status}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n")?;
    stream.write_all(&body[..sent])
}

/// Runs `fewron` with variables in its environment.
pub fn fewron_env(home: &Path, variables: &[(&str, &str)], arguments: &[&str]) -> Run {
    run(command(home, "http://127.0.0.1:9", arguments).envs(variables.iter().copied()))
}

/// Runs `fewron` with lines on stdin.
pub fn fewron_stdin(home: &Path, arguments: &[&str], stdin: &str) -> Run {
    run(command(home, "http://127.0.0.1:9", arguments).write_stdin(stdin))
}

/// A random model of the goldens: complete, with a small tokenizer and a chat template.
pub fn tiny(name: &str) -> String {
    fixture(&format!("goldens/tiny/{name}.gguf"))
}

/// A file below `fixtures`.
pub fn fixture(name: &str) -> String {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures").join(name);
    file.canonicalize().unwrap().to_str().unwrap().to_owned()
}

/// A trained model of the source: a Hugging Face directory.
pub fn trained(name: &str) -> String {
    fixture(&format!("../models/tiny/{name}"))
}
