//! The bridge: it keeps the gateway connected to the control plane that it is paired with, for as long as it is.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::FutureExt as _;
use futures::future::BoxFuture;
use tokio::sync::watch;
use url::Url;

use super::backoff::Backoff;
use super::kept::{Kept, Place};
use super::link::{Caller, LinkFault, serve};
use crate::admin::{
    Admin, PairFault, PairRequest, Pairing, PairingState, PairingView, SealingKeyView, Trouble,
};
use crate::clock::{Clock, UnixTime};
use crate::names::Namespace;
use crate::protocol::Identity;
use crate::protocol::pairing::PairCode;
use crate::protocol::sealed::SealingPublicKey;
use crate::telemetry::Metrics;

/// A connection that lasted so long was a good one: the next failure counts as the first.
const GOOD: Duration = Duration::from_secs(30);

/// What a bridge needs to know.
#[derive(Debug)]
pub struct BridgeConfig {
    /// Where the gateway keeps what it writes; the pairing is `pairing.json` in it.
    pub data_dir: PathBuf,
    /// Who signs; a gateway without an identity cannot be paired.
    pub identity: Option<Arc<Identity>>,
    /// The gateway's id, for which secrets are sealed.
    pub gateway_id: String,
    /// What secrets are sealed to; `None` without a vault.
    pub sealing_key: Option<SealingPublicKey>,
    /// The time.
    pub clock: Clock,
    /// Where it stands whether the gateway is connected.
    pub metrics: Arc<Metrics>,
}

/// A gateway's bridge. Clones are one bridge.
#[derive(Clone)]
pub struct Bridge(Arc<Inner>);

struct Inner {
    config: BridgeConfig,
    place: Place,
    /// One change of what is kept at a time.
    turn: tokio::sync::Mutex<()>,
    now: Mutex<Now>,
    /// Moves whenever another pairing, or none, is wanted.
    wanted: watch::Sender<u64>,
}

/// How things stand.
#[derive(Default)]
struct Now {
    kept: Option<Kept>,
    /// Until it was used.
    code: Option<PairCode>,
    phase: Phase,
    trouble: Option<Trouble>,
}

#[derive(Clone, Copy, Default)]
enum Phase {
    #[default]
    Connecting,
    Connected(UnixTime),
    Waiting,
}

impl Bridge {
    /// The namespace whose key signs for the pairing that is kept in this data directory; `None` where none is kept, or
    /// none that can be read.
    #[must_use]
    pub fn signer_in(data_dir: &Path) -> Option<Namespace> {
        let kept = Place::in_directory(data_dir).read().ok()??;
        kept.signer.filter(|_| kept.ended.is_none())
    }

    /// A bridge with the pairing that its directory holds. A file that cannot be read is told of, and is no pairing.
    #[must_use]
    pub fn open(config: BridgeConfig) -> Self {
        let place = Place::in_directory(&config.data_dir);
        let mut now = Now::default();
        match place.read() {
            Ok(kept) => now.kept = kept,
            Err(message) => {
                tracing::warn!(%message, "the pairing that was kept cannot be read; pair the gateway anew");
                now.trouble = Some(Trouble { code: "PAIRING_NOT_KEPT".to_owned(), message });
            }
        }
        Self(Arc::new(Inner {
            config,
            place,
            turn: tokio::sync::Mutex::default(),
            now: Mutex::new(now),
            wanted: watch::Sender::new(0),
        }))
    }

    /// Keeps the gateway connected, executing commands by `admin`, until `shutdown` holds `true`.
    pub async fn run(self, admin: Arc<Admin>, mut shutdown: watch::Receiver<bool>) {
        let mut wanted = self.0.wanted.subscribe();
        loop {
            wanted.mark_unchanged();
            tokio::select! {
                () = self.0.follow(&admin) => {}
                // An error says that nobody can want anything any more, which ends with `shutdown` too.
                Ok(()) = wanted.changed() => {}
                _ = shutdown.wait_for(|stop| *stop) => return,
            }
        }
    }
}

