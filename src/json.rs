//! JSON read strictly, with faults that say where and what would be right, and that never repeat what was sent: a value
//! in the wrong place may be a secret. Pure.

use std::collections::{BTreeMap, btree_map};
use std::fmt::{self, Display};

use serde::de::value::StrDeserializer;
use serde::de::{
    self, Deserialize, DeserializeOwned, DeserializeSeed, Deserializer, Expected, MapAccess, SeqAccess,
    Unexpected, Visitor,
};
use serde::forward_to_deserialize_any;
use zeroize::Zeroizing;

/// Why a body is not what was asked for. The sentences hold nothing of its values.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum JsonFault {
    /// It is no JSON, or names a field twice; with line and column.
    #[error("the body is no JSON: {0}")]
    Syntax(String),
    /// A field cannot be what it is, is missing, or is not known; it begins with the field's path.
    #[error("{0}")]
    Field(String),
}

/// Reads `body` as `T`.
///
/// # Errors
/// [`JsonFault::Syntax`] with line and column where it is no JSON or names a field twice, [`JsonFault::Field`] with the
/// field's path where it is no `T`.
pub fn read<T: DeserializeOwned>(body: &[u8]) -> Result<T, JsonFault> {
    // The tree's own sentences hold nothing that was sent, and serde_json's of syntax hold nothing either.
    let tree: Tree = serde_json::from_slice(body).map_err(|fault| JsonFault::Syntax(fault.to_string()))?;
    T::deserialize(tree).map_err(|Fault { path, problem }| {
        JsonFault::Field(if path.is_empty() {
            format!("the body {problem}")
        } else {
            format!("{path}: {problem}")
        })
    })
}

/// A JSON document. Its texts are zeroized unless they are taken out.
enum Tree {
    Null,
    Bool(bool),
    Unsigned(u64),
    Signed(i64),
    Float(f64),
    Text(Zeroizing<String>),
    List(Vec<Tree>),
    Map(BTreeMap<String, Tree>),
}

impl<'de> Deserialize<'de> for Tree {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(TreeVisitor)
    }
}

struct TreeVisitor;

