//! RFC 9421 in what our own form leaves free, through the public face. Its appendix B.2.6 is tested beside the
//! signature base (`src/protocol/signature_base.rs`), for it is not of our profile.

use http::{HeaderMap, HeaderValue};
use sigilum::clock::UnixTime;
use sigilum::protocol::{
    ContentDigest, Freshness, Identity, Message, Refusal, SignFault, Uncached, Unsigned, sign, target_uri,
    verify,
};

const NOW: UnixTime = UnixTime::from_secs(1_700_000_000);

fn identity() -> Identity {
    Identity::create(&"alice".parse().unwrap(), [7; 32], NOW)
}

fn request<'a>() -> Unsigned<'a> {
    Unsigned {
        method: "GET",
        uri: "https://gateway.example/proxy/openai/v1/models?a=b",
        content_digest: None,
        subject: None,
        agent_id: None,
        nonce: "nonce-0001",
        now: NOW,
    }
}

fn judge(headers: &HeaderMap, freshness: Freshness, now: UnixTime) -> Result<(), Refusal> {
    let target_uri = "https://gateway.example/proxy/openai/v1/models?a=b";
    verify(&Message { method: "GET", target_uri, headers, has_body: false }, freshness, now, &Uncached)
        .map(drop)
}

#[test]
fn signed_headers_stand_in_the_order_of_the_sdks() {
    let (digest, subject, agent_id) = (Some(ContentDigest::of(b"{}")), Some("u"), Some("bot"));
    let headers =
        sign(&identity(), &Unsigned { content_digest: digest, subject, agent_id, ..request() }).unwrap();
    let names: Vec<&str> = headers.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(
        names,
        [
            "sigilum-namespace",
            "sigilum-subject",
            "sigilum-agent-id",
            "sigilum-agent-key",
            "sigilum-agent-cert",
            "content-digest",
            "signature-input",
            "signature"
        ]
    );
    assert!(headers[6].1.to_str().unwrap().starts_with(
        "sig1=(\"@method\" \"@target-uri\" \"content-digest\" \"sigilum-namespace\" \"sigilum-subject\" \
         \"sigilum-agent-id\" \"sigilum-agent-key\" \"sigilum-agent-cert\");created=1700000000;keyid=\"did:sigilum:alice#"
    ));
}

#[test]
fn target_uri_loses_fragment_and_default_port_and_nothing_else() {
    for (uri, expected) in [
        ("https://a.example/p?q#f", "https://a.example/p?q"),
        ("https://a.example#f?x/y", "https://a.example/"),
        ("HTTPS://A.Example:443/P%2f/../a//b?C=%41", "https://a.example/P%2f/../a//b?C=%41"),
        ("http://a.example:80", "http://a.example/"),
        ("http://a.example:443/", "http://a.example:443/"),
        ("https://a.example:80?x=/y", "https://a.example:80/?x=/y"),
        ("https://a.example:/p?", "https://a.example/p?"),
        ("http://127.0.0.1:38100/proxy/x", "http://127.0.0.1:38100/proxy/x"),
        ("http://[::1]:80/p", "http://[::1]/p"),
        ("http://[FE80::1]/p", "http://[fe80::1]/p"),
    ] {
        assert_eq!(target_uri(uri).as_deref(), Ok(expected), "{uri}");
    }
    for uri in [
        "",
        "/path",
        "https:/a",
        "https://",
        "https:///p",
        "https://u@a.example/",
        "https://u:p@a.example/",
        "1s://a/",
        "https://a.example/ü",
        "https://a.example/a b",
        "https://a.example/\n",
        "://a",
        "https://:443/",
    ] {
        assert_eq!(target_uri(uri), Err(SignFault::Uri), "{uri}");
    }
}

