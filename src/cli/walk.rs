//! A walk through the places of a local stack. A directory may have come from anybody, so the walk has an end.

use std::collections::VecDeque;
use std::fs::{self, Metadata};
use std::path::{Path, PathBuf};

/// Files and directories looked at, at the most.
const MOST: usize = 10_000;
/// Directories below one another, at the most.
const DEEPEST: usize = 8;

/// What is at some places and below them, each place before what is in it. No link is followed: what it leads to is
/// not ours.
pub(super) struct Walk {
    ahead: VecDeque<(PathBuf, usize)>,
    left: usize,
}

/// More is there than a local stack makes. Nothing was looked at of what is in this directory, nor of other things.
#[derive(Debug)]
pub(super) struct GaveUp(pub(super) PathBuf);

impl Walk {
    pub(super) fn through(places: impl IntoIterator<Item = PathBuf>) -> Self {
        Self { ahead: places.into_iter().map(|place| (place, 0)).collect(), left: MOST }
    }

    /// Puts what is in the directory on the way; `None`: that is too much.
    fn enter(&mut self, directory: &Path, depth: usize) -> Option<()> {
        for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
            self.left = self.left.checked_sub(1).filter(|_| depth < DEEPEST)?;
            self.ahead.push_back((entry.path(), depth + 1));
        }
        Some(())
    }
}

/// What is not there is passed over.
impl Iterator for Walk {
    type Item = Result<(PathBuf, Metadata), GaveUp>;

    fn next(&mut self) -> Option<Self::Item> {
        let (path, depth, about) = loop {
            let (path, depth) = self.ahead.pop_front()?;
            if let Ok(about) = path.symlink_metadata() {
                break (path, depth, about);
            }
        };
        if about.is_dir() && self.enter(&path, depth).is_none() {
            self.ahead.clear();
            return Some(Err(GaveUp(path)));
        }
        Some(Ok((path, about)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ends_well(place: &Path) -> bool {
        Walk::through([place.to_owned()]).all(|step| step.is_ok())
    }

    #[test]
    fn everything_is_seen_once_and_nothing_behind_a_link() {
        let place = tempfile::tempdir().unwrap();
        fs::create_dir_all(place.path().join("a/b")).unwrap();
        fs::write(place.path().join("a/file"), "").unwrap();
        std::os::unix::fs::symlink("a", place.path().join("link")).unwrap();
        let walk = Walk::through([place.path().to_owned(), place.path().join("gone")]);
        let mut seen: Vec<_> = walk.map(|step| step.unwrap().0).collect();
        seen.sort();
        let names = ["", "a", "a/b", "a/file", "link"];
        assert_eq!(seen, names.map(|name| place.path().join(name)));
    }

    #[test]
    fn what_lies_too_deep_is_given_up() {
        let place = tempfile::tempdir().unwrap();
        let deepest = place.path().join("d/".repeat(DEEPEST));
        fs::create_dir_all(&deepest).unwrap();
        assert!(ends_well(place.path()));
        fs::write(deepest.join("file"), "").unwrap();
        let last = Walk::through([place.path().to_owned()]).last().unwrap();
        assert!(last.err().unwrap().0.ends_with("d/".repeat(DEEPEST)));
    }

    #[test]
    fn what_is_too_much_is_given_up() {
        let place = tempfile::tempdir().unwrap();
        for number in 0..MOST {
            fs::write(place.path().join(number.to_string()), "").unwrap();
        }
        assert!(ends_well(place.path()));
        fs::write(place.path().join("more"), "").unwrap();
        assert!(!ends_well(place.path()));
    }
}
