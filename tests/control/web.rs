//! The HTTP door with clients that behave and clients that do not. Requests are written byte by byte, because no
//! library would send most of these.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use crossbeam_channel::{Receiver, bounded};

use serde_json::{Value, json};
use speedloader::command::Command;
use speedloader::control::http::{ASSETS, Token, document};
use speedloader::control::{Executor, HttpServer, HttpSettings};
use speedloader::setup::{Desk, Surroundings, Target};
use speedloader_config::{Account, Sources};

use super::fake::{Fake, until};

const TOKEN: &str = "0123456789abcdef0123456789abcdef";

/// A door in front of a fake.
pub struct Web {
    server: Option<HttpServer>,
    address: SocketAddr,
}

impl Web {
    pub fn start(fake: Arc<Fake>) -> Web {
        Web::with(fake, |_| ())
    }

    fn with(fake: Arc<Fake>, change: impl FnOnce(&mut HttpSettings)) -> Web {
        let mut settings = HttpSettings::new("127.0.0.1:0".parse().unwrap(), Token::new(TOKEN));
        change(&mut settings);
        let executor: Arc<dyn Executor> = fake;
        let server = HttpServer::start(settings, executor).unwrap();
        let address = server.address();
        Web {
            server: Some(server),
            address,
        }
    }

    /// A door with the guide to a first configuration, written below `root`; hears when it is written.
    fn setup(root: &Path) -> (Web, Receiver<()>) {
        let mut around = Surroundings::new(Vec::new(), Account::root());
        around.root = root.to_owned();
        let target = Target {
            path: root.join("config.toml"),
            sources: Sources::default(),
            is_ours: false,
            failed: None,
        };
        let (written, heard) = bounded(1);
        let settings = HttpSettings::new("127.0.0.1:0".parse().unwrap(), Token::new(TOKEN));
        let desk = Arc::new(Desk::new(around, target));
        let listener = HttpServer::listen(settings.listen).unwrap();
        let server = HttpServer::start_setup(listener, settings, desk, written).unwrap();
        let address = server.address();
        let server = Some(server);
        (Web { server, address }, heard)
    }

    pub fn token(&self) -> &'static str {
        TOKEN
    }

    fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.address).unwrap();
        stream
            .set_read_timeout(Some(Duration::from_secs(60)))
            .unwrap();
        stream
    }

    /// Sends bytes as they are, and reads until the door closes.
    fn raw(&self, bytes: &[u8]) -> Answer {
        let mut stream = self.connect();
        // The door may close before it has taken all.
        let _ = stream.write_all(bytes);
        read(&mut stream)
    }
}

impl Drop for Web {
    fn drop(&mut self) {
        self.server.take().unwrap().stop();
    }
}

#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub head: String,
    pub body: String,
}

impl Answer {
    fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }
}

fn read(stream: &mut TcpStream) -> Answer {
    let mut bytes = Vec::new();
    // A reset is an end too.
    let _ = stream.read_to_end(&mut bytes);
    let text = String::from_utf8_lossy(&bytes).into_owned();
    let (head, body) = text.split_once("\r\n\r\n").unwrap_or((&text, ""));
    let status = head
        .split(' ')
        .nth(1)
        .and_then(|status| status.parse().ok())
        .unwrap_or(0);
    Answer {
        status,
        head: head.to_owned(),
        body: body.to_owned(),
    }
}

fn head(method: &str, path: &str, headers: &[(&str, &str)]) -> String {
    let mut text = format!("{method} {path} HTTP/1.1\r\nConnection: close\r\n");
    for (name, value) in headers {
        text.push_str(&format!("{name}: {value}\r\n"));
    }
    text + "\r\n"
}

/// A request as a program would make it.
pub fn request(
    web: &Web,
    method: &str,
    path: &str,
    body: Option<&Value>,
    token: Option<&str>,
) -> Answer {
    let body = body.map(Value::to_string).unwrap_or_default();
    let length = body.len().to_string();
    let bearer = token
        .map(|token| format!("Bearer {token}"))
        .unwrap_or_default();
    let mut headers = vec![("Host", "localhost"), ("Content-Length", length.as_str())];
    if !body.is_empty() {
        headers.push(("Content-Type", "application/json"));
    }
    if token.is_some() {
        headers.push(("Authorization", bearer.as_str()));
    }
    web.raw((head(method, path, &headers) + &body).as_bytes())
}

