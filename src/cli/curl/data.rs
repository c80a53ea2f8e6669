//! `-d` and its kin, in the order in which they were typed.

use std::io::Read;
use std::path::Path;

use clap::{Arg, ArgAction, ArgMatches};

use super::{Failure, read_body};

/// The ids of the arguments, for what they cannot stand beside.
pub(super) const IDS: [&str; 4] = ["data", "data_raw", "data_binary", "json"];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// `@FILE` is read, and loses its line ends.
    Form,
    /// Taken as it stands.
    Raw,
    /// `@FILE` is read.
    Binary,
    /// `@FILE` is read; it is JSON.
    Json,
}

const KINDS: [Kind; 4] = [Kind::Form, Kind::Raw, Kind::Binary, Kind::Json];

/// The pieces of a body.
#[derive(Debug, Clone, Default)]
pub(super) struct Data(Vec<(Kind, String)>);

impl Data {
    /// Whether there is any, be it empty.
    pub(super) fn is_given(&self) -> bool {
        !self.0.is_empty()
    }

    /// Whether the last word on what it is was JSON.
    pub(super) fn is_json(&self) -> bool {
        self.0.last().is_some_and(|(kind, _)| *kind == Kind::Json)
    }

    /// The body: form pieces joined with `&`, JSON pieces set one behind the other.
    pub(super) fn body(&self, input: &mut dyn Read) -> Result<Vec<u8>, Failure> {
        let mut body = Vec::new();
        for (position, (kind, text)) in self.0.iter().enumerate() {
            if position > 0 && *kind != Kind::Json {
                body.push(b'&');
            }
            match text.strip_prefix('@').filter(|_| *kind != Kind::Raw) {
                None => body.extend_from_slice(text.as_bytes()),
                Some(file) => {
                    let mut read = read_body(Path::new(file), input)?;
                    if *kind == Kind::Form {
                        read.retain(|byte| !matches!(byte, b'\r' | b'\n' | 0));
                    }
                    body.append(&mut read);
                }
            }
        }
        Ok(body)
    }
}

// Written out, because a derived one would lose the order between different flags.
impl clap::Args for Data {
    fn augment_args(command: clap::Command) -> clap::Command {
        let arg = |id: &'static str, help: &'static str| {
            Arg::new(id).value_name("DATA").help(help).action(ArgAction::Append).allow_hyphen_values(true)
        };
        command
            .arg(
                arg(
                    "data",
                    "A form body; @FILE reads it from a file without its line ends, @- from standard input",
                )
                .short('d')
                .long("data")
                .visible_alias("data-ascii"),
            )
            .arg(arg("data_raw", "A body as it stands, a leading @ too").long("data-raw"))
            .arg(arg("data_binary", "A body; @FILE reads it from a file as it is").long("data-binary"))
            .arg(
                arg("json", "A JSON body with its content-type and accept headers; @FILE reads it")
                    .long("json"),
            )
    }

    fn augment_args_for_update(command: clap::Command) -> clap::Command {
        Self::augment_args(command)
    }
}

impl clap::FromArgMatches for Data {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let mut pieces = Vec::new();
        for (id, kind) in IDS.into_iter().zip(KINDS) {
            if let (Some(values), Some(positions)) = (matches.get_many::<String>(id), matches.indices_of(id))
            {
                pieces.extend(positions.zip(values).map(|(position, value)| (position, kind, value.clone())));
            }
        }
        pieces.sort_by_key(|(position, _, _)| *position);
        Ok(Self(pieces.into_iter().map(|(_, kind, value)| (kind, value)).collect()))
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use clap::{Args as _, FromArgMatches as _};

    use super::*;

    fn body(args: &[&str], input: &[u8]) -> Vec<u8> {
        let command = Data::augment_args(clap::Command::new("curl").no_binary_name(true));
        let data = Data::from_arg_matches(&command.get_matches_from(args)).unwrap();
        data.body(&mut &*input).unwrap()
    }

    #[test]
    fn pieces_are_joined_in_the_order_typed() {
        assert_eq!(body(&["-d", "a=1", "--data-raw", "@b", "-dc=3"], b""), b"a=1&@b&c=3");
        assert_eq!(body(&["--data-binary", "x", "-d", "y"], b""), b"x&y");
        assert_eq!(body(&["--json", "{\"a\":", "--json", "1}"], b""), b"{\"a\":1}");
    }

    #[test]
    fn file_loses_its_line_ends_in_a_form_only() {
        assert_eq!(body(&["-d", "@-"], b"a\r\nb\n"), b"ab");
        assert_eq!(body(&["--data-binary", "@-"], b"a\r\nb\n"), b"a\r\nb\n");
        assert_eq!(body(&["--json", "@-"], b"{}\n"), b"{}\n");
    }
}
