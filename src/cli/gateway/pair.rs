//! `sigilum gateway pair`: has the running gateway pair with a control plane, over its admin API.

use std::time::Duration;

use reqwest::Method;
use serde_json::{Value, json};
use url::Url;

use super::super::connection::client::{Access, Client, HEADING};
use super::super::place::variable;
use super::super::plane::local_origin;
use super::super::report::write_json;
use super::super::{Exit, Failure, Global, Io, Report};
use super::{Which, life};
use crate::agent::is_loopback_host;
use crate::clock::Clock;
use crate::names::{Namespace, SessionId};
use crate::protocol::pairing::PairCode;

pub(super) const ROUTE: &str = "/api/admin/pairing";
/// How long the gateway is given until it is connected; it goes on trying all the same.
const PATIENCE: Duration = Duration::from_secs(30);
const LOOK_AGAIN: Duration = Duration::from_millis(100);
const CODE_VARIABLE: &str = "SIGILUM_PAIR_CODE";

#[derive(Debug, clap::Args)]
pub(in crate::cli) struct Pair {
    #[command(flatten)]
    session: Session,
    #[command(flatten)]
    gateway: Gateway,
    /// Taken for scripts: the bridge is in the gateway, so that this command never stays in the foreground
    #[arg(long)]
    daemon: bool,
    /// Tell how the pairing stands
    #[arg(long, conflicts_with_all = ["session_id", "code", "stop"])]
    status: bool,
    /// End the pairing and forget it
    #[arg(long, conflicts_with_all = ["session_id", "code"])]
    stop: bool,
}

/// Which session is paired with.
#[derive(Debug, clap::Args)]
pub(super) struct Session {
    /// The session that the dashboard shows
    #[arg(long, value_name = "ID")]
    session_id: Option<SessionId>,
    /// The code that the dashboard shows; it counts once, and only for some minutes [default: SIGILUM_PAIR_CODE]
    #[arg(long, value_name = "CODE")]
    pair_code: Option<PairCode>,
    /// Both in one, as in ps_0123….ABCD2345
    #[arg(long, value_name = "SESSION.CODE", conflicts_with = "session_id", value_parser = both)]
    code: Option<(SessionId, PairCode)>,
    /// Where the control plane is [default: the local stack's, else the mode's]
    #[arg(long, value_name = "URL")]
    pub(super) api_url: Option<String>,
}

/// Which gateway is paired.
#[derive(Debug, clap::Args)]
pub(super) struct Gateway {
    #[command(flatten)]
    pub(super) which: Which,
    /// Where the gateway's admin API is [default: where the gateway of this data directory has it]
    #[arg(long, env = "GATEWAY_ADMIN_URL", hide_env_values = true, value_name = "URL", help_heading = HEADING)]
    pub(super) gateway_admin_url: Option<String>,
    #[command(flatten)]
    access: Access,
    /// Print JSON
    #[arg(long)]
    pub(super) json: bool,
}

fn both(text: &str) -> Result<(SessionId, PairCode), String> {
    let wrong = || "it is the session's id, a full stop and the pair code".to_owned();
    let (session, code) = text.split_once('.').ok_or_else(wrong)?;
    Ok((session.parse().map_err(|_| wrong())?, code.parse().map_err(|_| wrong())?))
}

pub(super) fn run(args: &Pair, global: &Global, io: &mut Io<'_>) -> Result<Exit, Failure> {
    let client = args.gateway.client(io)?;
    if args.status {
        return status(&client, args.gateway.json, io);
    }
    if args.stop {
        let stood = text(&client.get(ROUTE)?, "state") != "none";
        client.call(Method::DELETE, ROUTE, None)?;
        if args.gateway.json {
            write_json(&mut io.out, &json!({ "was_paired": stood }))?;
            return Ok(Exit::Done);
        }
        let report = Report::new(match stood {
            true => "Pairing ended; this gateway no longer connects. The owner revokes it in the dashboard.",
            false => "This gateway is not paired.",
        });
        report.write(&mut io.out, false)?;
        return Ok(Exit::Done);
    }
    let place = args.gateway.which.place()?;
    let api_url = place.api_url(args.session.api_url.as_deref())?;
    let namespace = match place.said_namespace(global)? {
        Some(namespace) => namespace,
        None => own_namespace(&client)?,
    };
    pair(&client, &args.session, &namespace, &api_url, args.gateway.json, io)
}

