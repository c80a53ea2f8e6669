//! The templates that this version brings: one row a provider, from the provider's own documentation.

use super::{Catalog, CredentialField, Template, TestRequest, VERSION};

/// A template as it stands in the table.
struct Row {
    key: &'static str,
    name: &'static str,
    base_url: &'static str,
    path_prefix: &'static str,
    auth_mode: &'static str,
    header: &'static str,
    prefix: &'static str,
    /// Of basic authentication, what the user's name is, and what one looks like.
    username: Option<(&'static str, &'static str)>,
    secret: (&'static str, &'static str),
    placeholder: Option<&'static str>,
    test: (&'static str, &'static str),
    headers: &'static [(&'static str, &'static str)],
    body: Option<&'static str>,
    note: Option<&'static str>,
    docs_url: &'static str,
}

/// What most have.
const BEARER: Row = Row {
    key: "",
    name: "",
    base_url: "",
    path_prefix: "",
    auth_mode: "bearer",
    header: "Authorization",
    prefix: "Bearer ",
    username: None,
    secret: ("api_key", "API key"),
    placeholder: None,
    test: ("GET", "/"),
    headers: &[],
    body: None,
    note: None,
    docs_url: "",
};

pub(super) fn catalog() -> Catalog {
    Catalog { version: VERSION, services: ROWS.iter().map(template).collect() }
}

fn template(row: &Row) -> Template {
    let owned = str::to_owned;
    let username = row.username.map(|(label, placeholder)| CredentialField {
        key: "username".to_owned(),
        label: label.to_owned(),
        secret: false,
        placeholder: Some(placeholder.to_owned()),
    });
    let (key, label) = row.secret;
    let secret = CredentialField {
        key: key.to_owned(),
        label: label.to_owned(),
        secret: true,
        placeholder: row.placeholder.map(owned),
    };
    let (method, path) = row.test;
    Template {
        key: row.key.to_owned(),
        name: row.name.to_owned(),
        protocol: "http".to_owned(),
        base_url: row.base_url.to_owned(),
        path_prefix: row.path_prefix.to_owned(),
        auth_mode: row.auth_mode.to_owned(),
        auth_header_name: row.header.to_owned(),
        auth_prefix: row.prefix.to_owned(),
        auth_secret_key: key.to_owned(),
        credential_fields: username.into_iter().chain([secret]).collect(),
        test: Some(TestRequest {
            method: method.to_owned(),
            path: path.to_owned(),
            headers: row.headers.iter().map(|(name, value)| (owned(name), owned(value))).collect(),
            body: row.body.map(owned),
        }),
        mcp_endpoint: None,
        note: row.note.map(owned),
        docs_url: Some(row.docs_url.to_owned()),
    }
}

