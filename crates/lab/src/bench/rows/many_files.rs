//! F2: 10,000 files of 4 KiB against `tar` through `socat` with TLS 1.3, folder to folder.
//!
//! The peer is two processes with a pipe to `tar` on each side, started before the clock; its clock runs from the
//! connection to the last file in place, as ours does.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Instant;

use super::Scale;
use super::transfers::Post;
use crate::Trouble;
use crate::pairs::{PAIRS_MIN, alternate, median};
use crate::report::Finding;
use crate::rig::Rig;
use crate::shelf::Shelf;

const FILES: usize = 10_000;
const FILE_BYTES: usize = 4096;

pub(crate) fn measure(scale: &Scale) -> Result<Finding, Trouble> {
    for tool in ["tar", "socat", "openssl"] {
        let found =
            Command::new("sh").args(["-c", &format!("command -v {tool}")]).stdout(Stdio::null()).status()?;
        if !found.success() {
            return Ok(Finding::Skipped(format!("needs {tool}")));
        }
    }
    let (rig, shelf) = (Rig::new()?, Shelf::new()?);
    let folder = shelf.folder("photos", scale.samples(FILES), FILE_BYTES)?;
    let into = shelf.emptied("inbox")?;
    let pem = certificate(&shelf)?;
    let post = Post::new(&rig, &into)?;
    let ours = || {
        shelf.emptied("inbox")?;
        Ok(post.send(&rig, &folder)?.0)
    };
    let tar = || tar_over_tls(&folder, &shelf.emptied("untarred")?, &pem);
    let pairs = alternate(scale.pairs().min(PAIRS_MIN + 2), ours, tar)?;
    let same = count(&into)? == count(&shelf.path("untarred"))? + 1;
    post.end(&rig)?;
    if !same {
        return Err("the two did not move the same files".into());
    }
    let facts = vec![
        ("s", median(&pairs.iter().map(|pair| pair.ours).collect::<Vec<_>>())),
        ("tar_s", median(&pairs.iter().map(|pair| pair.peers).collect::<Vec<_>>())),
    ];
    Ok(Finding::median_of(pairs.iter().map(|pair| pair.ours / pair.peers).collect(), facts))
}

fn certificate(shelf: &Shelf) -> Result<std::path::PathBuf, Trouble> {
    let (key, cert, both) = (shelf.path("key.pem"), shelf.path("cert.pem"), shelf.path("both.pem"));
    let made = Command::new("openssl")
        .args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"])
        .args(["-subj", "/CN=bench", "-days", "2", "-keyout"])
        .arg(&key)
        .arg("-out")
        .arg(&cert)
        .stderr(Stdio::null())
        .status()?;
    if !made.success() {
        return Err("openssl made no certificate".into());
    }
    std::fs::write(&both, [std::fs::read(&key)?, std::fs::read(&cert)?].concat())?;
    Ok(both)
}

/// Seconds `tar` takes through `socat` and TLS.
fn tar_over_tls(from: &Path, into: &Path, pem: &Path) -> Result<f64, Trouble> {
    let port = std::net::TcpListener::bind(("127.0.0.1", 0))?.local_addr()?.port();
    let listen = format!(
        "OPENSSL-LISTEN:{port},bind=127.0.0.1,reuseaddr,cert={},verify=0,openssl-min-proto-version=TLS1.3",
        pem.display()
    );
    let mut listening = Command::new("socat")
        .args(["-d", "-d", "-u", &listen, "STDOUT"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()?;
    let archive = listening.stdout.take().ok_or("no pipe")?;
    let mut unpacking = Command::new("tar").args(["-x", "-C"]).arg(into).stdin(archive).spawn()?;
    wait_until_listening(&mut listening)?;
    let started = Instant::now();
    let mut packing =
        Command::new("tar").arg("-c").arg("-C").arg(from).arg(".").stdout(Stdio::piped()).spawn()?;
    let archive = packing.stdout.take().ok_or("no pipe")?;
    let connect = format!("OPENSSL:127.0.0.1:{port},verify=0");
    let mut sending = Command::new("socat").args(["-u", "STDIN", &connect]).stdin(archive).spawn()?;
    let all = [packing.wait()?, sending.wait()?, listening.wait()?, unpacking.wait()?];
    if all.iter().any(|status| !status.success()) {
        return Err("tar through socat failed".into());
    }
    Ok(started.elapsed().as_secs_f64())
}

/// `socat -d -d` says when it listens.
fn wait_until_listening(socat: &mut Child) -> Result<(), Trouble> {
    use std::io::{BufRead as _, BufReader};
    let errors = socat.stderr.take().ok_or("no pipe")?;
    let mut lines = BufReader::new(errors).lines();
    for line in lines.by_ref() {
        if line?.contains("listening") {
            // Drained to its end, or socat would stop at a full pipe.
            std::thread::spawn(move || lines.for_each(drop));
            return Ok(());
        }
    }
    Err("socat does not listen".into())
}

/// Files and folders under `folder`.
fn count(folder: &Path) -> Result<usize, Trouble> {
    let mut found = 0;
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        found += 1;
        if entry.file_type()?.is_dir() {
            found += count(&entry.path())?;
        }
    }
    Ok(found)
}