impl Session {
    /// The session and its code.
    pub(super) fn given(&self) -> Result<(&SessionId, PairCode), Failure> {
        if let Some((session, code)) = &self.code {
            return Ok((session, code.clone()));
        }
        let code = match (&self.pair_code, variable(CODE_VARIABLE)) {
            (Some(typed), _) => Some(typed.clone()),
            (None, Some(text)) => {
                let code = text.parse::<PairCode>();
                Some(code.map_err(|fault| Failure::usage(format!("{CODE_VARIABLE}: {fault}")))?)
            }
            (None, None) => None,
        };
        self.session_id.as_ref().zip(code).ok_or_else(|| {
            Failure::usage("a session and its code are needed")
                .hint("start the pairing in the dashboard, and copy the command that it shows: --session-id ID --pair-code CODE")
        })
    }
}

impl Gateway {
    /// The admin API of the gateway that was named, else of the one of this data directory, else where its configuration
    /// says, else at the default place.
    pub(super) fn admin_url(&self) -> Result<String, Failure> {
        if let Some(url) = self.gateway_admin_url.clone().filter(|url| !url.is_empty()) {
            return Ok(url);
        }
        let (_, serving) = life::alive(&self.which)?;
        if let Some(found) = serving.and_then(|serving| serving.admin) {
            return Ok(found);
        }
        match self.which.whereabouts()?.admin {
            Some(address) => Ok(local_origin(address)),
            None => Ok(self.which.place()?.admin_url(None)),
        }
    }

    pub(super) fn client(&self, io: &mut Io<'_>) -> Result<Client, Failure> {
        Client::new(&self.admin_url()?, &self.access, io)
    }
}

/// Begins the pairing and waits for what comes of it.
pub(super) fn pair(
    client: &Client,
    session: &Session,
    namespace: &Namespace,
    api_url: &Url,
    as_json: bool,
    io: &mut Io<'_>,
) -> Result<Exit, Failure> {
    let (session, code) = session.given()?;
    if api_url.scheme() == "http" && !api_url.host_str().is_some_and(is_loopback_host) {
        writeln!(
            io.err,
            "warning: the pair code goes unencrypted to {}",
            api_url.origin().ascii_serialization()
        )?;
    }
    let asked = json!({
        "session_id": session.as_str(),
        "pair_code": code.expose(),
        "namespace": namespace.as_str(),
        "api_url": api_url.as_str(),
    });
    client.post(ROUTE, &asked)?;
    let (clock, mut view) = (Clock::system(), Value::Null);
    let begun = clock.instant();
    while clock.instant().saturating_duration_since(begun) < PATIENCE {
        view = client.get(ROUTE)?;
        match text(&view, "state") {
            "connected" => {
                report("Gateway paired.", &view).write(&mut io.out, as_json)?;
                return Ok(Exit::Done);
            }
            "ended" | "none" => return Err(ended(&view)),
            _ => std::thread::sleep(LOOK_AGAIN),
        }
    }
    Err(not_connected(&view)
        .hint("the gateway goes on trying; `sigilum gateway pair --status` tells, `--stop` ends it"))
}

