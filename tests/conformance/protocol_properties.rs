//! What holds for every request: signed as it is, it verifies; changed in one place, it does not; and no bytes
//! whatever make a reader panic.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::{HeaderMap, HeaderName, HeaderValue};
use proptest::prelude::*;
use proptest::sample::{Index, select};
use sigilum::clock::UnixTime;
use sigilum::protocol::did::Did;
use sigilum::protocol::{
    BodyHash, ContentDigest, Freshness, Identity, Message, PublicKey, Refusal, Uncached, Unsigned,
    VerifiedSignature, sign, target_uri, verify,
};

const NOW: UnixTime = UnixTime::from_secs(1_700_000_000);
const SIGNED: [&str; 8] = [
    "sigilum-namespace",
    "sigilum-subject",
    "sigilum-agent-id",
    "sigilum-agent-key",
    "sigilum-agent-cert",
    "content-digest",
    "signature-input",
    "signature",
];

#[derive(Debug, Clone)]
struct Request {
    method: String,
    target_uri: String,
    headers: HeaderMap,
    body: Option<Vec<u8>>,
    subject: String,
    agent_id: Option<String>,
    nonce: String,
}

impl Request {
    fn judge(&self) -> Result<VerifiedSignature, Refusal> {
        let has_body = self.body.is_some();
        let message =
            Message { method: &self.method, target_uri: &self.target_uri, headers: &self.headers, has_body };
        verify(&message, Freshness::default(), NOW, &Uncached)
    }
}

prop_compose! {
    fn requests()(
        seed in any::<[u8; 32]>(),
        method in "[A-Za-z!#$%&'*+.^_`|~-]{1,12}",
        scheme in select(vec!["http", "https"]),
        host in "[A-Za-z0-9.-]{1,20}",
        port in proptest::option::of(1_u16..),
        path in "(/[!-\"$->@-~]{0,30})?",
        query in proptest::option::of("[!-\"$-~]{0,30}"),
        body in proptest::option::of(proptest::collection::vec(any::<u8>(), 0..100)),
        subject in "[!-~]([ -~]{0,254}[!-~])?",
        agent_id in proptest::option::of("[!-~]([ -~]{0,126}[!-~])?"),
        nonce in "[ -~]{8,256}",
    ) -> Request {
        let identity = Identity::create(&"alice".parse().unwrap(), seed, NOW);
        let port = port.map(|port| format!(":{port}")).unwrap_or_default();
        let query = query.map(|query| format!("?{query}")).unwrap_or_default();
        let uri = format!("{scheme}://{host}{port}{path}{query}");
        let headers = sign(&identity, &Unsigned {
            method: &method,
            uri: &uri,
            content_digest: body.as_deref().map(ContentDigest::of),
            subject: Some(&subject),
            agent_id: agent_id.as_deref(),
            nonce: &nonce,
            now: NOW,
        }).unwrap().into_iter().collect();
        let target_uri = target_uri(&uri).unwrap();
        Request { method, target_uri, headers, body, subject, agent_id, nonce }
    }
}

/// `text` with the character at `place` exchanged for another printable one.
fn exchange(text: &str, place: Index, shift: u8) -> String {
    let mut bytes = text.as_bytes().to_vec();
    let byte = &mut bytes[place.index(text.len())];
    *byte = b' ' + (*byte - b' ' + 1 + shift % 94) % 95;
    String::from_utf8(bytes).unwrap()
}

