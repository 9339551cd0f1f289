//! The three addresses for programs that only watch: health, readiness, metrics.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use tokio::time::timeout;

use super::answer::{json, of};
use super::api::Api;
use crate::command::{Answer, Command};
use crate::control::metrics;
use crate::view::{DaemonState, StatusView, View};

/// How long it is waited for what is at the mount point.
const LOOK_PATIENCE: Duration = Duration::from_secs(2);

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

/// `GET /readyz`: 200 when the mount answers, and is what engines see at its place.
pub(super) async fn ready(State(api): State<Arc<Api>>) -> Response {
    let is_seen = is_mount_seen(&api).await;
    with_status(&api, |status| match status.state {
        DaemonState::Ready if is_seen => (StatusCode::OK, "ready\n").into_response(),
        DaemonState::Ready => {
            let text = "not ready: something else is mounted over the mount point\n";
            (StatusCode::SERVICE_UNAVAILABLE, text).into_response()
        }
        DaemonState::Starting | DaemonState::Stopping => {
            (StatusCode::SERVICE_UNAVAILABLE, "not ready\n").into_response()
        }
    })
    .await
}

/// Whether the mount point leads to our mount. What covers it may also hang; then whoever asks meanwhile is told no.
async fn is_mount_seen(api: &Api) -> bool {
    let Some((path, dev)) = api.mount.clone() else {
        return true;
    };
    let seen = timeout(LOOK_PATIENCE, async {
        let look = Arc::clone(&api.look).acquire_owned().await;
        let found = tokio::task::spawn_blocking(move || {
            let _look = look;
            rustix::fs::stat(&path)
        });
        found
            .await
            .is_ok_and(|found| found.is_ok_and(|found| found.st_dev == dev))
    });
    seen.await.unwrap_or(false)
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
