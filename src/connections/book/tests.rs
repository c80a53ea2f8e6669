//! The book over a real vault in a temporary directory.

use std::sync::Arc;
use std::time::Duration;

use tempfile::TempDir;
use zeroize::Zeroizing;

use super::*;
use crate::clock::UnixTime;
use crate::connections::{
    Auth, ConnectionPatch, Endpoint, NewConnection, NewVariable, Place, Rotation, SecretSource, TestOutcome,
};
use crate::protocol::sealed::Destination;
use crate::secret::SecretString;
use crate::vault::{MasterKey, MasterKeySource, VaultOptions};

const NOW: UnixTime = UnixTime::from_secs(1_800_000_000);
const DAY: Duration = Duration::from_secs(86_400);

/// A directory with a vault, opened as often as a test likes.
struct Room {
    directory: TempDir,
    clock: Clock,
}

impl Room {
    fn new() -> Self {
        Self { directory: tempfile::tempdir().unwrap(), clock: Clock::fixed(NOW) }
    }

    fn vault(&self) -> Vault {
        let key = MasterKeySource::Given(MasterKey::from_bytes(Zeroizing::new([1; 32])));
        Vault::open(&VaultOptions::new(&self.directory.path().join("vault"), key)).unwrap()
    }

    fn book(&self, configured: Vec<Connection>) -> Book {
        Book::open(configured, Some(self.vault()), self.clock.clone()).unwrap().of_gateway("acme")
    }

    fn later(&self, by: Duration) {
        self.clock.set(self.clock.now().plus(by));
    }
}

fn new(json: &str) -> NewConnection {
    serde_json::from_str(json).unwrap()
}

fn patch(json: &str) -> ConnectionPatch {
    serde_json::from_str(json).unwrap()
}

fn rotation(json: &str) -> Rotation {
    serde_json::from_str(json).unwrap()
}

fn variable(key: &str, value: &str) -> NewVariable {
    NewVariable { key: key.into(), value: value.to_owned().into(), created_by_subject: None }
}

fn id(text: &str) -> ConnectionId {
    text.parse().unwrap()
}

const OPENAI: &str =
    r#"{"id":"openai","base_url":"https://api.openai.com","secrets":{"api_key":"sk-canary-1"}}"#;

fn openai(book: &Book) {
    book.create(new(OPENAI)).unwrap();
}

fn live(book: &Book, name: &str) -> Arc<LiveConnection> {
    book.live().into_iter().find(|live| live.config().id.as_str() == name).unwrap()
}

/// What a request of the connection carries, or why none does.
fn injected(live: &LiveConnection) -> Result<String, String> {
    let shown = |place: &Place| match place {
        Place::Header(name, value) => format!("{name}: {}", value.to_str().unwrap()),
        Place::Query(_, pair) => pair.expose().to_owned(),
        Place::Path(part) => part.expose().to_owned(),
    };
    Ok(live.credential()?.map_or_else(String::new, |credential| shown(credential.place())))
}

/// A connection of the YAML.
fn configured(name: &str, secret: SecretSource) -> Connection {
    let mut connection = Connection::named(id(name));
    connection.endpoints = vec![Endpoint { url: "https://yaml.example".parse().unwrap(), weight: 1 }];
    connection.auth = Auth::Header { name: http::header::AUTHORIZATION, prefix: "Bearer ".to_owned() };
    connection.secret = Some(secret);
    connection
}

#[test]
fn connection_and_its_secret_are_there_after_a_restart() {
    let place = Room::new();
    let before = {
        let book = place.book(Vec::new());
        openai(&book);
        book.connections()
    };
    let book = place.book(Vec::new());
    assert_eq!(book.connections(), before);
    assert_eq!(injected(&live(&book, "openai")).unwrap(), "authorization: Bearer sk-canary-1");
}

