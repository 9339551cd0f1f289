//! Hugging Face: `config.json`, shard indexes, and the names inside the hub cache; also the
//! manifest that llama.cpp keeps beside what it fetched from the hub.
//!
//! Only bytes and names come in. Which files exist is the builder's business.

use super::format::{FormatError, Scalar, json};
use serde::de::{self, Deserialize, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use std::borrow::Cow;
use std::collections::BTreeSet;
use std::fmt;

/// A `config.json` longer than this many bytes is not read.
pub const CONFIG_BYTES_MAX: usize = 1 << 20;
/// A shard index longer than this many bytes is not read; the largest real ones have some 10 MB.
pub const INDEX_BYTES_MAX: usize = 32 << 20;
/// An index that names more shards than this is not believed.
pub const SHARDS_MAX: usize = 4_096;

/// What a `config.json` tells.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct ConfigFacts {
    /// `model_type`, else the first of `architectures`.
    pub architecture: Option<Box<str>>,
    /// `torch_dtype` or `dtype`, for example `bfloat16`.
    pub dtype: Option<Box<str>>,
    /// `quantization_config.quant_method`, for example `awq`.
    pub quantisation: Option<Box<str>>,
    /// `max_position_embeddings`: the longest context in tokens.
    pub context: Option<u64>,
}

/// Reads `config.json`.
///
/// # Errors
/// If it is not a JSON object; fields of an unexpected type are passed over.
pub fn read_config(bytes: &[u8]) -> Result<ConfigFacts, FormatError> {
    json::<ConfigFields>("config.json", bytes).map(|fields| fields.facts)
}

#[derive(Default)]
struct ConfigFields {
    facts: ConfigFacts,
}

impl<'de> Deserialize<'de> for ConfigFields {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(ConfigVisitor)
    }
}

struct ConfigVisitor;

impl<'de> Visitor<'de> for ConfigVisitor {
    type Value = ConfigFields;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut fields: A) -> Result<ConfigFields, A::Error> {
        let mut facts = ConfigFacts::default();
        let mut class = None;
        let mut text = ConfigFacts::default();
        while let Some(key) = fields.next_key::<Cow<'_, str>>()? {
            match key.as_ref() {
                "model_type" => facts.architecture = fields.next_value::<Scalar>()?.text(),
                "architectures" => class = fields.next_value::<Scalar>()?.text(),
                "torch_dtype" | "dtype" => facts.dtype = fields.next_value::<Scalar>()?.text(),
                "quant_method" => facts.quantisation = fields.next_value::<Scalar>()?.text(),
                "max_position_embeddings" => {
                    facts.context = fields.next_value::<Scalar>()?.number();
                }
                // Depth is bounded: serde_json gives up after 128 levels.
                "text_config" | "quantization_config" => {
                    if let Section(Some(section)) = fields.next_value::<Section>()? {
                        text.context = text.context.or(section.context);
                        text.dtype = text.dtype.or(section.dtype);
                        text.quantisation = text.quantisation.or(section.quantisation);
                    }
                }
                _ => {
                    fields.next_value::<IgnoredAny>()?;
                }
            }
        }
        facts.architecture = facts.architecture.or(class);
        facts.context = facts.context.or(text.context);
        facts.dtype = facts.dtype.or(text.dtype);
        facts.quantisation = facts.quantisation.or(text.quantisation);
        Ok(ConfigFields { facts })
    }
}

/// A nested object of a configuration, or something else that is passed over.
struct Section(Option<ConfigFacts>);

impl<'de> Deserialize<'de> for Section {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(SectionVisitor)
    }
}

struct SectionVisitor;

impl<'de> Visitor<'de> for SectionVisitor {
    type Value = Section;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any value")
    }

    fn visit_map<A: MapAccess<'de>>(self, fields: A) -> Result<Section, A::Error> {
        ConfigVisitor
            .visit_map(fields)
            .map(|fields| Section(Some(fields.facts)))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<Section, A::Error> {
        while elements.next_element::<IgnoredAny>()?.is_some() {}
        Ok(Section(None))
    }

    fn visit_str<E: de::Error>(self, _: &str) -> Result<Section, E> {
        Ok(Section(None))
    }

    fn visit_u64<E: de::Error>(self, _: u64) -> Result<Section, E> {
        Ok(Section(None))
    }

    fn visit_i64<E: de::Error>(self, _: i64) -> Result<Section, E> {
        Ok(Section(None))
    }

    fn visit_f64<E: de::Error>(self, _: f64) -> Result<Section, E> {
        Ok(Section(None))
    }

    fn visit_bool<E: de::Error>(self, _: bool) -> Result<Section, E> {
        Ok(Section(None))
    }

    fn visit_unit<E: de::Error>(self) -> Result<Section, E> {
        Ok(Section(None))
    }
}

