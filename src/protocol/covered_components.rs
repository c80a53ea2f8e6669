//! Row 7: what a signature must cover, and what the covered components stand for (RFC 9421 §2).

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use sfv::{BareItemFromInput, Dictionary, ItemSerializer, ListEntry, ListSerializer, Parser};
use url::form_urlencoded;

use super::message::{Message, Received};
use super::signature_input::{Component, SignatureInput};
use super::{ContentDigest, Refusal};

/// More components than any client covers; the rest of the work grows with them.
const MOST: usize = 64;
/// More components with parameters than any client covers; each makes us read a header or the query anew.
const MOST_WITH_PARAMETERS: usize = 8;
/// The longest header of which a member (`key`) is read, in bytes, and the most parameters of a query of which one is.
const LONGEST_DICTIONARY: usize = 4 * 1024;
const MOST_QUERY_PARAMETERS: usize = 128;

/// Checks that the profile's components are among those covered, and that none stands twice.
pub(super) fn hold_the_profile(
    input: &SignatureInput<'_>,
    has_body: bool,
    received: &Received<'_>,
) -> Result<(), Refusal> {
    let components = &input.components;
    if components.len() > MOST {
        return Err(Refusal::TooManyComponents { found: components.len(), most: MOST });
    }
    let found = components.iter().filter(|component| !component.parameters.is_empty()).count();
    if found > MOST_WITH_PARAMETERS {
        return Err(Refusal::TooManyParameters { found, most: MOST_WITH_PARAMETERS });
    }
    let mut before = components.iter();
    while let Some(component) = before.next_back() {
        if before.as_slice().iter().any(|other| other.is_same(component)) {
            return Err(Refusal::ComponentRepeated { position: before.len() + 1 });
        }
    }
    let covers = |name: &str| components.iter().any(|c| c.parameters.is_empty() && c.name() == name);
    if !covers("sigilum-subject") {
        return Err(Refusal::SubjectComponentMissing);
    }
    let required = [
        ("@method", true),
        ("@target-uri", true),
        ("content-digest", has_body),
        ("sigilum-namespace", true),
        ("sigilum-agent-id", received.agent_id.is_some()),
        ("sigilum-agent-key", true),
        ("sigilum-agent-cert", true),
    ];
    match required.into_iter().find(|(name, required)| *required && !covers(name)) {
        Some((component, _)) => Err(Refusal::ComponentMissing { component }),
        None => Ok(()),
    }
}

/// The digest that the body must have: the header's, where there is a body or the header is covered all the same.
pub(super) fn claimed_digest(
    input: &SignatureInput<'_>,
    has_body: bool,
    received: &Received<'_>,
) -> Option<ContentDigest> {
    let header = received.content_digest?;
    let covered = has_body || input.components.iter().any(|component| component.name() == "content-digest");
    covered.then(|| ContentDigest::from_header(header))
}

/// Writes a component's value (RFC 9421 §2.1 and §2.2); `None` where the message has none, or where its kind is
/// not known here. Derived: `@method`, `@target-uri`, `@authority`, `@scheme`, `@request-target`, `@path`,
/// `@query`, `@query-param;name`. Headers: as they are, with `bs`, or with `key`; not `sf` (it needs the field's
/// type), `tr` or `req`.
pub(super) fn write_value(
    component: &Component<'_>,
    message: &Message<'_>,
    received: &Received<'_>,
    out: &mut String,
) -> Option<()> {
    let name = component.name();
    if name.starts_with('@') {
        return derived(component, message, out);
    }
    match component.parameters.as_slice() {
        [] => match received.get(name) {
            Some(value) => out.push_str(value?),
            None => header(name, message, out)?,
        },
        [(key, BareItemFromInput::Boolean(true))] if key.as_str() == "bs" => {
            byte_sequences(name, message, out)?
        }
        [(key, BareItemFromInput::String(member))] if key.as_str() == "key" => {
            let mut combined = String::new();
            header(name, message, &mut combined)?;
            dictionary_member(&combined, member.as_str(), out)?;
        }
        _ => return None,
    }
    Some(())
}

/// RFC 9421 §2.2.
fn derived(component: &Component<'_>, message: &Message<'_>, out: &mut String) -> Option<()> {
    match (component.name(), component.parameters.as_slice()) {
        ("@method", []) => out.push_str(message.method),
        ("@target-uri", []) => out.push_str(message.target_uri),
        ("@query-param", [(key, BareItemFromInput::String(name))]) if key.as_str() == "name" => {
            out.push_str(&query_param(Target::of(message.target_uri)?.query?, name.as_str())?);
        }
        (name, []) => {
            let target = Target::of(message.target_uri)?;
            match name {
                "@scheme" => push_lower(target.scheme, out),
                "@authority" => target.write_authority(out)?,
                "@path" => out.push_str(target.path()),
                "@query" => {
                    out.push('?');
                    out.push_str(target.query.unwrap_or_default());
                }
                "@request-target" => {
                    out.push_str(target.path());
                    if let Some(query) = target.query {
                        out.push('?');
                        out.push_str(query);
                    }
                }
                _ => return None,
            }
        }
        _ => return None,
    }
    Some(())
}

