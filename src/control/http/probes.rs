//! The three addresses for programs that only watch: health, readiness, metrics.

use std::sync::Arc;

use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};

use super::answer::{json, of};
use super::api::Api;
use crate::command::{Answer, Command};
use crate::control::metrics;
use crate::view::{DaemonState, StatusView, View};

/// `GET /health`: the daemon answers, and its mount does or not.
pub(super) async fn health(State(api): State<Arc<Api>>) -> Response {
    with_status(&api, |status| {
        let text = serde_json::json!({
            "status": if status.state == DaemonState::Ready { "ok" } else { "starting" },
            "version": status.version,
            "warnings": status.warnings.len(),
        });
        json(StatusCode::OK, text.to_string())
    })
    .await
}

/// `GET /readyz`: 200 when the mount answers.
pub(super) async fn ready(State(api): State<Arc<Api>>) -> Response {
    with_status(&api, |status| match status.state {
        DaemonState::Ready => (StatusCode::OK, "ready\n").into_response(),
        DaemonState::Starting | DaemonState::Stopping => {
            (StatusCode::SERVICE_UNAVAILABLE, "not ready\n").into_response()
        }
    })
    .await
}

/// `GET /metrics`: Prometheus text.
pub(super) async fn metrics(State(api): State<Arc<Api>>) -> Response {
    with_status(&api, |status| {
        let headers = [(header::CONTENT_TYPE, metrics::CONTENT_TYPE)];
        (headers, metrics::render(status)).into_response()
    })
    .await
}

async fn with_status(api: &Api, show: impl FnOnce(&StatusView) -> Response) -> Response {
    match api.execute(Command::Status {}).await {
        Answer::Ok(View::Status(status)) => show(&status),
        other => of(other),
    }
}
