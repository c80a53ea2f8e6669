//! Why a command may not pass over a pairing.

use crate::names::NameError;

/// Why a command may not pass. Nothing of the command is repeated: a secret may stand anywhere in it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CommandRefusal {
    /// Its id can name no request.
    #[error("request_id: {0}")]
    RequestId(NameError),
    /// Method and path are not on the list.
    #[error(
        "a pairing relays health, connections with their rotate, test and discover, credential variables, the service \
         catalog and service API keys; this method and path are none of them"
    )]
    Route,
    /// A query other than the one that there is.
    #[error("the only query that a pairing relays is refresh=auto or refresh=force, of discover")]
    Query,
    /// A header that is not relayed, or a value that cannot be one.
    #[error(
        "a pairing relays the headers accept, content-type and x-request-id alone, each of 1 to {most} visible characters"
    )]
    Header {
        /// The greatest number of characters.
        most: usize,
    },
    /// A header of a test that may be where a credential goes.
    #[error("over a pairing a test takes no headers but {}", .known.join(", "))]
    TestHeader {
        /// Those that it takes.
        known: &'static [&'static str],
    },
    /// A body where there is none.
    #[error("this route takes no body")]
    BodyNotTaken,
    /// A body that is too large.
    #[error("the body has {found} bytes; a pairing relays at most {most}")]
    BodyTooLarge {
        /// Its bytes.
        found: usize,
        /// The most.
        most: usize,
    },
    /// A body that is no JSON object.
    #[error("the body must be a JSON object")]
    BodyInvalid,
    /// A field that the route does not take.
    #[error("the body has a field that this route does not take; the fields are {}", .known.join(", "))]
    Field {
        /// Those that it takes.
        known: &'static [&'static str],
    },
    /// A secret as it is.
    #[error(
        "{field} holds a secret that is not sealed; seal it to the gateway's sealing key, so that nothing between can read it"
    )]
    SecretNotSealed {
        /// The field.
        field: &'static str,
    },
}

impl CommandRefusal {
    /// The code that programs read.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::Route | Self::Query | Self::Header { .. } | Self::TestHeader { .. } => {
                "COMMAND_NOT_ALLOWED"
            }
            Self::BodyTooLarge { .. } => "REQUEST_BODY_TOO_LARGE",
            Self::BodyInvalid => "REQUEST_BODY_INVALID",
            Self::RequestId(_) | Self::Field { .. } | Self::BodyNotTaken => "FIELD_INVALID",
            Self::SecretNotSealed { .. } => "SECRET_NOT_SEALED",
        }
    }

    /// The status that goes with it (RFC 9110 §15).
    #[must_use]
    pub fn status(&self) -> u16 {
        match self {
            Self::Route | Self::Query | Self::Header { .. } | Self::TestHeader { .. } => 403,
            Self::BodyTooLarge { .. } => 413,
            Self::BodyInvalid | Self::RequestId(_) | Self::Field { .. } | Self::BodyNotTaken => 400,
            Self::SecretNotSealed { .. } => 422,
        }
    }
}
