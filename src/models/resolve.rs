//! From what somebody types to models: names, tags, paths, directories, globs.
//!
//! The first way of reading a query that matches anything wins; the ways are tried from the most
//! exact to the least. Nothing is guessed: what only resembles the query is a suggestion.

use super::catalog::Catalog;
use super::entries::split_path;
use super::gguf::split_name;
use super::model::{FileIndex, Kind, ModelIndex, ModelRef, Role};
use super::ollama::{with_default_tag, without_registry};
use globset::{GlobBuilder, GlobMatcher};
use std::borrow::Cow;
use std::ffi::OsStr;
use std::fmt;
use std::os::unix::ffi::OsStrExt;

/// Longer queries match nothing.
const QUERY_BYTES_MAX: usize = 4_096;
const SUGGESTIONS_MAX: usize = 3;
/// How alike a name must be to be suggested, 1 being equal.
const LIKENESS_MIN: f64 = 0.6;

/// A query that no model matches. What may have been meant is not in its text, but beside it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NoMatch {
    /// As it was asked.
    pub query: String,
    /// Names of models that resemble it, the likest first.
    pub suggestions: Vec<String>,
}

impl fmt::Display for NoMatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let query = super::catalog::shown(self.query.as_bytes());
        write!(f, "no model matches `{query}`")
    }
}

impl std::error::Error for NoMatch {}

impl Catalog {
    /// The models, or single files, that a query means: never an empty list.
    ///
    /// # Errors
    /// [`NoMatch`] with the names that resemble it.
    pub fn resolve(&self, query: &str) -> Result<Vec<ModelRef>, NoMatch> {
        let plain = plain_query(query);
        let found = if query.len() > QUERY_BYTES_MAX {
            Vec::new()
        } else {
            self.matches(plain)
        };
        if found.is_empty() {
            let suggestions = self.suggestions(plain);
            return Err(NoMatch {
                query: query.to_owned(),
                suggestions,
            });
        }
        Ok(found)
    }

    /// The same for a query that need not be text. What only bytes can say is the path of a file.
    ///
    /// # Errors
    /// As [`Catalog::resolve`].
    pub fn resolve_bytes(&self, query: &[u8]) -> Result<Vec<ModelRef>, NoMatch> {
        let text = String::from_utf8_lossy(query);
        let found = match &text {
            Cow::Borrowed(text) => self.resolve(text),
            Cow::Owned(text) => Err(NoMatch {
                query: text.clone(),
                suggestions: Vec::new(),
            }),
        };
        // Blanks around a name are nobody's business but the file's whose name has them.
        found.or_else(|none| match self.entries.lookup(query) {
            Some(entry) if query.len() <= QUERY_BYTES_MAX => Ok(self.at_path(query, entry)),
            _ => Err(none),
        })
    }

    fn matches(&self, query: &str) -> Vec<ModelRef> {
        let as_models = |found: Vec<ModelIndex>| found.into_iter().map(ModelRef::Model).collect();
        if query.is_empty() {
            return Vec::new();
        }
        let named = self.named(query);
        if !named.is_empty() {
            return as_models(named);
        }
        if let Some(entry) = self.entries.lookup(query.as_bytes()) {
            return self.at_path(query.as_bytes(), entry);
        }
        let stem = self.with_file_name(query);
        if !stem.is_empty() {
            return as_models(stem);
        }
        let below = self.below(query);
        if !below.is_empty() {
            return below;
        }
        let globbed = self.globbed(query);
        if !globbed.is_empty() {
            return globbed;
        }
        as_models(self.all(|index| self.plain_name(index).eq_ignore_ascii_case(query)))
    }

    /// Every model that a name, path or pattern means in any way. Of these ways [`Catalog::resolve`] takes the most exact
    /// that finds any; then one model more could be found instead of others, which a rule must go on holding for.
    pub fn all_meant(&self, query: &str) -> Vec<ModelIndex> {
        let query = plain_query(query);
        if query.is_empty() || query.len() > QUERY_BYTES_MAX {
            return Vec::new();
        }
        let mut found = self.named(query);
        found.extend(self.completed(query));
        found.extend(self.with_file_name(query));
        if let Some(entry) = self.entries.lookup(query.as_bytes()) {
            found.extend(self.models_of(self.entries.file(entry)));
        }
        // A directory may be called as a model that is meant.
        if query.contains('/') {
            found.extend(self.below(query).iter().filter_map(model_of));
        }
        if let Some(pattern) = Pattern::new(query) {
            found.extend(self.named_like(&pattern));
            found.extend(self.with_weights_like(&pattern));
        }
        found.sort_unstable();
        found.dedup();
        found
    }

    fn all(&self, matches: impl Fn(ModelIndex) -> bool) -> Vec<ModelIndex> {
        self.indices().filter(|index| matches(*index)).collect()
    }

