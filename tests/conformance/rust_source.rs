//! Just enough of Rust's lexical form to find paths and literals: comments and the insides of strings are never code.

/// One token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Token {
    /// An identifier or a keyword.
    Word(String),
    /// The inside of a string literal, escapes as they stand.
    Text(String),
    /// A lifetime, a character or a number: never part of a path.
    Other,
    /// `::`.
    PathSeparator,
    /// Any other single character.
    Sign(char),
}

impl Token {
    fn is(&self, sign: char) -> bool {
        *self == Self::Sign(sign)
    }

    fn word(&self) -> Option<&str> {
        match self {
            Self::Word(word) => Some(word),
            _ => None,
        }
    }
}

/// A path that the code names, `use` groups taken apart, and the inline modules that it stands in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Path {
    pub segments: Vec<String>,
    pub inside: Vec<String>,
}

/// The tokens of `source`.
pub fn tokens(source: &str) -> Vec<Token> {
    let mut lexer = Lexer { rest: source, tokens: Vec::new() };
    while !lexer.rest.is_empty() {
        lexer.step();
    }
    lexer.tokens
}

/// All words, wherever they stand.
pub fn words(tokens: &[Token]) -> impl Iterator<Item = &str> {
    tokens.iter().filter_map(Token::word)
}

/// All string literals.
pub fn texts(tokens: &[Token]) -> impl Iterator<Item = &str> {
    tokens.iter().filter_map(|token| match token {
        Token::Text(text) => Some(text.as_str()),
        _ => None,
    })
}

/// The modules that are declared and stand in files of their own (`mod x;`), in order.
pub fn declared_modules(tokens: &[Token]) -> Vec<&str> {
    tokens
        .windows(3)
        .filter(|window| window[0].word() == Some("mod") && window[2].is(';'))
        .filter_map(|window| window[1].word())
        .collect()
}

/// The tokens without the items under `#[cfg(test)]`.
pub fn without_tests(tokens: &[Token]) -> Vec<Token> {
    let attribute: Vec<Token> = vec![
        Token::Sign('#'),
        Token::Sign('['),
        word("cfg"),
        Token::Sign('('),
        word("test"),
        Token::Sign(')'),
    ];
    let mut kept = Vec::new();
    let mut at = 0;
    while at < tokens.len() {
        if tokens[at..].starts_with(&attribute) {
            at = end_of_item(tokens, at + attribute.len() + 1);
        } else {
            kept.push(tokens[at].clone());
            at += 1;
        }
    }
    kept
}

/// The paths of two segments or more.
pub fn paths(tokens: &[Token]) -> Vec<Path> {
    let mut found = Vec::new();
    let mut inside: Vec<(String, usize)> = Vec::new();
    let (mut at, mut depth) = (0, 0);
    while at < tokens.len() {
        match &tokens[at] {
            Token::Sign('{') => depth += 1,
            Token::Sign('}') => {
                depth -= 1;
                if inside.last().is_some_and(|(_, opened)| *opened == depth) {
                    inside.pop();
                }
            }
            Token::Word(keyword) if keyword == "mod" => {
                if let (Some(Token::Word(name)), Some(Token::Sign('{'))) =
                    (tokens.get(at + 1), tokens.get(at + 2))
                {
                    inside.push((name.clone(), depth));
                }
            }
            Token::Word(_) if begins_path(tokens, at) => {
                let mut ends = Vec::new();
                at = tree(tokens, at, Vec::new(), &mut ends);
                let modules: Vec<String> = inside.iter().map(|(name, _)| name.clone()).collect();
                found.extend(ends.into_iter().map(|segments| Path { segments, inside: modules.clone() }));
                continue;
            }
            _ => {}
        }
        at += 1;
    }
    found
}

fn word(text: &str) -> Token {
    Token::Word(text.to_owned())
}

