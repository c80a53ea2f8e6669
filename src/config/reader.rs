//! Reads settings out of the tree and collects every fault on the way, instead of stopping at the first.

use std::fmt::Display;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::fault::{Fault, FaultKind};
use super::keys;
use super::reference::{self, Reference, Referred};
use super::sentence::{holds, one_of, shown};
use super::tree::{Node, Place, Value};
use super::units;
use crate::connections::SecretSource;

/// Faults kept; what goes beyond is counted in one last line.
const MOST_FAULTS: usize = 500;

/// What is collected while reading.
pub(super) struct Reader<'a> {
    /// Environment variables.
    pub(super) env: super::Environment<'a>,
    /// Where the files and secrets stand that settings name.
    pub(super) references: Vec<Reference>,
    /// The directory that relative paths of the file begin in.
    directory: &'a Path,
    faults: Vec<Fault>,
    left_out: usize,
}

impl<'a> Reader<'a> {
    pub(super) fn new(env: super::Environment<'a>, file: &'a Path, faults: Vec<Fault>) -> Self {
        let directory = file.parent().unwrap_or(Path::new(""));
        Self { env, references: Vec::new(), directory, faults, left_out: 0 }
    }

    pub(super) fn error(&mut self, place: Place, path: &str, message: impl Display) {
        self.push(place.fault(path, FaultKind::Error, message.to_string()));
    }

    pub(super) fn not_yet(&mut self, place: Place, path: &str, message: impl Display) {
        self.push(place.fault(path, FaultKind::NotYet, format!("not supported yet: {message}")));
    }

    pub(super) fn warn(&mut self, place: Place, path: &str, message: impl Display) {
        self.push(place.fault(path, FaultKind::Warning, message.to_string()));
    }

    /// Once only: an alias, or a variable that holds for every provider, is read several times.
    fn push(&mut self, fault: Fault) {
        if self.faults.len() >= MOST_FAULTS {
            self.left_out += 1;
        } else if !self.faults.contains(&fault) {
            self.faults.push(fault);
        }
    }

    /// Whether the configuration is refused already.
    pub(super) fn has_failed(&self) -> bool {
        self.faults.iter().any(Fault::is_failure)
    }

    /// All faults.
    pub(super) fn finish(mut self) -> (Vec<Fault>, Vec<Reference>) {
        if self.left_out > 0 {
            let message = format!("{} more faults are not listed", self.left_out);
            self.faults.push(Place::Nowhere.fault("", FaultKind::Error, message));
        }
        (self.faults, self.references)
    }

    /// The text of a scalar, made a value by `parse`, whose error is a whole sentence. Null is nothing.
    pub(super) fn scalar<T>(
        &mut self,
        node: &Node,
        path: &str,
        takes: &str,
        parse: &dyn Fn(&str) -> Result<T, String>,
    ) -> Option<T> {
        if let Some(shadowed) = &node.shadowed {
            self.scalar(shadowed, path, takes, parse);
        }
        let message = match &node.value {
            Value::Null => return None,
            Value::Text(text) => match parse(text) {
                Ok(value) => return Some(value),
                Err(message) => message,
            },
            Value::List(_) => format!("takes {takes}, not a list"),
            Value::Map(_) => format!("takes {takes}, not a mapping"),
        };
        self.error(node.place, path, message);
        None
    }

    /// A path, relative ones from the file's directory (of a variable: from the working directory).
    pub(super) fn located(&self, place: Place, path: PathBuf) -> PathBuf {
        if matches!(place, Place::File { .. }) { self.directory.join(path) } else { path }
    }
}

/// A mapping of settings; one that is not there holds none.
pub(super) struct Section<'n> {
    pub(super) path: String,
    pub(super) place: Place,
    fields: &'n [(super::tree::Key, Node)],
}

impl<'n> Section<'n> {
    /// Opens the mapping in `node` and reports its unknown keys.
    pub(super) fn open(reader: &mut Reader<'_>, node: Option<&'n Node>, path: String, place: Place) -> Self {
        let fields: &[_] = match node.map(|node| &node.value) {
            None | Some(Value::Null) => &[],
            Some(Value::Map(fields)) => fields,
            Some(Value::Text(_) | Value::List(_)) => {
                let known = keys::of(&path).join(", ");
                reader.error(
                    node.map_or(place, |node| node.place),
                    &path,
                    format!("takes a mapping with the keys {known}"),
                );
                &[]
            }
        };
        let section = Self { place: node.map_or(place, |node| node.place), path, fields };
        section.report_unknown(reader);
        section
    }

