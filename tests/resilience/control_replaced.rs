//! The control plane comes back with another database than the one that the gateway's cursor is of.

use std::path::Path;

use sigilum::control::store::DatabaseUrl;
use sqlx::Connection as _;
use tempfile::TempDir;

use super::control_outage::{CONNECTION, streaming_upstream};
use crate::support::agent::Agent;
use crate::support::control::{Control, Service};
use crate::support::eventually;
use crate::support::gateway::{Gateway, Setup};
use crate::support::held_port::HeldPort;
use crate::support::raw::RawClient;

/// The control plane over this database, where the gateway looks for it.
fn serve(file: &Path, port: &HeldPort) -> Control {
    Control::over(DatabaseUrl::Sqlite(file.to_owned()), |config| config.listen = port.address())
}

fn approve(control: &Control, agent: &Agent, service: &Service) {
    control.approved(&control.owner(agent.namespace()), agent, service);
}

/// Copies a database as an operator does who restores a backup: the copy's feed gets a name of its own.
fn restore(from: &Path, to: &Path) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        for (file, statement) in [
            (from, format!("VACUUM INTO '{}'", to.display())),
            (to, "UPDATE feed_head SET epoch = ''".to_owned()),
        ] {
            let mut connection =
                sqlx::SqliteConnection::connect(&format!("sqlite://{}", file.display())).await.unwrap();
            sqlx::query(sqlx::AssertSqlSafe(statement)).execute(&mut connection).await.unwrap();
            connection.close().await.unwrap();
        }
    });
}

fn get(gateway: &Gateway, agent: &Agent, path: &str) -> RawClient {
    let mut client = gateway.connect();
    client.send(agent.get(gateway.url(), &format!("/proxy/{CONNECTION}{path}")).to_bytes());
    client
}

fn status(gateway: &Gateway, agent: &Agent) -> u16 {
    get(gateway, agent, "/v1/chat").response().status
}

#[test]
fn database_that_was_replaced_is_read_anew_and_withdraws_what_it_does_not_hold() {
    let (directory, port) = (TempDir::new().unwrap(), HeldPort::new());
    let (before, after) = (directory.path().join("before.db"), directory.path().join("after.db"));
    let (alice, robert, carol) = (Agent::new("alice"), Agent::new("robert"), Agent::new("carol"));
    let mut control = serve(&before, &port);
    let service = control.service(&control.owner("acme"), CONNECTION);
    approve(&control, &alice, &service);
    restore(&before, &after);
    approve(&control, &robert, &service);
    // As many changes in the one as in the other: by their numbers alone the two feeds are the same.
    let mut elsewhere = Control::at(&after);
    approve(&elsewhere, &carol, &service);
    elsewhere.stop();
    drop(elsewhere);

    let (upstream, to_alice, to_robert) = streaming_upstream();
    let gateway = Setup::new()
        .bearer(CONNECTION, &upstream.url(), "s")
        .set("control_plane.url", port.origin())
        .set("control_plane.service_api_key", "env:SERVICE_KEY")
        .env("SERVICE_KEY", &service.key)
        .start();
    eventually("robert's claim", || (status(&gateway, &robert) == 200).then_some(()));
    assert_eq!((status(&gateway, &alice), status(&gateway, &carol)), (200, 403));
    let (mut of_alice, mut of_robert) = (get(&gateway, &alice, "/alice"), get(&gateway, &robert, "/robert"));
    for (client, hand) in [(&mut of_alice, &to_alice), (&mut of_robert, &to_robert)] {
        assert_eq!(client.head().unwrap().status, 200);
        hand.send("data: 1\n\n");
        assert_eq!(client.chunk().unwrap(), b"data: 1\n\n");
    }

    control.stop();
    drop(control);
    let control = serve(&after, &port);
    eventually("the other database's claim", || (status(&gateway, &carol) == 200).then_some(()));
    assert_eq!((status(&gateway, &alice), status(&gateway, &robert)), (200, 403));
    assert_eq!(of_robert.chunk(), None, "the stream of the claim that is gone");
    to_alice.send("data: 2\n\n");
    assert_eq!(of_alice.chunk().unwrap(), b"data: 2\n\n");
    gateway.wait_for_metric("sigilum_gateway_streams_cut_total", 1.0);
    gateway.wait_for_metric("sigilum_gateway_claims_entries", 2.0);
    assert_eq!(control.requests("/v1/namespaces/claims"), 1);
    assert_eq!(
        control.requests("/v1/namespaces/claims/stream"),
        2,
        "the one by the old cursor, and the next"
    );
}
