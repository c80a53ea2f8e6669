//! `sigilum auth`: tokens of a namespace's owner, made here or brought.

use std::fs;
use std::io::{Read as _, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::process::{Child, ChildStderr, Command, Stdio};

use serde_json::{Value, json};

use super::owner_scene::{OWNER, Scene, command, payload, token, user, write_workspace};
use super::stage::{Ended, Stage, end, mode};

const LOGIN: [&str; 6] = ["auth", "login", "--mode", "oss-local", "--namespace", OWNER];
const MANAGED: [&str; 6] = ["auth", "login", "--mode", "managed", "--namespace", OWNER];

fn run(stage: &Stage, args: &[&str]) -> Ended {
    end(&mut command(stage, args))
}

fn with(args: &[&'static str], more: &[&'static str]) -> Vec<&'static str> {
    [args, more].concat()
}

/// The stage, with a configuration of OpenClaw.
fn stage_with_openclaw(config: &str) -> Stage {
    let stage = Stage::empty();
    fs::create_dir_all(user(&stage).join(".openclaw")).unwrap();
    fs::write(user(&stage).join(".openclaw/openclaw.json"), config).unwrap();
    stage
}

fn openclaw(stage: &Stage) -> Value {
    serde_json::from_slice(&fs::read(user(stage).join(".openclaw/openclaw.json")).unwrap()).unwrap()
}

fn hook(stage: &Stage) -> Value {
    openclaw(stage).pointer("/hooks/internal/entries/sigilum-authz-notify").unwrap().clone()
}

#[test]
fn local_login_prints_what_the_documents_show() {
    let stage = stage_with_openclaw("{}");
    let ended = run(&stage, &LOGIN);
    let home = user(&stage).join(".openclaw");
    let kept = fs::read_to_string(home.join(".sigilum/owner-token-johndee.jwt")).unwrap();
    let expected = format!(
        "[ok] Namespace-owner token ready.\nmode: oss-local\nnamespace: johndee\napi: http://127.0.0.1:8787\n\
         token_file: {0}/.sigilum/owner-token-johndee.jwt\nopenclaw_config: {0}/openclaw.json\n\
         authz_notify_enabled: preserve\n[i] JWT:\n{kept}",
        home.display()
    );
    assert_eq!((ended.code, ended.out.as_str(), ended.err.as_str()), (Some(0), expected.as_str(), ""));
    let said = payload(&kept);
    assert_eq!((&said["namespace"], &said["email"]), (&json!("johndee"), &json!("johndee@local.sigilum")));
    assert_eq!(said["exp"].as_i64().unwrap() - said["iat"].as_i64().unwrap(), 604_800);
}

#[test]
fn token_and_secret_are_for_the_owner_alone() {
    let stage = Stage::empty();
    assert_eq!(run(&stage, &LOGIN).code, Some(0));
    let kept = user(&stage).join(".openclaw/.sigilum/owner-token-johndee.jwt");
    assert_eq!((mode(&kept), mode(kept.parent().unwrap())), (0o600, 0o700));
    let data = stage.path(".local/api-data");
    assert_eq!((mode(&data.join("jwt-secret")), mode(&data)), (0o600, 0o700));
}

#[test]
fn kept_token_is_shown_and_nothing_else() {
    let stage = Stage::empty();
    let login = run(&stage, &with(&LOGIN, &["--token-only"]));
    assert_eq!(login.out.lines().count(), 1, "{login:?}");
    let shown = run(&stage, &["auth", "show", "--namespace", OWNER]);
    assert_eq!((shown.code, &shown.out), (Some(0), &login.out));
    let own = stage.path("custom/token.jwt");
    let own = own.to_str().unwrap();
    let elsewhere = run(&stage, &[&LOGIN[..], &["--token-file", own, "--token-only"]].concat());
    let shown = run(&stage, &["auth", "show", "--token-file", own]);
    assert_eq!(shown.out, elsewhere.out);
    let json: Value =
        serde_json::from_str(&run(&stage, &["auth", "show", "--token-file", own, "--json"]).out).unwrap();
    assert_eq!((&json["namespace"], &json["expired"]), (&json!(OWNER), &json!(false)));
    assert_eq!(json["token"].as_str().unwrap(), shown.out.trim());
}

