//! Connections made, shown, changed and removed.

use super::*;

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