fn get(web: &Web, path: &str) -> Answer {
    request(web, "GET", path, None, None)
}

fn promote() -> Value {
    json!({"names": ["llama3.2:3b"]})
}

#[test]
fn looking_needs_no_token_and_a_change_does() {
    let fake = Arc::new(Fake::default());
    let web = Web::start(Arc::clone(&fake));
    assert_eq!(get(&web, "/api/v1/status").status, 200);
    let wrong = [
        "0123456789abcdef0123456789abcdeX",
        "0123456789abcdef",
        "",
        "0123456789abcdef0123456789abcdef0",
    ];
    for token in [None].into_iter().chain(wrong.map(Some)) {
        let answer = request(
            &web,
            "POST",
            "/api/v1/models/promote",
            Some(&promote()),
            token,
        );
        assert_eq!(answer.status, 401, "{token:?}");
        assert_eq!(answer.json()["error"]["code"], "denied");
    }
    let changes: Vec<Command> = fake
        .asked()
        .into_iter()
        .filter(Command::is_change)
        .collect();
    assert_eq!(changes, [], "nothing reached the daemon");
    let answer = request(
        &web,
        "POST",
        "/api/v1/models/promote",
        Some(&promote()),
        Some(TOKEN),
    );
    assert_eq!(answer.status, 200, "{answer:?}");
    assert_eq!(answer.json()["view"], "moves");
}

/// The configuration has mode 0440 in `.speedloader`, and everybody on the machine could read it here; sixteen that
/// waited for a day held up every long command.
#[test]
fn paths_settings_and_waiting_need_the_token() {
    let fake = Arc::new(Fake::default());
    let web = Web::start(Arc::clone(&fake));
    for path in [
        "/api/v1/config",
        "/api/v1/settings",
        "/api/v1/tiers/local/steps",
        "/api/v1/models/which?name=llama3.2:3b",
        "/api/v1/models/wait?timeout_s=1",
    ] {
        assert_eq!(get(&web, path).status, 401, "{path}");
        let answer = request(&web, "GET", path, None, Some(TOKEN));
        assert_ne!(answer.status, 401, "{path}: {answer:?}");
    }
}

/// 700 streams of one user were all that anybody could have of the page, the API and the probes.
#[test]
fn streams_and_strangers_leave_places_for_others() {
    let web = Web::with(Arc::new(Fake::default()), |settings| {
        settings.connections_max = 20;
        settings.connections_reserved = 8;
        settings.streams_max = 5;
        settings.reserved_timeout = Duration::from_millis(200);
    });
    let ask = head("GET", "/api/v1/stream", &[("Host", "localhost")]);
    let mut streams: Vec<TcpStream> = Vec::new();
    for _ in 0..5 {
        let mut stream = web.connect();
        stream.write_all(ask.as_bytes()).unwrap();
        let mut byte = [0];
        stream.read_exact(&mut byte).unwrap();
        streams.push(stream);
    }
    assert_eq!(get(&web, "/api/v1/stream").status, 503, "one too many");
    assert_eq!(get(&web, "/api/v1/status").status, 200);
    // Idle ones take all that strangers may have.
    let idle: Vec<TcpStream> = (0..8).map(|_| web.connect()).collect();
    until(|| get(&web, "/api/v1/status").status == 503);
    for path in ["/health", "/readyz", "/metrics"] {
        assert_eq!(get(&web, path).status, 200, "{path}");
    }
    let answer = request(&web, "GET", "/api/v1/status", None, Some(TOKEN));
    assert_eq!(answer.status, 200, "who has the token");
    // What is kept is not kept by who says nothing.
    let mut silent = web.connect();
    assert_eq!(silent.read(&mut [0]).unwrap_or(0), 0);
    drop((idle, streams));
    until(|| get(&web, "/").status == 200);
}

