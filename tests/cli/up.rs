//! The local stack: control plane and gateway of one process, and the commands around it.

use std::net::TcpListener;
use std::path::Path;

use serde_json::Value;

use super::household::{FREE_PORTS, Household, behind};
use super::stage::{Ended, Running, end, mode};
use crate::support::eventually;
use crate::support::upstream::{Reply, Upstream};

/// The call of the workspace's own identity through the gateway.
fn call(house: &Household, path: &str) -> Ended {
    let gateway = house.workspace()["gateway_url"].as_str().unwrap().to_owned();
    house.run(&["curl", "-i", &format!("{gateway}/proxy/{path}")])
}

/// The claim that a refusal names.
fn claim_of(refused: &Ended) -> String {
    assert!(refused.out.starts_with("HTTP/1.1 403 "), "{refused:?}");
    let envelope = json(refused.out.split("\r\n\r\n").last().unwrap());
    assert_eq!(envelope["code"], "AUTH_CLAIM_REQUIRED", "{envelope}");
    assert_eq!(envelope["claim"]["status"], "pending", "{envelope}");
    envelope["claim"]["claim_id"].as_str().unwrap_or_else(|| panic!("{envelope}")).to_owned()
}

fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|_| panic!("{text}"))
}

#[test]
fn commands_that_the_demo_prints_do_what_it_says_pasted_as_they_are_at_every_start() {
    let house = Household::new();
    for _ in 0..2 {
        let out = house.up(&["--demo"]);
        for line in
            ["[ok] Control plane listening on ", "[ok] Gateway listening on ", "[ok] Admin listening on "]
        {
            assert!(behind(&out, line).is_some(), "{out}");
        }
        let commands: Vec<&str> = out.lines().filter_map(|line| line.strip_prefix("  ")).collect();
        let pasted =
            |line: &&str| line.starts_with('/') && (line.contains(" curl ") || line.contains(" claim "));
        let commands: Vec<&str> = commands.into_iter().filter(pasted).collect();
        let [first, list, approve, second, revoke] = commands[..] else { panic!("{out}") };
        let claim = claim_of(&house.pasted(&format!("{first} -i")));
        let listed = house.pasted(list);
        assert!(listed.out.contains(&format!("{claim}  pending  openai")), "{listed:?}");
        assert!(house.pasted(approve).out.starts_with("[ok] Claim approved.\n"));
        let passed = eventually("the approved agent to pass", || {
            Some(house.pasted(second)).filter(|ended| ended.out.contains("sigilum-echo"))
        });
        assert!(!passed.out.contains("sk-demo-"), "{passed:?}");
        assert!(house.pasted(revoke).out.starts_with("[ok] Claim revoked.\n"));
        eventually("the agent to be refused", || {
            Some(house.pasted(first)).filter(|ended| ended.out.contains("AUTH_CLAIM_REQUIRED"))
        });
        // An agent that is approved when the demo ends is not at its next start.
        let again = claim_of(&house.pasted(&format!("{first} -i")));
        house.done(&["claim", "approve", &again]);
        house.done(&["down"]);
        let log = std::fs::read_to_string(house.stage.path(".sigilum-workspace/run/up.log")).unwrap();
        assert!(!log.contains("approved claims are not received"), "{log}");
    }
}

