//! What was written -> `Config`, with all faults at once. Pure.
//!
//! Three steps: every field by itself (type, range); what several fields must agree on (names, places, pins); then,
//! only if nothing is wrong, the `Config`. The second step works on whatever the first could read.

use std::collections::BTreeMap;
use std::path::PathBuf;

use crate::account::Account;
use crate::choice::Transport;
use crate::effective::{
    Cache, Cold, Config, Control, Engines, Http, Log, Mount, Mover, PIN, Placement, Places, Policy,
    Pool, Remote, Union,
};
use crate::fault::{Fault, Faults, did_you_mean, quoted};
use crate::field::{DefaultValue, Field, Reader, Section, key_of};
use crate::name::PoolName;
use crate::origin::Origin;
use crate::places::{Directory, Role, quoted_path, related, with_place};
use crate::raw::{COLD, ITEMS_MAX, POOL, REMOTE, Raw};
use crate::setting::{Kind, Setting, Unfit};
use crate::units::Bytes;

/// What is found where a key is missing.
pub(crate) const MISSING: &str = "nothing";

/// Reads the fields one by one and keeps a record of faults and origins.
struct Checker<'c> {
    raw: &'c Raw,
    account: &'c Account,
    faults: &'c mut Faults,
    origins: BTreeMap<String, Origin>,
}

impl Reader for Checker<'_> {
    fn get<T: Setting>(&mut self, field: &'static Field, item: &str) -> Option<T> {
        let Some(located) = self.raw.get(field, item) else {
            return self.default_of(field, item);
        };
        self.origins.insert(field.key_of(item), located.at.clone());
        let judged = T::from_value(&located.value).and_then(|value| within(field, value));
        match judged {
            Ok(value) => Some(value),
            Err(Unfit { wanted, hint }) => {
                let found = match field.kind {
                    Kind::Secret => "something else".to_owned(),
                    _ => located.value.shown(),
                };
                let at = located.at.clone();
                self.faults.push(Fault {
                    key: field.key_of(item),
                    at,
                    found,
                    wanted,
                    hint,
                });
                None
            }
        }
    }
}

impl Checker<'_> {
    fn default_of<T: Setting>(&mut self, field: &'static Field, item: &str) -> Option<T> {
        let text = match field.default {
            DefaultValue::Value(text) => Some(text.to_owned()),
            DefaultValue::Unset(_) => return T::unset(),
            DefaultValue::Required(_) => None,
            DefaultValue::Computed(_) => {
                let pool = self
                    .raw
                    .text("pool[].name", item)
                    .map_or("local", |(name, _)| name);
                self.account.default_of(field.key, pool)
            }
        };
        let value = text.and_then(|text| T::from_text(&text).ok());
        if value.is_none() && !self.named_wrongly(field, item) {
            self.missing(field, item);
        }
        value
    }

    /// True if the default cannot be had because the pool's name is wrong, which is another fault.
    fn named_wrongly(&self, field: &Field, item: &str) -> bool {
        field.key == "pool[].path"
            && self
                .raw
                .text("pool[].name", item)
                .is_some_and(|(n, _)| PoolName::from_text(n).is_err())
    }

    fn missing(&mut self, field: &'static Field, item: &str) {
        let place = field.key.strip_suffix(field.name()).unwrap_or("");
        let items = self.raw.items(place);
        let at = items
            .iter()
            .find(|(known, _)| known == item)
            .map(|(_, at)| at);
        let wanted = match field.default {
            DefaultValue::Required(example) => {
                format!(
                    "`{} = {}`, for example",
                    field.name(),
                    example.to_owned().to_toml().unwrap_or_default()
                )
            }
            _ => "a value, because its default cannot be derived here".to_owned(),
        };
        self.faults.push(Fault {
            key: field.key_of(item),
            at: at.unwrap_or(&self.raw.whole).clone(),
            found: MISSING.to_owned(),
            wanted,
            hint: None,
        });
    }

    fn section<S: Section>(&mut self) -> Option<S> {
        S::read(self, "")
    }

    fn list<S: Section>(&mut self) -> Vec<(String, Option<S>)> {
        let items: Vec<String> = self
            .raw
            .items(S::PLACE)
            .iter()
            .map(|(i, _)| i.clone())
            .collect();
        items
            .into_iter()
            .map(|item| {
                let section = S::read(self, &item);
                (item, section)
            })
            .collect()
    }

    /// Puts a fault on record.
    fn fault_at(&mut self, at: &Origin, key: &str, found: String, wanted: &str) {
        let (key, at, wanted) = (key.to_owned(), at.clone(), wanted.to_owned());
        self.faults.push(Fault {
            key,
            at,
            found,
            wanted,
            hint: None,
        });
    }

    /// Puts a fault on record at the place where the field was written.
    fn fault(&mut self, key: String, found: String, wanted: &str, hint: Option<String>) {
        let at = self.origins.get(&key).unwrap_or(&self.raw.whole).clone();
        self.faults.push(Fault {
            key,
            at,
            found,
            wanted: wanted.to_owned(),
            hint,
        });
    }
}

