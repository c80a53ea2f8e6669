//! What the contract knows and this version does not: never ignored in silence.

use crate::config::Mode;
use crate::config::environment::{self, LATER, UNSIGNED};
use crate::config::reader::Reader;
use crate::config::tree::Place;

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
