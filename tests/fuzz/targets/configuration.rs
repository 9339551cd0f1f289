//! Configuration files, mount options, and changes of files by keys.
#![no_main]

use libfuzzer_sys::fuzz_target;
use speedloader_config::{File, Sources, edit, load, parse_mount_options};

fuzz_target!(|text: &str| {
    let _ = load(&Sources {
        file: Some(File {
            path: "/c.toml".into(),
            contents: text.as_bytes().to_vec(),
        }),
        ..Sources::default()
    });
    let _ = parse_mount_options(text);
    let change = ("http.listen".to_owned(), Some(text.to_owned()));
    if let Ok(edited) = edit("", &[change]) {
        assert!(
            edit(&edited, &[]).is_ok(),
            "what was written can be read again"
        );
    }
    let _ = edit(
        text,
        &[("pool[0].capacity".to_owned(), Some("1GiB".to_owned()))],
    );
});