/// A value that is within the range of its field.
fn within<T: Setting>(field: &Field, value: T) -> Result<T, Unfit> {
    let Some((low, high)) = field.range else {
        return Ok(value);
    };
    let inside = T::from_text(low).is_ok_and(|low| low <= value)
        && T::from_text(high).is_ok_and(|high| value <= high);
    if inside {
        Ok(value)
    } else {
        Err(format!("{low} to {high}").into())
    }
}

/// Judges everything that was written.
pub(crate) fn validate(raw: &Raw, account: &Account, faults: &mut Faults) -> Option<Config> {
    let mut checker = Checker {
        raw,
        account,
        faults,
        origins: BTreeMap::new(),
    };
    let c = &mut checker;
    let places: Option<Places> = c.section();
    let cold: Vec<(String, Option<Cold>)> = c.list();
    let pools: Vec<(String, Option<Pool>)> = c.list();
    let remotes: Vec<(String, Option<Remote>)> = c.list();
    let (placement, policy, mover): (Option<Placement>, Option<Policy>, Option<Mover>) =
        (c.section(), c.section(), c.section());
    let (cache, union, mount): (Option<Cache>, Option<Union>, Option<Mount>) =
        (c.section(), c.section(), c.section());
    let (http, control, log): (Option<Http>, Option<Control>, Option<Log>) =
        (c.section(), c.section(), c.section());
    let engines: Option<Engines> = c.section();
    check_number_of_items(c);
    let names = pool_names(c);
    let pins = pins(c, &names);
    if let Some(mover) = &mover {
        check_mover(c, mover);
    }
    if let Some(policy) = &policy {
        check_policy(c, policy);
    }
    if let Some(http) = &http {
        check_http(c, http);
    }
    if let Some(engines) = &engines {
        check_engines(c, engines);
    }
    for (name, remote) in &remotes {
        check_tls(c, name, remote.as_ref());
    }
    check_places(c);
    let remotes = remotes
        .into_iter()
        .map(|(name, remote)| Some((PoolName::from_text(&name).ok()?, remote?)))
        .collect::<Option<_>>();
    let origins = checker.origins;
    if !faults.is_empty() {
        return None;
    }
    let places = places?;
    Some(Config {
        models_dir: places.models_dir,
        mountpoint: places.mountpoint,
        state_dir: places.state_dir,
        cold: cold
            .into_iter()
            .map(|(_, cold)| cold)
            .collect::<Option<_>>()?,
        pools: pools
            .into_iter()
            .map(|(_, pool)| pool)
            .collect::<Option<_>>()?,
        remotes: remotes?,
        placement: placement?,
        pins: pins?,
        policy: policy?,
        mover: mover?,
        cache: cache?,
        union: union?,
        mount: mount?,
        http: http?,
        control: control?,
        engines: engines?,
        log: log?,
        origins,
        warnings: Vec::new(),
    })
}

fn check_number_of_items(c: &mut Checker<'_>) {
    if let Some((place, at)) = &c.raw.too_many {
        let wanted = format!("at most {ITEMS_MAX}");
        c.fault_at(at, &key_of(place, "*"), "one more".to_owned(), &wanted);
    }
}

