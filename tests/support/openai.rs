//! An upstream that speaks as much of the OpenAI API as a client library needs.

use serde_json::json;

use super::upstream::{Recorded, Reply, StreamHand, Upstream};

/// Wants `Bearer <key>`; answers `/v1/models`, and `/v1/chat/completions` whole or streamed by the hand.
pub fn openai(key: &str) -> (Upstream, StreamHand) {
    let wanted = format!("Bearer {key}");
    let (hand, streamed) = Reply::streamed("text/event-stream; charset=utf-8");
    let streamed = std::sync::Mutex::new(streamed);
    let upstream = Upstream::start(move |request| {
        if request.all("authorization") != [wanted.as_str()] {
            let error = json!({ "message": "Incorrect API key provided.", "code": "invalid_api_key" });
            return json_reply(401, &json!({ "error": error }));
        }
        match request.target.as_str() {
            "/v1/models" => json_reply(200, &json!({ "object": "list", "data": [model()] })),
            "/v1/chat/completions" if wants_stream(request) => streamed.lock().unwrap().clone(),
            "/v1/chat/completions" => json_reply(200, &completion()),
            _ => json_reply(404, &json!({ "error": { "message": "There is no such thing." } })),
        }
    });
    (upstream, hand)
}

/// One event of a streamed completion.
pub fn event(text: &str) -> String {
    let choice = json!({ "index": 0, "delta": { "content": text }, "finish_reason": null });
    let chunk = json!({
        "id": "c1", "object": "chat.completion.chunk", "created": 1, "model": "test-model", "choices": [choice],
    });
    format!("data: {chunk}\n\n")
}

/// The last event of a streamed completion.
pub const DONE: &str = "data: [DONE]\n\n";

fn wants_stream(request: &Recorded) -> bool {
    let body: serde_json::Value = serde_json::from_slice(&request.body).unwrap_or_default();
    body["stream"] == true
}

fn model() -> serde_json::Value {
    json!({ "id": "test-model", "object": "model", "created": 1, "owned_by": "test" })
}

fn completion() -> serde_json::Value {
    let choice = json!({
        "index": 0, "finish_reason": "stop", "message": { "role": "assistant", "content": "hello" },
    });
    json!({
        "id": "c1", "object": "chat.completion", "created": 1, "model": "test-model", "choices": [choice],
        "usage": { "prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2 },
    })
}

fn json_reply(status: u16, body: &serde_json::Value) -> Reply {
    Reply::Fixed {
        status,
        headers: vec![("content-type".into(), "application/json".into())],
        body: body.to_string().into_bytes(),
    }
}
