//! The vault's reads: a secret unsealed (`Vault::get`), which happens when a secret or a variable changes, and never for a
//! request; compared with XChaCha20-Poly1305 alone over as many bytes, and with what a request does in its place.
#![allow(missing_docs, unreachable_pub, clippy::unwrap_used)]

use chacha20poly1305::aead::{Aead as _, KeyInit as _};
use chacha20poly1305::{XChaCha20Poly1305, XNonce};
use criterion::{Criterion, criterion_group, criterion_main};
use sigilum::connections::{Auth, Connection, LiveConnection, SecretSource};
use sigilum::secret::SecretBytes;
use sigilum::vault::{Batch, Kind, MasterKey, MasterKeySource, RecordKey, Vault, VaultOptions};

const SECRET: &[u8] = b"sk-proj-0123456789abcdefghijklmnopqrstuvwxyz";

fn vault(criterion: &mut Criterion) {
    let directory = tempfile::tempdir().unwrap();
    let master = MasterKeySource::Given(MasterKey::generate().unwrap());
    let vault = Vault::open(&VaultOptions::new(&directory.path().join("vault"), master)).unwrap();
    let key = RecordKey::new(Kind::Secret, "openai", "api_key", 1).unwrap();
    vault.commit(Batch::new().put(key.clone(), SecretBytes::new(SECRET.to_vec()))).unwrap();

    let mut group = criterion.benchmark_group("vault");
    group.bench_function("a secret unsealed", |bencher| bencher.iter(|| vault.get(&key).unwrap().unwrap()));

    let cipher = XChaCha20Poly1305::new(&[7; 32].into());
    let nonce = XNonce::from([9; 24]);
    let sealed = cipher.encrypt(&nonce, SECRET).unwrap();
    group.bench_function("the cipher alone", |bencher| {
        bencher.iter(|| cipher.decrypt(&nonce, sealed.as_slice()).unwrap())
    });

    let file = directory.path().join("secret");
    std::fs::write(&file, SECRET).unwrap();
    let live = LiveConnection::open(Connection {
        auth: Auth::Header { name: http::header::AUTHORIZATION, prefix: "Bearer ".to_owned() },
        secret: Some(SecretSource::File(file)),
        ..Connection::named("openai".parse().unwrap())
    });
    group.bench_function("what a request does: the ready credential lent", |bencher| {
        bencher.iter(|| live.lend().unwrap().unwrap())
    });
    group.finish();
}

criterion_group!(benches, vault);
criterion_main!(benches);
