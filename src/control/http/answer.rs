//! Answers as HTTP: which status a message has, and the three addresses for programs that only watch.

use std::sync::Arc;

use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};

use super::api::Api;
use crate::command::{Answer, Code, Command, Message};
use crate::control::control_files::error_json;
use crate::control::metrics;
use crate::view::{DaemonState, StatusView, View};

/// The status that a code has. What the world's state forbids is a conflict, whatever forbids it.
pub(super) fn status_of(code: Code) -> StatusCode {
    match code {
        Code::Usage | Code::BadRequest | Code::UnsupportedVersion | Code::BadConfig => {
            StatusCode::BAD_REQUEST
        }
        Code::NoMatch | Code::NoSuchPool | Code::NoSuchTransfer => StatusCode::NOT_FOUND,
        Code::Ambiguous
        | Code::TooLarge
        | Code::NoSpace
        | Code::Pinned
        | Code::Busy
        | Code::ReadOnly
        | Code::AlreadyRunning
        | Code::Unsupported
        | Code::TimedOut
        | Code::Cancelled => StatusCode::CONFLICT,
        Code::Denied => StatusCode::FORBIDDEN,
        Code::NotRunning => StatusCode::SERVICE_UNAVAILABLE,
        Code::Failed | Code::Internal | Code::Unknown => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

pub(super) fn json(status: StatusCode, text: String) -> Response {
    let headers = [(header::CONTENT_TYPE, "application/json")];
    (status, headers, text).into_response()
}

pub(super) fn error(status: StatusCode, message: &Message) -> Response {
    let mut response = json(status, error_json(message));
    if status == StatusCode::UNAUTHORIZED {
        let scheme = header::HeaderValue::from_static("Bearer");
        response
            .headers_mut()
            .insert(header::WWW_AUTHENTICATE, scheme);
    }
    response
}

pub(super) fn of(answer: Answer) -> Response {
    match answer {
        Answer::Ok(view) => json(StatusCode::OK, view.json()),
        Answer::Error(message) => error(status_of(message.code), &message),
    }
}

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
