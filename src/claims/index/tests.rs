use std::sync::atomic::AtomicBool;

use super::*;
use crate::policy::Scopes;
use crate::protocol::Identity;

const STALENESS: Duration = Duration::from_secs(30);
const NOW: UnixTime = UnixTime::from_secs(1_000);

fn key(seed: u8) -> PublicKey {
    *Identity::create(&"alice".parse().unwrap(), [seed; 32], NOW).public_key()
}

fn claim(id: &str, seed: u8, service: &str, expires_at: Option<i64>) -> Claim {
    Claim {
        id: id.parse().unwrap(),
        namespace: "alice".parse().unwrap(),
        public_key: key(seed),
        service: service.parse().unwrap(),
        expires_at: expires_at.map(UnixTime::from_secs),
        scopes: Scopes::default(),
    }
}

/// The id of the claim found for alice's key 1 on openai, or what was said instead.
fn found_at(index: &ClaimsIndex, secs: i64) -> String {
    let service = "openai".parse().unwrap();
    match index.lookup(&"alice".parse().unwrap(), &key(1), &service, UnixTime::from_secs(secs)) {
        Lookup::Found(claim) => claim.id.to_string(),
        other => format!("{other:?}"),
    }
}

#[test]
fn claim_is_found_only_for_its_own_namespace_key_and_service() {
    let index = ClaimsIndex::new(vec![claim("cl_1", 1, "openai", None)], None);
    let (alice, robert) = ("alice".parse().unwrap(), "robert".parse().unwrap());
    let (openai, slack) = ("openai".parse().unwrap(), "slack".parse().unwrap());
    assert!(matches!(index.lookup(&alice, &key(1), &openai, NOW), Lookup::Found(_)));
    assert!(matches!(index.lookup(&robert, &key(1), &openai, NOW), Lookup::Absent));
    assert!(matches!(index.lookup(&alice, &key(2), &openai, NOW), Lookup::Absent));
    assert!(matches!(index.lookup(&alice, &key(1), &slack, NOW), Lookup::Absent));
}

#[test]
fn without_a_feed_the_configuration_decides_and_is_ready() {
    let index = ClaimsIndex::new(vec![claim("cl_1", 1, "openai", Some(900))], None);
    assert_eq!(found_at(&index, 899), "cl_1");
    assert_eq!(found_at(&index, 1_000), "cl_1", "the one that has ended is left to authorize");
    let state = index.state(NOW);
    assert_eq!((state.ready, state.entries, state.age), (true, 1, None));
}

#[test]
fn feed_never_received_is_unavailable_and_not_ready() {
    let index = ClaimsIndex::new(vec![], Some(STALENESS));
    assert_eq!(found_at(&index, 1_000), "Unavailable");
    let state = index.state(NOW);
    assert_eq!((state.ready, state.entries, state.age), (false, 0, None));
    index.feed_failed(FeedFailure::Refused);
    assert_eq!(found_at(&index, 1_000), "Failed");
    index.feed_failed(FeedFailure::Unreachable);
    assert_eq!(found_at(&index, 1_000), "Unavailable");
}

#[test]
fn last_good_reading_serves_until_it_is_too_old_in_either_direction() {
    let index = ClaimsIndex::new(vec![], Some(STALENESS));
    index.replace_feed(vec![claim("cl_1", 1, "openai", None)], NOW);
    index.feed_failed(FeedFailure::Unreachable);
    assert_eq!(found_at(&index, 1_030), "cl_1");
    assert_eq!(found_at(&index, 1_031), "Unavailable");
    assert_eq!(found_at(&index, 969), "Unavailable");
    assert_eq!(index.state(UnixTime::from_secs(1_031)).age, Some(Duration::from_secs(31)));
    index.feed_failed(FeedFailure::Refused);
    assert_eq!(found_at(&index, 1_030), "cl_1");
    assert_eq!(found_at(&index, 1_031), "Failed");
}

#[test]
fn withdrawn_claim_is_absent_after_the_next_reading() {
    let index = ClaimsIndex::new(vec![], Some(STALENESS));
    index.replace_feed(vec![claim("cl_1", 1, "openai", None)], NOW);
    index.replace_feed(vec![claim("cl_2", 2, "openai", None)], NOW);
    assert_eq!(found_at(&index, 1_000), "Absent");
    assert_eq!(index.state(NOW).entries, 1);
}

