//! Where a request goes at its upstream: the rest of its path and query byte for byte, and never out of the base path.

/// Why a path is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum PathFault {
    #[error("the path holds a segment `.` or `..`, plain or percent-encoded")]
    DotSegment,
    #[error("the path holds a percent-encoded control character or a broken percent-encoding")]
    Encoding,
}

/// How often a path is decoded to find what an upstream that decodes more than once would see.
const DECODED_AT_MOST: usize = 3;

/// `base` + `prefix` + `rest`; `rest` is empty or begins with `/` or `?`.
///
/// # Errors
/// When the path part of `rest` could lead out of the base path.
pub(super) fn upstream(base: &str, prefix: &str, rest: &str) -> Result<String, PathFault> {
    let path = rest.split_once('?').map_or(rest, |(path, _)| path);
    check(path)?;
    let mut target = String::with_capacity(base.len() + prefix.len() + rest.len() + 1);
    target.push_str(base);
    target.push_str(prefix);
    if target.is_empty() && !rest.starts_with('/') {
        target.push('/');
    }
    target.push_str(rest);
    Ok(target)
}

fn check(path: &str) -> Result<(), PathFault> {
    refuse_dot_segments(path.as_bytes())?;
    if !path.contains('%') {
        return Ok(());
    }
    let mut bytes = decode(path.as_bytes(), false).ok_or(PathFault::Encoding)?;
    for _ in 0..DECODED_AT_MOST {
        if bytes.iter().any(|b| b.is_ascii_control()) {
            return Err(PathFault::Encoding);
        }
        refuse_dot_segments(&bytes)?;
        // What does not decode a second time is left as it is, as lenient servers do.
        match decode(&bytes, true) {
            Some(next) if next != bytes => bytes = next,
            _ => break,
        }
    }
    Ok(())
}

/// Segments end at `/`, at `\` which some servers take for it, and what follows `;` is a segment's parameter.
fn refuse_dot_segments(path: &[u8]) -> Result<(), PathFault> {
    let dots = path.split(|b| matches!(b, b'/' | b'\\')).any(|segment| {
        let name = segment.split(|b| *b == b';').next().unwrap_or_default();
        matches!(name, b"." | b"..")
    });
    if dots { Err(PathFault::DotSegment) } else { Ok(()) }
}

/// Percent-decoding. A `%` that is not followed by two hexadecimal digits stays where `lenient`, else it is `None`.
fn decode(bytes: &[u8], lenient: bool) -> Option<Vec<u8>> {
    let digit = |at: usize| bytes.get(at).and_then(|byte| char::from(*byte).to_digit(16));
    let mut decoded = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while let Some(byte) = bytes.get(at) {
        let escape = (*byte == b'%').then(|| digit(at + 1).zip(digit(at + 2)));
        match escape {
            Some(Some((high, low))) => {
                decoded.push(u8::try_from(high * 16 + low).ok()?);
                at += 3;
            }
            Some(None) if !lenient => return None,
            _ => {
                decoded.push(*byte);
                at += 1;
            }
        }
    }
    Some(decoded)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rest_and_query_stay_byte_for_byte() {
        assert_eq!(
            upstream("/base", "/v1", "/a%20b//c?x=%2e%2e/../y").unwrap(),
            "/base/v1/a%20b//c?x=%2e%2e/../y"
        );
        assert_eq!(upstream("", "", "").unwrap(), "/");
        assert_eq!(upstream("", "", "?a=b").unwrap(), "/?a=b");
        assert_eq!(upstream("/b", "", "").unwrap(), "/b");
        assert_eq!(upstream("", "", "/a/...b/.c/d.").unwrap(), "/a/...b/.c/d.");
    }

    #[test]
    fn no_form_of_a_dot_segment_passes() {
        for rest in [
            "/../x",
            "/a/..",
            "/./a",
            "/.",
            "/%2e%2e/x",
            "/%2E./x",
            "/.%2e",
            "/a%2f..%2fb",
            "/a%2f%2e%2e",
            "/..%5cx",
            "/..\\x",
            "/..;a=b/x",
            "/%2e%2e;/x",
            "/%25zz/%252e%252e/x",
            "/%252e%252e/x",
            "/%25252e%25252e/x",
        ] {
            assert_eq!(upstream("/base", "", rest), Err(PathFault::DotSegment), "{rest}");
        }
    }

    #[test]
    fn broken_and_control_encodings_are_refused() {
        for rest in ["/%", "/%2", "/%zz", "/a%00b", "/a%0d%0ab", "/%7f"] {
            assert_eq!(upstream("", "", rest), Err(PathFault::Encoding), "{rest}");
        }
    }
}
