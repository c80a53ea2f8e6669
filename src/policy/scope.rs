//! What a claim allows on its service: `*`, `<METHOD|*> <path pattern>`, `tool:<name pattern>`.

use std::fmt;
use std::str::FromStr;

/// One scope of a claim.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Scope {
    /// Everything on the service.
    Everything,
    /// Requests whose method and upstream path match.
    Request {
        /// The method; `None` for any.
        method: Option<String>,
        /// The pattern over the upstream path.
        path: PathPattern,
    },
    /// MCP tools whose name matches: `*` stands for any characters.
    Tool(String),
}

/// A pattern over a path: `*` within a segment, `**` across segments.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PathPattern(Vec<String>);

/// Why a text is not a scope. The sentences do not repeat it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ScopeFault {
    /// None of the three forms.
    #[error("a scope is \"*\", \"<METHOD or *> /path/pattern\" or \"tool:<name pattern>\"")]
    Form,
    /// The method is not in upper case.
    #[error("a scope begins with a method in upper case, such as GET, or with *")]
    Method,
    /// The path pattern does not begin with a slash.
    #[error("a scope's path pattern begins with a slash")]
    Path,
}

impl FromStr for Scope {
    type Err = ScopeFault;

    fn from_str(text: &str) -> Result<Self, ScopeFault> {
        if text == "*" {
            return Ok(Self::Everything);
        }
        if let Some(tool) = text.strip_prefix("tool:") {
            let named = !tool.is_empty() && tool.chars().all(|c| c.is_ascii_graphic());
            return if named { Ok(Self::Tool(tool.to_owned())) } else { Err(ScopeFault::Form) };
        }
        let (method, path) = text.split_once(' ').ok_or(ScopeFault::Form)?;
        let method = match method {
            "*" => None,
            name if !name.is_empty() && name.bytes().all(|b| b.is_ascii_uppercase() || b == b'-') => {
                Some(name.to_owned())
            }
            _ => return Err(ScopeFault::Method),
        };
        let path = path.strip_prefix('/').ok_or(ScopeFault::Path)?;
        Ok(Self::Request { method, path: PathPattern(segments(path).map(str::to_owned).collect()) })
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Everything => f.write_str("*"),
            Self::Request { method, path } => {
                write!(f, "{} /{}", method.as_deref().unwrap_or("*"), path.0.join("/"))
            }
            Self::Tool(name) => write!(f, "tool:{name}"),
        }
    }
}

impl PathPattern {
    fn matches(&self, path: &str) -> bool {
        let segments: Vec<&str> = segments(path.strip_prefix('/').unwrap_or(path)).collect();
        segments_match(&self.0, &segments)
    }
}

/// An encoded slash ends a segment too: many upstreams decode it, and `*` must not cross it.
fn segments(path: &str) -> impl Iterator<Item = &str> {
    path.split('/').flat_map(|part| part.split("%2F")).flat_map(|part| part.split("%2f"))
}

/// `**` takes any number of segments, also none. Greedy with one point to go back to, so the time is
/// bounded by the product of both lengths.
fn segments_match(pattern: &[String], segments: &[&str]) -> bool {
    wildcard(
        pattern.len(),
        segments.len(),
        |p| pattern.get(p).is_some_and(|s| s == "**"),
        |p, s| matches!((pattern.get(p), segments.get(s)), (Some(p), Some(s)) if text_matches(p, s)),
    )
}

fn text_matches(pattern: &str, text: &str) -> bool {
    let (pattern, text) = (pattern.as_bytes(), text.as_bytes());
    wildcard(
        pattern.len(),
        text.len(),
        |p| pattern.get(p) == Some(&b'*'),
        |p, t| pattern.get(p) == text.get(t),
    )
}

/// Matching with a star over anything that can be compared position by position.
fn wildcard(
    pattern_len: usize,
    text_len: usize,
    is_star: impl Fn(usize) -> bool,
    same: impl Fn(usize, usize) -> bool,
) -> bool {
    let (mut p, mut t) = (0, 0);
    let mut back: Option<(usize, usize)> = None;
    while t < text_len {
        if p < pattern_len && is_star(p) {
            back = Some((p, t));
            p += 1;
        } else if p < pattern_len && same(p, t) {
            p += 1;
            t += 1;
        } else if let Some((star, taken)) = back {
            back = Some((star, taken + 1));
            p = star + 1;
            t = taken + 1;
        } else {
            return false;
        }
    }
    (p..pattern_len).all(is_star)
}

/// The scopes of a claim; none means everything on the service.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Scopes(Vec<Scope>);

impl Scopes {
    /// From scopes as they stand in a claim.
    #[must_use]
    pub fn new(scopes: Vec<Scope>) -> Self {
        Self(scopes)
    }

    /// Whether a request with this method to this upstream path (without query) is covered.
    #[must_use]
    pub fn cover(&self, method: &str, upstream_path: &str) -> bool {
        self.0.is_empty()
            || self.0.iter().any(|scope| match scope {
                Scope::Everything => true,
                Scope::Request { method: only, path } => {
                    only.as_deref().is_none_or(|only| only == method) && path.matches(upstream_path)
                }
                Scope::Tool(_) => false,
            })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn covers(scope: &str, method: &str, path: &str) -> bool {
        Scopes::new(vec![scope.parse().unwrap()]).cover(method, path)
    }

    #[test]
    fn star_stays_in_its_segment_and_two_stars_cross() {
        assert!(covers("GET /v1/models", "GET", "/v1/models"));
        assert!(!covers("GET /v1/models", "POST", "/v1/models"));
        assert!(!covers("GET /v1/models", "GET", "/v1/models/x"));
        assert!(covers("* /v1/*/x", "PUT", "/v1/a/x"));
        assert!(!covers("* /v1/*/x", "PUT", "/v1/a/b/x"));
        assert!(covers("POST /v1/chat/**", "POST", "/v1/chat/completions"));
        assert!(covers("POST /v1/chat/**", "POST", "/v1/chat"));
        assert!(covers("POST /**/end", "POST", "/a/b/end"));
        assert!(covers("GET /v1/mod*s", "GET", "/v1/models"));
        assert!(!covers("POST /v1/chat/**", "POST", "/v1/chats"));
        assert!(!covers("GET /v1/*/x", "GET", "/v1/a%2fb/x"));
        assert!(covers("GET /p/a%2Fb/x", "GET", "/p/a%2fb/x"));
    }

    #[test]
    fn no_scope_is_everything_and_a_tool_scope_covers_no_request() {
        assert!(Scopes::default().cover("GET", "/x"));
        assert!(covers("*", "GET", "/x"));
        assert!(!covers("tool:*", "GET", "/x"));
    }

    #[test]
    fn many_stars_take_no_time_that_matters() {
        let scope = format!("GET /{}b", "a*".repeat(200));
        assert!(!covers(&scope, "GET", &format!("/{}", "a".repeat(2_000))));
    }

    #[test]
    fn refusals_say_what_a_scope_is() {
        for wrong in ["", "GET", "get /x", "GET x", "tool:", "tool:a b"] {
            assert!(wrong.parse::<Scope>().is_err(), "{wrong:?} was taken");
        }
        for right in ["*", "GET /v1/models", "* /**", "tool:repo_*"] {
            assert_eq!(right.parse::<Scope>().unwrap().to_string(), right);
        }
    }
}
