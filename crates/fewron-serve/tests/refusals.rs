//! What is refused, and how it is told.

#[allow(dead_code, unreachable_pub)]
mod support;

use axum::body::Body;
use fewron_serve::engine::Limits;
use fewron_serve::{Chat, Config};
use serde_json::{Value, json};
use support::{Bench, engine, json_request, request};

const CHAT: &str = "/v1/chat/completions";
const COMPLETIONS: &str = "/v1/completions";

fn bench() -> Bench {
    Bench::new(Config::default(), Limits::default())
}

fn chat(name: &str, value: Value) -> Value {
    let mut body = json!({ "model": "tiny", "messages": [{ "role": "user", "content": "Hi" }] });
    body[name] = value;
    body
}

fn completion(name: &str, value: Value) -> Value {
    let mut body = json!({ "model": "tiny", "prompt": "Hi" });
    body[name] = value;
    body
}

#[test]
fn parameters_that_mean_nothing_here() {
    let bench = bench();
    let refused = [
        ("tools", json!([{ "type": "function" }])),
        ("functions", json!([{}])),
        ("tool_choice", json!("required")),
        ("response_format", json!({ "type": "json_object" })),
        ("modalities", json!(["text", "audio"])),
        ("presence_penalty", json!(0.5)),
        ("frequency_penalty", json!(-1)),
        ("logit_bias", json!({ "50256": -100 })),
        ("reasoning_effort", json!("high")),
        ("store", json!(true)),
    ];
    for (name, value) in refused {
        let message = bench.post(CHAT, chat(name, value)).assert_error(
            400,
            Some(name),
            "unsupported_parameter",
        );
        assert!(message.contains(name), "{message}");
    }
    for (name, value) in [("suffix", json!("x")), ("best_of", json!(3))] {
        let reply = bench.post(COMPLETIONS, completion(name, value));
        reply.assert_error(400, Some(name), "unsupported_parameter");
    }
}

#[test]
fn parameters_that_ask_for_nothing() {
    let bench = bench();
    let accepted = json!({
        "model": "tiny", "messages": [{ "role": "user", "content": [{ "type": "text", "text": "Hi" }] }],
        "max_completion_tokens": 1, "tools": [], "tool_choice": "none", "functions": null,
        "response_format": { "type": "text" }, "presence_penalty": 0, "frequency_penalty": 0.0,
        "logit_bias": {}, "user": "someone", "store": false, "service_tier": "auto", "top_k": -1,
        "modalities": ["text"], "parallel_tool_calls": true, "metadata": {}, "stop": null,
    });
    let reply = bench.ask(CHAT, &accepted);
    assert_eq!(reply["usage"]["completion_tokens"], 1);
    let answer = json!({
        "role": "assistant", "content": "Hi", "refusal": null, "annotations": [], "audio": null,
        "function_call": null, "tool_calls": null,
    });
    let mut body = chat("max_tokens", json!(1));
    body["messages"] = json!([body["messages"][0], answer, body["messages"][0]]);
    bench.ask(CHAT, &body);
}