fn begins_path(tokens: &[Token], at: usize) -> bool {
    let goes_on = tokens.get(at + 1) == Some(&Token::PathSeparator);
    let inner = at > 0
        && tokens[at - 1] == Token::PathSeparator
        && at > 1
        && (tokens[at - 2].word().is_some_and(|word| word != "use") || tokens[at - 2].is('>'));
    goes_on && !inner
}

/// Reads one branch of a path from `at`; gives where it ends.
fn tree(tokens: &[Token], mut at: usize, mut prefix: Vec<String>, ends: &mut Vec<Vec<String>>) -> usize {
    loop {
        match tokens.get(at) {
            Some(Token::Word(word)) => {
                prefix.push(word.clone());
                at += 1;
                if tokens.get(at) != Some(&Token::PathSeparator) {
                    break;
                }
                at += 1;
            }
            Some(Token::Sign('{')) => {
                at += 1;
                while at < tokens.len() && !tokens[at].is('}') {
                    at = match &tokens[at] {
                        Token::Word(word) if word == "as" => at + 2,
                        Token::Word(_) | Token::Sign('*' | '{') => tree(tokens, at, prefix.clone(), ends),
                        _ => at + 1,
                    };
                }
                return at + 1;
            }
            Some(Token::Sign('*')) => {
                prefix.push("*".to_owned());
                at += 1;
                break;
            }
            _ => break,
        }
    }
    ends.push(prefix);
    at
}

/// The end of the item that begins at or after `at`: behind its `;`, or its closing brace.
fn end_of_item(tokens: &[Token], mut at: usize) -> usize {
    let mut depth = 0;
    while at < tokens.len() {
        match tokens[at] {
            Token::Sign('{' | '(' | '[') => depth += 1,
            Token::Sign(closing @ ('}' | ')' | ']')) => {
                depth -= 1;
                if depth == 0 && closing == '}' {
                    return at + 1;
                }
            }
            Token::Sign(';') if depth == 0 => return at + 1,
            _ => {}
        }
        at += 1;
    }
    at
}

struct Lexer<'a> {
    rest: &'a str,
    tokens: Vec<Token>,
}

impl Lexer<'_> {
    fn step(&mut self) {
        let first = self.rest.chars().next().unwrap();
        if first.is_whitespace() {
            self.skip(first.len_utf8());
        } else if self.rest.starts_with("//") {
            self.skip(self.rest.find('\n').unwrap_or(self.rest.len()));
        } else if self.rest.starts_with("/*") {
            self.block_comment();
        } else if let Some((prefix, hashes)) = raw_string(self.rest) {
            let closing = format!("\"{}", "#".repeat(hashes));
            self.skip(prefix);
            let end = self.rest.find(&closing).unwrap_or(self.rest.len());
            self.tokens.push(Token::Text(self.rest[..end].to_owned()));
            self.skip((end + closing.len()).min(self.rest.len()));
        } else if first == '"' || self.rest.starts_with("b\"") || self.rest.starts_with("c\"") {
            self.skip(if first == '"' { 1 } else { 2 });
            self.string();
        } else if first == '\'' || self.rest.starts_with("b'") {
            self.skip(usize::from(first == 'b'));
            self.character_or_lifetime();
        } else if first.is_alphanumeric() || first == '_' {
            let text = self.rest.strip_prefix("r#").unwrap_or(self.rest);
            let length = text.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(text.len());
            self.tokens.push(if first.is_numeric() { Token::Other } else { word(&text[..length]) });
            self.skip(self.rest.len() - text.len() + length);
        } else if self.rest.starts_with("::") {
            self.tokens.push(Token::PathSeparator);
            self.skip(2);
        } else {
            self.tokens.push(Token::Sign(first));
            self.skip(first.len_utf8());
        }
    }

    fn skip(&mut self, bytes: usize) {
        self.rest = &self.rest[bytes..];
    }

    fn block_comment(&mut self) {
        let mut depth = 0;
        while !self.rest.is_empty() {
            if self.rest.starts_with("/*") {
                depth += 1;
                self.skip(2);
            } else if self.rest.starts_with("*/") {
                depth -= 1;
                self.skip(2);
                if depth == 0 {
                    return;
                }
            } else {
                self.skip(self.rest.chars().next().unwrap().len_utf8());
            }
        }
    }

    fn string(&mut self) {
        let mut text = String::new();
        let mut characters = self.rest.char_indices();
        while let Some((at, c)) = characters.next() {
            if c == '"' {
                self.skip(at + 1);
                self.tokens.push(Token::Text(text));
                return;
            }
            text.push(c);
            if c == '\\' {
                text.extend(characters.next().map(|(_, escaped)| escaped));
            }
        }
        self.skip(self.rest.len());
    }

    /// `'a'` and `'\n'` end with a quote, a lifetime does not.
    fn character_or_lifetime(&mut self) {
        let mut characters = self.rest.char_indices().skip(1);
        let (_, first) = characters.next().unwrap_or((0, ' '));
        let (second_at, second) = characters.next().unwrap_or((self.rest.len(), ' '));
        if first == '\\' {
            let end = self.rest[second_at + second.len_utf8()..].find('\'').unwrap_or(0);
            self.skip(second_at + second.len_utf8() + end + 1);
        } else if second == '\'' {
            self.skip(second_at + 1);
        } else {
            let name = self.rest[1..].find(|c: char| !c.is_alphanumeric() && c != '_');
            self.skip(1 + name.unwrap_or(self.rest.len() - 1));
        }
        self.tokens.push(Token::Other);
    }
}

