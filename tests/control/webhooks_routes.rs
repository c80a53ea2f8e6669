//! Webhooks are made, listed and removed over the API.

use serde_json::{Value, json};

use crate::support::control::{Control, Owner, Service};
use crate::support::raw::Response;

const SECRET: &str = "whsec-canary-0123456789";

/// A control plane that does not let webhooks lead to private addresses, with a service of the owner `acme`.
fn stage() -> (Control, Owner, Service) {
    let control = Control::with(|config| config.webhooks_to_private = false);
    let owner = control.owner("acme");
    let service = control.service(&owner, "openai");
    (control, owner, service)
}

fn asked(url: &str) -> Value {
    json!({ "url": url, "secret": SECRET, "events": ["request.approved"] })
}

fn make(control: &Control, owner: &Owner, service: &Service, body: &Value) -> Response {
    control.as_owner(owner, "POST", &format!("/v1/services/{}/webhooks", service.id), Some(body))
}

#[test]
fn webhook_is_made_listed_without_its_secrets_and_removed() {
    let (control, owner, service) = stage();
    let path = format!("/v1/services/{}/webhooks", service.id);
    let made = make(
        &control,
        &owner,
        &service,
        &json!({
            "url": "https://8.8.8.8:8443/hook", "secret": SECRET,
            "events": ["request.revoked", "request.approved", "request.revoked"],
            "auth_header": "X-Api-Key", "auth_value": "canary value",
        }),
    );
    assert_eq!(made.status, 201, "{}", made.text());
    assert!(!made.text().contains("canary"), "{}", made.text());
    let made = made.json();
    assert_eq!(made["url"], "https://8.8.8.8:8443/hook");
    assert_eq!(made["events"], json!(["request.revoked", "request.approved"]));
    assert_eq!(made["auth_header"], "x-api-key");
    assert_eq!((&made["failures"], &made["dropped"], &made["given_up"]), (&json!(0), &json!(0), &json!(0)));
    let listed = control.as_owner(&owner, "GET", &path, None);
    assert_eq!(listed.status, 200);
    assert_eq!(listed.json(), json!({ "webhooks": [made] }));
    let id = made["id"].as_str().unwrap();
    let one = format!("{path}/{id}");
    assert_eq!(control.as_owner(&owner, "DELETE", &one, None).status, 204);
    assert_eq!(control.as_owner(&owner, "DELETE", &one, None).code(), "WEBHOOK_NOT_FOUND");
    assert_eq!(control.as_owner(&owner, "GET", &path, None).json(), json!({ "webhooks": [] }));
}

#[test]
fn url_that_leads_inside_is_refused_at_registration() {
    let (control, owner, service) = stage();
    for url in [
        "http://8.8.8.8/",
        "https://127.0.0.1/",
        "https://2130706433/",
        "https://0x7f.1/",
        "https://0177.0.0.1/",
        "https://10.1.2.3/",
        "https://169.254.169.254/latest/meta-data",
        "https://100.64.0.1/",
        "https://[::1]/",
        "https://[::ffff:10.0.0.1]/",
        "https://[64:ff9b::7f00:1]/",
        "https://[2002:a00:1::]/",
        "https://[fd00::1]/",
        "https://localhost/",
        "https://printer.local/",
        "https://metadata.google.internal/",
        "https://user:pass@8.8.8.8/",
        "https://8.8.8.8/#fragment",
        "ftp://8.8.8.8/",
        "not a url",
    ] {
        let refused = make(&control, &owner, &service, &asked(url));
        assert_eq!((refused.status, refused.code().as_str()), (400, "FIELD_INVALID"), "{url}");
        assert!(refused.json()["error"].as_str().unwrap().starts_with("url: "), "{}", refused.text());
    }
    let listed = control.as_owner(&owner, "GET", &format!("/v1/services/{}/webhooks", service.id), None);
    assert_eq!(listed.json(), json!({ "webhooks": [] }));
}

