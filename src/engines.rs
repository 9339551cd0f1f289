//! What engines have loaded now, asked over their own interfaces: Ollama, llama-server, vLLM. Only engines
//! that the configuration names are asked. One thread asks them one after the other; each answer is bounded
//! in time and size, is believed for what it is (names), and nobody ever waits for one.

use std::io::{self, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded};
use serde_json::Value;

use crate::view::EngineView;
use crate::view::human::printable;

/// An engine has so long for one answer.
const ANSWER_TIME_MAX: Duration = Duration::from_secs(2);
/// A longer answer is no answer, in bytes.
const ANSWER_BYTES_MAX: u64 = 1 << 20;
/// More models are not believed to be in memory at once.
const LOADED_MAX: usize = 64;
/// Longer names are no models', in bytes.
const NAME_BYTES_MAX: usize = 512;

/// What is known of the engines. Ends its thread when it is dropped.
pub struct Engines {
    seen: Arc<Mutex<Vec<EngineView>>>,
    // The thread ends when nobody holds it any more.
    _end: Option<Sender<()>>,
}

impl Engines {
    /// Asks the engines at `addresses` (`http://HOST:PORT`) every `interval`; without addresses nothing is
    /// started.
    pub fn start(addresses: &[String], interval: Duration) -> Self {
        let unasked = |address: &String| EngineView {
            address: address.clone(),
            ..EngineView::default()
        };
        let seen: Vec<EngineView> = addresses.iter().map(unasked).collect();
        let seen = Arc::new(Mutex::new(seen));
        if addresses.is_empty() {
            return Self { seen, _end: None };
        }
        let (end, ended) = bounded(0);
        let (addresses, shared) = (addresses.to_vec(), Arc::clone(&seen));
        let started = std::thread::Builder::new()
            .name("engines".to_owned())
            .spawn(move || watch(&addresses, interval, &shared, &ended));
        if let Err(error) = started {
            tracing::warn!(%error, "engines are not asked what they have loaded");
        }
        Self {
            seen,
            _end: Some(end),
        }
    }

    /// What was answered last; not asked again for this.
    pub fn seen(&self) -> Vec<EngineView> {
        self.seen
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}

fn watch(
    addresses: &[String],
    interval: Duration,
    seen: &Mutex<Vec<EngineView>>,
    ended: &Receiver<()>,
) {
    loop {
        for (index, address) in addresses.iter().enumerate() {
            let answer = ask(address);
            if let Some(view) = seen
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .get_mut(index)
            {
                *view = answer;
            }
        }
        match ended.recv_timeout(interval) {
            Err(RecvTimeoutError::Timeout) => {}
            Ok(()) | Err(RecvTimeoutError::Disconnected) => return,
        }
    }
}

/// Asks one engine what it is and what it has loaded.
pub fn ask(address: &str) -> EngineView {
    let mut view = EngineView {
        address: address.to_owned(),
        ..EngineView::default()
    };
    match find_out(address) {
        Ok((kind, loaded)) => {
            view.kind = kind.to_owned();
            view.answers = true;
            view.loaded = loaded;
        }
        Err(error) => view.error = Some(printable(&error.to_string())),
    }
    view
}

fn find_out(address: &str) -> io::Result<(&'static str, Vec<String>)> {
    if let Some(Ok(running)) = get(address, "/api/ps")?.map(|body| serde_json::from_slice(&body))
        && let Some(models) = names(&running, "models", &["name", "model"])
    {
        return Ok(("Ollama", models));
    }
    let Some(body) = get(address, "/v1/models")? else {
        return Err(io::Error::other(
            "it answers neither /api/ps nor /v1/models",
        ));
    };
    let listed: Value = serde_json::from_slice(&body)?;
    let Some(models) = names(&listed, "data", &["id"]) else {
        return Err(io::Error::other("its /v1/models is no list"));
    };
    let kind = match listed["data"][0]["owned_by"].as_str() {
        Some("llamacpp") => "llama-server",
        Some("vllm") => "vLLM",
        _ => "OpenAI API",
    };
    // llama-server lists its model while it still reads it.
    if kind == "llama-server" && get(address, "/health")?.is_none() {
        return Ok((kind, Vec::new()));
    }
    Ok((kind, models))
}

/// The names in a list of objects; of those that say whether they are loaded, the loaded ones.
fn names(answer: &Value, list: &str, keys: &[&str]) -> Option<Vec<String>> {
    let is_loaded = |model: &&Value| {
        let status = model["status"]["value"].as_str();
        status.is_none_or(|status| status == "loaded")
    };
    let name = |model: &Value| {
        let found = keys.iter().find_map(|key| model[*key].as_str())?;
        (found.len() <= NAME_BYTES_MAX && !found.is_empty()).then(|| printable(found))
    };
    let models = answer.get(list)?.as_array()?.iter().filter(is_loaded);
    Some(models.filter_map(name).take(LOADED_MAX).collect())
}

/// The body of an answer with status 200; none with another status.
fn get(address: &str, path: &str) -> io::Result<Option<Vec<u8>>> {
    let deadline = Instant::now() + ANSWER_TIME_MAX;
    let host = address
        .strip_prefix("http://")
        .unwrap_or(address)
        .trim_end_matches('/');
    let resolved = host.to_socket_addrs()?.next();
    let resolved = resolved.ok_or_else(|| io::Error::other("its name leads nowhere"))?;
    let mut stream = TcpStream::connect_timeout(&resolved, ANSWER_TIME_MAX)?;
    stream.set_write_timeout(Some(ANSWER_TIME_MAX))?;
    // HTTP/1.0: the answer ends with the connection, and comes in one piece.
    let request =
        format!("GET {path} HTTP/1.0\r\nHost: {host}\r\nAccept: application/json\r\n\r\n");
    stream.write_all(request.as_bytes())?;
    let mut answer = Vec::new();
    let mut piece = [0; 16 << 10];
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(io::ErrorKind::TimedOut.into());
        }
        stream.set_read_timeout(Some(left))?;
        match stream.read(&mut piece) {
            Ok(0) => break,
            Ok(count) => answer.extend_from_slice(&piece[..count]),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                return Err(io::ErrorKind::TimedOut.into());
            }
            Err(error) => return Err(error),
        }
        if answer.len() as u64 > ANSWER_BYTES_MAX {
            return Err(io::Error::other("its answer is too long"));
        }
        // Some keep the connection all the same.
        if is_whole(&answer) {
            break;
        }
    }
    Ok(body_of(&answer))
}

