//! The original Speedloader's `config.json`, read into the same fields, so that it can be used or converted as it is.
//!
//! What it has no word for keeps its default. `backend.type` is accepted and not needed: models are recognised by
//! themselves; the engine at `backend.apiUrl` is asked what it has loaded. A `storage.type` that has no name of its own
//! here is `other`. Duplicate and unknown keys are faults, as in TOML.

use std::collections::BTreeSet;

use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

use crate::effective::{Config, PIN};
use crate::fault::{Fault, Faults, did_you_mean, nearest, quoted};
use crate::field::{Field, key_of};
use crate::origin::{Lines, Origin};
use crate::raw::{COLD, POOL, REMOTE, Raw};
use crate::setting::Kind;
use crate::value::Value;

/// What the original knows, by path; `*` is the name of a host or model. The second part is our key; none for what
/// is not needed.
const KEYS: [(&str, Option<&str>); 12] = [
    ("modelsDir", Some("models_dir")),
    ("ramdisk.path", Some("pool[].path")),
    ("ramdisk.size", Some("pool[].capacity")),
    ("storage.path", Some("cold[].path")),
    ("storage.type", Some("cold[].kind")),
    ("backend.type", None),
    ("backend.apiUrl", Some("engines.ask")),
    ("remoteTiers.hosts.*.ssh", Some("remote.*.ssh")),
    ("remoteTiers.hosts.*.rdmaIp", Some("remote.*.address")),
    ("remoteTiers.hosts.*.ramdiskSize", Some("remote.*.capacity")),
    ("modelPlacement.defaultStrategy", Some("placement.strategy")),
    ("modelPlacement.pinned.*", Some(PIN.key)),
];

/// Reads the JSON text; what can be understood of it is returned together with the faults.
pub(crate) fn from_json(lines: &Lines<'_>, faults: &mut Faults) -> Raw {
    let mut raw = Raw::new(lines.whole());
    let document = match serde_json::from_str::<&RawValue>(lines.text()) {
        Ok(document) => document,
        Err(error) => {
            faults.push(Fault {
                key: String::new(),
                at: lines.at_line(error.line(), error.column()),
                found: format!("broken JSON ({})", reason(&error)),
                wanted: "the original Speedloader's config.json, or TOML".to_owned(),
                hint: None,
            });
            return raw;
        }
    };
    Walk {
        lines,
        raw: &mut raw,
        faults,
    }
    .value("", "", document);
    raw
}

/// serde_json's message without its own line and column, which count bytes.
fn reason(error: &serde_json::Error) -> String {
    let text = error.to_string();
    text.rsplit_once(" at line ")
        .map_or(text.as_str(), |(reason, _)| reason)
        .to_owned()
}

/// An object's members as written: in order, duplicates too.
struct Members<'j>(Vec<(String, &'j RawValue)>);

impl<'de> Deserialize<'de> for Members<'de> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Collect;

        impl<'de> Visitor<'de> for Collect {
            type Value = Members<'de>;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut members = Vec::new();
                while let Some(member) = map.next_entry()? {
                    members.push(member);
                }
                Ok(Members(members))
            }
        }

        from.deserialize_map(Collect)
    }
}

/// Sorts a document by the list of keys.
struct Walk<'w, 't> {
    lines: &'w Lines<'t>,
    raw: &'w mut Raw,
    faults: &'w mut Faults,
}