/// What an index of shards tells (`*.safetensors.index.json`, `*.bin.index.json`).
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct IndexFacts {
    /// File names of the shards, sorted, relative to the index.
    pub shards: Box<[Box<str>]>,
}

/// Reads an index of shards.
///
/// # Errors
/// If it is not JSON, names more than [`SHARDS_MAX`] shards, or a shard outside its directory.
pub fn read_index(bytes: &[u8]) -> Result<IndexFacts, FormatError> {
    let index: Index = json("shard index", bytes)?;
    Ok(IndexFacts {
        shards: index.weight_map.0.into_iter().collect(),
    })
}

#[derive(serde::Deserialize)]
struct Index {
    weight_map: Shards,
}

struct Shards(BTreeSet<Box<str>>);

impl<'de> Deserialize<'de> for Shards {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(ShardsVisitor)
    }
}

struct ShardsVisitor;

impl<'de> Visitor<'de> for ShardsVisitor {
    type Value = Shards;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object of tensors and shards")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Shards, A::Error> {
        let mut shards = BTreeSet::<Box<str>>::new();
        while let Some((_, shard)) = entries.next_entry::<IgnoredAny, Cow<'_, str>>()? {
            if shards.contains(shard.as_ref()) {
                continue;
            }
            if !is_plain_path(&shard) {
                return Err(de::Error::custom(
                    "a shard that is not a name in this directory",
                ));
            }
            if shards.len() == SHARDS_MAX {
                return Err(de::Error::custom(format!("more than {SHARDS_MAX} shards")));
            }
            shards.insert(shard.into());
        }
        Ok(Shards(shards))
    }
}

/// A relative path that stays where it starts.
fn is_plain_path(path: &str) -> bool {
    path.len() <= 1_024
        && !path.contains('\0')
        && path.split('/').all(|part| !matches!(part, "" | "." | ".."))
}

/// What the manifest that llama.cpp stores with a fetched model tells.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct FetchedFacts {
    /// Name of the model's file in its repository.
    pub model: Option<Box<str>>,
    /// Name of the projector's file in its repository.
    pub projector: Option<Box<str>>,
}

/// Reads llama.cpp's `manifest=ORG=MODEL=TAG.json`.
///
/// # Errors
/// If it is not JSON of that shape.
pub fn read_fetched(bytes: &[u8]) -> Result<FetchedFacts, FormatError> {
    #[derive(serde::Deserialize)]
    struct Manifest {
        #[serde(rename = "ggufFile")]
        model: Option<Remote>,
        #[serde(rename = "mmprojFile")]
        projector: Option<Remote>,
    }
    #[derive(serde::Deserialize)]
    struct Remote {
        rfilename: Scalar,
    }
    let manifest: Manifest = json("llama.cpp manifest", bytes)?;
    Ok(FetchedFacts {
        model: manifest.model.and_then(|file| file.rfilename.text()),
        projector: manifest.projector.and_then(|file| file.rfilename.text()),
    })
}

/// `manifest=ORG=MODEL=TAG.json` -> (`ORG`, `MODEL`, `TAG`).
pub fn fetched_name(name: &[u8]) -> Option<(&str, &str, &str)> {
    let name = std::str::from_utf8(name).ok()?;
    let mut parts = name
        .strip_prefix("manifest=")?
        .strip_suffix(".json")?
        .split('=');
    let (org, model, tag) = (parts.next()?, parts.next()?, parts.next()?);
    (parts.next().is_none() && ![org, model, tag].contains(&"")).then_some((org, model, tag))
}

/// `models--org--name` -> `org/name`; `None` for data sets, spaces and anything else.
pub fn hub_name(directory: &[u8]) -> Option<String> {
    let name = directory
        .strip_prefix(b"models--")
        .filter(|name| !name.is_empty())?;
    Some(String::from_utf8_lossy(name).replacen("--", "/", 1))
}

