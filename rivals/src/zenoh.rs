//! The load of the suite `qos` over Zenoh: one side that answers and counts, one that saturates and pings.
//!
//! A program of its own, started by `honeylink-bench` in the network namespaces that the others are measured in, because
//! Zenoh must not become part of any build of the product (see the manifest). Streams become publishers that block when
//! the link is full; the ping has Zenoh's real-time priority and is express, that is, not batched. Both is what measured
//! best among Zenoh's settings, on the transport QUIC with its default of a QUIC stream per priority.
//!
//! ```text
//! honeylink-rival-zenoh serve ADDR:PORT FOLDER STREAMS
//!     puts a certificate into FOLDER and prints "ready"; then answers each line on standard input with the bytes that
//!     arrived of each stream so far; ends with standard input
//! honeylink-rival-zenoh load ADDR:PORT FOLDER STREAMS,STREAMS,.. PINGS
//!     saturates with so many publishers of each priority, high to low, or the lowest if there is one, for two seconds
//!     and prints "warm"; sends PINGS pings, 200 a second, and prints the round trips in milliseconds on one line.
//!     Without pings, and after them, it goes on until standard input ends
//! ```

use std::error::Error;
use std::io::BufRead as _;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use zenoh::qos::{CongestionControl, Priority};
use zenoh::{Config, Session, Wait as _};

/// Trouble in words: nobody calls this but a benchmark.
type Trouble = Box<dyn Error + Send + Sync>;

const CERTIFICATE: &str = "certificate.pem";
const KEY: &str = "key.pem";
/// The same as every other side of the suite.
const PING_BYTES: usize = 64;
const PING_EVERY: Duration = Duration::from_millis(5);
const WRITE_BYTES: usize = 64 << 10;
const WARM_UP: Duration = Duration::from_secs(2);
/// Nothing that works takes this long.
const PATIENCE: Duration = Duration::from_secs(20);

const USAGE: &str = "\
usage: honeylink-rival-zenoh serve ADDR:PORT FOLDER STREAMS
       honeylink-rival-zenoh load ADDR:PORT FOLDER STREAMS,STREAMS,.. PINGS";
/// What the streams get, from high to low.
const PRIORITIES: [Priority; 3] = [Priority::DataHigh, Priority::Data, Priority::DataLow];

fn main() -> Result<(), Trouble> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    match args.as_slice() {
        ["serve", listen, folder, streams] => serve(listen, Path::new(folder), streams.parse()?),
        ["load", to, folder, streams, pings] => {
            let streams: Result<Vec<usize>, _> = streams.split(',').map(str::parse).collect();
            load(to, Path::new(folder), &streams?, pings.parse()?)
        }
        _ => Err(USAGE.into()),
    }
}

/// A session with nothing but the one QUIC link: nobody is looked for.
fn session(endpoint: &str, tls: &str) -> Result<Session, Trouble> {
    let config = format!(
        "{{ mode: \"peer\", {endpoint}, \
           scouting: {{ multicast: {{ enabled: false }}, gossip: {{ enabled: false }} }}, \
           transport: {{ link: {{ tls: {{ {tls} }} }} }} }}"
    );
    zenoh::open(Config::from_json5(&config)?).wait()
}

fn serve(listen: &str, folder: &Path, streams: usize) -> Result<(), Trouble> {
    let made = rcgen::generate_simple_self_signed([address(listen)?.to_owned()])?;
    let (certificate, key) = (folder.join(CERTIFICATE), folder.join(KEY));
    std::fs::write(&certificate, made.cert.pem())?;
    std::fs::write(&key, made.signing_key.serialize_pem())?;
    let session = session(
        &format!("listen: {{ endpoints: [\"quic/{listen}\"] }}, connect: {{ endpoints: [] }}"),
        &format!("listen_certificate: {certificate:?}, listen_private_key: {key:?}"),
    )?;
    let arrived: Arc<Vec<AtomicU64>> = Arc::new((0..streams).map(|_| AtomicU64::new(0)).collect());
    let counting = arrived.clone();
    let _bulk = session
        .declare_subscriber("bulk/*")
        .callback(move |sample| {
            let stream =
                sample.key_expr().as_str().rsplit('/').next().and_then(|nth| nth.parse::<usize>().ok());
            if let Some(count) = stream.and_then(|nth| counting.get(nth)) {
                count.fetch_add(sample.payload().len() as u64, Ordering::Relaxed);
            }
        })
        .wait()?;
    let pong = session
        .declare_publisher("pong")
        .priority(Priority::RealTime)
        .congestion_control(CongestionControl::Block)
        .express(true)
        .wait()?;
    let _ping = session
        .declare_subscriber("ping")
        .callback(move |sample| {
            // An answer that cannot be sent is one that the other side misses, and says so.
            let _ = pong.put(sample.payload().clone()).wait();
        })
        .wait()?;
    println!("ready");
    for line in std::io::stdin().lock().lines() {
        line?;
        let counts: Vec<_> = arrived.iter().map(|count| count.load(Ordering::Relaxed).to_string()).collect();
        println!("{}", counts.join(" "));
    }
    Ok(())
}