#[test]
fn view_has_the_contract_s_fields_and_no_secret() {
    let place = Room::new();
    let book = place.book(Vec::new());
    openai(&book);
    let view = serde_json::to_value(book.connection(&id("openai")).unwrap()).unwrap();
    for field in [
        "id",
        "name",
        "protocol",
        "base_url",
        "path_prefix",
        "auth_mode",
        "auth_header_name",
        "auth_prefix",
        "auth_secret_key",
        "credential_keys",
        "status",
        "created_at",
        "updated_at",
        "last_tested_at",
        "last_test_status",
        "last_test_http_status",
        "last_test_error",
        "last_rotated_at",
        "rotation_interval_days",
        "next_rotation_due_at",
        "secret_version",
        "mcp_transport",
        "mcp_endpoint",
        "mcp_tool_policy",
        "mcp_subject_tool_policies",
        "mcp_discovery",
        "source",
        "read_only",
    ] {
        assert!(view.get(field).is_some(), "{field}");
    }
    assert_eq!(view["auth_header_name"], "Authorization");
    assert_eq!(view["credential_keys"], serde_json::json!(["api_key"]));
    let everything = format!("{view} {book:?} {:?}", book.live());
    assert!(!everything.contains("canary"), "{everything}");
}

#[test]
fn view_sent_back_as_a_change_changes_nothing() {
    let place = Room::new();
    let book = place.book(Vec::new());
    for connection in [
        OPENAI,
        r#"{"id":"q","base_url":"https://q.example","auth_mode":"query_param","secrets":{"k":"1"}}"#,
        r#"{"id":"b","base_url":"https://b.example","auth_mode":"basic","secrets":{"k":"u:p"}}"#,
        r#"{"id":"p","base_url":"https://p.example","auth_mode":"path","auth_prefix":"/bot","secrets":{"k":"1"}}"#,
        r#"{"id":"n","base_url":"https://n.example","auth_mode":"none"}"#,
    ] {
        let view = book.create(new(connection)).unwrap();
        let (mut sent, mut fields) = (serde_json::to_value(&view).unwrap(), serde_json::Map::new());
        for field in [
            "name",
            "protocol",
            "base_url",
            "path_prefix",
            "auth_mode",
            "auth_header_name",
            "auth_prefix",
            "auth_secret_key",
            "status",
            "rotation_interval_days",
        ] {
            fields.insert(field.to_owned(), sent[field].take());
        }
        let changed = serde_json::from_value(fields.into()).unwrap();
        assert_eq!(book.update(&id(&view.id), changed).unwrap().now, view);
    }
}