/// The revision that a file below `refs/` names.
///
/// # Errors
/// If it is not the name of a revision.
pub fn read_ref(bytes: &[u8]) -> Result<Box<str>, FormatError> {
    let text = bytes.trim_ascii();
    let plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"-_.".contains(byte);
    match std::str::from_utf8(text) {
        Ok(revision) if (1..=128).contains(&text.len()) && text.iter().all(plain) => {
            Ok(revision.into())
        }
        _ => Err(FormatError {
            format: "hub ref",
            offset: 0,
            problem: "not the name of a revision, such as 40 hexadecimal digits".to_owned(),
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_config_is_read_through_odd_fields() {
        let facts = read_config(
            br#"{"architectures":["LlamaForCausalLM", 5],"torch_dtype":{"a":1},"dtype":"bfloat16",
            "max_position_embeddings":-1,"text_config":{"max_position_embeddings":131072},
            "quantization_config":{"quant_method":"awq","bits":4},"model_type":null}"#,
        )
        .unwrap();
        assert_eq!(facts.architecture.as_deref(), Some("LlamaForCausalLM"));
        assert_eq!(facts.dtype.as_deref(), Some("bfloat16"));
        assert_eq!(
            (facts.context, facts.quantisation.as_deref()),
            (Some(131_072), Some("awq"))
        );
    }

    #[test]
    fn an_index_tells_each_shard_once() {
        let index = br#"{"metadata":{},"weight_map":{"a":"m-2","b":"m-1","c":"m-2"}}"#;
        let shards: Vec<_> = read_index(index).unwrap().shards.into_vec();
        assert_eq!(shards, ["m-1".into(), "m-2".into()]);
    }

    #[test]
    fn hostile_documents_are_refused_with_a_reason() {
        let many: String = (0..5_000).map(|i| format!("\"t{i}\":\"s{i}\",")).collect();
        let many = format!("{{\"weight_map\":{{{}\"z\":\"z\"}}}}", many);
        let deep = format!("{{\"text_config\":{}", "{\"text_config\":".repeat(5_000));
        let nested = "[".repeat(5_000);
        type Reader = fn(&[u8]) -> Result<(), FormatError>;
        let config: Reader = |bytes| read_config(bytes).map(drop);
        let index: Reader = |bytes| read_index(bytes).map(drop);
        let fetched: Reader = |bytes| read_fetched(bytes).map(drop);
        let reference: Reader = |bytes| read_ref(bytes).map(drop);
        let table: [(&str, Reader, &[u8], &str); 15] = [
            ("empty config", config, b"", "EOF"),
            ("array config", config, b"[]", "an object"),
            ("deep config", config, deep.as_bytes(), "recursion"),
            ("deep array", config, nested.as_bytes(), "an object"),
            ("latin 1", config, b"{\"model_type\":\"\xe4\"}", "invalid"),
            ("config and more", config, b"{} {}", "trailing"),
            ("no map", index, b"{}", "weight_map"),
            (
                "map of numbers",
                index,
                br#"{"weight_map":{"a":1}}"#,
                "invalid type",
            ),
            (
                "absolute shard",
                index,
                br#"{"weight_map":{"a":"/etc/passwd"}}"#,
                "not a name",
            ),
            (
                "climbing shard",
                index,
                br#"{"weight_map":{"a":"x/../../y"}}"#,
                "not a name",
            ),
            (
                "nul shard",
                index,
                br#"{"weight_map":{"a":"x\u0000"}}"#,
                "not a name",
            ),
            ("many shards", index, many.as_bytes(), "more than 4096"),
            ("fetched number", fetched, br#"{"ggufFile":5}"#, "invalid"),
            ("empty ref", reference, b"\n", "not the name"),
            ("climbing ref", reference, b"../../x", "not the name"),
        ];
        for (name, read, bytes, wanted) in table {
            let error = read(bytes).expect_err(name).to_string();
            assert!(error.contains(wanted), "{name}: {error}");
        }
    }

    #[test]
    fn names_of_the_hub_cache() {
        assert_eq!(hub_name(b"models--org--a--b").as_deref(), Some("org/a--b"));
        assert_eq!(hub_name(b"models--gpt2").as_deref(), Some("gpt2"));
        assert_eq!(hub_name(b"datasets--a--b"), None);
        assert_eq!(
            fetched_name(b"manifest=o=m=latest.json"),
            Some(("o", "m", "latest"))
        );
        assert_eq!(fetched_name(b"manifest=o=m.json"), None);
        assert_eq!(fetched_name(b"manifest=o=m=t=x.json"), None);
    }

    proptest::proptest! {
        #[test]
        fn random_bytes_never_panic(bytes: Vec<u8>, text: String) {
            for bytes in [bytes.as_slice(), text.as_bytes()] {
                let _ = (read_config(bytes), read_index(bytes), read_fetched(bytes));
                let _ = (read_ref(bytes), hub_name(bytes), fetched_name(bytes));
            }
        }

        #[test]
        fn mutated_documents_never_panic(at: usize, value: u8) {
            let config = br#"{"architectures":["A"],"text_config":{"dtype":"f16"}}"#;
            let index = br#"{"metadata":{"total_size":1},"weight_map":{"a":"b"}}"#;
            let fetched = br#"{"ggufFile":{"rfilename":"a.gguf","size":1},"mmprojFile":null}"#;
            let mutated = |document: &[u8]| {
                let mut bytes = document.to_vec();
                let at = at % bytes.len();
                bytes[at] = value;
                bytes
            };
            let _ = (read_config(&mutated(config)), read_index(&mutated(index)));
            let _ = read_fetched(&mutated(fetched));
        }
    }
}
