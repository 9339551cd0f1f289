//! Who may speak to the HTTP door: requests that a browser was tricked into are refused by their Host
//! (DNS rebinding) and Origin (forgery across sites), changes without the token by that.

use std::net::IpAddr;

use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};

use super::token::{Token, random_text};
use crate::command::{Code, Message};

/// What is checked.
#[derive(Clone, Debug)]
pub struct Guard {
    token: Token,
    hosts: Vec<String>,
    /// Tells this run of the door from the one before.
    instance: String,
}

/// Characters that a question for a proof may have.
const NONCE_LENGTHS: std::ops::RangeInclusive<usize> = 16..=128;
const FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

impl Guard {
    /// A guard that takes changes with `token`, and names of this machine in `hosts` beside addresses
    /// and `localhost`.
    pub fn new(token: Token, hosts: Vec<String>) -> Guard {
        Guard {
            token,
            hosts,
            // It is no secret: without random numbers the time of day tells runs apart as well.
            instance: random_text()
                .unwrap_or_else(|_| format!("{:?}", std::time::SystemTime::now())),
        }
    }

    /// What tells this run of the door from the one before.
    pub fn instance(&self) -> &str {
        &self.instance
    }

    /// What shows a page that this is the door whose token it has, before it sends that.
    ///
    /// # Errors
    /// 400 if the question is none: it must be so long that none is asked twice.
    pub fn prove(&self, nonce: &str) -> Result<String, (StatusCode, Message)> {
        let is_nonce = NONCE_LENGTHS.contains(&nonce.len())
            && nonce.bytes().all(|byte| byte.is_ascii_alphanumeric());
        match is_nonce {
            true => Ok(self.token.proof(nonce)),
            false => {
                let text = "`nonce` must be 16 to 128 letters and digits";
                let message = Message::new(Code::BadRequest, text);
                Err((StatusCode::BAD_REQUEST, message))
            }
        }
    }

    /// Whether a request may be looked at at all.
    ///
    /// # Errors
    /// Why not; 421 for a foreign Host, 403 for a foreign Origin.
    pub fn admit(&self, headers: &HeaderMap) -> Result<(), (StatusCode, Message)> {
        let mut hosts = headers.get_all(header::HOST).iter();
        let host = match (hosts.next(), hosts.next()) {
            (Some(host), None) => host.to_str().unwrap_or_default(),
            _ => "",
        };
        if !self.is_ours(host) {
            let text = "the request is for another host; speedloader answers to addresses, to \
                        localhost and to the names in http.hosts";
            let message = Message::new(Code::Denied, text);
            return Err((StatusCode::MISDIRECTED_REQUEST, message));
        }
        let foreign = |text: &str| Err((StatusCode::FORBIDDEN, Message::new(Code::Denied, text)));
        if let Some(origin) = headers.get(header::ORIGIN)
            && !is_same_origin(origin, host)
        {
            return foreign("the request comes from a page of another origin");
        }
        match headers.get(FETCH_SITE).map(HeaderValue::as_bytes) {
            None | Some(b"same-origin" | b"none") => Ok(()),
            // A link from another page may lead to ours; nothing else may.
            Some(_)
                if headers
                    .get("sec-fetch-mode")
                    .is_some_and(|mode| mode == "navigate") =>
            {
                Ok(())
            }
            Some(_) => foreign("the request comes from a page of another site"),
        }
    }

    /// Whether the request has the token.
    ///
    /// # Errors
    /// 401, and how to come by the token.
    pub fn authorise(&self, headers: &HeaderMap) -> Result<(), (StatusCode, Message)> {
        let presented = headers
            .get(header::AUTHORIZATION)
            .and_then(|value| value.as_bytes().strip_prefix(b"Bearer "));
        let text = match presented {
            Some(presented) if self.token.matches(presented) => return Ok(()),
            Some(_) => "this is not the daemon's token",
            None => "changing anything needs the token",
        };
        let message = Message::new(Code::Denied, text)
            .with_hint("`speedloader web-url` on the host prints a link with it");
        Err((StatusCode::UNAUTHORIZED, message))
    }