/// They lasted for as long as somebody took a byte of an answer now and then.
#[test]
fn a_connection_without_stream_and_token_ends() {
    let web = Web::with(Arc::new(Fake::default()), |settings| {
        settings.connection_timeout = Duration::from_millis(300);
    });
    let ask = |headers: &[(&str, &str)]| {
        let mut stream = web.connect();
        let head = head("GET", "/api/v1/status", headers);
        let head = head.replace("Connection: close\r\n", "");
        for round in 0_u32.. {
            std::thread::sleep(Duration::from_millis(100));
            let sent = stream.write_all(head.as_bytes());
            let got = stream.read(&mut [0; 65_536]).unwrap_or(0);
            if sent.is_err() || got == 0 || round == 10 {
                return round;
            }
        }
        0
    };
    assert!(ask(&[("Host", "localhost")]) < 10);
    let bearer = format!("Bearer {TOKEN}");
    assert_eq!(
        ask(&[("Host", "localhost"), ("Authorization", &bearer)]),
        10
    );
}

/// It said that it was ready while engines saw what was mounted over it.
#[test]
fn a_mount_that_is_covered_is_not_ready() {
    let place = tempfile::tempdir().unwrap();
    let dev = std::os::unix::fs::MetadataExt::dev(&place.path().metadata().unwrap());
    for (dev, wanted) in [(dev, 200), (dev + 1, 503)] {
        let web = Web::with(Arc::new(Fake::default()), |settings| {
            settings.mount = Some((place.path().to_owned(), dev));
        });
        assert_eq!(get(&web, "/readyz").status, wanted);
    }
}

#[test]
fn a_wrong_method_is_told_which_are_right() {
    let web = Web::start(Arc::new(Fake::default()));
    for (path, allowed) in [("/api/v1/status", "GET"), ("/js/app.js", "GET")] {
        let answer = request(&web, "DELETE", path, None, Some(TOKEN));
        assert_eq!(answer.status, 405, "{path}");
        assert_eq!(answer.json()["error"]["code"], "bad-request", "{path}");
        let allow = answer.head.lines().find(|line| line.starts_with("allow: "));
        assert!(allow.unwrap_or_default().contains(allowed), "{answer:?}");
    }
}

#[test]
fn a_set_up_needs_the_token_also_for_looking_and_writes_once() {
    let root = tempfile::tempdir().unwrap();
    std::fs::create_dir_all(root.path().join("models")).unwrap();
    std::fs::write(root.path().join("models/a.gguf"), b"GGUF").unwrap();
    let (web, written) = Web::setup(root.path());
    let ask = |path: &str, body: &Value, token| request(&web, "POST", path, Some(body), token);
    for path in ["look", "check", "apply"].map(|name| format!("/api/v1/setup/{name}")) {
        for token in [None, Some("wrong-token-of-the-same-length-!")] {
            assert_eq!(ask(&path, &json!({}), token).status, 401, "{path}");
        }
        let foreign = [("Host", "evil.example"), ("Content-Length", "0")];
        let answer = web.raw(head("POST", &path, &foreign).as_bytes());
        assert_eq!(answer.status, 421, "{path}");
        assert_eq!(get(&web, &path).status, 405, "{path}");
    }
    let token = Some(web.token());
    let relative = json!({"directories": ["etc"]});
    for wrong in [
        &json!({"unknown": 1}),
        &json!({"directories": 5}),
        &relative,
    ] {
        assert_eq!(
            ask("/api/v1/setup/look", wrong, token).status,
            400,
            "{wrong}"
        );
    }
    assert_eq!(ask("/api/v1/setup/apply", &json!({}), token).status, 400);
    let found = ask("/api/v1/setup/look", &json!({}), token).json();
    assert_eq!(found["stores"][0]["models"], 1, "{found}");
    assert_eq!(get(&web, "/health").json()["status"], "setup");
    assert_eq!(get(&web, "/readyz").status, 503);
    assert_eq!(get(&web, "/api/v1/status").status, 404);
    assert!(get(&web, "/").body.contains("/js/setup.js"));
    assert!(written.try_recv().is_err(), "nothing is written yet");
    let choices = json!({"choices": found["choices"]});
    let done = ask("/api/v1/setup/apply", &choices, token).json();
    assert_eq!(done["state"], "written", "{done}");
    written.recv_timeout(Duration::from_secs(60)).unwrap();
    let again = ask("/api/v1/setup/apply", &choices, token).json();
    assert_eq!(
        again["state"], "proposed",
        "what is there is not written over"
    );
}

