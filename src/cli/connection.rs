//! `sigilum connection`: the connections of a running gateway, over its admin API.

pub(super) mod client;
mod fields;
pub(super) mod secrets;
mod show;

use reqwest::Method;
use serde_json::{Map, Value, json};

use self::client::{Access, Client, HEADING};
use self::fields::Fields;
use self::secrets::{SecretArgs, Secrets};
use super::place::Place;
use super::report::write_json;
use super::{Exit, Failure, Io, Report};
use crate::names::{ConnectionId, SecretName};
use crate::secret::SecretString;

const ROOT: &str = "/api/admin/connections";
/// The name that a service's key is sealed under.
const SERVICE_KEY: &str = "service_api_key";

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Where the gateway's admin API is [default: the local stack's, else http://127.0.0.1:38101]
    #[arg(long, global = true, env = "GATEWAY_ADMIN_URL", hide_env_values = true, value_name = "URL", help_heading = HEADING)]
    gateway_admin_url: Option<String>,
    /// Print JSON
    #[arg(long, global = true)]
    json: bool,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Make a connection, in service at once
    Add(Box<Add>),
    /// Show all connections
    List(Only),
    /// Show one connection
    Get(One),
    /// Change a connection; what is not named stays
    Update(Box<Update>),
    /// Give secrets new values, used by the next request
    Rotate(Rotate),
    /// Send one request to the upstream with the connection's secret
    Test(Test),
    /// Remove a connection with its secrets
    Delete(One),
}

#[derive(Debug, clap::Args)]
struct Only {
    #[command(flatten)]
    access: Access,
}

#[derive(Debug, clap::Args)]
struct One {
    /// The connection's id
    id: ConnectionId,
    #[command(flatten)]
    access: Access,
}

#[derive(Debug, clap::Args)]
struct Add {
    #[command(flatten)]
    one: One,
    /// Begin with a template of the gateway's service catalog, such as openai
    #[arg(long, value_name = "KEY")]
    template: Option<String>,
    #[command(flatten)]
    fields: Fields,
    #[command(flatten)]
    secrets: SecretArgs,
}

#[derive(Debug, clap::Args)]
struct Update {
    #[command(flatten)]
    one: One,
    #[command(flatten)]
    fields: Fields,
    #[command(flatten)]
    secrets: SecretArgs,
    /// Remove a secret
    #[arg(long, value_name = "KEY")]
    remove_secret: Vec<String>,
    /// Give a field its default, as in --reset path_prefix
    #[arg(long, value_name = "FIELD")]
    reset: Vec<String>,
}

#[derive(Debug, clap::Args)]
struct Rotate {
    #[command(flatten)]
    one: One,
    #[command(flatten)]
    secrets: SecretArgs,
    /// Who does it; kept and shown
    #[arg(long, value_name = "WHO")]
    rotated_by: Option<String>,
    /// Why; kept and shown
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
}

#[derive(Debug, clap::Args)]
struct Test {
    #[command(flatten)]
    one: One,
    /// GET, HEAD, OPTIONS or POST
    #[arg(long)]
    method: Option<String>,
    /// Path and query below the connection's base [default: the catalog's, else /]
    #[arg(long, value_name = "PATH")]
    test_path: Option<String>,
    /// A header besides the secret's
    #[arg(short = 'H', long = "header", value_name = "NAME: VALUE")]
    headers: Vec<String>,
    /// The body
    #[arg(long)]
    body: Option<String>,
}