const ROWS: &[Row] = &[
    Row {
        key: "openai",
        name: "OpenAI",
        base_url: "https://api.openai.com",
        placeholder: Some("sk-…"),
        test: ("GET", "/v1/models"),
        docs_url: "https://platform.openai.com/docs/api-reference/authentication",
        ..BEARER
    },
    Row {
        key: "anthropic",
        name: "Anthropic",
        base_url: "https://api.anthropic.com",
        auth_mode: "header_key",
        header: "x-api-key",
        prefix: "",
        placeholder: Some("sk-ant-…"),
        test: ("GET", "/v1/models"),
        headers: &[("anthropic-version", "2023-06-01")],
        note: Some("Clients send anthropic-version themselves, as Anthropic's libraries do."),
        docs_url: "https://docs.anthropic.com/en/api/overview",
        ..BEARER
    },
    Row {
        key: "gemini",
        name: "Google Gemini",
        base_url: "https://generativelanguage.googleapis.com",
        auth_mode: "header_key",
        header: "x-goog-api-key",
        prefix: "",
        placeholder: Some("AIza…"),
        test: ("GET", "/v1beta/models?pageSize=1"),
        docs_url: "https://ai.google.dev/gemini-api/docs/api-key",
        ..BEARER
    },
    Row {
        key: "azure-openai",
        name: "Azure OpenAI",
        base_url: "https://{resource}.openai.azure.com",
        auth_mode: "header_key",
        header: "api-key",
        prefix: "",
        test: ("GET", "/openai/models?api-version=2024-10-21"),
        note: Some(
            "The base URL is the resource's own: put its name in place of {resource}. Clients send api-version themselves.",
        ),
        docs_url: "https://learn.microsoft.com/azure/ai-services/openai/reference",
        ..BEARER
    },
    Row {
        key: "mistral",
        name: "Mistral AI",
        base_url: "https://api.mistral.ai",
        test: ("GET", "/v1/models"),
        docs_url: "https://docs.mistral.ai/api/",
        ..BEARER
    },
    Row {
        key: "openrouter",
        name: "OpenRouter",
        base_url: "https://openrouter.ai",
        placeholder: Some("sk-or-v1-…"),
        test: ("GET", "/api/v1/key"),
        docs_url: "https://openrouter.ai/docs/api-reference/authentication",
        ..BEARER
    },
    Row {
        key: "groq",
        name: "Groq",
        base_url: "https://api.groq.com",
        placeholder: Some("gsk_…"),
        test: ("GET", "/openai/v1/models"),
        docs_url: "https://console.groq.com/docs/api-reference",
        ..BEARER
    },
    Row {
        key: "cohere",
        name: "Cohere",
        base_url: "https://api.cohere.com",
        test: ("GET", "/v1/models?page_size=1"),
        docs_url: "https://docs.cohere.com/reference/about",
        ..BEARER
    },
    Row {
        key: "together",
        name: "Together AI",
        base_url: "https://api.together.xyz",
        test: ("GET", "/v1/models"),
        docs_url: "https://docs.together.ai/reference/authentication-1",
        ..BEARER
    },
    Row {
        key: "deepseek",
        name: "DeepSeek",
        base_url: "https://api.deepseek.com",
        placeholder: Some("sk-…"),
        test: ("GET", "/models"),
        docs_url: "https://api-docs.deepseek.com/",
        ..BEARER
    },
    Row {
        key: "xai",
        name: "xAI",
        base_url: "https://api.x.ai",
        placeholder: Some("xai-…"),
        test: ("GET", "/v1/models"),
        docs_url: "https://docs.x.ai/docs/api-reference",
        ..BEARER
    },
    Row {
        key: "elevenlabs",
        name: "ElevenLabs",
        base_url: "https://api.elevenlabs.io",
        auth_mode: "header_key",
        header: "xi-api-key",
        prefix: "",
        test: ("GET", "/v1/models"),
        docs_url: "https://elevenlabs.io/docs/api-reference/authentication",
        ..BEARER
    },
    Row {
        key: "slack",
        name: "Slack",
        base_url: "https://slack.com/api",
        secret: ("bot_token", "Bot token"),
        placeholder: Some("xoxb-…"),
        test: ("POST", "/auth.test"),
        note: Some("Slack answers 200 also to a wrong token, with \"ok\": false in the body."),
        docs_url: "https://docs.slack.dev/reference/methods/auth.test",
        ..BEARER
    },
    Row {
        key: "discord",
        name: "Discord",
        base_url: "https://discord.com/api/v10",
        auth_mode: "header_key",
        header: "Authorization",
        prefix: "Bot ",
        secret: ("bot_token", "Bot token"),
        test: ("GET", "/users/@me"),
        docs_url: "https://discord.com/developers/docs/reference#authentication",
        ..BEARER
    },
    Row {
        key: "telegram",
        name: "Telegram Bot API",
        base_url: "https://api.telegram.org",
        auth_mode: "path",
        header: "",
        prefix: "/bot{secret}",
        secret: ("bot_token", "Bot token"),
        placeholder: Some("123456:ABC-…"),
        test: ("GET", "/getMe"),
        note: Some(
            "The token is a part of the path: call /proxy/telegram/getMe, and the gateway puts /bot<token> before it.",
        ),
        docs_url: "https://core.telegram.org/bots/api#authorizing-your-bot",
        ..BEARER
    },
    Row {
        key: "whatsapp",
        name: "WhatsApp Cloud API",
        base_url: "https://graph.facebook.com",
        path_prefix: "/v23.0",
        secret: ("access_token", "Access token"),
        placeholder: Some("EAA…"),
        test: ("GET", "/me"),
        docs_url: "https://developers.facebook.com/docs/whatsapp/cloud-api/",
        ..BEARER
    },
    Row {
        key: "github",
        name: "GitHub",
        base_url: "https://api.github.com",
        secret: ("token", "Personal access token"),
        placeholder: Some("github_pat_…"),
        test: ("GET", "/user"),
        headers: &[
            ("accept", "application/vnd.github+json"),
            ("user-agent", "sigilum"),
            ("x-github-api-version", "2022-11-28"),
        ],
        note: Some("GitHub refuses requests without a User-Agent."),
        docs_url: "https://docs.github.com/rest/authentication",
        ..BEARER
    },
    Row {
        key: "gitlab",
        name: "GitLab",
        base_url: "https://gitlab.com/api/v4",
        auth_mode: "header_key",
        header: "PRIVATE-TOKEN",
        prefix: "",
        secret: ("token", "Access token"),
        placeholder: Some("glpat-…"),
        test: ("GET", "/user"),
        docs_url: "https://docs.gitlab.com/api/rest/authentication/",
        ..BEARER
    },
    Row {
        key: "linear",
        name: "Linear",
        base_url: "https://api.linear.app",
        auth_mode: "header_key",
        header: "Authorization",
        prefix: "",
        placeholder: Some("lin_api_…"),
        test: ("POST", "/graphql"),
        headers: &[("content-type", "application/json")],
        body: Some("{\"query\":\"{ viewer { id } }\"}"),
        note: Some(
            "A personal API key stands in Authorization as it is; an OAuth token wants auth_mode bearer.",
        ),
        docs_url: "https://linear.app/developers/graphql",
        ..BEARER
    },
    Row {
        key: "notion",
        name: "Notion",
        base_url: "https://api.notion.com",
        secret: ("token", "Integration token"),
        placeholder: Some("ntn_…"),
        test: ("GET", "/v1/users/me"),
        headers: &[("notion-version", "2022-06-28")],
        note: Some("Clients send Notion-Version themselves."),
        docs_url: "https://developers.notion.com/reference/authentication",
        ..BEARER
    },
    Row {
        key: "stripe",
        name: "Stripe",
        base_url: "https://api.stripe.com",
        secret: ("api_key", "Secret or restricted key"),
        placeholder: Some("rk_…"),
        test: ("GET", "/v1/balance"),
        docs_url: "https://docs.stripe.com/api/authentication",
        ..BEARER
    },
    Row {
        key: "typefully",
        name: "Typefully",
        base_url: "https://api.typefully.com",
        test: ("GET", "/v2/me"),
        docs_url: "https://typefully.com/docs/api",
        ..BEARER
    },
    Row {
        key: "sendgrid",
        name: "SendGrid",
        base_url: "https://api.sendgrid.com",
        placeholder: Some("SG.…"),
        test: ("GET", "/v3/scopes"),
        docs_url: "https://www.twilio.com/docs/sendgrid/api-reference/how-to-use-the-sendgrid-v3-api/authentication",
        ..BEARER
    },
    Row {
        key: "twilio",
        name: "Twilio",
        base_url: "https://api.twilio.com",
        auth_mode: "basic",
        header: "",
        prefix: "",
        username: Some(("Account SID or main API key SID", "AC…")),
        secret: ("password", "Auth token or main API key secret"),
        test: ("GET", "/2010-04-01/Accounts.json?PageSize=1"),
        docs_url: "https://www.twilio.com/docs/usage/requests-to-twilio",
        ..BEARER
    },
    Row {
        key: "hubspot",
        name: "HubSpot",
        base_url: "https://api.hubapi.com",
        secret: ("token", "Private app access token"),
        placeholder: Some("pat-…"),
        test: ("GET", "/account-info/v3/details"),
        docs_url: "https://developers.hubspot.com/docs/guides/apps/private-apps/overview",
        ..BEARER
    },
    Row {
        key: "airtable",
        name: "Airtable",
        base_url: "https://api.airtable.com",
        secret: ("token", "Personal access token"),
        placeholder: Some("pat….…"),
        test: ("GET", "/v0/meta/whoami"),
        docs_url: "https://airtable.com/developers/web/api/authentication",
        ..BEARER
    },
    Row {
        key: "jira",
        name: "Jira Cloud",
        base_url: "https://{site}.atlassian.net",
        auth_mode: "basic",
        header: "",
        prefix: "",
        username: Some(("E-mail address", "you@example.com")),
        secret: ("password", "API token"),
        test: ("GET", "/rest/api/3/myself"),
        note: Some("The base URL is the site's own: put its name in place of {site}."),
        docs_url: "https://developer.atlassian.com/cloud/jira/platform/basic-auth-for-rest-apis/",
        ..BEARER
    },
    Row {
        key: "asana",
        name: "Asana",
        base_url: "https://app.asana.com/api/1.0",
        secret: ("token", "Personal access token"),
        test: ("GET", "/users/me"),
        docs_url: "https://developers.asana.com/docs/personal-access-token",
        ..BEARER
    },
    Row {
        key: "resend",
        name: "Resend",
        base_url: "https://api.resend.com",
        placeholder: Some("re_…"),
        test: ("GET", "/domains"),
        docs_url: "https://resend.com/docs/api-reference/introduction",
        ..BEARER
    },
];