/// A page gave its token to whoever had the port while no daemon ran.
#[test]
fn a_page_can_ask_whether_the_door_knows_the_token() {
    let web = Web::start(Arc::new(Fake::default()));
    let nonce = "0123456789abcdef";
    let answer = get(&web, &format!("/api/v1/proof?nonce={nonce}"));
    assert_eq!(answer.status, 200, "{answer:?}");
    assert_eq!(answer.json()["proof"], Token::new(TOKEN).proof(nonce));
    assert!(!answer.body.contains(TOKEN));
    let again = get(&web, &format!("/api/v1/proof?nonce={nonce}0"));
    assert_ne!(again.json()["proof"], answer.json()["proof"]);
    assert_eq!(again.json()["instance"], answer.json()["instance"]);
    let other = Web::start(Arc::new(Fake::default()));
    let other = get(&other, &format!("/api/v1/proof?nonce={nonce}"));
    assert_ne!(other.json()["instance"], answer.json()["instance"]);
    for wrong in ["", "short", "0123456789abcde%20", &"a".repeat(129)] {
        let answer = get(&web, &format!("/api/v1/proof?nonce={wrong}"));
        assert_eq!(answer.status, 400, "{wrong}");
    }
}

#[test]
fn foreign_hosts_and_origins_are_refused_before_anything_is_asked() {
    let fake = Arc::new(Fake::default());
    let web = Web::with(Arc::clone(&fake), |settings| {
        settings.hosts = vec!["models.lan".to_owned()]
    });
    let with = |headers: &[(&str, &str)]| {
        web.raw(head("GET", "/api/v1/status", headers).as_bytes())
            .status
    };
    assert_eq!(with(&[("Host", "evil.example")]), 421);
    assert_eq!(with(&[("Host", "localhost.evil.example")]), 421);
    assert_eq!(
        with(&[("Host", "localhost"), ("Host", "evil.example")]),
        421
    );
    assert_eq!(with(&[]), 421);
    assert_eq!(
        with(&[("Host", "localhost"), ("Origin", "http://evil.example")]),
        403
    );
    assert_eq!(with(&[("Host", "localhost"), ("Origin", "null")]), 403);
    assert_eq!(
        with(&[("Host", "localhost"), ("Sec-Fetch-Site", "cross-site")]),
        403
    );
    let page = web.raw(head("GET", "/", &[("Host", "evil.example")]).as_bytes());
    assert_eq!(page.status, 421, "not even the page");
    assert_eq!(fake.asked(), []);
    assert_eq!(
        with(&[("Host", "models.lan"), ("Origin", "https://models.lan")]),
        200
    );
    assert_eq!(with(&[("Host", "[::1]:5050")]), 200);
}

#[test]
fn a_form_of_another_page_changes_nothing() {
    let fake = Arc::new(Fake::default());
    let web = Web::start(Arc::clone(&fake));
    let body = promote().to_string();
    let length = body.len().to_string();
    let bearer = format!("Bearer {TOKEN}");
    let headers = [
        ("Host", "localhost"),
        ("Authorization", bearer.as_str()),
        ("Content-Type", "text/plain"),
        ("Content-Length", length.as_str()),
    ];
    let answer = web.raw((head("POST", "/api/v1/models/promote", &headers) + &body).as_bytes());
    assert_eq!(answer.status, 415);
    assert_eq!(fake.asked(), []);
}

