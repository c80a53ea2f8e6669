//! `sigilum curl` against a server that verifies every signature.

use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::sync::Arc;

use super::stage::{Running, Seen, Server, Stage, end};

struct Case {
    args: &'static [&'static str],
    path: &'static str,
    method: &'static str,
    body: &'static str,
    out: &'static str,
    holds: fn(&Seen) -> bool,
}

fn content_type(seen: &Seen) -> &str {
    seen.header("content-type").unwrap_or_default()
}

const CASES: &[Case] = &[
    Case {
        args: &[],
        path: "/x?a=1&b=%20'",
        method: "GET",
        body: "",
        out: "",
        holds: |seen| seen.target == "/x?a=1&b=%20%27" && seen.header("accept") == Some("*/*"),
    },
    Case {
        args: &["-d", "a=1", "-d", "b=2"],
        path: "/x",
        method: "POST",
        body: "a=1&b=2",
        out: "a=1&b=2",
        holds: |seen| content_type(seen) == "application/x-www-form-urlencoded",
    },
    Case {
        args: &["-d", "@body"],
        path: "/x",
        method: "POST",
        body: "onetwo",
        out: "onetwo",
        holds: |_| true,
    },
    Case {
        args: &["--data-binary", "@body"],
        path: "/x",
        method: "POST",
        body: "one\ntwo\n",
        out: "one\ntwo\n",
        holds: |_| true,
    },
    Case {
        args: &["--data-binary", "@-"],
        path: "/x",
        method: "POST",
        body: "from input\n",
        out: "from input\n",
        holds: |_| true,
    },
    Case {
        args: &["--data-raw", "@body"],
        path: "/x",
        method: "POST",
        body: "@body",
        out: "@body",
        holds: |_| true,
    },
    Case {
        args: &["-X", "PATCH", "--json", "{}"],
        path: "/x",
        method: "PATCH",
        body: "{}",
        out: "{}",
        holds: |seen| {
            content_type(seen) == "application/json" && seen.header("accept") == Some("application/json")
        },
    },
    Case {
        args: &["-d", "x", "-H", "Content-Type: text/plain", "-H", "X-Two: 1", "-H", "X-Two: 2"],
        path: "/x",
        method: "POST",
        body: "x",
        out: "x",
        holds: |seen| content_type(seen) == "text/plain" && seen.headers.get_all("x-two").iter().count() == 2,
    },
    Case {
        args: &["-d", ""],
        path: "/x",
        method: "POST",
        body: "",
        out: "",
        holds: |seen| seen.header("content-digest").is_none(),
    },
    Case { args: &["-X", "DELETE"], path: "/x", method: "DELETE", body: "", out: "", holds: |_| true },
    Case {
        args: &["-sSN", "--max-time", "20"],
        path: "/status/404",
        method: "GET",
        body: "",
        out: "status 404",
        holds: |_| true,
    },
    Case {
        args: &["--subject", "user-1", "--agent-id", "bot"],
        path: "/x",
        method: "GET",
        body: "",
        out: "",
        holds: |seen| seen.signer == Ok(("alice".into(), "user-1".into(), Some("bot".into()))),
    },
    Case {
        args: &["-o", "-"],
        path: "/status/200",
        method: "GET",
        body: "",
        out: "status 200",
        holds: |_| true,
    },
];

#[test]
fn each_flag_sends_what_curl_would_and_its_signature_holds() {
    let (stage, server) = (Stage::with_identity(), Server::start());
    stage.file("body", b"one\ntwo\n");
    for case in CASES {
        let url = server.url(case.path);
        let mut args = vec!["curl"];
        args.extend(case.args);
        args.push(&url);
        let ended = stage.run_with_input(&args, b"from input\n");
        assert_eq!(ended.code, Some(0), "{args:?}: {ended:?}");
        assert_eq!(ended.out, case.out, "{args:?}");
        assert_eq!(ended.err, "", "{args:?}");
        let seen = server.last();
        assert!(seen.signer.is_ok(), "{args:?}: {seen:?}");
        assert_eq!(
            (seen.method.as_str(), seen.body.as_ref()),
            (case.method, case.body.as_bytes()),
            "{args:?}"
        );
        assert!((case.holds)(&seen), "{args:?}: {seen:?}");
    }
}

