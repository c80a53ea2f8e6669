//! Where requests go: the gateway's base URL, an optional prefix, and the path and query that came in.

use url::Url;

/// A gateway's base URL with the prefix that every path is put under.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    gateway: Url,
    /// Scheme, host, base path and prefix, without a slash at the end.
    base: String,
}

/// Why there is no such target.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TargetFault {
    /// Not an absolute URL.
    #[error("{0:?} is not a URL; write it as http://127.0.0.1:38100")]
    Url(String),
    /// Another scheme.
    #[error("the gateway's URL begins with http:// or https://, not with {0}:")]
    Scheme(String),
    /// A part that a base URL may not have.
    #[error("the gateway's URL has no {0}; leave it out")]
    Part(&'static str),
    /// The prefix does not begin with a slash, or holds more than a path.
    #[error("{0:?} is not a path prefix; write it as /proxy/openai")]
    Prefix(String),
    /// A path that leads out of the base, or that no request can carry.
    #[error(
        "the path cannot be sent as it is: it needs a leading slash and neither dot segments nor backslashes"
    )]
    Path,
}

impl Target {
    /// From the gateway's base URL and an optional prefix such as `/proxy/openai`.
    ///
    /// # Errors
    /// Which of the two is wrong, and how it is written.
    pub fn new(gateway: &str, prefix: Option<&str>) -> Result<Self, TargetFault> {
        let url = Url::parse(gateway).map_err(|_| TargetFault::Url(gateway.to_owned()))?;
        if !matches!(url.scheme(), "http" | "https") {
            return Err(TargetFault::Scheme(url.scheme().to_owned()));
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err(TargetFault::Part("user or password"));
        }
        if url.query().is_some() {
            return Err(TargetFault::Part("query"));
        }
        if url.fragment().is_some() {
            return Err(TargetFault::Part("fragment"));
        }
        let base = url.as_str().trim_end_matches('/');
        let prefix = prefix.unwrap_or_default().trim_end_matches('/');
        let fits = prefix.is_empty() || (prefix.starts_with('/') && !leads_out(prefix));
        if !fits || prefix.contains(['?', '#']) || prefix.contains(char::is_whitespace) {
            return Err(TargetFault::Prefix(prefix.to_owned()));
        }
        let base = format!("{base}{prefix}");
        Ok(Self { gateway: url, base })
    }

    /// The gateway's base URL.
    #[must_use]
    pub fn gateway(&self) -> &Url {
        &self.gateway
    }

    /// The URL for a request to `path_and_query`. Its text is what is sent and what is signed.
    ///
    /// # Errors
    /// When the path would leave the base, or cannot be sent.
    pub fn url(&self, path_and_query: &str) -> Result<Url, TargetFault> {
        let path = path_and_query.split('?').next().unwrap_or_default();
        if !path.starts_with('/') || leads_out(path) {
            return Err(TargetFault::Path);
        }
        let url = Url::parse(&format!("{}{path_and_query}", self.base)).map_err(|_| TargetFault::Path)?;
        // What the client will make of it: a text that it cannot send must not be signed.
        url.as_str().parse::<http::Uri>().map_err(|_| TargetFault::Path)?;
        Ok(url)
    }
}

/// Whether a segment is `.` or `..`, also percent-encoded, or a backslash stands for a slash.
fn leads_out(path: &str) -> bool {
    path.contains('\\')
        || path.split('/').any(|segment| {
            let plain = segment.to_ascii_lowercase().replace("%2e", ".");
            plain == "." || plain == ".."
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn path_and_query_are_kept_byte_for_byte() {
        let target = Target::new("http://127.0.0.1:38100/", None).unwrap();
        for path in
            ["/", "/proxy/openai/v1/chat", "//double", "/a%2Fb/%7e?x=1&y=%20&x=2", "/x?", "/a;b=c|d/~e"]
        {
            assert_eq!(target.url(path).unwrap().as_str(), format!("http://127.0.0.1:38100{path}"));
        }
    }

    #[test]
    fn base_path_and_prefix_stand_before_the_path() {
        let target = Target::new("https://gw.example/base/", Some("/proxy/openai/")).unwrap();
        assert_eq!(target.url("/v1?a").unwrap().as_str(), "https://gw.example/base/proxy/openai/v1?a");
    }

    #[test]
    fn path_that_leaves_the_base_is_refused() {
        let target = Target::new("http://gw.example", Some("/proxy/openai")).unwrap();
        for path in ["/../admin", "/v1/%2E%2e/x", "/.", "/a\\..\\b", "*", "", "?x"] {
            assert_eq!(target.url(path), Err(TargetFault::Path), "{path}");
        }
    }

    #[test]
    fn base_url_with_more_than_a_base_is_refused() {
        assert_eq!(Target::new("gateway", None), Err(TargetFault::Url("gateway".into())));
        assert_eq!(Target::new("ftp://x", None), Err(TargetFault::Scheme("ftp".into())));
        assert_eq!(Target::new("http://u:p@x", None), Err(TargetFault::Part("user or password")));
        assert_eq!(Target::new("http://x/?a", None), Err(TargetFault::Part("query")));
        for prefix in ["proxy", "/a?b", "/../a", "/a b"] {
            assert_eq!(Target::new("http://x", Some(prefix)), Err(TargetFault::Prefix(prefix.into())));
        }
    }
}
