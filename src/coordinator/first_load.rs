//! First loads: which opens may lead to one, and what is done when a process loads a file that is not
//! in a pool: the load is counted, the policy asked, and the model copied in the order of its files.

use std::fs::File;
use std::sync::Arc;
use std::time::Instant;

use speedloader_fs::copy::CopyControl;
use speedloader_fs::file::HomeFile;
use speedloader_fs::first_load::FirstLoadHost;
use speedloader_fs::ids::FileId;

use super::loads::Reader;
use super::moves::Subject;
use super::{Cause, Coordinator, Errand, Host, Wakeup};
use crate::machine;
use crate::models::ModelRef;
use crate::view::Level;

/// Smaller files are opened as ever: waiting for a copy of them costs more than it saves.
const BYTES_MIN: u64 = 1 << 20;

impl FirstLoadHost for Host {
    fn may_load(&self, file: &HomeFile) -> bool {
        self.0
            .upgrade()
            .is_some_and(|coordinator| coordinator.may_be_first_loaded(file))
    }

    fn is_ignored(&self, tid: u32) -> bool {
        let coordinator = self.0.upgrade();
        let process = || machine::process_of(tid).unwrap_or(tid);
        coordinator.is_some_and(|coordinator| coordinator.is_ignored(process()))
    }

    fn wanted(&self, file: &Arc<HomeFile>, tid: u32) {
        let Some(coordinator) = self.0.upgrade() else {
            return;
        };
        let wakeup = Wakeup::FirstLoad(Arc::clone(file), machine::process_of(tid).unwrap_or(tid));
        if coordinator.wakeup.send(wakeup).is_err() {
            coordinator.fs.first_loads().end(file.id);
        }
    }
}

impl Host {
    /// A copy begins: whoever opens the file is served from it.
    pub(super) fn copy_begun(&self, id: FileId, partial: Arc<File>, control: &Arc<CopyControl>) {
        if let Ok((coordinator, Errand { file, .. })) = self.errand("promote", id) {
            coordinator.fs.first_loads().begun(&file, partial, control);
        }
    }
}

impl Coordinator {
    /// Without waiting for anything: a copy is on its way, or the policy could want one.
    fn may_be_first_loaded(&self, file: &HomeFile) -> bool {
        let Some(mover) = self.mover.get() else {
            return false;
        };
        let by_itself = || {
            self.config().policy.enabled
                && file.attr().identity.size >= BYTES_MIN
                && !self.pools().is_empty()
                && self.may_be_loaded(file)
        };
        mover.is_moving(file.id) || by_itself()
    }

    /// A process loads a file that has no replica.
    pub(super) fn first_load(&self, file: &Arc<HomeFile>, process: u32) {
        let mover = self.mover.get();
        let on_its_way = || mover.is_some_and(|mover| mover.urge(file.id));
        let is_known = on_its_way();
        let reader = Coordinator::reader(process);
        if let Some(subject) = self.loaded_by(file, reader) {
            let begins = self.lock_loads().begins_first(
                subject.id.0,
                file.id,
                reader,
                is_known,
                machine::is_running,
                Instant::now(),
            );
            if begins {
                self.load(subject, Cause::FirstLoad);
            } else if !is_known {
                self.plan_load(subject, Cause::FirstLoad);
            }
        }
        if is_known {
            return;
        }
        if on_its_way() {
            let command = machine::command_of(process).unwrap_or_else(|| "a process".to_owned());
            let text = format!("is copied while {command} ({process}) loads it");
            self.events
                .add(Level::Info, "first load", &self.shown_path(file), text);
        } else {
            // It may have come meanwhile; else there is none, and everything is read from the home.
            self.fs.first_loads().end(file.id);
        }
    }

    /// The model that a process loads which reads this file.
    fn loaded_by(&self, file: &HomeFile, reader: Reader) -> Option<Subject> {
        let known = self.world.fresh();
        let index = self.loaded_model(&known, file.id, reader)?;
        self.subject(&known, ModelRef::Model(index))
    }
}
