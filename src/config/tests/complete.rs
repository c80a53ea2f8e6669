//! The examples load, the reference names every setting, and no setting that is known is ignored.

use std::collections::BTreeSet;
use std::path::Path;

use super::load_with;
use crate::config::keys::{KNOWN, without_indices};
use crate::config::tree::{self, Node, Value};
use crate::config::{check, environment, read};

const REFERENCE: &str = include_str!("../../../config/reference.yaml");
const DOCUMENT: &str = include_str!("../../../docs/configuration.md");

/// Every example, with the variables that it names.
#[test]
fn every_example_is_taken_without_a_warning() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("config");
    let mut examples = 0;
    for entry in std::fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        let text = std::fs::read_to_string(&path).unwrap();
        let settings = load_with(&text, &[]).unwrap_or_else(|faults| panic!("{}:\n{faults}", path.display()));
        assert!(settings.warnings.is_empty(), "{}: {:?}", path.display(), settings.warnings);
        examples += 1;
    }
    assert_eq!(examples, 3);
}

/// The reference with its commented settings set: those with no space behind the #.
fn whole_reference() -> Node {
    let uncommented = |line: &str| {
        let bare = line.trim_start();
        let set = bare.strip_prefix('#').filter(|rest| rest.starts_with(|c: char| c.is_ascii_lowercase()));
        set.map_or_else(|| line.to_owned(), |rest| format!("{}{rest}", " ".repeat(line.len() - bare.len())))
    };
    let text: Vec<String> = REFERENCE.lines().map(uncommented).collect();
    tree::parse(&text.join("\n")).0.expect("the reference is YAML")
}

/// The path of every key, indices left out.
fn paths(node: &Node, path: &str, found: &mut BTreeSet<String>) {
    match &node.value {
        Value::Map(fields) => {
            for (key, value) in fields {
                let path = if path.is_empty() { key.text.clone() } else { format!("{path}.{}", key.text) };
                found.insert(path.clone());
                paths(value, &path, found);
            }
        }
        Value::List(items) => items.iter().for_each(|item| paths(item, &format!("{path}[]"), found)),
        Value::Null | Value::Text(_) => {}
    }
}

fn known() -> BTreeSet<String> {
    let full = |section: &str, key: &str| {
        if section.is_empty() { key.to_owned() } else { format!("{section}.{key}") }
    };
    KNOWN.iter().flat_map(|(section, keys)| keys.iter().map(move |key| full(section, key))).collect()
}

fn is_section(path: &str) -> bool {
    KNOWN.iter().any(|(section, _)| *section == path)
}

#[test]
fn reference_names_every_setting_and_no_other() {
    let mut named = BTreeSet::new();
    paths(&whole_reference(), "", &mut named);
    assert_eq!(named, known());
}

#[test]
fn document_names_every_setting_and_every_variable() {
    for path in known().iter().filter(|path| !is_section(path) && !is_section(&format!("{path}[]"))) {
        assert!(DOCUMENT.contains(&format!("`{path}`")), "docs/configuration.md lacks {path}");
    }
    let variables =
        environment::VARIABLES.iter().map(|variable| variable.name).chain(environment::LATER.iter().copied());
    for name in variables {
        assert!(DOCUMENT.contains(&format!("`{name}`")), "docs/configuration.md lacks {name}");
    }
}

/// The text of the first block of this language after `heading`.
fn block<'a>(heading: &str, language: &str) -> &'a str {
    let after = DOCUMENT.split_once(heading).expect("the heading is there").1;
    let block = after.split_once(&format!("```{language}\n")).expect("the block is there").1;
    block.split_once("```").expect("the block ends").0
}

#[test]
fn document_shows_what_the_check_says() {
    let heading = "## What errors look like";
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("gateway.yaml");
    std::fs::write(&file, block(heading, "yaml")).unwrap();
    let report = check(&file, &|name| (name == "GATEWAY_ADDR").then(|| "here".to_owned()));
    let said = report.to_string().replace(&format!("{}/", directory.path().display()), "");
    assert_eq!(said, block(heading, "console").trim_end());
}

#[test]
fn every_variable_overrides_a_setting_that_is_known() {
    for variable in environment::VARIABLES {
        let path = without_indices(variable.setting);
        assert!(known().contains(&path), "{path}");
    }
}

/// Puts an empty mapping at `wanted`, wherever it stands, and gives how often.
fn spoil(node: &mut Node, path: &str, wanted: &str) -> usize {
    match &mut node.value {
        Value::Map(fields) => fields
            .iter_mut()
            .map(|(key, value)| {
                let path = if path.is_empty() { key.text.clone() } else { format!("{path}.{}", key.text) };
                if path == wanted {
                    value.value = Value::Map(Vec::new());
                    return 1;
                }
                spoil(value, &path, wanted)
            })
            .sum(),
        Value::List(items) => items.iter_mut().map(|item| spoil(item, &format!("{path}[]"), wanted)).sum(),
        Value::Null | Value::Text(_) => 0,
    }
}

/// A key that is known and that no section reads would be ignored in silence.
#[test]
fn every_known_setting_is_read() {
    for wanted in known().iter().filter(|path| !is_section(path)) {
        let mut root = whole_reference();
        assert!(spoil(&mut root, "", wanted) > 0, "{wanted} is not in the reference");
        let faults = read(&root, Path::new("gateway.yaml"), &|_| None, Vec::new(), true).unwrap_err();
        let reported = faults.all().iter().any(|fault| {
            without_indices(&fault.path) == *wanted
                && (fault.message.contains("not a mapping") || fault.message.contains("takes a list"))
        });
        assert!(reported, "{wanted} was not read:\n{faults}");
    }
}
