//! All sources -> the effective configuration, or everything that is wrong with them.
//!
//! `load` is pure; `load_path` reads the one file. Nothing here reads the environment by itself.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::io::Read;
use std::path::{Path, PathBuf};

use crate::account::Account;
use crate::effective::{BLANKED, Config};
use crate::fault::{Fault, Faults, nearest, quoted};
use crate::legacy;
use crate::origin::{Lines, Origin};
use crate::overlay::set_option;
use crate::raw::{self, Raw};
use crate::validate::{MISSING, validate};

/// A configuration file is not larger than this, in bytes.
pub const FILE_LEN_MAX: u64 = 1 << 20;

/// What our variables begin with.
const PREFIX: &str = "SPEEDLOADER_";

/// Variables with our prefix that are not keys of the configuration: flags of the command line.
const VARIABLES_OF_COMMANDS: [&str; 2] = ["SPEEDLOADER_CONFIG", "SPEEDLOADER_SOCKET"];

/// A configuration file, read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct File {
    /// Its path, as faults name it.
    pub path: PathBuf,
    /// What is in it: TOML, or the JSON of the original Speedloader.
    pub contents: Vec<u8>,
}

/// Everything that a configuration is made of; later sources win.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sources {
    /// The file, if there is one.
    pub file: Option<File>,
    /// The environment; only `SPEEDLOADER_*` is looked at, and only what is not empty.
    pub environment: Vec<(OsString, OsString)>,
    /// Flags and mount options, in their order: a key, its text.
    pub options: Vec<(String, String)>,
    /// Who runs the program.
    pub account: Account,
}

/// Reads the file at this path and loads it together with the other sources; `sources.file` is replaced.
///
/// # Errors
/// All faults; one if the file cannot be read.
pub fn load_path(path: &Path, mut sources: Sources) -> Result<Config, Faults> {
    let contents = read_file(path).map_err(|(found, wanted)| Fault {
        key: String::new(),
        at: Origin::whole_file(&path.into()),
        found,
        wanted: wanted.to_owned(),
        hint: None,
    })?;
    sources.file = Some(File {
        path: path.to_owned(),
        contents,
    });
    load(&sources)
}

fn read_file(path: &Path) -> Result<Vec<u8>, (String, &'static str)> {
    let readable = "a file that can be read";
    let failed = |error: std::io::Error| (format!("none that can be read ({error})"), readable);
    let meta = std::fs::metadata(path).map_err(failed)?;
    if !meta.is_file() {
        return Err(("something that is not a file".to_owned(), readable));
    }
    let file = std::fs::File::open(path).map_err(failed)?;
    let mut contents = Vec::new();
    file.take(FILE_LEN_MAX + 1)
        .read_to_end(&mut contents)
        .map_err(failed)?;
    if contents.len() as u64 > FILE_LEN_MAX {
        return Err((
            "more than 1MiB".to_owned(),
            "a configuration of at most 1MiB",
        ));
    }
    Ok(contents)
}

/// Loads a configuration from its sources.
///
/// # Errors
/// All faults, in the order of their places.
pub fn load(sources: &Sources) -> Result<Config, Faults> {
    let mut faults = Faults::default();
    let mut raw = match &sources.file {
        Some(file) => raw_file(file, &mut faults),
        None => Raw::new(Origin::Default),
    };
    let broken = broken_lines(&faults);
    let warnings = apply_environment(&mut raw, &sources.environment, &mut faults);
    apply_options(&mut raw, &sources.options, &mut faults);
    let mut judged = Faults::default();
    let config = validate(&raw, &sources.account, &mut judged);
    // What is guessed of a line that is no TOML is not worth a second fault.
    judged
        .faults
        .retain(|fault| line_of(&fault.at).is_none_or(|line| !broken.contains(&line)));
    faults.absorb(judged);
    drop_consequences(&mut faults, &broken);
    faults.sort();
    match config {
        Some(config) if faults.is_empty() => Ok(Config { warnings, ..config }),
        _ => Err(faults),
    }
}

/// Loads a configuration again from the text that [`show`](crate::show) has made of it: without its secrets.
///
/// # Errors
/// All faults, if it was another version's.
pub fn load_shown(text: &str, account: Account) -> Result<Config, Faults> {
    let secret = format!(" = {BLANKED}");
    let lines = text.lines().filter(|line| !line.ends_with(&secret));
    load(&Sources {
        file: Some(File {
            path: "the configuration in effect".into(),
            contents: lines.collect::<Vec<_>>().join("\n").into_bytes(),
        }),
        account,
        ..Sources::default()
    })
}