/// Words that commands use for something else than a pool.
const RESERVED: [&str; 4] = ["cold", "models", "all", "auto"];

/// The names of all pools; each may be there once.
fn pool_names(c: &mut Checker<'_>) -> Vec<String> {
    let mut names: Vec<(String, String, Origin)> = Vec::new();
    let raw = c.raw;
    for (item, section) in raw.items(POOL) {
        let (name, at) = raw.text("pool[].name", item).unwrap_or(("local", section));
        names.push((name.to_owned(), key_of("pool[].name", item), at.clone()));
    }
    for (name, at) in raw.items(REMOTE) {
        let key = key_of(REMOTE, name);
        if let Err(Unfit { wanted, .. }) = PoolName::from_text(name) {
            c.fault_at(at, &key, format!("the name {}", quoted(name)), &wanted);
        }
        names.push((name.clone(), key, at.clone()));
    }
    for (i, (name, key, at)) in names.iter().enumerate() {
        if RESERVED.contains(&name.as_str()) {
            c.fault_at(
                at,
                key,
                format!("the reserved name {}", quoted(name)),
                "another name",
            );
        }
        if let Some((_, _, first)) = names[..i].iter().find(|(earlier, _, _)| earlier == name) {
            let found = format!("a second pool {} (the first: {first})", quoted(name));
            c.fault_at(at, key, found, "a name of its own for each pool");
        }
    }
    names.into_iter().map(|(name, _, _)| name).collect()
}

fn pins(c: &mut Checker<'_>, names: &[String]) -> Option<BTreeMap<String, PoolName>> {
    let raw = c.raw;
    let mut pins = Some(BTreeMap::new());
    for model in raw.pins() {
        let pool: Option<PoolName> = c.get(&PIN, model);
        if let Some(pool) = &pool
            && !names.iter().any(|name| name == pool.as_str())
        {
            let found = format!("{}, which is no pool", quoted(pool.as_str()));
            let wanted = match names {
                [] => "the name of a pool, but there is none".to_owned(),
                _ => format!("the name of a pool: {}", names.join(", ")),
            };
            let hint = did_you_mean(pool.as_str(), names.iter().map(String::as_str));
            c.fault(PIN.key_of(model), found, &wanted, hint);
        }
        if let Err(Unfit { wanted, .. }) = String::from_text(model) {
            c.fault(
                PIN.key_of(model),
                "a strange name of a model".to_owned(),
                &wanted,
                None,
            );
        }
        match (&mut pins, pool) {
            (Some(pins), Some(pool)) => {
                pins.insert(model.to_owned(), pool);
            }
            _ => pins = None,
        }
    }
    pins
}

fn check_mover(c: &mut Checker<'_>, mover: &Mover) {
    const PAGE: u64 = 4096;
    let Bytes(chunk) = mover.chunk;
    if !chunk.is_multiple_of(PAGE) {
        let found = quoted(&mover.chunk.to_string());
        c.fault("mover.chunk".to_owned(), found, "a multiple of 4KiB", None);
    }
}

fn check_policy(c: &mut Checker<'_>, policy: &Policy) {
    for pattern in policy
        .always
        .iter()
        .filter(|pattern| policy.never.contains(pattern))
    {
        let found = format!("{}, which policy.never has too", quoted(pattern));
        c.fault(
            "policy.always".to_owned(),
            found,
            "it in one of the two",
            None,
        );
    }
    for command in policy
        .ignore_commands
        .iter()
        .filter(|command| command.contains('/'))
    {
        let hint = command
            .rsplit('/')
            .next()
            .map(|name| format!("did you mean `{name}`?"));
        let found = quoted(command);
        c.fault(
            "policy.ignore_commands".to_owned(),
            found,
            "names of commands without a path",
            hint,
        );
    }
}

