//! The models of a whole tree: hostile names, links and contents at once.
#![no_main]

use std::collections::BTreeMap;
use std::io;

use libfuzzer_sys::arbitrary::{self, Arbitrary};
use libfuzzer_sys::fuzz_target;
use speedloader::models::{Catalog, FileKind, ModelRef, Tree, TreeFile};

/// A part of a path that means something somewhere, or any other.
#[derive(Arbitrary, Debug)]
enum Part<'a> {
    Known(u8),
    Odd(&'a [u8]),
}

const KNOWN: [&str; 22] = [
    "manifests",
    "registry.ollama.ai",
    "library",
    "latest",
    "blobs",
    "sha256-27042f4e6eca7d0b2a7ee4026df2ecfa51d3339e6d122aa099118ecd8563bad9",
    "models--o--n",
    "snapshots",
    "refs",
    "main",
    "..",
    "m-00001-of-00002.gguf",
    "m-00002-of-00002.gguf",
    "mmproj-m.gguf",
    "config.json",
    "model.safetensors",
    "model-00001-of-00002.safetensors",
    "model.safetensors.index.json",
    "model_index.json",
    "manifest=a=b=c.json",
    "tokenizer.json",
    "pytorch_model.bin",
];

#[derive(Arbitrary, Debug)]
enum Thing<'a> {
    File(&'a [u8]),
    Link(&'a [u8]),
}

#[derive(Arbitrary, Debug)]
struct Input<'a> {
    files: Vec<(Vec<Part<'a>>, Thing<'a>)>,
    query: &'a str,
    cold: bool,
}

struct Forest<'a> {
    things: BTreeMap<Vec<u8>, Thing<'a>>,
    cold: bool,
}

impl Tree for Forest<'_> {
    fn files(&self) -> Vec<TreeFile> {
        let numbered = self.things.iter().zip(1..);
        let listed = numbered.map(|((path, thing), number)| {
            let (size, kind) = match thing {
                Thing::File(bytes) => (bytes.len() as u64, FileKind::Regular),
                Thing::Link(target) => (0, FileKind::Symlink(target.to_vec())),
            };
            TreeFile {
                path: path.clone(),
                size,
                mtime_ns: 0,
                kind,
                file: number,
                cold: self.cold,
            }
        });
        listed.collect()
    }

    fn read(&self, path: &[u8], offset: u64, len: usize) -> io::Result<Vec<u8>> {
        let Some(Thing::File(bytes)) = self.things.get(path) else {
            return Err(io::ErrorKind::NotFound.into());
        };
        let from = usize::try_from(offset)
            .unwrap_or(usize::MAX)
            .min(bytes.len());
        Ok(bytes[from..bytes.len().min(from.saturating_add(len))].to_vec())
    }
}

fuzz_target!(|input: Input<'_>| {
    let part = |part: Part<'_>| match part {
        Part::Known(which) => KNOWN[usize::from(which) % KNOWN.len()].as_bytes().to_vec(),
        Part::Odd(bytes) => bytes.to_vec(),
    };
    let named = input.files.into_iter().map(|(parts, thing)| {
        let parts: Vec<Vec<u8>> = parts.into_iter().map(part).collect();
        (parts.join(&b'/'), thing)
    });
    let forest = Forest {
        things: named.collect(),
        cold: input.cold,
    };
    let catalog = Catalog::build(&forest, None);
    for index in catalog.indices() {
        let model = catalog
            .model(ModelRef::Model(index))
            .expect("what is listed is there");
        assert_eq!(catalog.find(&model.name), Some(index));
        assert!(
            model
                .files
                .iter()
                .all(|file| catalog.models_of(file.file).contains(&index))
        );
    }
    if let Ok(found) = catalog.resolve(input.query) {
        assert!(found.iter().all(|found| catalog.model(*found).is_some()));
    }
    let again = Catalog::build(&forest, Some(&catalog));
    assert_eq!(again.len(), catalog.len());
});