#[test]
fn values_out_of_range() {
    let bench = bench();
    let wrong = [
        ("temperature", json!(-1), "temperature"),
        ("top_p", json!(0), "top_p"),
        ("top_p", json!(1.5), "top_p"),
        ("min_p", json!(2), "min_p"),
        ("repetition_penalty", json!(0), "repetition_penalty"),
        ("top_k", json!(-2), "top_k"),
        ("n", json!(0), "n"),
        ("stop", json!(vec!["a"; 17]), "stop"),
        ("stop", json!(""), "stop"),
        ("top_logprobs", json!(21), "top_logprobs"),
        ("top_logprobs", json!(2), "top_logprobs"),
        ("stream_options", json!({ "include_usage": true }), "stream_options"),
        ("fewron", json!({ "policy": "gate", "sparsity": 1.5 }), "fewron.sparsity"),
        ("fewron", json!({ "policy": "gate", "sparsity": 0.501 }), "fewron.sparsity"),
        ("fewron", json!({ "policy": "none" }), "fewron.policy"),
        ("fewron", json!({ "sparsity": 0.5 }), "fewron.policy"),
        ("fewron", json!({ "policy": "predict" }), "fewron"),
        ("messages", json!([]), "messages"),
        ("messages", json!([{ "role": "user" }]), "messages[0].content"),
        ("messages", json!([{ "role": "king", "content": "Hi" }]), "messages"),
    ];
    for (name, value, param) in wrong {
        let reply = bench.post(CHAT, chat(name, value));
        reply.assert_error(400, Some(param), "invalid_value");
    }
    let reply = bench.post(COMPLETIONS, completion("logprobs", json!(21)));
    reply.assert_error(400, Some("logprobs"), "invalid_value");
    let reply = bench.post(COMPLETIONS, completion("prompt", json!([])));
    reply.assert_error(400, Some("prompt"), "invalid_value");
    let reply = bench.post(COMPLETIONS, completion("prompt", json!([4_000_000])));
    reply.assert_error(400, Some("prompt"), "invalid_value");
    let both = json!({ "model": "tiny:plan", "prompt": "Hi", "fewron": { "policy": "dense" } });
    bench.post(COMPLETIONS, both).assert_error(400, Some("fewron"), "invalid_value");
}

#[test]
fn wrong_names_and_types() {
    let bench = bench();
    let reply = bench.post(CHAT, chat("foo", json!(1)));
    let message = reply.assert_error(400, Some("foo"), "unknown_parameter");
    assert_eq!(message, "Unrecognized request argument supplied: foo");
    let types = [
        ("temperature", json!("x"), "temperature"),
        ("max_tokens", json!(-1), "max_tokens"),
        ("messages", json!("Hi"), "messages"),
        ("messages", json!([{ "role": "user", "content": 5 }]), "messages[0].content"),
        ("stop", json!([1]), "stop[0]"),
    ];
    for (name, value, param) in types {
        bench.post(CHAT, chat(name, value)).assert_error(400, Some(param), "invalid_type");
    }
    let image = json!([{ "role": "user", "content": [{ "type": "image_url", "image_url": {} }] }]);
    let message = bench.post(CHAT, chat("messages", image)).assert_error(
        400,
        Some("messages[0].content[0].type"),
        "invalid_type",
    );
    assert!(message.contains("image_url"), "{message}");
    let code = "missing_required_parameter";
    bench.post(CHAT, json!({ "messages": [] })).assert_error(400, Some("model"), code);
    let reply = bench.post(CHAT, chat("model", json!("gpt-4")));
    let message = reply.assert_error(404, Some("model"), "model_not_found");
    assert!(message.contains("gpt-4") && message.contains("tiny:plan"), "{message}");
    bench.get("/v1/models/gpt-4").assert_error(404, Some("model"), "model_not_found");
    bench.post("/fewron/rearm", json!({ "variant": "none" })).assert_error(
        404,
        Some("variant"),
        "variant_not_found",
    );
}

#[test]
fn bodies_that_are_no_requests() {
    let bench = bench();
    for body in ["", "{", "{\"model\"", "[1, 2", "{\"model\": \"a\u{0}\"}", "nonsense", "{} {}"] {
        let reply = bench.post(CHAT, body);
        assert_eq!(reply.status, 400, "{body:?}");
        assert!(reply.json()["error"]["message"].is_string());
    }
    let deep = 200_000;
    let nested = format!("{{\"model\": {}{}}}", "[".repeat(deep), "]".repeat(deep));
    assert_eq!(bench.post(CHAT, nested).status, 400);
    let nested = format!("{{\"metadata\": {}{}}}", "[".repeat(deep), "]".repeat(deep));
    assert_eq!(bench.post(CHAT, nested).status, 400);
    let json = || request("POST", CHAT).header("content-type", "application/json");
    let reply = bench.send(json().body(Body::from(b"{\"model\": \"\xff\"}".to_vec())).unwrap());
    reply.assert_error(400, None, "invalid_json");
    let form = request("POST", CHAT).header("content-type", "application/x-www-form-urlencoded");
    bench.send(form.body(Body::from("{}")).unwrap()).assert_error(
        415,
        None,
        "unsupported_media_type",
    );
    let reply = bench.send(request("POST", CHAT).body(Body::from("{}")).unwrap());
    reply.assert_error(415, None, "unsupported_media_type");
    let zipped = json().header("content-encoding", "gzip").body(Body::from("{}")).unwrap();
    bench.send(zipped).assert_error(415, None, "unsupported_encoding");
}