impl Pairing for Bridge {
    fn pair(&self, request: PairRequest) -> BoxFuture<'static, Result<PairingView, PairFault>> {
        let inner = Arc::clone(&self.0);
        async move {
            let _turn = inner.turn.lock().await;
            inner.begin(request)?;
            Ok(inner.view())
        }
        .boxed()
    }

    fn view(&self) -> PairingView {
        self.0.view()
    }

    fn stop(&self) -> BoxFuture<'static, Result<PairingView, PairFault>> {
        let inner = Arc::clone(&self.0);
        async move {
            let _turn = inner.turn.lock().await;
            let before = inner.view();
            let place = inner.place.clone();
            on_disk(move || place.forget()).await?;
            *inner.now() = Now::default();
            inner.wanted.send_modify(|count| *count = count.wrapping_add(1));
            Ok(before)
        }
        .boxed()
    }
}

impl Inner {
    fn begin(&self, request: PairRequest) -> Result<(), PairFault> {
        let PairRequest { session, code, namespace, api_url } = request;
        let identity = self.config.identity.as_ref().ok_or(PairFault::NoIdentity)?;
        let api_url = base(api_url)?;
        let mut now = self.now();
        let standing = now.kept.as_ref().filter(|kept| kept.ended.is_none() && kept.session != session);
        if let Some(standing) = standing {
            return Err(PairFault::Paired(standing.session.clone()));
        }
        // Kept on disk only once the control plane has taken the code: before that, nothing would come of it after a
        // restart.
        let signer = Some(identity.namespace().clone());
        let kept = Kept { session, namespace, api_url, signer, ended: None };
        *now = Now { kept: Some(kept), code: Some(code), ..Now::default() };
        drop(now);
        self.wanted.send_modify(|count| *count = count.wrapping_add(1));
        Ok(())
    }

    /// Connects again and again, until the pairing is over; without one it waits to be dropped.
    async fn follow(&self, admin: &Arc<Admin>) {
        let mut backoff = Backoff::default();
        loop {
            let (kept, code) = {
                let now = self.now();
                match now.kept.as_ref().filter(|kept| kept.ended.is_none()) {
                    Some(kept) => (kept.clone(), now.code.clone()),
                    None => break,
                }
            };
            let Some(identity) = self.config.identity.as_deref() else {
                let fault = PairFault::NoIdentity;
                self.now().trouble =
                    Some(Trouble { code: "GATEWAY_IDENTITY_MISSING".to_owned(), message: fault.to_string() });
                break;
            };
            self.now().phase = Phase::Connecting;
            let caller = Caller {
                identity,
                gateway_id: &self.config.gateway_id,
                sealing_key: self.config.sealing_key,
                session: &kept.session,
                namespace: &kept.namespace,
                api_url: &kept.api_url,
                code: code.as_ref(),
                clock: &self.config.clock,
            };
            let (failure, trouble) = match caller.open().await {
                Ok(socket) => {
                    let began = self.config.clock.instant();
                    let _open = Open::now(&self.config.metrics);
                    self.connected(&kept).await;
                    let ended = serve(socket, admin, &self.config.clock).await;
                    if self.config.clock.instant().saturating_duration_since(began) >= GOOD {
                        backoff.forget();
                    }
                    ended
                }
                Err(LinkFault::Final(trouble)) => {
                    self.ended(kept, trouble).await;
                    continue;
                }
                Err(LinkFault::Passing(failure, trouble)) => (failure, trouble),
            };
            self.waits(trouble);
            tokio::time::sleep(backoff.wait(failure, random())).await;
        }
        std::future::pending().await
    }

    async fn connected(&self, kept: &Kept) {
        tracing::info!(session = %kept.session, api_url = %kept.api_url, "paired with the control plane");
        let _turn = self.turn.lock().await;
        if self.now().kept.as_ref() != Some(kept) {
            return;
        }
        let (place, copy) = (self.place.clone(), kept.clone());
        let written = on_disk(move || place.write(&copy)).await;
        let mut now = self.now();
        now.code = None;
        now.phase = Phase::Connected(self.config.clock.now());
        now.trouble = written.err().map(|fault| {
            tracing::warn!(%fault, "the pairing will not outlive this process");
            Trouble { code: "PAIRING_NOT_KEPT".to_owned(), message: fault.to_string() }
        });
    }

