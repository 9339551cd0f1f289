//! What comes in by the socket and the control file, what engines answer, and names as they are shown.
#![no_main]

use libfuzzer_sys::fuzz_target;
use speedloader::command::parse_line;
use speedloader::control::socket::parse_request;
use speedloader::engines;
use speedloader::view::human::{escape, printable, unescape};
use speedloader_fs::mount_table;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(request) = parse_request(bytes) {
        assert!(
            request.command.check().is_ok(),
            "only what was checked comes through"
        );
    }
    if engines::is_whole(bytes) {
        let _ = engines::body_of(bytes);
    }
    let _ = mount_table::entries(bytes).count();
    assert_eq!(unescape(&escape(bytes)).as_deref(), Some(bytes));
    let text = String::from_utf8_lossy(bytes);
    assert!(!printable(&text).chars().any(char::is_control));
    let _ = unescape(&text);
    if let Ok(Some(command)) = parse_line(&text) {
        assert!(
            command.check().is_ok(),
            "only what was checked comes through"
        );
    }
});
