//! What lies on disk shows no secret.

use std::fs;
use std::path::Path;

use base64::prelude::{BASE64_STANDARD_NO_PAD, Engine as _};
use sigilum::secret::SecretString;
use sigilum::vault::{Batch, Kind, PassphraseCost};

use crate::resilience::vault_kit::{self as kit, Place};

const CANARY: &str = "sk-canary-7Qw9ZrT2mX4vB8nL1pK6";

/// The forms in which the canary could show: as it is, in hex, and in base64 at each of the three offsets.
fn forms() -> Vec<Vec<u8>> {
    let hex: String = CANARY.bytes().map(|byte| format!("{byte:02x}")).collect();
    let mut forms = vec![CANARY.as_bytes().to_vec(), hex.into_bytes()];
    for skipped in 0..3 {
        let whole = BASE64_STANDARD_NO_PAD.encode(&CANARY[skipped..]);
        forms.push(whole.as_bytes()[..whole.len() - 4].to_vec());
    }
    forms
}

fn assert_clean(path: &Path) {
    if path.is_dir() {
        fs::read_dir(path).unwrap().for_each(|entry| assert_clean(&entry.unwrap().path()));
        return;
    }
    let bytes = fs::read(path).unwrap();
    for form in forms() {
        let found = memchr::memmem::find(&bytes, &form);
        assert_eq!(found, None, "{} shows {:?}", path.display(), String::from_utf8_lossy(&form));
    }
}

#[test]
fn no_file_shows_a_secret_in_any_form() {
    let place = Place::new();
    let vault = place.open();
    for kind in [Kind::Connection, Kind::Secret, Kind::Variable, Kind::ServiceKey, Kind::GatewayKey] {
        vault
            .commit(Batch::new().put_version(kind, "openai", "api_key", kit::secret(CANARY)).unwrap())
            .unwrap();
    }
    let cost = PassphraseCost { memory_kib: 64, passes: 1, lanes: 1 };
    let mut export = Vec::new();
    vault.export(&mut export, &SecretString::new("correct horse".into()).unwrap(), cost).unwrap();
    fs::write(place.directory.path().join("export"), export).unwrap();
    assert_clean(place.directory.path());
    drop(vault);
    assert_clean(place.directory.path());
}

#[test]
fn canary_is_found_where_it_is() {
    for form in forms() {
        let place = Place::new();
        fs::write(place.directory.path().join("file"), [b"??", form.as_slice(), b"??"].concat()).unwrap();
        let found = std::panic::catch_unwind(|| assert_clean(place.directory.path()));
        assert!(found.is_err(), "{}", String::from_utf8_lossy(&form));
    }
}