#[test]
fn wrong_paths_and_methods() {
    let bench = bench();
    bench.get("/v1/nothing").assert_error(404, None, "unknown_url");
    bench.get("/../../etc/passwd").assert_error(404, None, "unknown_url");
    bench.get("/dashboard/../../x").assert_error(404, None, "unknown_url");
    bench.get(CHAT).assert_error(405, None, "method_not_allowed");
    let put = request("PUT", "/v1/models").body(Body::empty()).unwrap();
    bench.send(put).assert_error(405, None, "method_not_allowed");
}

#[test]
fn too_long() {
    let bench = bench();
    let context = bench.get("/tokenizer_info").json()["model_max_length"].as_u64().unwrap();
    let tokens = vec![40; context as usize + 1];
    let reply = bench.post(COMPLETIONS, completion("prompt", json!(tokens)));
    let message = reply.assert_error(400, Some("prompt"), "context_length_exceeded");
    assert!(message.contains("maximum context length"), "{message}");
    let long = "word ".repeat(context as usize);
    let reply = bench.post(CHAT, chat("messages", json!([{ "role": "user", "content": long }])));
    reply.assert_error(400, Some("messages"), "context_length_exceeded");
    // So long that it is refused before it becomes tokens.
    let longer = "x".repeat(5_000_000);
    let reply = bench.post(COMPLETIONS, completion("prompt", json!(longer)));
    reply.assert_error(400, Some("prompt"), "context_length_exceeded");
    let body = completion("prompt", json!("x".repeat(10_000_000)));
    bench.post(COMPLETIONS, body).assert_error(413, None, "body_too_large");
    let many = json!(vec!["a"; 2000]);
    let reply = bench.post(COMPLETIONS, completion("prompt", many));
    reply.assert_error(400, Some("prompt"), "invalid_value");
}

#[test]
fn a_full_queue() {
    let limits = Limits { running: 1, waiting: 2, ..Limits::default() };
    let bench = Bench::new(Config::default(), limits);
    let mut long = completion("prompt", json!("a"));
    long["max_tokens"] = json!(100);
    let replies = bench.send_all((0..64).map(|_| json_request(COMPLETIONS, &long)).collect());
    let (fine, refused): (Vec<_>, Vec<_>) = replies.iter().partition(|reply| reply.status == 200);
    assert!(!fine.is_empty() && !refused.is_empty(), "{} answered", fine.len());
    for reply in refused {
        reply.assert_error(429, None, "rate_limit_exceeded");
        let after: u64 = reply.headers["retry-after"].to_str().unwrap().parse().unwrap();
        assert!(after >= 1);
    }
}

#[test]
fn models_without_a_chat_template() {
    let (engine, _) = engine(Limits::default());
    let bench = Bench::of(engine, Chat::default(), Config::default());
    let reply = bench.post(CHAT, chat("n", json!(1)));
    let message = reply.assert_error(400, Some("messages"), "no_chat_template");
    assert!(message.contains("/v1/completions"), "{message}");
    bench.ask(COMPLETIONS, &completion("max_tokens", json!(1)));
}

#[test]
fn a_server_that_drains() {
    let bench = bench();
    assert_eq!(bench.get("/health").status, 200);
    bench.engine.drain();
    bench.post(CHAT, chat("n", json!(1))).assert_error(503, None, "shutting_down");
}
