//! Trees of every layout, whole and broken, and what people type.

use super::gguf::tests::{Bytes, small_model};
use super::model::Role;
use super::ollama::blob_name;
use super::safetensors::tests::file as safetensors;
use super::*;
use std::cell::Cell;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io;

/// A tree in memory: path -> contents, or `-> target`.
#[derive(Clone, Default)]
struct MemTree {
    files: BTreeMap<Vec<u8>, (Vec<u8>, u64)>,
    links: BTreeMap<Vec<u8>, Vec<u8>>,
    cold: bool,
    hangs: bool,
    reads: Cell<usize>,
    next: u64,
}

impl MemTree {
    fn put(&mut self, path: impl AsRef<[u8]>, bytes: impl AsRef<[u8]>) -> u64 {
        self.next += 1;
        self.files
            .insert(path.as_ref().to_vec(), (bytes.as_ref().to_vec(), self.next));
        self.next
    }

    fn link(&mut self, path: &str, target: &str) {
        self.links.insert(path.into(), target.into());
    }

    fn build(&self) -> Catalog {
        Catalog::build(self, None)
    }

    /// A store with a tag of two layers; the digest of the weights.
    fn tag(&mut self, store: &str, place: &str, weights: u8) -> [u8; 32] {
        let blob = |tree: &mut Self, byte: u8, contents: &[u8]| {
            tree.put(format!("{store}blobs/{}", blob_name(&[byte; 32])), contents);
            let media = if byte == 0xc0 {
                "container.image.v1+json"
            } else {
                "image.model"
            };
            format!(
                r#"{{"mediaType":"application/vnd.ollama.{media}","digest":"sha256:{}","size":{}}}"#,
                &blob_name(&[byte; 32])[7..],
                contents.len()
            )
        };
        let model = blob(self, weights, &small_model());
        let config = blob(self, 0xc0, br#"{"model_family":"x","model_type":"3.2B"}"#);
        let manifest = format!(r#"{{"schemaVersion":2,"config":{config},"layers":[{model}]}}"#);
        self.put(format!("{store}manifests/{place}"), manifest);
        [weights; 32]
    }

    fn directory(&mut self, path: &str) {
        let tensor = r#"{"a":{"dtype":"BF16","shape":[4,8],"data_offsets":[0,64]}}"#;
        self.put(
            format!("{path}/config.json"),
            r#"{"model_type":"llama","torch_dtype":"bfloat16"}"#,
        );
        self.put(format!("{path}/tokenizer.json"), "{}");
        let mut map = String::new();
        for shard in 1..=2 {
            let name = format!("model-{shard:05}-of-00002.safetensors");
            self.put(format!("{path}/{name}"), safetensors(tensor, 64));
            write!(
                map,
                "{}\"t{shard}\":\"{name}\"",
                if shard == 1 { "" } else { "," }
            )
            .unwrap();
        }
        let index = format!(r#"{{"metadata":{{"total_size":128}},"weight_map":{{{map}}}}}"#);
        self.put(format!("{path}/model.safetensors.index.json"), index);
    }
}

impl Tree for MemTree {
    fn files(&self) -> Vec<TreeFile> {
        let of = |path: &[u8], size, kind, file| TreeFile {
            path: path.to_vec(),
            size,
            mtime_ns: i128::from(file),
            kind,
            file,
            cold: self.cold,
        };
        let regular = self
            .files
            .iter()
            .map(|(path, (bytes, file))| of(path, bytes.len() as u64, FileKind::Regular, *file));
        let links = self
            .links
            .iter()
            .map(|(path, target)| of(path, 0, FileKind::Symlink(target.clone()), 1 << 40));
        let mut files: Vec<_> = regular.chain(links).collect();
        files.sort_by(|a, b| a.path.cmp(&b.path));
        files
    }

    fn read(&self, path: &[u8], offset: u64, len: usize) -> io::Result<Vec<u8>> {
        self.reads.set(self.reads.get() + 1);
        if self.hangs {
            return Err(io::ErrorKind::TimedOut.into());
        }
        let (bytes, _) = self.files.get(path).ok_or(io::ErrorKind::NotFound)?;
        let from = usize::try_from(offset)
            .unwrap_or(usize::MAX)
            .min(bytes.len());
        Ok(bytes[from..bytes.len().min(from.saturating_add(len))].to_vec())
    }
}

fn names(catalog: &Catalog) -> Vec<String> {
    catalog
        .indices()
        .map(|index| catalog.name(index).to_owned())
        .collect()
}

fn model(catalog: &Catalog, query: &str) -> Model {
    let found = catalog
        .resolve(query)
        .unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(found.len(), 1, "{query}");
    catalog.model(found[0]).unwrap()
}

fn resolved(catalog: &Catalog, query: &str) -> Vec<String> {
    let found = catalog.resolve(query).unwrap_or_default();
    found
        .into_iter()
        .map(|found| catalog.model(found).unwrap().name)
        .collect()
}

/// Such files were listed under names that no command took.
#[test]
fn a_name_that_is_no_text_or_begins_with_blanks_is_found() {
    let mut tree = MemTree::default();
    tree.put(b"d/\xff\xfe \x80", "a");
    tree.put(b"d/ blanks ", "b");
    let catalog = tree.build();
    for name in [b"d/\xff\xfe \x80".as_slice(), b"d/ blanks "] {
        let found = catalog.resolve_bytes(name).unwrap();
        assert_eq!(found.len(), 1);
        assert_eq!(catalog.model(found[0]).unwrap().files[0].path, name);
    }
    assert!(catalog.resolve_bytes(b"d/\xff").is_err());
}

fn paths(model: &Model) -> Vec<String> {
    let path = |file: &ModelFile| String::from_utf8_lossy(&file.path).into_owned();
    model.files.iter().map(path).collect()
}

#[test]
fn ollama_tags_share_blobs_and_are_found_by_every_name() {
    let mut tree = MemTree::default();
    let shared = tree.tag("", "registry.ollama.ai/library/llama3.2/3b", 0xaa);
    tree.tag("", "registry.ollama.ai/library/llama3/latest", 0xaa);
    tree.tag("", "registry.ollama.ai/me/own/latest", 0xbb);
    tree.tag("", "hf.co/me/own/Q4_K_M", 0xcc);
    tree.tag("sub/store/", "registry.ollama.ai/library/deep/1b", 0xaa);
    tree.put("manifests/registry.ollama.ai/library/llama3/.DS_Store", "x");
    tree.put("sha256-partial", "x");
    let catalog = tree.build();
    assert_eq!(
        names(&catalog),
        [
            "deep:1b",
            "hf.co/me/own:Q4_K_M",
            "llama3.2:3b",
            "llama3:latest",
            "me/own:latest"
        ]
    );
    let llama = model(&catalog, "llama3.2:3b");
    assert_eq!((llama.kind, llama.files.len()), (Kind::Ollama, 3));
    let roles: Vec<_> = llama.files.iter().map(|file| file.role).collect();
    assert_eq!(roles, [Role::Weights, Role::Manifest, Role::Config]);
    assert_eq!(llama.details.architecture.as_deref(), Some("llama"));
    assert_eq!(llama.details.quantisation.as_deref(), Some("Q4_K_M"));
    assert_eq!(llama.details.parameters, Some(128));
    assert!(
        llama.missing.is_empty() && llama.faults.is_empty(),
        "{llama:?}"
    );
    assert_eq!(catalog.models_of(llama.files[0].file).len(), 2);
    assert_eq!(catalog.expected_digest(&llama.files[0].path), Some(shared));
    assert_eq!(catalog.expected_digest(&llama.files[1].path), None);
    assert_eq!(catalog.models_of(u64::MAX), []);
    for (query, name) in [
        ("llama3", "llama3:latest"),
        ("me/own", "me/own:latest"),
        ("hf.co/me/own:q4_k_m", "hf.co/me/own:Q4_K_M"),
        (
            "manifests/registry.ollama.ai/library/llama3/latest",
            "llama3:latest",
        ),
        ("./sub/store/", "deep:1b"),
        ("library/llama3", "llama3:latest"),
        ("registry.ollama.ai/library/llama3:latest", "llama3:latest"),
        ("registry.ollama.ai/me/own", "me/own:latest"),
        ("d*", "deep:1b"),
    ] {
        assert_eq!(resolved(&catalog, query), [name], "{query}");
    }
    assert_eq!(resolved(&catalog, "llama*").len(), 2);
    let blob = format!("blobs/{}", blob_name(&[0xaa; 32]));
    assert_eq!(model(&catalog, &blob).kind, Kind::File);
    let error = catalog.resolve("lama3").unwrap_err();
    assert_eq!(error.to_string(), "no model matches `lama3`");
    assert_eq!(error.suggestions[0], "llama3");
    let error = catalog.resolve("zzzzzzzz").unwrap_err();
    assert!(error.suggestions.is_empty(), "{error:?}");
    let error = catalog.resolve("llama3.2").unwrap_err();
    assert_eq!(error.suggestions[0], "llama3.2:3b");
}

#[test]
fn a_broken_store_is_reported_by_tag() {
    let mut tree = MemTree::default();
    tree.tag("", "registry.ollama.ai/library/gone/1b", 0xaa);
    tree.files
        .remove(format!("blobs/{}", blob_name(&[0xaa; 32])).as_bytes());
    tree.tag("", "registry.ollama.ai/library/short/1b", 0xbb);
    tree.put(format!("blobs/{}", blob_name(&[0xbb; 32])), "GGUF");
    tree.put("manifests/registry.ollama.ai/library/empty/latest", "");
    let long = format!("{{\"layers\":\"{}\"}}", "x".repeat(1 << 20));
    tree.put("manifests/registry.ollama.ai/library/long/latest", long);
    tree.put("elsewhere/manifests/a/b/c/d.yaml", "kind: Deployment");
    let catalog = tree.build();
    assert_eq!(
        names(&catalog),
        ["empty:latest", "gone:1b", "long:latest", "short:1b"]
    );
    assert_eq!(model(&catalog, "gone:1b").missing, [blob_name(&[0xaa; 32])]);
    assert!(model(&catalog, "empty").faults[0].contains("EOF"));
    // What a manifest says was kept whole, as part of what is wrong with it.
    assert!(model(&catalog, "long").faults[0].len() < 400);
    let faults = model(&catalog, "short:1b").faults;
    assert!(
        faults[0].contains("has 4 bytes") && faults[1].contains("truncated"),
        "{faults:?}"
    );
}

#[test]
fn gguf_files_splits_and_projectors() {
    let mut tree = MemTree::default();
    tree.put("single-Q4_K_M.gguf", small_model());
    for split in [1, 3] {
        tree.put(format!("big-{split:05}-of-00003.gguf"), small_model());
    }
    tree.put("publisher/vision/vision-F16.gguf", small_model());
    tree.put("publisher/vision/mmproj-vision-F16.gguf", small_model());
    let linked = tree.put("blobs/weights", small_model());
    tree.link("linked.gguf", "blobs/weights");
    tree.link("dangling.gguf", "nowhere");
    tree.put("lora.gguf", {
        let mut bytes = Bytes::header(0, 1);
        bytes.pair("general.type", "adapter");
        bytes.0
    });
    tree.put("\u{1b}[31mred.gguf", "not GGUF");
    let catalog = tree.build();
    assert_eq!(
        names(&catalog),
        [
            "big",
            "linked",
            "lora",
            "single-Q4_K_M",
            "vision-F16",
            "\u{fffd}[31mred"
        ]
    );
    let big = model(&catalog, "big");
    assert_eq!(big.missing, ["big-00002-of-00003.gguf"]);
    assert_eq!((big.files.len(), big.details.parameters), (2, None));
    let vision = model(&catalog, "vision-F16.gguf");
    assert_eq!(vision.files[1].role, Role::Projector);
    assert_eq!(model(&catalog, "linked").files[0].file, linked);
    assert_eq!(model(&catalog, "lora").files[0].role, Role::Adapter);
    assert!(model(&catalog, "\u{fffd}[31mred").faults[0].contains("does not begin"));
    for (query, name) in [
        ("big-00001-of-00003.gguf", "big"),
        ("big.gguf", "big"),
        ("publisher/vision", "vision-F16"),
        ("vision/vision-F16", "vision-F16"),
        ("publisher/*/*F16.gguf", "vision-F16"),
        ("linked.gguf", "linked"),
        ("SINGLE-q4_k_m", "single-Q4_K_M"),
    ] {
        assert_eq!(resolved(&catalog, query), [name], "{query}");
    }
    assert_eq!(resolved(&catalog, "*.gguf").len(), 5);
}

#[test]
fn names_that_two_models_have_are_told_apart_and_both_are_found() {
    let mut tree = MemTree::default();
    tree.put("a/same.gguf", small_model());
    tree.put("b/same.gguf", small_model());
    tree.tag("x/", "registry.ollama.ai/library/same/latest", 0xaa);
    tree.tag("y/", "registry.ollama.ai/library/same/latest", 0xbb);
    let catalog = tree.build();
    assert_eq!(catalog.len(), 4);
    assert_eq!(
        names(&catalog)[..2],
        ["same (a/same.gguf)", "same (b/same.gguf)"]
    );
    assert_eq!(resolved(&catalog, "same").len(), 2);
    assert_eq!(resolved(&catalog, "same:latest").len(), 2);
    assert_eq!(
        resolved(&catalog, "same (a/same.gguf)"),
        ["same (a/same.gguf)"]
    );
    assert_eq!(resolved(&catalog, "a/same.gguf"), ["same (a/same.gguf)"]);
    assert_eq!(resolved(&catalog, "b/same"), ["same (b/same.gguf)"]);
}

/// The header of a file of 64 bytes.
const TENSOR: &str = r#"{"a":{"dtype":"BF16","shape":[4,8],"data_offsets":[0,64]}}"#;

/// Names change when others come and go; what is kept of a model must not.
#[test]
fn where_a_model_is_depends_on_no_other() {
    let mut tree = MemTree::default();
    tree.put("a/same.gguf", small_model());
    tree.put("a/split-00002-of-00002.gguf", small_model());
    tree.tag("x/", "registry.ollama.ai/library/same/latest", 0xaa);
    let hub = "hub/models--o--m/snapshots";
    tree.put(format!("{hub}/1111/q.gguf"), small_model());
    tree.put(format!("{hub}/1111/config.json"), "{}");
    tree.put(
        format!("{hub}/1111/model.safetensors"),
        safetensors(TENSOR, 64),
    );
    let places = |catalog: &Catalog| -> Vec<String> {
        let places = catalog.indices().map(|index| catalog.place(index));
        let mut places: Vec<String> = places
            .map(|place| String::from_utf8_lossy(place).into_owned())
            .collect();
        places.sort();
        places
    };
    let before = places(&tree.build());
    assert_eq!(
        before,
        [
            "a/same.gguf",
            "a/split-00001-of-00002.gguf",
            "hub/models--o--m/o/m@1111",
            "hub/models--o--m/q@1111",
            "x/manifests/registry.ollama.ai/library/same/latest",
        ]
    );
    tree.put("b/same.gguf", small_model());
    tree.put("a/split-00001-of-00002.gguf", small_model());
    tree.tag("y/", "registry.ollama.ai/library/same/latest", 0xbb);
    tree.put(
        format!("{hub}/2222/q.gguf"),
        [small_model(), vec![0]].concat(),
    );
    tree.put(format!("{hub}/2222/config.json"), "{}");
    tree.put(
        format!("{hub}/2222/model.safetensors"),
        safetensors(TENSOR, 64),
    );
    let after = places(&tree.build());
    assert!(
        before.iter().all(|place| after.contains(place)),
        "{after:?}"
    );
    assert_eq!(after.len(), before.len() + 4);
}

/// A model that is called as the path of another would take it out of a rule.
#[test]
fn all_that_may_be_meant_is_meant() {
    let mut tree = MemTree::default();
    tree.put("sub/secret.gguf", small_model());
    tree.tag("", "registry.ollama.ai/library/llama/latest", 0xaa);
    let meant = |tree: &MemTree, query: &str| {
        let catalog = tree.build();
        let places = catalog.all_meant(query).into_iter();
        let places: Vec<String> = places
            .map(|index| String::from_utf8_lossy(catalog.place(index)).into_owned())
            .collect();
        places
    };
    let queries = [
        ("sub/secret.gguf", "sub/secret.gguf"),
        ("secret.gguf", "sub/secret.gguf"),
        ("sub/*", "sub/secret.gguf"),
        ("sec*", "sub/secret.gguf"),
        ("sub/", "sub/secret.gguf"),
        ("llama", "manifests/registry.ollama.ai/library/llama/latest"),
    ];
    for (query, place) in queries {
        let is_directory = query == "sub/";
        assert_eq!(meant(&tree, query).is_empty(), is_directory, "{query}");
        assert!(is_directory || meant(&tree, query) == [place], "{query}");
    }
    tree.put("llama.gguf", small_model());
    tree.put("x/sub/secret.gguf/config.json", "{}");
    tree.put(
        "x/sub/secret.gguf/model.safetensors",
        safetensors(TENSOR, 64),
    );
    tree.put("sec*/y.gguf", small_model());
    for (query, place) in queries.iter().filter(|(query, _)| *query != "sub/") {
        assert!(
            meant(&tree, query).contains(&(*place).to_owned()),
            "{query}"
        );
    }
}

#[test]
fn hugging_face_directories_count_one_set_of_weights() {
    let mut tree = MemTree::default();
    tree.directory("org/plain");
    tree.put("org/plain/consolidated.safetensors", "x".repeat(99));
    tree.put("org/plain/pytorch_model.bin", "x".repeat(99));
    tree.put("org/plain/original/consolidated.00.pth", "x".repeat(99));
    tree.directory("deep/er/org/holes");
    tree.files
        .remove(b"deep/er/org/holes/model-00002-of-00002.safetensors".as_slice());
    tree.put("noindex/config.json", "{}");
    tree.put(
        "noindex/model-00001-of-00003.safetensors",
        safetensors("{}", 0),
    );
    tree.put("old/config.json", "[]");
    tree.put("old/pytorch_model.bin", "PK");
    tree.put("pipe/model_index.json", "{}");
    tree.put("pipe/unet/config.json", "{}");
    tree.put(
        "pipe/unet/diffusion_pytorch_model.safetensors",
        safetensors("{}", 0),
    );
    tree.put("lonely.safetensors", safetensors("{}", 0));
    let catalog = tree.build();
    assert_eq!(
        names(&catalog),
        ["noindex", "old", "org/holes", "org/plain", "pipe"]
    );
    let plain = model(&catalog, "org/plain");
    assert_eq!(plain.files.len(), 5, "{:?}", paths(&plain));
    assert_eq!(plain.details.parameters, Some(64));
    assert_eq!(plain.details.quantisation.as_deref(), Some("BF16"));
    assert_eq!(
        model(&catalog, "org/holes").missing,
        ["model-00002-of-00002.safetensors"]
    );
    assert_eq!(model(&catalog, "noindex").missing.len(), 2);
    assert!(model(&catalog, "old").faults[0].contains("an object"));
    assert_eq!(model(&catalog, "pipe").files.len(), 3);
    assert_eq!(resolved(&catalog, "deep/er/org/holes"), ["org/holes"]);
    assert_eq!(model(&catalog, "lonely.safetensors").kind, Kind::File);
    assert_eq!(
        model(&catalog, "org/plain/pytorch_model.bin").kind,
        Kind::File
    );
}

#[test]
fn revisions_of_a_hub_cache() {
    let mut tree = MemTree::default();
    let (old, new) = ("a".repeat(40), "b".repeat(40));
    let cache = "hub/models--org--name";
    for (revision, blob) in [(&old, "1"), (&new, "2")] {
        tree.put(format!("{cache}/blobs/w{blob}"), safetensors("{}", 0));
        tree.put(format!("{cache}/blobs/c{blob}"), "{}");
        tree.link(
            &format!("{cache}/snapshots/{revision}/model.safetensors"),
            &format!("../../blobs/w{blob}"),
        );
        tree.link(
            &format!("{cache}/snapshots/{revision}/config.json"),
            &format!("../../blobs/c{blob}"),
        );
    }
    tree.link(
        &format!("{cache}/snapshots/{new}/tokenizer.json"),
        "../../blobs/gone",
    );
    tree.put(format!("{cache}/refs/main"), &new);
    tree.put(format!("{cache}/refs/pr/1"), format!("{old}\n"));
    tree.put("models--o--quants/blobs/q", small_model());
    tree.link(
        &format!("models--o--quants/snapshots/{new}/x-Q4_K_M.gguf"),
        "../../blobs/q",
    );
    tree.put("models--o--quants/blobs/r", small_model());
    tree.link(
        &format!("models--o--quants/snapshots/{new}/x-Q8_0.gguf"),
        "../../blobs/r",
    );
    tree.put("datasets--org--data/snapshots/x/config.json", "{}");
    let catalog = tree.build();
    let dated = format!("org/name@{old}");
    assert_eq!(
        names(&catalog),
        ["org/name", dated.as_str(), "x-Q4_K_M", "x-Q8_0"].map(str::to_owned)
    );
    let main = model(&catalog, "org/name");
    assert_eq!(main.kind, Kind::HubRevision);
    assert_eq!(
        paths(&main),
        [format!("{cache}/blobs/w2"), format!("{cache}/blobs/c2")]
    );
    assert_eq!(main.missing, ["tokenizer.json"]);
    for query in [format!("org/name@{new}"), "org/name@main".into()] {
        assert_eq!(resolved(&catalog, &query), ["org/name"], "{query}");
    }
    assert_eq!(resolved(&catalog, "org/name@pr/1").concat(), dated);
    assert_eq!(
        resolved(&catalog, &format!("{cache}/snapshots/{old}")),
        [dated]
    );
    assert_eq!(resolved(&catalog, "o/quants").len(), 2);
    assert_eq!(resolved(&catalog, "x-Q8_0.gguf"), ["x-Q8_0"]);
    assert_eq!(
        resolved(&catalog, "o/quants:Q4_K_M").len(),
        2,
        "both headers say Q4_K_M"
    );
}

/// They were told apart by their blob and a number, and no branch named them.
#[test]
fn gguf_files_of_several_revisions() {
    let mut tree = MemTree::default();
    let (old, new) = ("a".repeat(40), "b".repeat(40));
    let cache = "hub/models--a--b";
    for blob in ["same", "old", "new"] {
        tree.put(format!("{cache}/blobs/{blob}"), small_model());
    }
    for (revision, blob) in [(&old, "old"), (&new, "new")] {
        let snapshot = format!("{cache}/snapshots/{revision}");
        tree.link(&format!("{snapshot}/b-Q8_0.gguf"), "../../blobs/same");
        tree.link(
            &format!("{snapshot}/b-Q4_K_M.gguf"),
            &format!("../../blobs/{blob}"),
        );
    }
    let both = tree.build();
    assert_eq!(
        names(&both),
        [
            format!("b-Q4_K_M@{old}"),
            format!("b-Q4_K_M@{new}"),
            "b-Q8_0".to_owned()
        ]
    );
    assert_eq!(
        resolved(&both, "a/b").len(),
        3,
        "no revision is the main one"
    );
    tree.put(format!("{cache}/refs/main"), &new);
    tree.put(format!("{cache}/refs/v1"), &old);
    let catalog = tree.build();
    let dated = format!("b-Q4_K_M@{old}");
    assert_eq!(names(&catalog), ["b-Q4_K_M", &dated, "b-Q8_0"]);
    let newest = format!("a/b@{new}");
    for query in ["a/b", "a/b@main", newest.as_str(), "a/b:Q4_K_M"] {
        assert_eq!(resolved(&catalog, query), ["b-Q4_K_M", "b-Q8_0"], "{query}");
    }
    assert_eq!(resolved(&catalog, "a/b@v1"), [&dated, "b-Q8_0"]);
    assert_eq!(resolved(&catalog, "b-Q4_K_M"), ["b-Q4_K_M"]);
}

#[test]
fn the_cache_of_llama_cpp() {
    let mut tree = MemTree::default();
    let manifest = r#"{"ggufFile":{"rfilename":"sub/m-Q4.gguf","size":1},
        "mmprojFile":{"rfilename":"mmproj.gguf"}}"#;
    tree.put("cache/manifest=org=m-GGUF=latest.json", manifest);
    tree.put("cache/org_m-GGUF_sub_m-Q4.gguf", small_model());
    tree.put("cache/org_m-GGUF_sub_m-Q4.gguf.json", "{}");
    let catalog = tree.build();
    assert_eq!(names(&catalog), ["org/m-GGUF:latest"]);
    let found = model(&catalog, "org/m-GGUF");
    assert_eq!((found.kind, found.files.len()), (Kind::Gguf, 2));
    assert_eq!(found.missing, ["org_m-GGUF_mmproj.gguf"]);
    assert_eq!(
        resolved(&catalog, "org_m-GGUF_sub_m-Q4.gguf"),
        ["org/m-GGUF:latest"]
    );
    // Of two names for one file only the last was known.
    tree.put("cache/manifest=org=m-GGUF=Q4.json", manifest);
    let catalog = tree.build();
    assert_eq!(model(&catalog, "org/m-GGUF").missing, found.missing);
    for query in ["org/m-GGUF:Q4", "org/m-GGUF:latest"] {
        assert_eq!(resolved(&catalog, query), ["org/m-GGUF:latest"], "{query}");
    }
}

#[test]
fn what_did_not_change_is_not_read_again() {
    let mut tree = MemTree::default();
    tree.tag("", "registry.ollama.ai/library/a/latest", 0xaa);
    tree.directory("org/plain");
    tree.put("x.gguf", small_model());
    tree.put("bad.gguf", "bad");
    let first = tree.build();
    assert!(first.files_read() >= 7);
    let reads = tree.reads.get();
    let second = Catalog::build(&tree, Some(&first));
    assert_eq!((second.files_read(), tree.reads.get()), (0, reads));
    assert_eq!(names(&first), names(&second));
    assert_eq!(model(&first, "bad"), model(&second, "bad"));
    tree.put("x.gguf", small_model());
    assert_eq!(Catalog::build(&tree, Some(&second)).files_read(), 1);
    // A home that does not answer is asked again, and costs nothing that is known.
    tree.put("y.gguf", small_model());
    tree.hangs = true;
    let hung = Catalog::build(&tree, Some(&second));
    assert!(model(&hung, "y").faults[0].contains("cannot be read"));
    assert_eq!(model(&hung, "a"), model(&second, "a"));
    tree.hangs = false;
    assert!(
        model(&Catalog::build(&tree, Some(&hung)), "y")
            .faults
            .is_empty()
    );
}

#[test]
fn hard_links_are_one_file_and_names_need_not_be_text() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path();
    std::fs::create_dir(path.join("d")).unwrap();
    std::fs::write(path.join("a.gguf"), small_model()).unwrap();
    std::fs::hard_link(path.join("a.gguf"), path.join("d/b.gguf")).unwrap();
    use std::os::unix::ffi::OsStrExt as _;
    let odd = std::ffi::OsStr::from_bytes(b"odd\xff\n.gguf");
    std::os::unix::fs::symlink("d/b.gguf", path.join(odd)).unwrap();
    let catalog = Catalog::build(&DirTree::new(path), None);
    assert_eq!(names(&catalog), ["a", "b", "odd\u{fffd}\u{fffd}"]);
    let file = model(&catalog, "a").files[0].file;
    assert_eq!(catalog.models_of(file).len(), 3);
    assert_eq!(catalog.files_read(), 1, "three names, one file, one read");
    assert_eq!(model(&catalog, "odd*").files[0].path, b"d/b.gguf");
}

#[test]
fn queries_that_mean_nothing_are_refused() {
    let mut tree = MemTree::default();
    tree.put("a.gguf", small_model());
    let catalog = tree.build();
    let long = "a".repeat(100_000);
    for query in [
        "",
        " ",
        "/",
        "..",
        "../a.gguf",
        "[",
        "{a",
        "\0",
        "ä",
        "a/../../x",
        &long,
    ] {
        let error = catalog.resolve(query).expect_err(query);
        assert_eq!(error.query, query);
        assert!(!error.to_string().contains('\0'));
    }
    assert!(Catalog::default().resolve("*").is_err());
    assert_eq!(
        Catalog::default().model(ModelRef::Model(ModelIndex(7))),
        None
    );
}

#[test]
fn a_large_tree_is_small_in_memory() {
    let mut tree = MemTree::default();
    for number in 0..20_000 {
        tree.put(
            format!(
                "org/collection/dir-{:03}/file-{number:05}.bin",
                number % 500
            ),
            "",
        );
        tree.put(format!("quants/model-{number:05}.Q4_K_M.gguf"), "GGUF");
    }
    let catalog = tree.build();
    assert_eq!(catalog.len(), 20_000);
    let each = catalog.heap_bytes() / 40_000;
    assert!(
        each <= 160,
        "{each} bytes a file, with a model for every second one"
    );
}

proptest::proptest! {
    #![proptest_config(proptest::test_runner::Config::with_cases(128))]

    /// Names that mean something, in any combination, over any contents: a build always ends, and
    /// every file of every model is one of the tree.
    #[test]
    fn any_tree_makes_a_sound_catalog(
        files in proptest::collection::vec(
            (
                proptest::collection::vec(proptest::sample::select(vec![
                    "manifests", "blobs", "a", "models--o--n", "snapshots", "refs", "main", "..",
                    "m-00001-of-00002.gguf", "m-00002-of-00002.gguf", "mmproj-m.gguf", "config.json",
                    "model.safetensors", "model.safetensors.index.json", "model_index.json",
                    "manifest=a=b=c.json", "tokenizer.json", "pytorch_model.bin", "",
                ]), 1..7),
                proptest::sample::select(vec![0_u8, 1, 2, 3, 4, 5]),
                proptest::collection::vec(0..255_u8, 0..40),
            ),
            0..40,
        ),
        query: String,
        cold: bool,
    ) {
        let mut tree = MemTree { cold, ..MemTree::default() };
        let mut queries = vec![query];
        for (parts, kind, noise) in files {
            let path = parts.join("/");
            match kind {
                0 => tree.put(&path, small_model()),
                1 => tree.put(&path, r#"{"weight_map":{"a":"model.safetensors","b":"c"}}"#),
                2 => tree.put(&path, safetensors("{}", 0)),
                3 => tree.put(&path, "main"),
                4 => {
                    tree.link(&path, &String::from_utf8_lossy(&noise));
                    0
                }
                _ => tree.put(&path, noise),
            };
            queries.push(path);
        }
        let catalog = tree.build();
        let mut unique = names(&catalog);
        unique.dedup();
        assert_eq!(unique.len(), catalog.len());
        for index in catalog.indices() {
            let found = catalog.model(ModelRef::Model(index)).unwrap();
            assert_eq!(catalog.find(&found.name), Some(index));
            for file in &found.files {
                assert_eq!(tree.files[&file.path].1, file.file);
                assert!(catalog.models_of(file.file).contains(&index));
            }
            queries.push(found.name);
        }
        for query in &queries {
            match catalog.resolve(query) {
                Ok(found) => assert!(found.iter().all(|found| catalog.model(*found).is_some())),
                Err(error) => assert!(error.suggestions.len() <= 3),
            }
        }
        let again = Catalog::build(&tree, Some(&catalog));
        assert_eq!(names(&again), names(&catalog));
        // Only a file that means two things is read again.
        assert!(again.files_read() <= catalog.files_read());
    }
}
