//! Names of webhooks' hosts, resolved by us: every address is judged, and the connection goes to one that was judged.
//! A name that changes its address between two look-ups gains nothing by it.

use std::fmt;
use std::io;
use std::net::{SocketAddr, ToSocketAddrs as _};
use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use tokio::sync::Semaphore;
use url::{Host, Url};

use super::target::{self, TargetFault};

/// How long a look-up may take, the wait for its turn among it.
const LOOK_UP: Duration = Duration::from_secs(3);
/// Look-ups at once. One that nobody waits for any more still has its thread until the system gives up.
const AT_ONCE: usize = 32;

type LookUp = dyn Fn(String) -> BoxFuture<'static, io::Result<Vec<SocketAddr>>> + Send + Sync;

/// Resolves names, and refuses those that lead to addresses that are not public, unless these are allowed. Clones share
/// the turns.
#[derive(Clone)]
pub(crate) struct Resolver {
    look_up: Arc<LookUp>,
    private_allowed: bool,
}

impl Resolver {
    /// By the system.
    pub(crate) fn system(private_allowed: bool) -> Self {
        let look_up = bounded(|name| {
            // The port is the URL's; 0 leaves it to the HTTP client.
            (name, 0).to_socket_addrs().map(Iterator::collect)
        });
        Self { look_up: Arc::new(look_up), private_allowed }
    }

    /// By `look_up`.
    #[cfg(test)]
    pub(super) fn new<F>(private_allowed: bool, look_up: F) -> Self
    where
        F: Fn(String) -> BoxFuture<'static, io::Result<Vec<SocketAddr>>> + Send + Sync + 'static,
    {
        Self { look_up: Arc::new(look_up), private_allowed }
    }

    /// Reads and judges the URL of a webhook that is to be made. A name that has no address now is taken: it is judged
    /// again whenever something is delivered.
    ///
    /// # Errors
    /// Why it may not go there.
    pub(crate) async fn admit(&self, text: &str) -> Result<Url, TargetFault> {
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

/// Look-ups that block, on threads of their own, [`AT_ONCE`] of them.
fn bounded(
    look_up: impl Fn(&str) -> io::Result<Vec<SocketAddr>> + Send + Sync + 'static,
) -> impl Fn(String) -> BoxFuture<'static, io::Result<Vec<SocketAddr>>> + Send + Sync {
    let (look_up, turns) = (Arc::new(look_up), Arc::new(Semaphore::new(AT_ONCE)));
    move |name| {
        let (look_up, turns) = (Arc::clone(&look_up), Arc::clone(&turns));
        Box::pin(async move {
            let turn = turns.acquire_owned().await.map_err(io::Error::other)?;
            let looked_up = tokio::task::spawn_blocking(move || {
                let found = look_up(&name);
                drop(turn);
                found
            });
            looked_up.await?
        })
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
    use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

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
    async fn look_ups_that_hang_have_no_more_threads_than_turns() {
        let (running, answers) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicBool::new(false)));
        let (count, gate) = (Arc::clone(&running), Arc::clone(&answers));
        let look_up = bounded(move |_| {
            count.fetch_add(1, Ordering::SeqCst);
            while !gate.load(Ordering::SeqCst) {
                std::thread::sleep(Duration::from_millis(1));
            }
            Ok(vec!["8.8.8.8:0".parse().unwrap()])
        });
        for _ in 0..2 * AT_ONCE {
            // Whoever asks goes away; the thread does not.
            let looked_up = look_up("hangs.example.com".to_owned());
            let _ = tokio::time::timeout(Duration::from_millis(1), looked_up).await;
        }
        let late = look_up("late.example.com".to_owned());
        assert!(tokio::time::timeout(Duration::from_millis(50), late).await.is_err());
        assert!(running.load(Ordering::SeqCst) <= AT_ONCE);
        answers.store(true, Ordering::SeqCst);
        assert_eq!(look_up("again.example.com".to_owned()).await.unwrap().len(), 1);
    }

    #[tokio::test]
    async fn address_in_a_url_is_judged_without_asking_anybody() {
        let (resolver, asked) = answering(false, &[&["8.8.8.8:0"]]);
        assert!(resolver.admit("https://10.0.0.1/").await.is_err());
        assert!(resolver.admit("https://localhost/").await.is_err());
        assert_eq!(*asked.lock().unwrap(), 0);
    }
}
