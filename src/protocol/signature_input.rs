//! Row 2: `signature-input` and `signature` (RFC 9421 §4), read as the structured fields that they are.
//!
//! A message may carry signatures that are not ours. The one *of the profile* is the one whose `keyid` begins with
//! `did:sigilum:`. Where none does and there is only one signature, that one is judged, so that its own fault is
//! named; where several could be meant, the message is refused.

use std::borrow::Cow;
use std::convert::Infallible;

use sfv::visitor::{
    DictionaryVisitor, EntryVisitor, Ignored, InnerListVisitor, ItemVisitor, ParameterVisitor,
};
use sfv::{BareItemFromInput, KeyRef, ListSerializer, Parser, StringRef};

use super::message::Received;
use super::{Refusal, did};

/// The most labels in a dictionary, and the most parameters of one thing: each is compared with those before it.
const MOST_KEYS: usize = 16;

/// There are more keys than anybody needs.
#[derive(Debug, thiserror::Error)]
#[error("more than {MOST_KEYS} keys stand in one place")]
struct TooManyKeys;

/// Parameters of a component or of a signature, in their order, each key once.
pub(super) type Parameters<'h> = Vec<(&'h KeyRef, BareItemFromInput<'h>)>;

/// A component identifier (RFC 9421 §2): a name and its parameters.
#[derive(Debug)]
pub(super) struct Component<'h> {
    name: Cow<'h, StringRef>,
    pub(super) parameters: Parameters<'h>,
}

/// One member of `signature-input`: what is covered, in order, and the signature's parameters.
#[derive(Debug, Default)]
pub(super) struct SignatureInput<'h> {
    pub(super) components: Vec<Component<'h>>,
    parameters: Parameters<'h>,
    /// A component's name was not a string.
    malformed: bool,
}

impl Component<'_> {
    pub(super) fn name(&self) -> &str {
        self.name.as_str()
    }

    /// The same component, whatever the order of its parameters.
    pub(super) fn is_same(&self, other: &Self) -> bool {
        let within =
            |a: &Self, b: &Self| a.parameters.iter().all(|parameter| b.parameters.contains(parameter));
        self.name == other.name && within(self, other) && within(other, self)
    }

    /// Writes the identifier as RFC 9421 §2.5 has it at the head of its line.
    pub(super) fn write_identifier(&self, out: &mut String) {
        if self.parameters.is_empty() && !self.name().contains(['"', '\\']) {
            for part in ["\"", self.name(), "\""] {
                out.push_str(part);
            }
            return;
        }
        let parameters = self.parameters.iter().map(|(key, value)| (*key, value));
        let _ = sfv::ItemSerializer::with_buffer(out).bare_item(&*self.name).parameters(parameters).finish();
    }
}

impl SignatureInput<'_> {
    /// A parameter of the signature.
    pub(super) fn parameter(&self, name: &str) -> Option<&BareItemFromInput<'_>> {
        self.parameters.iter().find(|(key, _)| key.as_str() == name).map(|(_, value)| value)
    }

    /// A parameter of the signature that is a string.
    pub(super) fn text(&self, name: &str) -> Option<&str> {
        self.parameter(name).and_then(|value| value.as_string()).map(StringRef::as_str)
    }

    /// Writes the value of `@signature-params` (RFC 9421 §2.3): the member in its canonical form, whatever white
    /// space it was sent with, its components and parameters in the order in which they were sent.
    pub(super) fn write_parameters(&self, out: &mut String) {
        let mut list = ListSerializer::with_buffer(out);
        let mut components = list.inner_list();
        for component in &self.components {
            let parameters = component.parameters.iter().map(|(key, value)| (*key, value));
            let _ = components.bare_item(&*component.name).parameters(parameters).finish();
        }
        let _ =
            components.finish().parameters(self.parameters.iter().map(|(key, value)| (*key, value))).finish();
    }

    fn is_of_the_profile(&self) -> bool {
        self.text("keyid").is_some_and(|id| id.starts_with(did::PREFIX))
    }
}

