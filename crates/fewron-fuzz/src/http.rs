//! Bodies of HTTP requests.

use crate::source;
use axum::Router;
use axum::body::{Body, to_bytes};
use axum::http::Request;
use axum::http::header::CONTENT_TYPE;
use fewron_model::chat::ChatTemplate;
use fewron_model::gguf::Gguf;
use fewron_model::tokenizer::Tokenizer;
use fewron_model::{KvType, Model, Pool};
use fewron_serve::engine::{Engine, Guard, Limits, Settings};
use fewron_serve::{App, Chat, Config, router};
use std::sync::{Arc, LazyLock};
use std::time::Duration;
use tokio::runtime::{Builder, Runtime};
use tower::ServiceExt;

/// Where bodies are posted.
const PATHS: [&str; 5] =
    ["/v1/chat/completions", "/v1/completions", "/tokenize", "/detokenize", "/fewron/rearm"];

/// Longest time of an answer: long ones find nothing.
const SHORT: Duration = Duration::from_millis(200);

static SERVER: LazyLock<(Router, Runtime)> = LazyLock::new(|| {
    let runtime = Builder::new_current_thread().enable_all().build().expect("a runtime");
    let gguf = Gguf::open(&source("fixtures/goldens/tiny/tiny-llama.gguf")).expect("the model");
    let tokenizer = Arc::new(Tokenizer::from_gguf(&gguf).expect("its tokenizer"));
    let model = Arc::new(Model::from_gguf(gguf).expect("the model"));
    let settings = Settings {
        name: "tiny".to_owned(),
        variants: Vec::new(),
        split: Vec::new(),
        maker: Box::new(|_, _| Err("no plans here".to_owned())),
        limits: Limits { timeout: SHORT, ..Limits::default() },
        guard: Guard::default(),
        kv_type: KvType::F16,
    };
    let pool = Arc::new(Pool::new(1));
    let engine = Engine::start(model, tokenizer, pool, settings).expect("an engine");
    let template = "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}";
    let template = Some(Arc::new(ChatTemplate::new(template, "", "").expect("a template")));
    let chat = Chat { template, problem: None };
    let config = Config { check_host: false, ..Config::default() };
    (router(App::new(engine, chat, config)), runtime)
});

/// The first byte says where the body of the others is posted.
pub(crate) fn http(bytes: &[u8]) {
    let Some((&path, body)) = bytes.split_first() else { return };
    let (router, runtime) = &*SERVER;
    let request = Request::post(PATHS[usize::from(path) % PATHS.len()])
        .header(CONTENT_TYPE, "application/json")
        .body(Body::from(body.to_vec()))
        .expect("a request");
    runtime.block_on(async {
        let reply = router.clone().oneshot(request).await.expect("a router does not fail");
        assert_ne!(reply.status(), 500, "a fault of the server");
        let _ = to_bytes(reply.into_body(), usize::MAX).await;
    });
}