/// The kernel encrypts TCP and nothing else.
fn check_tls(c: &mut Checker<'_>, name: &str, remote: Option<&Remote>) {
    if remote.is_some_and(|remote| remote.tls && remote.transport == Transport::Rdma) {
        c.fault(
            key_of("remote.*.tls", name),
            "true, where `transport` is \"rdma\"".to_owned(),
            "TLS over TCP only",
            Some("leave `transport` out, or `tls`".to_owned()),
        );
    }
}

/// Whoever can reach it can try: another machine only where somebody has thought of a token.
fn check_http(c: &mut Checker<'_>, http: &Http) {
    if http.enabled && !http.listen.ip().is_loopback() && http.token.is_none() {
        let found = format!(
            "{}, which other machines can reach",
            quoted(&http.listen.to_string())
        );
        let hint = Some("set http.token too, or listen on 127.0.0.1 behind a proxy".to_owned());
        c.fault(
            "http.listen".to_owned(),
            found,
            "an address of this machine only, or http.token",
            hint,
        );
    }
    // What a browser says of another port or scheme is the same name.
    for host in &http.hosts {
        let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b".-_".contains(&byte);
        if host.is_empty() || !host.bytes().all(is_plain) {
            c.fault(
                "http.hosts".to_owned(),
                quoted(host),
                "names such as models.example.com, without scheme, port or *",
                None,
            );
        }
    }
}

/// Without TLS and without a path: what is asked is ours to know.
fn check_engines(c: &mut Checker<'_>, engines: &Engines) {
    for address in &engines.ask {
        let host = address.strip_prefix("http://").unwrap_or_default();
        let is_right = host.rsplit_once(':').is_some_and(|(name, port)| {
            let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b".-[]:".contains(&byte);
            !name.is_empty() && name.bytes().all(is_plain) && port.parse::<u16>().is_ok()
        });
        if !is_right {
            c.fault(
                "engines.ask".to_owned(),
                quoted(address),
                "addresses such as http://127.0.0.1:11434",
                None,
            );
        }
    }
}

/// No directory may lie where it would be seen through another, hide it, or be written by it.
fn check_places(c: &mut Checker<'_>) {
    let directories = directories(c);
    for (later, earlier, (relation, wanted)) in related(&directories) {
        let other = with_place(&c.origins, &earlier.key);
        let found = format!("{}, which is {relation} {other}", quoted_path(&later.path));
        c.fault(later.key.clone(), found, wanted, None);
    }
}

fn pool_name<'r>(c: &Checker<'r>, item: &str) -> &'r str {
    let name = c.raw.text("pool[].name", item);
    name.map_or("local", |(name, _)| name)
}

/// Whether a pool has a name that may be, and no pool before it has.
fn has_own_name(c: &Checker<'_>, item: &str) -> bool {
    let name = pool_name(c, item);
    let mut earlier = c
        .raw
        .items(POOL)
        .iter()
        .take_while(|(other, _)| other != item);
    PoolName::from_text(name).is_ok() && earlier.all(|(other, _)| pool_name(c, other) != name)
}

/// All directories that could be read, whether or not the rest of their sections is right.
fn directories(c: &Checker<'_>) -> Vec<Directory> {
    let mut directories = Vec::new();
    let mut add = |pattern: &'static str, item: &str, role: Role| {
        let written = c.raw.text(pattern, item).map(|(text, _)| text.to_owned());
        let derived = || match role {
            // A place that follows from a wrong name is not worth a second fault.
            Role::Pool if !has_own_name(c, item) => None,
            _ => c.account.default_of(pattern, pool_name(c, item)),
        };
        let text = written.or_else(derived);
        if let Some(path) = text.and_then(|text| PathBuf::from_text(&text).ok()) {
            directories.push(Directory {
                key: key_of(pattern, item),
                path,
                role,
            });
        }
    };
    add("mountpoint", "", Role::Mountpoint);
    add("models_dir", "", Role::Home);
    for (item, _) in c.raw.items(COLD) {
        add("cold[].path", item, Role::Home);
    }
    for (item, _) in c.raw.items(POOL) {
        add("pool[].path", item, Role::Pool);
    }
    add("state_dir", "", Role::State);
    add("control.socket", "", Role::Socket);
    directories
}