#[test]
fn alias_and_refresh_do_what_login_does() {
    let stage = Stage::empty();
    for args in [&["login"][..], &["auth", "refresh"]] {
        let ended = run(&stage, &[args, &LOGIN[2..]].concat());
        assert!(ended.out.starts_with("[ok] Namespace-owner token ready.\nmode: oss-local\n"), "{ended:?}");
    }
}

#[test]
fn token_is_left_out_where_it_was_asked_for() {
    let stage = Stage::empty();
    let ended = run(&stage, &with(&LOGIN, &["--print-token", "false"]));
    assert!(ended.code == Some(0) && !ended.out.contains("eyJ"), "{ended:?}");
    let json = run(&stage, &with(&LOGIN, &["--json", "--print-token", "false"]));
    let json: Value = serde_json::from_str(&json.out).unwrap();
    assert_eq!((&json["mode"], json.get("token")), (&json!("oss-local"), None));
}

#[test]
fn lifetime_is_what_was_said_and_bounded() {
    let stage = Stage::empty();
    let short =
        run(&stage, &with(&LOGIN, &["--ttl-seconds", "3600", "--token-only", "--email", "ann@x.org"]));
    let said = payload(&short.out);
    assert_eq!(said["exp"].as_i64().unwrap() - said["iat"].as_i64().unwrap(), 3_600);
    assert_eq!(said["email"], "ann@x.org");
    let by_variable = end(command(&stage, &with(&LOGIN, &["--token-only"]))
        .env("SIGILUM_OWNER_TOKEN_TTL_SECONDS", "7200")
        .env("SIGILUM_OWNER_EMAIL", "bob@x.org"));
    let said = payload(&by_variable.out);
    assert_eq!(said["exp"].as_i64().unwrap() - said["iat"].as_i64().unwrap(), 7_200);
    assert_eq!(said["email"], "bob@x.org");
    assert_eq!(run(&stage, &with(&LOGIN, &["--ttl-seconds", "5"])).code, Some(2));
}

#[test]
fn openclaw_keeps_its_other_fields_and_has_the_token_only_while_the_hook_runs() {
    let before = r#"{"theme":"dark","hooks":{"internal":{"entries":{"other":{"enabled":true}}}}}"#;
    let stage = stage_with_openclaw(before);
    run(&stage, &LOGIN);
    assert_eq!(
        hook(&stage),
        json!({ "env": { "SIGILUM_NAMESPACE": OWNER, "SIGILUM_API_URL": "http://127.0.0.1:8787" } })
    );
    let on = run(&stage, &with(&LOGIN, &["--enable-authz-notify", "true", "--token-only"]));
    assert_eq!(hook(&stage)["enabled"], true);
    assert_eq!(hook(&stage)["env"]["SIGILUM_OWNER_TOKEN"], on.out.trim());
    assert_eq!(openclaw(&stage)["theme"], "dark");
    assert_eq!(openclaw(&stage)["hooks"]["internal"]["entries"]["other"]["enabled"], true);
    let again = run(&stage, &with(&LOGIN, &["--ttl-seconds", "60", "--token-only"]));
    assert_eq!(hook(&stage)["env"]["SIGILUM_OWNER_TOKEN"], again.out.trim());
    assert_eq!(mode(&user(&stage).join(".openclaw/openclaw.json")), 0o600);
    let off = run(&stage, &with(&LOGIN, &["--enable-authz-notify", "false"]));
    assert!(off.out.contains("authz_notify_enabled: false\n"), "{off:?}");
    assert_eq!(
        (&hook(&stage)["enabled"], hook(&stage)["env"].get("SIGILUM_OWNER_TOKEN")),
        (&json!(false), None)
    );
}