#[test]
fn include_and_head_print_the_answer_s_head() {
    let (stage, server) = (Stage::with_identity(), Server::start());
    let ended = stage.run(&["curl", "-i", "-d", "hello", &server.url("/x")]);
    let (head, body) = ended.out.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("HTTP/1.1 200 OK\r\n") && head.contains("\r\nx-answer: yes"), "{head}");
    assert_eq!(body, "hello");

    let ended = stage.run(&["curl", "-I", &server.url("/status/204")]);
    assert!(
        ended.out.starts_with("HTTP/1.1 204 No Content\r\n") && ended.out.ends_with("\r\n\r\n"),
        "{ended:?}"
    );
    assert_eq!(server.last().method, "HEAD");
    assert!(server.last().signer.is_ok());
}

#[test]
fn output_goes_to_the_file() {
    let (stage, server) = (Stage::with_identity(), Server::start());
    let ended = stage.run(&["curl", "-o", "answer", "-d", "kept", &server.url("/x")]);
    assert_eq!((ended.code, ended.out.as_str()), (Some(0), ""));
    assert_eq!(std::fs::read(stage.path("answer")).unwrap(), b"kept");
}

#[test]
fn verbose_shows_both_heads_and_the_signature_but_no_secret() {
    let (stage, server) = (Stage::with_identity(), Server::start());
    let ended =
        stage.run(&["curl", "-v", "-H", "Authorization: Bearer sk-canary", "-d", "x", &server.url("/a?b")]);
    for part in [
        "> POST /a?b HTTP/1.1\n",
        "> host: 127.0.0.1:",
        "> signature-input: sig1=(",
        "> signature: sig1=:",
        "> sigilum-namespace: alice\n",
        "> content-length: 1\n",
        "< HTTP/1.1 200 OK\n",
        "< x-answer: yes\n",
    ] {
        assert!(ended.err.contains(part), "{part:?} is not in {}", ended.err);
    }
    assert!(!ended.err.contains("sk-canary"));
    let record = std::fs::read_to_string(stage.home().join("identities/alice/identity.json")).unwrap();
    let record: serde_json::Value = serde_json::from_str(&record).unwrap();
    assert!(!ended.err.contains(record["privateKey"].as_str().unwrap()));
    assert_eq!(ended.out, "x");
    assert_eq!(server.last().header("authorization"), Some("Bearer sk-canary"));
}

#[test]
fn fail_turns_a_status_into_an_exit_code() {
    let (stage, server) = (Stage::with_identity(), Server::start());
    for (status, code) in [("200", 0), ("302", 0), ("401", 3), ("403", 3), ("404", 1), ("500", 1)] {
        let url = server.url(&format!("/status/{status}"));
        let ended = stage.run(&["curl", "--fail", &url]);
        assert_eq!(ended.code, Some(code), "{ended:?}");
        if code != 0 {
            assert_eq!(ended.out, "");
            assert!(ended.err.contains(status), "{ended:?}");
            let silent = stage.run(&["curl", "-sf", &url]);
            assert_eq!((silent.code, silent.err.as_str()), (Some(code), ""));
            let shown = stage.run(&["curl", "-sSf", &url]);
            assert!(shown.err.starts_with("error: "), "{shown:?}");
        }
    }
}

#[test]
fn redirect_is_shown_and_never_followed() {
    let (stage, server) = (Stage::with_identity(), Server::start());
    let ended = stage.run(&["curl", &server.url("/redirect")]);
    assert_eq!((ended.code, ended.out.as_str()), (Some(0), "moved"));
    assert_eq!(server.seen().len(), 1);
}

#[test]
fn server_that_is_not_there_or_does_not_answer_is_not_reachable() {
    let (stage, server) = (Stage::with_identity(), Server::start());
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let ended = stage.run(&["curl", &format!("http://{free}/x")]);
    assert_eq!(ended.code, Some(4), "{ended:?}");
    assert!(ended.err.contains("cannot be reached") && ended.err.contains("refused"), "{ended:?}");

    let ended = stage.run(&["curl", "-m", "0.2", &server.url("/silent")]);
    assert_eq!(ended.code, Some(4), "{ended:?}");
    assert!(ended.err.contains("took too long"), "{ended:?}");
}

