//! An upstream that sends the secret back: no client sees it.

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD, URL_SAFE_NO_PAD};
use serde_json::json;

use super::scene::{CONNECTION, SECRET, Scene};
use crate::support::upstream::{Reply, Upstream};

const ENCODED: &str = "sk-canary%2F4711%2Bx%3Dy";

fn assert_clean(headers: &[(String, String)], forms: &[&str]) {
    for (name, value) in headers {
        for form in forms {
            assert!(!value.contains(form), "{name}: {value} shows the secret");
        }
    }
}

#[test]
fn secret_is_masked_in_each_header_of_the_answer_in_each_form() {
    let base64 = STANDARD.encode(SECRET);
    let reply = Reply::ok("fine")
        .with("x-echo", &format!("Bearer {SECRET}"))
        .with("x-echo", &format!("{SECRET},{SECRET}"))
        .with("x-echo", "harmless")
        .with("x-encoded", &format!("a={ENCODED}&b"))
        .with("x-base64", &format!("<{base64}>"))
        .with("set-cookie", &format!("k={SECRET}; Path=/"))
        .with("set-cookie", "other=1");
    let scene = Scene::answering(reply, |setup| setup);
    let response = scene.get("/proxy/openai/");
    assert_eq!((response.status, response.text().as_str()), (200, "fine"));
    assert_clean(&response.headers, &[SECRET, ENCODED, &base64]);
    assert_eq!(response.all("x-echo"), ["Bearer [redacted]", "[redacted],[redacted]", "harmless"]);
    assert_eq!(response.all("x-encoded"), ["a=[redacted]&b"]);
    assert_eq!(response.all("x-base64"), ["<[redacted]>"]);
    assert_eq!(response.all("set-cookie"), ["k=[redacted]; Path=/", "other=1"]);
    scene.gateway.assert_silent_about(SECRET);
}

#[test]
fn percent_encoding_in_lower_case_is_the_same_secret() {
    let lower = ENCODED.to_lowercase();
    let partly = "sk-canary/4711%2Bx=y";
    let reply = Reply::redirect(&format!("https://evil.example/?k={lower}")).with("x-echo", partly);
    let scene = Scene::answering(reply, |setup| setup);
    assert_clean(&scene.get("/proxy/openai/").headers, &[SECRET, ENCODED, &lower, partly]);
}

#[test]
fn base64_of_the_secret_is_masked_whatever_stands_around_it_and_in_both_alphabets() {
    let secret = "sk>>>???canary-47";
    let inside = |before: &str, after: &str| format!("{before}{secret}{after}");
    let (header, pair) = (inside("authorization: Bearer ", "\r\n"), inside("u:", ""));
    let mut reply = Reply::ok("");
    for text in [secret, &header, &pair, &inside("a", "b"), &inside("ab", "cd")] {
        reply = reply
            .with("x-padded", &STANDARD.encode(text))
            .with("x-unpadded", &STANDARD_NO_PAD.encode(text))
            .with("x-url", &URL_SAFE_NO_PAD.encode(text))
            .with("x-escaped", &STANDARD.encode(text).replace('+', "%2B").replace('=', "%3d"));
    }
    let scene = Scene::before(Upstream::answering(reply), |setup, url| setup.bearer(CONNECTION, url, secret));
    let response = scene.get("/proxy/openai/");
    assert_eq!(response.status, 200);
    // The middle of the secret, in each of the three positions that it can have in base64.
    let middles = ["???can", "??cana", "?canar"].map(|middle| STANDARD.encode(middle));
    let middles: Vec<String> = middles.iter().flat_map(|m| [m.clone(), m.replace('/', "_")]).collect();
    assert_clean(&response.headers, &middles.iter().map(String::as_str).collect::<Vec<_>>());
    assert_eq!(response.all("x-unpadded")[0], "[redacted]");
    assert_eq!(response.all("x-url")[0], "[redacted]");
}

#[test]
fn redirect_passes_masked_and_is_not_followed() {
    let trap = Upstream::answering(Reply::ok("trapped"));
    let location = format!("{}/next?api_key={ENCODED}&a=b", trap.url());
    let scene = Scene::before(Upstream::answering(Reply::redirect(&location)), |setup, url| {
        let auth = json!({ "mode": "query_param", "secret": "env:TEST_SECRET" });
        setup.provider(json!({ "id": CONNECTION, "base_url": url, "auth": auth })).env("TEST_SECRET", SECRET)
    });
    let response = scene.get("/proxy/openai/");
    assert_eq!(response.status, 302);
    assert_eq!(
        response.header("location"),
        Some(format!("{}/next?api_key=[redacted]&a=b", trap.url()).as_str())
    );
    trap.assert_zero_bytes();
    let kept = Scene::answering(Reply::redirect("/elsewhere?a=b"), |setup| setup);
    assert_eq!(kept.get("/proxy/openai/").header("location"), Some("/elsewhere?a=b"));
    assert_eq!(kept.upstream.requests().len(), 1);
}

#[test]
fn basic_pair_is_masked_as_well() {
    let pair = STANDARD.encode(format!("aladdin:{SECRET}"));
    let reply = Reply::ok("").with("x-echo", &format!("Basic {pair}")).with("x-user", "aladdin");
    let scene = Scene::before(Upstream::answering(reply), |setup, url| {
        let auth = json!({ "mode": "basic", "user": "aladdin", "secret": "env:TEST_SECRET" });
        setup.provider(json!({ "id": CONNECTION, "base_url": url, "auth": auth })).env("TEST_SECRET", SECRET)
    });
    let response = scene.get("/proxy/openai/");
    // What fills base64 up tells nothing, and may stay.
    assert_eq!(response.header("x-echo").unwrap().trim_end_matches('='), "Basic [redacted]");
    assert_eq!(response.header("x-user"), Some("aladdin"));
}

#[test]
fn secret_in_the_reason_of_the_upstream_s_status_line_is_not_passed_on() {
    let raw = format!("HTTP/1.1 401 bad key {SECRET}\r\ncontent-length: 0\r\n\r\n");
    let scene = Scene::answering(Reply::Raw(raw.into_bytes()), |setup| setup);
    let mut client = scene.gateway.connect();
    let mut request = scene.draft("/proxy/openai/").sign();
    request = request.also("connection", "close");
    client.send(request.to_bytes());
    let answer = String::from_utf8(client.rest()).unwrap();
    assert!(answer.starts_with("HTTP/1.1 401"), "{answer}");
    assert!(!answer.contains(SECRET), "{answer}");
}