#[test]
fn openclaw_is_made_only_where_that_was_said() {
    let stage = Stage::empty();
    let config = user(&stage).join(".openclaw/openclaw.json");
    let told = run(&stage, &LOGIN);
    let line =
        format!("[i] {} is not there and was not made; --write-openclaw true makes it\n", config.display());
    assert!(told.out.contains(&line), "{told:?}");
    let left = run(&stage, &with(&LOGIN, &["--write-openclaw", "false"]));
    assert!(!left.out.contains("openclaw_config"), "{left:?}");
    assert!(!config.exists());
    run(&stage, &with(&LOGIN, &["--write-openclaw", "true", "--enable-authz-notify", "true"]));
    assert_eq!(hook(&stage)["enabled"], true);
}

#[test]
fn configuration_that_is_no_json_is_left_as_it_is() {
    let stage = stage_with_openclaw("{ // mine\n}");
    let ended = run(&stage, &LOGIN);
    assert_eq!(ended.code, Some(0), "the token was asked for, and is there: {ended:?}");
    assert!(ended.err.starts_with("warning: ") && ended.err.ends_with("was left as it is\n"), "{ended:?}");
    assert!(ended.out.contains("[i] JWT:\n") && !ended.out.contains("openclaw_config"), "{ended:?}");
    for said in [["--write-openclaw", "true"], ["--enable-authz-notify", "true"]] {
        let ended = run(&stage, &with(&LOGIN, &said));
        assert_eq!(ended.code, Some(1), "{ended:?}");
        assert!(ended.err.contains("was left as it is\nhint: "), "{ended:?}");
    }
    assert_eq!(fs::read_to_string(user(&stage).join(".openclaw/openclaw.json")).unwrap(), "{ // mine\n}");
}

#[test]
fn symbolic_link_of_the_configuration_stays_one() {
    let stage = stage_with_openclaw("{}");
    let link = user(&stage).join(".openclaw/openclaw.json");
    fs::rename(&link, stage.path("real.json")).unwrap();
    std::os::unix::fs::symlink(stage.path("real.json"), &link).unwrap();
    assert_eq!(run(&stage, &LOGIN).code, Some(0));
    assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
    assert_eq!(hook(&stage)["env"]["SIGILUM_NAMESPACE"], OWNER);
}

#[test]
fn secret_that_is_short_or_open_to_others_is_not_used() {
    let stage = Stage::empty();
    let short = end(command(&stage, &LOGIN).env("JWT_SECRET", "canary-too-short"));
    assert_eq!(short.code, Some(1), "{short:?}");
    assert!(short.err.starts_with("error: unable to resolve JWT_SECRET: "), "{short:?}");
    assert!(short.err.contains("hint: export JWT_SECRET=") && !short.err.contains("canary"), "{short:?}");
    assert_eq!(run(&stage, &LOGIN).code, Some(0));
    let file = stage.path(".local/api-data/jwt-secret");
    fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).unwrap();
    let open = run(&stage, &LOGIN);
    assert_eq!(open.code, Some(1));
    assert!(open.err.contains("unable to resolve JWT_SECRET") && open.err.contains("chmod 600"), "{open:?}");
}

#[test]
fn refresh_without_a_flag_is_for_the_workspace_and_an_empty_variable_is_none() {
    let stage = Stage::empty();
    write_workspace(&stage, "http://127.0.0.1:1", "http://127.0.0.1:1");
    let refreshed = end(command(&stage, &["auth", "refresh"]).env("SIGILUM_OWNER_TOKEN_TTL_SECONDS", ""));
    assert_eq!((refreshed.code, refreshed.err.as_str()), (Some(0), ""), "{refreshed:?}");
    assert!(refreshed.out.contains("mode: oss-local\nnamespace: johndee\n"), "{refreshed:?}");
    let kept = run(&stage, &["auth", "show"]);
    let said = payload(&kept.out);
    assert_eq!(said["exp"].as_i64().unwrap() - said["iat"].as_i64().unwrap(), 604_800);
    let odd = end(command(&stage, &["auth", "refresh"]).env("SIGILUM_OWNER_TOKEN_TTL_SECONDS", "a week"));
    assert!(odd.code == Some(2) && odd.err.contains("SIGILUM_OWNER_TOKEN_TTL_SECONDS takes"), "{odd:?}");
}