#[test]
fn static_claim_is_found_without_the_feed_until_it_ends() {
    let index = ClaimsIndex::new(vec![claim("static", 1, "openai", Some(1_010))], Some(STALENESS));
    assert_eq!(found_at(&index, 1_009), "static");
    assert_eq!(found_at(&index, 1_010), "Unavailable", "the feed may hold another");
    index.replace_feed(vec![], NOW);
    assert_eq!(found_at(&index, 1_010), "static", "the one that has ended is left to authorize");
    index.replace_feed(vec![claim("cl_1", 1, "openai", None)], NOW);
    assert_eq!(found_at(&index, 1_010), "cl_1");
}

#[test]
fn of_several_claims_the_one_that_ends_last_is_held() {
    let ends = [Some(2_000), None, Some(3_000)];
    for order in [[0, 1, 2], [1, 0, 2], [2, 1, 0], [0, 2, 1]] {
        let claims = order.iter().map(|i| claim(&format!("cl_{i}"), 1, "openai", ends[*i])).collect();
        assert_eq!(found_at(&ClaimsIndex::new(claims, None), 1_000), "cl_1");
    }
    let claims = [0, 2].iter().map(|i| claim(&format!("cl_{i}"), 1, "openai", ends[*i])).collect();
    assert_eq!(found_at(&ClaimsIndex::new(claims, None), 1_000), "cl_2");
}

fn approved(id: &str, expires_at: Option<i64>) -> Delta {
    Delta::Approved(claim(id, 1, "openai", expires_at))
}

fn withdrawn(id: &str) -> Delta {
    Delta::Withdrawn(id.parse().unwrap())
}

fn id(text: &str) -> ConnectionId {
    text.parse().unwrap()
}

/// An index that serves openai and has received it, and the claims that were told to be withdrawn.
fn served(static_claims: Vec<Claim>) -> (ClaimsIndex, impl Fn() -> Vec<String>) {
    let told = Arc::new(Mutex::new(Vec::new()));
    let into = Arc::clone(&told);
    let index = ClaimsIndex::new(static_claims, Some(STALENESS))
        .on_withdrawn(move |claim| into.lock().unwrap().push(claim.id.to_string()));
    index.expect(&[id("openai")], vec![], ClaimsSource::Stream);
    index.replace(&[id("openai")], vec![], NOW).unwrap();
    (index, move || std::mem::take(&mut *told.lock().unwrap()))
}

#[test]
fn when_the_best_of_several_claims_is_withdrawn_the_next_one_serves() {
    let (index, told) = served(vec![]);
    index.apply(
        vec![approved("cl_1", Some(2_000)), approved("cl_2", None), approved("cl_3", Some(3_000))],
        NOW,
    );
    for (found, gone) in [("cl_2", "cl_2"), ("cl_3", "cl_3"), ("cl_1", "cl_1")] {
        assert_eq!(found_at(&index, 1_000), found);
        index.apply(vec![withdrawn(gone)], NOW);
    }
    assert_eq!(found_at(&index, 1_000), "Absent");
    assert_eq!(told(), ["cl_2", "cl_3", "cl_1"]);
    index.apply(vec![withdrawn("cl_1"), withdrawn("cl_of_nobody")], NOW);
    assert!(told().is_empty());
}

#[test]
fn of_thousands_of_claims_for_one_binding_the_one_that_ends_last_is_always_found() {
    let (index, _) = served(vec![]);
    let mut standing: Vec<(i64, String)> = Vec::new();
    for step in 0_i64..6_000 {
        // A walk that comes by every number below 1,999 again and again, and neither grows nor falls all the time.
        let end = 2_000 + step * 7_919 % 1_999;
        let name = format!("cl_{end}");
        match standing.iter().position(|(_, known)| *known == name) {
            Some(at) => {
                standing.remove(at);
                index.apply(vec![withdrawn(&name)], NOW);
            }
            None => {
                index.apply(vec![approved(&name, Some(end))], NOW);
                standing.push((end, name));
            }
        }
        let best = standing.iter().max().map_or("Absent", |(_, name)| name);
        assert_eq!(found_at(&index, 1_000), best, "step {step}");
    }
}

