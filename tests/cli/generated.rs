//! What is generated from the command line's definition: help of every verb (by snapshot), and the
//! committed completions and man pages. `SPEEDLOADER_BLESS=1 cargo test` writes the latter anew.

use std::fs;
use std::path::{Path, PathBuf};

use speedloader::cli::{command_line, completion_files, man_pages};

use super::console::speedloader;

fn verbs() -> Vec<Vec<String>> {
    let mut verbs = vec![Vec::new()];
    for verb in command_line().get_subcommands() {
        verbs.push(vec![verb.get_name().to_owned()]);
        for action in verb.get_subcommands() {
            verbs.push(vec![
                verb.get_name().to_owned(),
                action.get_name().to_owned(),
            ]);
        }
    }
    verbs
}

#[test]
fn every_verb_has_help_with_an_example() {
    for verb in verbs() {
        let mut arguments: Vec<&str> = verb.iter().map(String::as_str).collect();
        arguments.push("--help");
        let outcome = speedloader(&arguments);
        assert_eq!(outcome.status, 0, "{verb:?}");
        assert!(
            outcome.out.contains("Example"),
            "{verb:?} teaches by no example"
        );
        let name = if verb.is_empty() {
            "help".to_owned()
        } else {
            format!("help_{}", verb.join("_"))
        };
        insta::assert_snapshot!(name, outcome.out);
    }
}

#[test]
fn examples_are_command_lines_that_parse() {
    for verb in verbs() {
        let mut arguments: Vec<&str> = verb.iter().map(String::as_str).collect();
        arguments.push("--help");
        let help = speedloader(&arguments).out;
        let examples = help
            .lines()
            .filter_map(|line| line.strip_prefix("  speedloader "));
        for example in examples.filter(|example| !example.contains("fuse.speedloader")) {
            let end = ["|", "&&", ">"]
                .iter()
                .filter_map(|stop| example.find(stop))
                .min()
                .unwrap_or(example.len());
            let wordy = example[..end].split("   ").next().unwrap();
            let words = wordy.split_whitespace().map(|word| word.trim_matches('\''));
            let words = std::iter::once("speedloader").chain(words);
            let parsed = command_line().try_get_matches_from(words);
            assert!(parsed.is_ok(), "{example}: {}", parsed.err().unwrap());
        }
    }
}

fn contrib(directory: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("contrib")
        .join(directory)
}

fn compare(directory: &str, generated: Vec<(String, Vec<u8>)>) {
    let directory = contrib(directory);
    let bless = std::env::var_os("SPEEDLOADER_BLESS").is_some();
    let mut names: Vec<String> = generated.iter().map(|(name, _)| name.clone()).collect();
    for (name, contents) in generated {
        let path = directory.join(&name);
        if bless {
            fs::create_dir_all(&directory).unwrap();
            fs::write(&path, &contents).unwrap();
        }
        let committed = fs::read(&path).unwrap_or_default();
        assert!(
            committed == contents,
            "{name} is out of date; SPEEDLOADER_BLESS=1 cargo test writes it anew"
        );
    }
    let mut found: Vec<String> = fs::read_dir(&directory)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    found.sort();
    assert_eq!(
        found,
        names,
        "{} holds generated files only",
        directory.display()
    );
}

#[test]
fn completions_are_up_to_date() {
    let files = completion_files().into_iter();
    compare(
        "completions",
        files
            .map(|(name, script)| (name.to_owned(), script.into_bytes()))
            .collect(),
    );
}

#[test]
fn man_pages_are_up_to_date() {
    compare("man", man_pages());
}