/// A login that asks at a terminal of its own.
struct Asked {
    stage: Stage,
    master: fs::File,
    slave: fs::File,
    before: String,
    child: Child,
    err: ChildStderr,
}

impl Asked {
    fn begin() -> Self {
        let stage = Stage::empty();
        let (master, slave) = terminal();
        let before = settings(&slave);
        let mut login = command(&stage, &with(&MANAGED, &["--owner-token-stdin"]));
        let stdin = slave.try_clone().unwrap();
        let mut child = login.stdin(stdin).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut err = child.stderr.take().unwrap();
        let prompt = "Paste the owner token, then press Enter: ";
        let mut asked = vec![0; prompt.len()];
        err.read_exact(&mut asked).unwrap();
        assert_eq!(String::from_utf8(asked).unwrap(), prompt);
        assert_ne!(settings(&slave), before);
        Self { stage, master, slave, before, child, err }
    }

    /// Waits for its end. The terminal is as it was, has shown nothing, and has nothing left for who reads next.
    fn end(mut self) -> (Option<i32>, String, Stage) {
        let code = self.child.wait().unwrap().code();
        let mut err = String::new();
        self.err.read_to_string(&mut err).unwrap();
        assert_eq!(settings(&self.slave), self.before);
        // What the terminal would have shown comes back at its other end; the mark comes behind it.
        self.slave.write_all(b"mark").unwrap();
        let mut shown = [0; 4];
        self.master.read_exact(&mut shown).unwrap();
        assert_eq!(&shown, b"mark");
        self.master.write_all(b"next\n").unwrap();
        let mut next = [0; 64];
        let length = self.slave.read(&mut next).unwrap();
        assert_eq!(&next[..length], b"next\n");
        (code, err, self.stage)
    }
}

/// All of a terminal's settings.
fn settings(terminal: &fs::File) -> String {
    format!("{:?}", rustix::termios::tcgetattr(terminal).unwrap())
}

#[test]
fn token_is_asked_for_at_a_terminal_and_not_shown_there() {
    for (typed, code) in [(format!("{}\n", token(OWNER, 3_600)), 0), ("\u{3}".to_owned(), 1)] {
        let mut asked = Asked::begin();
        asked.master.write_all(typed.as_bytes()).unwrap();
        assert_eq!(asked.end().0, Some(code));
    }
}

#[test]
fn more_than_a_terminal_s_line_is_refused_and_nothing_of_it_kept_or_left_for_the_shell() {
    let first = token(OWNER, 3_600);
    for (typed, why) in [
        (format!("{first}\ntouch canary\n"), "more than one line was typed"),
        (format!("{first}\nno end of a line"), "more than one line was typed"),
        (format!("{}\n", "x".repeat(5_000)), "the line is longer than a terminal takes"),
    ] {
        let mut asked = Asked::begin();
        asked.master.write_all(typed.as_bytes()).unwrap();
        let (code, err, stage) = asked.end();
        assert_eq!(code, Some(1), "{err}");
        assert!(err.contains(why) && err.contains("use a file or a pipe"), "{err}");
        assert!(!user(&stage).join(".openclaw").exists());
    }
}

#[test]
fn signal_at_the_prompt_leaves_the_terminal_as_it_was() {
    for (signal, code) in [("HUP", 129), ("INT", 130), ("TERM", 143)] {
        let mut asked = Asked::begin();
        asked.master.write_all(b"half a tok").unwrap();
        let pid = asked.child.id().to_string();
        assert!(Command::new("kill").args([&format!("-{signal}"), &pid]).status().unwrap().success());
        assert_eq!(asked.end().0, Some(code), "{signal}");
    }
}

