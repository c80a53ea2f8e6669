//! Connections of the YAML, and a gateway without a vault.

use super::*;

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