#[test]
fn provider_that_is_added_to_the_running_stack_serves_an_approved_agent_also_after_the_next_start() {
    let house = Household::new();
    let upstream = Upstream::answering(Reply::ok("hello"));
    house.up(&[]);
    let mut add = house.command(&["service", "add", "--service-slug", "linear", "--mode", "gateway"]);
    add.args([
        "--upstream-base-url",
        &upstream.url(),
        "--auth-mode",
        "bearer",
        "--upstream-secret-env",
        "LINEAR_TOKEN",
    ]);
    let added = end(add.env("LINEAR_TOKEN", "lin_canary"));
    assert_eq!((added.code, added.err.as_str()), (Some(0), ""), "{added:?}");
    // The very next call is decided, and its claim is registered with the key that was stored.
    let claim = claim_of(&call(&house, "linear/x"));
    let claims = json(&house.done(&["claim", "list", "--json"]));
    assert_eq!(
        (&claims["claims"][0]["claim_id"], &claims["claims"][0]["status"]),
        (&claim.as_str().into(), &"pending".into())
    );
    house.done(&["claim", "approve", &claim]);
    eventually("the agent to pass", || call(&house, "linear/x").out.ends_with("hello").then_some(()));
    assert_eq!(upstream.requests().last().unwrap().header("authorization"), Some("Bearer lin_canary"));
    let doctor = house.run(&["doctor"]);
    assert!(doctor.out.contains("[ok] service keys: the gateway has the key of linear"), "{doctor:?}");
    assert_eq!(doctor.code, Some(0), "{doctor:?}");

    house.done(&["down"]);
    house.up(&[]);
    let again = call(&house, "linear/x");
    assert!(again.out.ends_with("hello"), "{again:?}");
    house.done(&["claim", "revoke", &claim]);
    eventually("the agent to be refused", || {
        call(&house, "linear/x").out.contains("AUTH_CLAIM_REQUIRED").then_some(())
    });
}

#[test]
fn identity_of_the_workspace_signs_unless_another_is_named() {
    let house = Household::new();
    house.done(&["init", "alice"]);
    house.done(&["init", "bob"]);
    house.up(&["--namespace", "alice"]);
    let url = format!("{}/proxy/nothing/x", house.workspace()["gateway_url"].as_str().unwrap());
    let key = |args: &[&str]| {
        let headers = json(&house.done(&[args, &["sign", "--json", "--url", &url]].concat()));
        headers["sigilum-agent-key"].as_str().unwrap().to_owned()
    };
    let of = |home: &str, namespace: &str| {
        let file = house.stage.path(&format!("{home}/identities/{namespace}/identity.json"));
        json(&std::fs::read_to_string(file).unwrap())["publicKey"].as_str().unwrap().to_owned()
    };
    assert_eq!(key(&[]), of(".sigilum-workspace", "alice"));
    assert_eq!(key(&["--namespace", "alice"]), of(".sigilum-workspace", "alice"));
    assert_eq!(key(&["--namespace", "bob"]), of("user/.sigilum", "bob"), "the workspace has none");
    assert_eq!(key(&["--home", "user/.sigilum", "--namespace", "alice"]), of("user/.sigilum", "alice"));
    let nobody = house.run(&["--namespace", "carol", "sign", "--url", &url]);
    assert!(nobody.code == Some(1) && nobody.err.contains("`sigilum init carol`"), "{nobody:?}");
}

#[test]
fn stack_keeps_its_namespace_when_its_workspace_has_further_identities() {
    let house = Household::new();
    house.up(&[]);
    house.done(&["--home", ".sigilum-workspace", "init", "bob"]);
    house.done(&["init", "alice"]);
    house.done(&["down"]);
    house.up(&[]);
    assert_eq!(house.workspace()["namespace"], "local");
}

#[test]
fn stack_in_the_background_is_shown_and_stopped() {
    let house = Household::new();
    let out = house.up(&[]);
    let api = behind(&out, "[ok] Control plane listening on ").unwrap();
    let status = json(&house.done(&["status", "--json"]));
    assert_eq!((&status["healthy"], &status["control_plane"]["url"]), (&true.into(), &api.into()));
    assert_eq!((&status["namespace"], &status["services"]), (&"local".into(), &serde_json::json!([])));
    assert_eq!(status["pid"].to_string(), behind(&out, "pid: ").unwrap());

    let again = house.run(&[&["up"], &FREE_PORTS[..]].concat());
    assert_eq!(again.code, Some(1));
    assert!(again.err.contains("runs already, as process"), "{again:?}");

    for args in [["gateway", "start"], ["gateway", "stop"]] {
        let ended = house.run(&args);
        assert_eq!(ended.code, Some(1), "{ended:?}");
        assert!(ended.err.contains("a part of the local stack"), "{ended:?}");
    }
    assert_eq!(house.run(&["gateway", "status"]).code, Some(0));

    assert_eq!(house.done(&["down"]), "[ok] Stopped.\n");
    assert_eq!(house.done(&["down"]), "[ok] Nothing runs here.\n");
    assert_eq!(house.run(&["status"]).code, Some(4));
    assert!(TcpListener::bind(api.trim_start_matches("http://")).is_ok(), "its port is still taken");
}

