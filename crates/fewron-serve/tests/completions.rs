//! Answers: whole and streamed, with log-probabilities, of several prompts, dense and sparse.

#[allow(dead_code, unreachable_pub)]
mod support;

use fewron_serve::Config;
use fewron_serve::engine::Limits;
use serde_json::{Value, json};
use support::Bench;

const CHAT: &str = "/v1/chat/completions";
const COMPLETIONS: &str = "/v1/completions";

fn bench() -> Bench {
    Bench::new(Config::default(), Limits::default())
}

fn chat(extra: Value) -> Value {
    let mut body = json!({
        "model": "tiny", "messages": [{ "role": "user", "content": "Hi" }],
        "max_tokens": 8, "temperature": 0,
    });
    merge(&mut body, extra);
    body
}

fn completion(prompt: Value, extra: Value) -> Value {
    let mut body = json!({ "model": "tiny:dense", "max_tokens": 6, "temperature": 0 });
    body["prompt"] = prompt;
    merge(&mut body, extra);
    body
}

fn merge(body: &mut Value, extra: Value) {
    let Value::Object(extra) = extra else { panic!("{extra}") };
    body.as_object_mut().unwrap().extend(extra);
}

/// The text of the choice of a stream with this number.
fn text(events: &[Value], index: u64, of: fn(&Value) -> &Value) -> String {
    let choices = events.iter().flat_map(|event| event["choices"].as_array().unwrap());
    let mine = choices.filter(|choice| choice["index"] == index);
    mine.filter_map(|choice| of(choice).as_str()).collect()
}

#[test]
fn a_chat_has_the_form_that_clients_expect() {
    let reply = bench().ask(CHAT, &chat(json!({})));
    assert_eq!(reply["object"], "chat.completion");
    assert_eq!(reply["model"], "tiny:dense");
    let info = json!({ "variant": "dense", "policy": null, "sparsity": 0.0 });
    assert_eq!(reply["fewron"], info);
    assert!(reply["id"].as_str().unwrap().starts_with("chatcmpl-"));
    let choice = &reply["choices"][0];
    assert_eq!((&choice["index"], &choice["message"]["role"]), (&json!(0), &json!("assistant")));
    assert!(choice["message"]["content"].is_string() && choice["logprobs"].is_null());
    let usage = &reply["usage"];
    let count = |name: &str| usage[name].as_u64().unwrap();
    assert_eq!(count("prompt_tokens") + count("completion_tokens"), count("total_tokens"));
    assert!(usage["prompt_tokens_details"]["cached_tokens"].is_u64());
    if choice["finish_reason"] == "length" {
        assert_eq!(count("completion_tokens"), 8);
    }
}

#[test]
fn a_stream_says_what_the_whole_answer_says() {
    let bench = bench();
    let extra = json!({ "n": 3, "seed": 7, "temperature": 1, "logprobs": true, "top_logprobs": 2 });
    let whole = bench.ask(CHAT, &chat(extra.clone()));
    let mut streamed = chat(extra);
    merge(&mut streamed, json!({ "stream": true, "stream_options": { "include_usage": true } }));
    let events = bench.stream(CHAT, &streamed);
    for index in 0..3 {
        let choice = &whole["choices"][index as usize];
        let content = text(&events, index, |choice| &choice["delta"]["content"]);
        assert_eq!(choice["message"]["content"], content.as_str());
        let of = |event: &Value| event["choices"][0]["index"] == index;
        let mine: Vec<&Value> = events.iter().filter(|event| of(event)).collect();
        assert_eq!(mine[0]["choices"][0]["delta"]["role"], "assistant");
        let last = &mine[mine.len() - 1]["choices"][0];
        assert_eq!(last["finish_reason"], choice["finish_reason"]);
        let logprobs: Vec<Value> = mine
            .iter()
            .filter_map(|event| event["choices"][0]["logprobs"]["content"].as_array())
            .flatten()
            .cloned()
            .collect();
        assert_eq!(choice["logprobs"]["content"], Value::Array(logprobs));
    }
    let (last, others) = events.split_last().unwrap();
    assert_eq!(last["choices"], json!([]));
    assert_eq!(last["usage"]["completion_tokens"], whole["usage"]["completion_tokens"]);
    assert!(others.iter().all(|event| event["usage"].is_null()));
    assert_eq!(events[0]["fewron"], whole["fewron"]);
    assert_eq!(events.iter().filter(|event| event.get("fewron").is_some()).count(), 1);
}

