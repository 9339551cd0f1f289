//! The catalog: every model of the tree, which files it has, and which models a file has.
//!
//! A catalog never changes; a newer one is built beside it. It holds positions instead of paths and
//! shares what is equal, because a tree of 100,000 files must fit into a small daemon:
//! [`Catalog::model`] makes the readable [`Model`] of one on demand.

use super::entries::Entries;
use super::facts::FactTable;
use super::model::{Details, FileIndex, Kind, Model, ModelFile, ModelIndex, ModelRef, Role};
use super::ollama;
use speedloader_fs::rel_path::is_hidden;
use std::collections::HashMap;

/// Every model of a tree.
#[derive(Debug, Default)]
pub struct Catalog {
    pub(super) entries: Entries,
    pub(super) facts: FactTable,
    models: Vec<Stored>,
    members: Vec<Member>,
    text: String,
    places: Vec<u8>,
    details: Vec<Details>,
    notes: Vec<Notes>,
    /// Other names, sorted, each with a model.
    pub(super) aliases: Vec<(Box<str>, ModelIndex)>,
    owned_files: Vec<u64>,
    owner_starts: Vec<u32>,
    owners: Vec<ModelIndex>,
    reads: usize,
}

#[derive(Debug)]
struct Stored {
    name: (u32, u32),
    plain_name: (u32, u32),
    place: (u32, u32),
    members: (u32, u32),
    details: u32,
    notes: Option<u32>,
    kind: Kind,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Member {
    pub(super) entry: u32,
    pub(super) role: Role,
}

#[derive(Debug)]
struct Notes {
    missing: Box<[String]>,
    faults: Box<[String]>,
}

/// A model as the builder found it.
#[derive(Debug)]
pub(super) struct Draft {
    pub(super) name: String,
    pub(super) kind: Kind,
    /// See [`Catalog::place`].
    pub(super) place: Vec<u8>,
    pub(super) members: Vec<Member>,
    pub(super) details: Details,
    pub(super) missing: Vec<String>,
    pub(super) faults: Vec<String>,
    pub(super) aliases: Vec<String>,
}

/// As many missing files of a model are named; what is missing may be what a file claims.
const MISSING_MAX: usize = 16;

impl Draft {
    /// Notes a file that should be there.
    pub(super) fn miss(&mut self, name: impl FnOnce() -> String) {
        if self.missing.len() < MISSING_MAX {
            let name = name();
            if !self.missing.contains(&name) {
                self.missing.push(name);
            }
        } else if self.missing.len() == MISSING_MAX {
            self.missing.push("and more".to_owned());
        }
    }

    pub(super) fn new(name: String, kind: Kind, place: Vec<u8>) -> Self {
        Self {
            name,
            kind,
            place,
            members: Vec::new(),
            details: Details::default(),
            missing: Vec::new(),
            faults: Vec::new(),
            aliases: Vec::new(),
        }
    }
}

impl Catalog {
    /// Number of models.
    pub fn len(&self) -> usize {
        self.models.len()
    }

    /// Whether there is no model at all.
    pub fn is_empty(&self) -> bool {
        self.models.is_empty()
    }

    /// All models, by name.
    pub fn indices(&self) -> impl Iterator<Item = ModelIndex> + use<> {
        (0..position(self.models.len())).map(ModelIndex)
    }

    /// Name of a model: unique here. It changes when another model of the same name comes or goes.
    pub fn name(&self, index: ModelIndex) -> &str {
        self.stored(index)
            .map_or("", |model| self.text_of(model.name))
    }

    /// Its name before it was told apart from others of the same name.
    pub fn plain_name(&self, index: ModelIndex) -> &str {
        self.stored(index)
            .map_or("", |model| self.text_of(model.plain_name))
    }

    /// Where a model is in the tree, which tells it from all others whatever they are called: the path of a tag's
    /// manifest, of a GGUF file (of splits, the first's), of a directory; of what is in a hub cache the repository's,
    /// and the name in it.
    pub fn place(&self, index: ModelIndex) -> &[u8] {
        let place = self
            .stored(index)
            .and_then(|model| self.places.get(range(model.place)));
        place.unwrap_or_default()
    }

    /// How a model is stored.
    pub fn kind(&self, index: ModelIndex) -> Kind {
        self.stored(index).map_or(Kind::File, |model| model.kind)
    }

    /// The model of exactly this name, as [`Catalog::name`] gives it.
    pub fn find(&self, name: &str) -> Option<ModelIndex> {
        let found = self
            .models
            .binary_search_by(|model| self.text_of(model.name).cmp(name));
        found.ok().map(|index| ModelIndex(position(index)))
    }

    /// Identity, bytes and role of the files of a model, without making a [`Model`].
    pub fn files(&self, index: ModelIndex) -> impl Iterator<Item = (u64, u64, Role)> + '_ {
        self.members(index).iter().map(|member| {
            (
                self.entries.file(member.entry),
                self.entries.size(member.entry),
                member.role,
            )
        })
    }