/// The length of what opens a raw string here, and the number of its hashes.
fn raw_string(rest: &str) -> Option<(usize, usize)> {
    let after = ["r", "br", "cr"].iter().find_map(|prefix| rest.strip_prefix(prefix))?;
    let hashes = after.len() - after.trim_start_matches('#').len();
    after[hashes..].starts_with('"').then(|| (rest.len() - after.len() + hashes + 1, hashes))
}

#[test]
fn nested_groups_are_taken_apart() {
    let found =
        paths(&tokens("use crate::{a::{self, b::C as D, e::*}, f}; fn g() -> super::h::I { x.y::<T>() }"));
    let found: Vec<String> = found.iter().map(|path| path.segments.join("::")).collect();
    assert_eq!(found, ["crate::a::self", "crate::a::b::C", "crate::a::e::*", "crate::f", "super::h::I", "y"]);
}

#[test]
fn comments_strings_and_lifetimes_are_no_code() {
    let source = r##"
        // crate::a::b
        /* crate::c /* crate::d::e */ crate::f::g */
        fn f<'a>(x: &'a str) -> char { let _ = "crate::h::\"i"; let _ = r#"crate::j::"k"#; let _ = '"'; '\'' }
        const K: &str = "LAST";
    "##;
    let tokens = tokens(source);
    assert_eq!(paths(&tokens), []);
    assert_eq!(texts(&tokens).collect::<Vec<_>>(), ["crate::h::\\\"i", "crate::j::\"k", "LAST"]);
}

#[test]
fn inline_modules_are_known_and_tests_can_be_left_out() {
    let tokens = tokens(
        "mod a { mod b { use x::y; } use x::z; } use x::w; #[cfg(test)] mod t { use x::v; } use x::u;",
    );
    let found: Vec<_> =
        paths(&tokens).into_iter().map(|path| (path.segments.join("::"), path.inside.join("::"))).collect();
    let expected = [("x::y", "a::b"), ("x::z", "a"), ("x::w", ""), ("x::v", "t"), ("x::u", "")]
        .map(|(a, b)| (a.into(), b.into()));
    assert_eq!(found, expected);
    assert_eq!(paths(&without_tests(&tokens)).len(), 4);
}
