//! Extended attributes and ACLs, which the mount does not offer: programs must be told so in the way
//! that they take for an answer. `cp -p`, `tar` and `rsync` go on without them.

use rustix::fs::XattrFlags;
use rustix::io::Errno;

use super::mode::{self, Mode};
use crate::harness::Site;

#[test]
fn extended_attributes_are_not_offered() {
    for mode in [Mode::Passthrough, Mode::Daemon] {
        let site = Site::new()
            .models_file("f.gguf", 1, 10)
            .cold_file("cold.gguf", 2, 10);
        let Some(mount) = mode::start(site, mode, &[]) else {
            continue;
        };
        for name in ["f.gguf", "cold.gguf", ""] {
            let path = mount.mounted(name);
            for attribute in ["user.a", "trusted.a", "security.capability"] {
                let mut value = [0; 64];
                let got = rustix::fs::getxattr(&path, attribute, &mut value[..]);
                assert_eq!(got.unwrap_err(), Errno::OPNOTSUPP, "{name:?} {attribute}");
            }
            // As of a file without an ACL below.
            let acl = rustix::fs::getxattr(&path, "system.posix_acl_access", &mut [0; 64][..]);
            assert_eq!(acl.unwrap_err(), Errno::NODATA, "{name:?}");
            // The kernel itself looks at the values of the others.
            for attribute in ["user.a", "trusted.a"] {
                let set = rustix::fs::setxattr(&path, attribute, b"1", XattrFlags::empty());
                assert_eq!(set.unwrap_err(), Errno::OPNOTSUPP, "{name:?} {attribute}");
                let removed = rustix::fs::removexattr(&path, attribute);
                assert_eq!(
                    removed.unwrap_err(),
                    Errno::OPNOTSUPP,
                    "{name:?} {attribute}"
                );
            }
            let mut names = [0; 64];
            match rustix::fs::listxattr(&path, &mut names[..]) {
                Ok(length) => assert_eq!(length, 0, "{name:?}"),
                Err(errno) => assert_eq!(errno, Errno::OPNOTSUPP, "{name:?}"),
            }
        }
    }
}
