//! What the documents say is there, is there.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use super::house;
use super::rust_source;

/// Rooms whose code speaks to clients in codes.
const SPEAKING_ROOMS: [&str; 9] =
    ["protocol", "policy", "telemetry", "claims", "replay", "gateway", "agent", "admin", "control"];
/// Names of this form that are no codes: variables of the environment.
const VARIABLES: [&str; 4] = ["GATEWAY_", "SIGILUM_", "CARGO_", "SSL_CERT_"];

#[test]
fn every_relative_link_leads_somewhere() {
    let mut broken = Vec::new();
    for file in markdown() {
        let text = prose(&std::fs::read_to_string(&file).unwrap());
        for target in links(&text) {
            if !leads_somewhere(&file, target) {
                broken.push(format!("{}: {target}", file.display()));
            }
        }
    }
    assert!(broken.is_empty(), "these links lead nowhere:\n{}", broken.join("\n"));
}

#[test]
fn links_and_anchors_are_read_as_they_stand() {
    let text =
        prose("[a](b.md#c) `[no](link)` [d](https://e) [f](<g h.md> \"title\")\n```\n[no](link)\n```\n");
    assert_eq!(links(&text), ["b.md#c", "https://e", "g h.md"]);
    assert_eq!(anchor("What is checked, in this order"), "what-is-checked-in-this-order");
    assert_eq!(anchor("`AUTH_CLAIM_REQUIRED`"), "auth_claim_required");
    let here = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/errors.md");
    assert!(leads_somewhere(&here, "security.md#the-way-of-a-secret"));
    assert!(!leads_somewhere(&here, "security.md#nowhere"));
    assert!(!leads_somewhere(&here, "nowhere.md"));
}

#[test]
fn every_code_in_the_source_is_explained() {
    let explained = explained(&errors_page());
    let missing: Vec<String> = codes_of_the_source().difference(&explained).cloned().collect();
    assert!(missing.is_empty(), "docs/errors.md does not explain {missing:?}");
}

#[test]
fn every_explained_code_is_in_the_source() {
    let page = errors_page();
    let (in_use, _) = page.split_once("## Not in use yet").expect("the section of codes to come");
    let idle: Vec<String> = explained(in_use).difference(&codes_of_the_source()).cloned().collect();
    assert!(idle.is_empty(), "docs/errors.md explains codes that nothing answers: {idle:?}");
}

/// What the field's documents have people type, by the words that tell one command from another.
const SHOWN: [&str; 40] = [
    "sigilum auth login --mode oss-local",
    "sigilum auth login --mode managed --namespace johndee --owner-token-stdin",
    "--owner-token <jwt> --enable-authz-notify true",
    "--token-only",
    "sigilum auth refresh",
    "sigilum auth show",
    "sigilum login",
    "sigilum service add",
    "sigilum service list",
    "sigilum service secret set",
    "sigilum up",
    "sigilum down",
    "sigilum doctor",
    "sigilum doctor --fix",
    "sigilum versions",
    "sigilum e2e-tests",
    "sigilum gateway start",
    "sigilum gateway connect --session-id",
    "sigilum gateway pair --session-id",
    "sigilum gateway pair --code",
    "--status",
    "--stop",
    "sigilum openclaw connect",
    "sigilum openclaw install",
    "http://127.0.0.1:8787/health",
    "http://127.0.0.1:38100/health",
    "http://localhost:38100/health",
    "cat .sigilum-workspace/gateway-connection-secret-",
    "install-curl.sh",
    "source ~/.zshrc",
    "export PATH=",
    "tar xzf",
    "chmod +x",
    "sudo mv",
    "git clone",
    "corepack",
    "pnpm install",
    "cp .dev.vars.example .dev.vars",
    "pnpm --filter @sigilum/api build",
    "go build",
];

#[test]
fn every_command_of_the_field_s_documents_has_its_row() {
    let page = read("docs/compatibility.md");
    let (_, rest) = page.split_once("## Commands").expect("the section of commands");
    let (commands, _) = rest.split_once("\n## ").expect("a section behind it");
    let rows: Vec<&str> =
        commands.lines().filter_map(|line| line.strip_prefix("| `")?.split(" | ").next()).collect();
    let missing: Vec<&&str> =
        SHOWN.iter().filter(|shown| !rows.iter().any(|row| row.contains(**shown))).collect();
    assert!(missing.is_empty(), "docs/compatibility.md has no row of {missing:?}");
}