fn arbitrary_headers() -> impl Strategy<Value = HeaderMap> {
    let value = proptest::collection::vec(prop_oneof![Just(b'\t'), b' '..=b'~', 0x80..=0xff_u8], 0..200);
    proptest::collection::vec((select(SIGNED.to_vec()), value), 0..12).prop_map(|lines| {
        let mut headers = HeaderMap::new();
        for (name, value) in lines {
            headers.append(HeaderName::from_static(name), HeaderValue::from_bytes(&value).unwrap());
        }
        headers
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 192, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_is_signed_verifies(request in requests()) {
        let verified = request.judge().unwrap();
        prop_assert_eq!(verified.subject(), &request.subject);
        prop_assert_eq!(verified.agent_id(), request.agent_id.as_deref());
        prop_assert_eq!(verified.nonce(), &request.nonce);
        prop_assert_eq!(verified.created(), NOW.secs());
        prop_assert_eq!(verified.agent().namespace.as_str(), "alice");
        let mut hash = BodyHash::default();
        hash.update(request.body.as_deref().unwrap_or_default());
        prop_assert_eq!(verified.content_digest().map(|digest| digest.matches(&hash)), request.body.map(|_| true));
    }

    #[test]
    fn other_method_or_uri_is_refused(request in requests(), place in any::<Index>(), shift in any::<u8>(), uri in any::<bool>()) {
        let mut changed = request.clone();
        if uri {
            changed.target_uri = exchange(&request.target_uri, place, shift);
        } else {
            changed.method = exchange(&request.method, place, shift);
        }
        prop_assume!(!changed.method.eq_ignore_ascii_case(&request.method) || uri);
        prop_assert_eq!(changed.judge().unwrap_err(), Refusal::VerificationFailed);
    }

    #[test]
    fn other_header_is_refused(request in requests(), name in select(SIGNED.to_vec()), place in any::<Index>(), shift in any::<u8>()) {
        let Some(value) = request.headers.get(name) else { return Ok(()) };
        let mut value = value.to_str().unwrap().to_owned();
        if name == "signature" {
            // By its bytes: the last character of base64 has bits that mean nothing.
            let mut bytes = STANDARD.decode(&value[6..94]).unwrap();
            bytes[place.index(64)] ^= shift.max(1);
            value = format!("sig1=:{}:", STANDARD.encode(bytes));
        } else {
            value = exchange(&value, place, shift);
        }
        let mut changed = request.clone();
        changed.headers.insert(name, HeaderValue::from_str(&value).unwrap());
        prop_assert!(changed.judge().is_err(), "{name}: {value}");
    }

    #[test]
    fn header_taken_away_or_doubled_is_refused(request in requests(), name in select(SIGNED.to_vec()), twice in any::<bool>()) {
        let Some(value) = request.headers.get(name) else { return Ok(()) };
        let mut changed = request.clone();
        if twice {
            changed.headers.append(name, value.clone());
            prop_assert_eq!(changed.judge().unwrap_err(), Refusal::HeaderRepeated { header: name });
        } else {
            changed.headers.remove(name);
            prop_assert!(changed.judge().is_err());
        }
    }

    #[test]
    fn arbitrary_headers_are_refused_without_panic(headers in arbitrary_headers(), has_body in any::<bool>(), uri in "\\PC{0,40}") {
        let message = Message { method: "GET", target_uri: &uri, headers: &headers, has_body };
        prop_assert!(verify(&message, Freshness::default(), NOW, &Uncached).is_err());
    }

    #[test]
    fn garbled_parts_of_a_signed_request_never_panic(
        request in requests(),
        changes in proptest::collection::vec((select(SIGNED.to_vec()), any::<Index>(), b' '..=b'~'), 1..4),
        uri in "\\PC{0,40}",
    ) {
        let mut changed = request;
        for (name, place, byte) in changes {
            let Some(value) = changed.headers.get(name) else { continue };
            let mut bytes = value.as_bytes().to_vec();
            let place = place.index(bytes.len());
            bytes[place] = byte;
            changed.headers.insert(name, HeaderValue::from_bytes(&bytes).unwrap());
        }
        drop(changed.judge());
        changed.target_uri = uri;
        drop(changed.judge());
    }

    #[test]
    fn further_components_never_panic(request in requests(), component in "\"[@a-z\\\\\"-]{0,16}\"(;[a-z]{1,4}(=[\"a-z0-9:?]{0,6})?){0,3}") {
        let mut changed = request;
        let input = changed.headers["signature-input"].to_str().unwrap();
        let input = input.replacen("=(", &format!("=({component} "), 1);
        changed.headers.insert("signature-input", HeaderValue::from_str(&input).unwrap());
        prop_assert!(changed.judge().is_err());
    }

    #[test]
    fn arbitrary_text_is_no_identity_key_did_or_digest_and_never_panics(text in "\\PC{0,200}") {
        prop_assert!(Identity::from_json(&text).is_err());
        prop_assert!(text.parse::<Did>().is_err());
        prop_assert!(text.parse::<PublicKey>().is_err());
        let (key, digest) = (format!("ed25519:{text}"), format!("sha-256={text}"));
        prop_assert!(key.parse::<PublicKey>().is_err());
        prop_assert!(!ContentDigest::from_header(&text).matches(&BodyHash::default()));
        prop_assert!(!ContentDigest::from_header(&digest).matches(&BodyHash::default()));
    }

    #[test]
    fn record_with_a_byte_changed_is_refused_or_means_the_same(seed in any::<[u8; 32]>(), place in any::<Index>(), byte in b' '..=b'~') {
        let identity = Identity::create(&"alice".parse().unwrap(), seed, NOW);
        let mut json = identity.to_json().into_bytes();
        let place = place.index(json.len());
        json[place] = byte;
        if let Ok(read) = Identity::from_json(std::str::from_utf8(&json).unwrap()) {
            prop_assert_eq!(read.key_id(), identity.key_id());
            prop_assert_eq!(read.public_key(), identity.public_key());
        }
    }

    #[test]
    fn record_comes_back_as_it_was_made(seed in any::<[u8; 32]>()) {
        let identity = Identity::create(&"alice".parse().unwrap(), seed, NOW);
        let read = Identity::from_json(&identity.to_json()).unwrap();
        prop_assert_eq!(read.to_json(), identity.to_json());
        prop_assert_eq!(read.certificate_header(), identity.certificate_header());
        prop_assert_eq!(read.public_key().to_string().parse(), Ok(*identity.public_key()));
    }
}