impl Walk<'_, '_> {
    /// Takes the value at a path, `*` standing for the item.
    fn value(&mut self, path: &str, item: &str, value: &RawValue) {
        if let Some((_, ours)) = KEYS.iter().find(|(theirs, _)| *theirs == path) {
            if let Some(field) = ours.and_then(Config::field) {
                let at = self.at(value);
                match (field.key, scalar(value)) {
                    ("engines.ask", address) => {
                        if let Some(engine) = address.text().and_then(engine) {
                            let engines = Value::List(vec![Value::Text(engine)]);
                            self.set(field, item, engines, at);
                        }
                    }
                    ("cold[].kind", Value::Text(kind)) => {
                        self.set(field, item, Value::Text(cold_kind(field, &kind)), at);
                    }
                    (_, value) => self.set(field, item, value, at),
                }
            }
            return;
        }
        match serde_json::from_str::<Members<'_>>(value.get()) {
            Ok(Members(members)) => self.object(path, item, &members),
            Err(_) => {
                let (key, at, found) = (key_of(path, item), self.at(value), scalar(value).shown());
                self.faults.push(Fault {
                    key,
                    at,
                    found,
                    wanted: "an object".to_owned(),
                    hint: None,
                });
            }
        }
    }

    fn object(&mut self, path: &str, item: &str, members: &[(String, &RawValue)]) {
        let place = if path.is_empty() {
            String::new()
        } else {
            format!("{path}.")
        };
        let names = names_after(&place);
        let mut seen = BTreeSet::new();
        if names == ["*"] && path == "remoteTiers.hosts" {
            for (name, host) in members
                .iter()
                .filter(|(_, host)| host.get().starts_with('{'))
            {
                self.raw.add_item(REMOTE, name, self.at(host));
                self.rdma(name, host);
            }
        }
        for (name, value) in members {
            let fault = if !seen.insert(name.as_str()) {
                Some((
                    format!("{} a second time", quoted(name)),
                    "each key once".to_owned(),
                    None,
                ))
            } else if names == ["*"] || names.contains(&name.as_str()) {
                None
            } else {
                let found = format!("the unknown key {}", quoted(name));
                let wanted = format!("one of {}", names.join(", "));
                Some((found, wanted, did_you_mean(name, names.iter().copied())))
            };
            match fault {
                Some((found, wanted, hint)) => {
                    let (key, at) = (key_of(&format!("{place}{name}"), item), self.at(value));
                    self.faults.push(Fault {
                        key,
                        at,
                        found,
                        wanted,
                        hint,
                    });
                }
                None if names == ["*"] => self.value(&format!("{place}*"), name, value),
                None => self.value(&format!("{place}{name}"), item, value),
            }
        }
    }

    /// The original knows remote pools over RDMA only.
    fn rdma(&mut self, name: &str, host: &RawValue) {
        let at = self.at(host);
        if let Some(field) = Config::field("remote.*.transport") {
            self.raw
                .set(field, name, Value::Text("rdma".to_owned()), at);
        }
    }

    /// Sets a field; the one RAM disk and the one storage of the original are the first of our lists.
    fn set(&mut self, field: &'static Field, item: &str, value: Value, at: Origin) {
        for place in [POOL, COLD] {
            if field.key.starts_with(place) {
                if self.raw.items(place).is_empty() {
                    self.raw.add_item(place, "0", at.clone());
                }
                self.raw.set(field, "0", value, at);
                return;
            }
        }
        self.raw.set(field, item, value, at);
    }

    /// A value's place: the values are slices of the one text.
    fn at(&self, value: &RawValue) -> Origin {
        let start = value.get().as_ptr().addr();
        self.lines
            .at(start.saturating_sub(self.lines.text().as_ptr().addr()))
    }
}

/// An address as we ask engines; none for one that we do not, which the original took as well.
fn engine(address: &str) -> Option<String> {
    let host = address.strip_prefix("http://")?.trim_end_matches('/');
    let (name, port) = host.rsplit_once(':')?;
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b".-[]:".contains(&byte);
    let is_asked = !name.is_empty() && name.bytes().all(is_plain) && port.parse::<u16>().is_ok();
    is_asked.then(|| format!("http://{host}"))
}

/// Every parallel file system is looked through in the same way. What is nearly a word of ours is misspelt.
fn cold_kind(field: &Field, kind: &str) -> String {
    match field.kind {
        Kind::Choice(words) if nearest(kind, words.iter().copied()).is_none() => "other".to_owned(),
        _ => kind.to_owned(),
    }
}

/// The names that may stand after a place; `*` alone where any may.
fn names_after(place: &str) -> Vec<&'static str> {
    let mut names: Vec<&'static str> = KEYS
        .iter()
        .filter_map(|(path, _)| path.strip_prefix(place))
        .map(|rest| rest.split('.').next().unwrap_or(rest))
        .collect();
    names.dedup();
    names
}

fn scalar(value: &RawValue) -> Value {
    let text = value.get();
    match text.as_bytes().first() {
        Some(b'"') => {
            serde_json::from_str(text).map_or(Value::Other("a broken string"), Value::Text)
        }
        Some(b't' | b'f') => Value::Boolean(text == "true"),
        Some(b'{') => Value::Other("an object"),
        Some(b'[') => Value::Other("a list"),
        Some(b'n') => Value::Other("null"),
        _ => text
            .parse()
            .map_or(Value::Other("a number with a fraction"), Value::Integer),
    }
}
