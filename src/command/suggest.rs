//! "Did you mean": which known names are near a name that is not known.

/// At most so many are shown.
const SUGGESTIONS_MAX: usize = 3;
/// Comparing is quadratic in the length; nobody mistypes longer names by hand.
const NAME_CHARS_MAX: usize = 256;

/// The known names that `name` may stand for, the likeliest first: those that differ by a slip of
/// the fingers, then those that contain it. Upper and lower case count as equal.
pub fn suggest<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> Vec<String> {
    let wanted = name.to_lowercase();
    let length = wanted.chars().count();
    if length == 0 || length > NAME_CHARS_MAX {
        return Vec::new();
    }
    // A third of the letters may be wrong: one of three, two of six.
    let slips_max = length.div_ceil(3).min(4);
    let mut near: Vec<(usize, &str)> = known
        .into_iter()
        .filter_map(|candidate| {
            let lower = candidate.to_lowercase();
            if lower.chars().count() > NAME_CHARS_MAX {
                return None;
            }
            let slips = strsim::damerau_levenshtein(&wanted, &lower);
            // `lama3` also means `llama3:70b`: an Ollama tag need not be written out.
            let base = lower.split(':').next().unwrap_or(&lower);
            let slips = slips.min(strsim::damerau_levenshtein(&wanted, base));
            if slips <= slips_max {
                Some((slips, candidate))
            } else if length >= 3 && lower.contains(&wanted) {
                Some((slips_max + 1, candidate))
            } else {
                None
            }
        })
        .collect();
    near.sort();
    near.dedup();
    // What is much farther than the nearest is not what was meant.
    let nearest = near.first().map_or(0, |(slips, _)| *slips);
    near.retain(|(slips, _)| *slips <= nearest + 1);
    near.into_iter()
        .take(SUGGESTIONS_MAX)
        .map(|(_, candidate)| candidate.to_owned())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const KNOWN: &[&str] = &[
        "llama3",
        "llama3.2:3b",
        "phi4",
        "mistral-small:24b",
        "qwen2.5-coder:7b",
    ];

    #[test]
    fn slips_are_recognised() {
        let cases: &[(&str, &[&str])] = &[
            ("lama3", &["llama3"]),
            ("LLAMA3", &["llama3"]),
            ("pih4", &["phi4"]),
            ("coder", &["qwen2.5-coder:7b"]),
            ("xylophone", &[]),
            ("", &[]),
        ];
        for (name, wanted) in cases {
            assert_eq!(suggest(name, KNOWN.iter().copied()), *wanted, "{name}");
        }
    }

    #[test]
    fn enormous_names_cost_nothing() {
        let enormous = "x".repeat(1 << 20);
        assert!(suggest(&enormous, KNOWN.iter().copied()).is_empty());
        assert!(suggest("llama", [enormous.as_str()]).is_empty());
    }
}