#[test]
fn of_several_changes_of_one_claim_the_last_counts() {
    let (index, told) = served(vec![]);
    index.apply(vec![approved("cl_1", None), withdrawn("cl_1"), approved("cl_2", None)], NOW);
    index.apply(vec![withdrawn("cl_2"), approved("cl_2", Some(1_500))], NOW);
    assert_eq!((found_at(&index, 1_000), index.state(NOW).entries), ("cl_2".to_owned(), 1));
    assert_eq!(told(), ["cl_2"], "its first form holds no longer");
    index.apply(vec![approved("cl_2", Some(1_500))], NOW);
    assert!(told().is_empty(), "nothing has changed");
}

#[test]
fn claim_that_binds_another_under_the_same_id_leaves_the_first() {
    let (index, _) = served(vec![]);
    index.apply(vec![approved("cl_1", None)], NOW);
    index.apply(vec![Delta::Approved(claim("cl_1", 2, "openai", None))], NOW);
    assert_eq!((found_at(&index, 1_000), index.state(NOW).entries), ("Absent".to_owned(), 1));
}

#[test]
fn reader_never_misses_a_claim_that_stands_through_whole_readings() {
    let index = Arc::new(ClaimsIndex::new(vec![], Some(STALENESS)));
    let (done, reads) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let several = |name: &str| {
        let others = (2..30).map(|seed| claim(&format!("{name}_{seed}"), seed, "openai", None));
        others.chain([claim(name, 1, "openai", None)]).collect::<Vec<_>>()
    };
    index.replace_feed(several("cl_a"), NOW);
    let reader = {
        let (index, done, reads) = (Arc::clone(&index), Arc::clone(&done), Arc::clone(&reads));
        std::thread::spawn(move || {
            while !done.load(Ordering::Relaxed) {
                assert!(found_at(&index, 1_000).starts_with("cl_"));
                reads.fetch_add(1, Ordering::Relaxed);
            }
        })
    };
    // The agent's claim is another one each time.
    while reads.load(Ordering::Relaxed) < 10_000 && !reader.is_finished() {
        index.replace_feed(several("cl_b"), NOW);
        index.replace_feed(several("cl_a"), NOW);
    }
    done.store(true, Ordering::Relaxed);
    reader.join().unwrap();
}

#[test]
fn claims_that_end_are_told_once_and_when_the_clock_was_put_back_again() {
    let (index, told) = served(vec![claim("static", 2, "openai", Some(1_015))]);
    assert_eq!(index.tell_ended(NOW), Duration::from_secs(1));
    index.apply(vec![approved("cl_1", Some(1_010)), approved("cl_2", Some(1_020))], NOW);
    assert_eq!(index.tell_ended(UnixTime::from_millis(1_009_400)), Duration::from_millis(600));
    assert!(told().is_empty());
    index.tell_ended(UnixTime::from_secs(1_016));
    let mut both = told();
    both.sort();
    assert_eq!(both, ["cl_1", "static"]);
    index.apply(vec![withdrawn("cl_1")], NOW);
    assert!(told().is_empty(), "its end was told");
    index.tell_ended(UnixTime::from_secs(1_020));
    assert_eq!(told(), ["cl_2"]);
    index.tell_ended(UnixTime::from_secs(1_000));
    index.tell_ended(UnixTime::from_secs(1_030));
    assert_eq!(told().len(), 2, "static and cl_2 held again meanwhile");
}

#[test]
fn services_are_as_fresh_as_each_was_received() {
    let index = ClaimsIndex::new(vec![], Some(STALENESS));
    index.expect(&[id("openai"), id("slack")], vec![id("gitlab")], ClaimsSource::Stream);
    index.replace(&[id("openai")], vec![claim("cl_1", 1, "openai", None)], NOW).unwrap();
    assert_eq!((found_at(&index, 1_000), index.state(NOW).ready), ("cl_1".to_owned(), false));
    let on = |service: &str, secs| {
        index.lookup(&"alice".parse().unwrap(), &key(1), &id(service), UnixTime::from_secs(secs))
    };
    assert!(matches!((on("slack", 1_000), on("gitlab", 1_000)), (Lookup::Unavailable, Lookup::Unavailable)));
    assert_eq!(index.state(NOW).age, None, "one was never received");
    index.heard(&[id("slack")], ClaimsSource::Stream, NOW);
    assert!(matches!(on("slack", 1_000), Lookup::Unavailable), "a heartbeat is no claims");
    index.replace(&[id("slack")], vec![], NOW).unwrap();
    index.heard(&[id("openai")], ClaimsSource::Stream, UnixTime::from_secs(1_025));
    assert!(matches!(on("slack", 1_031), Lookup::Unavailable));
    assert_eq!(found_at(&index, 1_055), "cl_1");
    let state = index.state(UnixTime::from_secs(1_031));
    assert_eq!((state.ready, state.age), (true, Some(Duration::from_secs(31))));
    assert_eq!((state.without_key, state.connected), (vec![id("gitlab")], true));
}

