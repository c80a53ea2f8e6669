//! What the contract knows and this version does not: never ignored in silence.

use super::DAY;
use crate::config::Mode;
use crate::config::environment::{self, LATER, UNSIGNED};
use crate::config::reader::{Reader, Section};
use crate::config::tree::Place;
use std::time::Duration;

/// Reads `vault` and `rotation`.
pub(in crate::config) fn later(reader: &mut Reader<'_>, root: &Section<'_>) {
    let vault = root.section(reader, "vault");
    vault.secret(reader, "master_key");
    if root.has("vault") {
        root.not_yet(reader, "vault", "the vault; leave this section out");
    }
    let rotation = root.section(reader, "rotation");
    let off = rotation.choice(reader, "enforcement", &[("off", true), ("warn", false), ("block", false)]);
    rotation.duration(reader, "grace", Duration::ZERO..=DAY * 3_650);
    if off == Some(false) {
        rotation.not_yet(reader, "enforcement", "the rotation of secrets; write off");
    }
}

/// Looks for variables of what is not there yet.
pub(in crate::config) fn later_variables(reader: &mut Reader<'_>, mode: Mode) {
    for name in LATER {
        let Some(value) = environment::value(reader.env, name) else { continue };
        let place = Place::Variable(name);
        let unsigned = UNSIGNED.contains(name);
        if unsigned && environment::is_off(&value) {
            continue;
        }
        if unsigned && mode == Mode::Enterprise {
            reader.error(place, "", "is for development only and refused in mode enterprise; unset it");
        } else {
            reader.warn(place, "", "not supported yet: the variable has no effect");
        }
    }
}