#[test]
fn oversized_bodies_and_headers_are_refused() {
    let web = Web::start(Arc::new(Fake::default()));
    let huge = json!({"names": ["x".repeat(1 << 20)]});
    let answer = request(
        &web,
        "POST",
        "/api/v1/models/promote",
        Some(&huge),
        Some(TOKEN),
    );
    assert_eq!(answer.status, 413);
    assert_eq!(answer.json()["error"]["code"], "bad-request");
    let long = "x".repeat(160 << 10);
    let answer = web.raw(
        head(
            "GET",
            "/api/v1/status",
            &[("Host", "localhost"), ("X", &long)],
        )
        .as_bytes(),
    );
    assert!([431, 400].contains(&answer.status), "{answer:?}");
    // Without a length, in pieces that never end.
    let bearer = format!("Bearer {TOKEN}");
    let headers = [
        ("Host", "localhost"),
        ("Authorization", bearer.as_str()),
        ("Content-Type", "application/json"),
        ("Transfer-Encoding", "chunked"),
    ];
    let mut stream = web.connect();
    stream
        .write_all(head("POST", "/api/v1/models/promote", &headers).as_bytes())
        .unwrap();
    let chunk = format!("8000\r\n{}\r\n", " ".repeat(0x8000));
    while stream.write_all(chunk.as_bytes()).is_ok() {}
    assert!(
        get(&web, "/api/v1/status").status == 200,
        "others are served"
    );
}

/// They were told that their body is too large.
#[test]
fn a_body_that_is_cut_short_or_malformed_is_a_bad_request() {
    let web = Web::start(Arc::new(Fake::default()));
    let bearer = format!("Bearer {TOKEN}");
    for (kind, value, body) in [
        ("Transfer-Encoding", "chunked", "zz\r\n{}\r\n0\r\n\r\n"),
        ("Transfer-Encoding", "chunked", "40\r\n{}"),
        ("Content-Length", "64", "{}"),
    ] {
        let headers = [
            ("Host", "localhost"),
            ("Authorization", bearer.as_str()),
            ("Content-Type", "application/json"),
            (kind, value),
        ];
        let mut stream = web.connect();
        let head = head("POST", "/api/v1/models/promote", &headers);
        stream.write_all((head + body).as_bytes()).unwrap();
        stream.shutdown(Shutdown::Write).unwrap();
        assert_eq!(read(&mut stream).status, 400, "{kind}: {body:?}");
    }
}

#[test]
fn slow_clients_are_given_up() {
    let web = Web::with(Arc::new(Fake::default()), |settings| {
        settings.header_timeout = Duration::from_millis(100);
        settings.body_timeout = Duration::from_millis(100);
    });
    let mut silent = web.connect();
    assert_eq!(silent.read(&mut [0]).unwrap_or(0), 0, "no request");
    let mut slow = web.connect();
    slow.write_all(b"GET / HTTP/1.1\r\nHost: local").unwrap();
    let answer = read(&mut slow);
    assert!(matches!(answer.status, 0 | 408), "half a head: {answer:?}");
    let bearer = format!("Bearer {TOKEN}");
    let headers = [
        ("Host", "localhost"),
        ("Authorization", bearer.as_str()),
        ("Content-Type", "application/json"),
        ("Content-Length", "100"),
    ];
    let answer = web.raw((head("POST", "/api/v1/models/promote", &headers) + "{").as_bytes());
    assert_eq!(answer.status, 408, "half a body: {answer:?}");
}

#[test]
fn five_hundred_connections_are_served_or_told() {
    let web = Web::with(Arc::new(Fake::default()), |settings| {
        settings.connections_max = 300;
        settings.connections_reserved = 0;
    });
    let idle: Vec<TcpStream> = (0..300).map(|_| web.connect()).collect();
    // Each place is taken once its connection has been accepted.
    let more: Vec<TcpStream> = (0..200).map(|_| web.connect()).collect();
    let refused = more
        .into_iter()
        .map(|mut stream| read(&mut stream).status)
        .filter(|status| *status == 503)
        .count();
    assert_eq!(refused, 200, "those that are too many are told so");
    drop(idle);
    until(|| get(&web, "/api/v1/status").status == 200);
}

