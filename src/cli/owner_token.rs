//! Owner tokens on this machine: where they lie, what they say of themselves, and which one a call takes.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context as _;
use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use serde::Deserialize;

use super::control_client::{Control, ControlArgs};
use super::local_plane::LocalPlane;
use super::place::{Place, openclaw_home, variable};
use super::{Exit, Failure, Global, Io, private};
use crate::clock::{Clock, UnixTime};
use crate::names::Namespace;
use crate::secret::SecretString;

/// The variable that holds a token.
pub(super) const VARIABLE: &str = "SIGILUM_OWNER_TOKEN";
/// How long a token holds that a command makes for itself alone.
const FOR_ONE_COMMAND: Duration = Duration::from_secs(600);

/// What a token says of itself. Whether that is true only the control plane can tell.
#[derive(Debug)]
pub(super) struct Said {
    /// Whose owner it is for.
    pub(super) namespace: Namespace,
    /// When it ends.
    pub(super) expires_at: UnixTime,
}

/// What becomes of a namespace that the local control plane does not have.
#[derive(Debug, Clone, Copy)]
pub(super) enum Absent<'a> {
    /// It is made, with an owner of this address, or the usual one.
    Made(Option<&'a str>),
    /// It is a fault, unless it is the workspace's own: whoever only looks has mistyped it.
    Fault,
}

/// An owner, and the control plane that is called for it.
pub(super) struct OwnerCalls {
    pub(super) namespace: Namespace,
    pub(super) control: Control,
}

/// Where the token of a namespace is kept.
pub(super) fn file(openclaw_home: &Path, namespace: &Namespace) -> PathBuf {
    openclaw_home.join(".sigilum").join(format!("owner-token-{namespace}.jwt"))
}

/// Writes a token, for its owner alone.
pub(super) fn write(path: &Path, token: &SecretString) -> Result<(), Failure> {
    private::write(path, format!("{}\n", token.expose()).as_bytes())
}

/// Reads a token; `None` where there is no such file.
pub(super) fn read(path: &Path, io: &mut Io<'_>) -> Result<Option<SecretString>, Failure> {
    let unreadable = || format!("the token file {}", path.display());
    let text = match std::fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(anyhow::Error::new(error).context(unreadable()).into()),
    };
    let mode = std::fs::metadata(path).with_context(unreadable)?.permissions().mode() & 0o777;
    if mode & 0o077 != 0 {
        let path = path.display();
        writeln!(
            io.err,
            "warning: {path} has mode {mode:04o}, so others may use the token; type `chmod 600 {path}`"
        )?;
    }
    Ok(Some(SecretString::new(text).with_context(unreadable)?))
}

/// What a token says of itself (RFC 7519 §4). No fault repeats any of it.
pub(super) fn said(token: &SecretString) -> Result<Said, Failure> {
    #[derive(Deserialize)]
    struct Payload {
        namespace: Option<String>,
        exp: Option<f64>,
    }
    let no_jwt = || {
        let sentence = "the owner token is no JWT: it has not the form header.payload.signature";
        Failure::new(Exit::NotAuthorized, anyhow::anyhow!(sentence)).hint("get one with `sigilum auth login`")
    };
    let mut parts = token.expose().split('.');
    let (Some(header), Some(payload), Some(signature), None) =
        (parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return Err(no_jwt());
    };
    if header.is_empty() || signature.is_empty() {
        return Err(no_jwt());
    }
    let bytes = BASE64_URL_SAFE_NO_PAD.decode(payload.trim_end_matches('=')).map_err(|_| no_jwt())?;
    let payload: Payload = serde_json::from_slice(&bytes).map_err(|_| no_jwt())?;
    let lacks = |what| anyhow::anyhow!("the owner token does not say {what}");
    let namespace = payload.namespace.ok_or_else(|| lacks("for which namespace it is"))?;
    let expires = payload.exp.filter(|exp| exp.is_finite()).ok_or_else(|| lacks("when it ends"))?;
    #[allow(clippy::cast_possible_truncation, reason = "a cast of a float saturates")]
    Ok(Said {
        namespace: namespace.parse().context("the owner token's namespace")?,
        expires_at: UnixTime::from_secs(expires as i64),
    })
}

/// Holds a token to the namespace it is used for, and to the time.
pub(super) fn fits(said: &Said, namespace: &Namespace) -> Result<(), Failure> {
    if said.namespace != *namespace {
        let sentence =
            anyhow::anyhow!("the owner token is for the namespace {}, not for {namespace}", said.namespace);
        return Err(Failure::new(Exit::NotAuthorized, sentence)
            .hint(format!("take a token of {namespace}, or say --namespace {}", said.namespace)));
    }
    if said.expires_at <= Clock::system().now() {
        let sentence = anyhow::anyhow!("the owner token ended at {}", said.expires_at);
        return Err(
            Failure::new(Exit::NotAuthorized, sentence).hint("get another one with `sigilum auth login`")
        );
    }
    Ok(())
}

/// The address of an owner of whom none is said.
pub(super) fn email(given: Option<&str>, namespace: &Namespace) -> String {
    let given = given.map(str::to_owned).or_else(|| variable("SIGILUM_OWNER_EMAIL"));
    given.unwrap_or_else(|| format!("{namespace}@local.sigilum"))
}