fn split(answer: &[u8]) -> Option<(&str, &[u8])> {
    let end = answer.windows(4).position(|bytes| bytes == b"\r\n\r\n")?;
    Some((
        std::str::from_utf8(&answer[..end]).ok()?,
        &answer[end + 4..],
    ))
}

/// Whether as many bytes of an answer have come as its head promises.
pub fn is_whole(answer: &[u8]) -> bool {
    let length = |head: &str| {
        head.lines().find_map(|line| {
            let (name, value) = line.split_once(':')?;
            let is_length = name.eq_ignore_ascii_case("content-length");
            is_length.then(|| value.trim().parse::<usize>().ok())?
        })
    };
    split(answer)
        .is_some_and(|(head, body)| length(head).is_some_and(|length| body.len() >= length))
}

/// The body of an answer over HTTP; none unless its status is 200.
pub fn body_of(answer: &[u8]) -> Option<Vec<u8>> {
    let (head, body) = split(answer)?;
    let mut words = head.lines().next()?.split(' ');
    let is_http = words.next()?.starts_with("HTTP/1.");
    (is_http && words.next()? == "200").then(|| body.to_vec())
}

#[cfg(test)]
mod tests {
    use std::net::{SocketAddr, TcpListener};

    use super::*;

    /// A server that answers `routes`, and nothing else; ends with the test.
    fn server(routes: Vec<(&'static str, String)>) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("bound");
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                answer(stream, &routes);
            }
        });
        format!("http://{address}")
    }

    fn answer(mut stream: TcpStream, routes: &[(&'static str, String)]) {
        let mut request = [0; 1024];
        let count = stream.read(&mut request).unwrap_or(0);
        let text = String::from_utf8_lossy(&request[..count]).into_owned();
        let path = text.split(' ').nth(1).unwrap_or_default();
        let found = routes.iter().find(|(route, _)| *route == path);
        let answer = match found {
            // As it stands.
            Some((_, raw)) if raw.starts_with("HTTP/") => raw.clone(),
            Some((_, body)) => format!("HTTP/1.1 200 OK\r\n\r\n{body}"),
            None => "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n".to_owned(),
        };
        // A client that has had enough is gone.
        let _ = stream.write_all(answer.as_bytes());
    }

    fn asked(routes: &[(&'static str, &str)]) -> EngineView {
        ask(&server(
            routes
                .iter()
                .map(|(path, body)| (*path, (*body).to_owned()))
                .collect(),
        ))
    }

    #[test]
    fn each_engine_is_known_by_its_answers() {
        let ollama = r#"{"models":[{"name":"llama3.2:3b","model":"llama3.2:3b","size":5},{"model":"phi4"}]}"#;
        let llama = r#"{"models":[{"name":"x"}],"object":"list","data":[{"id":"/mnt/m.gguf","owned_by":"llamacpp"}]}"#;
        let router = r#"{"data":[{"id":"a","owned_by":"llamacpp","status":{"value":"unloaded"}},{"id":"b","status":{"value":"loaded"}}]}"#;
        let vllm =
            r#"{"object":"list","data":[{"id":"org/name","owned_by":"vllm","root":"/mnt/x"}]}"#;
        let loading = "HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n";
        for (routes, kind, loaded) in [
            (
                &[("/api/ps", ollama)][..],
                "Ollama",
                &["llama3.2:3b", "phi4"][..],
            ),
            (&[("/api/ps", r#"{"models":[]}"#)], "Ollama", &[]),
            (
                &[("/v1/models", llama), ("/health", "{}")],
                "llama-server",
                &["/mnt/m.gguf"],
            ),
            (
                &[("/v1/models", llama), ("/health", loading)],
                "llama-server",
                &[],
            ),
            (
                &[("/v1/models", router), ("/health", "{}")],
                "llama-server",
                &["b"],
            ),
            (&[("/v1/models", vllm)], "vLLM", &["org/name"]),
        ] {
            let view = asked(routes);
            assert_eq!((view.kind.as_str(), view.answers), (kind, true), "{view:?}");
            assert_eq!(view.loaded, loaded, "{view:?}");
        }
    }

    #[test]
    fn what_is_no_engine_is_told_and_costs_no_more_than_its_limits() {
        let endless = "x".repeat(3 << 20);
        let many = format!(
            r#"{{"models":[{}]}}"#,
            vec![r#"{"name":"a"}"#; 5_000].join(",")
        );
        assert_eq!(asked(&[("/api/ps", &many)]).loaded.len(), LOADED_MAX);
        let odd = asked(&[(
            "/api/ps",
            "{\"models\":[{\"name\":\"a\\u001b[31m\\n\"},{\"name\":5},7]}",
        )]);
        assert!(
            odd.loaded
                .iter()
                .all(|name| !name.chars().any(char::is_control)),
            "{odd:?}"
        );
        for body in ["", "[]", "{", "{\"data\":5}", "\u{0}", &endless] {
            let view = asked(&[("/v1/models", body)]);
            assert!(
                !view.answers && view.error.is_some() && view.loaded.is_empty(),
                "{view:?}"
            );
        }
        for address in [
            "http://127.0.0.1:1",
            "http://nowhere.invalid:80",
            "nonsense",
            "",
        ] {
            assert!(ask(address).error.is_some(), "{address}");
        }
    }

    #[test]
    fn an_engine_that_never_answers_is_given_up() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address: SocketAddr = listener.local_addr().expect("bound");
        let view = ask(&format!("http://{address}"));
        assert!(view.error.is_some_and(|error| error.contains("timed out")));
    }

    #[test]
    fn engines_are_asked_again_and_nobody_waits_for_them() {
        assert!(
            Engines::start(&[], Duration::from_secs(1))
                .seen()
                .is_empty()
        );
        let address = server(vec![("/api/ps", r#"{"models":[{"name":"a"}]}"#.to_owned())]);
        let engines = Engines::start(&[address], Duration::from_millis(1));
        // Seen from the start, then with what was answered.
        while engines.seen()[0].loaded.is_empty() {
            std::thread::yield_now();
        }
        assert_eq!(engines.seen()[0].kind, "Ollama");
    }

    proptest::proptest! {
        #[test]
        fn any_answer_ends(bytes: Vec<u8>, text: String) {
            let _ = (body_of(&bytes), is_whole(&bytes), body_of(text.as_bytes()));
            let with_head = [b"HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\n".as_slice(), &bytes].concat();
            assert_eq!(is_whole(&with_head), bytes.len() >= 3);
            if let Ok(value) = serde_json::from_slice::<Value>(&bytes) {
                let _ = names(&value, "models", &["name"]);
            }
        }
    }
}
