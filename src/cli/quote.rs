//! Words that a POSIX shell takes as they are, for what is printed to be pasted.

use std::borrow::Cow;

/// `word` so that a shell reads it as one word and expands nothing in it.
pub(crate) fn quote(word: &str) -> Cow<'_, str> {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:,+@%=".contains(c);
    // A leading `=` or `~` means something to some shells.
    if !word.is_empty() && word.chars().all(plain) && !word.starts_with('=') {
        Cow::Borrowed(word)
    } else {
        Cow::Owned(format!("'{}'", word.replace('\'', r"'\''")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shell_reads_back_what_was_quoted() {
        for word in
            ["plain", "", "it's", "a b", "$(touch x)", "`x`", "a\"b\\c", "*", "~", "!!", "a;b&c|d>e", "ü"]
        {
            let script = format!("printf %s {}", quote(word));
            let output = std::process::Command::new("sh").arg("-c").arg(script).output().unwrap();
            assert_eq!(String::from_utf8(output.stdout).unwrap(), word);
        }
        assert_eq!(quote("http://127.0.0.1:1/a?b"), "'http://127.0.0.1:1/a?b'");
        assert_eq!(quote("http://127.0.0.1:1/a"), "http://127.0.0.1:1/a");
    }
}
