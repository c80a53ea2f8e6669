//! What a command prints when it is done: `[ok] …` and `key: value` lines, or the same as JSON.

use std::io::{self, Write};

use serde_json::{Map, Value};

/// A sentence and what belongs to it.
#[derive(Debug)]
pub(crate) struct Report {
    title: String,
    fields: Map<String, Value>,
}

impl Report {
    /// With nothing but its sentence, which only people read.
    pub(crate) fn new(title: impl Into<String>) -> Self {
        Self { title: title.into(), fields: Map::new() }
    }

    /// Changes the sentence.
    pub(crate) fn title(self, title: impl Into<String>) -> Self {
        Self { title: title.into(), ..self }
    }

    /// Adds a line, the key in `snake_case`.
    pub(crate) fn field(mut self, key: &str, value: impl Into<Value>) -> Self {
        self.fields.insert(key.to_owned(), value.into());
        self
    }

    /// Prints it.
    pub(crate) fn write(&self, out: &mut dyn Write, json: bool) -> io::Result<()> {
        if json {
            return write_json(out, &self.fields);
        }
        writeln!(out, "[ok] {}", self.title)?;
        for (key, value) in &self.fields {
            match value {
                Value::String(text) => writeln!(out, "{key}: {text}")?,
                other => writeln!(out, "{key}: {other}")?,
            }
        }
        Ok(())
    }
}

/// Prints a value as indented JSON and a newline.
pub(crate) fn write_json(out: &mut dyn Write, value: &impl serde::Serialize) -> io::Result<()> {
    serde_json::to_writer_pretty(&mut *out, value)?;
    writeln!(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn report_is_lines_for_people_and_an_object_for_programs() {
        let report = Report::new("Ready.").field("name", "x").field("count", 2);
        let mut text = Vec::new();
        report.write(&mut text, false).unwrap();
        assert_eq!(String::from_utf8(text).unwrap(), "[ok] Ready.\nname: x\ncount: 2\n");
        let mut json = Vec::new();
        report.write(&mut json, true).unwrap();
        assert_eq!(
            serde_json::from_slice::<Value>(&json).unwrap(),
            serde_json::json!({"name": "x", "count": 2})
        );
    }
}
