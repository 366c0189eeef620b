//! `honeylink-lab-raw`: the control of the NAT lab. A plain iroh endpoint with iroh's own settings that does what the lab
//! asks of the product: answer, or send a numbered message every so often and say which way its answer came.
//!
//! It prints what `honeylink ping --json` prints, so that one reader serves both.

mod anybody;

use std::io::Write as _;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use iroh::endpoint::{Connection, presets};
use iroh::{Endpoint, EndpointAddr, RelayMap, RelayMode, SecretKey, TransportAddr};
use iroh_relay::tls::CaTlsConfig;

type Trouble = Box<dyn std::error::Error + Send + Sync>;

const ALPN: &[u8] = b"lab/1";
const USAGE: &str = "usage: honeylink-lab-raw --key N [--relay URL].. [--dial N --every-ms MS]";
/// How long to wait for a relay before starting without.
const ONLINE_MAX: Duration = Duration::from_secs(10);
/// Pause before a connection that ended is dialled again.
const AGAIN: Duration = Duration::from_millis(100);

#[derive(Default)]
struct Wish {
    key: u64,
    relays: Vec<String>,
    dial: Option<u64>,
    every: Duration,
}

impl Wish {
    fn parse(mut args: impl Iterator<Item = String>) -> Option<Self> {
        let mut wish = Self { every: Duration::from_millis(50), ..Self::default() };
        while let Some(flag) = args.next() {
            let value = args.next()?;
            match flag.as_str() {
                "--key" => wish.key = value.parse().ok()?,
                "--relay" => wish.relays.push(value),
                "--dial" => wish.dial = Some(value.parse().ok()?),
                "--every-ms" => wish.every = Duration::from_millis(value.parse().ok()?),
                _ => return None,
            }
        }
        Some(wish)
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let Some(wish) = Wish::parse(std::env::args().skip(1)) else {
        eprintln!("{USAGE}");
        return ExitCode::from(2);
    };
    match run(&wish).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(trouble) => {
            eprintln!("honeylink-lab-raw: {trouble}");
            ExitCode::FAILURE
        }
    }
}

async fn run(wish: &Wish) -> Result<(), Trouble> {
    let map = RelayMap::try_from_iter(wish.relays.iter().map(String::as_str))?;
    let mode = if map.is_empty() { RelayMode::Disabled } else { RelayMode::Custom(map.clone()) };
    let endpoint = Endpoint::builder(presets::Empty)
        .crypto_provider(honeylink::crypto::provider()?)
        .secret_key(secret(wish.key))
        .ca_tls_config(CaTlsConfig::custom_server_cert_verifier(Arc::new(|provider| {
            Ok(Arc::new(anybody::Anybody::new(provider)))
        })))
        .relay_mode(mode)
        .alpns(vec![ALPN.to_vec()])
        .bind()
        .await?;
    if !map.is_empty() {
        // A network that lets nothing through is a scenario too.
        let _ = tokio::time::timeout(ONLINE_MAX, endpoint.online()).await;
    }
    say(&serde_json::json!({ "event": "ready" }))?;
    let Some(peer) = wish.dial else {
        return answer(&endpoint).await;
    };
    let relays: Vec<iroh::RelayUrl> = map.urls();
    let to = relays.into_iter().fold(EndpointAddr::new(secret(peer).public()), EndpointAddr::with_relay_url);
    let mut seq = 0;
    loop {
        if let Err(why) = talk(&endpoint, to.clone(), wish.every, &mut seq).await {
            say(&serde_json::json!({ "event": "ended", "why": why.to_string() }))?;
        }
        tokio::time::sleep(AGAIN).await;
    }
}

/// The key with this number, so that both sides know each other without a word.
fn secret(number: u64) -> SecretKey {
    let mut bytes = [7; 32];
    bytes[..8].copy_from_slice(&number.to_le_bytes());
    SecretKey::from_bytes(&bytes)
}

/// Gives back what comes, on streams and as datagrams.
async fn answer(endpoint: &Endpoint) -> Result<(), Trouble> {
    while let Some(incoming) = endpoint.accept().await {
        tokio::spawn(async move {
            let Ok(conn) = incoming.await else { return };
            let datagrams = conn.clone();
            tokio::spawn(async move {
                while let Ok(bytes) = datagrams.read_datagram().await {
                    let _ = datagrams.send_datagram(bytes);
                }
            });
            let Ok((mut send, mut recv)) = conn.accept_bi().await else { return };
            let mut number = [0; 8];
            while recv.read_exact(&mut number).await.is_ok() && send.write_all(&number).await.is_ok() {}
        });
    }
    Ok(())
}

/// One connection for as long as it lives: a number out, the same number back, the next.
async fn talk(endpoint: &Endpoint, to: EndpointAddr, every: Duration, seq: &mut u64) -> Result<(), Trouble> {
    let conn = endpoint.connect(to, ALPN).await?;
    let (mut send, mut recv) = conn.open_bi().await?;
    let back = Arc::new(std::sync::atomic::AtomicU64::new(0));
    let counting = (conn.clone(), back.clone());
    let counter = tokio::spawn(async move {
        while counting.0.read_datagram().await.is_ok() {
            counting.1.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        }
    });
    let mut pace = tokio::time::interval(every);
    let mut sent = 0_u64;
    let ended: Trouble = loop {
        pace.tick().await;
        let began = Instant::now();
        let number = seq.to_le_bytes();
        sent += u64::from(conn.send_datagram(Bytes::copy_from_slice(&number)).is_ok());
        if let Err(error) = send.write_all(&number).await {
            break error.into();
        }
        let mut came = [0; 8];
        if let Err(error) = recv.read_exact(&mut came).await {
            break error.into();
        }
        let path = way(&conn);
        say(&serde_json::json!({
            "event": "reply",
            "seq": u64::from_le_bytes(came),
            "rtt_ms": began.elapsed().as_secs_f64() * 1000.0,
            "path": path,
            "datagrams": { "sent": sent, "back": back.load(std::sync::atomic::Ordering::Relaxed) },
        }))?;
        *seq += 1;
    };
    counter.abort();
    Err(ended)
}

/// The path in use, in the words of the product.
fn way(conn: &Connection) -> Option<serde_json::Value> {
    let paths = conn.paths();
    let path = paths.iter().find(iroh::endpoint::Path::is_selected).or_else(|| paths.iter().next())?;
    #[expect(clippy::wildcard_enum_match_arm, reason = "a foreign enum that may grow")]
    let (rung, address) = match path.remote_addr() {
        TransportAddr::Ip(addr) => ("direct/wide", addr.to_string()),
        TransportAddr::Relay(url) => ("relayed", url.to_string()),
        other => ("direct/wide", format!("{other:?}")),
    };
    Some(serde_json::json!({ "rung": rung, "address": address }))
}

fn say(line: &serde_json::Value) -> Result<(), Trouble> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{line}")?;
    Ok(out.flush()?)
}
