//! Names of webhooks' hosts, resolved by us: every address is judged, and the connection goes to one that was judged.
//! A name that changes its address between two look-ups gains nothing by it.

use std::fmt;
use std::io;
use std::net::{SocketAddr, ToSocketAddrs as _};
use std::sync::Arc;
use std::time::Duration;

use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use tokio::sync::Semaphore;
use url::{Host, Url};

use super::target::{self, TargetFault};
use crate::control::places::{Place, Places};
use crate::names::Namespace;

/// How long a look-up may take.
const LOOK_UP: Duration = Duration::from_secs(3);
/// How long its turn is waited for.
const TURN: Duration = Duration::from_secs(1);
/// Look-ups at once. One that nobody waits for any more still has its thread until the system gives up.
const AT_ONCE: usize = 32;
/// Of these, those for webhooks that are to be made; and of one owner. The rest is for deliveries.
const AT_REGISTRATION: usize = 16;
const AT_REGISTRATION_OF_OWNER: usize = 4;

/// Blocks.
type LookUp = dyn Fn(&str) -> io::Result<Vec<SocketAddr>> + Send + Sync;

/// Resolves names, and refuses those that lead to addresses that are not public, unless these are allowed. Clones share
/// the turns.
#[derive(Clone)]
pub(crate) struct Resolver {
    look_up: Arc<LookUp>,
    turns: Arc<Semaphore>,
    registrations: Arc<Places>,
    private_allowed: bool,
}

impl Resolver {
    /// By the system.
    pub(crate) fn system(private_allowed: bool) -> Self {
        // The port is the URL's; 0 leaves it to the HTTP client.
        Self::new(private_allowed, |name| (name, 0).to_socket_addrs().map(Iterator::collect))
    }

    /// By `look_up`, which may block: it has a thread of its own.
    pub(super) fn new<F>(private_allowed: bool, look_up: F) -> Self
    where
        F: Fn(&str) -> io::Result<Vec<SocketAddr>> + Send + Sync + 'static,
    {
        Self {
            look_up: Arc::new(look_up),
            turns: Arc::new(Semaphore::new(AT_ONCE)),
            registrations: Places::new(AT_REGISTRATION, AT_REGISTRATION_OF_OWNER),
            private_allowed,
        }
    }

    /// Reads and judges the URL of a webhook that this owner is to have. A name that has no address now is taken: it is
    /// judged again whenever something is delivered.
    ///
    /// # Errors
    /// Why it may not go there, or that it was not looked at.
    pub(crate) async fn admit(&self, text: &str, owner: &Namespace) -> Result<Url, TargetFault> {
        let url = target::read(text, self.private_allowed)?;
        if let Some(Host::Domain(name)) = url.host() {
            let place = self.registrations.take(owner).ok_or_else(|| TargetFault::NoTurn(name.to_owned()))?;
            match self.addresses(name, Some(place)).await {
                Ok(_) | Err(TargetFault::Unresolved(_)) => {}
                Err(fault) => return Err(fault),
            }
        }
        Ok(url)
    }

