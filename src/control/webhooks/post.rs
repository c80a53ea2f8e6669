//! One attempt at a delivery: a POST, signed, to an address that was judged.

use std::error::Error as _;
use std::time::Duration;

use hmac::{Hmac, KeyInit, Mac};
use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use reqwest::{Client, Response, redirect};
use sha2::Sha256;

use super::resolver::Resolver;
use super::target::{self, TargetFault};
use crate::clock::UnixTime;
use crate::control::domain::webhook::DueDelivery;
use crate::control::seal::{SealFault, Sealer};
use crate::names::push_hex;
use crate::secret::SecretString;

/// A whole attempt, the answer's body included.
pub(super) const ATTEMPT: Duration = Duration::from_secs(10);
/// The connection alone, TLS included.
const CONNECT: Duration = Duration::from_secs(5);
/// How long an idle connection is kept, and how many to one host.
const IDLE: Duration = Duration::from_secs(30);
const IDLE_PER_HOST: usize = 4;
/// What is read of an answer's body, so that a short one leaves the connection ready for the next delivery.
const MOST_ANSWER_BYTES: usize = 4096;

/// What the sealer is told that a sealed text is.
pub(crate) const SECRET: &str = "secret";
/// The same for the value of `auth_header`.
pub(crate) const AUTH_VALUE: &str = "auth";

