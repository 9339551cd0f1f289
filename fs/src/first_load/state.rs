//! One file on its way: who has looked at it, what is kept until its copy is there, and where a read
//! is answered from.

use std::collections::HashSet;
use std::fs::File;
use std::ops::Range;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use super::{CopyBytes, Opening, Verdict};
use crate::copy::{CopyControl, KEPT_BLOCK_BYTES};
use crate::file::{HomeFile, lock};
use crate::ids::NodeId;

/// Reading so much through one handle is no look at a header any more: the longest headers of GGUF
/// files (with vocabularies of 260,000 words) take half of it.
const HEADER_BYTES_MAX: u64 = 32 << 20;
/// Of small files, this part.
const HEADER_PART: u64 = 8;
/// A read waits for a copy that gets on for so long: on a slow store others may be before it.
const READ_WAITS_MAX: Duration = Duration::from_secs(30);
/// A copy without progress for so long has stalled: what waits for it is answered otherwise.
const STALLED_AFTER: Duration = Duration::from_secs(5);
/// A rate is believed after so long.
const RATE_KNOWN_AFTER: Duration = Duration::from_secs(1);
/// For so long a process that has looked at a header is expected to load the file; programs that
/// look again and again do so less often.
const LOOK_EXPIRES: Duration = Duration::from_secs(20);
/// Processes that are remembered to have looked at a file.
const LOOKERS_MAX: usize = 64;

/// An open whose reply is held.
pub trait HeldOpen: Send {
    /// Whether it was answered otherwise: whoever opened was killed.
    fn is_answered(&self) -> bool;

    /// It is to be tried again, by another thread than this.
    fn resume(self: Box<Self>);
}
/// Called with where a range is to be read: a copy that has it, or `None`: the home.
pub type Answer = Box<dyn FnOnce(Option<Arc<CopyBytes>>) + Send>;

enum Phase {
    /// Headers at most were read.
    Looked,
    /// The owner was asked for a copy.
    Wanted,
    /// It is being made: what is there, and what tells how much that is.
    Copying(Arc<CopyBytes>, Arc<CopyControl>),
    /// The replica.
    Complete(Arc<CopyBytes>),
    /// There is no copy.
    Ended,
}

struct KeptRead {
    range: Range<u64>,
    since: Instant,
    answer: Answer,
}

struct KeptOpen {
    node: NodeId,
    since: Instant,
    open: Box<dyn HeldOpen>,
}

struct State {
    phase: Phase,
    /// Processes that have opened it, and when last.
    lookers: Vec<(u32, Instant)>,
    /// Threads that were told to look the name up again.
    sent_on: Vec<u32>,
    reads: Vec<KeptRead>,
    opens: Vec<KeptOpen>,
    /// Reads go to the home until the next chunk comes.
    stalled: bool,
    /// Blocks of headers that were read from the home, and may still be in its page cache: programs
    /// ask for 4 KiB at a time.
    kept_blocks: HashSet<u64>,
}

/// A file that is looked at or on its way.
pub struct FirstLoad {
    file: Arc<HomeFile>,
    state: Mutex<State>,
}

impl FirstLoad {
    pub(super) fn new(file: &Arc<HomeFile>) -> FirstLoad {
        FirstLoad {
            file: Arc::clone(file),
            state: Mutex::new(State {
                phase: Phase::Looked,
                lookers: Vec::new(),
                sent_on: Vec::new(),
                reads: Vec::new(),
                opens: Vec::new(),
                stalled: false,
                kept_blocks: HashSet::new(),
            }),
        }
    }

    /// The file.
    pub fn file(&self) -> &Arc<HomeFile> {
        &self.file
    }

    /// What an open is to do, and whether a copy is wanted from now on
    /// that was not before.
    pub(super) fn open(
        self: &Arc<Self>,
        opening: &Opening,
        lineage: &[u32],
        max_wait: Duration,
    ) -> (Verdict, bool) {
        let mut state = lock(&self.state);
        let is_related = state.knows(lineage);
        state.look(lineage);
        let mut begins = false;
        if matches!(state.phase, Phase::Looked) && (opening.direct || is_related) {
            state.phase = Phase::Wanted;
            begins = true;
        }
        let others_wait =
            (state.opens.iter()).any(|kept| kept.node == opening.node && !kept.open.is_answered());
        let verdict = match &state.phase {
            Phase::Complete(_) | Phase::Ended => Verdict::Ordinary,
            Phase::Looked => Verdict::Serve(Arc::clone(self)),
            Phase::Wanted | Phase::Copying(..) => {
                let waits = is_related || others_wait;
                match waits && !opening.direct && state.is_in_time(max_wait) {
                    true => Verdict::Hold(Arc::clone(self)),
                    false => Verdict::Serve(Arc::clone(self)),
                }
            }
        };
        (verdict, begins)
    }

