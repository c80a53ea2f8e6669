//! OpenClaw's configuration: the entry of the hook that notifies a namespace's owner.

use std::path::Path;

use anyhow::Context as _;
use serde_json::{Map, Value, json};

use super::{Failure, private};
use crate::names::Namespace;
use crate::secret::SecretString;

/// The hook's name in `hooks.internal.entries`.
const HOOK: &str = "sigilum-authz-notify";
const OWNER_TOKEN: &str = "SIGILUM_OWNER_TOKEN";
/// The longest configuration that is read, in bytes.
const LONGEST: u64 = 4 * 1024 * 1024;

/// Whether the hook runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum Notify {
    /// It does, and gets the token
    True,
    /// It does not
    False,
    /// As it was
    Preserve,
}

/// What the hook is told.
pub(super) struct Entry<'a> {
    pub(super) namespace: &'a Namespace,
    pub(super) api_url: &'a str,
    pub(super) token: &'a SecretString,
    pub(super) notify: Notify,
}

/// What became of the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Outcome {
    /// It was written.
    Written,
    /// It says all of it already.
    Unchanged,
    /// It is not there, and was not made.
    Absent,
}

impl Notify {
    pub(super) fn word(self) -> &'static str {
        match self {
            Self::True => "true",
            Self::False => "false",
            Self::Preserve => "preserve",
        }
    }
}

/// Puts the entry into the configuration at `path`; every other field stays. A file that is not there is made only where
/// `make` says so. The hook has the token only while it is enabled.
pub(super) fn update(path: &Path, entry: &Entry<'_>, make: bool) -> Result<Outcome, Failure> {
    // A rename would replace a symbolic link, and not the file that it leads to.
    let path = &path.canonicalize().unwrap_or_else(|_| path.to_owned());
    let before = match std::fs::metadata(path) {
        Ok(facts) if facts.len() > LONGEST => {
            return Err(anyhow::anyhow!(
                "{} has more than 4 MiB: it is no configuration of OpenClaw",
                path.display()
            )
            .into());
        }
        Ok(_) => Some(read(path)?),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound && !make => return Ok(Outcome::Absent),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
        Err(error) => {
            return Err(anyhow::Error::new(error)
                .context(format!("{} cannot be read", path.display()))
                .into());
        }
    };
    let mut after = before.clone().unwrap_or_default();
    put(&mut after, entry).with_context(|| format!("{} was left as it is", path.display()))?;
    if before.as_ref() == Some(&after) {
        return Ok(Outcome::Unchanged);
    }
    private::write(path, format!("{:#}\n", Value::Object(after)).as_bytes())?;
    Ok(Outcome::Written)
}

fn read(path: &Path) -> Result<Map<String, Value>, Failure> {
    let text = std::fs::read_to_string(path).with_context(|| format!("{} cannot be read", path.display()))?;
    serde_json::from_str(&text).map_err(|fault| {
        let sentence = anyhow::anyhow!(
            "{} is no JSON object (line {}, column {}), so it was left as it is",
            path.display(),
            fault.line(),
            fault.column()
        );
        Failure::from(sentence)
            .hint("put the hook's settings there yourself, or leave it alone with --write-openclaw false")
    })
}

fn put(config: &mut Map<String, Value>, entry: &Entry<'_>) -> Result<(), anyhow::Error> {
    let internal = object(object(config, "hooks")?, "internal")?;
    if entry.notify == Notify::True {
        internal.insert("enabled".to_owned(), true.into());
    }
    let hook = object(object(internal, "entries")?, HOOK)?;
    match entry.notify {
        Notify::True => hook.insert("enabled".to_owned(), true.into()),
        Notify::False => hook.insert("enabled".to_owned(), false.into()),
        Notify::Preserve => None,
    };
    let enabled = hook.get("enabled") == Some(&Value::Bool(true));
    let env = object(hook, "env")?;
    env.insert("SIGILUM_NAMESPACE".to_owned(), json!(entry.namespace.as_str()));
    env.insert("SIGILUM_API_URL".to_owned(), json!(entry.api_url));
    if enabled {
        env.insert(OWNER_TOKEN.to_owned(), json!(entry.token.expose()));
    } else {
        env.remove(OWNER_TOKEN);
    }
    Ok(())
}

/// The object of this name, made where it is not there.
fn object<'a>(
    of: &'a mut Map<String, Value>,
    name: &str,
) -> Result<&'a mut Map<String, Value>, anyhow::Error> {
    let value = of.entry(name).or_insert_with(|| json!({}));
    value.as_object_mut().with_context(|| format!("{name:?} is no object in it"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn updated(before: &str, notify: Notify) -> Result<Value, anyhow::Error> {
        let mut config = serde_json::from_str(before).unwrap();
        let (namespace, token) = ("alice".parse().unwrap(), SecretString::new("a.b.c".into()).unwrap());
        put(&mut config, &Entry { namespace: &namespace, api_url: "http://a", token: &token, notify })?;
        Ok(config.into())
    }

    #[test]
    fn every_other_field_stays_and_in_its_order() {
        let before = r#"{"z":1,"hooks":{"internal":{"entries":{"other":{"enabled":true}},"x":2}},"a":[3]}"#;
        let after = updated(before, Notify::True).unwrap().to_string();
        assert!(
            after.starts_with(r#"{"z":1,"hooks":{"internal":{"entries":{"other":{"enabled":true},"#),
            "{after}"
        );
        assert!(after.ends_with(r#""a":[3]}"#) && after.contains(r#""x":2"#), "{after}");
    }

    #[test]
    fn only_an_enabled_hook_has_the_token() {
        let entry =
            |config: &Value| config.pointer("/hooks/internal/entries/sigilum-authz-notify").unwrap().clone();
        let on = updated("{}", Notify::True).unwrap();
        assert_eq!(entry(&on)["env"][OWNER_TOKEN], "a.b.c");
        let kept = updated(&on.to_string(), Notify::Preserve).unwrap();
        assert_eq!(entry(&kept)["env"][OWNER_TOKEN], "a.b.c");
        let off = updated(&on.to_string(), Notify::False).unwrap();
        assert_eq!(
            entry(&off),
            json!({"enabled":false,"env":{"SIGILUM_NAMESPACE":"alice","SIGILUM_API_URL":"http://a"}})
        );
        assert_eq!(entry(&updated("{}", Notify::Preserve).unwrap()).get("enabled"), None);
    }

    #[test]
    fn field_of_another_kind_is_not_replaced() {
        assert!(updated(r#"{"hooks":[]}"#, Notify::True).is_err());
    }
}
