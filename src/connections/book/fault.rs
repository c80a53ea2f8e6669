//! What goes wrong with the book, in sentences for the one who asked.

use crate::connections::CatalogFault;
use crate::names::{ConnectionId, SecretName};
use crate::protocol::sealed::OpenFault;
use crate::secret::SecretFault;
use crate::vault::VaultFault;

/// Why the book does not do what it is asked to. No variant holds a secret.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BookFault {
    /// There is nowhere to keep it.
    #[error(
        "this gateway has no vault, so it keeps nothing; set vault.master_key, such as env:GATEWAY_MASTER_KEY"
    )]
    NoVault,
    /// The id is taken. 409.
    #[error("the connection {0} is there already; change it with PATCH, or choose another id")]
    Exists(ConnectionId),
    /// There is no such connection. 404.
    #[error("there is no connection {0}")]
    NotFound(ConnectionId),
    /// The YAML's connections are read-only. 409.
    #[error("the connection {0} stands in the configuration file; change it there")]
    ReadOnly(ConnectionId),
    /// A field that cannot be what it is. 400.
    #[error("{field}: {problem}")]
    Invalid {
        /// The field, as the API names it.
        field: String,
        /// What is wrong, and what would be right.
        problem: String,
    },
    /// A secret that cannot be one. 400.
    #[error("secrets.{name}: {fault}")]
    Secret {
        /// Its name.
        name: SecretName,
        /// What is wrong with it.
        fault: SecretFault,
    },
    /// A sealed secret that does not open. 400.
    #[error("{name}: {fault}")]
    Sealed {
        /// The secret's name.
        name: String,
        /// Why.
        fault: OpenFault,
    },
    /// Over a pairing, a secret that is not sealed. 422.
    #[error("{0}: over a pairing a secret is taken sealed to the gateway's sealing key alone")]
    NotSealed(SecretName),
    /// Over a pairing, a secret that refers to a variable. 403.
    #[error(
        "{0}: over a pairing a secret cannot refer to a credential variable; seal the secret itself, or refer to the \
         variable by the gateway's own admin API"
    )]
    Reference(SecretName),
    /// Over a pairing, a sealed secret that was taken before. 409.
    #[error(
        "{0}: this sealed secret was taken over a pairing before, and is taken once; seal the secret anew"
    )]
    SealedAgain(SecretName),
    /// Over a pairing, another way for secrets that are kept. 409.
    #[error(
        "the change would send secrets that the connection keeps another way; over a pairing, set each anew in the same \
         request, sealed, or remove it with null: {}", .0.join(", ")
    )]
    NeededAnew(Vec<String>),
    /// A sealed secret came, and the book was not told for which gateway it is. 409.
    #[error(
        "this gateway has no id, so no secret can be sealed to it; set identity.namespace, or send the secret as it is"
    )]
    NoGatewayId,
    /// There is no such variable. 404.
    #[error("there is no credential variable {0}")]
    NoVariable(String),
    /// Connections refer to the variable. 409.
    #[error("the credential variable {key} is referred to by {}; set their secrets anew first", .by.join(", "))]
    VariableReferenced {
        /// The variable.
        key: String,
        /// The connections.
        by: Vec<String>,
    },
    /// A catalog that cannot be one. 400.
    #[error(transparent)]
    Catalog(#[from] CatalogFault),
    /// The book is full. 409.
    #[error("this gateway keeps at most {most} {what}")]
    TooMany {
        /// Of what.
        what: &'static str,
        /// How many.
        most: usize,
    },
    /// The vault takes no write: `NoSpace` is 507, `Busy` 503, most others 500.
    #[error(transparent)]
    Vault(#[from] VaultFault),
    /// The system gives no random bytes. 500.
    #[error("the system gives no random bytes")]
    NoRandom,
}
