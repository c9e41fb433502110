//! What a disk holds after a crash.
//!
//! A [`Sim`] is told every effect that calls had on a folder. It knows what of it is durable, and makes folders as a crash
//! could leave them: what was synced is there, and any part of what was not. Names are durable once their folder was synced,
//! whatever was synced of the file; until then each one survives or not on its own. After a failed sync of a file nothing
//! makes durable what it should have: the operating system takes it for written.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use super::rng::Rng;

/// A file or folder, whatever its names are.
pub(super) type Id = usize;

/// The folder that all others are in. Its own name is durable.
pub(super) const ROOT: Id = 0;
/// What a disk writes whole or not at all.
const SECTOR: usize = 512;

/// What is written.
#[derive(Clone)]
pub(super) struct Bytes(pub(super) Arc<[u8]>);

impl std::ops::Deref for Bytes {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        &self.0
    }
}

impl std::fmt::Debug for Bytes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} bytes", self.len())
    }
}

/// What a call did.
#[derive(Debug, Clone)]
pub(super) enum Effect {
    /// A new file or folder, without a name yet.
    Made {
        id: Id,
        is_dir: bool,
    },
    Wrote {
        file: Id,
        at: usize,
        bytes: Bytes,
    },
    Synced {
        file: Id,
    },
    SyncFailed {
        file: Id,
    },
    /// A name in a folder is now that of something else, or of nothing.
    Named {
        dir: Id,
        name: String,
        is: Option<Id>,
    },
    DirSynced {
        dir: Id,
    },
}

/// Files as they are in a folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Tree {
    File(Vec<u8>),
    Dir(BTreeMap<String, Tree>),
}