/// Row 2: finds the one signature of the profile, and its 64 bytes.
pub(super) fn read<'m>(received: &Received<'m>) -> Result<(SignatureInput<'m>, [u8; 64]), Refusal> {
    let input =
        received.signature_input.ok_or(Refusal::SignatureHeaderMissing { header: "signature-input" })?;
    let signature = received.signature.ok_or(Refusal::SignatureHeaderMissing { header: "signature" })?;
    let (label, input) = choose(parse(input)?)?;
    let wanted = Labelled { label, found: None };
    let found = Parser::new(signature).parse_dictionary_with_visitor(wanted);
    let signature = found.ok().flatten().ok_or(Refusal::SignatureInvalid)?;
    Ok((input, signature))
}

/// The members of `signature-input` in their order, each label once; `None` for one that is no inner list.
pub(super) type Members<'h> = Vec<(&'h KeyRef, Option<SignatureInput<'h>>)>;

pub(super) fn parse(input: &str) -> Result<Members<'_>, Refusal> {
    Parser::new(input)
        .parse_dictionary_with_visitor(MembersOf(Vec::new()))
        .map_err(|_| Refusal::SignatureInputInvalid)
}

fn choose<'h>(mut members: Members<'h>) -> Result<(&'h KeyRef, SignatureInput<'h>), Refusal> {
    if members.len() > 1 {
        let ours = |input: &Option<SignatureInput<'_>>| {
            input.as_ref().is_some_and(SignatureInput::is_of_the_profile)
        };
        let all = members.len();
        members.retain(|(_, input)| ours(input));
        let found = if members.is_empty() { all } else { members.len() };
        if found > 1 {
            return Err(Refusal::SignatureAmbiguous { found });
        }
    }
    match members.pop() {
        Some((label, Some(input))) if !input.malformed => Ok((label, input)),
        _ => Err(Refusal::SignatureInputInvalid),
    }
}

/// Sets the value of a key that may be there already: the last one counts, at the place of the first (RFC 9651
/// §4.2.2 and §4.2.3.2).
fn set<'s, 'h, V>(
    list: &'s mut Vec<(&'h KeyRef, V)>,
    key: &'h KeyRef,
    value: V,
) -> Result<&'s mut V, TooManyKeys> {
    let place = list.iter().position(|(known, _)| *known == key).unwrap_or(list.len());
    if place == MOST_KEYS {
        return Err(TooManyKeys);
    }
    match list.get_mut(place) {
        Some((_, known)) => *known = value,
        None => list.push((key, value)),
    }
    list.get_mut(place).map(|(_, value)| value).ok_or(TooManyKeys)
}

struct MembersOf<'h>(Members<'h>);

impl<'h> DictionaryVisitor<'h> for MembersOf<'h> {
    type Out = Members<'h>;
    type Error = TooManyKeys;

    fn entry(&mut self, key: &'h KeyRef) -> Result<impl EntryVisitor<'h>, TooManyKeys> {
        set(&mut self.0, key, None).map(Member)
    }

    fn finish(self) -> Result<Members<'h>, TooManyKeys> {
        Ok(self.0)
    }
}

struct Member<'s, 'h>(&'s mut Option<SignatureInput<'h>>);

impl<'h> EntryVisitor<'h> for Member<'_, 'h> {
    type Error = Infallible;

    fn item(self) -> Result<impl ItemVisitor<'h>, Infallible> {
        Ok(Ignored)
    }

    fn inner_list(self) -> Result<impl InnerListVisitor<'h>, Infallible> {
        Ok(List(self.0.insert(SignatureInput {
            components: Vec::with_capacity(8),
            parameters: Vec::with_capacity(4),
            malformed: false,
        })))
    }
}

struct List<'s, 'h>(&'s mut SignatureInput<'h>);

