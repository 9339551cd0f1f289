//! GGUF files and split sets wherever they lie: plain directories, LM Studio's
//! `PUBLISHER/MODEL/FILE.gguf`, llama.cpp's cache with its manifests, and snapshots of the hub cache.

use super::Build;
use super::hub::{Snapshots, revision_of};
use crate::models::catalog::{Draft, Member, shown};
use crate::models::entries::join;
use crate::models::facts::{Facts, Format};
use crate::models::gguf::{self, GgufFacts, is_projector, quantisation, split_name};
use crate::models::huggingface::{FetchedFacts, fetched_name};
use crate::models::model::{Kind, Role};
use std::collections::{BTreeMap, HashMap};

pub(super) fn find(build: &mut Build<'_>) {
    let mut snapshots = Snapshots::default();
    for directory in 0..build.entries.directories() {
        let entries = build.in_directory(directory);
        let mut sets = Sets::new();
        let mut fetched = Vec::new();
        for entry in entries {
            let name = build.entries.name(entry);
            if let Some(parts) = split_name(name) {
                let key = (
                    parts.stem.to_vec(),
                    parts.split.map_or(0, |(_, count)| count),
                );
                let number = parts.split.map_or(1, |(number, _)| number);
                if build.entries.real(entry).is_some() {
                    sets.entry(key).or_default().insert(number, entry);
                }
            } else if fetched_name(name).is_some() {
                fetched.push(entry);
            }
        }
        let path = build.entries.directory_path(directory).to_vec();
        let drafts = drafts_of(build, &path, sets, &fetched);
        for draft in drafts {
            match revision_of(&path) {
                Some((repository, revision)) => snapshots.add(build, repository, revision, draft),
                None => build.add(draft),
            }
        }
    }
    snapshots.finish(build);
}

/// Missing splits that are looked for; a draft names fewer.
const SPLITS_NAMED: usize = 32;
/// A directory with more projectors than this is no model with its projectors.
const PROJECTORS_MAX: usize = 8;
/// A projector whose name fits no model belongs to all of its directory, unless they are more.
const SIBLINGS_MAX: usize = 32;

/// (stem, number of splits or 0) -> split number -> entry.
type Sets = BTreeMap<(Vec<u8>, u32), BTreeMap<u32, u32>>;

/// The models of one directory.
fn drafts_of(build: &mut Build<'_>, directory: &[u8], sets: Sets, fetched: &[u32]) -> Vec<Draft> {
    let (projectors, models): (Vec<_>, Vec<_>) = sets
        .into_iter()
        .partition(|((stem, _), _)| is_projector(stem));
    let stems: Vec<Vec<u8>> = models
        .iter()
        .map(|((stem, _), _)| stem.to_ascii_lowercase())
        .collect();
    let mut drafts: Vec<Draft> = models
        .into_iter()
        .map(|(key, splits)| draft_of(build, directory, &key, &splits))
        .collect();
    let count = projectors.len();
    let alone = stems.is_empty() || count > PROJECTORS_MAX;
    for (key, splits) in projectors {
        if alone {
            drafts.push(draft_of(build, directory, &key, &splits));
            continue;
        }
        let family = family_of(&key.0);
        let fits = |stem: &Vec<u8>| !family.is_empty() && stem.starts_with(&family);
        let chosen = stems.iter().any(fits);
        for (draft, stem) in drafts.iter_mut().zip(&stems) {
            if fits(stem) || (!chosen && stems.len() <= SIBLINGS_MAX) {
                draft
                    .members
                    .extend(members(build, &splits, Role::Projector));
            }
        }
    }
    let by_stem: HashMap<String, usize> = drafts
        .iter()
        .enumerate()
        .map(|(place, draft)| (draft.name.clone(), place))
        .collect();
    for entry in fetched {
        name_fetched(build, *entry, &mut drafts, &by_stem);
    }
    drafts
}

/// What a projector's name says about its model: `mmproj-Qwen2-VL-F16` -> `qwen2-vl`.
fn family_of(stem: &[u8]) -> Vec<u8> {
    // Words that say something about the projector instead.
    const OWN: [&str; 7] = ["f16", "bf16", "f32", "q8_0", "q8", "0", "model"];
    let stem = stem.to_ascii_lowercase();
    let family = match stem.windows(6).position(|part| part == b"mmproj") {
        Some(0) => &stem[6..],
        Some(at) => &stem[..at],
        None => &stem,
    };
    let is_separator = |byte: &u8| b"-_.".contains(byte);
    let start = family
        .iter()
        .position(|byte| !is_separator(byte))
        .unwrap_or(family.len());
    let mut family = &family[start..];
    loop {
        let end = family
            .iter()
            .rposition(|byte| !is_separator(byte))
            .map_or(0, |last| last + 1);
        family = &family[..end];
        let tail = family.rsplit(is_separator).next().unwrap_or_default();
        if tail.is_empty() || !OWN.iter().any(|word| word.as_bytes() == tail) {
            return family.to_vec();
        }
        family = &family[..family.len() - tail.len()];
    }
}