    /// Bytes of all files of a model.
    pub fn size_bytes(&self, index: ModelIndex) -> u64 {
        self.files(index)
            .fold(0, |sum, (_, size, _)| sum.saturating_add(size))
    }

    /// The model that a query was resolved to; `None` for a reference of another catalog.
    pub fn model(&self, reference: ModelRef) -> Option<Model> {
        match reference {
            ModelRef::Model(index) => self.catalogued(index),
            ModelRef::File(FileIndex(entry)) => self.single(entry),
        }
    }

    fn catalogued(&self, index: ModelIndex) -> Option<Model> {
        let stored = self.stored(index)?;
        let notes = stored
            .notes
            .and_then(|notes| self.notes.get(notes as usize));
        Some(Model {
            name: self.text_of(stored.name).to_owned(),
            kind: stored.kind,
            files: self
                .members(index)
                .iter()
                .map(|member| self.model_file(*member))
                .collect(),
            details: self
                .details
                .get(stored.details as usize)
                .cloned()
                .unwrap_or_default(),
            missing: notes
                .map(|notes| notes.missing.to_vec())
                .unwrap_or_default(),
            faults: notes.map(|notes| notes.faults.to_vec()).unwrap_or_default(),
        })
    }

    fn single(&self, entry: u32) -> Option<Model> {
        (entry < self.entries.len()).then(|| Model {
            name: shown(&self.entries.path(entry)),
            kind: Kind::File,
            files: vec![self.model_file(Member {
                entry,
                role: Role::Other,
            })],
            details: Details::default(),
            missing: Vec::new(),
            faults: Vec::new(),
        })
    }

    fn model_file(&self, member: Member) -> ModelFile {
        ModelFile {
            file: self.entries.file(member.entry),
            path: self.entries.path(member.entry),
            size: self.entries.size(member.entry),
            role: member.role,
        }
    }

    /// The models that a file belongs to.
    pub fn models_of(&self, file: u64) -> &[ModelIndex] {
        let Ok(at) = self.owned_files.binary_search(&file) else {
            return &[];
        };
        let end = self
            .owner_starts
            .get(at + 1)
            .map_or(self.owners.len(), |end| *end as usize);
        &self.owners[self.owner_starts[at] as usize..end]
    }

    /// The SHA-256 that a file must have because its name says so: the blobs of Ollama.
    pub fn expected_digest(&self, path: &[u8]) -> Option<[u8; 32]> {
        ollama::blob_digest(path)
    }

    /// Headers and documents that were read to build this catalog.
    pub fn files_read(&self) -> usize {
        self.reads
    }

    /// Bytes that the catalog holds on the heap, nearly.
    pub fn heap_bytes(&self) -> usize {
        self.entries.heap_bytes()
            + self.models.capacity() * size_of::<Stored>()
            + self.members.capacity() * size_of::<Member>()
            + self.text.capacity()
            + self.places.capacity()
            + self.owned_files.capacity() * size_of::<u64>()
            + (self.owner_starts.capacity() + self.owners.capacity()) * size_of::<u32>()
            + self
                .aliases
                .iter()
                .map(|(alias, _)| alias.len() + 40)
                .sum::<usize>()
    }

    pub(super) fn members(&self, index: ModelIndex) -> &[Member] {
        self.stored(index)
            .and_then(|model| self.members.get(range(model.members)))
            .unwrap_or_default()
    }

    fn stored(&self, index: ModelIndex) -> Option<&Stored> {
        self.models.get(index.0 as usize)
    }

    fn text_of(&self, at: (u32, u32)) -> &str {
        self.text.get(range(at)).unwrap_or_default()
    }
}

fn range((start, end): (u32, u32)) -> std::ops::Range<usize> {
    start as usize..end as usize
}

fn position(index: usize) -> u32 {
    u32::try_from(index).unwrap_or(u32::MAX)
}

/// A path or name as people may see it: what a terminal would obey or what turns writing round is replaced.
pub(super) fn shown(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    text.chars()
        .map(|c| {
            if is_hidden(c) {
                char::REPLACEMENT_CHARACTER
            } else {
                c
            }
        })
        .collect()
}

/// Packs drafts into a [`Catalog`], one at a time.
#[derive(Default)]
pub(super) struct Packer {
    catalog: Catalog,
    details: HashMap<Details, u32>,
}