impl Tree {
    /// Makes the files below a folder that is there.
    pub(super) fn write(&self, path: &Path) {
        match self {
            Self::File(content) => std::fs::write(path, content).unwrap(),
            Self::Dir(names) => {
                if !path.is_dir() {
                    std::fs::create_dir(path).unwrap();
                }
                names.iter().for_each(|(name, tree)| tree.write(&path.join(name)));
            }
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    Pending,
    Durable,
    /// A sync failed that should have made it durable.
    Doubtful,
}

/// Bytes that were written.
#[derive(Debug, Clone)]
struct Change {
    time: usize,
    at: usize,
    bytes: Bytes,
    fate: Fate,
}

#[derive(Debug, Clone)]
enum Node {
    File {
        durable: Vec<u8>,
        changes: Vec<Change>,
        len: usize,
    },
    /// What each name has been since the folder was last synced, and when it became that. The first is durable.
    Dir(BTreeMap<String, Vec<(usize, Option<Id>)>>),
}

/// A disk.
#[derive(Debug, Clone)]
pub(super) struct Sim {
    nodes: Vec<Node>,
    time: usize,
}

/// What of the things that are not durable a crash takes.
#[derive(Debug, Clone, Copy)]
enum Loss {
    All,
    Nothing,
    /// What came after a moment.
    Since(usize),
    /// Anything, each on its own.
    Any,
}

impl Sim {
    /// An empty disk.
    pub(super) fn new() -> Self {
        Self { nodes: vec![Node::Dir(BTreeMap::new())], time: 0 }
    }

    /// A disk on which all of this is durable.
    pub(super) fn of(tree: &Tree) -> Self {
        let mut sim = Self { nodes: Vec::new(), time: 0 };
        sim.add(tree);
        sim
    }

    fn add(&mut self, tree: &Tree) -> Id {
        let id = self.nodes.len();
        match tree {
            Tree::File(content) => {
                self.nodes.push(Node::File { durable: content.clone(), changes: Vec::new(), len: content.len() });
            }
            Tree::Dir(names) => {
                self.nodes.push(Node::Dir(BTreeMap::new()));
                for (name, tree) in names {
                    let child = self.add(tree);
                    self.names(id).insert(name.clone(), vec![(0, Some(child))]);
                }
            }
        }
        id
    }

    /// The number that the next file or folder has.
    pub(super) fn next_id(&self) -> Id {
        self.nodes.len()
    }

    /// What a name means now.
    pub(super) fn find(&self, dir: Id, name: &str) -> Option<Id> {
        match &self.nodes[dir] {
            Node::Dir(names) => names.get(name)?.last()?.1,
            Node::File { .. } => None,
        }
    }

    /// How long a file is now.
    pub(super) fn len(&self, file: Id) -> usize {
        match &self.nodes[file] {
            Node::File { len, .. } => *len,
            Node::Dir(_) => panic!("a folder has no length"),
        }
    }

    fn names(&mut self, dir: Id) -> &mut BTreeMap<String, Vec<(usize, Option<Id>)>> {
        match &mut self.nodes[dir] {
            Node::Dir(names) => names,
            Node::File { .. } => panic!("a file has no names in it"),
        }
    }

    pub(super) fn apply(&mut self, effect: &Effect) {
        self.time += 1;
        let time = self.time;
        match effect {
            Effect::Made { id, is_dir } => {
                assert_eq!(*id, self.nodes.len());
                self.nodes.push(match is_dir {
                    true => Node::Dir(BTreeMap::new()),
                    false => Node::File { durable: Vec::new(), changes: Vec::new(), len: 0 },
                });
            }
            Effect::Wrote { file, at, bytes } => {
                let Node::File { changes, len, .. } = &mut self.nodes[*file] else { panic!("a folder is no file") };
                *len = (*len).max(at + bytes.len());
                changes.push(Change { time, at: *at, bytes: bytes.clone(), fate: Fate::Pending });
            }
            Effect::Synced { file } => self.settle(*file, Fate::Durable),
            Effect::SyncFailed { file } => self.settle(*file, Fate::Doubtful),
            Effect::Named { dir, name, is } => {
                self.names(*dir).entry(name.clone()).or_insert_with(|| vec![(0, None)]).push((time, *is));
            }
            Effect::DirSynced { dir } => self.names(*dir).retain(|_, was| {
                was.drain(..was.len() - 1);
                was[0].1.is_some()
            }),
        }
    }

    fn settle(&mut self, file: Id, fate: Fate) {
        let Node::File { durable, changes, .. } = &mut self.nodes[file] else { panic!("a folder is no file") };
        for change in changes.iter_mut().filter(|change| change.fate == Fate::Pending) {
            change.fate = fate;
        }
        let settled = changes.iter().take_while(|change| change.fate == Fate::Durable).count();
        changes.drain(..settled).for_each(|change| change.apply(durable));
    }

    /// What programs see.
    pub(super) fn live(&self) -> Tree {
        self.tree(ROOT, Loss::Nothing, &mut Rng::new(0))
    }

    /// What is there after a crash.
    pub(super) fn crash(&self, rng: &mut Rng) -> Tree {
        let loss = match rng.below(20) {
            0..3 => Loss::All,
            3..5 => Loss::Nothing,
            5..10 => Loss::Since(self.time.saturating_sub(rng.below(40))),
            _ => Loss::Any,
        };
        self.tree(ROOT, loss, rng)
    }

    fn tree(&self, id: Id, loss: Loss, rng: &mut Rng) -> Tree {
        match &self.nodes[id] {
            Node::File { durable, changes, .. } => Tree::File(content(durable, changes, loss, rng)),
            Node::Dir(names) => {
                let mut found = BTreeMap::new();
                for (name, was) in names {
                    let is = match loss {
                        Loss::All => was[0],
                        Loss::Nothing => was[was.len() - 1],
                        Loss::Since(time) => was.iter().copied().rfind(|(at, _)| *at <= time).unwrap_or(was[0]),
                        Loss::Any => was[rng.below(was.len())],
                    };
                    if let Some(id) = is.1 {
                        found.insert(name.clone(), self.tree(id, loss, rng));
                    }
                }
                Tree::Dir(found)
            }
        }
    }
}

impl Change {
    fn apply(&self, content: &mut Vec<u8>) {
        write_at(content, self.at, &self.bytes);
    }

    /// As much of it as comes before a byte.
    fn apply_torn(&self, content: &mut Vec<u8>, rng: &mut Rng) {
        write_at(content, self.at, &self.bytes[..rng.below(self.bytes.len() + 1)]);
    }

    /// Some sectors of it. The file can be as long as if all were there: then it has in their place zeros or what was on
    /// the disk before.
    fn apply_in_part(&self, content: &mut Vec<u8>, chance: usize, rng: &mut Rng) {
        let (at, bytes) = (self.at, &self.bytes);
        if rng.below(2) == 0 && content.len() < at + bytes.len() {
            let is_garbage = rng.below(3) == 0;
            content.resize_with(at + bytes.len(), || if is_garbage { rng.below(256) as u8 } else { 0 });
        }
        let mut done = 0;
        while done < bytes.len() {
            let len = (SECTOR - (at + done) % SECTOR).min(bytes.len() - done);
            if rng.below(100) < chance {
                write_at(content, at + done, &bytes[done..done + len]);
            }
            done += len;
        }
    }
}

fn write_at(content: &mut Vec<u8>, at: usize, bytes: &[u8]) {
    if bytes.is_empty() {
        return;
    }
    if content.len() < at + bytes.len() {
        content.resize(at + bytes.len(), 0);
    }
    content[at..at + bytes.len()].copy_from_slice(bytes);
}

fn content(durable: &[u8], changes: &[Change], loss: Loss, rng: &mut Rng) -> Vec<u8> {
    let mut content = durable.to_vec();
    let way = rng.below(4);
    let chance = [20, 50, 90][rng.below(3)];
    let kept = rng.below(changes.len() + 1);
    for (index, change) in changes.iter().enumerate() {
        if change.fate == Fate::Durable {
            change.apply(&mut content);
            continue;
        }
        match (loss, way) {
            (Loss::All, _) | (Loss::Any, 0) => {}
            (Loss::Nothing, _) | (Loss::Any, 1) => change.apply(&mut content),
            (Loss::Since(time), _) if change.time <= time => change.apply(&mut content),
            (Loss::Since(_), _) => {}
            (Loss::Any, 2) if index < kept => change.apply(&mut content),
            (Loss::Any, 2) if index == kept => change.apply_torn(&mut content, rng),
            (Loss::Any, 2) => {}
            (Loss::Any, _) => change.apply_in_part(&mut content, chance, rng),
        }
    }
    content
}

#[test]
fn what_is_synced_survives_and_what_is_not_may() {
    let mut sim = Sim::new();
    let (dir, file) = (1, 2);
    let bytes = Bytes(vec![7; 2000].into());
    let named = |dir, name: &str, is| Effect::Named { dir, name: name.to_owned(), is };
    for effect in [
        Effect::Made { id: dir, is_dir: true },
        named(ROOT, "dir", Some(dir)),
        Effect::Made { id: file, is_dir: false },
        named(dir, "file", Some(file)),
        Effect::Wrote { file, at: 0, bytes: bytes.clone() },
        Effect::Synced { file },
        Effect::DirSynced { dir },
        Effect::Wrote { file, at: 2000, bytes: bytes.clone() },
    ] {
        sim.apply(&effect);
    }
    let states = |sim: &Sim| -> Vec<Option<usize>> {
        let mut rng = Rng::new(1);
        let crashed = (0..400).map(|_| {
            let Tree::Dir(names) = sim.crash(&mut rng) else { panic!("the root is a folder") };
            let Tree::Dir(names) = names.get("dir")? else { panic!("dir is a folder") };
            let Tree::File(content) = &names["file"] else { panic!("file is a file") };
            assert!(content[..2000].iter().all(|byte| *byte == 7));
            Some(content.len())
        });
        crashed.collect()
    };
    // The folder's own name is not durable, though what is in it is.
    let found = states(&sim);
    for state in [None, Some(2000), Some(4000)] {
        assert!(found.contains(&state), "{state:?} is not among {found:?}");
    }
    sim.apply(&Effect::DirSynced { dir: ROOT });
    assert!(!states(&sim).contains(&None));
    sim.apply(&Effect::SyncFailed { file });
    sim.apply(&Effect::Synced { file });
    assert!(states(&sim).contains(&Some(2000)), "a failed sync was made good by another one");
    assert_eq!(sim.live(), Sim::of(&sim.live()).crash(&mut Rng::new(2)));
}
