//! Who one is here: the identity that signs, and the owner's token.

use super::super::auth::Ttl;
use super::super::local_plane::LocalPlane;
use super::super::place::{Place, openclaw_home};
use super::super::{Failure, Io, owner_token};
use super::Visit;
use crate::clock::Clock;

/// How long a token must hold to be worth no word.
const SOON_SECS: i64 = 24 * 3_600;

impl Visit<'_> {
    /// The identity that the commands here sign with.
    pub(super) fn identity(&mut self) {
        let loaded = Place::here(None).and_then(|place| {
            let wanted = place.said_namespace(self.global)?;
            Ok(place.home(self.global)?.choose(wanted.as_ref())?)
        });
        match loaded {
            Ok(identity) => {
                self.ok("identity", format!("{} signs with {}", identity.namespace(), identity.key_id()))
            }
            Err(failure) => {
                let fix = if self.is_local() { "sigilum up" } else { "sigilum init <namespace>" };
                self.fail("identity", failure.sentence(), fix);
            }
        }
    }

    /// The token of the namespace's owner, as far as one is kept.
    pub(super) fn owner_token(&mut self, io: &mut Io<'_>) {
        // What is wrong with the workspace is told of it.
        let Ok(place) = Place::here(None) else { return };
        if let Err(failure) = self.look_at_token(&place, io) {
            self.warn("owner token", failure.sentence(), owner_token::login_again(&place, None));
        }
    }

    fn look_at_token(&mut self, place: &Place, io: &mut Io<'_>) -> Result<(), Failure> {
        let namespace = place.namespace(self.global)?;
        let file = owner_token::file(&openclaw_home(None)?, &namespace);
        let fix = owner_token::login_again(place, Some(&namespace));
        let Some(token) = owner_token::read(&file, io)? else {
            if place.is_local() {
                // Commands of the local stack make one for themselves.
                self.ok("owner token", "none is kept; each command makes its own");
            } else {
                self.warn("owner token", format!("there is none of {namespace}"), fix);
            }
            return Ok(());
        };
        let said = owner_token::said(&token)?;
        let left = said.expires_at.secs().saturating_sub(Clock::system().now().secs());
        if left > SOON_SECS {
            self.ok("owner token", format!("it holds until {}", said.expires_at));
            return Ok(());
        }
        let local = if self.fix && place.is_local() { LocalPlane::there(place)? } else { None };
        if let Some(plane) = local {
            let issued =
                plane.issue(&namespace, &owner_token::email(None, &namespace), Ttl::default().get()?)?;
            owner_token::write(&file, &issued.token)?;
            self.ok("owner token", format!("it was made anew, and holds until {}", issued.expires_at));
            return Ok(());
        }
        if left > 0 {
            self.warn("owner token", format!("it ends at {}", said.expires_at), fix);
        } else {
            self.fail("owner token", format!("it ended at {}", said.expires_at), fix);
        }
        Ok(())
    }
}