    /// Rebinding needs a name that an attacker owns: addresses and our own names are none.
    fn is_ours(&self, host: &str) -> bool {
        let name = without_port(host);
        let address = name.trim_start_matches('[').trim_end_matches(']');
        address.parse::<IpAddr>().is_ok()
            || name.eq_ignore_ascii_case("localhost")
            || self
                .hosts
                .iter()
                .any(|known| known.eq_ignore_ascii_case(name))
    }
}

fn without_port(host: &str) -> &str {
    match host.rsplit_once(':') {
        Some((name, port))
            if port.bytes().all(|byte| byte.is_ascii_digit()) && !name.ends_with(':') =>
        {
            name
        }
        _ => host,
    }
}

/// A proxy that adds TLS makes the scheme another one; host and port must be the same.
fn is_same_origin(origin: &HeaderValue, host: &str) -> bool {
    let origin = origin.to_str().unwrap_or_default();
    let authority = origin
        .strip_prefix("http://")
        .or_else(|| origin.strip_prefix("https://"));
    authority.is_some_and(|authority| authority.eq_ignore_ascii_case(host))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn guard() -> Guard {
        Guard::new(
            Token::new("0123456789abcdef"),
            vec!["models.example.com".to_owned()],
        )
    }

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        let mut map = HeaderMap::new();
        for (name, value) in pairs {
            map.append(*name, HeaderValue::from_str(value).expect("printable"));
        }
        map
    }

    #[test]
    fn foreign_hosts_are_refused() {
        for good in [
            "127.0.0.1:5050",
            "localhost",
            "LOCALHOST:5050",
            "[::1]:5050",
            "10.0.0.9",
            "models.example.com:443",
        ] {
            assert!(guard().admit(&headers(&[("host", good)])).is_ok(), "{good}");
        }
        for wrong in [
            "",
            "evil.example",
            "localhost.evil.example:5050",
            "127.0.0.1.evil.example",
            "evil.example:80:80",
        ] {
            let refused = guard()
                .admit(&headers(&[("host", wrong)]))
                .expect_err(wrong);
            assert_eq!(refused.0, StatusCode::MISDIRECTED_REQUEST, "{wrong}");
        }
        assert!(guard().admit(&headers(&[])).is_err());
        let two = [("host", "localhost"), ("host", "evil.example")];
        assert!(guard().admit(&headers(&two)).is_err());
    }

    #[test]
    fn foreign_origins_are_refused() {
        let with =
            |origin: &'static str| headers(&[("host", "localhost:5050"), ("origin", origin)]);
        assert!(guard().admit(&with("http://localhost:5050")).is_ok());
        assert!(guard().admit(&with("https://localhost:5050")).is_ok());
        for wrong in [
            "null",
            "http://evil.example",
            "http://localhost:8080",
            "http://localhost:5050.evil.example",
            "file://",
        ] {
            let refused = guard().admit(&with(wrong)).expect_err(wrong);
            assert_eq!(refused.0, StatusCode::FORBIDDEN, "{wrong}");
        }
    }

    #[test]
    fn only_a_link_may_come_from_another_site() {
        let with = |mode: &'static str| {
            headers(&[
                ("host", "localhost"),
                ("sec-fetch-site", "cross-site"),
                ("sec-fetch-mode", mode),
            ])
        };
        assert!(guard().admit(&with("navigate")).is_ok());
        assert!(guard().admit(&with("no-cors")).is_err());
        assert!(guard().admit(&with("cors")).is_err());
    }

    #[test]
    fn the_token_is_wanted_whole_and_as_bearer() {
        let with = |value: &'static str| guard().authorise(&headers(&[("authorization", value)]));
        assert!(with("Bearer 0123456789abcdef").is_ok());
        for wrong in [
            "",
            "Bearer",
            "Bearer ",
            "Bearer 0123456789abcdeX",
            "Basic 0123456789abcdef",
            "0123456789abcdef",
        ] {
            assert!(with(wrong).is_err(), "{wrong}");
        }
        assert!(guard().authorise(&HeaderMap::new()).is_err());
    }
}