    /// An open comes to a node that the daemon serves for others, and that the name does not lead to
    /// any more. Whether it loads the file and should look the name up again: there it gets the
    /// replica. Each thread once: the kernel looks a name up once more, and who comes by a descriptor
    /// finds the same node again.
    pub(super) fn sends_on(&self, opening: &Opening, lineage: &[u32]) -> bool {
        let mut state = lock(&self.state);
        let is_related = state.knows(lineage);
        state.look(lineage);
        let has_ended = matches!(state.phase, Phase::Ended);
        let may_be_sent =
            !state.sent_on.contains(&opening.tid) && state.sent_on.len() < LOOKERS_MAX;
        let sends_on = is_related && !opening.direct && !has_ended && may_be_sent;
        if sends_on {
            state.sent_on.push(opening.tid);
        }
        sends_on
    }

    /// A process has it open otherwise.
    pub(super) fn look(&self, lineage: &[u32]) {
        lock(&self.state).look(lineage);
    }

    /// Whether there is no copy and none will come.
    pub fn has_ended(&self) -> bool {
        matches!(lock(&self.state).phase, Phase::Ended)
    }

    /// Whether nothing would be lost by forgetting it.
    pub(super) fn is_forgotten(&self) -> bool {
        let state = lock(&self.state);
        let expired = |(_, at): &(u32, Instant)| at.elapsed() >= LOOK_EXPIRES;
        matches!(state.phase, Phase::Looked) && state.lookers.iter().all(expired)
    }

    /// More bytes than this are no header.
    pub(super) fn header_bytes_max(&self) -> u64 {
        HEADER_BYTES_MAX.min(self.file.attr().identity.size / HEADER_PART)
    }

    /// A copy is wanted; whether it was not before.
    pub(super) fn want(&self) -> bool {
        let mut state = lock(&self.state);
        let begins = matches!(state.phase, Phase::Looked);
        if begins {
            state.phase = Phase::Wanted;
        }
        begins
    }

    /// Keeps an open; gives it back when there is nothing to wait for.
    pub(super) fn hold(&self, node: NodeId, open: Box<dyn HeldOpen>) -> Option<Box<dyn HeldOpen>> {
        let mut state = lock(&self.state);
        if !matches!(state.phase, Phase::Wanted | Phase::Copying(..)) {
            return Some(open);
        }
        if let Phase::Copying(_, control) = &state.phase {
            control.urge();
        }
        let since = Instant::now();
        state.opens.push(KeptOpen { node, since, open });
        None
    }

    /// The copy that has the whole range, if there is one now.
    pub fn ready(&self, range: Range<u64>) -> Option<Arc<CopyBytes>> {
        lock(&self.state).ready(range)
    }

    /// Answers a read, or keeps it; whether it was kept.
    pub(super) fn read(&self, range: Range<u64>, answer: Answer) -> bool {
        let mut state = lock(&self.state);
        let found = state.ready(range.clone());
        let is_coming = matches!(state.phase, Phase::Wanted | Phase::Copying(..));
        if found.is_none() && is_coming && !state.stalled {
            if let Phase::Copying(_, control) = &state.phase {
                control.demand(range.clone());
            }
            let since = Instant::now();
            state.reads.push(KeptRead {
                range,
                since,
                answer,
            });
            return true;
        }
        drop(state);
        answer(found);
        false
    }

    /// Blocks of the home that `range` touches and that were not noted before.
    pub fn note_kept_blocks(&self, range: Range<u64>) -> Vec<u64> {
        // Beyond the end there is nothing to keep, however often that is read.
        let end = range.end.min(self.file.attr().identity.size);
        let blocks = range.start / KEPT_BLOCK_BYTES..end.div_ceil(KEPT_BLOCK_BYTES);
        let mut state = lock(&self.state);
        blocks
            .filter(|block| state.kept_blocks.insert(*block))
            .collect()
    }

    /// Blocks that were read from the home, as for [`FirstLoad::note_kept_blocks`].
    pub fn kept_blocks(&self) -> HashSet<u64> {
        lock(&self.state).kept_blocks.clone()
    }

    /// A copy begins: reads that waited for it are demanded.
    pub(super) fn begin(self: &Arc<Self>, partial: Arc<File>, control: &Arc<CopyControl>) {
        let load = Arc::downgrade(self);
        control.set_on_range(move |_| {
            if let Some(load) = load.upgrade() {
                load.came();
            }
        });
        let partial = CopyBytes::new(partial);
        let mut state = lock(&self.state);
        if !state.opens.is_empty() {
            control.urge();
        }
        for kept in &state.reads {
            control.demand(kept.range.clone());
        }
        state.phase = Phase::Copying(partial, Arc::clone(control));
    }