#[test]
fn fields_that_are_not_as_they_must_be_are_refused_and_not_repeated() {
    let (control, owner, service) = stage();
    for (field, change) in [
        ("secret", json!({ "secret": "canary-15-chars" })),
        ("secret", json!({ "secret": " canary-0123456789" })),
        ("secret", json!({ "secret": "canary-0123456789\n" })),
        ("secret", json!({ "secret": "canary\u{7}0123456789" })),
        ("secret", json!({ "secret": "canary".repeat(100) })),
        ("secret", json!({ "secret": 1 })),
        ("events", json!({ "events": [] })),
        ("events", json!({ "events": ["request.approved", "canary"] })),
        ("auth_value", json!({ "auth_header": "X-Api-Key" })),
        ("auth_header", json!({ "auth_value": "canary" })),
        ("auth_header", json!({ "auth_header": "X-Sigilum-Signature", "auth_value": "canary" })),
        ("auth_header", json!({ "auth_header": "Host", "auth_value": "canary" })),
        ("auth_header", json!({ "auth_header": "Bearer canary", "auth_value": "x" })),
        ("auth_header", json!({ "auth_header": "x-sigilum-canary", "auth_value": "x" })),
        ("auth_value", json!({ "auth_header": "X-Api-Key", "auth_value": "canary\r\nX-Evil: 1" })),
        ("auth_value", json!({ "auth_header": "X-Api-Key", "auth_value": "canary ü" })),
        ("sercet", json!({ "sercet": "canary" })),
    ] {
        let mut body = asked("https://8.8.8.8/");
        for (name, value) in change.as_object().unwrap() {
            body[name] = value.clone();
        }
        let refused = make(&control, &owner, &service, &body);
        assert_eq!((refused.status, refused.code().as_str()), (400, "FIELD_INVALID"), "{change}");
        let sentence = refused.json()["error"].as_str().unwrap().to_owned();
        assert!(sentence.starts_with(&format!("{field}: ")), "{sentence}");
        assert!(!sentence.contains("canary"), "{sentence}");
    }
}

#[test]
fn sixth_webhook_of_a_service_is_refused_though_they_come_at_once() {
    let (control, owner, service) = stage();
    let statuses: Vec<u16> = std::thread::scope(|scope| {
        let asking: Vec<_> = (0..8)
            .map(|_| scope.spawn(|| make(&control, &owner, &service, &asked("https://8.8.8.8/")).status))
            .collect();
        asking.into_iter().map(|asking| asking.join().unwrap()).collect()
    });
    assert_eq!(statuses.iter().filter(|status| **status == 201).count(), 5, "{statuses:?}");
    assert_eq!(statuses.iter().filter(|status| **status == 409).count(), 3, "{statuses:?}");
    let refused = make(&control, &owner, &service, &asked("https://8.8.8.8/"));
    assert_eq!(refused.code(), "LIMIT_REACHED");
    // Nobody looks for the host of one that cannot be made.
    let refused = make(&control, &owner, &service, &asked("https://localhost/"));
    assert_eq!(refused.code(), "LIMIT_REACHED");
}

#[test]
fn webhooks_of_another_owners_service_are_not_there() {
    let (control, owner, service) = stage();
    let other = control.owner("globex");
    let path = format!("/v1/services/{}/webhooks", service.id);
    let made = make(&control, &owner, &service, &asked("https://8.8.8.8/")).json();
    let one = format!("{path}/{}", made["id"].as_str().unwrap());
    for url in ["https://8.8.8.8/", "https://localhost/"] {
        assert_eq!(make(&control, &other, &service, &asked(url)).code(), "SERVICE_NOT_FOUND");
    }
    assert_eq!(control.as_owner(&other, "GET", &path, None).code(), "SERVICE_NOT_FOUND");
    assert_eq!(control.as_owner(&other, "DELETE", &one, None).code(), "SERVICE_NOT_FOUND");
    assert_eq!(control.ask("GET", &path, &[], None).status, 401);
    let listed = control.as_owner(&owner, "GET", &path, None).json();
    assert_eq!(listed["webhooks"].as_array().unwrap().len(), 1);
}
