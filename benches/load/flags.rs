//! The flags of a subcommand: each is followed by its value, and may come more than once.

use std::str::FromStr;

pub struct Flags(Vec<(String, String)>);

impl Flags {
    pub fn read(mut arguments: impl Iterator<Item = String>) -> Result<Self, String> {
        let mut flags = Vec::new();
        while let Some(name) = arguments.next() {
            let value = arguments.next().filter(|_| name.starts_with("--"));
            flags.push((name.clone(), value.ok_or_else(|| format!("{name} is no flag, or has no value"))?));
        }
        Ok(Self(flags))
    }

    /// The values of a flag, in their order.
    pub fn all<'f>(&'f self, name: &'f str) -> impl Iterator<Item = &'f str> {
        self.0.iter().filter(move |(flag, _)| flag == name).map(|(_, value)| value.as_str())
    }

    /// All flags, in their order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }

    /// The last value of a flag, or `default`.
    pub fn number<T: FromStr>(&self, name: &str, default: T) -> Result<T, String> {
        match self.all(name).last() {
            None => Ok(default),
            Some(value) => value.parse().map_err(|_| format!("{name} {value} is not a number that fits")),
        }
    }

    /// The only value of a flag.
    pub fn needed(&self, name: &str) -> Result<&str, String> {
        self.0
            .iter()
            .find(|(flag, _)| flag == name)
            .map(|(_, v)| v.as_str())
            .ok_or_else(|| format!("{name} is missing"))
    }
}
