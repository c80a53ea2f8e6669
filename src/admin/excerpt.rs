//! The beginning of an upstream's answer, for the one who looks for a fault; never with the secret in it.

use crate::connections::Credential;

/// Characters shown.
const LONGEST: usize = 256;
/// A shorter text is found in too many others.
const SHORTEST: usize = 6;

/// The first characters of `body` on one line; `None` where it is empty, no text, or still holds the secret in a
/// writing that is not known.
pub(super) fn excerpt(body: &[u8], credential: Option<&Credential>) -> Option<String> {
    let forms: Vec<&str> = credential
        .map(|credential| {
            credential.forms().iter().filter_map(|form| std::str::from_utf8(form).ok()).collect()
        })
        .unwrap_or_default();
    masked(&String::from_utf8_lossy(body), &forms)
}

fn masked(text: &str, forms: &[&str]) -> Option<String> {
    let mut text = text.to_owned();
    for form in forms {
        text = text.replace(form, "[secret]");
    }
    let bare = loosened(&text);
    let hidden = |form: &&str| {
        let form = loosened(form);
        form.len() >= SHORTEST && bare.contains(&form)
    };
    // What is written with `\u` is not decoded here.
    if forms.iter().any(hidden) || (!forms.is_empty() && text.contains("\\u")) {
        return None;
    }
    let line: String = text.split(|c: char| c.is_control() || c == ' ').filter(|word| !word.is_empty()).fold(
        String::new(),
        |mut line, word| {
            if !line.is_empty() {
                line.push(' ');
            }
            line.push_str(word);
            line
        },
    );
    let cut: String = line.chars().take(LONGEST).collect();
    Some(cut).filter(|cut| !cut.is_empty())
}

/// Letters and digits alone, so that escapes and separators do not hide a text.
fn loosened(text: &str) -> String {
    text.chars().filter(char::is_ascii_alphanumeric).map(|c| c.to_ascii_lowercase()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECRET: &str = "sk-canary/4711+x";

    #[test]
    fn secret_is_masked_and_the_rest_stands_on_one_line() {
        let text = format!("{{\n  \"error\": \"bad key {SECRET}\"\n}}");
        assert_eq!(masked(&text, &[SECRET]).unwrap(), r#"{ "error": "bad key [secret]" }"#);
        assert_eq!(masked(&"a".repeat(1000), &[]).unwrap().len(), LONGEST);
        assert_eq!(masked(" \n", &[]), None);
    }

    #[test]
    fn answer_with_the_secret_in_another_writing_is_not_shown() {
        for text in [r"key sk-canary\/4711+x", "sk-canary%2f4711%2bx", "SK-CANARY/4711+X", r"sk\u002dcanary"]
        {
            let shown = masked(text, &[SECRET, "sk-canary%2F4711%2Bx"]);
            assert!(shown.is_none_or(|shown| !shown.to_lowercase().contains("canary")), "{text}");
        }
    }
}