#[test]
fn files_of_the_stack_are_where_the_documents_say_and_for_the_owner_alone() {
    let house = Household::new();
    house.up(&[]);
    for file in [
        ".sigilum-workspace/workspace.json",
        ".sigilum-workspace/identities/local/identity.json",
        ".sigilum-workspace/run/up.pid",
        ".sigilum-workspace/run/up.log",
        ".local/api-data/jwt-secret",
        ".local/api-data/sealing-key",
        ".local/gateway-data/vault.key",
        ".local/gateway-data/home/identities/local/identity.json",
    ] {
        assert_eq!(mode(&house.stage.path(file)), 0o600, "{file}");
    }
    for directory in [".sigilum-workspace", ".local/api-data", ".local/gateway-data"] {
        assert_eq!(mode(&house.stage.path(directory)), 0o700, "{directory}");
    }
    assert!(house.stage.path(".local/api-data/sigilum.db").exists());
    assert!(!house.stage.path("user/.sigilum").exists(), "the user's own home was touched");
}

#[test]
fn only_identity_of_the_home_names_the_namespace() {
    let house = Household::new();
    house.done(&["init", "alice"]);
    house.up(&[]);
    assert_eq!(house.workspace()["namespace"], "alice");
    assert!(house.stage.path(".sigilum-workspace/identities/alice/identity.json").exists());
}

#[test]
fn demo_leaves_the_workspace_of_a_real_stack_as_it_was() {
    let house = Household::new();
    house.up(&[]);
    house.done(&["down"]);
    let before = house.workspace();
    house.up(&["--demo"]);
    assert_eq!(house.workspace()["namespace"], "demo");
    house.done(&["down"]);
    assert_eq!(house.workspace(), before);

    house.up(&["--demo"]);
    house.signal("KILL", &house.stage.path(".sigilum-workspace/run/up.pid"));
    eventually("the end of the demo", || (house.run(&["status"]).code == Some(4)).then_some(()));
    house.up(&["--demo"]);
    house.done(&["down"]);
    assert_eq!(house.workspace(), before, "a demo that was killed is taken for the real stack");

    let fresh = Household::new();
    fresh.up(&["--demo"]);
    fresh.done(&["down"]);
    assert!(!fresh.stage.path(".sigilum-workspace/workspace.json").exists());
    assert!(!fresh.stage.path(".local").exists());
}

#[test]
fn taken_port_is_named_and_nothing_is_left_behind() {
    let house = Household::new();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    for (flag, whose) in [
        ("--listen", "the gateway"),
        ("--admin-listen", "the admin listener"),
        ("--api-listen", "the control plane"),
    ] {
        let mut flags = FREE_PORTS.map(str::to_owned);
        let at = flags.iter().position(|word| word == flag).unwrap();
        flags[at + 1] = address.to_string();
        let args: Vec<&str> = ["up"].into_iter().chain(flags.iter().map(String::as_str)).collect();
        let ended = house.run(&args);
        assert_eq!(ended.code, Some(1), "{ended:?}");
        let port = address.port();
        let sentence =
            format!("error: port {port} of 127.0.0.1, which {whose} needs, is taken by another program\n");
        assert!(ended.err.starts_with(&sentence), "{ended:?}");
        assert!(ended.err.contains("`sigilum down`"), "{ended:?}");
    }
    assert!(!house.stage.path(".sigilum-workspace/run/up.pid").exists());
    assert!(!house.stage.path(".local").exists());
}

#[test]
fn stack_in_the_foreground_ends_at_the_first_signal_and_begins_again_with_what_it_knew() {
    let house = Household::new();
    let args = [&["up", "--json"], &FREE_PORTS[..]].concat();
    let key = Path::new(".local/api-data/jwt-secret");
    let mut made = None;
    for _ in 0..2 {
        let (mut running, first) = Running::start(&mut house.command(&args));
        assert!(first.starts_with('{'), "{first}");
        running.terminate();
        let ended = eventually("the end of the stack", || running.child.try_wait().unwrap());
        assert_eq!(ended.code(), Some(0));
        assert!(!house.stage.path(".sigilum-workspace/run/up.pid").exists());
        let now = std::fs::read(house.stage.path("").join(key)).unwrap();
        assert_eq!(*made.get_or_insert_with(|| now.clone()), now);
    }
}

