//! A directory with a local stack of its own, which is stopped with the test.

use std::path::Path;
use std::process::Command;

use serde_json::Value;

use super::stage::{Ended, Stage, end};

/// The flags that take free ports.
pub(crate) const FREE_PORTS: [&str; 6] =
    ["--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0", "--api-listen", "127.0.0.1:0"];

pub(crate) struct Household {
    pub(crate) stage: Stage,
}

impl Household {
    pub(crate) fn new() -> Self {
        Self { stage: Stage::empty() }
    }

    /// The binary in this directory, with a home of its own.
    pub(crate) fn command(&self, args: &[&str]) -> Command {
        let mut command = self.stage.command(args);
        command.env("HOME", self.stage.path("user")).env_remove("SIGILUM_HOME");
        command
    }

    pub(crate) fn run(&self, args: &[&str]) -> Ended {
        end(&mut self.command(args))
    }

    /// Runs a command that must do what it was asked for, and gives what it printed.
    pub(crate) fn done(&self, args: &[&str]) -> String {
        let ended = self.run(args);
        assert_eq!(ended.code, Some(0), "{args:?}: {ended:?}");
        ended.out
    }

    /// Runs a line of a shell that must do what it says.
    pub(crate) fn pasted(&self, line: &str) -> Ended {
        // The commands are called by their whole path, and want nothing else of the environment but a home.
        let mut shell = Command::new("sh");
        shell.args(["-c", line]).env_clear().env("HOME", self.stage.path("user"));
        let ended = end(shell.current_dir(self.stage.path("")));
        assert_eq!(ended.code, Some(0), "{line}: {ended:?}");
        ended
    }

    /// `up` in the background with these flags, on free ports.
    pub(crate) fn up(&self, flags: &[&str]) -> String {
        self.done(&[&["up", "--daemon"], flags, &FREE_PORTS].concat())
    }

    /// What the workspace tells of the stack.
    pub(crate) fn workspace(&self) -> Value {
        let json = std::fs::read_to_string(self.stage.path(".sigilum-workspace/workspace.json")).unwrap();
        serde_json::from_str(&json).unwrap()
    }

    /// A gateway's configuration on free ports, its data in `data`.
    pub(crate) fn configuration(&self, providers: &Value) -> String {
        let config = serde_json::json!({
            "mode": "oss-local",
            "data_dir": self.stage.path("data"),
            "identity": { "namespace": "gate", "home": self.stage.path("gate-home") },
            "listeners": [{ "address": "127.0.0.1:0" }],
            "admin": { "address": "127.0.0.1:0" },
            "providers": providers,
        });
        self.stage.file("gateway.yaml", config.to_string().as_bytes())
    }

    pub(crate) fn signal(&self, name: &str, pid_file: &Path) {
        let pid = std::fs::read_to_string(pid_file).unwrap();
        let kill = format!("kill -{name} {}", pid.trim());
        assert!(Command::new("sh").args(["-c", &kill]).status().unwrap().success(), "{kill} failed");
    }
}

impl Drop for Household {
    fn drop(&mut self) {
        let _ = self.command(&["down"]).output();
        if self.stage.path("gateway.yaml").exists() {
            let _ = self.command(&["gateway", "stop", "--config", "gateway.yaml"]).output();
        }
        if std::thread::panicking() {
            for log in [".sigilum-workspace/run/up.log", ".sigilum-workspace/run/api.log", "data/gateway.log"]
            {
                if let Ok(text) = std::fs::read_to_string(self.stage.path(log)) {
                    eprintln!("--- {log} ---\n{text}");
                }
            }
        }
    }
}

/// What stands behind `prefix` on a line of its own.
pub(crate) fn behind<'a>(text: &'a str, prefix: &str) -> Option<&'a str> {
    text.lines().find_map(|line| line.strip_prefix(prefix))
}