    /// The addresses of a name, all of them judged. One bad address is enough: a name that has it among others is not
    /// to be trusted with a choice. The place is held as long as the thread.
    async fn addresses(&self, name: &str, place: Option<Place>) -> Result<Vec<SocketAddr>, TargetFault> {
        let turn = tokio::time::timeout(TURN, Arc::clone(&self.turns).acquire_owned()).await;
        let Ok(Ok(turn)) = turn else { return Err(TargetFault::NoTurn(name.to_owned())) };
        let (look_up, asked) = (Arc::clone(&self.look_up), name.to_owned());
        let found = tokio::task::spawn_blocking(move || {
            let found = look_up(&asked);
            drop((turn, place));
            found
        });
        let addresses = match tokio::time::timeout(LOOK_UP, found).await {
            Ok(Ok(Ok(addresses))) if !addresses.is_empty() => addresses,
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
            let addresses = resolver.addresses(name.as_str(), None).await?;
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
            Ok(answer)
        });
        (resolver, asked)
    }

    /// Every turn is another's.
    pub(crate) fn without_turns() -> Resolver {
        let (resolver, _) = answering(true, &[&["127.0.0.1:0"]]);
        Resolver { turns: Arc::new(Semaphore::new(0)), ..resolver }
    }

    fn acme() -> Namespace {
        "acme".parse().unwrap()
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
            let found = resolver.admit("https://hooks.example.com/", &acme()).await;
            assert_eq!(found.unwrap_err(), TargetFault::LeadsToPrivate("hooks.example.com".to_owned()));
            let (resolver, _) = answering(true, &[&addresses]);
            assert!(resolver.admit("https://hooks.example.com/", &acme()).await.is_ok());
        }
    }

    #[tokio::test]
    async fn name_without_an_address_is_taken_at_registration_and_refused_at_delivery() {
        let (resolver, _) = answering(false, &[&[]]);
        assert!(resolver.admit("https://not-yet.example.com/", &acme()).await.is_ok());
        let found = resolver.resolve("not-yet.example.com".parse().unwrap()).await;
        assert_eq!(found.err().unwrap().to_string(), "not-yet.example.com cannot be resolved");
    }

    /// Look-ups hang until `answers` holds `true`; also how many do.
    fn hanging() -> (Resolver, Arc<AtomicUsize>, Arc<AtomicBool>) {
        let (running, answers) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicBool::new(false)));
        let (count, gate) = (Arc::clone(&running), Arc::clone(&answers));
        let resolver = Resolver::new(false, move |_| {
            count.fetch_add(1, Ordering::SeqCst);
            while !gate.load(Ordering::SeqCst) {
                std::thread::sleep(Duration::from_millis(1));
            }
            Ok(vec!["8.8.8.8:0".parse().unwrap()])
        });
        (resolver, running, answers)
    }

    #[tokio::test]
    async fn look_ups_that_hang_have_no_more_threads_than_turns_and_others_are_told_that_there_is_none() {
        let (resolver, running, answers) = hanging();
        for _ in 0..2 * AT_ONCE {
            // Whoever asks goes away; the thread does not.
            let looked_up = resolver.addresses("hangs.example.com", None);
            let _ = tokio::time::timeout(Duration::from_millis(1), looked_up).await;
        }
        let late = resolver.addresses("late.example.com", None).await;
        assert_eq!(late.unwrap_err(), TargetFault::NoTurn("late.example.com".to_owned()));
        assert!(running.load(Ordering::SeqCst) <= AT_ONCE);
        answers.store(true, Ordering::SeqCst);
        assert_eq!(resolver.addresses("again.example.com", None).await.unwrap().len(), 1);
    }

    #[tokio::test]
    async fn owner_whose_names_hang_at_registration_takes_no_more_turns_than_its_own() {
        let ((resolver, running, answers), acme) = (hanging(), acme());
        for _ in 0..2 * AT_ONCE {
            let admitted = resolver.admit("https://hangs.example.com/", &acme);
            let _ = tokio::time::timeout(Duration::from_millis(1), admitted).await;
        }
        let one_too_many = resolver.admit("https://hangs.example.com/", &acme).await;
        assert_eq!(one_too_many.unwrap_err(), TargetFault::NoTurn("hangs.example.com".to_owned()));
        assert!(running.load(Ordering::SeqCst) <= AT_REGISTRATION_OF_OWNER);
        assert_eq!(resolver.turns.available_permits(), AT_ONCE - AT_REGISTRATION_OF_OWNER);
        answers.store(true, Ordering::SeqCst);
        assert_eq!(resolver.addresses("other.example.com", None).await.unwrap().len(), 1);
    }

    #[tokio::test]
    async fn address_in_a_url_is_judged_without_asking_anybody() {
        let (resolver, asked) = answering(false, &[&["8.8.8.8:0"]]);
        assert!(resolver.admit("https://10.0.0.1/", &acme()).await.is_err());
        assert!(resolver.admit("https://localhost/", &acme()).await.is_err());
        assert_eq!(*asked.lock().unwrap(), 0);
    }
}
