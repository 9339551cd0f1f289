//! Tags of Ollama stores, at the top of the tree or anywhere below.

use super::Build;
use crate::models::catalog::{Draft, Member, shown};
use crate::models::entries::join;
use crate::models::facts::{Facts, Format};
use crate::models::gguf::{parameters_of_label, quantisation};
use crate::models::model::{Details, Kind, Role};
use crate::models::ollama::{Layer, ManifestFacts, blob_name, tag_name};

pub(super) fn find(build: &mut Build<'_>) {
    for directory in 0..build.entries.directories() {
        let path = build.entries.directory_path(directory);
        if let Some(place) = Place::of(path) {
            for entry in build.in_directory(directory) {
                add_tag(build, &place, entry);
            }
        }
    }
}

/// Where manifests of one model lie.
struct Place {
    blobs: Vec<u8>,
    host: String,
    group: String,
    model: String,
}

impl Place {
    /// Takes `STORE/manifests/HOST/NAMESPACE/MODEL` apart.
    fn of(path: &[u8]) -> Option<Self> {
        let mut parts = path.rsplitn(4, |byte| *byte == b'/');
        let (model, group, host) = (parts.next()?, parts.next()?, parts.next()?);
        let rest = parts.next()?;
        let store = match rest.strip_suffix(b"manifests")? {
            b"" => b"".as_slice(),
            store => store.strip_suffix(b"/")?,
        };
        Some(Self {
            blobs: join(store, b"blobs"),
            host: shown(host),
            group: shown(group),
            model: shown(model),
        })
    }
}

fn add_tag(build: &mut Build<'_>, place: &Place, entry: u32) {
    let tag = build.entries.name(entry);
    let Some(real) = build.entries.real(entry).filter(|_| !tag.starts_with(b".")) else {
        return;
    };
    let name = tag_name(&place.host, &place.group, &place.model, &shown(tag));
    let mut draft = Draft::new(name, Kind::Ollama, build.entries.path(entry));
    match build.facts(real, Format::Manifest).as_deref() {
        Ok(Facts::Manifest(manifest)) => add_layers(build, place, manifest, &mut draft),
        // Without a store around it this is somebody else's directory of that name.
        _ if build.entries.find_directory(&place.blobs).is_none() => return,
        Ok(_) => {}
        Err(problem) => draft.faults.push(format!("its manifest: {problem}")),
    }
    draft.members.push(Member {
        entry: real,
        role: Role::Manifest,
    });
    build.add(draft);
}

fn add_layers(build: &mut Build<'_>, place: &Place, manifest: &ManifestFacts, draft: &mut Draft) {
    for layer in &manifest.layers {
        let Some(blob) = find_blob(build, place, layer) else {
            draft.miss(|| blob_name(&layer.digest));
            continue;
        };
        let size = build.entries.size(blob);
        if size != layer.size {
            let name = blob_name(&layer.digest);
            draft
                .faults
                .push(format!("{name} has {size} bytes; {} are right", layer.size));
        }
        match layer.role {
            Role::Config => read_config(build, blob, draft),
            Role::Weights if !layer.is_tensor => read_weights(build, blob, draft),
            _ => {}
        }
        draft.members.push(Member {
            entry: blob,
            role: layer.role,
        });
    }
}

fn find_blob(build: &Build<'_>, place: &Place, layer: &Layer) -> Option<u32> {
    let name = blob_name(&layer.digest);
    build
        .entries
        .lookup(&join(&place.blobs, name.as_bytes()))
        .or_else(|| {
            // What Ollama before 0.1.33 wrote; it renames them when it starts.
            build
                .entries
                .lookup(&join(&place.blobs, name.replacen('-', ":", 1).as_bytes()))
        })
}

/// Headers know the weights best; the configuration blob fills what they leave open.
fn merge(details: &mut Details, other: Details) {
    details.architecture = details.architecture.take().or(other.architecture);
    details.quantisation = details.quantisation.take().or(other.quantisation);
    details.parameters = details.parameters.or(other.parameters);
    details.context = details.context.or(other.context);
}

fn read_config(build: &mut Build<'_>, blob: u32, draft: &mut Draft) {
    match build.facts(blob, Format::BlobConfig).as_deref() {
        Ok(Facts::BlobConfig(config)) => merge(
            &mut draft.details,
            Details {
                architecture: config.architecture.as_deref().map(str::to_owned),
                quantisation: config.quantisation.as_deref().map(str::to_owned),
                parameters: config.label.as_deref().and_then(parameters_of_label),
                context: None,
            },
        ),
        Ok(_) => {}
        Err(problem) => draft.faults.push(format!("its configuration: {problem}")),
    }
}

fn read_weights(build: &mut Build<'_>, blob: u32, draft: &mut Draft) {
    match build.facts(blob, Format::Gguf).as_deref() {
        Ok(Facts::Gguf(header)) => {
            if header.truncated {
                draft
                    .faults
                    .push("its weights end before the last tensor".to_owned());
            }
            merge(
                &mut draft.details,
                Details {
                    architecture: header.architecture.as_deref().map(str::to_owned),
                    quantisation: header.file_type.and_then(quantisation).map(str::to_owned),
                    parameters: header.parameters,
                    context: header.context,
                },
            );
        }
        Ok(_) => {}
        Err(problem) => draft.faults.push(format!("its weights: {problem}")),
    }
}