    /// Models of this name: unique, plain, by another name, or as Ollama completes it.
    fn named(&self, query: &str) -> Vec<ModelIndex> {
        if let Some(index) = self
            .find(query)
            .filter(|index| self.plain_name(*index) != query)
        {
            return vec![index];
        }
        let mut found = self.all(|index| self.plain_name(index) == query);
        let start = self.aliases.partition_point(|(alias, _)| **alias < *query);
        let aliased = self.aliases[start..]
            .iter()
            .take_while(|(alias, _)| **alias == *query);
        found.extend(aliased.map(|(_, index)| *index));
        found.sort_unstable();
        found.dedup();
        match found.is_empty() {
            true => self.completed(query),
            false => found,
        }
    }

    /// Tags of Ollama by what it completes the query to.
    fn completed(&self, query: &str) -> Vec<ModelIndex> {
        let short = without_registry(query);
        let tagged = with_default_tag(short);
        self.all(|index| {
            let name = self.plain_name(index);
            let is_named = name == short || tagged.as_deref() == Some(name);
            self.kind(index) == Kind::Ollama && is_named
        })
    }

    /// What a path means: the whole model where the file stands for it, else the file alone.
    fn at_path(&self, query: &[u8], entry: u32) -> Vec<ModelRef> {
        let is_gguf = split_name(split_path(query).1).is_some();
        let stands_for = |index: &ModelIndex| {
            self.members(*index).iter().any(|member| {
                member.entry == entry
                    && match self.kind(*index) {
                        Kind::Gguf => is_gguf,
                        Kind::Ollama => member.role == Role::Manifest,
                        _ => false,
                    }
            })
        };
        let owners = self.models_of(self.entries.file(entry)).iter().copied();
        let models: Vec<_> = owners.filter(stands_for).map(ModelRef::Model).collect();
        if models.is_empty() {
            vec![ModelRef::File(FileIndex(entry))]
        } else {
            models
        }
    }

    /// GGUF models by the name of a file, with or without ending and split number.
    fn with_file_name(&self, query: &str) -> Vec<ModelIndex> {
        let bytes = query.as_bytes();
        let (directory, name) = split_path(bytes);
        let stem = split_name(name).map_or(name, |parts| parts.stem);
        self.all(|index| {
            if directory.is_empty() && self.plain_name(index).as_bytes() == stem {
                return true;
            }
            self.kind(index) == Kind::Gguf
                && self.members(index).iter().any(|member| {
                    let parts = split_name(self.entries.name(member.entry));
                    member.role.is_tensors()
                        && parts.is_some_and(|parts| parts.stem == stem)
                        && (directory.is_empty()
                            || ends_with_path(
                                self.entries
                                    .directory_path(self.entries.directory(member.entry)),
                                directory,
                            ))
                })
        })
    }

    /// The models whose weights lie below a directory; without any, its files.
    fn below(&self, query: &str) -> Vec<ModelRef> {
        let prefix = format!("{query}/").into_bytes();
        // Links count for what they lead to: a revision in a hub cache is nothing but links.
        let mut below: Vec<u32> = (0..self.entries.len())
            .filter(|entry| {
                let path = self.entries.directory_path(self.entries.directory(*entry));
                path == query.as_bytes() || path.starts_with(&prefix)
            })
            .filter_map(|entry| self.entries.real(entry))
            .collect();
        below.sort_unstable();
        below.dedup();
        let is_below = |entry: u32| below.binary_search(&entry).is_ok();
        let found = self.all(|index| {
            let tensors = self
                .members(index)
                .iter()
                .filter(|member| member.role.is_tensors());
            tensors.map(|member| member.entry).any(is_below)
        });
        if found.is_empty() {
            return below
                .into_iter()
                .map(|entry| ModelRef::File(FileIndex(entry)))
                .collect();
        }
        found.into_iter().map(ModelRef::Model).collect()
    }

    fn regular_files(&self, matches: impl Fn(u32) -> bool) -> Vec<ModelRef> {
        let files = (0..self.entries.len()).filter(|entry| self.entries.is_regular(*entry));
        files
            .filter(|entry| matches(*entry))
            .map(|i| ModelRef::File(FileIndex(i)))
            .collect()
    }

    /// What a pattern matches: names first, then paths of weights, then paths of any files.
    fn globbed(&self, query: &str) -> Vec<ModelRef> {
        let Some(pattern) = Pattern::new(query) else {
            return Vec::new();
        };
        let mut found = self.named_like(&pattern);
        if found.is_empty() {
            found = self.with_weights_like(&pattern);
        }
        if found.is_empty() {
            return self.regular_files(|entry| pattern.is_path(&self.entries.path(entry)));
        }
        found.into_iter().map(ModelRef::Model).collect()
    }