#[test]
fn loopback_is_never_reached_through_a_proxy() {
    let (stage, server) = (Stage::with_identity(), Server::start());
    let nowhere = "http://127.0.0.1:1";
    let ended = end(stage
        .command(&["curl", &server.url("/status/200")])
        .env("http_proxy", nowhere)
        .env("HTTP_PROXY", nowhere)
        .env("ALL_PROXY", nowhere));
    assert_eq!((ended.code, ended.out.as_str()), (Some(0), "status 200"), "{ended:?}");
}

#[test]
fn what_would_break_the_signature_is_wrong_usage_that_says_why() {
    let stage = Stage::with_identity();
    for (args, part) in [
        (vec!["curl", "-k", "https://localhost/"], "--cacert"),
        (vec!["curl", "-L", "http://localhost/"], "redirect"),
        (vec!["curl", "-H", "Signature: x", "http://localhost/"], "signer"),
        (vec!["curl", "-H", "Host: x", "http://localhost/"], "URL"),
        (vec!["curl", "-I", "-d", "x", "http://localhost/"], "--head"),
        (vec!["curl", "-X", "G T", "http://localhost/"], "method"),
        (vec!["curl", "-m", "0", "http://localhost/"], "seconds"),
        (vec!["curl", "http://u:p@localhost/"], "user or password"),
        (vec!["curl"], "URL"),
    ] {
        let ended = stage.run(&args);
        assert_eq!(ended.code, Some(2), "{args:?}: {ended:?}");
        assert!(ended.err.contains(part), "{part} is not in {ended:?}");
    }
}

#[test]
fn streamed_answer_is_printed_before_its_end() {
    let (stage, server) = (Stage::with_identity(), Server::start());
    let (mut running, first) = Running::start(&mut stage.command(&["curl", &server.url("/stream")]));
    // The server sends the rest only now.
    assert_eq!(first, "part 0\n");
    server.go_on();
    let mut rest = String::new();
    running.out.read_to_string(&mut rest).unwrap();
    assert_eq!(rest, "part 1\n");
    assert!(running.child.wait().unwrap().success());
}

#[test]
fn certificate_is_trusted_only_when_its_ca_is() {
    let stage = Stage::with_identity();
    let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    let ca = stage.file("ca.pem", made.cert.pem().as_bytes());
    let key = rustls::pki_types::PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key)
        .unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let server = std::thread::spawn(move || {
        for _ in 0..2 {
            let (stream, _) = listener.accept().unwrap();
            let connection = rustls::ServerConnection::new(Arc::new(config.clone())).unwrap();
            let mut tls = rustls::StreamOwned::new(connection, stream);
            // The client that does not trust breaks off here.
            if tls.read(&mut [0; 4096]).is_ok() {
                tls.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 6\r\nconnection: close\r\n\r\nsecret")
                    .unwrap();
                tls.conn.send_close_notify();
                tls.flush().unwrap();
            }
        }
    });
    let url = format!("https://localhost:{port}/");
    let stranger = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    let other = stage.file("other.pem", stranger.cert.pem().as_bytes());
    let ended = stage.run(&["curl", "--cacert", &other, &url]);
    assert_eq!((ended.code, ended.out.as_str()), (Some(4), ""), "{ended:?}");
    assert!(ended.err.contains("certificate"), "{ended:?}");
    let ended = stage.run(&["curl", "--cacert", &ca, &url]);
    assert_eq!((ended.code, ended.out.as_str()), (Some(0), "secret"), "{ended:?}");
    server.join().unwrap();

    let empty = stage.file("empty.pem", b"nothing");
    let ended = stage.run(&["curl", "--cacert", &empty, &url]);
    assert_eq!(ended.code, Some(1));
    assert!(ended.err.contains("PEM"), "{ended:?}");
}
