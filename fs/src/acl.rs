//! POSIX ACLs of home files, as far as the mount goes by them: it shows permission bits alone, and
//! shows none that would let in whom the ACL refuses.

/// Extended attribute that holds the ACL (linux/posix_acl_xattr.h).
pub const ATTRIBUTE: &str = "system.posix_acl_access";

/// Its first four bytes, and the bytes that each entry takes: tag, permissions, identifier.
const VERSION: [u8; 4] = 2_u32.to_le_bytes();
const ENTRY_BYTES: usize = 8;

/// Tags of entries (acl(5)); those of the owner and of others are in the mode, too.
const USER: u16 = 0x02;
const GROUP_OBJ: u16 = 0x04;
const GROUP: u16 = 0x08;
const MASK: u16 = 0x10;

/// All that an entry can allow.
const ALL: u16 = 0o7;
/// The bits of a mode that allow something to somebody else than the owner.
pub const BITS_OF_OTHERS: u16 = 0o077;

/// The permission bits of a file with this ACL that hold for everybody: its group's are what the ACL
/// gives the group, not the mask that they are in the mode; and what a user or group with an entry
/// may not do, nobody may whom the bits could mistake for them. What cannot be read leaves the
/// owner's bits alone.
pub fn narrowed(permissions: u16, acl: &[u8]) -> u16 {
    let Some(entries) = entries(acl) else {
        return permissions & !BITS_OF_OTHERS;
    };
    let mask = entries
        .clone()
        .find(|(tag, _)| *tag == MASK)
        .map_or(ALL, |(_, allowed)| allowed);
    let (mut group, mut others) = (permissions >> 3 & ALL, permissions & ALL);
    for (tag, allowed) in entries {
        let allowed = allowed & mask;
        match tag {
            // A user may be of the group, or of none that is named.
            USER => (group, others) = (group & allowed, others & allowed),
            GROUP_OBJ => group &= allowed,
            GROUP => others &= allowed,
            _ => {}
        }
    }
    permissions & !BITS_OF_OTHERS | group << 3 | others
}

/// Tag and permissions of each entry; `None`: no ACL that we know.
fn entries(acl: &[u8]) -> Option<impl Iterator<Item = (u16, u16)> + Clone> {
    let entries = acl.strip_prefix(&VERSION)?.chunks_exact(ENTRY_BYTES);
    let word = |bytes: [u8; 2]| u16::from_le_bytes(bytes);
    entries
        .remainder()
        .is_empty()
        .then(|| entries.map(move |at| (word([at[0], at[1]]), word([at[2], at[3]]))))
}

#[cfg(test)]
mod tests {
    use super::*;

    const USER_OBJ: u16 = 0x01;
    const OTHER: u16 = 0x20;

    fn acl(entries: &[(u16, u16)]) -> Vec<u8> {
        let mut bytes = VERSION.to_vec();
        for (tag, allowed) in entries {
            bytes.extend(tag.to_le_bytes());
            bytes.extend(allowed.to_le_bytes());
            bytes.extend(1000_u32.to_le_bytes());
        }
        bytes
    }

    #[test]
    fn nobody_is_let_in_whom_the_acl_refuses() {
        let of = |permissions, named: &[(u16, u16)], group, mask| {
            let ends = [(GROUP_OBJ, group), (MASK, mask), (OTHER, permissions & ALL)];
            narrowed(
                permissions,
                &acl(&[&[(USER_OBJ, 7)], named, &ends].concat()),
            )
        };
        let cases = [
            // The group's own entry says less than the mask that let a user in.
            (of(0o640, &[(USER, 4)], 0, 4), 0o600),
            (of(0o674, &[(USER, 7)], 4, 7), 0o644),
            // Who has less than others by name.
            (of(0o644, &[(USER, 0)], 4, 4), 0o600),
            (of(0o644, &[(GROUP, 0)], 4, 4), 0o640),
            (of(0o755, &[(USER, 5), (GROUP, 4)], 5, 5), 0o754),
            // What the mask takes from an entry it takes from those mistaken for it.
            (of(0o745, &[(USER, 7)], 7, 4), 0o744),
            // One that allows as much as the bits takes nothing.
            (of(0o2775, &[(USER, 7), (GROUP, 5)], 7, 7), 0o2775),
            (
                narrowed(0o664, &acl(&[(USER_OBJ, 6), (GROUP_OBJ, 6), (OTHER, 4)])),
                0o664,
            ),
        ];
        for (at, (shown, wanted)) in cases.iter().enumerate() {
            assert_eq!(shown, wanted, "case {at}: {shown:o} instead of {wanted:o}");
        }
    }

    #[test]
    fn what_is_no_acl_leaves_the_owner_alone() {
        let whole = acl(&[(USER_OBJ, 7), (GROUP_OBJ, 7), (OTHER, 7)]);
        let next_version = [&3_u32.to_le_bytes(), &whole[4..]].concat();
        for odd in [&whole[..3], &whole[..whole.len() - 1], &next_version, &[]] {
            assert_eq!(narrowed(0o4777, odd), 0o4700, "{odd:?}");
        }
    }
}
