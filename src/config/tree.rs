//! YAML to a tree in which every node knows where it stands. Scalars stay text: the reader of a setting
//! decides what it is, so that an id `no` or a version `1.2` is what was written.

use std::collections::HashMap;

use saphyr_parser::{Event, Marker, Parser, ScalarStyle, ScanError, StrInput, Tag};

use super::fault::{Fault, FaultKind, Source};
use super::sentence::shown;

/// The largest file, in bytes.
pub(super) const LARGEST_BYTES: usize = 1024 * 1024;
const DEEPEST: usize = 32;
/// Nodes at the most, those that aliases repeat included.
const MOST_NODES: usize = 200_000;

/// Where a value stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    /// In the file, both from 1.
    File { line: usize, column: usize },
    /// In an environment variable.
    Variable(&'static str),
    /// Nowhere: a default.
    Nowhere,
}

/// A value and its place. It has no `Debug`, since a text may be a secret put where none belongs.
#[derive(Clone)]
pub(super) struct Node {
    pub(super) place: Place,
    pub(super) value: Value,
    /// What stood in the file where a variable now stands; it is still held to its form.
    pub(super) shadowed: Option<Box<Node>>,
}

/// What a node holds.
#[derive(Clone)]
pub(super) enum Value {
    Null,
    Text(String),
    List(Vec<Node>),
    Map(Vec<(Key, Node)>),
}

/// A key of a mapping.
#[derive(Clone)]
pub(super) struct Key {
    pub(super) text: String,
    pub(super) place: Place,
}

impl Place {
    fn of(marker: Marker) -> Self {
        Self::File { line: marker.line(), column: marker.col() + 1 }
    }

    /// The place in words, inside a sentence.
    pub(super) fn named(self) -> String {
        match self {
            Self::File { line, .. } => format!("line {line}"),
            Self::Variable(name) => name.to_owned(),
            Self::Nowhere => "the defaults".to_owned(),
        }
    }

    /// A fault here; for a variable its name stands instead of `path`.
    pub(super) fn fault(self, path: &str, kind: FaultKind, message: String) -> Fault {
        let (source, line, column, path) = match self {
            Self::File { line, column } => (Source::File, Some(line), Some(column), path),
            Self::Variable(name) => (Source::Environment, None, None, name),
            Self::Nowhere => (Source::File, None, None, path),
        };
        Fault { source, line, column, path: path.to_owned(), kind, message }
    }
}

impl Node {
    pub(super) fn new(place: Place, value: Value) -> Self {
        Self { place, value, shadowed: None }
    }

    /// How many nodes it has and how deep it is.
    fn extent(&self) -> (usize, usize) {
        let under = |(size, depth): (usize, usize), node: &Node| {
            let (more, deep) = node.extent();
            (size + more, depth.max(deep + 1))
        };
        match &self.value {
            Value::Null | Value::Text(_) => (1, 1),
            Value::List(items) => items.iter().fold((1, 1), under),
            Value::Map(fields) => fields.iter().map(|(_, node)| node).fold((1, 1), under),
        }
    }
}

/// Reads the one document of a YAML text; a text without one is null. Faults that leave a tree to read
/// (a key given twice) stand beside it, others instead of it.
pub(super) fn parse(text: &str) -> (Option<Node>, Vec<Fault>) {
    let mut builder = Builder::default();
    if text.len() > LARGEST_BYTES {
        let message = format!("the file has {} bytes; at most {LARGEST_BYTES} are read", text.len());
        return (None, vec![Place::Nowhere.fault("", FaultKind::Error, message)]);
    }
    let mut parser = Parser::new(StrInput::new(text.strip_prefix('\u{feff}').unwrap_or(text)));
    while let Some(event) = parser.next_event() {
        let taken = match event {
            Ok((event, span)) => builder.take(event, Place::of(span.start)),
            Err(error) => Err(unreadable(&error)),
        };
        if let Err(fault) = taken {
            builder.faults.push(fault);
            return (None, builder.faults);
        }
    }
    let nothing = Node::new(Place::File { line: 1, column: 1 }, Value::Null);
    (Some(builder.root.unwrap_or(nothing)), builder.faults)
}

/// The scanner's sentences speak of grammar and repeat no more of the file than one character.
fn unreadable(error: &ScanError) -> Fault {
    let message = format!("this is not YAML: {}", error.info());
    Place::of(*error.marker()).fault("", FaultKind::Error, message)
}

#[derive(Default)]
struct Builder {
    open: Vec<Open>,
    anchors: HashMap<usize, Node>,
    root: Option<Node>,
    nodes: usize,
    documents: usize,
    faults: Vec<Fault>,
}

/// A list or mapping whose end has not come.
struct Open {
    node: Node,
    anchor: usize,
    /// The key whose value comes next.
    key: Option<Key>,
    seen: HashMap<String, Place>,
}