    /// A chunk came: reads that have all they need are answered.
    fn came(&self) {
        let mut state = lock(&self.state);
        state.stalled = false;
        let ready = state.take_ready();
        drop(state);
        for (answer, file) in ready {
            answer(Some(file));
        }
    }

    pub(super) fn complete(&self, replica: Arc<File>) {
        self.finish(Phase::Complete(CopyBytes::new(replica)));
    }

    pub(super) fn end(&self) {
        self.finish(Phase::Ended);
    }

    fn finish(&self, phase: Phase) {
        let mut state = lock(&self.state);
        state.phase = phase;
        let reads = std::mem::take(&mut state.reads);
        let opens = std::mem::take(&mut state.opens);
        let file = state.ready(0..0);
        drop(state);
        for kept in reads {
            (kept.answer)(file.clone());
        }
        for kept in opens {
            kept.open.resume();
        }
    }

    /// Whether anything is kept.
    pub(super) fn keeps_any(&self) -> bool {
        let state = lock(&self.state);
        !state.reads.is_empty() || !state.opens.is_empty()
    }

    /// Answers what was kept for too long, and everything if the copy has stalled.
    pub(super) fn look_after(&self, now: Instant, max_wait: Duration) {
        let mut state = lock(&self.state);
        if state.has_stalled() {
            state.stalled = true;
        }
        let (stalled, left) = (state.stalled, state.left_at_this_rate().unwrap_or_default());
        let reads_wait = match state.phase {
            Phase::Copying(..) => READ_WAITS_MAX,
            _ => STALLED_AFTER,
        };
        let reads = state.reads.extract_if(.., |kept| {
            stalled || now.saturating_duration_since(kept.since) >= reads_wait
        });
        let reads: Vec<KeptRead> = reads.collect();
        let opens = state.opens.extract_if(.., |kept| {
            let kept_for = now.saturating_duration_since(kept.since);
            stalled || kept_for + left >= max_wait || kept.open.is_answered()
        });
        let opens: Vec<KeptOpen> = opens.collect();
        drop(state);
        for kept in reads {
            (kept.answer)(None);
        }
        for kept in opens {
            kept.open.resume();
        }
    }
}

impl State {
    fn look(&mut self, lineage: &[u32]) {
        let Some(process) = lineage.first() else {
            return;
        };
        self.lookers.retain(|(known, _)| known != process);
        if self.lookers.len() >= LOOKERS_MAX {
            self.lookers.remove(0);
        }
        self.lookers.push((*process, Instant::now()));
    }

    /// Whether a process or one that it descends from has looked at the file a moment ago, or since
    /// a copy is wanted.
    fn knows(&self, lineage: &[u32]) -> bool {
        let looks_only = matches!(self.phase, Phase::Looked);
        let is_recent = |at: &Instant| !looks_only || at.elapsed() < LOOK_EXPIRES;
        let known = |(process, at): &(u32, Instant)| lineage.contains(process) && is_recent(at);
        self.lookers.iter().any(known)
    }

    fn ready(&self, range: Range<u64>) -> Option<Arc<CopyBytes>> {
        match &self.phase {
            Phase::Complete(replica) => Some(Arc::clone(replica)),
            Phase::Copying(partial, control) if control.is_complete(range) => {
                Some(Arc::clone(partial))
            }
            _ => None,
        }
    }

    fn take_ready(&mut self) -> Vec<(Answer, Arc<CopyBytes>)> {
        let mut reads = std::mem::take(&mut self.reads);
        let mut ready = Vec::new();
        let mut index = 0;
        while index < reads.len() {
            match self.ready(reads[index].range.clone()) {
                Some(file) => ready.push((reads.swap_remove(index).answer, file)),
                None => index += 1,
            }
        }
        self.reads = reads;
        ready
    }

    /// How long the rest of the copy takes, once that can be told.
    fn left_at_this_rate(&self) -> Option<Duration> {
        match &self.phase {
            Phase::Copying(_, control) => {
                let progress = control.progress();
                progress
                    .left()
                    .filter(|_| progress.elapsed >= RATE_KNOWN_AFTER)
            }
            _ => None,
        }
    }

    fn is_in_time(&self, max_wait: Duration) -> bool {
        let left = self.left_at_this_rate().unwrap_or_default();
        !self.stalled && !max_wait.is_zero() && left <= max_wait
    }

    /// A copy that nothing comes from. One that only waits for its turn has not stalled.
    fn has_stalled(&self) -> bool {
        match &self.phase {
            Phase::Copying(_, control) => control.progress().since_last_bytes >= STALLED_AFTER,
            _ => false,
        }
    }
}
