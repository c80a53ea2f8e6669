//! Headless Chromium with a page of the test's own, and the server that the page comes from.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};

use serde_json::Value;

use crate::support::eventually;

/// Where Chromium is; `None`, and a line that says so, where it is not.
pub fn find() -> Option<PathBuf> {
    let named = std::env::var_os("SIGILUM_CHROMIUM").map(PathBuf::from);
    let usual = ["/usr/bin/chromium", "/usr/bin/chromium-browser"].map(PathBuf::from);
    let found = named.into_iter().chain(usual).find(|path| path.exists());
    if found.is_none() {
        eprintln!("not run: Chromium is not installed (Debian's package chromium)");
    }
    found
}

/// A browser that shows one page; it ends when this is dropped.
pub struct Browser {
    child: Child,
    _profile: tempfile::TempDir,
}

impl Browser {
    /// Opens `url`. The name `evil.test` leads to this machine, as a rebound name does.
    pub fn open(chromium: &Path, url: &str) -> Self {
        let profile = tempfile::tempdir().unwrap();
        let child = Command::new(chromium)
            .args(["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"])
            .args(["--disable-background-networking", "--disable-component-update", "--disable-sync"])
            .args(["--disable-dev-shm-usage", "--remote-debugging-port=0"])
            .arg("--host-resolver-rules=MAP evil.test 127.0.0.1")
            .arg(format!("--user-data-dir={}", profile.path().display()))
            .arg(url)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        Self { child, _profile: profile }
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The attacker's server: it gives out a page at `/page`, takes the page's report at `/report`, and hands everything
/// else to the target unchanged, as the same name does once it is rebound.
pub struct Lair {
    address: SocketAddr,
    report: Arc<Mutex<Option<Value>>>,
}

impl Lair {
    pub fn start(page: String, target: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let report = Arc::new(Mutex::new(None));
        let shared = Arc::clone(&report);
        let page = Arc::new(page);
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let (page, report) = (Arc::clone(&page), Arc::clone(&shared));
                // What goes wrong on a connection is the browser's affair.
                std::thread::spawn(move || serve(stream, &page, &report, target).ok());
            }
        });
        Self { address, report }
    }

    pub fn port(&self) -> u16 {
        self.address.port()
    }

    /// Waits for the page's report.
    pub fn report(&self) -> Value {
        eventually("the page's report", || self.report.lock().unwrap().clone())
    }
}

fn serve(
    mut stream: TcpStream,
    page: &str,
    report: &Mutex<Option<Value>>,
    target: SocketAddr,
) -> std::io::Result<()> {
    let head = read_head(&mut stream)?;
    let line = String::from_utf8_lossy(&head).lines().next().unwrap_or_default().to_owned();
    if line.starts_with("GET /page ") {
        let length = page.len();
        let answer = format!(
            "HTTP/1.1 200 OK\r\ncontent-type: text/html\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{page}"
        );
        return stream.write_all(answer.as_bytes());
    }
    if line.starts_with("POST /report ") {
        let told: Value = serde_json::from_slice(&read_body(&head, &mut stream)?)?;
        *report.lock().unwrap() = Some(told);
        return stream.write_all(b"HTTP/1.1 204 No Content\r\nconnection: close\r\n\r\n");
    }
    // One request a connection: the next one may be for us again.
    let head = String::from_utf8_lossy(&head).replacen("\r\n", "\r\nx-rebound: yes\r\n", 1);
    let head = head.replace("Connection: keep-alive", "Connection: close");
    let mut there = TcpStream::connect(target)?;
    there.write_all(head.as_bytes())?;
    let mut from_page = stream.try_clone()?;
    let mut to_target = there.try_clone()?;
    let up = std::thread::spawn(move || std::io::copy(&mut from_page, &mut to_target).ok());
    std::io::copy(&mut there, &mut stream)?;
    stream.shutdown(Shutdown::Both)?;
    let _ = up.join();
    Ok(())
}

fn read_head(stream: &mut TcpStream) -> std::io::Result<Vec<u8>> {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") && stream.read(&mut byte)? == 1 {
        head.push(byte[0]);
    }
    Ok(head)
}

fn read_body(head: &[u8], stream: &mut TcpStream) -> std::io::Result<Vec<u8>> {
    let head = String::from_utf8_lossy(head).to_lowercase();
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")?.trim().parse().ok());
    let mut body = vec![0; length.unwrap_or(0)];
    stream.read_exact(&mut body)?;
    Ok(body)
}