#[test]
fn streamed_completions_are_the_whole_ones() {
    let bench = bench();
    let extra = json!({ "n": 2, "seed": 3, "temperature": 1, "logprobs": 1, "echo": true });
    let prompts = json!(["Once upon", "The"]);
    let whole = bench.ask(COMPLETIONS, &completion(prompts.clone(), extra.clone()));
    let mut streamed = completion(prompts, extra);
    merge(&mut streamed, json!({ "stream": true }));
    let events = bench.stream(COMPLETIONS, &streamed);
    assert_eq!(whole["choices"].as_array().unwrap().len(), 4);
    for index in 0..4 {
        let choice = &whole["choices"][index as usize];
        assert_eq!(choice["index"], index);
        assert_eq!(choice["text"], text(&events, index, |choice| &choice["text"]).as_str());
        for list in ["tokens", "token_logprobs", "top_logprobs", "text_offset"] {
            let parts = events.iter().map(|event| &event["choices"][0]);
            let mine = parts.filter(|choice| choice["index"] == index);
            let joined: Vec<Value> = mine
                .filter_map(|choice| choice["logprobs"][list].as_array())
                .flatten()
                .cloned()
                .collect();
            assert_eq!(choice["logprobs"][list], Value::Array(joined), "{list}");
        }
    }
    assert!(events.iter().all(|event| event.get("usage").is_none()));
}

#[test]
fn all_forms_of_a_prompt_mean_the_same() {
    let bench = bench();
    let tokens = bench.ask("/tokenize", &json!({ "prompt": "Once upon" }))["tokens"].clone();
    let answer = |prompt: Value| {
        let reply = bench.ask(COMPLETIONS, &completion(prompt, json!({})));
        let choices = reply["choices"].as_array().unwrap().iter();
        choices.map(|choice| choice["text"].clone()).collect::<Vec<Value>>()
    };
    let one = answer(json!("Once upon"));
    assert_eq!(answer(json!(["Once upon"])), one);
    assert_eq!(answer(tokens.clone()), one);
    assert_eq!(answer(json!([tokens, tokens])), [one[0].clone(), one[0].clone()]);
}

#[test]
fn an_echo_scores_the_prompt() {
    let bench = bench();
    let extra = json!({ "max_tokens": 1, "echo": true, "logprobs": 1 });
    let prompt: Vec<u32> = vec![40, 41, 42, 43];
    let reply = bench.ask(COMPLETIONS, &completion(json!(prompt), extra));
    let choice = &reply["choices"][0];
    let logprobs = &choice["logprobs"];
    // The prompt, and one token.
    for list in ["tokens", "token_logprobs", "top_logprobs", "text_offset"] {
        assert_eq!(logprobs[list].as_array().unwrap().len(), 5, "{list}");
    }
    assert!(logprobs["token_logprobs"][0].is_null() && logprobs["top_logprobs"][0].is_null());
    // The chosen token is the likeliest, and its number is the same in both lists.
    let top = logprobs["top_logprobs"][4].as_object().unwrap();
    let largest = top.values().map(|value| value.as_f64().unwrap()).fold(f64::MIN, f64::max);
    assert_eq!(logprobs["token_logprobs"][4].as_f64().unwrap(), largest);
    let text = choice["text"].as_str().unwrap();
    let start = bench.ask("/detokenize", &json!({ "tokens": prompt }))["prompt"].clone();
    assert!(text.starts_with(start.as_str().unwrap()), "{text:?}");
    // Offsets cut the text into its tokens.
    let offsets: Vec<u64> = serde_json::from_value(logprobs["text_offset"].clone()).unwrap();
    assert!(offsets.windows(2).all(|pair| pair[0] <= pair[1]) && offsets[0] == 0);
    assert_eq!(offsets[4] as usize, start.as_str().unwrap().chars().count());
}

