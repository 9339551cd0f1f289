//! The limit of hard links, which pjdfstest cannot find on a FUSE file system (see deviations.toml).

use std::fs;
use std::os::unix::fs::MetadataExt;

use rustix::io::Errno;

use crate::harness::{Site, skip};

/// ext4 allows 65,000 links; a file system that allows more than this is not filled up.
const LINKS_MAX: u32 = 70_000;

#[test]
fn a_link_too_many_is_refused_as_below() {
    let site = Site::new().models_file("one.gguf", 1, 10);
    let Some(mount) = site.start() else { return };
    // Most of them lie outside the models directory: only their number counts.
    let outside = mount.root().join("outside");
    fs::create_dir(&outside).unwrap();
    let link = |number: u32| {
        fs::hard_link(mount.models("one.gguf"), outside.join(number.to_string()))
            .map_err(|error| error.raw_os_error())
    };
    let refused = (0..LINKS_MAX).find_map(|number| Some((number, link(number).err()?)));
    let Some((made, why)) = refused else {
        return skip::skip("the file system allows more than 70,000 hard links");
    };
    assert_eq!(why, Some(Errno::MLINK.raw_os_error()));
    let through = || fs::hard_link(mount.mounted("one.gguf"), mount.mounted("two.gguf"));
    assert_eq!(through().unwrap_err().raw_os_error(), why);
    fs::remove_file(outside.join("0")).unwrap();
    through().unwrap();
    let shown = fs::metadata(mount.mounted("two.gguf")).unwrap();
    assert_eq!(shown.nlink(), u64::from(made) + 1);
}
