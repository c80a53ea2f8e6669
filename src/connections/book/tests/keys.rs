//! What the book keeps besides connections.

use super::*;

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
