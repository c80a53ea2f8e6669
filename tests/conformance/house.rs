//! The rules of the house (`docs/architecture.md`), read from the source itself.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path as FilePath, PathBuf};

use super::rust_source::{self, Path, Token};

/// A name that says nothing of what is inside.
const DUMPING_GROUNDS: [&str; 6] = ["utils", "util", "helpers", "helper", "common", "types"];
/// Rooms without I/O, clock, randomness and tasks: what they need of these is handed in.
const PURE_ROOMS: [&str; 4] = ["names", "envelope", "protocol", "policy"];
/// What a pure room may not even name.
const IMPURE_WORDS: [&str; 8] = ["tokio", "getrandom", "rand", "reqwest", "hyper", "async", "await", "fjall"];
const IMPURE_STD: [&str; 5] = ["env", "fs", "process", "thread", "net"];
/// Address types are values; only sockets are I/O.
const PURE_NET: [&str; 7] =
    ["IpAddr", "Ipv4Addr", "Ipv6Addr", "SocketAddr", "SocketAddrV4", "SocketAddrV6", "AddrParseError"];

/// A file of `src`: its path there, and its tokens.
pub struct SourceFile {
    pub path: String,
    pub tokens: Vec<Token>,
}

impl SourceFile {
    fn new(path: &str, source: &str) -> Self {
        Self { path: path.to_owned(), tokens: rust_source::tokens(source) }
    }

    /// The room: the first directory, or the file itself where it lies in none.
    pub fn room(&self) -> &str {
        let first = self.path.split('/').next().unwrap_or_default();
        first.strip_suffix(".rs").unwrap_or(first)
    }

    /// Its tokens without what is compiled only for tests.
    pub fn code(&self) -> Vec<Token> {
        if self.path.ends_with("/tests.rs") { Vec::new() } else { rust_source::without_tests(&self.tokens) }
    }

    /// `gateway/proxy.rs` is the module `gateway::proxy`.
    fn module(&self) -> Vec<String> {
        let path = self.path.trim_end_matches(".rs").trim_end_matches("/mod");
        if path == "lib" { Vec::new() } else { path.split('/').map(str::to_owned).collect() }
    }
}

/// Everything under `src`.
pub fn sources() -> Vec<SourceFile> {
    let root = FilePath::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    let mut directories: Vec<PathBuf> = vec![root.clone()];
    while let Some(directory) = directories.pop() {
        for entry in std::fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                directories.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let name = path.strip_prefix(&root).unwrap().to_str().unwrap().to_owned();
                files.push(SourceFile::new(&name, &std::fs::read_to_string(&path).unwrap()));
            }
        }
    }
    files.sort_by(|a, b| a.path.cmp(&b.path));
    files
}

/// The rooms in the order of `lib.rs`.
pub fn rooms(files: &[SourceFile]) -> Vec<&str> {
    let lib = files.iter().find(|file| file.path == "lib.rs").expect("there is a lib.rs");
    rust_source::declared_modules(&lib.tokens)
}

/// Every breach of the rules, each as a sentence.
fn breaches(files: &[SourceFile]) -> Vec<String> {
    let rooms = rooms(files);
    let mut found = Vec::new();
    for file in files {
        names(file, &mut found);
        arrows(file, &rooms, &mut found);
        reserved_words(file, &mut found);
        if PURE_ROOMS.contains(&file.room()) {
            purity(file, &mut found);
        }
    }
    found.extend(circles(files, &rooms));
    found
}

fn names(file: &SourceFile, found: &mut Vec<String>) {
    for part in file.path.trim_end_matches(".rs").split('/') {
        if DUMPING_GROUNDS.contains(&part) {
            found.push(format!("{}: {part:?} says nothing of what is inside", file.path));
        }
    }
}

fn arrows(file: &SourceFile, rooms: &[&str], found: &mut Vec<String>) {
    let Some(own) = rooms.iter().position(|room| *room == file.room()) else {
        if !["lib.rs", "main.rs"].contains(&file.path.as_str()) {
            found.push(format!("{}: lib.rs does not declare the room {:?}", file.path, file.room()));
        }
        return;
    };
    for target in imported_rooms(file) {
        if rooms.iter().position(|room| *room == target).is_some_and(|room| room > own) {
            found.push(format!("{}: imports {target}, which stands below {}", file.path, file.room()));
        }
    }
}

