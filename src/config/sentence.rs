//! Sentences about faulty values: one form for all, and nothing in them that a terminal would act on.

/// Characters of a faulty value that a sentence repeats.
const MOST_SHOWN: usize = 60;

/// The sentence about a value that is not what its setting takes.
pub(super) fn holds(takes: &str, found: &str) -> String {
    format!("takes {takes}; it holds \"{}\"", shown(found))
}

/// `a, b or c`.
pub(super) fn one_of<'a>(words: impl IntoIterator<Item = &'a str>) -> String {
    let words: Vec<&str> = words.into_iter().collect();
    match words.split_last() {
        Some((last, [])) => (*last).to_owned(),
        Some((last, others)) => format!("{} or {last}", others.join(", ")),
        None => String::new(),
    }
}

/// A text fit for one line: what does not print is escaped, and it is cut where it is long.
pub(super) fn shown(text: &str) -> String {
    let escaped = |c: char| match c {
        '\'' => "'".to_owned(),
        _ => c.escape_debug().to_string(),
    };
    let mut line: String = text.chars().take(MOST_SHOWN).map(escaped).collect();
    if text.chars().nth(MOST_SHOWN).is_some() {
        line.push('…');
    }
    line
}