/// A terminal's two ends.
fn terminal() -> (fs::File, fs::File) {
    use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
    let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
    grantpt(&master).unwrap();
    unlockpt(&master).unwrap();
    let name = ptsname(&master, Vec::new()).unwrap();
    let slave = fs::OpenOptions::new().read(true).write(true).open(name.to_str().unwrap()).unwrap();
    (master.into(), slave)
}

#[test]
fn token_that_was_brought_is_kept_and_the_identity_made() {
    let jwt = token(OWNER, 3_600);
    let typed = |stage: &Stage| run(stage, &[&MANAGED[..], &["--owner-token", &jwt]].concat());
    let piped = |stage: &Stage| {
        let input = fs::File::open(stage.file("input", format!("{jwt}\n").as_bytes())).unwrap();
        end(command(stage, &with(&MANAGED, &["--owner-token-stdin"])).stdin(input))
    };
    let set = |stage: &Stage| end(command(stage, &MANAGED).env("SIGILUM_OWNER_TOKEN", &jwt));
    for (bring, warns) in [(&typed as &dyn Fn(&Stage) -> Ended, true), (&piped, false), (&set, false)] {
        let stage = Stage::empty();
        let ended = bring(&stage);
        assert_eq!(ended.code, Some(0), "{ended:?}");
        assert_eq!(ended.err.starts_with("warning: a secret on the command line"), warns, "{ended:?}");
        assert!(
            ended.out.contains("mode: managed\nnamespace: johndee\napi: https://api.sigilum.id\n"),
            "{ended:?}"
        );
        let identity = stage.home().join("identities/johndee/identity.json");
        assert!(ended.out.contains(&format!("[i] Identity made: {}\n", identity.display())), "{ended:?}");
        let before = fs::read(&identity).unwrap();
        assert!(!bring(&stage).out.contains("Identity made"));
        assert_eq!(fs::read(&identity).unwrap(), before);
        assert_eq!(run(&stage, &["auth", "show", "--namespace", OWNER]).out.trim(), jwt);
    }
}

#[test]
fn token_of_another_namespace_or_time_is_refused() {
    let stage = Stage::empty();
    let bring = |jwt: &str| end(command(&stage, &MANAGED).env("SIGILUM_OWNER_TOKEN", jwt));
    let other = bring(&token("alice", 3_600));
    assert_eq!(other.code, Some(3));
    assert!(other.err.contains("is for the namespace alice, not for johndee"), "{other:?}");
    let over = bring(&token(OWNER, -1));
    assert!(over.code == Some(3) && over.err.contains("the owner token ended at "), "{over:?}");
    let none = bring("canary");
    assert!(
        none.code == Some(3) && none.err.contains("is no JWT") && !none.err.contains("canary"),
        "{none:?}"
    );
    assert!(
        !user(&stage).join(".openclaw").exists() && !stage.home().exists(),
        "nothing is kept of a refusal"
    );
}

#[test]
fn managed_mode_wants_a_token_and_local_mode_none() {
    let stage = Stage::empty();
    for mode in ["managed", "enterprise"] {
        let args = ["auth", "login", "--mode", mode, "--namespace", OWNER, "--api-url", "https://a.example"];
        let ended = run(&stage, &args);
        assert_eq!(ended.code, Some(3));
        let hint = format!("hint: sigilum auth login --mode {mode} --namespace johndee --owner-token-stdin");
        assert!(
            ended.err.starts_with(&format!("error: {mode} mode requires an explicit owner JWT\n")),
            "{ended:?}"
        );
        assert!(ended.err.contains(&hint), "{ended:?}");
    }
    let nowhere = run(&stage, &["auth", "login", "--mode", "enterprise", "--namespace", OWNER]);
    assert!(nowhere.code == Some(2) && nowhere.err.contains("--api-url"), "{nowhere:?}");
    let jwt = token(OWNER, 3_600);
    let local = run(&stage, &[&LOGIN[..], &["--owner-token", &jwt]].concat());
    assert_eq!(local.code, Some(2), "{local:?}");
}