fn raw_file(file: &File, faults: &mut Faults) -> Raw {
    let text = match std::str::from_utf8(&file.contents) {
        Ok(text) => text,
        Err(error) => {
            let good = &file.contents[..error.valid_up_to()];
            let good = std::str::from_utf8(good).unwrap_or("");
            let lines = Lines::new(&file.path, good);
            faults.push(Fault {
                key: String::new(),
                at: lines.at(good.len()),
                found: "a byte that is not UTF-8".to_owned(),
                wanted: "a text in UTF-8".to_owned(),
                hint: None,
            });
            return Raw::new(lines.whole());
        }
    };
    let lines = Lines::new(&file.path, text);
    if text.trim_start().starts_with('{') {
        legacy::from_json(&lines, faults)
    } else {
        raw::from_toml(&lines, faults)
    }
}

fn line_of(at: &Origin) -> Option<u32> {
    match at {
        Origin::File { line, .. } if *line > 0 => Some(*line),
        _ => None,
    }
}

/// Lines with a syntax error: faults that name no key.
fn broken_lines(faults: &Faults) -> BTreeSet<u32> {
    faults
        .faults
        .iter()
        .filter(|f| f.key.is_empty())
        .filter_map(|f| line_of(&f.at))
        .collect()
}

/// A mistake is one fault: what is guessed of a line that is no TOML is not worth a second one, nor is a key that is
/// missing because the text is broken or because it is misspelt.
fn drop_consequences(faults: &mut Faults, broken: &BTreeSet<u32>) {
    let is_broken = faults.faults.iter().any(|fault| fault.key.is_empty());
    let hints: Vec<String> = faults
        .faults
        .iter()
        .filter_map(|f| f.hint.clone())
        .collect();
    faults.faults.retain(|fault| {
        let name = fault.key.rsplit('.').next().unwrap_or(&fault.key);
        let misspelt = || hints.contains(&format!("did you mean `{name}`?"));
        let on_broken_line = line_of(&fault.at).is_some_and(|line| broken.contains(&line));
        let missing = fault.found == MISSING;
        fault.key.is_empty() || !(on_broken_line || missing && (is_broken || misspelt()))
    });
}

/// Sets what the variables say. One that is nearly a known one is a fault; of others that nobody knows there are warnings,
/// because others (Kubernetes, for a service of our name) invent some.
fn apply_environment(
    raw: &mut Raw,
    environment: &[(OsString, OsString)],
    faults: &mut Faults,
) -> Vec<Fault> {
    let mut warnings = Vec::new();
    let mut lists_of = Vec::new();
    for (name, value) in environment {
        let Some(name) = name.to_str().filter(|name| name.starts_with(PREFIX)) else {
            continue;
        };
        if VARIABLES_OF_COMMANDS.contains(&name) {
            continue;
        }
        let at = Origin::Environment {
            name: name.to_owned(),
        };
        let Some(key) = key_of_variable(name) else {
            match unknown_variable(name, at) {
                misspelt if misspelt.hint.is_some() => faults.push(misspelt),
                unknown => warnings.push(unknown),
            }
            continue;
        };
        // As is the custom, an empty variable is one that is not set.
        if value.is_empty() {
            continue;
        }
        let Some(text) = value.to_str() else {
            let (key, found) = (key.to_owned(), "bytes that are not UTF-8".to_owned());
            faults.push(Fault {
                key,
                at,
                found,
                wanted: "a text in UTF-8".to_owned(),
                hint: None,
            });
            continue;
        };
        if let Err(fault) = set_option(raw, key, text, &at, &mut lists_of) {
            faults.push(*fault);
        }
    }
    warnings
}

/// The keys that variables set, and the names of those variables.
fn variables() -> impl Iterator<Item = (String, &'static str)> {
    let lists = ["cold", "pool"].into_iter();
    let lists = lists.map(|key| (format!("SPEEDLOADER_{}", key.to_uppercase()), key));
    let fields = Config::fields().iter();
    lists.chain(fields.filter_map(|field| field.variable().map(|name| (name, field.key))))
}

fn key_of_variable(name: &str) -> Option<&'static str> {
    variables()
        .find(|(known, _)| known == name)
        .map(|(_, key)| key)
}

fn unknown_variable(name: &str, at: Origin) -> Fault {
    let known: Vec<String> = variables().map(|(name, _)| name).collect();
    // What all have in common makes none of them alike.
    let rest = |name: &str| name.trim_start_matches(PREFIX).to_owned();
    let known: Vec<String> = known.iter().map(|name| rest(name)).collect();
    let meant = nearest(&rest(name), known.iter().map(String::as_str));
    Fault {
        key: String::new(),
        at,
        found: format!("the unknown variable {}", quoted(name)),
        wanted: "SPEEDLOADER_ and a key, such as SPEEDLOADER_HTTP_LISTEN".to_owned(),
        hint: meant.map(|meant| format!("did you mean `{PREFIX}{meant}`?")),
    }
}

fn apply_options(raw: &mut Raw, options: &[(String, String)], faults: &mut Faults) {
    let mut lists_of = Vec::new();
    for (key, text) in options {
        let at = Origin::Option { name: key.clone() };
        if let Err(fault) = set_option(raw, key, text, &at, &mut lists_of) {
            faults.push(*fault);
        }
    }
}
