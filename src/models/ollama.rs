//! Ollama's store: manifests, the names of tags, the names of blobs.
//!
//! Only bytes and names come in. Which files exist is the builder's business.

use super::format::{FormatError, Scalar, json};
use super::model::Role;
use serde::de::{self, Deserialize, Deserializer, SeqAccess, Visitor};
use std::borrow::Cow;
use std::fmt;

/// A manifest longer than this many bytes is not read; models of one blob a tensor have some 1 MB.
pub const MANIFEST_BYTES_MAX: usize = 8 << 20;
/// A manifest of more layers than this is not believed.
pub const LAYERS_MAX: usize = 8_192;
/// A configuration blob longer than this many bytes is not read.
pub const CONFIG_BYTES_MAX: usize = 1 << 20;

const FORMAT: &str = "Ollama manifest";

/// A blob that a manifest names.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Layer {
    /// SHA-256 of the blob, which is also its name.
    pub digest: [u8; 32],
    /// Bytes.
    pub size: u64,
    /// What it is for.
    pub role: Role,
    /// One tensor of a model that has a blob for each, instead of a GGUF file.
    pub is_tensor: bool,
}

/// What a manifest tells: its layers, the configuration blob last.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct ManifestFacts {
    /// In the order of the manifest.
    pub layers: Box<[Layer]>,
}

/// Reads a manifest.
///
/// # Errors
/// If it is not a manifest: not JSON, too many layers, a digest that is not a SHA-256.
pub fn read_manifest(bytes: &[u8]) -> Result<ManifestFacts, FormatError> {
    #[derive(serde::Deserialize)]
    struct Manifest {
        config: Option<ConfigLayer>,
        layers: Layers,
    }
    let manifest: Manifest = json(FORMAT, bytes)?;
    let mut layers = manifest.layers.0;
    layers.extend(manifest.config.map(|config| Layer {
        role: Role::Config,
        ..config.0
    }));
    Ok(ManifestFacts {
        layers: layers.into_boxed_slice(),
    })
}

#[derive(serde::Deserialize)]
struct RawLayer<'a> {
    #[serde(default, rename = "mediaType")]
    media_type: Scalar,
    #[serde(borrow)]
    digest: Cow<'a, str>,
    size: u64,
}

impl RawLayer<'_> {
    fn checked<E: de::Error>(self) -> Result<Layer, E> {
        let digest = self
            .digest
            .strip_prefix("sha256:")
            .and_then(|hex| digest_of_hex(hex.as_bytes()));
        let Some(digest) = digest else {
            return Err(E::custom(
                "a digest that is not `sha256:` and 64 hexadecimal digits",
            ));
        };
        let media_type = self.media_type.text().unwrap_or_default();
        let is_tensor = media_type.ends_with(".tensor");
        Ok(Layer {
            digest,
            size: self.size,
            role: role_of(&media_type),
            is_tensor,
        })
    }
}

fn role_of(media_type: &str) -> Role {
    match media_type.rsplit('.').next().unwrap_or_default() {
        "model" | "tensor" => Role::Weights,
        "projector" => Role::Projector,
        "adapter" => Role::Adapter,
        _ => Role::Other,
    }
}

struct ConfigLayer(Layer);

impl<'de> Deserialize<'de> for ConfigLayer {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        RawLayer::deserialize(deserializer)?.checked().map(Self)
    }
}

struct Layers(Vec<Layer>);

impl<'de> Deserialize<'de> for Layers {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_seq(LayersVisitor)
    }
}

struct LayersVisitor;

impl<'de> Visitor<'de> for LayersVisitor {
    type Value = Layers;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of layers")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<Layers, A::Error> {
        let mut layers = Vec::new();
        while let Some(layer) = elements.next_element::<RawLayer<'_>>()? {
            if layers.len() == LAYERS_MAX {
                return Err(de::Error::custom(format!("more than {LAYERS_MAX} layers")));
            }
            layers.push(layer.checked()?);
        }
        Ok(Layers(layers))
    }
}