    fn report_unknown(&self, reader: &mut Reader<'_>) {
        let known = keys::of(&self.path);
        for (key, _) in self.fields.iter().filter(|(key, _)| !known.contains(&key.text.as_str())) {
            let name = shown(&key.text);
            let message = if key.text == "<<" {
                "merge keys are not part of YAML 1.2; write these settings out, or name a whole value by an alias"
                    .to_owned()
            } else if let Some(nearest) = keys::nearest(&key.text, known.iter().copied()) {
                format!("unknown key `{name}`; did you mean `{nearest}`?")
            } else {
                format!("unknown key `{name}`; known here are {}", known.join(", "))
            };
            reader.error(key.place, &self.path_of(&name), message);
        }
    }

    /// The path of a key.
    pub(super) fn path_of(&self, key: &str) -> String {
        if self.path.is_empty() { key.to_owned() } else { format!("{}.{key}", self.path) }
    }

    /// What stands at a key; null is nothing.
    pub(super) fn get(&self, key: &str) -> Option<&'n Node> {
        let node = &self.fields.iter().find(|(name, _)| name.text == key)?.1;
        (!matches!(node.value, Value::Null) || node.shadowed.is_some()).then_some(node)
    }

    /// Whether a value stands at a key, right or wrong.
    pub(super) fn has(&self, key: &str) -> bool {
        self.get(key).is_some()
    }

    /// The place of a key's value, else the section's own.
    pub(super) fn place_of(&self, key: &str) -> Place {
        self.get(key).map_or(self.place, |node| node.place)
    }

    /// A fault at a key.
    pub(super) fn error(&self, reader: &mut Reader<'_>, key: &str, message: impl Display) {
        reader.error(self.place_of(key), &self.path_of(key), message);
    }

    /// A fault at a key whose value belongs to what is not there yet.
    pub(super) fn not_yet(&self, reader: &mut Reader<'_>, key: &str, message: impl Display) {
        reader.not_yet(self.place_of(key), &self.path_of(key), message);
    }

    /// A warning at a key.
    pub(super) fn warn(&self, reader: &mut Reader<'_>, key: &str, message: impl Display) {
        reader.warn(self.place_of(key), &self.path_of(key), message);
    }

    /// Reports that a key must be given, unless it is (if only wrongly).
    pub(super) fn need(&self, reader: &mut Reader<'_>, key: &str, message: &str) {
        if !self.has(key) {
            reader.error(self.place, &self.path_of(key), message);
        }
    }

    /// The section under a key.
    pub(super) fn section(&self, reader: &mut Reader<'_>, key: &str) -> Section<'n> {
        Section::open(reader, self.get(key), self.path_of(key), self.place)
    }

    /// The nodes of a list, each with its path; `None` where there is no list.
    pub(super) fn list(
        &self,
        reader: &mut Reader<'_>,
        key: &str,
        of: &str,
    ) -> Option<Vec<(&'n Node, String)>> {
        let node = self.get(key)?;
        let Value::List(items) = &node.value else {
            self.error(reader, key, format!("takes a list of {of}"));
            return None;
        };
        let path = self.path_of(key);
        Some(items.iter().enumerate().map(|(index, item)| (item, format!("{path}[{index}]"))).collect())
    }

    /// A list of scalars, the right ones of them.
    pub(super) fn list_of<T>(
        &self,
        reader: &mut Reader<'_>,
        key: &str,
        takes: &str,
        parse: &dyn Fn(&str) -> Result<T, String>,
    ) -> Vec<T> {
        let node = self.get(key).and_then(|node| node.shadowed.as_deref());
        let shadowed = match node.map(|node| &node.value) {
            Some(Value::List(items)) => items.as_slice(),
            _ => &[],
        };
        for (index, item) in shadowed.iter().enumerate() {
            reader.scalar(item, &format!("{}[{index}]", self.path_of(key)), takes, parse);
        }
        let items = self.list(reader, key, takes).unwrap_or_default();
        items
            .into_iter()
            .filter_map(|(item, path)| {
                if matches!(item.value, Value::Null) {
                    reader.error(item.place, &path, format!("takes {takes}, not nothing"));
                }
                reader.scalar(item, &path, takes, parse)
            })
            .collect()
    }

    /// A scalar that `parse` makes a value of, its error being a whole sentence.
    pub(super) fn parsed<T>(
        &self,
        reader: &mut Reader<'_>,
        key: &str,
        takes: &str,
        parse: &dyn Fn(&str) -> Result<T, String>,
    ) -> Option<T> {
        self.get(key).and_then(|node| reader.scalar(node, &self.path_of(key), takes, parse))
    }

    /// One of several words.
    pub(super) fn choice<T: Copy>(
        &self,
        reader: &mut Reader<'_>,
        key: &str,
        words: &[(&str, T)],
    ) -> Option<T> {
        let takes = one_of(words.iter().map(|(word, _)| *word));
        self.parsed(reader, key, &takes, &|text| {
            let found = words.iter().find(|(word, _)| *word == text);
            found.map(|(_, value)| *value).ok_or_else(|| holds(&takes, text))
        })
    }

    /// `true` or `false`.
    pub(super) fn flag(&self, reader: &mut Reader<'_>, key: &str) -> Option<bool> {
        self.choice(reader, key, &[("true", true), ("false", false)])
    }

    /// A whole number within a range.
    pub(super) fn number(
        &self,
        reader: &mut Reader<'_>,
        key: &str,
        range: RangeInclusive<u64>,
    ) -> Option<u64> {
        let takes = format!("a whole number from {} to {}", range.start(), range.end());
        self.parsed(reader, key, &takes, &|text| {
            let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
            let number = if digits { text.parse().ok() } else { None };
            number.filter(|number| range.contains(number)).ok_or_else(|| holds(&takes, text))
        })
    }

    /// A duration within a range.
    pub(super) fn duration(
        &self,
        reader: &mut Reader<'_>,
        key: &str,
        range: RangeInclusive<Duration>,
    ) -> Option<Duration> {
        let (least, most) = (units::show_duration(*range.start()), units::show_duration(*range.end()));
        self.parsed(reader, key, units::DURATION, &|text| match units::duration(text) {
            None => Err(holds(units::DURATION, text)),
            Some(found) if range.contains(&found) => Ok(found),
            Some(_) => Err(holds(&format!("a duration from {least} to {most}"), text)),
        })
    }

    /// A size in bytes within a range.
    pub(super) fn size(&self, reader: &mut Reader<'_>, key: &str, range: RangeInclusive<u64>) -> Option<u64> {
        let (least, most) = (units::show_size(*range.start()), units::show_size(*range.end()));
        self.parsed(reader, key, units::SIZE, &|text| match units::size(text) {
            None => Err(holds(units::SIZE, text)),
            Some(found) if range.contains(&found) => Ok(found),
            Some(_) => Err(holds(&format!("a size from {least} to {most}"), text)),
        })
    }

    /// The path of a directory or of a file to be.
    pub(super) fn directory(&self, reader: &mut Reader<'_>, key: &str) -> Option<PathBuf> {
        let found = self.parsed(reader, key, "a path", &file_path)?;
        Some(reader.located(self.place_of(key), found))
    }

    /// The path of a file that must be there.
    pub(super) fn file(&self, reader: &mut Reader<'_>, key: &str) -> Option<PathBuf> {
        let file = self.directory(reader, key)?;
        self.refer(reader, key, Referred::File(file.clone()));
        Some(file)
    }

    /// A secret by reference, which the vault cannot hold.
    pub(super) fn secret(&self, reader: &mut Reader<'_>, key: &str) -> Option<SecretSource> {
        match self.stored_secret(reader, key)? {
            SecretSource::Store => {
                self.error(
                    reader,
                    key,
                    "store is for the secrets of providers; write env:NAME or file:/path",
                );
                None
            }
            source => Some(source),
        }
    }

    /// A secret by reference, or in the vault. What is no reference is taken for a secret and not repeated.
    pub(super) fn stored_secret(&self, reader: &mut Reader<'_>, key: &str) -> Option<SecretSource> {
        let form = self
            .parsed(reader, key, reference::TAKES, &|text| reference::parse(text).map_err(str::to_owned))?;
        let source = match form {
            reference::Form::Env(name) => SecretSource::Env(name),
            reference::Form::File(path) => SecretSource::File(reader.located(self.place_of(key), path)),
            reference::Form::Store => return Some(SecretSource::Store),
            reference::Form::Later(what) => {
                self.not_yet(reader, key, what);
                return None;
            }
        };
        self.refer(reader, key, Referred::Secret(source.clone()));
        Some(source)
    }

    pub(super) fn refer(&self, reader: &mut Reader<'_>, key: &str, what: Referred) {
        reader.references.push(Reference { place: self.place_of(key), path: self.path_of(key), what });
    }
}

fn file_path(text: &str) -> Result<PathBuf, String> {
    if text.is_empty() || text.contains('\0') {
        return Err(holds("a path", text));
    }
    if text.starts_with('~') {
        return Err(format!("takes a path; ~ means nothing here, so write the whole of \"{}\"", shown(text)));
    }
    Ok(PathBuf::from(text))
}