/// The first segment of every path from the crate's root: a room, or an item of `lib.rs`.
fn imported_rooms(file: &SourceFile) -> BTreeSet<String> {
    rust_source::paths(&file.tokens)
        .iter()
        .filter_map(|path| absolute(file, path))
        .filter_map(|path| path.into_iter().next())
        .collect()
}

fn reserved_words(file: &SourceFile, found: &mut Vec<String>) {
    let room = file.room();
    let words: BTreeSet<&str> = rust_source::words(&file.tokens).collect();
    for word in ["pingora_proxy", "ProxyHttp"] {
        if words.contains(word) && !["gateway", "agent"].contains(&room) {
            found.push(format!("{}: {word} outside gateway and agent", file.path));
        }
    }
    if words.contains("anyhow") && !["cli", "main"].contains(&room) {
        found.push(format!("{}: anyhow outside cli", file.path));
    }
    for path in rust_source::paths(&file.tokens) {
        let reads_clock = path.segments.windows(2).any(|pair| {
            ["SystemTime", "Instant", "OffsetDateTime", "Utc", "Local"].contains(&pair[0].as_str())
                && pair[1].starts_with("now")
        });
        if reads_clock && room != "clock" {
            found.push(format!(
                "{}: reads the clock ({}) outside clock.rs",
                file.path,
                path.segments.join("::")
            ));
        }
    }
}

fn purity(file: &SourceFile, found: &mut Vec<String>) {
    let code = file.code();
    let words: BTreeSet<&str> = rust_source::words(&code).collect();
    for word in IMPURE_WORDS.iter().filter(|word| words.contains(**word)) {
        found.push(format!("{}: {word} in a pure room", file.path));
    }
    for path in rust_source::paths(&code) {
        let segments: Vec<&str> = path.segments.iter().map(String::as_str).collect();
        let impure = match segments.as_slice() {
            ["std", "net", name, ..] => !PURE_NET.contains(name),
            ["std", part, ..] => IMPURE_STD.contains(part),
            _ => false,
        };
        if impure {
            found.push(format!("{}: {} in a pure room", file.path, segments.join("::")));
        }
    }
}

/// The path from the crate's root; `None` where it leads outside the crate, or is relative.
fn absolute(file: &SourceFile, path: &Path) -> Option<Vec<String>> {
    let mut module = file.module();
    module.extend(path.inside.iter().cloned());
    let mut rest = path.segments.as_slice();
    match rest.first()?.as_str() {
        "crate" => {
            module.clear();
            rest = &rest[1..];
        }
        "self" => rest = &rest[1..],
        "super" => {
            while let Some("super") = rest.first().map(String::as_str) {
                module.pop()?;
                rest = &rest[1..];
            }
        }
        _ => return None,
    }
    module.extend(rest.iter().filter(|segment| *segment != "self" && *segment != "*").cloned());
    Some(module)
}

/// Circles of rooms, whatever the order says.
fn circles(files: &[SourceFile], rooms: &[&str]) -> Vec<String> {
    let mut edges: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for file in files.iter().filter(|file| rooms.contains(&file.room())) {
        let targets = imported_rooms(file);
        let others = rooms.iter().filter(|room| targets.contains(**room) && **room != file.room());
        edges.entry(file.room()).or_default().extend(others);
    }
    let mut done = BTreeSet::new();
    rooms.iter().filter_map(|room| walk(room, &edges, &mut Vec::new(), &mut done)).collect()
}

fn walk<'a>(
    at: &'a str,
    edges: &BTreeMap<&'a str, BTreeSet<&'a str>>,
    way: &mut Vec<&'a str>,
    done: &mut BTreeSet<&'a str>,
) -> Option<String> {
    if let Some(start) = way.iter().position(|file| *file == at) {
        return Some(format!("a circle: {} -> {at}", way[start..].join(" -> ")));
    }
    if !done.insert(at) {
        return None;
    }
    way.push(at);
    let found = edges.get(at).into_iter().flatten().find_map(|next| walk(next, edges, way, done));
    way.pop();
    found
}

#[test]
fn house_holds_its_rules() {
    let found = breaches(&sources());
    assert!(found.is_empty(), "\n{}\n", found.join("\n"));
}

/// The breaches of a made-up house whose rooms are clock, protocol, claims, gateway and cli, in this order.
fn in_a_made_up_house(files: &[(&str, &str)]) -> Vec<String> {
    let lib = "pub mod clock; pub mod protocol; pub mod claims; pub mod gateway; pub mod cli;";
    let mut sources = vec![SourceFile::new("lib.rs", lib)];
    sources.extend(files.iter().map(|(path, source)| SourceFile::new(path, source)));
    breaches(&sources)
}

