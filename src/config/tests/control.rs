//! The control plane's environment.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use crate::config::{ControlDefaults, Faults, control_config};
use crate::control::store::DatabaseUrl;
use crate::control::{ControlConfig, Environment, Limits};

const SECRET: &str = "canary-of-thirty-two-bytes-and-more";
const SEALING_KEY: &str = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=";
const POSTGRES: &str = "postgres://sigilum:canary-password@db.internal/sigilum";

/// The settings and the lines of warnings, or the lines of faults.
fn read(data_dir: &Path, variables: &[(&str, &str)]) -> Result<(ControlConfig, Vec<String>), Vec<String>> {
    let env =
        |name: &str| variables.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned());
    let defaults = ControlDefaults { listen: None, data_dir: data_dir.to_owned() };
    let lines = |faults: Faults| faults.to_string().lines().map(str::to_owned).collect::<Vec<_>>();
    match control_config(&env, &defaults) {
        Ok((config, warnings)) => Ok((config, lines(Faults::new(Path::new("environment"), warnings)))),
        Err(faults) => Err(lines(faults)),
    }
}

fn mode(path: &Path) -> u32 {
    std::fs::metadata(path).unwrap().permissions().mode() & 0o777
}

#[test]
fn without_variables_there_is_sqlite_and_secrets_are_made_once() {
    let place = tempfile::tempdir().unwrap();
    let data = place.path().join("api-data");
    let (config, warnings) = read(&data, &[]).unwrap();
    assert_eq!(warnings, [""; 0]);
    assert_eq!(config.listen.to_string(), "127.0.0.1:8787");
    assert_eq!((config.environment, config.token_ttl.as_secs()), (Environment::Local, 604_800));
    assert!(matches!(&config.database, DatabaseUrl::Sqlite(path) if *path == data.join("sigilum.db")));
    assert_eq!((mode(&data), mode(&data.join("jwt-secret"))), (0o700, 0o600));
    assert_eq!(mode(&data.join("sealing-key")), 0o600);
    let made = std::fs::read_to_string(data.join("jwt-secret")).unwrap();
    assert!(made.trim().len() >= 32);
    read(&data, &[]).unwrap();
    assert_eq!(std::fs::read_to_string(data.join("jwt-secret")).unwrap(), made);
    assert_eq!(std::fs::read_dir(&data).unwrap().count(), 2, "a draft was left");
}

#[test]
fn secret_that_others_may_read_is_refused_with_the_command_to_type() {
    let place = tempfile::tempdir().unwrap();
    read(place.path(), &[]).unwrap();
    let file = place.path().join("jwt-secret");
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o644)).unwrap();
    let faults = read(place.path(), &[]).unwrap_err();
    assert_eq!(
        faults,
        [format!(
            "environment: JWT_SECRET: is not set, and {0} cannot be used in its place: others may read it (mode 0644); type `chmod 600 {0}`",
            file.display()
        )]
    );
}

#[test]
fn postgres_needs_the_secrets_that_replicas_share() {
    let place = tempfile::tempdir().unwrap();
    let faults = read(place.path(), &[("DATABASE_URL", POSTGRES)]).unwrap_err();
    assert_eq!(
        faults,
        [
            "environment: warning: SIGILUM_API_PUBLIC_URL: is not set, so signatures are proven against each request's Host; set it to the URL that others call",
            "environment: JWT_SECRET: is needed with DATABASE_URL, the same at every replica: at least 32 bytes of text",
            "environment: SIGILUM_API_SEALING_KEY: is needed with DATABASE_URL, the same at every replica: the base64 of 32 bytes",
        ]
    );
    let given = [
        ("DATABASE_URL", POSTGRES),
        ("JWT_SECRET", SECRET),
        ("SIGILUM_API_SEALING_KEY", SEALING_KEY),
        ("SIGILUM_API_PUBLIC_URL", "https://sigilum.internal"),
    ];
    let (config, warnings) = read(place.path(), &given).unwrap();
    assert_eq!(warnings, [""; 0]);
    assert_eq!(config.environment, Environment::Production);
    assert!(matches!(&config.database, DatabaseUrl::Postgres(url) if url.expose() == POSTGRES));
    assert_eq!(std::fs::read_dir(place.path()).unwrap().count(), 0, "secrets were made beside those given");
}