fn load(to: &str, folder: &Path, streams: &[usize], pings: usize) -> Result<(), Trouble> {
    let certificate = folder.join(CERTIFICATE);
    let session = session(
        &format!("listen: {{ endpoints: [] }}, connect: {{ endpoints: [\"quic/{to}\"] }}"),
        &format!("root_ca_certificate: {certificate:?}, verify_name_on_connect: false"),
    )?;
    let stop = Arc::new(AtomicBool::new(false));
    let last = PRIORITIES.len().checked_sub(streams.len()).ok_or(USAGE)?;
    let each = streams
        .iter()
        .zip(&PRIORITIES[last..])
        .flat_map(|(count, priority)| std::iter::repeat_n(*priority, *count));
    for (index, priority) in each.enumerate() {
        let (session, stop) = (session.clone(), stop.clone());
        std::thread::spawn(move || saturate(&session, index, priority, &stop));
    }
    std::thread::sleep(WARM_UP);
    println!("warm");
    if pings > 0 {
        let took: Vec<String> = ping(&session, pings)?.into_iter().map(|ms| format!("{ms:.4}")).collect();
        println!("{}", took.join(" "));
    }
    // Whoever started this says when it is enough.
    for line in std::io::stdin().lock().lines() {
        line?;
    }
    stop.store(true, Ordering::Relaxed);
    // Publishers that block on a full link would hold up an orderly end.
    std::process::exit(0);
}

fn saturate(session: &Session, index: usize, priority: Priority, stop: &AtomicBool) -> Result<(), Trouble> {
    let publisher = session
        .declare_publisher(format!("bulk/{index}"))
        .priority(priority)
        .congestion_control(CongestionControl::Block)
        .wait()?;
    let payload = vec![7_u8; WRITE_BYTES];
    while !stop.load(Ordering::Relaxed) {
        publisher.put(payload.as_slice()).wait()?;
    }
    Ok(())
}

/// Round trips in milliseconds, timed as the other sides' are: sent by a thread of its own.
fn ping(session: &Session, count: usize) -> Result<Vec<f64>, Trouble> {
    let (answered, answers) = mpsc::channel();
    let started = Instant::now();
    let _pong = session
        .declare_subscriber("pong")
        .callback(move |sample| {
            let mut sent = [0; 16];
            let bytes = sample.payload().to_bytes();
            if let Some(head) = bytes.get(..16) {
                sent.copy_from_slice(head);
                let sent_ns = u128::from_be_bytes(sent);
                let _ = answered.send((started.elapsed().as_nanos().saturating_sub(sent_ns)) as f64 / 1e6);
            }
        })
        .wait()?;
    let publisher = session
        .declare_publisher("ping")
        .priority(Priority::RealTime)
        .congestion_control(CongestionControl::Block)
        .express(true)
        .wait()?;
    let due = Instant::now() + PATIENCE;
    while !publisher.matching_status().wait()?.matching() {
        if Instant::now() > due {
            return Err("nobody answers pings".into());
        }
        std::thread::sleep(PING_EVERY);
    }
    // The answering side has to learn of the subscriber too.
    std::thread::sleep(Duration::from_millis(500));
    let sending = std::thread::spawn(move || -> Result<(), Trouble> {
        let began = Instant::now();
        for nth in 0..u32::try_from(count)? {
            std::thread::sleep((began + PING_EVERY * nth).saturating_duration_since(Instant::now()));
            let mut ping = [0; PING_BYTES];
            ping[..16].copy_from_slice(&started.elapsed().as_nanos().to_be_bytes());
            publisher.put(ping.as_slice()).wait()?;
        }
        Ok(())
    });
    let mut took = Vec::with_capacity(count);
    for _ in 0..count {
        took.push(answers.recv_timeout(PATIENCE).map_err(|_| "a ping was not answered within 20 s")?);
    }
    sending.join().map_err(|_| "the pinging thread panicked")??;
    Ok(took)
}

/// The address of `ADDR:PORT`.
fn address(of: &str) -> Result<&str, Trouble> {
    Ok(of.rsplit_once(':').ok_or(USAGE)?.0)
}