#[test]
fn what_cannot_stand_in_a_signed_request_is_not_signed() {
    let (long, identity) = ("s".repeat(257), identity());
    let fault = |request: Unsigned<'_>| sign(&identity, &request).unwrap_err();
    assert_eq!(fault(Unsigned { method: "", ..request() }), SignFault::Method);
    assert_eq!(fault(Unsigned { method: "GE T", ..request() }), SignFault::Method);
    assert_eq!(fault(Unsigned { uri: "/v1", ..request() }), SignFault::Uri);
    for subject in ["", " a", "a ", "a\nb", "a\tb", "ü", &long] {
        let expected = SignFault::Text { what: "the subject", least: 1, most: 256 };
        assert_eq!(fault(Unsigned { subject: Some(subject), ..request() }), expected, "{subject:?}");
    }
    for agent_id in ["", "a\r", &long[..129]] {
        let expected = SignFault::Text { what: "the agent id", least: 1, most: 128 };
        assert_eq!(fault(Unsigned { agent_id: Some(agent_id), ..request() }), expected, "{agent_id:?}");
    }
    for nonce in ["1234567", "12345678\n", "1234567ü", &long] {
        let expected = SignFault::Text { what: "the nonce", least: 8, most: 256 };
        assert_eq!(fault(Unsigned { nonce, ..request() }), expected, "{nonce:?}");
    }
    let unread = Some(ContentDigest::from_header("md5=:AAAA:"));
    assert_eq!(fault(Unsigned { content_digest: unread, ..request() }), SignFault::ContentDigest);
    assert_eq!(fault(Unsigned { now: UnixTime::from_millis(i64::MAX), ..request() }), SignFault::Time);
}

#[test]
fn signature_lives_from_skew_before_to_tolerance_after_to_the_millisecond() {
    let headers = sign(&identity(), &request()).unwrap().into_iter().collect();
    let at =
        |millis: i64| judge(&headers, Freshness::default(), UnixTime::from_millis(NOW.millis() + millis));
    assert_eq!(at(-30_000), Ok(()));
    assert_eq!(at(-30_001), Err(Refusal::TooFarAhead { ahead_secs: 30, most_secs: 30 }));
    assert_eq!(at(300_000), Ok(()));
    assert_eq!(at(300_001), Err(Refusal::TooOld { age_secs: 300, most_secs: 300 }));
    let strict =
        Freshness { created_tolerance: std::time::Duration::ZERO, future_skew: std::time::Duration::ZERO };
    assert_eq!(judge(&headers, strict, NOW), Ok(()));
    assert!(judge(&headers, strict, UnixTime::from_secs(NOW.secs() + 1)).is_err());
}

#[test]
fn refusal_tells_what_is_wrong_and_nothing_of_what_was_sent() {
    let mut headers: HeaderMap = sign(&identity(), &request()).unwrap().into_iter().collect();
    headers.append("sigilum-subject", HeaderValue::from_static("canary"));
    let refusal = judge(&headers, Freshness::default(), NOW).unwrap_err();
    assert_eq!((refusal.code(), refusal.reason()), ("AUTH_HEADERS_INVALID", None));
    assert_eq!(
        refusal.to_string(),
        "the header sigilum-subject is there more than once; it must be sent as one line"
    );
    let late = judge(
        &sign(&identity(), &request()).unwrap().into_iter().collect(),
        Freshness::default(),
        UnixTime::from_secs(1_700_000_412),
    );
    assert_eq!(
        late.unwrap_err().to_string(),
        "the signature was created 412 s ago, at most 300 s are allowed; sign the request anew, and check the client's clock"
    );
}

#[test]
fn line_end_in_a_uri_cannot_add_a_line_to_the_signature_base() {
    let headers = sign(&identity(), &request()).unwrap().into_iter().collect();
    for target_uri in
        ["https://a.example/\n\"sigilum-subject\": root", "https://a.example/\r", "https://a.example/\u{fc}"]
    {
        let message = Message { method: "GET", target_uri, headers: &headers, has_body: false };
        let refusal = verify(&message, Freshness::default(), NOW, &Uncached).unwrap_err();
        assert_eq!(refusal, Refusal::ComponentUnresolvable { position: 2 });
    }
}