#[test]
fn no_tokens_are_an_answer_too() {
    let bench = bench();
    let reply = bench.ask(COMPLETIONS, &completion(json!("Once"), json!({ "max_tokens": 0 })));
    assert_eq!(reply["choices"][0]["text"], "");
    assert_eq!(reply["choices"][0]["finish_reason"], "length");
    let extra = json!({ "max_tokens": 0, "echo": true, "logprobs": 0 });
    let reply = bench.ask(COMPLETIONS, &completion(json!("Once"), extra));
    assert_eq!(reply["choices"][0]["text"], "Once");
    assert_eq!(reply["usage"]["completion_tokens"], 0);
}

#[test]
fn the_variant_is_the_one_that_is_asked_for() {
    let bench = bench();
    let served = |extra: Value| {
        let reply = bench.ask(CHAT, &chat(extra));
        (reply["model"].clone(), reply["fewron"].clone())
    };
    let plan = json!({ "variant": "plan", "policy": "magnitude", "sparsity": 0.5 });
    assert_eq!(served(json!({ "model": "tiny:plan" })), (json!("tiny:plan"), plan));
    let asked = json!({ "fewron": { "policy": "magnitude", "sparsity": 0.25 } });
    let made = json!({ "variant": "magnitude@0.25", "policy": "magnitude", "sparsity": 0.25 });
    assert_eq!(served(asked), (json!("tiny:magnitude@0.25"), made));
    let (model, _) = served(json!({ "fewron": { "policy": "dense" } }));
    assert_eq!(model, "tiny:dense");
    // Half of the neurons do not write what all write.
    let answer = |model: &str| {
        let extra = json!({ "model": model, "logprobs": true, "max_tokens": 4 });
        bench.ask(CHAT, &chat(extra))["choices"][0]["logprobs"].clone()
    };
    assert_ne!(answer("tiny:dense"), answer("tiny:plan"));
    assert_eq!(answer("tiny:dense"), answer("tiny"));
}

#[test]
fn a_stop_text_ends_the_answer() {
    let bench = bench();
    let whole = bench.ask(COMPLETIONS, &completion(json!("Once"), json!({ "max_tokens": 12 })));
    let text = whole["choices"][0]["text"].as_str().unwrap();
    let stop: String = text.chars().skip(2).take(2).collect();
    for stop in [json!(stop), json!([stop]), json!(["\u{1}\u{2}", stop])] {
        let extra = json!({ "max_tokens": 12, "stop": stop });
        let reply = bench.ask(COMPLETIONS, &completion(json!("Once"), extra));
        let cut = text.split(stop_text(&stop)).next().unwrap();
        assert_eq!(reply["choices"][0]["text"], cut);
        assert_eq!(reply["choices"][0]["finish_reason"], "stop");
    }
}

fn stop_text(stop: &Value) -> &str {
    match stop {
        Value::Array(list) => list[list.len() - 1].as_str().unwrap(),
        one => one.as_str().unwrap(),
    }
}

#[test]
fn control_tokens_of_users_stay_text() {
    let bench = bench();
    let info = bench.get("/tokenizer_info").json();
    let (Some(eos), id) = (info["eos_token"].as_str(), &info["eos_token_id"]) else {
        panic!("{info}")
    };
    let tokens = |content: &str| {
        let messages = json!([{ "role": "user", "content": content }]);
        bench.ask("/tokenize", &json!({ "messages": messages }))["tokens"].clone()
    };
    let count = |tokens: &Value| tokens.as_array().unwrap().iter().filter(|t| *t == id).count();
    assert_eq!(count(&tokens(eos)), count(&tokens("a")));
    let plain = bench.ask("/tokenize", &json!({ "prompt": eos, "add_special_tokens": false }));
    assert_eq!(count(&plain["tokens"]), 0);
}

#[test]
fn a_prompt_is_read_once() {
    let bench = bench();
    let messages = json!([{ "role": "user", "content": "One two three four five six." }]);
    let body = chat(json!({ "messages": messages, "model": "tiny:dense" }));
    let first = bench.ask(CHAT, &body);
    let again = bench.ask(CHAT, &body);
    assert_eq!(again["choices"], first["choices"]);
    let cached = &again["usage"]["prompt_tokens_details"]["cached_tokens"];
    assert!(cached.as_u64().unwrap() > 0, "{again}");
}