fn draft_of(
    build: &mut Build<'_>,
    directory: &[u8],
    (stem, count): &(Vec<u8>, u32),
    splits: &BTreeMap<u32, u32>,
) -> Draft {
    let file = match count {
        0 => [&stem[..], b".gguf"].concat(),
        count => [&stem[..], format!("-00001-of-{count:05}.gguf").as_bytes()].concat(),
    };
    let mut draft = Draft::new(shown(stem), Kind::Gguf, join(directory, &file));
    let role = if is_projector(stem) {
        Role::Projector
    } else {
        Role::Weights
    };
    draft.members.extend(members(build, splits, role));
    // A count comes from a name, so the search ends where the list does.
    for number in (1..=*count)
        .filter(|number| !splits.contains_key(number))
        .take(SPLITS_NAMED)
    {
        draft.miss(|| format!("{}-{number:05}-of-{count:05}.gguf", shown(stem)));
    }
    for (number, entry) in splits {
        read_header(build, *number == 1 || splits.len() == 1, *entry, &mut draft);
    }
    if !draft.missing.is_empty() {
        draft.details.parameters = None;
    }
    if draft.details.quantisation.is_none() {
        draft.details.quantisation = quantisation_in(&draft.name).map(str::to_owned);
    }
    draft
}

fn members(build: &Build<'_>, splits: &BTreeMap<u32, u32>, role: Role) -> Vec<Member> {
    let real = splits
        .values()
        .filter_map(|entry| build.entries.real(*entry));
    real.map(|entry| Member { entry, role }).collect()
}

fn read_header(build: &mut Build<'_>, is_first: bool, entry: u32, draft: &mut Draft) {
    let Some(real) = build.entries.real(entry) else {
        return;
    };
    match build.facts(real, Format::Gguf).as_deref() {
        Ok(Facts::Gguf(header)) => {
            if header.truncated {
                let name = shown(build.entries.name(entry));
                draft
                    .faults
                    .push(format!("{name} ends before its last tensor"));
            }
            note_header(header, is_first, draft);
        }
        Ok(_) => {}
        Err(problem) => {
            let name = shown(build.entries.name(entry));
            draft.faults.push(format!("{name}: {problem}"));
        }
    }
}

fn note_header(header: &GgufFacts, is_first: bool, draft: &mut Draft) {
    let details = &mut draft.details;
    // Every split counts its own weights, unless the first knows the sum.
    details.parameters = match (details.parameters, header.parameters) {
        (Some(sum), Some(more)) => Some(sum.saturating_add(more)),
        (sum, more) => sum.or(more),
    };
    if !is_first {
        return;
    }
    details.architecture = header.architecture.as_deref().map(str::to_owned);
    details.quantisation = header
        .file_type
        .and_then(gguf::quantisation)
        .map(str::to_owned);
    details.context = header.context;
    let role = match header.purpose.as_deref() {
        Some("adapter") => Role::Adapter,
        Some("mmproj") => Role::Projector,
        _ => return,
    };
    draft
        .members
        .iter_mut()
        .for_each(|member| member.role = role);
}

/// The quantisation that a file name ends in, as it does by custom.
fn quantisation_in(name: &str) -> Option<&'static str> {
    let tail = name.rsplit(['-', '.']).next()?;
    (0..64)
        .filter_map(quantisation)
        .find(|kind| kind.eq_ignore_ascii_case(tail))
}

/// Gives a model of llama.cpp's cache the name under which it was fetched, and its projector.
fn name_fetched(
    build: &mut Build<'_>,
    entry: u32,
    drafts: &mut [Draft],
    by_stem: &HashMap<String, usize>,
) {
    let name = build.entries.name(entry).to_vec();
    let Some((org, model, tag)) = fetched_name(&name) else {
        return;
    };
    let Some(real) = build.entries.real(entry) else {
        return;
    };
    let Ok(facts) = build.facts(real, Format::Fetched) else {
        return;
    };
    let Facts::Fetched(FetchedFacts {
        model: Some(file),
        projector,
    }) = &*facts
    else {
        return;
    };
    let stored = |file: &str| format!("{org}_{model}_{}", file.replace('/', "_"));
    let stem_of = |file: &str| {
        let stored = stored(file);
        split_name(stored.as_bytes()).map(|parts| shown(parts.stem))
    };
    let Some(stem) = stem_of(file) else { return };
    let Some(draft) = by_stem.get(&stem).and_then(|place| drafts.get_mut(*place)) else {
        return;
    };
    if let Some(projector) = projector {
        let path = join(
            build.entries.directory_path(build.entries.directory(entry)),
            stored(projector).as_bytes(),
        );
        match build.entries.lookup(&path) {
            Some(entry) => draft.members.push(Member {
                entry,
                role: Role::Projector,
            }),
            None => draft.miss(|| stored(projector)),
        }
    }
    // The same file may have been fetched under several names; it is called by one, and found by each.
    draft.name = format!("{org}/{model}:{tag}");
    let names = [stem, format!("{org}/{model}"), draft.name.clone()];
    draft.aliases.extend(names);
    draft.members.push(Member {
        entry: real,
        role: Role::Manifest,
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_projector_names_its_family() {
        let table = [
            ("mmproj-Qwen2-VL-F16", "qwen2-vl"),
            ("mmproj-model-f16", ""),
            ("mmproj-Q8_0", ""),
            ("gemma-3-4b-it.mmproj-f16", "gemma-3-4b-it"),
            ("mmproj", ""),
            ("llava-mmproj", "llava"),
        ];
        for (name, family) in table {
            assert_eq!(shown(&family_of(name.as_bytes())), family, "{name}");
        }
        assert_eq!(quantisation_in("Llama-3.2-3B-q4_k_m"), Some("Q4_K_M"));
        assert_eq!(quantisation_in("Llama-3.2-3B.F16"), Some("F16"));
        assert_eq!(quantisation_in("Llama"), None);
    }
}