#[test]
fn second_connection_of_an_id_is_refused() {
    let place = Room::new();
    let book = place.book(vec![configured("yaml", SecretSource::Env("NOWHERE".into()))]);
    openai(&book);
    assert!(matches!(book.create(new(OPENAI)), Err(BookFault::Exists(_))));
    let yaml = new(r#"{"id":"yaml","base_url":"https://x.example"}"#);
    assert!(matches!(book.create(yaml), Err(BookFault::Exists(_))));
}

#[test]
fn rotation_keeps_the_connection_and_replaces_its_secret() {
    let place = Room::new();
    let book = place.book(Vec::new());
    openai(&book);
    let (before, mut changes) = (live(&book, "openai"), book.changes());
    place.later(DAY);
    let request =
        rotation(r#"{"secrets":{"api_key":"sk-canary-2"},"rotated_by":"alice","rotation_reason":"leak"}"#);
    let changed = book.rotate(&id("openai"), request).unwrap();
    assert!(Arc::ptr_eq(&before, &live(&book, "openai")));
    assert!(!changes.has_changed().unwrap(), "{:?}", changes.borrow_and_update());
    assert_eq!(injected(&before).unwrap(), "authorization: Bearer sk-canary-2");
    assert_eq!(changed.now.secret_version, 2);
    assert_eq!(changed.now.last_rotated_at, Some(NOW.plus(DAY).to_string()));
    assert_eq!(changed.now.last_rotated_by.as_deref(), Some("alice"));
}

#[tokio::test]
async fn rotation_is_drained_when_no_request_is_sending_the_old_secret() {
    let place = Room::new();
    let book = place.book(Vec::new());
    openai(&book);
    let (_, sending) = live(&book, "openai").lend().unwrap().unwrap();
    let rotate = |value: &str| {
        let request = rotation(&format!(r#"{{"secrets":{{"api_key":"{value}"}}}}"#));
        book.rotate(&id("openai"), request).unwrap().replaced
    };
    let mut drained = std::pin::pin!(rotate("sk-2").drained(Duration::from_secs(3600)));
    assert!(futures::poll!(&mut drained).is_pending());
    drop(sending);
    assert!(drained.await);
    assert!(rotate("sk-3").drained(Duration::from_secs(3600)).await);
}

#[test]
fn what_a_connection_was_before_a_change_loses_its_secret_at_the_next_rotation() {
    let place = Room::new();
    let book = place.book(Vec::new());
    openai(&book);
    let (before, changes) = (live(&book, "openai"), book.changes());
    let change = patch(r#"{"base_url":"https://eu.api.openai.com"}"#);
    let _ = book.update(&id("openai"), change).unwrap();
    assert!(changes.has_changed().unwrap());
    let after = live(&book, "openai");
    assert!(!Arc::ptr_eq(&before, &after));
    assert_eq!(injected(&before).unwrap(), "authorization: Bearer sk-canary-1");
    let _ = book.rotate(&id("openai"), rotation(r#"{"secrets":{"api_key":"sk-2"}}"#)).unwrap();
    assert_eq!(injected(&after).unwrap(), "authorization: Bearer sk-2");
    assert!(injected(&before).unwrap_err().contains("was changed or removed"));
}

#[test]
fn change_leaves_what_it_does_not_name_and_null_is_the_default() {
    let place = Room::new();
    let book = place.book(Vec::new());
    let _ = book
        .create(new(r#"{"id":"a","base_url":"https://a.example","name":"A","path_prefix":"/v1","auth_mode":"header_key","auth_header_name":"X-Key","secrets":{"k":"1"},"rotation_interval_days":30}"#))
        .unwrap();
    let changed = book.update(&id("a"), patch(r#"{"name":null,"status":"disabled"}"#)).unwrap().now;
    assert_eq!((changed.name.as_str(), changed.status), ("a", "disabled"));
    assert_eq!((changed.path_prefix.as_str(), changed.auth_header_name.as_str()), ("/v1", "X-Key"));
    assert_eq!(changed.next_rotation_due_at, Some(NOW.plus(DAY * 30).to_string()));
    let fault = book.update(&id("a"), patch(r#"{"base_url":null}"#)).unwrap_err();
    assert!(matches!(fault, BookFault::Invalid { ref field, .. } if field == "base_url"), "{fault}");
    assert!(serde_json::from_str::<ConnectionPatch>(r#"{"id":"b"}"#).is_err());
}

#[test]
fn removed_connection_is_gone_with_its_secrets() {
    let place = Room::new();
    let book = place.book(Vec::new());
    openai(&book);
    let before = live(&book, "openai");
    let _ = book.delete(&id("openai")).unwrap();
    assert!(injected(&before).is_err());
    assert!(book.connections().is_empty() && book.live().is_empty());
    assert!(matches!(book.delete(&id("openai")), Err(BookFault::NotFound(_))));
    let bare = book.create(new(r#"{"id":"openai","base_url":"https://api.openai.com"}"#)).unwrap();
    assert_eq!((bare.credential_keys.len(), bare.secret_version), (0, 0));
    drop(book);
    assert_eq!(place.book(Vec::new()).connections(), [bare]);
}

#[test]
fn injected_secret_is_the_one_that_is_named() {
    let place = Room::new();
    let book = place.book(Vec::new());
    let several = r#"{"id":"a","base_url":"https://a.example","secrets":{"one":"1","two":"2"}KEY}"#;
    let unnamed = book.create(new(&several.replace("KEY", ""))).unwrap_err();
    assert!(unnamed.to_string().contains("one, two"), "{unnamed}");
    let other = book.create(new(&several.replace("KEY", r#","auth_secret_key":"three""#))).unwrap_err();
    assert!(other.to_string().starts_with("auth_secret_key: names no secret"), "{other}");
    let view = book.create(new(&several.replace("KEY", r#","auth_secret_key":"two""#))).unwrap();
    assert_eq!(injected(&live(&book, "a")).unwrap(), "authorization: Bearer 2");
    assert_eq!(view.credential_keys, ["one", "two"]);
    let _ = book.update(&id("a"), patch(r#"{"auth_secret_key":"one"}"#)).unwrap();
    assert_eq!(injected(&live(&book, "a")).unwrap(), "authorization: Bearer 1");
    let removed = book.update(&id("a"), patch(r#"{"secrets":{"two":null}}"#)).unwrap().now;
    assert_eq!(removed.credential_keys, ["one"]);
}

#[test]
fn basic_takes_user_and_password_together_or_apart() {
    let place = Room::new();
    let book = place.book(Vec::new());
    for (name, secrets) in [
        ("whole", r#"{"pair":"aladdin:opensesame"}"#),
        ("apart", r#"{"username":"aladdin","password":"opensesame"}"#),
    ] {
        let text = format!(
            r#"{{"id":"{name}","base_url":"https://a.example","auth_mode":"basic","secrets":{secrets}}}"#
        );
        book.create(new(&text)).unwrap();
        assert_eq!(
            injected(&live(&book, name)).unwrap(),
            "authorization: Basic YWxhZGRpbjpvcGVuc2VzYW1l",
            "{name}"
        );
    }
    let lone = r#"{"id":"lone","base_url":"https://a.example","auth_mode":"basic","secrets":{"p":"x"}}"#;
    assert!(book.create(new(lone)).unwrap().problem.unwrap().contains("user:password"));
}

#[test]
fn token_in_the_path_is_injected_as_a_part_of_it() {
    let place = Room::new();
    let book = place.book(Vec::new());
    let telegram = r#"{"id":"telegram","base_url":"https://api.telegram.org","auth_mode":"path","auth_prefix":"/bot{secret}","secrets":{"token":"123:AB"}}"#;
    book.create(new(telegram)).unwrap();
    assert_eq!(injected(&live(&book, "telegram")).unwrap(), "/bot123:AB");
}

#[test]
fn faulty_fields_are_named() {
    let place = Room::new();
    let book = place.book(Vec::new());
    for (field, rest) in [
        ("id", r#""id":"Not An Id""#),
        ("name", r#""name":"a\nb""#),
        ("protocol", r#""protocol":"ftp""#),
        ("base_url", r#""base_url":"https://user:canary@a.example""#),
        ("base_url", r#""base_url":"http://169.254.169.254/latest""#),
        ("base_url", r#""base_url":"http://metadata.google.internal""#),
        ("path_prefix", r#""path_prefix":"/../x""#),
        ("auth_mode", r#""auth_mode":"magic""#),
        ("auth_header_name", r#""auth_header_name":"Host""#),
        ("auth_header_name", r#""auth_mode":"header_key""#),
        ("auth_header_name", r#""auth_mode":"basic","auth_header_name":"X-Key""#),
        ("auth_prefix", r#""auth_prefix":"a\r\nb""#),
        ("auth_prefix", r#""auth_mode":"path","auth_prefix":"/../{secret}""#),
        ("status", r#""status":"on""#),
        ("rotation_interval_days", r#""rotation_interval_days":100000"#),
        ("mcp_transport", r#""mcp_transport":"stdio""#),
        ("mcp_tool_policy", r#""mcp_tool_policy":{"allowlist":["a b"]}"#),
        ("secrets", r#""secrets":{"a b":"x"}"#),
        ("secrets.k", r#""secrets":{"k":"{{not a name}}"}"#),
    ] {
        let own =
            |key: &str, default: &str| if rest.contains(key) { String::new() } else { format!(",{default}") };
        let text = format!(
            "{{{rest}{}{}}}",
            own("\"id\"", r#""id":"a""#),
            own("\"base_url\"", r#""base_url":"https://a.example""#)
        );
        match book.create(new(&text)) {
            Err(BookFault::Invalid { field: found, problem }) => {
                assert_eq!(found, field, "{rest}");
                assert!(!problem.contains("canary"), "{problem}");
            }
            other => panic!("{rest}: {other:?}"),
        }
    }
    let control =
        book.create(new(r#"{"id":"a","base_url":"https://a.example","secrets":{"k":"canary\r\nx"}}"#));
    let fault = control.unwrap_err();
    assert!(matches!(fault, BookFault::Secret { .. }) && !fault.to_string().contains("canary"), "{fault}");
    assert!(book.connections().is_empty());
}

#[test]
fn text_in_place_of_a_secret_s_object_is_never_repeated() {
    for wrong in [
        r#"{"secrets":{"k":{"canary":1}}}"#,
        r#"{"secrets":{"k":{"sealed":{"v":1},"canary":1}}}"#,
        r#"{"secrets":{"k":4711}}"#,
    ] {
        let fault = serde_json::from_str::<Rotation>(wrong).unwrap_err().to_string();
        assert!(!fault.contains("4711"), "{fault}");
    }
}

#[test]
fn variable_is_followed_when_it_is_set_changed_and_missing() {
    let place = Room::new();
    let book = place.book(Vec::new());
    let text = OPENAI.replace("sk-canary-1", "{{OPENAI_KEY}}");
    let view = book.create(new(&text)).unwrap();
    assert_eq!(
        view.problem.as_deref(),
        Some("the secret api_key refers to the credential variable OPENAI_KEY, which is not set")
    );
    let connection = live(&book, "openai");
    assert_eq!(injected(&connection).unwrap_err(), view.problem.unwrap());
    let _ = book.set_variable(variable("OPENAI_KEY", "sk-1")).unwrap();
    assert_eq!(injected(&connection).unwrap(), "authorization: Bearer sk-1");
    place.later(DAY);
    let changed = book.set_variable(variable("OPENAI_KEY", "sk-2")).unwrap().now;
    assert_eq!(injected(&connection).unwrap(), "authorization: Bearer sk-2");
    assert_eq!((changed.created_at, changed.updated_at), (NOW.to_string(), NOW.plus(DAY).to_string()));
    assert_eq!(changed.used_by, ["openai"]);
    assert_eq!(connection.last_rotated_at(), Some(NOW.plus(DAY)));
    assert!(Arc::ptr_eq(&connection, &live(&book, "openai")));
    drop((connection, book));
    assert_eq!(injected(&live(&place.book(Vec::new()), "openai")).unwrap(), "authorization: Bearer sk-2");
}

#[test]
fn variable_in_use_is_not_removed_and_its_users_are_named() {
    let place = Room::new();
    let book = place.book(Vec::new());
    let _ = book.set_variable(variable("KEY", "sk-1")).unwrap();
    book.create(new(&OPENAI.replace("sk-canary-1", "{{KEY}}"))).unwrap();
    match book.delete_variable("KEY") {
        Err(BookFault::VariableReferenced { by, .. }) => assert_eq!(by, ["openai"]),
        other => panic!("{other:?}"),
    }
    let _ = book.rotate(&id("openai"), rotation(r#"{"secrets":{"api_key":"sk-own"}}"#)).unwrap();
    book.delete_variable("KEY").unwrap();
    assert!(book.variables().is_empty());
    assert!(matches!(book.delete_variable("KEY"), Err(BookFault::NoVariable(_))));
}

#[test]
fn variable_has_a_name_and_a_value_and_refers_to_none() {
    let place = Room::new();
    let book = place.book(Vec::new());
    for (key, value) in [("", "x"), ("1A", "x"), ("A-B", "x"), ("A", "{{B}}"), ("A", "{{b c}}")] {
        assert!(
            matches!(book.set_variable(variable(key, value)), Err(BookFault::Invalid { .. })),
            "{key} {value}"
        );
    }
    assert!(matches!(book.set_variable(variable("A", " ")), Err(BookFault::Secret { .. })));
}

#[test]
fn connection_of_the_yaml_stands_before_a_stored_one_and_is_read_only() {
    let place = Room::new();
    openai(&place.book(Vec::new()));
    let book = place.book(vec![configured("openai", SecretSource::Env("NOWHERE".into()))]);
    let view = book.connection(&id("openai")).unwrap();
    assert_eq!((view.source, view.read_only, view.shadows_stored), ("config", true, true));
    assert_eq!(view.base_url, "https://yaml.example");
    assert!(view.problem.unwrap().contains("NOWHERE"));
    assert!(matches!(book.update(&id("openai"), patch("{}")), Err(BookFault::ReadOnly(_))));
    assert!(matches!(book.delete(&id("openai")), Err(BookFault::ReadOnly(_))));
    let request = rotation(r#"{"secrets":{"api_key":"x"}}"#);
    assert!(matches!(book.rotate(&id("openai"), request), Err(BookFault::ReadOnly(_))));
    book.replace_configured(Vec::new());
    assert_eq!(injected(&live(&book, "openai")).unwrap(), "authorization: Bearer sk-canary-1");
}

#[test]
fn reload_keeps_what_did_not_change() {
    let place = Room::new();
    let yaml = |name: &str| configured(name, SecretSource::Store);
    let book = place.book(vec![yaml("a"), yaml("b"), yaml("c")]);
    let before: Vec<_> = ["a", "b"].map(|name| live(&book, name)).into();
    let mut changed = yaml("b");
    changed.path_prefix = "/v2".into();
    book.replace_configured(vec![yaml("a"), changed]);
    assert!(Arc::ptr_eq(&before[0], &live(&book, "a")));
    assert!(!Arc::ptr_eq(&before[1], &live(&book, "b")));
    assert!(matches!(book.connection(&id("c")), Err(BookFault::NotFound(_))));
}

#[test]
fn yaml_connection_has_its_secret_in_the_vault_under_api_key() {
    let place = Room::new();
    let book = place.book(vec![configured("yaml", SecretSource::Store)]);
    assert!(book.connection(&id("yaml")).unwrap().problem.unwrap().contains("rotate"));
    let other = book.rotate(&id("yaml"), rotation(r#"{"secrets":{"other":"x"}}"#));
    assert!(matches!(other, Err(BookFault::Invalid { .. })));
    let view = book.rotate(&id("yaml"), rotation(r#"{"secrets":{"api_key":"sk-1"}}"#)).unwrap().now;
    assert_eq!(
        (view.credential_keys, view.auth_secret_key.as_str()),
        (vec!["api_key".to_owned()], "api_key")
    );
    assert_eq!(injected(&live(&book, "yaml")).unwrap(), "authorization: Bearer sk-1");
}

#[test]
fn without_a_vault_everything_is_read_only_and_tests_are_remembered() {
    let book = Book::open(vec![configured("yaml", SecretSource::Store)], None, Clock::fixed(NOW)).unwrap();
    assert!(matches!(book.create(new(OPENAI)), Err(BookFault::NoVault)));
    assert!(matches!(book.set_variable(variable("A", "x")), Err(BookFault::NoVault)));
    assert!(matches!(book.set_catalog(Catalog::built_in().clone()), Err(BookFault::NoVault)));
    let request = rotation(r#"{"secrets":{"api_key":"x"}}"#);
    let fault = book.rotate(&id("yaml"), request).unwrap_err();
    assert!(fault.to_string().contains("vault.master_key"), "{fault}");
    let outcome = TestOutcome { passed: false, http_status: Some(401), error: Some("no".into()) };
    let view = book.record_test(&id("yaml"), outcome).unwrap();
    assert_eq!((view.last_test_status, view.last_test_http_status), (Some("fail"), Some(401)));
    assert_eq!(book.sealing_public(), None);
}

#[test]
fn outcome_of_a_test_is_kept() {
    let place = Room::new();
    {
        let book = place.book(Vec::new());
        openai(&book);
        let outcome = TestOutcome { passed: true, http_status: Some(200), error: None };
        let _ = book.record_test(&id("openai"), outcome).unwrap();
        book.record_discovery(&id("openai"), serde_json::json!({"tools":["a"]})).unwrap();
    }
    let view = place.book(Vec::new()).connection(&id("openai")).unwrap();
    assert_eq!((view.last_test_status, view.last_tested_at), (Some("pass"), Some(NOW.to_string())));
    assert_eq!(view.mcp_discovery, Some(serde_json::json!({"tools":["a"]})));
}

#[test]
fn damaged_connection_alone_has_no_secret() {
    let place = Room::new();
    {
        let book = place.book(Vec::new());
        openai(&book);
        book.create(new(&OPENAI.replace("openai\",\"base", "other\",\"base"))).unwrap();
    }
    let vault = place.vault();
    let key = records::document_key(&id("openai")).unwrap();
    vault
        .commit(crate::vault::Batch::new().put(key, crate::secret::SecretBytes::new(b"{".to_vec())))
        .unwrap();
    drop(vault);
    let book = place.book(Vec::new());
    assert!(injected(&live(&book, "openai")).unwrap_err().contains("make it anew"));
    assert_eq!(injected(&live(&book, "other")).unwrap(), "authorization: Bearer sk-canary-1");
    assert!(book.update(&id("openai"), patch("{}")).is_err());
    let _ = book.delete(&id("openai")).unwrap();
    openai(&book);
}

#[test]
fn sealed_secret_is_taken_and_only_for_its_place() {
    let place = Room::new();
    let book = place.book(Vec::new());
    let sealed = |connection: &str, gateway_id: &str| {
        let (connection, secret) = (id(connection), "api_key".parse().unwrap());
        let destination = Destination { gateway_id, connection: Some(&connection), secret: &secret };
        let public = book.sealing_public().unwrap();
        let sealed = public.seal("sk-sealed", destination, Zeroizing::new([3; 32])).unwrap();
        serde_json::to_string(&sealed).unwrap()
    };
    let create = |sealed: String| {
        let text = OPENAI.replace("\"sk-canary-1\"", &format!(r#"{{"sealed":{sealed}}}"#));
        book.create(new(&text))
    };
    for wrong in [sealed("other", "acme"), sealed("openai", "other")] {
        assert!(matches!(create(wrong), Err(BookFault::Sealed { .. })));
    }
    create(sealed("openai", "acme")).unwrap();
    assert_eq!(injected(&live(&book, "openai")).unwrap(), "authorization: Bearer sk-sealed");
    let key = book.sealing_public();
    drop(book);
    assert_eq!(place.book(Vec::new()).sealing_public(), key);
}

#[test]
fn service_key_is_kept_and_only_its_beginning_is_shown() {
    let place = Room::new();
    let book = place.book(Vec::new());
    openai(&book);
    let secret = |text: &str| SecretString::new(text.to_owned()).unwrap();
    assert!(!book.service_key_view(&id("openai")).unwrap().has_key);
    assert!(matches!(book.set_service_key(&id("none"), secret("x")), Err(BookFault::NotFound(_))));
    let view = book.set_service_key(&id("openai"), secret("short")).unwrap();
    assert_eq!((view.has_key, view.key_prefix), (true, None));
    let view = book.set_service_key(&id("openai"), secret("sk_live_0123456789abcdef")).unwrap();
    assert_eq!(view.key_prefix.as_deref(), Some("sk_live_"));
    assert_eq!(book.service_key(&id("openai")).unwrap().expose(), "sk_live_0123456789abcdef");
}

#[test]
fn stored_catalog_stands_before_the_others() {
    let place = Room::new();
    let own = Catalog { version: 1, services: Catalog::built_in().services[..1].to_vec() };
    let file = Catalog { version: 1, services: Vec::new() };
    {
        let book = place.book(Vec::new());
        assert_eq!(*book.catalog(), *Catalog::built_in());
        let book = book.with_catalog(file.clone());
        assert_eq!(*book.catalog(), file);
        book.set_catalog(own.clone()).unwrap();
    }
    assert_eq!(*place.book(Vec::new()).with_catalog(file).catalog(), own);
}

#[test]
fn every_template_makes_a_connection() {
    let place = Room::new();
    let book = place.book(Vec::new());
    for template in &Catalog::built_in().services {
        let secrets: serde_json::Map<_, _> =
            template.credential_fields.iter().map(|field| (field.key.clone(), "canary".into())).collect();
        let text = serde_json::json!({
            "id": template.key,
            "base_url": template.base_url.replace(['{', '}'], ""),
            "path_prefix": template.path_prefix,
            "auth_mode": template.auth_mode,
            "auth_header_name": template.auth_header_name,
            "auth_prefix": template.auth_prefix,
            "auth_secret_key": template.auth_secret_key,
            "secrets": secrets,
        });
        let view = book.create(serde_json::from_value(text).unwrap()).unwrap();
        assert_eq!(view.problem, None, "{}", template.key);
        assert_ne!(injected(&live(&book, &template.key)).unwrap(), "", "{}", template.key);
    }
}