pub(super) fn run(args: Args, io: &mut Io<'_>) -> Result<Exit, Failure> {
    let url = Place::here(None)?.own_admin_url(args.gateway_admin_url.as_deref());
    let (url, json) = (url.as_str(), args.json);
    match args.command {
        Command::Add(add) => self::add(&add, url, json, io),
        Command::List(Only { access }) => {
            let all = Client::new(url, &access, io)?.get(ROOT)?;
            show::list(io, &all, json)?;
            Ok(Exit::Done)
        }
        Command::Get(one) => {
            let view = Client::new(url, &one.access, io)?.get(&path(&one.id, ""))?;
            show::connection(io, format!("Connection {}", one.id), &view, json)?;
            Ok(Exit::Done)
        }
        Command::Update(update) => self::update(&update, url, json, io),
        Command::Rotate(rotate) => self::rotate(&rotate, url, json, io),
        Command::Test(test) => self::test(&test, url, json, io),
        Command::Delete(one) => {
            Client::new(url, &one.access, io)?.call(Method::DELETE, &path(&one.id, ""), None)?;
            Report::new("Connection deleted.").field("id", one.id.to_string()).write(&mut io.out, json)?;
            Ok(Exit::Done)
        }
    }
}

fn path(id: &ConnectionId, action: &str) -> String {
    format!("{ROOT}/{id}{action}")
}

fn add(add: &Add, url: &str, json: bool, io: &mut Io<'_>) -> Result<Exit, Failure> {
    let id = &add.one.id;
    let client = Client::new(url, &add.one.access, io)?;
    let mut body = match &add.template {
        Some(key) => fields::of_template(&client.get("/api/admin/service-catalog")?, key)?,
        None => Map::new(),
    };
    body.extend(add.fields.to_json());
    if !body.contains_key("base_url") {
        return Err(
            Failure::usage("where the connection leads is needed").hint("name it with --base-url URL")
        );
    }
    let secrets = add.secrets.read(io)?;
    body.insert("id".to_owned(), json!(id.as_str()));
    body.insert("secrets".to_owned(), secrets.to_json(&client, id, add.secrets.sealing(), io)?.into());
    let view = client.post(ROOT, &body.into())?;
    show::connection(io, "Connection added.".to_owned(), &view, json)?;
    Ok(Exit::Done)
}

fn update(update: &Update, url: &str, json: bool, io: &mut Io<'_>) -> Result<Exit, Failure> {
    let id = &update.one.id;
    let client = Client::new(url, &update.one.access, io)?;
    let given = update.secrets.read(io)?;
    let mut body = update.fields.to_json();
    body.extend(update.reset.iter().map(|field| (field.clone(), Value::Null)));
    let mut secrets = given.to_json(&client, id, update.secrets.sealing(), io)?;
    secrets.extend(update.remove_secret.iter().map(|key| (key.clone(), Value::Null)));
    if !secrets.is_empty() {
        body.insert("secrets".to_owned(), secrets.into());
    }
    if body.is_empty() {
        return Err(Failure::usage("nothing is to be changed").hint("name a field, as in --name NAME"));
    }
    let view = client.call(Method::PATCH, &path(id, ""), Some(&body.into()))?;
    show::connection(io, "Connection updated.".to_owned(), &view, json)?;
    Ok(Exit::Done)
}

fn rotate(rotate: &Rotate, url: &str, json: bool, io: &mut Io<'_>) -> Result<Exit, Failure> {
    let id = &rotate.one.id;
    let client = Client::new(url, &rotate.one.access, io)?;
    let secrets = rotate.secrets.read(io)?;
    if secrets.is_empty() {
        let hint = "name one, as in --secret-env api_key=OPENAI_API_KEY";
        return Err(Failure::usage("there is no secret to set").hint(hint));
    }
    let body = json!({
        "secrets": secrets.to_json(&client, id, rotate.secrets.sealing(), io)?,
        "rotated_by": rotate.rotated_by,
        "rotation_reason": rotate.reason,
    });
    let view = client.post(&path(id, "/rotate"), &body)?;
    show::connection(io, "Secrets rotated.".to_owned(), &view, json)?;
    Ok(Exit::Done)
}