impl<'h> InnerListVisitor<'h> for List<'_, 'h> {
    type Error = Infallible;

    fn item(&mut self) -> Result<impl ItemVisitor<'h>, Infallible> {
        Ok(ComponentOf(self.0))
    }

    fn finish(self) -> Result<impl ParameterVisitor<'h>, Infallible> {
        Ok(ParametersOf(&mut self.0.parameters))
    }
}

struct ComponentOf<'s, 'h>(&'s mut SignatureInput<'h>);

impl<'h> ItemVisitor<'h> for ComponentOf<'_, 'h> {
    type Out = Option<()>;
    type Error = Infallible;

    fn bare_item(
        self,
        item: BareItemFromInput<'h>,
    ) -> Result<impl ParameterVisitor<'h, Out = Option<()>>, Infallible> {
        let BareItemFromInput::String(name) = item else {
            self.0.malformed = true;
            return Ok(None);
        };
        self.0.components.push(Component { name, parameters: Vec::new() });
        Ok(self.0.components.last_mut().map(|component| ParametersOf(&mut component.parameters)))
    }
}

struct ParametersOf<'s, 'h>(&'s mut Parameters<'h>);

impl<'h> ParameterVisitor<'h> for ParametersOf<'_, 'h> {
    type Out = ();
    type Error = TooManyKeys;

    fn parameter(&mut self, key: &'h KeyRef, value: BareItemFromInput<'h>) -> Result<(), TooManyKeys> {
        set(self.0, key, value).map(drop)
    }

    fn finish(self) -> Result<(), TooManyKeys> {
        Ok(())
    }
}

/// Keeps the 64 bytes under one label of `signature`.
struct Labelled<'h> {
    label: &'h KeyRef,
    found: Option<[u8; 64]>,
}

impl<'h> DictionaryVisitor<'h> for Labelled<'_> {
    type Out = Option<[u8; 64]>;
    type Error = Infallible;

    fn entry(&mut self, key: &'h KeyRef) -> Result<impl EntryVisitor<'h>, Infallible> {
        Ok((key == self.label).then(|| {
            self.found = None;
            Bytes(&mut self.found)
        }))
    }

    fn finish(self) -> Result<Option<[u8; 64]>, Infallible> {
        Ok(self.found)
    }
}

struct Bytes<'s>(&'s mut Option<[u8; 64]>);

