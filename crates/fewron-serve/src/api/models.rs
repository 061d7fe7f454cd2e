//! `/v1/models`.

use axum::extract::{Path, State};

use super::Shared;
use super::error::{ApiError, ErrorBody};
use super::json::Json;
use super::served;
use crate::openai::{FewronInfo, ModelInfo, ModelList};

fn model(app: &Shared, id: String, fewron: Option<FewronInfo>) -> ModelInfo {
    let max_model_len = app.engine.model().config().context;
    let created = app.started_s;
    ModelInfo { id, object: "model", created, owned_by: "fewron", max_model_len, fewron }
}

fn all(app: &Shared) -> Vec<ModelInfo> {
    let name = app.engine.name();
    let mut models = vec![model(app, name.to_owned(), None)];
    models.extend(app.engine.variants().iter().map(|variant| {
        model(app, format!("{name}:{}", variant.name), Some(served::info(variant)))
    }));
    models
}

/// The model and its variants.
#[utoipa::path(
    get, path = "/v1/models", tag = "OpenAI",
    responses((status = 200, body = ModelList), (status = "4XX", body = ErrorBody))
)]
pub(super) async fn list(State(app): State<Shared>) -> Json<ModelList> {
    Json(ModelList { object: "list", data: all(&app) })
}

/// One of them.
#[utoipa::path(
    get, path = "/v1/models/{model}", tag = "OpenAI",
    params(("model" = String, Path, description = "`NAME` or `NAME:VARIANT`")),
    responses((status = 200, body = ModelInfo), (status = 404, body = ErrorBody))
)]
pub(super) async fn one(
    State(app): State<Shared>,
    Path(id): Path<String>,
) -> Result<Json<ModelInfo>, ApiError> {
    if let Some(model) = all(&app).into_iter().find(|model| model.id == id) {
        return Ok(Json(model));
    }
    let variant = app.engine.variant(&id, None)?;
    Ok(Json(model(&app, id, Some(served::info(&variant)))))
}
