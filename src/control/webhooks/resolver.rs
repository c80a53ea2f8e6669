//! Names of webhooks' hosts, resolved by us: every address is judged, and the connection goes to one that was judged.
//! A name that changes its address between two look-ups gains nothing by it.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use url::{Host, Url};

use super::target::{self, TargetFault};

/// How long a look-up may take.
const LOOK_UP: Duration = Duration::from_secs(3);

type LookUp = dyn Fn(String) -> BoxFuture<'static, io::Result<Vec<SocketAddr>>> + Send + Sync;

/// Resolves names, and refuses those that lead to addresses that are not public, unless these are allowed.
#[derive(Clone)]
pub(super) struct Resolver {
    look_up: Arc<LookUp>,
    private_allowed: bool,
}

impl Resolver {
    /// By the system.
    pub(super) fn system(private_allowed: bool) -> Self {
        Self::new(private_allowed, |name| {
            // The port is the URL's; 0 leaves it to the HTTP client.
            Box::pin(async move { Ok(tokio::net::lookup_host((name, 0)).await?.collect()) })
        })
    }

    /// By `look_up`.
    pub(super) fn new<F>(private_allowed: bool, look_up: F) -> Self
    where
        F: Fn(String) -> BoxFuture<'static, io::Result<Vec<SocketAddr>>> + Send + Sync + 'static,
    {
        Self { look_up: Arc::new(look_up), private_allowed }
    }

    /// Reads and judges the URL of a webhook that is to be made. A name that has no address now is taken: it is judged
    /// again whenever something is delivered.
    pub(super) async fn admit(&self, text: &str) -> Result<Url, TargetFault> {
        let url = target::read(text, self.private_allowed)?;
        if let Some(Host::Domain(name)) = url.host() {
            match self.addresses(name).await {
                Ok(_) | Err(TargetFault::Unresolved(_)) => {}
                Err(fault) => return Err(fault),
            }
        }
        Ok(url)
    }

    /// The addresses of a name, all of them judged. One bad address is enough: a name that has it among others is not
    /// to be trusted with a choice.
    async fn addresses(&self, name: &str) -> Result<Vec<SocketAddr>, TargetFault> {
        let found = tokio::time::timeout(LOOK_UP, (self.look_up)(name.to_owned())).await;
        let addresses = match found {
            Ok(Ok(addresses)) if !addresses.is_empty() => addresses,
            _ => return Err(TargetFault::Unresolved(name.to_owned())),
        };
        if self.private_allowed || addresses.iter().all(|address| target::is_public(address.ip())) {
            Ok(addresses)
        } else {
            Err(TargetFault::LeadsToPrivate(name.to_owned()))
        }
    }
}

impl Resolve for Resolver {
    fn resolve(&self, name: Name) -> Resolving {
        let resolver = self.clone();
        Box::pin(async move {
            let addresses = resolver.addresses(name.as_str()).await?;
            let addresses: Addrs = Box::new(addresses.into_iter());
            Ok(addresses)
        })
    }
}

impl fmt::Debug for Resolver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Resolver").field("private_allowed", &self.private_allowed).finish_non_exhaustive()
    }
}

#[cfg(test)]
pub(super) mod tests {
    use std::sync::Mutex;

    use super::*;

    /// Gives one answer after another, the last one again and again, and counts how often it was asked.
    pub(crate) fn answering(private_allowed: bool, answers: &[&[&str]]) -> (Resolver, Arc<Mutex<usize>>) {
        let answers: Vec<Vec<SocketAddr>> = answers
            .iter()
            .map(|answer| answer.iter().map(|address| address.parse().unwrap()).collect())
            .collect();
        let asked = Arc::new(Mutex::new(0));
        let count = Arc::clone(&asked);
        let resolver = Resolver::new(private_allowed, move |_| {
            let mut count = count.lock().unwrap();
            let answer = answers[(*count).min(answers.len() - 1)].clone();
            *count += 1;
            Box::pin(async move { Ok(answer) })
        });
        (resolver, asked)
    }

    #[tokio::test]
    async fn name_with_a_private_address_among_others_is_refused() {
        for addresses in [
            ["8.8.8.8:0", "10.0.0.1:0"],
            ["169.254.169.254:0", "8.8.8.8:0"],
            ["8.8.8.8:0", "[::ffff:127.0.0.1]:0"],
            ["8.8.8.8:0", "[fd00::1]:0"],
        ] {
            let (resolver, _) = answering(false, &[&addresses]);
            let found = resolver.admit("https://hooks.example.com/").await;
            assert_eq!(found.unwrap_err(), TargetFault::LeadsToPrivate("hooks.example.com".to_owned()));
            let (resolver, _) = answering(true, &[&addresses]);
            assert!(resolver.admit("https://hooks.example.com/").await.is_ok());
        }
    }

    #[tokio::test]
    async fn name_without_an_address_is_taken_at_registration_and_refused_at_delivery() {
        let (resolver, _) = answering(false, &[&[]]);
        assert!(resolver.admit("https://not-yet.example.com/").await.is_ok());
        let found = resolver.resolve("not-yet.example.com".parse().unwrap()).await;
        assert_eq!(found.err().unwrap().to_string(), "not-yet.example.com cannot be resolved");
    }

    #[tokio::test]
    async fn address_in_a_url_is_judged_without_asking_anybody() {
        let (resolver, asked) = answering(false, &[&["8.8.8.8:0"]]);
        assert!(resolver.admit("https://10.0.0.1/").await.is_err());
        assert!(resolver.admit("https://localhost/").await.is_err());
        assert_eq!(*asked.lock().unwrap(), 0);
    }
}