impl OwnerCalls {
    /// The token is the one of `--token-file` or `SIGILUM_OWNER_TOKEN`, else the stored one; on the local stack it is
    /// made where there is none that holds, for this command alone.
    pub(super) fn new(
        place: &Place,
        args: &ControlArgs,
        absent: Absent<'_>,
        global: &Global,
        io: &mut Io<'_>,
    ) -> Result<Self, Failure> {
        let given = given(args, io)?;
        let (namespace, token) = match given {
            Some(token) => {
                let said = said(&token)?;
                let namespace = place.said_namespace(global)?.unwrap_or_else(|| said.namespace.clone());
                fits(&said, &namespace)?;
                (namespace, token)
            }
            None => {
                let namespace = place.namespace(global)?;
                let stored = read(&file(&openclaw_home(None)?, &namespace), io)?;
                let token = match (stored, place.is_local()) {
                    (stored, true) => local(place, stored, &namespace, absent)?,
                    (Some(token), false) => {
                        fits(&said(&token)?, &namespace)?;
                        token
                    }
                    (None, false) => return Err(none(place, &namespace)),
                };
                (namespace, token)
            }
        };
        let base = place.api_url(args.api_url.as_deref())?;
        let control = Control::new(base, &token, args.api_cacert.as_deref(), io)?;
        Ok(Self { namespace, control })
    }
}

fn given(args: &ControlArgs, io: &mut Io<'_>) -> Result<Option<SecretString>, Failure> {
    if let Some(path) = &args.token_file {
        return match read(path, io)? {
            Some(token) => Ok(Some(token)),
            None => Err(anyhow::anyhow!("token file not found: {}", path.display()).into()),
        };
    }
    Ok(variable(VARIABLE).map(SecretString::new).transpose().context(VARIABLE)?)
}

/// The stored token where the local control plane will take it, else a fresh one.
fn local(
    place: &Place,
    stored: Option<SecretString>,
    namespace: &Namespace,
    absent: Absent<'_>,
) -> Result<SecretString, Failure> {
    let Some(plane) = LocalPlane::there(place)? else {
        let sentence = anyhow::anyhow!(
            "there is no local control plane here: {} is missing",
            place.api_data().display()
        );
        return Err(Failure::from(sentence)
            .hint("start it with `sigilum up`, or set SIGILUM_MODE=managed and SIGILUM_OWNER_TOKEN"));
    };
    if let Some(token) = stored {
        let proven = plane.key().prove(token.expose(), Clock::system().now());
        if proven.is_ok_and(|owner| owner.namespace == *namespace) {
            return Ok(token);
        }
    }
    let owner_email = match absent {
        Absent::Made(owner_email) => owner_email,
        Absent::Fault if place.is_own(namespace) || plane.has(namespace)? => None,
        Absent::Fault => {
            let sentence = anyhow::anyhow!("the local control plane has no namespace {namespace}");
            return Err(Failure::from(sentence).hint(format!(
                "name another with --namespace NAMESPACE, or make it with `sigilum auth login --mode oss-local --namespace {namespace}`"
            )));
        }
    };
    Ok(plane.issue(namespace, &email(owner_email, namespace), FOR_ONE_COMMAND)?.token)
}

fn none(place: &Place, namespace: &Namespace) -> Failure {
    Failure::new(
        Exit::NotAuthorized,
        anyhow::anyhow!("there is no owner token of {namespace} on this machine"),
    )
    .hint(format!("{}, or set {VARIABLE}", login_again(place, Some(namespace))))
}

/// What to type for another token: the local stack's is made here, any other one is brought.
pub(super) fn login_again(place: &Place, namespace: Option<&Namespace>) -> String {
    let namespace = namespace.map_or("<namespace>", Namespace::as_str);
    let brought = if place.is_local() { "" } else { " --owner-token-stdin" };
    format!("sigilum auth login --mode {} --namespace {namespace}{brought}", place.mode())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token(payload: &str) -> SecretString {
        SecretString::new(format!("e30.{}.c2ln", BASE64_URL_SAFE_NO_PAD.encode(payload))).unwrap()
    }

    #[test]
    fn token_says_its_namespace_and_its_end() {
        let said = said(&token(r#"{"namespace":"alice","exp":1771610666}"#)).unwrap();
        assert_eq!((said.namespace.as_str(), said.expires_at.secs()), ("alice", 1_771_610_666));
        assert!(fits(&said, &"bob".parse().unwrap()).is_err());
        assert!(fits(&said, &"alice".parse().unwrap()).is_err(), "it has ended");
    }

    #[test]
    fn what_is_no_token_is_refused_without_being_repeated() {
        for text in ["canary", "a.b", "a.b.c.d", "e30.!!.c2ln", "..", "e30.e30."] {
            let fault = said(&SecretString::new(text.to_owned()).unwrap()).unwrap_err();
            assert!(!format!("{fault:?}").contains("canary"));
        }
        for payload in ["{}", r#"{"namespace":"alice"}"#, r#"{"exp":1}"#, r#"{"namespace":"A B","exp":1}"#] {
            assert!(said(&token(payload)).is_err(), "{payload}");
        }
    }
}