impl Packer {
    pub(super) fn add(&mut self, mut draft: Draft, entries: &Entries) {
        // A file is listed once, with the role that says most.
        draft
            .members
            .sort_by_key(|member| (entries.file(member.entry), member.role, member.entry));
        draft
            .members
            .dedup_by_key(|member| entries.file(member.entry));
        draft
            .members
            .sort_by_key(|member| (member.role, member.entry));
        let index = ModelIndex(position(self.catalog.models.len()));
        let members_start = position(self.catalog.members.len());
        self.catalog.members.extend(draft.members);
        let details = match self.details.get(&draft.details) {
            Some(details) => *details,
            None => {
                let details = position(self.catalog.details.len());
                self.catalog.details.push(draft.details.clone());
                self.details.insert(draft.details, details);
                details
            }
        };
        let notes = (!draft.missing.is_empty() || !draft.faults.is_empty()).then(|| {
            let (missing, faults) = (draft.missing.into(), draft.faults.into());
            self.catalog.notes.push(Notes { missing, faults });
            position(self.catalog.notes.len() - 1)
        });
        let name = self.push_text(&draft.name);
        let places = &mut self.catalog.places;
        let start = position(places.len());
        places.extend(&draft.place);
        let place = (start, position(places.len()));
        self.catalog.models.push(Stored {
            name,
            plain_name: name,
            place,
            members: (members_start, position(self.catalog.members.len())),
            details,
            notes,
            kind: draft.kind,
        });
        let aliases = draft
            .aliases
            .into_iter()
            .map(|alias| (alias.into_boxed_str(), index));
        self.catalog.aliases.extend(aliases);
    }

    fn push_text(&mut self, text: &str) -> (u32, u32) {
        let start = self.catalog.text.len();
        if u32::try_from(start + text.len()).is_ok() {
            self.catalog.text.push_str(text);
        }
        (position(start), position(self.catalog.text.len()))
    }

    pub(super) fn finish(mut self, entries: Entries, facts: FactTable, reads: usize) -> Catalog {
        self.catalog.entries = entries;
        self.name_apart();
        let mut catalog = self.catalog;
        (catalog.facts, catalog.reads) = (facts, reads);
        let mut order: Vec<u32> = (0..position(catalog.models.len())).collect();
        order.sort_by(|a, b| {
            catalog
                .name(ModelIndex(*a))
                .cmp(catalog.name(ModelIndex(*b)))
        });
        let mut place = vec![0; order.len()];
        for (new, old) in order.iter().enumerate() {
            place[*old as usize] = position(new);
        }
        for (_, index) in &mut catalog.aliases {
            *index = ModelIndex(place[index.0 as usize]);
        }
        catalog.aliases.sort();
        catalog.aliases.dedup();
        let mut models: Vec<Option<Stored>> = catalog.models.into_iter().map(Some).collect();
        catalog.models = order
            .iter()
            .filter_map(|old| models[*old as usize].take())
            .collect();
        catalog.members.shrink_to_fit();
        catalog.text.shrink_to_fit();
        catalog.places.shrink_to_fit();
        catalog.index_owners();
        catalog
    }

    /// Gives models of one name their place as well, and a number where that is not enough.
    fn name_apart(&mut self) {
        for numbered in [false, true] {
            let mut order: Vec<usize> = (0..self.catalog.models.len()).collect();
            let name = |index: &usize| self.catalog.name(ModelIndex(position(*index)));
            order.sort_by(|a, b| name(a).cmp(name(b)).then(a.cmp(b)));
            let groups: Vec<Vec<usize>> = order
                .chunk_by(|a, b| name(a) == name(b))
                .filter(|group| group.len() > 1)
                .map(<[usize]>::to_vec)
                .collect();
            for group in groups {
                for (number, index) in group.into_iter().enumerate() {
                    self.rename(index, number, numbered);
                }
            }
        }
    }

    fn rename(&mut self, index: usize, number: usize, numbered: bool) {
        let catalog = &self.catalog;
        let reference = ModelIndex(position(index));
        let name = catalog.name(reference);
        let renamed = if numbered {
            format!("{name} #{}", number + 1)
        } else {
            let first = catalog.members(reference).iter().min_by_key(|member| {
                // An Ollama tag is told by its manifest, not by blobs that it shares.
                (member.role != Role::Manifest, member.entry)
            });
            let place = first.map(|member| shown(&catalog.entries.path(member.entry)));
            format!("{name} ({})", place.unwrap_or_default())
        };
        let name = self.push_text(&renamed);
        self.catalog.models[index].name = name;
    }
}

impl Catalog {
    fn index_owners(&mut self) {
        let mut pairs: Vec<(u64, ModelIndex)> = Vec::with_capacity(self.members.len());
        for index in self.indices() {
            pairs.extend(
                self.members(index)
                    .iter()
                    .map(|m| (self.entries.file(m.entry), index)),
            );
        }
        pairs.sort_unstable();
        pairs.dedup();
        for (file, index) in pairs {
            if self.owned_files.last() != Some(&file) {
                self.owned_files.push(file);
                self.owner_starts.push(position(self.owners.len()));
            }
            self.owners.push(index);
        }
        self.owned_files.shrink_to_fit();
        self.owner_starts.shrink_to_fit();
        self.owners.shrink_to_fit();
    }
}
