//! The text after `-o` of mount(8): split, sorted into ours, mount(8)'s own, and wrong.
//!
//! Short names: `config=FILE`, `models=DIR`, `cold=DIR[:DIR...]`, `pool=SIZE`, `pool=NAME:SIZE[:DIR]`, `ro`,
//! `allow_other`; and every key of the configuration, `policy.enabled=false`. A comma within a value is written `\,`,
//! or the whole value is quoted with `"`; a colon within a cold directory is written `\:`. Only keys are judged here;
//! values are judged by `load`.

use std::path::PathBuf;

use serde::Serialize;

use crate::effective::Config;
use crate::fault::{Fault, Faults, did_you_mean, quoted};
use crate::field::Field;
use crate::origin::Origin;
use crate::overlay::{option_keys, unknown_option};
use crate::setting::{Kind, Setting, Unfit};

/// What a text of mount options says.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct MountOptions {
    /// `config=FILE`.
    pub config: Option<PathBuf>,
    /// Keys and texts for `Sources::options`, in their order.
    pub settings: Vec<(String, String)>,
    /// Options of mount(8) that mean nothing to us, as written.
    pub ignored: Vec<String>,
}

/// Options that mount(8) hands on, but acts on itself, or that are always so here.
const IGNORED: [&str; 29] = [
    "_netdev",
    "async",
    "atime",
    "auto",
    "defaults",
    "default_permissions",
    "dev",
    "diratime",
    "group",
    "lazytime",
    "loud",
    "noatime",
    "noauto",
    "nodev",
    "nodiratime",
    "nofail",
    "nolazytime",
    "norelatime",
    "nostrictatime",
    "nosuid",
    "nouser",
    "owner",
    "relatime",
    "rw",
    "silent",
    "strictatime",
    "suid",
    "user",
    "users",
];

/// Splits and sorts mount options.
///
/// # Errors
/// A fault for every option that is neither ours nor mount(8)'s.
pub fn parse_mount_options(text: &str) -> Result<MountOptions, Faults> {
    let mut options = MountOptions::default();
    let mut faults = Faults::default();
    for option in split(text) {
        let (key, value) = match option.split_once('=') {
            Some((key, value)) => (key, Some(value)),
            None => (option.as_str(), None),
        };
        if is_ignored(key) {
            if key == "rw" {
                options.settings.retain(|(key, _)| key != "mount.read_only");
            }
            options.ignored.push(option);
        } else if let Err(fault) = sort_in(&mut options, key, value) {
            faults.push(*fault);
        }
    }
    if faults.is_empty() {
        Ok(options)
    } else {
        Err(faults)
    }
}

fn is_ignored(key: &str) -> bool {
    IGNORED.contains(&key) || key == "comment" || key.starts_with("x-") || key.starts_with("X-")
}

fn sort_in(options: &mut MountOptions, key: &str, value: Option<&str>) -> Result<(), Box<Fault>> {
    let at = Origin::Option { name: shown(key) };
    let mut set =
        |key: &str, value: &str| options.settings.push((key.to_owned(), value.to_owned()));
    match (key, value) {
        ("ro", None) => set("mount.read_only", "true"),
        ("exec", None) => set("mount.exec", "true"),
        ("noexec", None) => set("mount.exec", "false"),
        ("allow_other", None) => set("mount.allow_other", "true"),
        ("allow_other", Some(value)) => set("mount.allow_other", value),
        ("config", Some(path)) => match PathBuf::from_text(path) {
            Ok(path) => options.config = Some(path),
            Err(Unfit { wanted, hint }) => {
                let found = quoted(path);
                return Err(Box::new(Fault {
                    key: "config".to_owned(),
                    at,
                    found,
                    wanted,
                    hint,
                }));
            }
        },
        ("models", Some(value)) => set("models_dir", value),
        ("cold" | "pool", Some(value)) => set(key, value),
        ("config" | "models" | "cold" | "pool", None) => return Err(without_value(key, at).into()),
        (key, value) => {
            let field = Config::field(key).filter(|field| !field.key.contains("[]"));
            let named = field.is_some() || key.starts_with("pool.");
            let flag = field.is_some_and(|field| field.kind == Kind::Switch);
            match value {
                _ if !named => return Err(unknown(key, at).into()),
                Some(value) => set(key, value),
                None if flag => set(key, "true"),
                None => return Err(without_value(key, at).into()),
            }
        }
    }
    Ok(())
}

/// An option's name as it may be printed.
fn shown(key: &str) -> String {
    key.chars().take(64).flat_map(char::escape_debug).collect()
}

fn without_value(key: &str, at: Origin) -> Fault {
    let example = match Config::field(key).map(|field: &'static Field| field.kind) {
        _ if key == "pool" => "SIZE, NAME:SIZE or NAME:SIZE:DIR",
        _ if key == "config" => "FILE",
        Some(Kind::Path) => "DIR",
        Some(_) => "VALUE",
        None => "DIR",
    };
    Fault {
        key: shown(key),
        at,
        found: "no value".to_owned(),
        wanted: format!("{}={example}", shown(key)),
        hint: None,
    }
}