fn status(client: &Client, as_json: bool, io: &mut Io<'_>) -> Result<Exit, Failure> {
    let view = client.get(ROUTE)?;
    if as_json {
        write_json(&mut io.out, &view)?;
    }
    let failure = match text(&view, "state") {
        "connected" => {
            if !as_json {
                report("Gateway connected.", &view).write(&mut io.out, false)?;
            }
            return Ok(Exit::Done);
        }
        "none" => Failure::from(anyhow::anyhow!("this gateway is not paired"))
            .hint("start the pairing in the dashboard, and run the command that it shows"),
        "ended" => ended(&view),
        _ => not_connected(&view),
    };
    Err(failure.silent(as_json))
}

fn report(title: &str, view: &Value) -> Report {
    let mut report = Report::new(title);
    for (key, name) in [
        ("session_id", "session_id"),
        ("namespace", "namespace"),
        ("api", "api_url"),
        ("gateway_id", "gateway_id"),
        ("connected_since", "connected_since"),
    ] {
        report = report.field(key, text(view, name).trim_end_matches('/'));
    }
    match view.pointer("/sealing_key/public_key").and_then(Value::as_str) {
        Some(key) => report.field("sealing_key", key),
        None => report,
    }
}

/// Without a way back: a refusal of the session or its code is one of authority, all else a failure.
fn ended(view: &Value) -> Failure {
    let code = view.pointer("/trouble/code").and_then(Value::as_str).unwrap_or_default();
    let exit = match code {
        "PAIRING_CODE_INVALID" | "PAIRING_TOO_MANY_TRIES" | "PAIRING_OTHER_GATEWAY" | "PAIRING_REVOKED" => {
            Exit::NotAuthorized
        }
        _ => Exit::Failed,
    };
    let (what, hint) = match code {
        "PAIRING_CODE_INVALID" => {
            ("the gateway was not let in", "look at the code in the dashboard, and run the command again")
        }
        _ => {
            ("the pairing is over", "start a new pairing in the dashboard, and run the command that it shows")
        }
    };
    Failure::new(exit, anyhow::anyhow!("{what}: {}", trouble(view))).hint(hint)
}

fn not_connected(view: &Value) -> Failure {
    let api = text(view, "api_url");
    Failure::new(
        Exit::NotReachable,
        anyhow::anyhow!("the gateway is not connected to the control plane at {api}: {}", trouble(view)),
    )
}

fn trouble(view: &Value) -> String {
    let part = |name: &str| view.pointer(&format!("/trouble/{name}")).and_then(Value::as_str);
    match (part("message"), part("code")) {
        (Some(message), Some(code)) => format!("{message} ({code})"),
        _ => "it is still trying".to_owned(),
    }
}

/// The namespace of the gateway's own identity.
pub(super) fn own_namespace(client: &Client) -> Result<Namespace, Failure> {
    let gateway = client.get("/api/admin/gateway")?;
    let named = text(&gateway, "id").strip_prefix("did:sigilum:").and_then(|name| name.parse().ok());
    named.ok_or_else(|| {
        Failure::usage("which namespace is meant is not said, and the gateway has no identity that tells")
            .hint("name it with --namespace NAMESPACE")
    })
}

fn text<'a>(object: &'a Value, name: &str) -> &'a str {
    object.get(name).and_then(Value::as_str).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn session_and_code_come_apart_at_the_full_stop() {
        let session = SessionId::from_random([1; 16]);
        let (found, code) = both(&format!("{session}.abcd2345")).unwrap();
        assert_eq!((found, code.expose()), (session.clone(), "ABCD2345"));
        for wrong in
            ["", "ABCD2345", "ps_1.ABCD2345", &format!("{session}.ABCD1234"), &format!("{session}-ABCD2345")]
        {
            assert!(both(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn refusals_of_authority_have_their_own_exit_code() {
        let over = |code: &str| ended(&json!({ "trouble": { "code": code, "message": "m" } })).exit();
        assert_eq!(over("PAIRING_CODE_INVALID"), Exit::NotAuthorized);
        assert_eq!(over("PAIRING_EXPIRED"), Exit::Failed);
    }
}
