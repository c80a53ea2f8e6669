//! The demo's provider.

use reqwest::{Client, RequestBuilder};
use serde_json::{Value, json};
use sigilum::cli::up::echo::Echo;
use sigilum::secret::SecretString;

const KEY: &str = "sk-demo-canary";

async fn echo() -> (Echo, Client, String) {
    let echo = Echo::start(SecretString::new(KEY.into()).unwrap()).await.unwrap();
    let url = format!("http://{}", echo.address());
    let client = sigilum::agent::client(&url.parse().unwrap(), None, false).unwrap();
    (echo, client, url)
}

async fn text(request: RequestBuilder) -> (u16, String) {
    let answer = request.send().await.unwrap();
    (answer.status().as_u16(), answer.text().await.unwrap())
}

async fn json_of(request: RequestBuilder) -> (u16, Value) {
    let (status, text) = text(request).await;
    (status, serde_json::from_str(&text).unwrap_or_else(|_| panic!("{text:?}")))
}

#[tokio::test]
async fn request_without_the_key_is_refused_in_openai_s_form() {
    let (echo, client, url) = echo().await;
    for request in
        [client.get(format!("{url}/v1/models")), client.get(format!("{url}/echo/x")).bearer_auth("sk-other")]
    {
        let (status, body) = json_of(request).await;
        assert_eq!(status, 401);
        assert_eq!(body["error"]["code"], "invalid_api_key");
        assert_eq!(body["error"]["type"], "invalid_request_error");
    }
    assert_eq!((echo.requests_with_key(), echo.requests_without_key()), (0, 2));
}

#[tokio::test]
async fn echo_shows_the_request_and_never_the_key() {
    let (echo, client, url) = echo().await;
    let request = client
        .put(format!("{url}/echo/a%2Fb/c?x=1&k={KEY}"))
        .bearer_auth(KEY)
        .header("x-also", format!("it is {KEY}"))
        .body(format!("the key is {KEY}"));
    let (status, text) = text(request).await;
    assert_eq!(status, 200);
    assert!(!text.contains(KEY), "{text}");
    let body: Value = serde_json::from_str(&text).unwrap();
    assert_eq!((&body["method"], &body["path"]), (&json!("PUT"), &json!("/echo/a%2Fb/c")));
    assert_eq!(body["query"], "x=1&k=[redacted]");
    assert_eq!(body["headers"]["authorization"], "[redacted]");
    assert_eq!(body["headers"]["x-also"], "it is [redacted]");
    assert_eq!(body["body"], "the key is [redacted]");
    assert_eq!((echo.requests_with_key(), echo.requests_without_key()), (1, 0));
}

#[tokio::test]
async fn models_and_chat_speak_openai_s_form() {
    let (_echo, client, url) = echo().await;
    let (_, models) = json_of(client.get(format!("{url}/v1/models")).bearer_auth(KEY)).await;
    assert_eq!(models["object"], "list");
    let chat = |body: Value| {
        client.post(format!("{url}/v1/chat/completions")).bearer_auth(KEY).body(body.to_string())
    };
    let messages = json!([{"role": "user", "content": "first"}, {"role": "user", "content": [{"type": "text", "text": "hello"}]}]);
    let (status, answer) = json_of(chat(json!({"model": "any", "messages": messages}))).await;
    assert_eq!((status, &answer["object"]), (200, &json!("chat.completion")));
    assert_eq!(answer["choices"][0]["message"]["content"], "You said: hello");
    assert_eq!(answer["choices"][0]["finish_reason"], "stop");

    let (_, stream) = text(chat(json!({"stream": true, "messages": messages}))).await;
    let data: Vec<&str> = stream.split("\n\n").filter_map(|event| event.strip_prefix("data: ")).collect();
    assert_eq!(data.last(), Some(&"[DONE]"));
    let said: String = data[..data.len() - 1]
        .iter()
        .map(|chunk| serde_json::from_str::<Value>(chunk).unwrap())
        .filter_map(|chunk| chunk["choices"][0]["delta"]["content"].as_str().map(str::to_owned))
        .collect();
    assert_eq!(said, "You said: hello");

    for wrong in ["no json", "{}", "{\"messages\":[]}"] {
        let request = client.post(format!("{url}/v1/chat/completions")).bearer_auth(KEY).body(wrong);
        assert_eq!(json_of(request).await.0, 400, "{wrong}");
    }
}

#[tokio::test]
async fn events_come_as_a_stream() {
    let (_echo, client, url) = echo().await;
    let answer = client.get(format!("{url}/sse")).bearer_auth(KEY).send().await.unwrap();
    assert_eq!(answer.headers()["content-type"], "text/event-stream");
    assert_eq!(answer.text().await.unwrap().matches("data: {\"number\":").count(), 5);
}
