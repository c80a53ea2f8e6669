//! Connections as the data plane uses them: what is injected, made ready once and replaced in place.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use arc_swap::ArcSwap;
use tokio::sync::oneshot;

use super::{Connection, Credential, SecretSource, SecretUnreadable};
use crate::clock::UnixTime;
use crate::secret::SecretString;

/// A connection and the present value of its secret. Reading it takes no lock and no file.
#[derive(Debug)]
pub struct LiveConnection {
    config: Connection,
    current: ArcSwap<Opened>,
}

/// What one reading of the secret gave.
#[derive(Debug)]
struct Opened {
    credential: Result<Option<Arc<Credential>>, SecretUnreadable>,
    /// When the secret was last replaced, as far as anybody knows.
    rotated_at: Option<UnixTime>,
    /// Of a secret from a file: when the file was last changed.
    modified: Option<SystemTime>,
    /// Given with the credential to each request; the last one that is dropped ends `returned`.
    lent: Sending,
    returned: oneshot::Receiver<()>,
}

/// Held by a request from when it took the credential until its head, with the secret in it, is written. While one is
/// there, [`Retired::drained`] waits.
#[derive(Debug, Clone)]
pub struct Sending(
    #[allow(dead_code, reason = "what counts is when it is dropped")] Arc<oneshot::Sender<()>>,
);

/// A credential that was replaced.
#[derive(Debug)]
#[must_use = "requests may still be sending the old secret"]
pub struct Retired(Arc<Opened>);

impl Retired {
    /// Waits until no request that took the old credential is still about to write its head, for `at_most` at the
    /// longest. Gives whether that is so.
    pub async fn drained(self, at_most: Duration) -> bool {
        tokio::time::timeout(at_most, self.returned()).await.is_ok()
    }

    async fn returned(self) {
        let mut old = self.0;
        // A request that is just taking the credential holds the whole for an instant, and a `Sending` after it.
        let opened = loop {
            match Arc::try_unwrap(old) {
                Ok(opened) => break opened,
                Err(shared) => old = shared,
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        };
        drop(opened.lent);
        // It ends with an error, once the last sender is dropped: nothing is ever sent.
        let _ = opened.returned.await;
    }
}

impl LiveConnection {
    /// Reads the secret of `config` now. One that cannot be read leaves the connection without it: see
    /// [`LiveConnection::credential`].
    #[must_use]
    pub fn open(config: Connection) -> Self {
        let current = ArcSwap::from_pointee(Opened::read(&config));
        Self { config, current }
    }

    /// With a secret that was read elsewhere; `None` where nothing is injected.
    pub(super) fn with(
        config: Connection,
        secret: Result<Option<SecretString>, SecretUnreadable>,
        rotated_at: Option<UnixTime>,
    ) -> Self {
        let current = ArcSwap::from_pointee(Opened::new(&config, secret, rotated_at));
        Self { config, current }
    }

    /// As configured.
    #[must_use]
    pub fn config(&self) -> &Connection {
        &self.config
    }

    /// What is injected now; `Ok(None)` where nothing is.
    ///
    /// # Errors
    /// Why the secret could not be read, as a sentence.
    pub fn credential(&self) -> Result<Option<Arc<Credential>>, String> {
        Ok(self.lend()?.map(|(credential, _)| credential))
    }

    /// What is injected now, for a request that keeps the [`Sending`] until its head is written; `Ok(None)` where
    /// nothing is.
    ///
    /// # Errors
    /// Why the secret could not be read, as a sentence.
    pub fn lend(&self) -> Result<Option<(Arc<Credential>, Sending)>, String> {
        let current = self.current.load();
        match &current.credential {
            Ok(credential) => Ok(credential.clone().map(|credential| (credential, current.lent.clone()))),
            Err(unreadable) => Err(unreadable.to_string()),
        }
    }

    /// When the secret was last replaced: the vault's date, a file's last change; `None` where nobody knows.
    #[must_use]
    pub fn last_rotated_at(&self) -> Option<UnixTime> {
        self.current.load().rotated_at
    }