    fn waits(&self, trouble: Trouble) {
        tracing::warn!(code = %trouble.code, message = %trouble.message, "the control plane is not connected; trying again");
        let mut now = self.now();
        now.phase = Phase::Waiting;
        now.trouble = Some(trouble);
    }

    /// The end is kept too, so that it is still known after a restart.
    async fn ended(&self, kept: Kept, trouble: Trouble) {
        let _turn = self.turn.lock().await;
        if self.now().kept.as_ref() != Some(&kept) {
            return;
        }
        tracing::warn!(code = %trouble.code, message = %trouble.message, "the pairing is over");
        let kept = Kept { ended: Some(trouble.clone()), ..kept };
        let (place, copy) = (self.place.clone(), kept.clone());
        if let Err(fault) = on_disk(move || place.write(&copy)).await {
            tracing::warn!(%fault, "the end of the pairing cannot be kept");
        }
        *self.now() = Now { kept: Some(kept), trouble: Some(trouble), ..Now::default() };
    }

    fn view(&self) -> PairingView {
        let now = self.now();
        let state = match (&now.kept, now.phase) {
            (None, _) => PairingState::None,
            (Some(Kept { ended: Some(_), .. }), _) => PairingState::Ended,
            (_, Phase::Connecting) => PairingState::Connecting,
            (_, Phase::Connected(_)) => PairingState::Connected,
            (_, Phase::Waiting) => PairingState::Waiting,
        };
        let kept = now.kept.as_ref();
        let since = match now.phase {
            Phase::Connected(at) if state == PairingState::Connected => Some(at.to_string()),
            _ => None,
        };
        let ended = kept.and_then(|kept| kept.ended.clone());
        PairingView {
            state,
            session_id: kept.map(|kept| kept.session.to_string()),
            namespace: kept.map(|kept| kept.namespace.to_string()),
            api_url: kept.map(|kept| kept.api_url.to_string()),
            connected_since: since,
            trouble: ended.or_else(|| now.trouble.clone()),
            gateway_id: self.config.gateway_id.clone(),
            sealing_key: self
                .config
                .sealing_key
                .map(|key| SealingKeyView { id: key.id(), public_key: key.to_string() }),
        }
    }

    fn now(&self) -> MutexGuard<'_, Now> {
        // What is behind it is whole after each assignment.
        self.now.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A connection that is open, as the metric tells it: it ends in any way, that of being dropped too.
struct Open<'a>(&'a Metrics);

impl<'a> Open<'a> {
    fn now(metrics: &'a Metrics) -> Self {
        metrics.pairing_connected(true);
        Self(metrics)
    }
}

impl Drop for Open<'_> {
    fn drop(&mut self) {
        self.0.pairing_connected(false);
    }
}

impl fmt::Debug for Bridge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Bridge").field("gateway_id", &self.0.config.gateway_id).finish_non_exhaustive()
    }
}

fn base(url: Url) -> Result<Url, PairFault> {
    let plain = url.username().is_empty()
        && url.password().is_none()
        && url.query().is_none()
        && url.fragment().is_none();
    let held = plain && url.has_host() && matches!(url.scheme(), "http" | "https");
    if held { Ok(url) } else { Err(PairFault::ApiUrl) }
}

async fn on_disk(work: impl FnOnce() -> Result<(), PairFault> + Send + 'static) -> Result<(), PairFault> {
    let stopped = |_| PairFault::NotKept("the gateway is stopping".to_owned());
    tokio::task::spawn_blocking(work).await.map_err(stopped)?
}

fn random() -> u64 {
    let mut bytes = [0_u8; 8];
    // Without random bytes any number does, so long as it is a wait.
    getrandom::fill(&mut bytes).map_or(500, |()| u64::from_be_bytes(bytes))
}
