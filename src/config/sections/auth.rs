//! `providers[].auth`: what is injected.

use http::header;

use crate::config::reader::{Reader, Section};
use crate::config::sentence::{holds, one_of};
use crate::connections::fields;
use crate::connections::{Auth, PathTemplate, SecretSource};

#[derive(Clone, Copy, PartialEq, Eq)]
enum Mode {
    Bearer,
    HeaderKey,
    QueryParam,
    Basic,
    Path,
    None,
}

const MODES: [(&str, Mode); 6] = [
    ("bearer", Mode::Bearer),
    ("header_key", Mode::HeaderKey),
    ("query_param", Mode::QueryParam),
    ("basic", Mode::Basic),
    ("path", Mode::Path),
    ("none", Mode::None),
];

impl Mode {
    fn word(self) -> &'static str {
        MODES.iter().find(|(_, mode)| *mode == self).map_or("", |(word, _)| word)
    }

    /// The keys that have a meaning besides `mode`.
    fn keys(self) -> &'static [&'static str] {
        match self {
            Self::Bearer | Self::HeaderKey => &["secret", "header", "prefix"],
            Self::QueryParam => &["secret", "param"],
            Self::Basic => &["secret", "user"],
            Self::Path => &["secret", "template"],
            Self::None => &[],
        }
    }
}

/// Reads `auth` of a provider; `None` where it is wrong. Without `auth` nothing is injected. `vault`: whether there is
/// one that can hold the secret.
pub(super) fn auth(
    reader: &mut Reader<'_>,
    provider: &Section<'_>,
    vault: bool,
) -> Option<(Auth, Option<SecretSource>)> {
    let section = provider.section(reader, "auth");
    let secret = section.stored_secret(reader, "secret");
    if secret == Some(SecretSource::Store) && !vault {
        section.error(
            reader,
            "secret",
            "store needs a vault; write vault.master_key, such as env:GATEWAY_MASTER_KEY",
        );
    }
    let name = section.parsed(reader, "header", "a header's name", &|text| {
        fields::header_name(text).map_err(|fault| holds(fault.takes, text))
    });
    // What may hold a secret by mistake is not repeated: a prefix, and what stands behind a user's colon.
    let prefix = section.parsed(reader, "prefix", "text to stand before the secret", &|text| {
        fields::header_prefix(text).map_err(|fault| fault.to_string())
    });
    let param = section.parsed(reader, "param", "a query parameter's name", &|text| {
        fields::query_param(text).map_err(|fault| holds(fault.takes, text))
    });
    let user = section.parsed(reader, "user", "a user's name", &|text| {
        fields::basic_user(text).map_err(|fault| fault.to_string())
    });
    let template = section.parsed(reader, "template", "a path with {secret} in it", &|text| {
        text.parse::<PathTemplate>().map_err(|fault| fault.to_string())
    });
    if !provider.has("auth") {
        return Some((Auth::None, None));
    }
    let words = MODES.iter().map(|(word, _)| *word);
    section.need(reader, "mode", &format!("is needed: {}", one_of(words)));
    let mode = section.choice(reader, "mode", &MODES)?;
    report_misplaced(reader, &section, mode);
    if mode != Mode::None {
        section.need(
            reader,
            "secret",
            "is needed: where the secret is read from, such as env:OPENAI_API_KEY",
        );
    }
    let auth = match mode {
        Mode::Bearer => Auth::Header {
            name: name.unwrap_or(header::AUTHORIZATION),
            prefix: prefix.unwrap_or_else(|| "Bearer ".to_owned()),
        },
        Mode::HeaderKey => {
            section.need(reader, "header", "is needed with mode: header_key, such as X-Api-Key");
            Auth::Header { name: name?, prefix: prefix.unwrap_or_default() }
        }
        Mode::QueryParam => Auth::Query { param: param.unwrap_or_else(|| "api_key".to_owned()) },
        Mode::Basic => {
            section.need(reader, "user", "is needed with mode: basic");
            Auth::Basic { user: user? }
        }
        Mode::Path => {
            section.need(reader, "template", "is needed with mode: path, such as /bot{secret}");
            Auth::Path { template: template? }
        }
        Mode::None => return Some((Auth::None, None)),
    };
    Some((auth, Some(secret?)))
}

fn report_misplaced(reader: &mut Reader<'_>, section: &Section<'_>, mode: Mode) {
    for key in ["secret", "header", "prefix", "param", "user", "template"] {
        if section.has(key) && !mode.keys().contains(&key) {
            section.error(reader, key, format!("has no meaning with mode: {}; leave it out", mode.word()));
        }
    }
}
