//! Answers as HTTP: which status a message has.

use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};

use crate::command::{Answer, Code, Message};
use crate::control::control_files::error_json;

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
        | Code::NotResident
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

/// As many are served as may be.
pub(super) fn crowded() -> Response {
    let text = "as many are served as may be; try again in a moment";
    let mut response = error(
        StatusCode::SERVICE_UNAVAILABLE,
        &Message::new(Code::Busy, text),
    );
    let seconds = header::HeaderValue::from_static("5");
    response.headers_mut().insert(header::RETRY_AFTER, seconds);
    response
}

pub(super) fn of(answer: Answer) -> Response {
    match answer {
        Answer::Ok(view) => json(StatusCode::OK, view.json()),
        Answer::Error(message) => error(status_of(message.code), &message),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// It was told as a fault of the server.
    #[test]
    fn a_model_that_does_not_come_is_a_conflict() {
        assert_eq!(status_of(Code::NotResident), StatusCode::CONFLICT);
    }
}