impl Builder {
    fn take(&mut self, event: Event<'_>, place: Place) -> Result<(), Fault> {
        match event {
            Event::Nothing | Event::StreamStart | Event::StreamEnd | Event::DocumentEnd => Ok(()),
            Event::DocumentStart(_) => {
                self.documents += 1;
                if self.documents > 1 {
                    return Err(
                        self.fault(place, "a second document begins here; a configuration is one document")
                    );
                }
                Ok(())
            }
            Event::Alias(anchor) => self.alias(anchor, place),
            Event::Scalar(text, style, anchor, tag) => {
                self.tag(tag.as_deref(), place);
                let null =
                    style == ScalarStyle::Plain && matches!(&*text, "" | "~" | "null" | "Null" | "NULL");
                let value = if null { Value::Null } else { Value::Text(text.into_owned()) };
                self.count(1, place)?;
                self.attach(Node::new(place, value), anchor)
            }
            Event::SequenceStart(anchor, tag) => {
                self.begin(Value::List(Vec::new()), anchor, tag.as_deref(), place)
            }
            Event::MappingStart(anchor, tag) => {
                self.begin(Value::Map(Vec::new()), anchor, tag.as_deref(), place)
            }
            Event::SequenceEnd | Event::MappingEnd => match self.open.pop() {
                Some(open) => self.attach(open.node, open.anchor),
                None => Ok(()),
            },
        }
    }

    fn begin(&mut self, value: Value, anchor: usize, tag: Option<&Tag>, place: Place) -> Result<(), Fault> {
        self.tag(tag, place);
        self.count(1, place)?;
        if self.open.len() >= DEEPEST {
            return Err(
                self.fault(place, &format!("nested more than {DEEPEST} deep; no setting lies so deep"))
            );
        }
        let node = Node::new(place, value);
        self.open.push(Open { node, anchor, key: None, seen: HashMap::new() });
        Ok(())
    }

    fn alias(&mut self, anchor: usize, place: Place) -> Result<(), Fault> {
        let Some(node) = self.anchors.get(&anchor) else {
            return Err(self.fault(place, "an alias cannot stand inside what it names"));
        };
        let (size, depth) = node.extent();
        if self.open.len() + depth > DEEPEST {
            return Err(
                self.fault(place, &format!("nested more than {DEEPEST} deep; no setting lies so deep"))
            );
        }
        let node = node.clone();
        self.count(size, place)?;
        self.attach(node, 0)
    }

    /// Puts a whole node where it belongs: under the pending key, into the list, or as the next key.
    fn attach(&mut self, node: Node, anchor: usize) -> Result<(), Fault> {
        if anchor != 0 {
            self.count(node.extent().0, node.place)?;
            self.anchors.insert(anchor, node.clone());
        }
        let path = self.path();
        let Some(open) = self.open.last_mut() else {
            self.root.get_or_insert(node);
            return Ok(());
        };
        match (&mut open.node.value, open.key.take()) {
            (Value::Map(fields), Some(key)) => match open.seen.get(&key.text) {
                Some(first) => {
                    let message = format!(
                        "the key `{}` stands already in {}; leave one of them out",
                        shown(&key.text),
                        first.named()
                    );
                    self.faults.push(key.place.fault(&path, FaultKind::Error, message));
                }
                None => {
                    open.seen.insert(key.text.clone(), key.place);
                    fields.push((key, node));
                }
            },
            (Value::Map(_), None) => {
                let text = match node.value {
                    Value::Text(text) => text,
                    Value::Null => "null".to_owned(),
                    Value::List(_) | Value::Map(_) => {
                        return Err(self.fault(node.place, "a key must be text, not a list or a mapping"));
                    }
                };
                open.key = Some(Key { text, place: node.place });
            }
            (Value::List(items), _) => items.push(node),
            (Value::Null | Value::Text(_), _) => {}
        }
        Ok(())
    }

    fn count(&mut self, more: usize, place: Place) -> Result<(), Fault> {
        self.nodes += more;
        if self.nodes <= MOST_NODES {
            return Ok(());
        }
        Err(self
            .fault(place, &format!("the file holds more than {MOST_NODES} values, repeated ones included")))
    }

    fn tag(&mut self, tag: Option<&Tag>, place: Place) {
        if tag.is_some_and(|tag| !tag.is_yaml_core_schema()) {
            let fault = self.fault(place, "tags are not used here; leave this one out");
            self.faults.push(fault);
        }
    }

    fn fault(&self, place: Place, message: &str) -> Fault {
        place.fault(&self.path(), FaultKind::Error, message.to_owned())
    }

    /// The path of the value that comes next.
    fn path(&self) -> String {
        let mut path = String::new();
        for open in &self.open {
            match (&open.node.value, &open.key) {
                (Value::List(items), _) => path.push_str(&format!("[{}]", items.len())),
                (_, Some(key)) if path.is_empty() => path.push_str(&shown(&key.text)),
                (_, Some(key)) => {
                    path.push('.');
                    path.push_str(&shown(&key.text));
                }
                (_, None) => {}
            }
        }
        path
    }
}