impl<'de> Visitor<'de> for TreeVisitor {
    type Value = Tree;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E>(self) -> Result<Tree, E> {
        Ok(Tree::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Tree, E> {
        Ok(Tree::Bool(value))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Tree, E> {
        Ok(Tree::Unsigned(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Tree, E> {
        Ok(Tree::Signed(value))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Tree, E> {
        Ok(Tree::Float(value))
    }

    fn visit_str<E>(self, text: &str) -> Result<Tree, E> {
        Ok(Tree::Text(Zeroizing::new(text.to_owned())))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Tree, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = list.next_element()? {
            items.push(item);
        }
        Ok(Tree::List(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Tree, A::Error> {
        let mut fields = BTreeMap::new();
        while let Some((name, value)) = map.next_entry::<String, Tree>()? {
            // Two readers could take different ones of the two.
            if fields.contains_key(&name) {
                return Err(de::Error::custom(format_args!("the field {} stands twice", shown(&name))));
            }
            fields.insert(name, value);
        }
        Ok(Tree::Map(fields))
    }
}

impl<'de> Deserializer<'de> for Tree {
    type Error = Fault;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        match self {
            Self::Null => visitor.visit_unit(),
            Self::Bool(value) => visitor.visit_bool(value),
            Self::Unsigned(value) => visitor.visit_u64(value),
            Self::Signed(value) => visitor.visit_i64(value),
            Self::Float(value) => visitor.visit_f64(value),
            Self::Text(mut text) => visitor.visit_string(std::mem::take(&mut *text)),
            Self::List(items) => visitor.visit_seq(Items { items: items.into_iter(), next: 0 }),
            Self::Map(fields) => visitor.visit_map(Fields { fields: fields.into_iter(), value: None }),
        }
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        match self {
            Self::Null => visitor.visit_none(),
            some => visitor.visit_some(some),
        }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, Fault> {
        visitor.visit_newtype_struct(self)
    }

    /// Of a struct, a list in the order of its fields would be taken too; nobody who writes JSON means that.
    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Fault> {
        match self {
            Self::List(_) => Err(de::Error::invalid_type(Unexpected::Seq, &visitor)),
            other => other.deserialize_any(visitor),
        }
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf unit unit_struct seq tuple
        tuple_struct map enum identifier ignored_any
    }
}

struct Items {
    items: std::vec::IntoIter<Tree>,
    next: usize,
}

impl<'de> SeqAccess<'de> for Items {
    type Error = Fault;

    fn next_element_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<Option<S::Value>, Fault> {
        let Some(item) = self.items.next() else { return Ok(None) };
        let index = self.next;
        self.next += 1;
        seed.deserialize(item).map(Some).map_err(|fault| fault.under(&format!("[{index}]")))
    }
}

struct Fields {
    fields: btree_map::IntoIter<String, Tree>,
    value: Option<(String, Tree)>,
}

impl<'de> MapAccess<'de> for Fields {
    type Error = Fault;

    fn next_key_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<Option<S::Value>, Fault> {
        let Some((name, value)) = self.fields.next() else { return Ok(None) };
        let key = seed.deserialize(StrDeserializer::<Fault>::new(&name))?;
        self.value = Some((name, value));
        Ok(Some(key))
    }

    fn next_value_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<S::Value, Fault> {
        let (name, value) =
            self.value.take().ok_or_else(|| de::Error::custom("has a field without a value"))?;
        seed.deserialize(value).map_err(|fault| fault.under(shown(&name)))
    }
}

/// What is wrong, and where.
#[derive(Debug, PartialEq, Eq)]
struct Fault {
    path: String,
    problem: String,
}

impl Fault {
    fn new(problem: String) -> Self {
        Self { path: String::new(), problem }
    }

    fn under(self, name: &str) -> Self {
        let dot = if self.path.is_empty() || self.path.starts_with('[') { "" } else { "." };
        Self { path: format!("{name}{dot}{}", self.path), ..self }
    }
}

impl Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.path, self.problem)
    }
}

impl std::error::Error for Fault {}

impl de::Error for Fault {
    fn custom<T: Display>(sentence: T) -> Self {
        Self::new(sentence.to_string())
    }

    fn invalid_type(found: Unexpected<'_>, expected: &dyn Expected) -> Self {
        Self::new(format!("takes {}; it holds {}", takes(expected), kind(&found)))
    }

    fn invalid_value(_: Unexpected<'_>, expected: &dyn Expected) -> Self {
        Self::new(format!("takes {}; the value is out of range", takes(expected)))
    }

    fn missing_field(field: &'static str) -> Self {
        Self { path: field.to_owned(), problem: "is needed".to_owned() }
    }

    fn unknown_field(field: &str, expected: &'static [&'static str]) -> Self {
        let hint = match nearest(field, expected) {
            Some(near) => format!("did you mean `{near}`?"),
            None => format!("the fields are {}", expected.join(", ")),
        };
        Self { path: shown(field).to_owned(), problem: format!("unknown field; {hint}") }
    }
}

/// A field's name as it may be repeated: one that looks like a name.
fn shown(name: &str) -> &str {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.');
    if (1..=64).contains(&name.len()) && name.chars().all(plain) { name } else { "(a name not shown)" }
}

fn takes(expected: &dyn Expected) -> String {
    let text = expected.to_string();
    let plain = match text.as_str() {
        "a string" | "a borrowed string" => "a text",
        "a sequence" => "a list",
        "a boolean" => "true or false",
        "u16" | "u32" | "u64" | "usize" => "a whole number from 0",
        other if other == "a map" || other.starts_with("struct ") => "an object",
        other => other,
    };
    plain.to_owned()
}

fn kind(found: &Unexpected<'_>) -> &'static str {
    match found {
        Unexpected::Bool(_) => "true or false",
        Unexpected::Unsigned(_) | Unexpected::Signed(_) => "a whole number",
        Unexpected::Float(_) => "a number with a fraction",
        Unexpected::Str(_) | Unexpected::Char(_) => "a text",
        Unexpected::Unit | Unexpected::Option => "null",
        Unexpected::Seq => "a list",
        Unexpected::Map => "an object",
        _ => "something else",
    }
}

/// The known name nearest to `wrong`, where one is near enough to have been meant.
#[must_use]
pub fn nearest(wrong: &str, known: &[&'static str]) -> Option<&'static str> {
    if wrong.len() > 64 {
        return None;
    }
    known
        .iter()
        .map(|name| (strsim::damerau_levenshtein(wrong, name), *name))
        .filter(|(distance, name)| *distance <= name.len().max(wrong.len()) / 3 + 1 && *distance < name.len())
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, name)| name)
}