#[test]
fn missing_token_file_is_named_with_what_to_type() {
    let stage = Stage::empty();
    let missing =
        end(command(&stage, &["auth", "show", "--namespace", OWNER]).env("SIGILUM_MODE", "oss-local"));
    let file = user(&stage).join(".openclaw/.sigilum/owner-token-johndee.jwt");
    assert_eq!(
        (missing.code, missing.err),
        (
            Some(1),
            format!(
                "error: token file not found: {}\nhint: sigilum auth login --mode oss-local --namespace johndee\n",
                file.display()
            )
        )
    );
}

#[test]
fn shown_token_that_is_over_or_open_to_others_is_warned_of() {
    let stage = Stage::empty();
    let file = stage.file("token", token(OWNER, -60).as_bytes());
    fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).unwrap();
    let shown = run(&stage, &["auth", "show", "--token-file", &file]);
    assert_eq!(shown.code, Some(0), "{shown:?}");
    assert!(shown.err.contains("has mode 0644") && shown.err.contains("the token ended at "), "{shown:?}");
}

#[test]
fn mode_and_namespace_come_from_the_workspace_or_a_variable() {
    let stage = Stage::empty();
    let wrong = run(&stage, &["login"]);
    assert!(wrong.err.contains("managed mode requires"), "{wrong:?}");
    write_workspace(&stage, "http://127.0.0.1:9999", "http://127.0.0.1:1");
    let found = run(&stage, &["login"]);
    assert!(
        found.out.contains("mode: oss-local\nnamespace: johndee\napi: http://127.0.0.1:9999\n"),
        "{found:?}"
    );
    let said = end(command(&stage, &["login"])
        .env("GATEWAY_SIGILUM_NAMESPACE", "alice")
        .env("SIGILUM_API_URL", "http://127.0.0.1:8888"));
    assert!(said.out.contains("namespace: alice\napi: http://127.0.0.1:8888\n"), "{said:?}");
    let both =
        [("SIGILUM_REGISTRY_URL", "http://127.0.0.1:7777"), ("SIGILUM_API_URL", "http://127.0.0.1:8888")];
    let registry = end(command(&stage, &["login"]).envs(both));
    assert!(registry.out.contains("api: http://127.0.0.1:7777\n"), "as a gateway takes them: {registry:?}");
    let managed = end(command(&stage, &["login"]).env("SIGILUM_MODE", "managed"));
    assert!(managed.err.contains("managed mode requires"), "{managed:?}");
    let unknown = end(command(&stage, &["login"]).env("SIGILUM_MODE", "cloud"));
    assert!(unknown.code == Some(2) && unknown.err.contains("SIGILUM_MODE"), "{unknown:?}");
}

#[test]
fn namespace_that_nothing_names_is_the_only_identity_s() {
    let stage = Stage::with_identity();
    let found = end(command(&stage, &["login"]).env("SIGILUM_MODE", "oss-local"));
    assert!(found.out.contains("namespace: alice\n"), "{found:?}");
    assert_eq!(stage.run(&["init", "bob"]).code, Some(0));
    let several = end(command(&stage, &["login"]).env("SIGILUM_MODE", "oss-local"));
    assert_eq!(several.code, Some(2), "{several:?}");
    assert!(several.err.contains("alice, bob") && several.err.contains("--namespace"), "{several:?}");
}

#[test]
fn token_made_here_opens_the_running_control_plane() {
    let scene = Scene::start();
    let login = scene.run(&with(&LOGIN, &["--token-only"]));
    let listed = scene.run_with(
        &["service", "list"],
        &[
            ("SIGILUM_OWNER_TOKEN", login.out.trim()),
            ("SIGILUM_MODE", "managed"),
            ("SIGILUM_API_URL", &scene.plane.origin),
        ],
    );
    assert_eq!(
        (listed.code, listed.out.as_str()),
        (Some(0), "[ok] Services for namespace: johndee\n"),
        "{listed:?}"
    );
}