#[test]
fn each_fault_names_its_variable_and_no_secret() {
    let place = tempfile::tempdir().unwrap();
    let faults = read(
        place.path(),
        &[
            ("DATABASE_URL", "mysql://root:canary@db/x"),
            ("JWT_SECRET", "canary"),
            ("SIGILUM_API_SEALING_KEY", "canary"),
            ("SIGILUM_API_LISTEN", "here"),
            ("SIGILUM_API_PUBLIC_URL", "https://a.example/path"),
            ("SIGILUM_API_ALLOWED_ORIGINS", "https://a.example, b.example"),
            ("WEBHOOK_ALLOW_PRIVATE_TARGETS", "perhaps"),
            ("SIGILUM_ENVIRONMENT", "staging"),
            ("SIGILUM_OWNER_TOKEN_TTL_SECONDS", "1"),
        ],
    )
    .unwrap_err();
    let expected = [
        "environment: DATABASE_URL: takes postgres://user:password@host/database or sqlite:/path/to/file; unset it for SQLite in SIGILUM_API_DATA_DIR",
        "environment: SIGILUM_ENVIRONMENT: takes local, test or production; it holds \"staging\"",
        "environment: SIGILUM_API_LISTEN: takes an IP address and a port, such as 127.0.0.1:38100 or [::1]:38100; it holds \"here\"",
        "environment: SIGILUM_API_PUBLIC_URL: takes a URL without a path, such as https://sigilum.internal; it holds \"https://a.example/path\"",
        "environment: SIGILUM_API_ALLOWED_ORIGINS: takes origins between commas, such as https://dashboard.example.com; it holds \"b.example\"",
        "environment: WEBHOOK_ALLOW_PRIVATE_TARGETS: takes true or false; it holds \"perhaps\"",
        "environment: SIGILUM_OWNER_TOKEN_TTL_SECONDS: takes whole seconds from 60 to 31622400; it holds \"1\"",
        "environment: JWT_SECRET: takes at least 32 bytes of text; it has 6",
        "environment: SIGILUM_API_SEALING_KEY: takes the base64 of 32 bytes, as `openssl rand -base64 32` prints it; it holds something else",
    ];
    assert_eq!(faults, expected);
    assert_eq!(
        std::fs::read_dir(place.path()).unwrap().count(),
        0,
        "secrets were made for a start that fails"
    );
}

#[test]
fn limits_are_what_variables_say_within_their_bounds() {
    let place = tempfile::tempdir().unwrap();
    let names = [
        ("SIGILUM_API_MAX_REQUESTS_PER_SECOND", "200"),
        ("SIGILUM_API_MAX_KEYS_PER_SERVICE", "40"),
        ("SIGILUM_API_MAX_WEBHOOKS_PER_SERVICE", "0"),
        ("SIGILUM_API_MAX_SERVICES_PER_OWNER", "7"),
    ];
    let (config, _) = read(place.path(), &names).unwrap();
    let expected = Limits {
        requests_per_second: 200,
        keys_per_service: 40,
        webhooks_per_service: 0,
        services_per_owner: 7,
        ..Limits::default()
    };
    assert_eq!(config.limits, expected);
    assert_eq!(read(place.path(), &[]).unwrap().0.limits, Limits::default());
    let faults = read(place.path(), &names.map(|(name, _)| (name, "1000000"))).unwrap_err();
    assert_eq!(
        faults,
        [
            "environment: SIGILUM_API_MAX_REQUESTS_PER_SECOND: takes a whole number from 1 to 100000; it holds \"1000000\"",
            "environment: SIGILUM_API_MAX_KEYS_PER_SERVICE: takes a whole number from 1 to 1000; it holds \"1000000\"",
            "environment: SIGILUM_API_MAX_WEBHOOKS_PER_SERVICE: takes a whole number from 0 to 1000; it holds \"1000000\"",
            "environment: SIGILUM_API_MAX_SERVICES_PER_OWNER: takes a whole number from 1 to 100000; it holds \"1000000\"",
        ]
    );
}

#[test]
fn seeding_is_refused_in_production_and_without_a_token() {
    let place = tempfile::tempdir().unwrap();
    let seed = ("ENABLE_TEST_SEED_ENDPOINT", "true");
    let token = ("SIGILUM_TEST_SEED_TOKEN", "canary-of-sixteen");
    assert_eq!(
        read(place.path(), &[seed]).unwrap_err(),
        [
            "environment: SIGILUM_TEST_SEED_TOKEN: is needed with ENABLE_TEST_SEED_ENDPOINT: at least 16 characters"
        ]
    );
    let faults = read(place.path(), &[seed, token, ("SIGILUM_ENVIRONMENT", "production")]).unwrap_err();
    assert!(
        faults.contains(&"environment: ENABLE_TEST_SEED_ENDPOINT: is for tests only and refused with SIGILUM_ENVIRONMENT=production; unset it".to_owned()),
        "{faults:?}"
    );
    let (config, _) = read(place.path(), &[seed, token]).unwrap();
    assert_eq!(config.test_seed.unwrap().expose(), "canary-of-sixteen");
    let (config, warnings) = read(place.path(), &[token]).unwrap();
    assert!(config.test_seed.is_none());
    assert_eq!(
        warnings,
        [
            "environment: warning: SIGILUM_TEST_SEED_TOKEN: has no effect without ENABLE_TEST_SEED_ENDPOINT=true"
        ]
    );
}