#[test]
fn tricks_in_paths_and_names_lead_nowhere() {
    let web = Web::start(Arc::new(Fake::default()));
    for path in [
        "/../../etc/passwd",
        "/js/../../../etc/passwd",
        "/%2e%2e/%2e%2e/etc/passwd",
        "//etc/passwd",
        "/js/",
        "/api/v1",
        "/api/v1/",
        "/api/v2/status",
        "/js/app.js%00",
        "/%2fetc%2fpasswd",
    ] {
        let answer = get(&web, path);
        assert!([404, 400].contains(&answer.status), "{path}: {answer:?}");
    }
    for query in [
        "name=",
        "name=a%00b",
        "name=%ff",
        "name=a%0d%0aX:1",
        "name=a&name=b",
        "nam=a",
        "name=a&do=shutdown",
        "",
        "name=%",
    ] {
        let path = format!("/api/v1/models/which?{query}");
        let answer = request(&web, "GET", &path, None, Some(TOKEN));
        assert_eq!(answer.status, 400, "{query}: {answer:?}");
    }
    for body in [
        json!({"names": ["a"], "do": "shutdown"}),
        json!({"names": ["a"], "pol": "x"}),
        json!({"names": []}),
        json!({"names": "a"}),
        json!([1]),
        json!({}),
    ] {
        let answer = request(
            &web,
            "POST",
            "/api/v1/models/promote",
            Some(&body),
            Some(TOKEN),
        );
        assert_eq!(answer.status, 400, "{body}: {answer:?}");
    }
    let name_in_body = json!({"name": "other", "capacity": "1GiB"});
    let answer = request(
        &web,
        "POST",
        "/api/v1/tiers/local/resize",
        Some(&name_in_body),
        Some(TOKEN),
    );
    assert_eq!(answer.status, 400, "a name twice: {answer:?}");
}

#[test]
fn what_is_sent_cannot_become_a_header() {
    let web = Web::start(Arc::new(Fake::default()));
    let path = "/api/v1/models/which?name=x%0d%0aSet-Cookie:%20a=b";
    let answer = request(&web, "GET", path, None, Some(TOKEN));
    assert!(!answer.head.contains("Set-Cookie"), "{answer:?}");
    // Two requests in one, one of them hidden from a proxy.
    let smuggled = "GET / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nGET /api/v1/status HTTP/1.1\r\nHost: localhost\r\n\r\n";
    let answer = web.raw(smuggled.as_bytes());
    assert!(!answer.body.contains("\"view\":\"status\""), "{answer:?}");
}

#[test]
fn every_answer_has_the_headers_that_protect() {
    let web = Web::start(Arc::new(Fake::default()));
    for path in ["/", "/js/app.js", "/api/v1/status", "/nothing", "/metrics"] {
        let head = get(&web, path).head.to_ascii_lowercase();
        for wanted in [
            "content-security-policy: default-src 'none'; script-src 'self';",
            "x-content-type-options: nosniff",
            "x-frame-options: deny",
            "referrer-policy: no-referrer",
            "cache-control: ",
        ] {
            assert!(head.contains(wanted), "{path} lacks {wanted}: {head}");
        }
        assert!(!head.contains("access-control-allow-origin"), "{path}");
    }
    let page: String = ASSETS.iter().map(|asset| asset.text).collect();
    for forbidden in [
        ".innerHTML",
        ".outerHTML",
        "document.write",
        "eval(",
        " style=\"",
        "insertAdjacentHTML",
        "https://",
    ] {
        assert!(!page.contains(forbidden), "the page uses {forbidden}");
    }
}