/// Why an attempt failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub(super) enum PostFault {
    /// The webhook may not go where it leads.
    #[error(transparent)]
    Blocked(#[from] TargetFault),
    /// Its host's name was not looked up, so nothing was attempted.
    #[error(transparent)]
    NoTurn(TargetFault),
    /// Its secret does not open.
    #[error("the webhook's secret cannot be used: {0}")]
    Seal(#[from] SealFault),
    /// What was stored cannot stand in a header.
    #[error("the webhook's {0} cannot stand in a header")]
    Header(&'static str),
    /// No answer came.
    #[error("no answer: {0}")]
    NoAnswer(String),
    /// An answer other than 2xx.
    #[error("it answered {0}")]
    Status(StatusCode),
}

/// Sends deliveries.
#[derive(Debug)]
pub(super) struct Poster {
    http: Client,
    private_allowed: bool,
}

impl Poster {
    /// A client that resolves by `resolver`, asks no proxy, and follows nothing. The error is a sentence.
    pub(super) fn new(resolver: Resolver, private_allowed: bool) -> Result<Self, String> {
        client(&resolver, true)
            // A system without roots of trust still reaches what speaks no TLS.
            .or_else(|cause| {
                tracing::warn!(cause, "webhooks over https will fail: TLS cannot be set up; are the system's CA certificates there?");
                client(&resolver, false)
            })
            .map(|http| Self { http, private_allowed })
    }

    /// Sends a delivery; 2xx alone is success.
    pub(super) async fn post(
        &self,
        delivery: &DueDelivery,
        sealer: &Sealer,
        now: UnixTime,
    ) -> Result<(), PostFault> {
        // An address in the URL is not resolved, so it is judged here; a name is, when the connection is made.
        target::judge(&delivery.webhook.url, self.private_allowed)?;
        let headers = headers(delivery, sealer, now)?;
        let request =
            self.http.post(delivery.webhook.url.clone()).headers(headers).body(delivery.body.clone());
        let mut response = request.send().await.map_err(no_answer)?;
        let status = response.status();
        read_a_little(&mut response).await;
        if status.is_success() { Ok(()) } else { Err(PostFault::Status(status)) }
    }
}

fn client(resolver: &Resolver, tls: bool) -> Result<Client, String> {
    // An error says that a provider is installed already.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let builder = Client::builder()
        .redirect(redirect::Policy::none())
        .no_proxy()
        .http1_only()
        .referer(false)
        .dns_resolver(resolver.clone())
        .timeout(ATTEMPT)
        .connect_timeout(CONNECT)
        .pool_idle_timeout(IDLE)
        .pool_max_idle_per_host(IDLE_PER_HOST)
        .user_agent(concat!("sigilum/", env!("CARGO_PKG_VERSION")));
    let builder = if tls { builder } else { builder.tls_certs_only([]) };
    builder.build().map_err(|error| error.source().map_or_else(|| error.to_string(), ToString::to_string))
}

fn headers(delivery: &DueDelivery, sealer: &Sealer, now: UnixTime) -> Result<HeaderMap, PostFault> {
    let webhook = &delivery.webhook;
    let secret = sealer.open(&webhook.service_id, &webhook.url, SECRET, &delivery.sealed_secret)?;
    let timestamp = now.secs().to_string();
    let stamped = [timestamp.as_bytes(), b".", delivery.body.as_bytes()];
    let mut headers = HeaderMap::new();
    let mut set = |name: &'static str, value: &str| {
        let value = HeaderValue::from_str(value).map_err(|_| PostFault::Header(name))?;
        headers.insert(HeaderName::from_static(name), value);
        Ok::<(), PostFault>(())
    };
    set("x-sigilum-event", delivery.event.word())?;
    set("x-sigilum-webhook-id", webhook.id.as_str())?;
    set("x-sigilum-delivery", delivery.id.as_str())?;
    set("x-sigilum-signature", &signature(&secret, &[delivery.body.as_bytes()]))?;
    set("x-sigilum-timestamp", &timestamp)?;
    set("x-sigilum-signature-v1", &signature(&secret, &stamped))?;
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    if let (Some(name), Some(sealed)) = (&webhook.auth_header, &delivery.sealed_auth_value) {
        let value = sealer.open(&webhook.service_id, &webhook.url, AUTH_VALUE, sealed)?;
        let name = HeaderName::try_from(name).map_err(|_| PostFault::Header("auth_header"))?;
        let mut value = HeaderValue::from_str(value.expose()).map_err(|_| PostFault::Header("auth_value"))?;
        value.set_sensitive(true);
        headers.insert(name, value);
    }
    Ok(headers)
}

/// `sha256=` and the HMAC-SHA256 (RFC 2104) of the parts, hexadecimal.
fn signature(secret: &SecretString, parts: &[&[u8]]) -> String {
    let mut text = "sha256=".to_owned();
    // HMAC takes a key of any length.
    if let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(secret.expose().as_bytes()) {
        for part in parts {
            mac.update(part);
        }
        push_hex(&mut text, &mac.finalize().into_bytes());
    }
    text
}

/// The status has told all; what is read besides is thrown away, and a fault in it changes nothing.
async fn read_a_little(response: &mut Response) {
    let mut left = MOST_ANSWER_BYTES;
    while let Ok(Some(part)) = response.chunk().await {
        match left.checked_sub(part.len()) {
            Some(rest) => left = rest,
            None => return,
        }
    }
}

/// The innermost cause says the most, and none of them holds the URL, whose path may be a secret.
fn no_answer(error: reqwest::Error) -> PostFault {
    if error.is_timeout() {
        return PostFault::NoAnswer(format!("none within {} s", ATTEMPT.as_secs()));
    }
    let error = error.without_url();
    let mut cause: &dyn std::error::Error = &error;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    // What the resolver of ours refused.
    if let Some(fault) = cause.downcast_ref::<TargetFault>() {
        return match fault {
            TargetFault::Unresolved(_) => PostFault::NoAnswer(fault.to_string()),
            TargetFault::NoTurn(_) => PostFault::NoTurn(fault.clone()),
            other => PostFault::Blocked(other.clone()),
        };
    }
    PostFault::NoAnswer(cause.to_string())
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};
    use std::net::TcpListener;

    use super::super::resolver::tests::answering;
    use super::*;
    use crate::control::domain::webhook::{WebhookEvent, WebhookRecord};
    use crate::names::ServiceId;
    use crate::secret::SecretBytes;

    const NOW: UnixTime = UnixTime::from_secs(1_800_000_000);

    fn sealer() -> Sealer {
        Sealer::new(SecretBytes::new(vec![7; 32])).unwrap()
    }

    /// A delivery to `url`.
    fn delivery(url: &str) -> DueDelivery {
        let url: url::Url = url.parse().unwrap();
        let secret = SecretString::new("0123456789abcdef".to_owned()).unwrap();
        let service = ServiceId::from_random([3; 16]);
        DueDelivery {
            id: format!("del_{}", "1".repeat(32)).parse().unwrap(),
            sealed_secret: sealer().seal(&service, &url, SECRET, &secret).unwrap(),
            sealed_auth_value: None,
            webhook: WebhookRecord {
                id: format!("wh_{}", "2".repeat(32)).parse().unwrap(),
                service_id: service,
                url,
                events: vec![WebhookEvent::Approved],
                auth_header: None,
                created_at: NOW,
                failures: 0,
                paused_until: None,
                dropped: 0,
                given_up: 0,
            },
            event: WebhookEvent::Approved,
            claim: "cl_1".parse().unwrap(),
            body: "{}".to_owned(),
            attempts: 0,
            created_at: NOW,
            leased_until: NOW,
        }
    }

    /// Takes one request, answers 200, and gives the request's head.
    fn take_one(listener: TcpListener) -> std::thread::JoinHandle<String> {
        std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n{}") {
                let mut byte = [0];
                stream.read_exact(&mut byte).unwrap();
                head.push(byte[0]);
            }
            stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").unwrap();
            String::from_utf8(head).unwrap()
        })
    }

    #[test]
    fn signature_is_hmac_sha256_of_the_bytes() {
        // RFC 4231 §4.3: test case 2.
        let secret = SecretString::new("Jefe".to_owned()).unwrap();
        let expected = "sha256=5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843";
        assert_eq!(signature(&secret, &[b"what do ya want for nothing?"]), expected);
        assert_eq!(signature(&secret, &[b"what do ya want ", b"for nothing?"]), expected);
    }

    #[tokio::test]
    async fn connection_goes_to_the_address_that_was_judged_and_to_no_other() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let taken = take_one(listener);
        // A second look-up would lead elsewhere.
        let (resolver, asked) = answering(true, &[&["127.0.0.1:0"], &["127.0.0.9:0"]]);
        let poster = Poster::new(resolver, true).unwrap();
        let delivery = delivery(&format!("http://hooks.example.com:{port}/a"));
        poster.post(&delivery, &sealer(), NOW).await.unwrap();
        let head = taken.join().unwrap().to_ascii_lowercase();
        assert!(head.contains(&format!("host: hooks.example.com:{port}\r\n")), "{head}");
        assert_eq!(*asked.lock().unwrap(), 1);
    }

    #[tokio::test]
    async fn name_that_turns_to_a_private_address_after_registration_is_not_followed() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let port = listener.local_addr().unwrap().port();
        let (resolver, _) = answering(false, &[&["8.8.8.8:0"], &["127.0.0.1:0"]]);
        let url = format!("https://hooks.example.com:{port}/a");
        resolver.admit(&url, &"acme".parse().unwrap()).await.unwrap();
        let poster = Poster::new(resolver, false).unwrap();
        let fault = poster.post(&delivery(&url), &sealer(), NOW).await.unwrap_err();
        assert!(matches!(fault, PostFault::Blocked(TargetFault::LeadsToPrivate(_))), "{fault}");
        assert_eq!(listener.accept().unwrap_err().kind(), std::io::ErrorKind::WouldBlock);
    }

    #[tokio::test]
    async fn private_address_in_a_url_is_refused_at_delivery_too() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let port = listener.local_addr().unwrap().port();
        let (resolver, _) = answering(false, &[&["8.8.8.8:0"]]);
        let poster = Poster::new(resolver, false).unwrap();
        for host in ["127.0.0.1", "[::ffff:127.0.0.1]", "2130706433"] {
            let delivery = delivery(&format!("https://{host}:{port}/a"));
            let fault = poster.post(&delivery, &sealer(), NOW).await.unwrap_err();
            assert!(matches!(fault, PostFault::Blocked(TargetFault::PrivateAddress(_))), "{fault}");
        }
        assert_eq!(listener.accept().unwrap_err().kind(), std::io::ErrorKind::WouldBlock);
    }

    #[tokio::test]
    async fn secret_that_was_moved_to_another_address_is_not_used() {
        let (resolver, asked) = answering(true, &[&["127.0.0.1:0"]]);
        let poster = Poster::new(resolver, true).unwrap();
        let moved = DueDelivery {
            sealed_secret: delivery("https://other.example.com/").sealed_secret,
            ..delivery("http://hooks.example.com/")
        };
        let fault = poster.post(&moved, &sealer(), NOW).await.unwrap_err();
        assert!(matches!(fault, PostFault::Seal(SealFault::DoesNotOpen)), "{fault}");
        assert_eq!(*asked.lock().unwrap(), 0);
    }
}
