//! JSON bodies of the admin API.

use serde::de::DeserializeOwned;

use super::refusal::{Kind, Refusal};
use crate::json::{self, JsonFault};

/// Reads `body` as `T`.
///
/// # Errors
/// [`Kind::BodyInvalid`] with line and column where it is no JSON or names a field twice, [`Kind::FieldInvalid`] with the
/// field's path where it is no `T`.
pub(super) fn read<T: DeserializeOwned>(body: &[u8]) -> Result<T, Refusal> {
    json::read(body).map_err(|fault| {
        let kind = match fault {
            JsonFault::Syntax(_) => Kind::BodyInvalid,
            JsonFault::Field(_) => Kind::FieldInvalid,
        };
        Refusal::Told(kind, fault.to_string())
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::connections::{ConnectionPatch, NewConnection, Patch};

    fn refused<T: DeserializeOwned>(body: &str) -> String {
        match read::<T>(body.as_bytes()) {
            Err(Refusal::Told(kind, sentence)) => {
                assert!(!sentence.contains("canary"), "{sentence}");
                assert!(matches!(kind, Kind::BodyInvalid | Kind::FieldInvalid));
                sentence
            }
            _ => panic!("{body} was taken"),
        }
    }

    #[test]
    fn fault_says_where_and_what_would_be_right() {
        for (body, sentence) in [
            (r#"{"id":"a"}"#, "base_url: is needed"),
            (r#"{"id":"a","base_ulr":"x"}"#, "base_ulr: unknown field; did you mean `base_url`?"),
            (r#"{"id":7,"base_url":"x"}"#, "id: takes a text; it holds a whole number"),
            (r#"{"id":"a","base_url":null}"#, "base_url: takes a text; it holds null"),
            (
                r#"{"id":"a","base_url":"x","rotation_interval_days":"canary"}"#,
                "rotation_interval_days: takes a whole number from 0; it holds a text",
            ),
            (
                r#"{"id":"a","base_url":"x","rotation_interval_days":-1}"#,
                "rotation_interval_days: takes a whole number from 0; the value is out of range",
            ),
            (
                r#"{"id":"a","base_url":"x","mcp_tool_policy":{"allowlist":["a",3]}}"#,
                "mcp_tool_policy.allowlist[1]: takes a text; it holds a whole number",
            ),
            (r#"["canary"]"#, "the body takes an object; it holds a list"),
        ] {
            assert_eq!(refused::<NewConnection>(body), sentence, "{body}");
        }
    }

    #[test]
    fn what_is_no_json_is_refused_with_line_and_column() {
        assert!(refused::<NewConnection>("{\n  \"id\": canary }").contains("line 2 column"));
        assert!(refused::<NewConnection>("").contains("EOF"));
        assert!(refused::<NewConnection>(&"[".repeat(100_000)).contains("recursion"));
        let twice = refused::<NewConnection>(r#"{"id":"canary","id":"b","base_url":"x"}"#);
        assert!(twice.contains("the field id stands twice"), "{twice}");
    }

    #[test]
    fn secret_in_the_wrong_place_is_not_repeated() {
        for body in [
            r#"{"id":"a","base_url":"x","secrets":"sk-canary"}"#,
            r#"{"id":"a","base_url":"x","secrets":["sk-canary"]}"#,
            r#"{"id":"a","base_url":"x","secrets":{"k":{"sk-canary":1}}}"#,
            r#"{"id":"a","base_url":"x","secrets":{"k":["sk-canary"]}}"#,
            r#"{"id":"a","base_url":"x","Bearer sk/canary":1}"#,
            r#"{"id":"a","base_url":"x","secrets":{"k":{"sealed":{"v":"sk-canary"}}}}"#,
        ] {
            refused::<NewConnection>(body);
        }
    }

    #[test]
    fn absent_and_null_are_told_apart_in_a_change() {
        let patch: ConnectionPatch = read(br#"{"name":null,"path_prefix":"/v1"}"#).unwrap();
        assert_eq!(patch.name, Patch::Reset);
        assert_eq!(patch.path_prefix, Patch::Set("/v1".to_owned()));
        assert_eq!(patch.status, Patch::Keep);
    }
}