fn test(test: &Test, url: &str, json: bool, io: &mut Io<'_>) -> Result<Exit, Failure> {
    let mut headers = Map::new();
    for header in &test.headers {
        let (name, value) = header.split_once(':').ok_or_else(|| Failure::usage("-H takes NAME: VALUE"))?;
        headers.insert(name.trim().to_owned(), json!(value.trim()));
    }
    let mut body = Map::new();
    let texts = [("method", &test.method), ("test_path", &test.test_path), ("body", &test.body)];
    body.extend(texts.into_iter().filter_map(|(name, text)| Some((name.to_owned(), json!(text.as_ref()?)))));
    if !headers.is_empty() {
        body.insert("headers".to_owned(), headers.into());
    }
    let client = Client::new(url, &test.one.access, io)?;
    let outcome = client.post(&path(&test.one.id, "/test"), &body.into())?;
    let passed = outcome.get("status").and_then(Value::as_str) == Some("pass");
    if json {
        write_json(&mut io.out, &outcome)?;
    } else {
        let report = Report::new("Connection test passed.").field("id", test.one.id.to_string());
        let shown = outcome.as_object().into_iter().flatten().filter(|(_, value)| !value.is_null());
        let report = shown.fold(report, |report, (name, value)| report.field(name, value.clone()));
        if passed {
            report.write(&mut io.out, false)?;
        } else {
            let text = |name: &str| outcome.get(name).and_then(Value::as_str);
            let sentence = text("error").unwrap_or("the upstream did not answer as it should").to_owned();
            let failure = Failure::from(anyhow::anyhow!("the connection test failed: {sentence}"));
            return Err(match text("excerpt") {
                Some(excerpt) => failure.hint(format!("it said: {excerpt}")),
                None => failure,
            });
        }
    }
    Ok(if passed { Exit::Done } else { Exit::Failed })
}

/// Sets one secret of a connection: `sigilum service secret set`.
pub(super) fn set_secret(
    client: &Client,
    id: &ConnectionId,
    name: &SecretName,
    value: SecretString,
    io: &mut Io<'_>,
) -> Result<Value, Failure> {
    let secrets = on_its_way(client, id, name, value, io)?;
    client.post(&path(id, "/rotate"), &json!({ "secrets": secrets }))
}

/// A connection, where there is one of this id.
pub(super) fn find(client: &Client, id: &ConnectionId) -> Result<Option<Value>, Failure> {
    let all = client.get(ROOT)?;
    let all = all.get("connections").and_then(Value::as_array).cloned().unwrap_or_default();
    Ok(all.into_iter().find(|view| view.get("id").and_then(Value::as_str) == Some(id.as_str())))
}

/// One secret by its name, as the API takes it: sealed where the gateway is elsewhere.
pub(super) fn on_its_way(
    client: &Client,
    id: &ConnectionId,
    name: &SecretName,
    value: SecretString,
    io: &mut Io<'_>,
) -> Result<Map<String, Value>, Failure> {
    Secrets::one(name, value).to_json(client, id, &secrets::Sealing::default(), io)
}

/// Makes a connection, or changes the one that stands.
pub(super) fn put(client: &Client, id: &ConnectionId, stands: bool, body: &Value) -> Result<Value, Failure> {
    if stands { client.call(Method::PATCH, &path(id, ""), Some(body)) } else { client.post(ROOT, body) }
}

/// Gives the gateway a service's key at the control plane.
pub(super) fn put_service_key(
    client: &Client,
    id: &ConnectionId,
    key: SecretString,
    io: &mut Io<'_>,
) -> Result<(), Failure> {
    let name: SecretName = SERVICE_KEY.parse()?;
    let mut sent = on_its_way(client, id, &name, key, io)?;
    let body = json!({ "key": sent.remove(SERVICE_KEY) });
    client.call(Method::PUT, &service_key_path(id), Some(&body))?;
    Ok(())
}

/// What the gateway knows of a service by its key.
pub(super) fn service_key(client: &Client, id: &ConnectionId) -> Result<Value, Failure> {
    client.get(&service_key_path(id))
}

fn service_key_path(id: &ConnectionId) -> String {
    format!("/api/admin/service-api-keys/{id}")
}

/// A connection as the API shows it.
pub(super) fn view(client: &Client, id: &ConnectionId) -> Result<Value, Failure> {
    client.get(&path(id, ""))
}
