//! A server on a tiny model, called without a socket.

// `json!` values are handed over as they are written.
#![allow(clippy::needless_pass_by_value)]

use axum::Router;
use axum::body::Body;
use axum::http::{HeaderMap, Request, StatusCode};
use fewron_model::chat::ChatTemplate;
use fewron_model::gguf::Gguf;
use fewron_model::tokenizer::Tokenizer;
use fewron_model::{KvType, Model, Pool};
use fewron_serve::engine::{Engine, Guard, Limits, Settings, Variant};
use fewron_serve::{App, Chat, Config, router};
use fewron_sparsity::{Calibration, Plan, PolicyKind, Scope, Selection};
use http_body_util::BodyExt;
use serde_json::Value;
use std::path::Path;
use std::sync::Arc;
use tower::ServiceExt;

/// A model, its server, and the runtime that the server's handlers need.
pub struct Bench {
    pub app: Arc<App>,
    pub engine: Engine,
    router: Router,
    runtime: tokio::runtime::Runtime,
}

/// A reply.
#[derive(Debug)]
pub struct Reply {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub text: String,
}

/// An engine on a tiny model with the sparse variant `plan`, and its chat template.
pub fn engine(limits: Limits) -> (Engine, Chat) {
    let file = "../../fixtures/goldens/tiny/tiny-llama.gguf";
    let gguf = Gguf::open(&Path::new(env!("CARGO_MANIFEST_DIR")).join(file)).unwrap();
    let tokenizer = Arc::new(Tokenizer::from_gguf(&gguf).unwrap());
    let template = ChatTemplate::from_gguf(&gguf, &tokenizer).unwrap().map(Arc::new);
    let model = Arc::new(Model::from_gguf(gguf).unwrap());
    let uniform = {
        let model = Arc::clone(&model);
        move |policy, ratio| {
            let (scope, selection) = (Scope::Mlp, Selection::Layer);
            let calibration = Calibration::default();
            Plan::uniform(model.config(), policy, scope, selection, ratio, &calibration)
                .map_err(|error| error.to_string())
        }
    };
    let plan = Some(Arc::new(uniform(PolicyKind::Magnitude, 0.5).unwrap()));
    let settings = Settings {
        name: "tiny".to_owned(),
        variants: vec![Variant { name: "plan".to_owned(), plan, sparsity: 0.5 }],
        split: vec![("dense".to_owned(), 1.0)],
        maker: Box::new(uniform),
        limits,
        guard: Guard { sample: 0.0, ..Guard::default() },
        kv_type: KvType::F16,
    };
    let engine = Engine::start(model, tokenizer, Arc::new(Pool::new(1)), settings).unwrap();
    (engine, Chat { template, problem: None })
}

impl Bench {
    /// With these settings.
    pub fn new(config: Config, limits: Limits) -> Self {
        let (engine, chat) = engine(limits);
        Self::of(engine, chat, config)
    }

    /// Of an engine.
    pub fn of(engine: Engine, chat: Chat, config: Config) -> Self {
        let app = App::new(engine.clone(), chat, config);
        let runtime = tokio::runtime::Runtime::new().unwrap();
        Self { router: router(Arc::clone(&app)), app, engine, runtime }
    }

    /// The reply to a request.
    pub fn send(&self, request: Request<Body>) -> Reply {
        self.runtime.block_on(reply(self.router.clone(), request))
    }

    /// The replies to requests that come at the same time.
    pub fn send_all(&self, requests: Vec<Request<Body>>) -> Vec<Reply> {
        let spawn = |request| self.runtime.spawn(reply(self.router.clone(), request));
        let tasks: Vec<_> = requests.into_iter().map(spawn).collect();
        tasks.into_iter().map(|task| self.runtime.block_on(task).unwrap()).collect()
    }

    /// The reply to a GET.
    pub fn get(&self, path: &str) -> Reply {
        self.send(request("GET", path).body(Body::empty()).unwrap())
    }

    /// The reply to a body of JSON.
    pub fn post(&self, path: &str, body: impl ToString) -> Reply {
        self.send(json_request(path, body))
    }

    /// The JSON reply to a body of JSON that is fine.
    pub fn ask(&self, path: &str, body: &Value) -> Value {
        let reply = self.post(path, body);
        assert_eq!(reply.status, StatusCode::OK, "{}", reply.text);
        reply.json()
    }

    /// The events of a stream, without the `[DONE]` at its end.
    pub fn stream(&self, path: &str, body: &Value) -> Vec<Value> {
        let reply = self.post(path, body);
        assert_eq!(reply.status, StatusCode::OK, "{}", reply.text);
        let kind = reply.headers["content-type"].to_str().unwrap();
        assert!(kind.starts_with("text/event-stream"), "{kind}");
        let mut events: Vec<&str> = reply.text.split_terminator("\n\n").collect();
        assert_eq!(events.pop(), Some("data: [DONE]"));
        let json = |event: &str| serde_json::from_str(event.strip_prefix("data: ").unwrap());
        events.into_iter().map(|event| json(event).unwrap()).collect()
    }
}

async fn reply(router: Router, request: Request<Body>) -> Reply {
    let response = router.oneshot(request).await.unwrap();
    let (head, body) = response.into_parts();
    let bytes = body.collect().await.unwrap().to_bytes();
    let text = String::from_utf8(bytes.to_vec()).unwrap();
    Reply { status: head.status, headers: head.headers, text }
}

/// A request with a body of JSON.
pub fn json_request(path: &str, body: impl ToString) -> Request<Body> {
    let request = request("POST", path).header("content-type", "application/json");
    request.body(Body::from(body.to_string())).unwrap()
}

/// A request to this machine.
pub fn request(method: &str, path: &str) -> axum::http::request::Builder {
    Request::builder().method(method).uri(path).header("host", "localhost:8080")
}

impl Reply {
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|error| panic!("{error}: {}", self.text))
    }

    /// Checks that it is an error in OpenAI's form, and gives its message.
    pub fn assert_error(&self, status: u16, param: Option<&str>, code: &str) -> String {
        assert_eq!(self.status.as_u16(), status, "{}", self.text);
        assert_eq!(self.headers["content-type"], "application/json");
        let error = &self.json()["error"];
        assert_eq!(error["param"].as_str(), param, "{}", self.text);
        assert_eq!(error["code"], code, "{}", self.text);
        assert!(error["type"].is_string(), "{}", self.text);
        error["message"].as_str().unwrap().to_owned()
    }
}
