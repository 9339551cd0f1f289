//! Acting as somebody else than root, in this process.

use rustix::process::{Gid, Uid};
use rustix::thread::{set_thread_groups, set_thread_res_gid, set_thread_res_uid};

/// Does something on a thread of its own as this user, whose own group has the same number, and as a member of
/// `groups`.
pub fn as_user<T: Send>(id: u32, groups: &[u32], act: impl FnOnce() -> T + Send) -> T {
    std::thread::scope(|scope| {
        let act = scope.spawn(move || {
            let (user, group) = (Uid::from_raw(id), Gid::from_raw(id));
            let groups: Vec<Gid> = groups.iter().map(|group| Gid::from_raw(*group)).collect();
            set_thread_groups(&groups).unwrap();
            set_thread_res_gid(group, group, group).unwrap();
            set_thread_res_uid(user, user, user).unwrap();
            act()
        });
        act.join().unwrap()
    })
}
