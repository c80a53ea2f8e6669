//! What shells and scripts rely on.

use super::stage::{Stage, end};

#[test]
fn wrong_usage_is_2_and_help_is_0() {
    let stage = Stage::empty();
    for args in [&[][..], &["nonsense"], &["init"], &["init", "--nonsense"]] {
        let ended = stage.run(args);
        assert_eq!((ended.code, ended.out.as_str()), (Some(2), ""), "{args:?}: {ended:?}");
        assert!(ended.err.contains("Usage: sigilum"), "{args:?}: {ended:?}");
    }
    for args in [&["--help"][..], &["curl", "--help"], &["help", "agent"]] {
        let ended = stage.run(args);
        assert_eq!((ended.code, ended.err.as_str()), (Some(0), ""), "{args:?}: {ended:?}");
        assert!(ended.out.contains("Usage: sigilum"), "{args:?}: {ended:?}");
        assert!(!ended.out.contains('\u{1b}'), "{args:?} is coloured");
    }
}

#[test]
fn versions_are_printed_for_people_and_programs() {
    let stage = Stage::empty();
    let ended = stage.run(&["versions"]);
    let version = env!("CARGO_PKG_VERSION");
    assert!(ended.out.starts_with(&format!("[ok] sigilum {version}\nsigilum: {version}\n")), "{ended:?}");
    let json: serde_json::Value = serde_json::from_str(&stage.run(&["versions", "--json"]).out).unwrap();
    assert_eq!(json["protocol"], "sigilum-rfc9421-v1");
    assert_eq!(stage.run(&["--version"]).out, format!("sigilum {version}\n"));
}

#[test]
fn completions_name_the_commands() {
    let stage = Stage::empty();
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let ended = stage.run(&["completions", shell]);
        assert_eq!(ended.code, Some(0), "{ended:?}");
        for word in ["curl", "agent", "namespace"] {
            assert!(ended.out.contains(word), "{shell}: {word}");
        }
    }
    let script = stage.run(&["completions", "bash"]).out;
    let file = stage.file("completion", script.as_bytes());
    assert!(std::process::Command::new("bash").args(["-n", &file]).status().unwrap().success());
}

#[test]
fn man_prints_the_page_and_writes_one_for_each_command() {
    let stage = Stage::empty();
    let ended = stage.run(&["man"]);
    assert!(ended.out.contains(".TH sigilum 1"), "{ended:?}");
    let ended = stage.run(&["man", "--out", "pages"]);
    assert_eq!((ended.code, ended.out.as_str()), (Some(0), "[ok] Manual pages written.\ndirectory: pages\n"));
    for page in ["sigilum.1", "sigilum-curl.1", "sigilum-agent.1", "sigilum-init.1", "sigilum-config-check.1"]
    {
        assert!(stage.path("pages").join(page).exists(), "{page} is not there");
    }
}

#[test]
fn reader_that_has_gone_is_no_fault() {
    let stage = Stage::with_identity();
    for args in
        [&["man"][..], &["completions", "bash"], &["versions"], &["--help"], &["sign", "--url", "http://x/"]]
    {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let ended = end(stage.command(args).stdout(writer));
        assert_eq!((ended.code, ended.err.as_str()), (Some(0), ""), "{args:?}: {ended:?}");
    }
}

#[test]
fn config_check_tells_every_fault_and_fails_only_for_those() {
    let stage = Stage::empty();
    stage.file(
        "right.yaml",
        b"providers:\n  - { id: echo, base_url: \"http://127.0.0.1:1\", auth: { mode: none } }\n",
    );
    stage.file("wrong.yaml", b"provider: []\nmode: both\n");
    let right = stage.run(&["config", "check", "right.yaml"]);
    assert_eq!(right.code, Some(0), "{right:?}");
    assert!(right.out.contains("[ok] right.yaml"), "{right:?}");
    let wrong = stage.run(&["config", "check", "wrong.yaml"]);
    assert_eq!((wrong.code, wrong.err.as_str()), (Some(1), ""), "{wrong:?}");
    assert!(wrong.out.contains("wrong.yaml:1:1: ") && wrong.out.contains("wrong.yaml:2:"), "{wrong:?}");
    let json = stage.run(&["config", "check", "wrong.yaml", "--json"]);
    let report: serde_json::Value = serde_json::from_str(&json.out).unwrap();
    assert_eq!((json.code, &report["ok"]), (Some(1), &serde_json::json!(false)));
}
