//! The door while there is no configuration: the guide's page and its three questions. Unlike the API of a
//! daemon, looking needs the token too: what is found are directories that others may not read.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use crossbeam_channel::Sender;
use serde::Deserialize;
use serde_json::Value;
use tokio::sync::Semaphore;

use super::api::{Refused, bad, body_of, prove};
use super::{Guard, HttpSettings, PREFIX, answer, guarded, pages, wrong_method};
use crate::command::{Answer, Code, Message};
use crate::setup::Desk;
use crate::view::{SetupChoices, SetupState, SetupView, View};

/// Directories that a person may name.
const DIRECTORIES_MAX: usize = 32;

/// What the handlers share.
struct Guide {
    desk: Arc<Desk>,
    guard: Arc<Guard>,
    written: Sender<()>,
    // One question at a time: looking reads whole directories.
    turn: Semaphore,
    body_bytes_max: usize,
    body_timeout: Duration,
}

/// A question; which one is the address.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Question {
    /// Where else to look.
    #[serde(default)]
    directories: Vec<String>,
    /// What was chosen.
    #[serde(default)]
    choices: Option<SetupChoices>,
}

/// Everything that is served.
pub(super) fn router(settings: &HttpSettings, desk: Arc<Desk>, written: Sender<()>) -> Router {
    let guard = Arc::new(Guard::new(settings.token.clone(), settings.hosts.clone()));
    let guide = Arc::new(Guide {
        desk,
        guard: Arc::clone(&guard),
        written,
        turn: Semaphore::new(1),
        body_bytes_max: settings.body_bytes_max,
        body_timeout: settings.body_timeout,
    });
    let router = Router::new()
        .route(&format!("{PREFIX}/setup/look"), post(look))
        .route(&format!("{PREFIX}/setup/check"), post(check))
        .route(&format!("{PREFIX}/setup/apply"), post(apply))
        .route(&format!("{PREFIX}/proof"), get(proof))
        .route("/health", get(health))
        .route("/readyz", get(ready))
        .fallback(pages::serve_setup)
        .method_not_allowed_fallback(wrong_method)
        .with_state(guide);
    guarded(router, guard)
}

async fn health() -> Response {
    let text = serde_json::json!({ "status": "setup", "version": env!("CARGO_PKG_VERSION") });
    answer::json(StatusCode::OK, text.to_string())
}

async fn ready() -> Response {
    (StatusCode::SERVICE_UNAVAILABLE, "not set up\n").into_response()
}

async fn proof(State(guide): State<Arc<Guide>>, request: Request) -> Response {
    prove(&guide.guard, &request)
}

async fn look(State(guide): State<Arc<Guide>>, request: Request) -> Response {
    guide
        .ask(request, |desk, question| {
            let directories: Vec<PathBuf> =
                question.directories.iter().map(PathBuf::from).collect();
            if directories.len() > DIRECTORIES_MAX
                || directories.iter().any(|path| !path.is_absolute())
            {
                let text = format!("at most {DIRECTORIES_MAX} directories, by absolute paths");
                return Err(Message::new(Code::BadRequest, text));
            }
            Ok(desk.look(&directories))
        })
        .await
}

async fn check(State(guide): State<Arc<Guide>>, request: Request) -> Response {
    guide
        .ask(request, |desk, question| Ok(desk.check(chosen(question)?)))
        .await
}

async fn apply(State(guide): State<Arc<Guide>>, request: Request) -> Response {
    guide
        .ask(request, |desk, question| desk.apply(chosen(question)?))
        .await
}

fn chosen(question: Question) -> Result<SetupChoices, Message> {
    let missing = || Message::new(Code::BadRequest, "`choices` is missing");
    question.choices.ok_or_else(missing)
}

impl Guide {
    async fn ask(
        &self,
        request: Request,
        work: impl FnOnce(&Desk, Question) -> Result<SetupView, Message> + Send + 'static,
    ) -> Response {
        match self.question(request).await {
            Ok(question) => answer::of(self.carry_out(question, work).await),
            Err((status, message)) => answer::error(status, &message),
        }
    }

    async fn question(&self, request: Request) -> Result<Question, Refused> {
        let (parts, body) = request.into_parts();
        self.guard.authorise(&parts.headers)?;
        let fields = body_of(self.body_bytes_max, self.body_timeout, &parts, body).await?;
        serde_json::from_value(Value::Object(fields)).map_err(|error| bad(error.to_string()))
    }

    async fn carry_out(
        &self,
        question: Question,
        work: impl FnOnce(&Desk, Question) -> Result<SetupView, Message> + Send + 'static,
    ) -> Answer {
        // It is never closed.
        let _turn = self.turn.acquire().await;
        let desk = Arc::clone(&self.desk);
        let done = tokio::task::spawn_blocking(move || work(&desk, question)).await;
        match done {
            Ok(Ok(view)) => {
                if view.state == SetupState::Written {
                    // Full means that it has been told already.
                    let _ = self.written.try_send(());
                }
                Answer::Ok(View::Setup(Box::new(view)))
            }
            Ok(Err(message)) => Answer::Error(message),
            Err(_) => {
                let text = "the set-up ended in a fault of the program; its log has more";
                Answer::Error(Message::new(Code::Internal, text))
            }
        }
    }
}