#[test]
fn architecture_names_the_rooms_in_their_order() {
    let page = read("docs/architecture.md");
    let named: Vec<&str> = page
        .lines()
        .skip_while(|line| !line.starts_with("| Room |"))
        .take_while(|line| line.starts_with('|'))
        .filter_map(|line| line.strip_prefix("| `")?.split('`').next())
        .collect();
    let sources = house::sources();
    assert_eq!(named, house::rooms(&sources));
}

#[test]
fn alerts_are_on_metrics_that_are_there() {
    let rendered = sigilum::telemetry::Metrics::new().render();
    let alerts = read("deploy/prometheus-alerts.yaml");
    let named: BTreeSet<&str> = alerts
        .split(|c: char| !c.is_ascii_alphanumeric() && c != '_')
        .filter(|word| word.starts_with("sigilum_gateway_"))
        .collect();
    let missing: Vec<&&str> = named
        .iter()
        .filter(|name| !rendered.lines().any(|line| line.split(['{', ' ']).next() == Some(**name)))
        .collect();
    assert!(named.len() > 5 && missing.is_empty(), "the gateway has no metric {missing:?}");
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(name: &str) -> String {
    std::fs::read_to_string(root().join(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

fn errors_page() -> String {
    read("docs/errors.md")
}

/// The documents of the root and of `docs`.
fn markdown() -> Vec<PathBuf> {
    let mut files: Vec<PathBuf> = [root().to_owned(), root().join("docs"), root().join("deploy")]
        .into_iter()
        .flat_map(|directory| std::fs::read_dir(directory).unwrap())
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "md"))
        .collect();
    files.sort();
    files
}

/// The text without fenced blocks and code spans.
fn prose(text: &str) -> String {
    let mut fenced = false;
    let mut kept = String::new();
    for line in text.lines() {
        if line.trim_start().starts_with("```") {
            fenced = !fenced;
        } else if !fenced {
            kept.extend(line.split('`').step_by(2));
            kept.push('\n');
        }
    }
    kept
}

/// The targets of inline links and images.
fn links(text: &str) -> Vec<&str> {
    text.split("](")
        .skip(1)
        .filter_map(|rest| match rest.strip_prefix('<') {
            Some(rest) => rest.split('>').next(),
            None => rest.split([')', ' ']).next(),
        })
        .collect()
}

fn leads_somewhere(from: &Path, target: &str) -> bool {
    if target.contains("://") || target.starts_with("mailto:") {
        return true;
    }
    let (path, fragment) = target.split_once('#').unwrap_or((target, ""));
    let file = if path.is_empty() { from.to_owned() } else { from.parent().unwrap().join(path) };
    if !file.exists() {
        return false;
    }
    fragment.is_empty()
        || std::fs::read_to_string(file).is_ok_and(|text| {
            text.lines().filter(|line| line.starts_with('#')).any(|line| anchor(line) == fragment)
        })
}

/// The anchor that a heading has on the web.
fn anchor(heading: &str) -> String {
    heading
        .trim_start_matches('#')
        .trim()
        .to_lowercase()
        .chars()
        .filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'))
        .map(|c| if c == ' ' { '-' } else { c })
        .collect()
}

/// Codes that stand as a heading or as the first cell of a table's row.
fn explained(page: &str) -> BTreeSet<String> {
    page.lines()
        .filter_map(|line| line.strip_prefix("## ").or_else(|| line.strip_prefix("| ")?.split(" | ").next()))
        .flat_map(|text| text.split([',', ' ', '`']))
        .filter(|text| is_code(text))
        .map(str::to_owned)
        .collect()
}

fn codes_of_the_source() -> BTreeSet<String> {
    house::sources()
        .iter()
        .filter(|file| SPEAKING_ROOMS.contains(&file.room()))
        // The table of metric labels also holds codes of features to come.
        .filter(|file| file.path != "telemetry/reasons.rs")
        .flat_map(|file| {
            let code = file.code();
            rust_source::texts(&code).filter(|text| is_code(text)).map(str::to_owned).collect::<Vec<_>>()
        })
        .collect()
}

fn is_code(text: &str) -> bool {
    let upper = |c: char| c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_';
    let one_word = ["OVERLOADED", "INTERNAL"].contains(&text);
    one_word
        || (text.len() > 4
            && text.starts_with(|c: char| c.is_ascii_uppercase())
            && text.contains('_')
            && !text.ends_with('_')
            && text.chars().all(upper)
            && !VARIABLES.iter().any(|prefix| text.starts_with(prefix)))
}
