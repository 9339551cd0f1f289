//! The web page: sources that people can read (`src/web`), in the program itself, so that it works without
//! a network and without a build.

use axum::extract::Request;
use axum::http::{HeaderValue, Method, StatusCode, header};
use axum::response::{IntoResponse, Response};

use super::{answer, not_found};
use crate::command::{Code, Message};

/// A file of the page.
#[derive(Clone, Copy, Debug)]
pub struct Asset {
    /// Its address.
    pub path: &'static str,
    /// Its type.
    pub content_type: &'static str,
    /// Its contents.
    pub text: &'static str,
}

const JAVASCRIPT: &str = "text/javascript; charset=utf-8";

macro_rules! assets {
    ($($path:literal, $type:expr, $file:literal;)+) => {
        /// Every file of the page.
        pub const ASSETS: &[Asset] = &[$(Asset {
            path: $path,
            content_type: $type,
            text: include_str!(concat!("../../web/", $file)),
        }),+];
    };
}

assets! {
    "/", "text/html; charset=utf-8", "index.html";
    "/setup", "text/html; charset=utf-8", "setup.html";
    "/style.css", "text/css; charset=utf-8", "style.css";
    "/js/dom.js", JAVASCRIPT, "js/dom.js";
    "/js/text.js", JAVASCRIPT, "js/text.js";
    "/js/api.js", JAVASCRIPT, "js/api.js";
    "/js/state.js", JAVASCRIPT, "js/state.js";
    "/js/preferences.js", JAVASCRIPT, "js/preferences.js";
    "/js/bars.js", JAVASCRIPT, "js/bars.js";
    "/js/dialogs.js", JAVASCRIPT, "js/dialogs.js";
    "/js/actions.js", JAVASCRIPT, "js/actions.js";
    "/js/models.js", JAVASCRIPT, "js/models.js";
    "/js/drawer.js", JAVASCRIPT, "js/drawer.js";
    "/js/tiers.js", JAVASCRIPT, "js/tiers.js";
    "/js/chart.js", JAVASCRIPT, "js/chart.js";
    "/js/activity.js", JAVASCRIPT, "js/activity.js";
    "/js/plan.js", JAVASCRIPT, "js/plan.js";
    "/js/settings.js", JAVASCRIPT, "js/settings.js";
    "/js/app.js", JAVASCRIPT, "js/app.js";
    "/js/setup.js", JAVASCRIPT, "js/setup.js";
}

/// Serves a file of the page.
pub(super) async fn serve(request: Request) -> Response {
    file(&request, request.uri().path())
}

/// The same while there is no configuration: whoever comes is led to the guide.
pub(super) async fn serve_setup(request: Request) -> Response {
    match request.uri().path() {
        "/" => file(&request, "/setup"),
        path => file(&request, path),
    }
}

fn file(request: &Request, path: &str) -> Response {
    let Some(asset) = ASSETS.iter().find(|asset| asset.path == path) else {
        return not_found();
    };
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        let message = Message::new(Code::BadRequest, "a page is only read");
        let mut response = answer::error(StatusCode::METHOD_NOT_ALLOWED, &message);
        let allowed = HeaderValue::from_static("GET,HEAD");
        response.headers_mut().insert(header::ALLOW, allowed);
        return response;
    }
    // A new version of the program is seen at the next visit; until then nothing is sent twice.
    let tag = concat!("\"", env!("CARGO_PKG_VERSION"), "-");
    let tag = format!("{tag}{:x}\"", checksum(asset.text.as_bytes()));
    let known = request.headers().get(header::IF_NONE_MATCH);
    let mut response = match known.is_some_and(|known| known.as_bytes() == tag.as_bytes()) {
        true => StatusCode::NOT_MODIFIED.into_response(),
        false => ([(header::CONTENT_TYPE, asset.content_type)], asset.text).into_response(),
    };
    let headers = response.headers_mut();
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    if let Ok(tag) = HeaderValue::from_str(&tag) {
        headers.insert(header::ETAG, tag);
    }
    response
}

/// FNV-1a: tells versions of our own files apart.
fn checksum(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |sum, byte| {
        (sum ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    })
}