    fn named_like(&self, pattern: &Pattern) -> Vec<ModelIndex> {
        let mut found = self.all(|index| pattern.names.is_match(self.plain_name(index)));
        let aliased = self
            .aliases
            .iter()
            .filter(|(alias, _)| pattern.names.is_match(&**alias));
        found.extend(aliased.map(|(_, index)| *index));
        found.sort_unstable();
        found.dedup();
        found
    }

    fn with_weights_like(&self, pattern: &Pattern) -> Vec<ModelIndex> {
        self.all(|index| {
            let tensors = self
                .members(index)
                .iter()
                .filter(|member| member.role.is_tensors());
            tensors
                .map(|member| self.entries.path(member.entry))
                .any(|path| pattern.is_path(&path))
        })
    }

    fn suggestions(&self, query: &str) -> Vec<String> {
        let wanted = query
            .get(..QUERY_BYTES_MAX.min(256))
            .unwrap_or(query)
            .to_lowercase();
        if wanted.is_empty() || wanted.len() > 256 {
            return Vec::new();
        }
        let names = self.indices().map(|index| self.plain_name(index));
        let mut alike: Vec<(f64, &str)> = names
            .chain(self.aliases.iter().map(|(alias, _)| &**alias))
            .filter(|name| !name.is_empty() && name.len() <= 256)
            .map(|name| name.strip_suffix(":latest").unwrap_or(name))
            .map(|name| (likeness(&wanted, &name.to_lowercase()), name))
            .filter(|(likeness, _)| *likeness >= LIKENESS_MIN)
            .collect();
        alike.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(b.1)));
        let mut names: Vec<String> = Vec::new();
        for (_, name) in alike {
            if !names.iter().any(|known| known == name) && names.len() < SUGGESTIONS_MAX {
                names.push(name.to_owned());
            }
        }
        names
    }
}

/// A query that is one, as it is about names and about paths.
struct Pattern {
    names: GlobMatcher,
    paths: GlobMatcher,
    has_directory: bool,
}

impl Pattern {
    fn new(query: &str) -> Option<Pattern> {
        let glob = |crosses: bool| -> Option<GlobMatcher> {
            let mut builder = GlobBuilder::new(query);
            let glob = builder.literal_separator(!crosses).build().ok()?;
            Some(glob.compile_matcher())
        };
        if !query.contains(['*', '?', '[', '{']) {
            return None;
        }
        Some(Pattern {
            names: glob(true)?,
            paths: glob(false)?,
            has_directory: query.contains('/'),
        })
    }

    fn is_path(&self, path: &[u8]) -> bool {
        // Without a directory in it a pattern is about names of files, as for `find -name`.
        let name = match self.has_directory {
            true => path,
            false => split_path(path).1,
        };
        self.paths.is_match(OsStr::from_bytes(name))
    }
}

fn model_of(found: &ModelRef) -> Option<ModelIndex> {
    match found {
        ModelRef::Model(index) => Some(*index),
        ModelRef::File(_) => None,
    }
}

/// Leading `./` and `/` and trailing `/` say nothing about a model.
fn plain_query(query: &str) -> &str {
    let mut plain = query.trim();
    while let Some(rest) = plain.strip_prefix("./").or_else(|| plain.strip_prefix('/')) {
        plain = rest;
    }
    plain.trim_end_matches('/')
}

fn ends_with_path(path: &[u8], end: &[u8]) -> bool {
    path == end
        || path
            .strip_suffix(end)
            .is_some_and(|rest| rest.ends_with(b"/"))
}

/// 1 for equal, 0 for nothing in common; swapped neighbours count as one difference.
fn alike(a: &str, b: &str) -> f64 {
    let (short, long) = (a.len().min(b.len()), a.len().max(b.len()));
    // The distance is at least the difference in length: most names end here. Lengths are at most
    // a few hundred, so the numbers are exact.
    if short * 10 < long * 6 {
        return 0.0;
    }
    let distance = u32::try_from(strsim::osa_distance(a, b)).unwrap_or(u32::MAX);
    1.0 - f64::from(distance) / f64::from(u32::try_from(long).unwrap_or(u32::MAX).max(1))
}

/// Likeness of a query and a name: as they are, or of the part of the name without its tag or its
/// publisher, which people leave out.
fn likeness(query: &str, name: &str) -> f64 {
    let whole = alike(query, name);
    let base = name.rsplit('/').next().unwrap_or(name);
    let untagged = base.split([':', '@']).next().unwrap_or(base);
    let parts = [base, untagged]
        .into_iter()
        .filter(|part| part.len() < name.len());
    // A little less than the same likeness of the whole name.
    parts
        .map(|part| 0.95 * alike(query, part))
        .fold(whole, f64::max)
}