impl<'h> EntryVisitor<'h> for Bytes<'_> {
    type Error = Infallible;

    fn item(self) -> Result<impl ItemVisitor<'h>, Infallible> {
        Ok(|item: BareItemFromInput<'h>| {
            *self.0 = item.as_byte_sequence().and_then(|bytes| bytes.try_into().ok());
            Ok::<_, Infallible>(Ignored)
        })
    }

    fn inner_list(self) -> Result<impl InnerListVisitor<'h>, Infallible> {
        Ok(Ignored)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chosen(input: &str) -> Result<String, Refusal> {
        choose(parse(input)?).map(|(label, input)| {
            let mut out = format!("{label} ");
            input.write_parameters(&mut out);
            out
        })
    }

    #[test]
    fn signers_form_comes_back_unchanged() {
        let sent = r#"("@method" "x";bs "@query-param";name="a\"b");created=1700000000;keyid="did:sigilum:a";alg="ed25519";nonce="n";x;y=tok;z=:AQI=:;d=1.5"#;
        assert_eq!(chosen(&format!("sig1={sent}")).unwrap(), format!("sig1 {sent}"));
    }

    #[test]
    fn white_space_and_repeated_keys_come_out_in_canonical_form() {
        assert_eq!(
            chosen(r#"a=1, sig1=( "@method"   "x" );  b=1;keyid="did:sigilum:a"; b=2"#).unwrap(),
            r#"sig1 ("@method" "x");b=2;keyid="did:sigilum:a""#
        );
        assert_eq!(chosen(r#"s=("a");keyid="did:sigilum:a", s=("b")"#).unwrap(), r#"s ("b")"#);
    }

    #[test]
    fn only_signature_is_judged_whatever_its_keyid() {
        assert_eq!(chosen(r#"x=("a");keyid="other""#).unwrap(), r#"x ("a");keyid="other""#);
    }

    #[test]
    fn one_of_the_profile_is_found_among_others() {
        let others = r#"a=("x");keyid="other", b=1, c=(tok)"#;
        assert!(chosen(&format!(r#"{others}, s=("a");keyid="did:sigilum:a""#)).unwrap().starts_with("s "));
        assert_eq!(chosen(others).unwrap_err(), Refusal::SignatureAmbiguous { found: 3 });
        let two = r#"s=("a");keyid="did:sigilum:a", t=("a");keyid="did:sigilum:a""#;
        assert_eq!(chosen(two).unwrap_err(), Refusal::SignatureAmbiguous { found: 2 });
    }

    #[test]
    fn what_is_no_list_of_names_is_refused() {
        for input in
            ["", "s", "s=1", "s=(", "s=(tok)", "s=(1)", r#"s=("a" "#, r#"s=("a")x"#, "=", r#"S=("a")"#]
        {
            assert_eq!(chosen(input).unwrap_err(), Refusal::SignatureInputInvalid, "{input}");
        }
    }

    #[test]
    fn more_keys_than_anybody_needs_are_refused() {
        let keys = |count: usize, mark: &str| (0..count).map(|n| format!("{mark}k{n}=1")).collect::<String>();
        let with =
            |count| [format!(r#"s=("a"){}"#, keys(count, ";")), format!(r#"s=("a"{})"#, keys(count, ";"))];
        for input in with(16) {
            assert!(chosen(&input).is_ok(), "{input}");
        }
        let labels = format!(r#"s=("a");keyid="did:sigilum:a"{}"#, keys(16, ", "));
        for input in with(17).into_iter().chain([labels]) {
            assert_eq!(chosen(&input).unwrap_err(), Refusal::SignatureInputInvalid, "{input}");
        }
    }

    fn parameters() -> impl proptest::strategy::Strategy<Value = String> {
        proptest::collection::vec(
            "; {0,2}[a-d*][a-d_.0-9-]{0,3}(=(-?[0-9]{1,15}|[0-9]{1,12}\\.[0-9]{1,3}|[a-zA-Z*][a-zA-Z0-9:/!]{0,5}|\"([ !#-\\[\\]-~]|\\\\\"|\\\\\\\\){0,8}\"|:([A-Za-z0-9+/]{4}){0,3}:|\\?[01]|@[0-9]{1,9}))?",
            0..6,
        )
        .prop_map(|parameters| parameters.concat())
    }

    use proptest::prelude::*;
    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn canonical_form_is_the_one_of_the_library(
            components in proptest::collection::vec(("\"([ !#-\\[\\]-~]|\\\\\"|\\\\\\\\){0,12}\"", parameters()), 0..6),
            own in parameters(),
        ) {
            let components: String = components.iter().map(|(name, own)| format!("  {name}{own}")).collect();
            let sent = format!("s=({components} ){own}");
            let dictionary: sfv::Dictionary = Parser::new(&sent).parse().unwrap();
            let (_, input) = parse(&sent).unwrap().remove(0);
            let input = input.unwrap();
            let mut found = String::from("s=");
            input.write_parameters(&mut found);
            prop_assert_eq!(Some(found), sfv::FieldType::serialize(&dictionary));
            let names: Vec<String> = input.components.iter().map(|component| {
                let mut identifier = String::new();
                component.write_identifier(&mut identifier);
                identifier
            }).collect();
            let head = format!("s=({})", names.join(" "));
            prop_assert!(sfv::FieldType::serialize(&dictionary).unwrap().starts_with(&head));
        }
    }
}
