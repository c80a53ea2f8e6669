//! `sigilum claim`: the owner's decisions, from a terminal.

use serde_json::json;

use super::owner_scene::{OWNER, Scene, key, token};

fn scene() -> Scene {
    let scene = Scene::start();
    scene.service("openai");
    scene
}

#[test]
fn pending_claim_is_listed_and_approved_for_a_time_and_a_scope() {
    let scene = scene();
    let claim = scene.plane.claim("openai", 1);
    let id = claim.id.as_str();
    let listed = scene.run(&["claim", "list", "--status", "pending"]);
    let lines: Vec<&str> = listed.out.lines().collect();
    assert_eq!((lines.len(), lines[0]), (3, "[ok] Claims of namespace johndee: 1"), "{listed:?}");
    let words: Vec<&str> = lines[2].split_whitespace().collect();
    let shown: String = key(1).to_string().chars().take(16).collect();
    assert_eq!(words[..4], [id, "pending", "openai", "agent-1"]);
    assert!(words[4].starts_with(&shown), "{words:?}");
    let approved = scene.run(&["claim", "approve", id, "--ttl", "8h", "--scope", "GET /v1/models"]);
    assert_eq!(approved.code, Some(0), "{approved:?}");
    for line in [
        "[ok] Claim approved.\n",
        &format!("claim_id: {id}\n"),
        "namespace: johndee\nservice: openai\n",
        "status: approved\n",
        "scopes: GET /v1/models\n",
        "expires_at: 20",
    ] {
        assert!(approved.out.contains(line), "{line} is not in {approved:?}");
    }
    let all = scene.json(&["claim", "list", "--status", "approved", "--service", "openai"]);
    assert_eq!(all["claims"][0]["scopes"], json!(["GET /v1/models"]));
    assert_eq!(all["claims"][0]["decided_by"], "johndee@local.sigilum");
    assert_eq!(scene.json(&["claim", "list", "--status", "pending"])["claims"], json!([]));
}

#[test]
fn claim_is_approved_until_a_moment() {
    let scene = scene();
    let id = scene.plane.claim("openai", 1).id;
    let json = scene.json(&["claim", "approve", id.as_str(), "--expires-at", "2999-01-01T00:00:00Z"]);
    assert_eq!((&json["status"], &json["expires_at"]), (&json!("approved"), &json!("2999-01-01T00:00:00Z")));
    assert_eq!(json["scopes"], json!([]));
}

#[test]
fn claims_are_rejected_and_revoked() {
    let scene = scene();
    let (first, second) = (scene.plane.claim("openai", 1).id, scene.plane.claim("openai", 2).id);
    let rejected = scene.run(&["claim", "reject", first.as_str()]);
    assert!(rejected.out.starts_with("[ok] Claim rejected.\n"), "{rejected:?}");
    assert_eq!(scene.run(&["claim", "approve", second.as_str()]).code, Some(0));
    let revoked = scene.run(&["claim", "revoke", second.as_str()]);
    assert!(revoked.out.starts_with("[ok] Claim revoked.\n"), "{revoked:?}");
    let twice = scene.run(&["claim", "approve", second.as_str()]);
    assert_eq!(twice.code, Some(1), "{twice:?}");
    assert!(twice.err.starts_with("error: the claim is revoked"), "{twice:?}");
}

#[test]
fn list_says_when_it_shows_a_part() {
    let scene = scene();
    for seed in 1..=3 {
        scene.plane.claim("openai", seed);
    }
    let part = scene.run(&["claim", "list", "--limit", "2"]);
    assert!(part.out.starts_with("[ok] Claims of namespace johndee: 3\n"), "{part:?}");
    assert!(part.out.ends_with("[i] These are 2 of 3; --limit and --offset show others\n"), "{part:?}");
    assert_eq!(
        scene.json(&["claim", "list", "--limit", "2", "--offset", "2"])["claims"].as_array().unwrap().len(),
        1
    );
    let none = scene.run(&["claim", "list", "--status", "revoked"]);
    assert_eq!(none.out, "[ok] Claims of namespace johndee: 0\n");
}