#[test]
fn arrows_against_the_order_are_found_in_every_form() {
    for source in [
        "use crate::gateway::X;",
        "use crate::{clock::Clock, gateway};",
        "use crate::{clock::{self, Clock}, gateway::{a::{B, C}, d}};",
        "fn f() { let x = crate::gateway::go(); }",
        "fn f(x: &dyn crate::gateway::Go) {}",
        "use super::super::gateway::X;",
        "mod inner { use super::super::super::gateway::X; }",
        "#[cfg(test)] mod tests { use crate::gateway::X; }",
    ] {
        let found = in_a_made_up_house(&[("claims/feed.rs", source)]);
        assert_eq!(found, ["claims/feed.rs: imports gateway, which stands below claims"], "{source}");
    }
}

#[test]
fn arrows_along_the_order_pass() {
    let found = in_a_made_up_house(&[
        ("clock.rs", "use std::time::{Instant, SystemTime}; fn f() { Instant::now(); SystemTime::now(); }"),
        ("protocol/mod.rs", "mod sign; pub use sign::sign; use std::net::IpAddr;"),
        (
            "protocol/sign.rs",
            "use crate::clock::Clock; // use crate::gateway::X\n#[cfg(test)] mod t { use std::fs::read; }",
        ),
        ("claims/mod.rs", "use super::protocol::sign; use self::feed::Feed; mod feed;"),
        ("claims/feed.rs", "use crate::{clock, protocol::sign}; const S: &str = \"crate::gateway::X\";"),
        ("gateway/mod.rs", "use pingora_proxy::ProxyHttp; use crate::claims;"),
        ("cli/mod.rs", "use anyhow::Result; use crate::gateway;"),
        ("main.rs", "use anyhow::Result; use sigilum::cli;"),
    ]);
    assert_eq!(found, [""; 0]);
}

#[test]
fn circles_are_found_across_files_and_through_a_third_room() {
    let there = ("claims/feed.rs", "use crate::gateway::X;");
    let back = ("gateway/mod.rs", "use crate::protocol::Y;");
    let found =
        in_a_made_up_house(&[there, back, ("protocol/sign.rs", "fn f() -> crate::claims::Z { loop {} }")]);
    assert!(found.contains(&"a circle: protocol -> claims -> gateway -> protocol".to_owned()), "{found:?}");
    let found = in_a_made_up_house(&[there, back]);
    assert_eq!(found, ["claims/feed.rs: imports gateway, which stands below claims"]);
}

#[test]
fn each_rule_has_a_house_that_breaks_it() {
    for (path, source, expected) in [
        ("claims/utils.rs", "", "\"utils\" says nothing of what is inside"),
        ("claims/common/mod.rs", "", "\"common\" says nothing of what is inside"),
        ("attic/mod.rs", "", "lib.rs does not declare the room \"attic\""),
        ("claims/mod.rs", "use pingora_proxy::http_proxy;", "pingora_proxy outside gateway and agent"),
        ("cli/mod.rs", "impl ProxyHttp for X {}", "ProxyHttp outside gateway and agent"),
        ("gateway/mod.rs", "use anyhow::Context;", "anyhow outside cli"),
        (
            "gateway/mod.rs",
            "fn f() { SystemTime::now(); }",
            "reads the clock (SystemTime::now) outside clock.rs",
        ),
        (
            "gateway/mod.rs",
            "fn f() { std::time::Instant::now(); }",
            "reads the clock (std::time::Instant::now) outside clock.rs",
        ),
        ("protocol/mod.rs", "fn f() { getrandom::fill(b); }", "getrandom in a pure room"),
        ("protocol/mod.rs", "use std::{fmt, env};", "std::env in a pure room"),
        ("protocol/mod.rs", "use std::fs;", "std::fs in a pure room"),
        ("protocol/mod.rs", "use std::net::TcpStream;", "std::net::TcpStream in a pure room"),
        ("protocol/mod.rs", "use tokio::sync::Mutex;", "tokio in a pure room"),
        ("protocol/mod.rs", "async fn f() {}", "async in a pure room"),
    ] {
        assert_eq!(in_a_made_up_house(&[(path, source)]), [format!("{path}: {expected}")], "{source}");
    }
}