/// An absolute URI with an authority, in its parts, byte for byte (RFC 3986 §3).
#[derive(Debug, Clone, Copy)]
pub(super) struct Target<'u> {
    pub(super) scheme: &'u str,
    authority: &'u str,
    path: &'u str,
    pub(super) query: Option<&'u str>,
}

impl<'u> Target<'u> {
    /// Takes the URI apart; a fragment is left out.
    pub(super) fn of(uri: &'u str) -> Option<Self> {
        let uri = uri.split_once('#').map_or(uri, |(uri, _)| uri);
        let (scheme, rest) = uri.split_once("://")?;
        let (before, query) = match rest.split_once('?') {
            Some((before, query)) => (before, Some(query)),
            None => (rest, None),
        };
        let (authority, path) = before.split_at(before.find('/').unwrap_or(before.len()));
        Some(Self { scheme, authority, path, query })
    }

    /// The path; `/` where there is none.
    pub(super) fn path(&self) -> &'u str {
        if self.path.is_empty() { "/" } else { self.path }
    }

    /// Writes the host in lower case, and the port where it is not the scheme's own (RFC 9110 §4.2.3). `None`
    /// where there is no host, or where user information stands before it.
    pub(super) fn write_authority(&self, out: &mut String) -> Option<()> {
        let (host, port) = match self.authority.rsplit_once(':') {
            Some((host, port)) if port.bytes().all(|digit| digit.is_ascii_digit()) => (host, port),
            _ => (self.authority, ""),
        };
        if host.is_empty() || host.contains('@') {
            return None;
        }
        push_lower(host, out);
        let own = (self.scheme.eq_ignore_ascii_case("https") && port == "443")
            || (self.scheme.eq_ignore_ascii_case("http") && port == "80");
        if !port.is_empty() && !own {
            out.push(':');
            out.push_str(port);
        }
        Some(())
    }
}

pub(super) fn push_lower(text: &str, out: &mut String) {
    out.extend(text.chars().map(|c| c.to_ascii_lowercase()));
}

/// The lines of a header, each without white space around it, joined by a comma and a space (RFC 9421 §2.1).
fn header(name: &str, message: &Message<'_>, out: &mut String) -> Option<()> {
    let start = out.len();
    for value in lines(name, message)? {
        if out.len() > start {
            out.push_str(", ");
        }
        out.push_str(value.to_str().ok()?.trim_matches([' ', '\t']));
    }
    Some(())
}

/// RFC 9421 §2.1.3: each line as a byte sequence.
fn byte_sequences(name: &str, message: &Message<'_>, out: &mut String) -> Option<()> {
    let start = out.len();
    for value in lines(name, message)? {
        if out.len() > start {
            out.push_str(", ");
        }
        out.push(':');
        STANDARD.encode_string(value.as_bytes().trim_ascii(), out);
        out.push(':');
    }
    Some(())
}

/// The lines of a header that is there. A component's name is in lower case (RFC 9421 §2.1).
fn lines<'m>(name: &str, message: &Message<'m>) -> Option<http::header::ValueIter<'m, http::HeaderValue>> {
    let lower = !name.bytes().any(|byte| byte.is_ascii_uppercase());
    (lower && message.headers.contains_key(name)).then(|| message.headers.get_all(name).into_iter())
}

/// RFC 9421 §2.1.2: one member of a dictionary.
fn dictionary_member(header: &str, member: &str, out: &mut String) -> Option<()> {
    if header.len() > LONGEST_DICTIONARY {
        return None;
    }
    let dictionary: Dictionary = Parser::new(header).parse().ok()?;
    match dictionary.get(member)? {
        ListEntry::Item(item) => {
            let _ =
                ItemSerializer::with_buffer(out).bare_item(&item.bare_item).parameters(&item.params).finish();
        }
        ListEntry::InnerList(inner) => {
            let mut list = ListSerializer::with_buffer(out);
            let mut items = list.inner_list();
            items.items(&inner.items);
            let _ = items.finish().parameters(&inner.params).finish();
        }
    }
    Some(())
}

/// RFC 9421 §2.2.8: the one query parameter of that name, which is given as it is written after encoding anew.
fn query_param(query: &str, name: &str) -> Option<String> {
    if query.bytes().filter(|byte| *byte == b'&').count() >= MOST_QUERY_PARAMETERS {
        return None;
    }
    let encode = |text: &str| -> String {
        form_urlencoded::byte_serialize(text.as_bytes()).collect::<String>().replace('+', "%20")
    };
    let mut found = form_urlencoded::parse(query.as_bytes()).filter(|(key, _)| encode(key) == name);
    let (_, value) = found.next()?;
    found.next().is_none().then(|| encode(&value))
}