#[test]
fn unknown_claim_fails_and_says_where_to_look() {
    let scene = scene();
    for action in ["approve", "reject", "revoke"] {
        let ended = scene.run(&["claim", action, "cl_00000000000000000000000000000000"]);
        assert_eq!(ended.code, Some(1), "{ended:?}");
        assert!(ended.err.contains("hint: `sigilum claim list --namespace johndee`"), "{ended:?}");
    }
}

#[test]
fn token_that_does_not_hold_is_not_authorized() {
    let scene = scene();
    let forged = token(OWNER, 3_600);
    let refused = scene.run_with(&["claim", "list"], &[("SIGILUM_OWNER_TOKEN", &forged)]);
    assert_eq!(refused.code, Some(3), "{refused:?}");
    assert!(refused.err.contains("hint: ") && refused.err.contains("sigilum auth login"), "{refused:?}");
    assert!(!refused.err.contains(&forged));
    let none = scene.run_with(&["claim", "list", "--namespace", OWNER], &[("SIGILUM_MODE", "managed")]);
    assert_eq!(none.code, Some(3), "{none:?}");
    assert!(
        none.err.starts_with("error: there is no owner token of johndee on this machine\nhint: "),
        "{none:?}"
    );
    let other = scene.run_with(&["claim", "list"], &[("SIGILUM_OWNER_TOKEN", &token("alice", 60))]);
    assert_eq!(other.code, Some(3), "{other:?}");
    let file = scene.stage.path("nowhere.jwt");
    let missing = scene.run(&["claim", "list", "--token-file", file.to_str().unwrap()]);
    assert!(missing.code == Some(1) && missing.err.contains("token file not found: "), "{missing:?}");
}

#[test]
fn stored_token_of_another_secret_is_passed_over() {
    let scene = scene();
    let stored = super::owner_scene::user(&scene.stage).join(".openclaw/.sigilum/owner-token-johndee.jwt");
    std::fs::create_dir_all(stored.parent().unwrap()).unwrap();
    std::fs::write(&stored, token(OWNER, 3_600)).unwrap();
    assert_eq!(scene.run(&["claim", "list"]).code, Some(0));
}

#[test]
fn control_plane_that_does_not_answer_is_not_reachable() {
    let scene = scene();
    let gone = scene.run(&["claim", "list", "--api-url", "http://127.0.0.1:1"]);
    assert_eq!(gone.code, Some(4), "{gone:?}");
    assert!(
        gone.err.starts_with("error: the control plane at http://127.0.0.1:1 cannot be reached: "),
        "{gone:?}"
    );
    let other = scene.run(&["claim", "list", "--api-url", "ftp://x"]);
    assert_eq!(other.code, Some(2), "{other:?}");
}

#[test]
fn what_cannot_be_meant_is_wrong_usage() {
    let scene = scene();
    let id = scene.plane.claim("openai", 1).id;
    for wrong in [
        &["claim", "approve", id.as_str(), "--ttl", "8"][..],
        &["claim", "approve", id.as_str(), "--ttl", "8h", "--expires-at", "2999-01-01T00:00:00Z"],
        &["claim", "approve", id.as_str(), "--expires-at", "2001-01-01T00:00:00Z"],
        &["claim", "approve", id.as_str(), "--expires-at", "tomorrow"],
        &["claim", "approve", id.as_str(), "--scope", "no scope at all"],
        &["claim", "list", "--status", "maybe"],
        &["claim", "list", "--limit", "0"],
    ] {
        let ended = scene.run(wrong);
        assert_eq!(ended.code, Some(2), "{wrong:?}: {ended:?}");
    }
    assert_eq!(scene.json(&["claim", "list", "--status", "pending"])["pagination"]["total"], 1);
}