/// What a configuration blob tells.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct BlobConfigFacts {
    /// `model_family`.
    pub architecture: Option<Box<str>>,
    /// `model_type`: the number of weights as a label, for example `3.2B`.
    pub label: Option<Box<str>>,
    /// `file_type`: the quantisation, for example `Q4_K_M`.
    pub quantisation: Option<Box<str>>,
}

/// Reads a configuration blob.
///
/// # Errors
/// If it is not a JSON object; fields of an unexpected type are passed over.
pub fn read_config(bytes: &[u8]) -> Result<BlobConfigFacts, FormatError> {
    #[derive(serde::Deserialize)]
    struct Fields {
        #[serde(default)]
        model_family: Scalar,
        #[serde(default)]
        model_type: Scalar,
        #[serde(default)]
        file_type: Scalar,
    }
    let fields: Fields = json("Ollama configuration", bytes)?;
    Ok(BlobConfigFacts {
        architecture: fields.model_family.text(),
        label: fields.model_type.text(),
        quantisation: fields.file_type.text(),
    })
}

/// The name that people use for a manifest's place: `MODEL:TAG`, `NAMESPACE/MODEL:TAG` or
/// `HOST/NAMESPACE/MODEL:TAG`, as short as Ollama itself would show it.
pub fn tag_name(host: &str, group: &str, model: &str, tag: &str) -> String {
    match (host, group) {
        ("registry.ollama.ai", "library") => format!("{model}:{tag}"),
        ("registry.ollama.ai", _) => format!("{group}/{model}:{tag}"),
        _ => format!("{host}/{group}/{model}:{tag}"),
    }
}

/// What [`tag_name`] leaves out of a full name.
pub fn without_registry(query: &str) -> &str {
    let rest = query.strip_prefix("registry.ollama.ai/").unwrap_or(query);
    rest.strip_prefix("library/").unwrap_or(rest)
}

/// A query as a full tag name: `:latest` is what Ollama adds.
pub fn with_default_tag(query: &str) -> Option<String> {
    let last = query.rsplit('/').next().unwrap_or_default();
    (!last.contains(':') && !last.is_empty()).then(|| format!("{query}:latest"))
}

/// The file name of a blob.
pub fn blob_name(digest: &[u8; 32]) -> String {
    let mut name = String::from("sha256-");
    for byte in digest {
        for nibble in [byte >> 4, byte & 15] {
            name.push(char::from_digit(u32::from(nibble), 16).unwrap_or_default());
        }
    }
    name
}

/// The SHA-256 that a path promises: that of `.../blobs/sha256-HEX`, for no other path.
pub fn blob_digest(path: &[u8]) -> Option<[u8; 32]> {
    let mut parts = path.rsplit(|byte| *byte == b'/');
    let name = parts.next()?;
    (parts.next()? == b"blobs").then_some(())?;
    let hex = name
        .strip_prefix(b"sha256-")
        .or_else(|| name.strip_prefix(b"sha256:"))?;
    digest_of_hex(hex)
}