#[test]
fn service_that_comes_later_does_not_make_the_gateway_unready_and_one_that_goes_takes_its_claims() {
    let (index, told) = served(vec![]);
    index.apply(vec![approved("cl_1", None)], NOW);
    assert!(index.state(NOW).ready);
    index.expect(&[id("openai"), id("slack")], vec![], ClaimsSource::Stream);
    assert!(index.state(NOW).ready && found_at(&index, 1_000) == "cl_1");
    index.expect(&[id("slack")], vec![], ClaimsSource::Stream);
    assert_eq!((found_at(&index, 1_000), told()), ("Unavailable".to_owned(), vec!["cl_1".to_owned()]));
    index.replace(&[id("openai")], vec![claim("cl_2", 1, "openai", None)], NOW).unwrap();
    index.apply(vec![approved("cl_3", None)], NOW);
    assert_eq!(index.state(NOW).entries, 0, "it is not served any more");
}

#[test]
fn service_that_is_refused_does_not_keep_the_gateway_unready_unless_all_are() {
    let (openai, slack) = ([id("openai")], [id("slack")]);
    let index = ClaimsIndex::new(vec![], Some(STALENESS));
    index.expect(&[id("openai"), id("slack")], vec![], ClaimsSource::Stream);
    index.failed(&openai, FeedFailure::Refused, "no");
    assert!(!index.state(NOW).ready, "the other was not asked for");
    index.failed(&slack, FeedFailure::Unreachable, "nobody answers");
    assert!(!index.state(NOW).ready, "what the other's claims are is not known");
    index.failed(&slack, FeedFailure::Refused, "no");
    assert!(!index.state(NOW).ready, "nothing was received");
    index.replace(&slack, vec![], NOW).unwrap();
    assert!(index.state(NOW).ready);
    let index = ClaimsIndex::new(vec![], Some(STALENESS));
    index.expect(&[id("openai"), id("slack")], vec![], ClaimsSource::Stream);
    index.replace(&slack, vec![], NOW).unwrap();
    assert!(!index.state(NOW).ready);
    index.failed(&openai, FeedFailure::Refused, "no");
    assert!(index.state(NOW).ready, "also where the refusal comes last");
}

#[test]
fn nothing_expected_is_ready_and_as_fresh_as_can_be() {
    let index = ClaimsIndex::new(vec![], Some(STALENESS));
    assert!(!index.state(NOW).ready);
    index.expect(&[], vec![id("openai")], ClaimsSource::Stream);
    let state = index.state(NOW);
    assert_eq!((state.ready, state.age, state.connected), (true, Some(Duration::ZERO), true));
    assert_eq!(found_at(&index, 1_000), "Unavailable");
}

#[test]
fn more_claims_than_may_be_held_are_left_out_one_by_one_and_refused_whole() {
    let (index, _) = served(vec![]);
    index.hold_at_most(2);
    let numbered = |n: u8| claim(&format!("cl_{n}"), n, "openai", None);
    index.apply((1..=3).map(|n| Delta::Approved(numbered(n))).collect(), NOW);
    assert_eq!((index.state(NOW).entries, found_at(&index, 1_000)), (2, "cl_1".to_owned()));
    let many = index.replace(&[id("openai")], (4..=6).map(numbered).collect(), NOW);
    assert_eq!(many, Err(TooMany { most: 2 }));
    assert_eq!(found_at(&index, 1_000), "cl_1");
    index.replace(&[id("openai")], (4..=5).map(numbered).collect(), NOW).unwrap();
    assert_eq!(index.state(NOW).entries, 2);
}
