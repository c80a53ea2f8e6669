//! Changes in a paired control plane's hands; what they come to on the wire stands in the socket tests.

use super::*;
use crate::connections::SecretInput;

fn sealed(book: &Book, number: u64) -> NewVariable {
    let name = "KEY".parse().unwrap();
    let destination = Destination { gateway_id: "acme", connection: None, secret: &name };
    let mut seed = [7; 32];
    seed[..8].copy_from_slice(&number.to_be_bytes());
    let sealed = book.sealing_public().unwrap().seal("v", destination, Zeroizing::new(seed)).unwrap();
    NewVariable { key: "KEY".into(), value: SecretInput::Sealed(sealed), created_by_subject: None }
}

#[test]
fn seals_are_used_up_over_the_pages_that_they_fill_and_after_a_restart() {
    let place = Room::new();
    let book = place.book(Vec::new());
    // What comes in the operator's hands uses nothing up.
    for _ in 0..2 {
        let _ = book.set_variable(sealed(&book, 0)).unwrap();
    }
    for number in 0..=256 {
        let _ = book.paired().set_variable(sealed(&book, number)).unwrap();
    }
    assert_eq!(book.0.vault.as_ref().unwrap().list(crate::vault::Kind::Seals, None).len(), 2);
    drop(book);
    let book = place.book(Vec::new()).paired();
    for number in [0, 255, 256] {
        let again = book.set_variable(sealed(&book, number));
        assert!(matches!(again, Err(BookFault::SealedAgain(name)) if name.as_str() == "KEY"), "{number}");
    }
    let _ = book.set_variable(sealed(&book, 257)).unwrap();
}

#[test]
fn plain_secret_is_none_for_a_paired_control_plane() {
    let place = Room::new();
    let book = place.book(Vec::new()).paired();
    assert!(matches!(book.create(new(OPENAI)), Err(BookFault::NotSealed(_))));
    assert!(matches!(book.set_variable(variable("KEY", "v")), Err(BookFault::NotSealed(_))));
    let reference = OPENAI.replace("sk-canary-1", "{{KEY}}");
    assert!(matches!(book.create(new(&reference)), Err(BookFault::Reference(_))));
    assert!(book.connections().is_empty());
}
