//! Who may use the server, and what its pages may do.

#[allow(dead_code, unreachable_pub)]
mod support;

use axum::body::Body;
use fewron_serve::Config;
use fewron_serve::engine::Limits;
use serde_json::json;
use support::{Bench, request};

const KEY: &str = "secret-key";

fn bench(config: Config) -> Bench {
    Bench::new(config, Limits::default())
}

fn locked() -> Bench {
    bench(Config { api_key: Some(KEY.to_owned()), check_host: false, ..Config::default() })
}

#[test]
fn all_data_needs_the_key() {
    let bench = locked();
    let document = bench.send(
        request("GET", "/openapi.json")
            .header("authorization", format!("Bearer {KEY}"))
            .body(Body::empty())
            .unwrap(),
    );
    let paths = document.json()["paths"].as_object().unwrap().clone();
    assert!(paths.len() >= 11, "{paths:?}");
    for (path, methods) in &paths {
        let path = path.replace("{model}", "tiny");
        let method = methods.as_object().unwrap().keys().next().unwrap().to_uppercase();
        let reply = bench.send(request(&method, &path).body(Body::empty()).unwrap());
        if path == "/health" {
            assert_eq!(reply.status, 200);
        } else {
            reply.assert_error(401, None, "invalid_api_key");
            assert_eq!(reply.headers["www-authenticate"], "Bearer");
        }
    }
    bench.get("/openapi.json").assert_error(401, None, "invalid_api_key");
    bench.get("/nothing").assert_error(401, None, "invalid_api_key");
    assert_eq!(bench.get("/").status, 200);
}

#[test]
fn only_the_right_key_opens() {
    let bench = locked();
    let with = |value: &str| {
        let request = request("GET", "/v1/models").header("authorization", value);
        bench.send(request.body(Body::empty()).unwrap()).status.as_u16()
    };
    assert_eq!(with(&format!("Bearer {KEY}")), 200);
    assert_eq!(with(&format!("bearer {KEY}")), 200);
    for wrong in
        ["Bearer secret-kez", "Bearer secret", "Bearer ", "Bearer secret-key2", "Basic a", KEY]
    {
        assert_eq!(with(wrong), 401, "{wrong}");
    }
}

#[test]
fn pages_of_other_names_do_not_reach_a_server_without_a_key() {
    let bench = bench(Config { allowed_hosts: vec!["box.lan".to_owned()], ..Config::default() });
    let with = |host: &str| {
        let request = axum::http::Request::builder().uri("/v1/models").header("host", host);
        bench.send(request.body(Body::empty()).unwrap()).status.as_u16()
    };
    for host in ["localhost", "localhost:8080", "127.0.0.1:8080", "[::1]:8080", "box.lan:8080"] {
        assert_eq!(with(host), 200, "{host}");
    }
    for host in ["evil.example", "localhost.evil.example:8080", "10.0.0.1:8080", ""] {
        assert_eq!(with(host), 403, "{host}");
    }
    let none = axum::http::Request::builder().uri("/v1/models").body(Body::empty()).unwrap();
    bench.send(none).assert_error(403, None, "host_not_allowed");
    let absolute = request("GET", "http://evil.example/v1/models").body(Body::empty()).unwrap();
    bench.send(absolute).assert_error(403, None, "host_not_allowed");
    let two = request("GET", "/v1/models").header("host", "evil.example");
    bench.send(two.body(Body::empty()).unwrap()).assert_error(403, None, "host_not_allowed");
}

#[test]
fn only_named_origins_may_use_the_server() {
    let origin = "https://pages.example";
    let bench = bench(Config { cors_origins: vec![origin.to_owned()], ..Config::default() });
    let allowed = |origin: &str| {
        let preflight = request("OPTIONS", "/v1/chat/completions")
            .header("origin", origin)
            .header("access-control-request-method", "POST")
            .header("access-control-request-headers", "authorization,content-type");
        let reply = bench.send(preflight.body(Body::empty()).unwrap());
        reply.headers.get("access-control-allow-origin").cloned()
    };
    assert_eq!(allowed(origin).unwrap(), origin);
    assert_eq!(allowed("https://evil.example"), None);
    let closed = locked()
        .send(request("GET", "/v1/models").header("origin", origin).body(Body::empty()).unwrap());
    assert!(closed.headers.get("access-control-allow-origin").is_none());
}

#[test]
fn pages_load_nothing_from_elsewhere() {
    let bench = bench(Config::default());
    for path in ["/", "/v1/models", "/nothing"] {
        let reply = bench.get(path);
        let policy = reply.headers["content-security-policy"].to_str().unwrap();
        assert!(policy.starts_with("default-src 'none';") && !policy.contains("unsafe"));
        assert!(policy.contains("frame-ancestors 'none'"), "{policy}");
        assert_eq!(reply.headers["x-content-type-options"], "nosniff");
        assert_eq!(reply.headers["referrer-policy"], "no-referrer");
    }
    assert!(bench.get("/").text.contains("<html"));
}

#[test]
fn the_tokenizer_and_the_status_answer() {
    let bench = bench(Config::default());
    let info = bench.get("/tokenizer_info").json();
    assert!(info["eos_token"].is_string() && info["vocab_size"].as_u64().unwrap() > 0);
    let text = "Hello, wörld";
    let encoded = bench.ask("/tokenize", &json!({ "prompt": text, "add_special_tokens": false }));
    let tokens = encoded["tokens"].as_array().unwrap();
    assert_eq!(encoded["count"], tokens.len());
    assert_eq!(bench.ask("/detokenize", &json!({ "tokens": tokens }))["prompt"], text);
    bench.post("/detokenize", json!({ "tokens": [4_000_000] })).assert_error(
        400,
        Some("tokens"),
        "invalid_value",
    );
    bench.post("/tokenize", json!({})).assert_error(400, Some("prompt"), "invalid_value");

    let models = bench.get("/v1/models").json();
    let ids: Vec<&str> =
        models["data"].as_array().unwrap().iter().map(|m| m["id"].as_str().unwrap()).collect();
    assert_eq!(ids, ["tiny", "tiny:dense", "tiny:plan"]);
    assert_eq!(bench.get("/v1/models/tiny:plan").json()["id"], "tiny:plan");

    let status = bench.get("/fewron/status").json();
    assert_eq!(status["model"], "tiny");
    assert_eq!(bench.ask("/fewron/rearm", &json!({ "variant": "plan" }))["variant"], "plan");
    let metrics = bench.get("/metrics").text;
    for name in ["fewron_requests_total 0", "fewron_http_replies_total{", "# EOF"] {
        assert!(metrics.contains(name), "{name} in {metrics}");
    }
}
