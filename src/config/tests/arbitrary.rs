//! Nothing panics, whatever is written.

use proptest::prelude::*;

use super::load_with;

const REFERENCE: &str = include_str!("../../../config/reference.yaml");
const ENTERPRISE: &str = include_str!("../../../config/enterprise.yaml");

/// Every fault of the file lies in it.
fn places_are_in(text: &str) {
    let Err(faults) = load_with(text, &[]) else { return };
    assert!(!faults.all().is_empty());
    for fault in faults.all() {
        assert!(!fault.message.is_empty() && !fault.message.chars().any(char::is_control), "{fault:?}");
        assert!(fault.line.is_none_or(|line| line <= text.lines().count() + 1), "{fault:?}");
    }
}

/// Pieces of YAML's grammar and of ours, which random characters seldom make.
fn pieces() -> impl Strategy<Value = String> {
    let piece = prop::sample::select(vec![
        "providers",
        "id",
        "auth",
        "secret",
        "mode",
        "listeners",
        "tls",
        "claims",
        "static",
        ": ",
        ":",
        "- ",
        "-",
        "\n",
        "\n  ",
        "\n    ",
        "{",
        "}",
        "[",
        "]",
        ",",
        ", ",
        "&a ",
        "*a",
        "!t ",
        "!!int ",
        "|\n",
        ">\n",
        "'",
        "\"",
        "\\",
        "? ",
        "# ",
        "---\n",
        "...\n",
        "%YAML 1.2\n",
        "\t",
        "~",
        "null",
        "1s",
        "64KiB",
        "env:A",
        "<<",
        "\u{feff}",
        "\u{0}",
        "é",
        "\r\n",
        "@",
        "`",
    ]);
    prop::collection::vec(piece, 0..60).prop_map(|pieces| pieces.concat())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn arbitrary_text_gives_faults_and_no_panic(text in any::<String>()) {
        places_are_in(&text);
    }

    #[test]
    fn pieces_of_grammar_give_faults_and_no_panic(text in pieces()) {
        places_are_in(&text);
    }

    #[test]
    fn arbitrary_variable_gives_faults_and_no_panic(
        index in 0..crate::config::environment::VARIABLES.len(),
        value in any::<String>(),
    ) {
        let name = crate::config::environment::VARIABLES[index].name;
        let _ = load_with(ENTERPRISE, &[(name, &value)]);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn mutated_configuration_gives_faults_and_no_panic(
        whole in any::<bool>(),
        at in any::<prop::sample::Index>(),
        length in 0..40_usize,
        instead in pieces(),
    ) {
        let text = if whole { REFERENCE } else { ENTERPRISE };
        let characters: Vec<char> = text.chars().collect();
        let start = at.index(characters.len());
        let end = (start + length).min(characters.len());
        let mutated: String =
            characters[..start].iter().copied().chain(instead.chars()).chain(characters[end..].iter().copied()).collect();
        places_are_in(&mutated);
    }
}