#[test]
fn control_plane_alone_serves_in_the_foreground_and_in_the_background() {
    let house = Household::new();
    let start = ["api", "start", "--listen", "127.0.0.1:0"];
    let (mut running, line) = Running::start(&mut house.command(&start));
    assert!(line.starts_with("[ok] Control plane listening on http://127.0.0.1:"), "{line}");
    running.terminate();
    assert_eq!(eventually("its end", || running.child.try_wait().unwrap()).code(), Some(0));
    assert!(!house.stage.path(".sigilum-workspace").exists(), "in the foreground it needs no workspace");

    house.done(&[&start[..], &["--daemon"]].concat());
    let status = json(&house.done(&["status", "--json"]));
    assert_eq!(status["control_plane"]["ready"], true);
    assert_eq!(house.done(&["down"]), "[ok] Stopped.\n");
}

#[test]
fn database_is_served_by_one_control_plane_and_by_the_next_when_that_was_killed() {
    let house = Household::new();
    let start = ["api", "start", "--listen", "127.0.0.1:0"];
    let (first, _) = Running::start(&mut house.command(&start));
    let second = house.run(&start);
    assert_eq!(second.code, Some(1), "{second:?}");
    let sentence = "sigilum.db: another control plane serves this database; stop that one";
    assert!(second.err.contains(sentence), "{second:?}");
    let owner = ["api", "owner", "create", "--namespace", "acme", "--email", "ops@acme.example"];
    house.done(&owner);
    house.done(&["auth", "login", "--mode", "oss-local", "--namespace", "acme"]);
    // It is killed.
    drop(first);
    let (next, line) = Running::start(&mut house.command(&start));
    assert!(line.starts_with("[ok] Control plane listening on "), "{line}");
    next.terminate();
}

#[test]
fn control_plane_with_a_wrong_environment_names_every_fault() {
    let house = Household::new();
    let mut command = house.command(&["api", "start"]);
    command.env("SIGILUM_API_LISTEN", "here").env("JWT_SECRET", "canary-short");
    let ended = end(&mut command);
    assert_eq!(ended.code, Some(1));
    assert!(
        ended.err.contains("environment: SIGILUM_API_LISTEN: takes an IP address and a port"),
        "{ended:?}"
    );
    assert!(ended.err.contains("environment: JWT_SECRET: takes at least 32 bytes"), "{ended:?}");
    assert!(!ended.err.contains("canary"), "{ended:?}");
    assert!(!house.stage.path(".local").exists());
}

#[test]
fn demo_tells_programs_the_claim_that_waits() {
    let house = Household::new();
    let told = json(&house.up(&["--demo", "--json"]));
    let claims = json(&house.done(&["claim", "list", "--status", "pending", "--json"]));
    assert!(told["claim_id"].is_string() && told["claim_id"] == claims["claims"][0]["claim_id"], "{told}");
}

#[test]
fn stack_of_another_directory_is_told_with_the_way_there() {
    let house = Household::new();
    let there = house.stage.path("there");
    std::fs::create_dir(&there).unwrap();
    let out = house.up(&["--workspace", "there", "--home", "home"]);
    house.done(&["down", "--workspace", "there"]);
    assert!(
        out.contains(&format!(
            "in that directory, put a provider behind the gateway:\n  cd {}\n",
            there.display()
        )),
        "{out}"
    );
}

#[test]
fn directory_of_the_workspace_that_stood_open_is_closed() {
    use std::os::unix::fs::PermissionsExt as _;
    let house = Household::new();
    let workspace = house.stage.path(".sigilum-workspace");
    std::fs::create_dir(&workspace).unwrap();
    std::fs::set_permissions(&workspace, std::fs::Permissions::from_mode(0o755)).unwrap();
    house.up(&[]);
    assert_eq!(mode(&workspace), 0o700);
}