    /// Puts another secret in place of the present one, for every request that takes it from now on.
    pub(super) fn swap(
        &self,
        secret: Result<Option<SecretString>, SecretUnreadable>,
        rotated_at: Option<UnixTime>,
    ) -> Retired {
        Retired(self.current.swap(Arc::new(Opened::new(&self.config, secret, rotated_at))))
    }

    /// Reads the secret again where it comes from a file that has changed, or could not be read before.
    /// Gives whether it was read anew.
    pub fn refresh(&self) -> bool {
        let Some(SecretSource::File(path)) = &self.config.secret else { return false };
        let modified = modified(path);
        let changed = {
            let current = self.current.load();
            current.modified != modified || current.credential.is_err()
        };
        if changed {
            self.current.store(Arc::new(Opened::read(&self.config)));
        }
        changed
    }
}

impl Opened {
    fn read(config: &Connection) -> Self {
        // The time is taken first: a change between the two is then seen at the next refresh.
        let modified = match &config.secret {
            Some(SecretSource::File(path)) => modified(path),
            _ => None,
        };
        let secret = config.secret.as_ref().map(SecretSource::read).transpose();
        let since = modified.and_then(|at| at.duration_since(UNIX_EPOCH).ok());
        let rotated_at = since.map(|since| UnixTime::from_millis(0).plus(since));
        Self { modified, ..Self::new(config, secret, rotated_at) }
    }

    fn new(
        config: &Connection,
        secret: Result<Option<SecretString>, SecretUnreadable>,
        rotated_at: Option<UnixTime>,
    ) -> Self {
        let made = |secret: SecretString| Credential::new(&config.auth, &secret);
        let credential = match secret {
            Ok(secret) => secret.map_or(Ok(None), made).map(|credential| credential.map(Arc::new)),
            Err(unreadable) => Err(unreadable),
        };
        let (lent, returned) = oneshot::channel();
        Self { credential, rotated_at, modified: None, lent: Sending(Arc::new(lent)), returned }
    }
}

fn modified(path: &Path) -> Option<SystemTime> {
    std::fs::metadata(path).and_then(|meta| meta.modified()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::connections::{Auth, Place};

    fn secret(text: &str) -> Result<Option<SecretString>, SecretUnreadable> {
        Ok(Some(SecretString::new(text.to_owned()).unwrap()))
    }

    fn live(text: &str) -> LiveConnection {
        let mut config = Connection::named("openai".parse().unwrap());
        config.auth = Auth::Header { name: http::header::AUTHORIZATION, prefix: "Bearer ".to_owned() };
        LiveConnection::with(config, secret(text), None)
    }

    fn header(credential: &Credential) -> String {
        match credential.place() {
            Place::Header(_, value) => value.to_str().unwrap().to_owned(),
            other => panic!("a header was expected, not {other:?}"),
        }
    }

    #[tokio::test]
    async fn replaced_secret_is_what_the_next_request_takes() {
        let live = live("old");
        let retired = live.swap(secret("new"), Some(UnixTime::from_secs(7)));
        assert_eq!(header(&live.credential().unwrap().unwrap()), "Bearer new");
        assert_eq!(live.last_rotated_at(), Some(UnixTime::from_secs(7)));
        assert!(retired.drained(Duration::from_secs(60)).await);
    }

    #[tokio::test]
    async fn retired_secret_is_drained_when_the_last_head_is_written_and_not_before() {
        let live = live("old");
        let (credential, sending) = live.lend().unwrap().unwrap();
        let second = sending.clone();
        let mut drained = std::pin::pin!(live.swap(secret("new"), None).drained(Duration::from_secs(3600)));
        drop(sending);
        assert!(futures::poll!(&mut drained).is_pending());
        drop(second);
        assert!(drained.await);
        // Masking keeps the old credential longer than that.
        assert_eq!(header(&credential), "Bearer old");
    }

    #[tokio::test]
    async fn request_that_never_writes_its_head_is_waited_for_no_longer_than_asked() {
        let live = live("old");
        let _sending = live.lend().unwrap().unwrap();
        assert!(!live.swap(secret("new"), None).drained(Duration::ZERO).await);
    }
}