fn digest_of_hex(hex: &[u8]) -> Option<[u8; 32]> {
    let nibble = |digit: u8| {
        char::from(digit)
            .to_digit(16)
            .and_then(|value| u8::try_from(value).ok())
    };
    let mut digest = [0; 32];
    if hex.len() != 64 {
        return None;
    }
    for (byte, pair) in digest.iter_mut().zip(hex.chunks_exact(2)) {
        *byte = nibble(pair[0])? << 4 | nibble(pair[1])?;
    }
    Some(digest)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn manifest() -> String {
        let layer = |kind: &str, digit: &str| {
            format!(
                r#"{{"mediaType":"application/vnd.ollama.image.{kind}","digest":"sha256:{}","size":7}}"#,
                digit.repeat(64)
            )
        };
        format!(
            r#"{{"schemaVersion":2,"config":{},"layers":[{},{}]}}"#,
            layer("json", "c"),
            layer("model", "a"),
            layer("projector", "B"),
        )
    }

    #[test]
    fn a_manifest_tells_its_layers() {
        let facts = read_manifest(manifest().as_bytes()).unwrap();
        let roles: Vec<_> = facts.layers.iter().map(|layer| layer.role).collect();
        assert_eq!(roles, [Role::Weights, Role::Projector, Role::Config]);
        assert_eq!(facts.layers[1].digest, [0xbb; 32]);
        assert_eq!(facts.layers[0].size, 7);
    }

    #[test]
    fn hostile_manifests_are_refused_with_a_reason() {
        let zeroes = "0".repeat(64);
        let layers = |digest: &str, count: usize| {
            let layer = format!(r#"{{"digest":"{digest}","size":1}}"#);
            format!(r#"{{"layers":[{}]}}"#, vec![layer; count].join(","))
        };
        let good = format!("sha256:{zeroes}");
        let negative = layers(&good, 1).replace("\"size\":1", "\"size\":-1");
        let huge = layers(&good, 1).replace("\"size\":1", "\"size\":1e99");
        let table: [(&str, String, &str); 13] = [
            ("empty", String::new(), "EOF"),
            ("spaces", " ".repeat(99), "EOF"),
            ("a number", "7".into(), "invalid type"),
            ("cut", manifest()[..60].into(), "EOF"),
            ("no layers", "{}".into(), "layers"),
            (
                "layers that are text",
                r#"{"layers":"x"}"#.into(),
                "a list of layers",
            ),
            (
                "too many layers",
                layers(&good, LAYERS_MAX + 1),
                "more than",
            ),
            ("short digest", layers("sha256:00", 1), "64 hexadecimal"),
            (
                "climbing digest",
                layers("sha256:../../../../etc/passwd", 1),
                "64 hexadecimal",
            ),
            (
                "not hexadecimal",
                layers(&format!("sha256:{}", "g".repeat(64)), 1),
                "64 hexadecimal",
            ),
            ("md5", layers(&format!("md5:{zeroes}"), 1), "64 hexadecimal"),
            ("negative size", negative, "invalid"),
            ("huge size", huge, "invalid"),
        ];
        for (name, text, wanted) in table {
            let error = read_manifest(text.as_bytes()).expect_err(name).to_string();
            assert!(
                error.contains(wanted) && error.starts_with(FORMAT),
                "{name}: {error}"
            );
        }
    }

    #[test]
    fn names_and_digests() {
        assert_eq!(tag_name("registry.ollama.ai", "library", "a", "3b"), "a:3b");
        assert_eq!(tag_name("registry.ollama.ai", "me", "a", "3b"), "me/a:3b");
        assert_eq!(tag_name("hf.co", "me", "a", "3b"), "hf.co/me/a:3b");
        assert_eq!(with_default_tag("a").as_deref(), Some("a:latest"));
        assert_eq!(with_default_tag("h:1/a").as_deref(), Some("h:1/a:latest"));
        assert_eq!(with_default_tag("a:b"), None);
        let name = blob_name(&[0xa5; 32]);
        let digest = |path: String| blob_digest(path.as_bytes());
        assert_eq!(digest(format!("x/blobs/{name}")), Some([0xa5; 32]));
        assert_eq!(digest(format!("blobs/{name}")), Some([0xa5; 32]));
        assert_eq!(digest(format!("blobs/{name}-partial")), None);
        assert_eq!(digest(format!("x/{name}")), None);
        assert_eq!(digest(name), None);
    }

    proptest::proptest! {
        #[test]
        fn random_bytes_never_panic(bytes: Vec<u8>, text: String) {
            for bytes in [bytes.as_slice(), text.as_bytes()] {
                let _ = (read_manifest(bytes), read_config(bytes), blob_digest(bytes));
            }
            let _ = with_default_tag(&text);
        }

        #[test]
        fn a_mutated_manifest_never_panics(at: usize, value: u8, cut: usize) {
            let mut bytes = manifest().into_bytes();
            let at = at % bytes.len();
            bytes[at] = value;
            let _ = read_manifest(&bytes);
            bytes.truncate(cut % bytes.len());
            let _ = read_manifest(&bytes);
        }
    }
}