fn unknown(key: &str, at: Origin) -> Fault {
    if key == "remount" {
        let hint = Some("unmount and mount, or change the configuration and reload".to_owned());
        return Fault {
            hint,
            ..unknown_option(key, &at)
        };
    }
    let ours = option_keys().into_iter();
    let hint = did_you_mean(key, ours.chain(IGNORED.iter().copied()));
    let fault = unknown_option(key, &at);
    Fault {
        hint: hint.or_else(|| fault.hint.clone()),
        ..fault
    }
}

/// Splits at commas; `\,` and `\\` stand for themselves, and quotes keep a value together.
fn split(text: &str) -> Vec<String> {
    let mut options = Vec::new();
    let mut option = String::new();
    let mut quoted = false;
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '\\' if matches!(chars.peek(), Some(',' | '\\' | '"')) => option.extend(chars.next()),
            '"' if quoted || option.ends_with('=') => quoted = !quoted,
            ',' if !quoted => options.push(std::mem::take(&mut option)),
            c => option.push(c),
        }
    }
    options.push(option);
    options.retain(|option| !option.is_empty());
    options
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn parsed(text: &str) -> MountOptions {
        parse_mount_options(text).unwrap_or_else(|faults| panic!("{text}: {faults}"))
    }

    fn settings(text: &str) -> Vec<(String, String)> {
        parsed(text).settings
    }

    fn pair(key: &str, value: &str) -> (String, String) {
        (key.to_owned(), value.to_owned())
    }

    #[test]
    fn ours_are_sorted_from_those_of_mount() {
        let options = parsed(
            "rw,config=/etc/s.toml,_netdev,nofail,x-systemd.automount,comment=a b,noauto,\
             models=/m,cold=/a:/b,cold=/c,pool=64GiB,pool=fast:1GiB:/p,policy.enabled=false,\
             user,nosuid,pool.fast.noswap=false,placement.pins.a:1=fast,http.enabled",
        );
        assert_eq!(options.config, Some(PathBuf::from("/etc/s.toml")));
        let expected = [
            ("models_dir", "/m"),
            ("cold", "/a:/b"),
            ("cold", "/c"),
            ("pool", "64GiB"),
            ("pool", "fast:1GiB:/p"),
            ("policy.enabled", "false"),
            ("pool.fast.noswap", "false"),
            ("placement.pins.a:1", "fast"),
            ("http.enabled", "true"),
        ];
        let expected: Vec<_> = expected
            .iter()
            .map(|(key, value)| pair(key, value))
            .collect();
        assert_eq!(options.settings, expected);
        assert_eq!(options.ignored.len(), 8);
    }

    #[test]
    fn the_later_of_ro_and_rw_wins() {
        let read_only = vec![pair("mount.read_only", "true")];
        assert_eq!(settings("rw,ro"), read_only);
        assert_eq!(settings("ro,rw"), vec![]);
    }

    #[test]
    fn commas_can_be_part_of_a_value() {
        assert_eq!(
            settings(r"models=/a\,b,cold=/c"),
            [pair("models_dir", "/a,b"), pair("cold", "/c")]
        );
        assert_eq!(
            settings(r#"models="/a,b",cold=/c"#),
            [pair("models_dir", "/a,b"), pair("cold", "/c")]
        );
        assert_eq!(
            settings(r"models=/a\\,,cold=/c\d"),
            [pair("models_dir", r"/a\"), pair("cold", r"/c\d")]
        );
        assert_eq!(settings(",,"), []);
    }

    #[test]
    fn every_wrong_option_is_named() {
        let text = "nofial,pol=1G,enabled=false,models,config=c.toml,remount,bogus=1";
        let faults = parse_mount_options(text).expect_err("all are wrong");
        let lines = faults.to_string();
        let expected = [
            "option nofial: found the unknown option \"nofial\", wanted an option of mount(8) or a key of the \
             configuration, such as `pool=64GiB`; did you mean `nofail`?",
            "option pol: found the unknown option \"pol\", wanted an option of mount(8) or a key of the \
             configuration, such as `pool=64GiB`; did you mean `pool`?",
            "option enabled: found the unknown option \"enabled\", wanted an option of mount(8) or a key of the \
             configuration, such as `pool=64GiB`",
            "option models: models: found no value, wanted models=DIR",
            "option config: config: found \"c.toml\", wanted an absolute path; write the full path from `/` on",
            "option remount: found the unknown option \"remount\", wanted an option of mount(8) or a key of the \
             configuration, such as `pool=64GiB`; unmount and mount, or change the configuration and reload",
            "option bogus: found the unknown option \"bogus\", wanted an option of mount(8) or a key of the \
             configuration, such as `pool=64GiB`",
        ];
        assert_eq!(lines.lines().collect::<Vec<_>>(), expected);
    }

    proptest! {
        #[test]
        fn no_text_panics(any in "\\PC*", near in "([a-z.]{0,6}[=,:\\\\\"/]{0,2}){0,12}") {
            let _ = parse_mount_options(&any);
            let _ = parse_mount_options(&near);
        }

        #[test]
        fn an_escaped_value_comes_through(value in "[^\0]{1,40}") {
            let escaped = value.replace('\\', r"\\").replace(',', r"\,").replace('"', "\\\"");
            prop_assert_eq!(settings(&format!("models={escaped},ro")), vec![
                pair("models_dir", &value),
                pair("mount.read_only", "true"),
            ]);
        }
    }
}
