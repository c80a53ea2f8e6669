//! Secrets: which one is injected, how it is replaced, and the variables that it may refer to.

use super::*;

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
