//! `sigilum sign`: what it prints verifies.

use http::{HeaderMap, HeaderName, HeaderValue};

use super::stage::{Stage, signer};

const URL: &str = "https://gw.example/proxy/openai/v1/chat?q='a'&b=%20";

fn headers<'a>(lines: impl Iterator<Item = &'a str>) -> HeaderMap {
    lines
        .map(|line| {
            let (name, value) = line.split_once(": ").unwrap();
            (name.parse::<HeaderName>().unwrap(), value.parse::<HeaderValue>().unwrap())
        })
        .collect()
}

#[test]
fn printed_headers_verify_for_the_body_the_subject_and_the_agent() {
    let stage = Stage::with_identity();
    let args = [
        "sign",
        "--method",
        "POST",
        "--url",
        URL,
        "--body",
        "-",
        "--subject",
        "ticket-7",
        "--agent-id",
        "bot",
    ];
    let ended = stage.run_with_input(&args, b"{\"a\":1}");
    assert_eq!(ended.code, Some(0), "{ended:?}");
    let headers = headers(ended.out.lines());
    let expected = ("alice".to_owned(), "ticket-7".to_owned(), Some("bot".to_owned()));
    assert_eq!(signer("POST", URL, &headers, b"{\"a\":1}"), Ok(expected));
    assert!(signer("POST", URL, &headers, b"{\"a\":2}").is_err());
    assert!(signer("POST", "https://gw.example/other", &headers, b"{\"a\":1}").is_err());
}

#[test]
fn each_format_carries_headers_that_verify() {
    let stage = Stage::with_identity();
    let file = stage.file("body", b"line\n");
    let sign = |format: &[&str]| {
        let mut args = vec!["sign", "--method", "PUT", "--url", URL, "--body", &file];
        args.extend(format);
        let ended = stage.run(&args);
        assert_eq!(ended.code, Some(0), "{ended:?}");
        ended.out
    };
    let json: serde_json::Map<String, serde_json::Value> = serde_json::from_str(&sign(&["--json"])).unwrap();
    let lines: Vec<String> =
        json.iter().map(|(name, value)| format!("{name}: {}", value.as_str().unwrap())).collect();
    signer("PUT", URL, &headers(lines.iter().map(String::as_str)), b"line\n").unwrap();

    // A shell reads the pasted words back.
    let pasted = sign(&["--header-format", "curl"]);
    let script = format!("for word in {pasted}\ndo printf '%s\\n' \"$word\"; done");
    let output = std::process::Command::new("sh").args(["-c", &script]).output().unwrap();
    let words = String::from_utf8(output.stdout).unwrap();
    signer("PUT", URL, &headers(words.lines().filter(|word| *word != "-H")), b"line\n").unwrap();
}

#[test]
fn request_without_a_body_has_no_digest_and_a_url_without_a_path_gets_one() {
    let stage = Stage::with_identity();
    let ended = stage.run(&["sign", "--url", "http://gw.example"]);
    let headers = headers(ended.out.lines());
    assert!(!headers.contains_key("content-digest"));
    signer("GET", "http://gw.example/", &headers, b"").unwrap();
}

#[test]
fn what_cannot_be_signed_is_wrong_usage() {
    let stage = Stage::with_identity();
    let long = "x".repeat(257);
    for (args, part) in [
        (vec!["sign", "--url", "ftp://x/"], "http"),
        (vec!["sign", "--url", "http://u:p@x/"], "user or password"),
        (vec!["sign"], "--url"),
        (vec!["sign", "--url", "http://x/", "--method", "G T"], "token"),
        (vec!["sign", "--url", "http://x/", "--subject", &long], "256"),
        (vec!["sign", "--url", "http://x/", "--subject", "two\nlines"], "subject"),
    ] {
        let ended = stage.run(&args);
        assert_eq!(ended.code, Some(2), "{ended:?}");
        assert!(ended.err.contains(part), "{part} is not in {ended:?}");
        assert_eq!(ended.out, "");
    }
}