#[test]
fn the_page_is_small_and_served_once() {
    use flate2::{Compression, write::GzEncoder};
    let web = Web::start(Arc::new(Fake::default()));
    let mut all = 0;
    for asset in ASSETS {
        let answer = get(&web, asset.path);
        assert_eq!(
            (answer.status, answer.body.as_str()),
            (200, asset.text),
            "{}",
            asset.path
        );
        let tag = answer
            .head
            .lines()
            .find_map(|line| line.strip_prefix("etag: "))
            .unwrap()
            .to_owned();
        let again = head(
            "GET",
            asset.path,
            &[("Host", "localhost"), ("If-None-Match", &tag)],
        );
        assert_eq!(web.raw(again.as_bytes()).status, 304);
        let mut packed = GzEncoder::new(Vec::new(), Compression::default());
        packed.write_all(asset.text.as_bytes()).unwrap();
        all += packed.finish().unwrap().len();
    }
    println!("the page is {all} bytes, compressed");
    assert!(all < 150 << 10);
}

#[test]
fn programs_that_watch_have_their_addresses() {
    let web = Web::start(Arc::new(Fake::default()));
    assert_eq!(get(&web, "/health").json()["status"], "ok");
    assert_eq!(get(&web, "/readyz").status, 200);
    assert!(
        get(&web, "/metrics")
            .body
            .starts_with("# HELP speedloader_")
    );
    assert_eq!(get(&web, "/api/v1/openapi.json").json()["openapi"], "3.1.0");
}

#[test]
fn a_stream_tells_events_and_ends_with_the_server() {
    let web = Web::start(Arc::new(Fake::default()));
    let mut stream = web.connect();
    stream
        .write_all(
            head(
                "GET",
                "/api/v1/events/stream?since=0",
                &[("Host", "localhost")],
            )
            .as_bytes(),
        )
        .unwrap();
    let mut text = String::new();
    let mut buffer = [0; 4096];
    while !text.contains("event: event") {
        let count = stream.read(&mut buffer).unwrap();
        assert!(count > 0, "{text}");
        text.push_str(&String::from_utf8_lossy(&buffer[..count]));
    }
    assert!(text.contains("text/event-stream"), "{text}");
    drop(web);
    let mut rest = Vec::new();
    // A reset is an end too.
    let _ = stream.read_to_end(&mut rest);
}

#[test]
fn a_waiting_command_hears_that_its_client_has_left() {
    let fake = Arc::new(Fake::default());
    let web = Web::start(Arc::clone(&fake));
    let mut stream = web.connect();
    let bearer = format!("Bearer {TOKEN}");
    stream
        .write_all(
            head(
                "GET",
                "/api/v1/models/wait?name=forever&timeout_s=60",
                &[("Host", "localhost"), ("Authorization", &bearer)],
            )
            .as_bytes(),
        )
        .unwrap();
    until(|| !fake.asked().is_empty());
    drop(stream);
    until(|| fake.gone() == ["forever"]);
    let path = "/api/v1/models/wait?name=panic&timeout_s=1";
    let answer = request(&web, "GET", path, None, Some(TOKEN));
    assert_eq!(answer.status, 500);
    assert_eq!(answer.json()["error"]["code"], "internal");
}

#[test]
fn the_committed_description_is_the_programs() {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("contrib/openapi.json");
    let text = serde_json::to_string_pretty(&document()).unwrap() + "\n";
    if std::env::var_os("SPEEDLOADER_BLESS").is_some() {
        std::fs::write(&path, &text).unwrap();
    }
    let committed = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        committed == text,
        "contrib/openapi.json differs; SPEEDLOADER_BLESS=1 cargo test writes it anew"
    );
}

#[test]
fn dashboard_and_alerts_name_only_metrics_that_exist() {
    let exposed = get(&Web::start(Arc::new(Fake::default())), "/metrics").body;
    let known: std::collections::BTreeSet<&str> = exposed
        .lines()
        .filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next())
        .collect();
    let directory = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("contrib/monitoring");
    for name in ["grafana.json", "alerts.yaml"] {
        let text = std::fs::read_to_string(directory.join(name)).unwrap();
        let words = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
        let named: Vec<&str> = words
            .filter(|word| word.starts_with("speedloader_"))
            .collect();
        assert!(named.len() > 5, "{name} names metrics");
        for metric in named {
            assert!(
                known.contains(metric),
                "{name} names {metric}, which is not exposed"
            );
        }
    }
}
