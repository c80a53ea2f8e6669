//! Usage from a gateway's first call to what an owner sees of it.

use super::scene::Fleet;
use crate::support::eventually;
use crate::support::upstream::{Reply, Upstream};

#[test]
fn calls_at_one_gateway_are_seen_by_the_owner_at_the_other_replica() {
    let upstream = Upstream::answering(Reply::ok("here"));
    let fleet = Fleet::before(&upstream);
    let (agent, _) = fleet.approved();
    assert_eq!(fleet.get(0, &agent).status, 200);
    // Those that were refused before the claim was approved are not told; neither are they at the upstream.
    let calls = upstream.requests().len();
    let path = "/v1/namespaces/alice/usage";
    let seen = eventually("the usage of all calls", || {
        let seen = fleet.replicas[1].as_owner(&fleet.alice, 200, "GET", path, None);
        (seen["usage"][0]["calls"] == calls).then_some(seen)
    });
    assert_eq!(seen["pagination"]["total"], 1, "{seen}");
    let row = &seen["usage"][0];
    assert_eq!(row["public_key"], agent.public_key());
    assert_eq!((row["service"].as_str(), row["service_owner"].as_str()), (Some("openai"), Some("acme")));
    assert_eq!((row["errors"].as_u64(), row["response_bytes"].as_u64()), (Some(0), Some(4 * calls as u64)));
    assert_eq!(row["last"]["status_code"], 200);
}
