//! `honeylink relay`: runs a relay, by itself, beside or without a node.

use std::collections::BTreeSet;
use std::io::Write as _;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use axum::Router;
use axum::extract::State;
use axum::routing::get;
use clap::builder::RangedU64ValueParser;
use honeylink::relay::{Access, Certificate, RelayOptions, RelayServer, RelayStats, StartError};
use honeylink::{DeviceId, RelayAddr};
use honeylink_api::{ErrorCode, ExitCode};
use serde::Serialize;

use crate::app::{App, Outcome};
use crate::failure::Failure;
use crate::{logging, signals};

const EXAMPLES: &str = "\
Examples:
  honeylink relay --host relay.example.org                 on TCP 443 and UDP 7842, 7844, 7845, with a key of its own
  honeylink relay --host 192.0.2.7 --port 8443             where port 443 is taken or not allowed
  honeylink relay --host r.example.org --cert fullchain.pem --key privkey.pem
  honeylink relay --host r.example.org --allow-file /etc/honeylink/guests
  honeylink relay --host r.example.org --metrics 127.0.0.1:9465

It prints the line that other devices need. On each of them:
  honeylink config set node.reach wide
  honeylink config set node.relays 'https://relay.example.org#0f1e2d3c4b5a69788796a5b4c3d2e1f0'

Its own key lies in relay.key in the home (--home); keep it, or every device needs another line.";

/// How often the list of devices is looked at for changes.
const LIST_EVERY: Duration = Duration::from_secs(5);
/// Largest list of devices read, bytes: about 100,000 ids.
const LIST_BYTES_MAX: u64 = 8 << 20;

/// Run a relay for devices that cannot reach each other
///
/// Passes datagrams between devices behind NATs and firewalls until they have made a hole, or for as long as they cannot. It
/// sees who speaks to whom and how much, and nothing of what they say. Whoever has the line it prints may use it, or with
/// --allow only the devices named. It needs an address that others reach: TCP 443 for guests, UDP 7842 to tell them which
/// address they are seen at, UDP 7844 and 7845 to tell those behind hard NATs how these behave. iroh's own programs may use
/// it too.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// Name or address under which others reach it; default: this machine's address
    #[arg(long)]
    host: Option<String>,
    /// TCP port
    #[arg(long, default_value_t = 443)]
    port: u16,
    /// UDP port of address discovery
    #[arg(long, default_value_t = 7842)]
    udp: u16,
    /// UDP port of the observer, which takes the next one too
    #[arg(long, value_name = "PORT", default_value_t = 7844)]
    observe: u16,
    /// Neither address discovery nor observer: no holes can be made with its help
    #[arg(long, conflicts_with_all = ["udp", "observe"])]
    no_udp: bool,
    /// Address to listen on (repeatable); default: every one
    #[arg(long, value_name = "IP")]
    bind: Vec<IpAddr>,
    /// Certificates of a public authority, PEM; default: a key of its own, which others recognise by its pin
    #[arg(long, value_name = "FILE", requires = "key")]
    cert: Option<PathBuf>,
    /// The key that belongs to --cert, PEM
    #[arg(long, value_name = "FILE", requires = "cert")]
    key: Option<PathBuf>,
    /// Let in this device and those named likewise, no others (repeatable)
    #[arg(long, value_name = "ID", value_parser = device)]
    allow: Vec<DeviceId>,
    /// Let in the devices of this file, one id a line, `#` starts a remark; read again when it changes
    #[arg(long, value_name = "FILE")]
    allow_file: Option<PathBuf>,
    /// Most devices at a time
    #[arg(long, value_name = "N", default_value_t = 1000, value_parser = at_least_one())]
    guests: usize,
    /// Most connections from one IPv4 address or IPv6 /64
    #[arg(long, value_name = "N", default_value_t = 64, value_parser = at_least_one())]
    per_address: usize,
    /// Most bytes a second one device may send; 0: no limit
    #[arg(long, value_name = "BYTES", default_value_t = 0)]
    rate: u64,
    /// Serve /metrics and /healthz on this TCP address
    #[arg(long, value_name = "IP:PORT")]
    metrics: Option<SocketAddr>,
}

/// A relay that takes nobody is a mistake.
fn at_least_one() -> RangedU64ValueParser<usize> {
    RangedU64ValueParser::new().range(1..)
}

fn device(text: &str) -> Result<DeviceId, String> {
    text.parse().map_err(|error| format!("{error}; `honeylink status` on that device shows its id"))
}

/// What `--json` prints when the relay works.
#[derive(Serialize)]
struct Started {
    relay: String,
    listening: Vec<String>,
    discovering: Vec<String>,
    observing: Option<String>,
}

pub(crate) async fn run(app: &App, args: Args) -> Outcome {
    let resolved = app.config()?;
    logging::for_command(&resolved.config.log, app.global.verbose);
    let (server, relay) = start(app, &args)?;
    let server = Arc::new(server);
    if app.out.json {
        app.out.json(&Started {
            relay: relay.to_string(),
            listening: server.listening().iter().map(ToString::to_string).collect(),
            discovering: server.discovering().iter().map(ToString::to_string).collect(),
            observing: server.observing().map(|addr| addr.to_string()),
        })?;
    } else {
        app.out.line(&relay.to_string())?;
        app.out.note(
            "relaying until Ctrl-C; others use it with: honeylink config set node.relays 'THE LINE ABOVE'",
        );
    }
    let metrics = serve_metrics(args.metrics, server.clone()).await?;
    tokio::select! {
        biased;
        () = signals::asked_to_stop() => {}
        () = keep_list(&args, &server) => {}
        () = metrics => {}
    }
    if let Ok(server) = Arc::try_unwrap(server) {
        server.shutdown().await;
    }
    Ok(ExitCode::Ok)
}

fn start(app: &App, args: &Args) -> Result<(RelayServer, RelayAddr), Failure> {
    let host = args.host.clone().or_else(|| own_address(&args.bind).map(|ip| ip.to_string()));
    let host = host.ok_or_else(|| {
        Failure::hint(
            ErrorCode::BadRequest,
            "this machine has no address that others could reach",
            "name one with --host",
        )
    })?;
    let certificate = certificate(app, args, &host)?;
    let access = access(args)?;
    let pin = certificate.pin().map_err(|error| failed(&error))?;
    let named = |tcp, udp| {
        RelayAddr::new(&host, tcp, udp, pin)
            .map_err(|error| Failure::new(ErrorCode::BadRequest, format!("--host: {error}")))
    };
    // Checked before anything is opened; port 0 becomes what the system gave.
    named(args.port.max(1), args.udp)?;
    let any = [IpAddr::V4(Ipv4Addr::UNSPECIFIED), IpAddr::V6(Ipv6Addr::UNSPECIFIED)];
    let addresses: Vec<IpAddr> = if args.bind.is_empty() { usable(&any) } else { args.bind.clone() };
    let at = |port: u16| addresses.iter().map(|ip| SocketAddr::new(*ip, port)).collect();
    let observer = addresses.iter().find(|ip| ip.is_ipv4() && !args.no_udp);
    let server = RelayServer::start(RelayOptions {
        listen: at(args.port),
        discovery: if args.no_udp { Vec::new() } else { at(args.udp) },
        observer: observer.map(|ip| SocketAddr::new(*ip, args.observe)),
        certificate,
        access,
        guests_max: args.guests,
        guests_per_source_max: args.per_address,
        rate_bytes_per_s: (args.rate > 0).then_some(args.rate),
    })
    .map_err(|error| failed(&error))?;
    let port = |bound: &[SocketAddr]| bound.first().map_or(0, SocketAddr::port);
    let relay = named(port(server.listening()), port(server.discovering()))?;
    Ok((server, relay))
}

fn failed(error: &StartError) -> Failure {
    let message = error.to_string();
    match error {
        StartError::Listen { addr, .. } if addr.port() < 1024 => Failure::hint(
            ErrorCode::Config,
            message,
            "ports below 1024 need a right: run it by the systemd unit, or choose another with --port",
        ),
        StartError::Listen { .. } => {
            Failure::hint(ErrorCode::Config, message, "choose other ports with --port, --udp and --observe")
        }
        StartError::Tls(_) => Failure::hint(ErrorCode::Config, message, "check --cert and --key"),
        StartError::Cpu(_) | StartError::NoAddress => Failure::new(ErrorCode::Internal, message),
    }
}

/// Those of the addresses whose family this machine has.
fn usable(any: &[IpAddr]) -> Vec<IpAddr> {
    any.iter().copied().filter(|ip| UdpSocket::bind((*ip, 0)).is_ok()).collect()
}

/// The address this machine would send from: that of the first interface with a way out. Nothing is sent.
fn own_address(bind: &[IpAddr]) -> Option<IpAddr> {
    if let Some(ip) = bind.iter().find(|ip| !ip.is_unspecified()) {
        return Some(*ip);
    }
    // Addresses that are nobody's (RFC 5737, RFC 3849).
    ["192.0.2.1:9", "[2001:db8::1]:9"].into_iter().find_map(|nobody| {
        let nobody: SocketAddr = nobody.parse().ok()?;
        let any =
            if nobody.is_ipv4() { IpAddr::V4(Ipv4Addr::UNSPECIFIED) } else { Ipv6Addr::UNSPECIFIED.into() };
        let socket = UdpSocket::bind((any, 0)).ok()?;
        socket.connect(nobody).ok()?;
        Some(socket.local_addr().ok()?.ip())
    })
}

fn certificate(app: &App, args: &Args, host: &str) -> Result<Certificate, Failure> {
    let unusable = |path: &Path, why: String| {
        Failure::new(ErrorCode::Config, format!("cannot use {}: {why}", path.display()))
    };
    if let (Some(cert), Some(key)) = (&args.cert, &args.key) {
        return Certificate::from_pem(cert, key).map_err(|(path, why)| unusable(&path, why));
    }
    let path = app.home.dir().join("relay.key");
    let key = own_key(app.home.dir(), &path).map_err(|error| Failure::file("read or make", &path, &error))?;
    Certificate::own_from_pem(&key, host).map_err(|why| unusable(&path, why))
}

/// The relay's own key in PEM: the one of the file, or a new one.
fn own_key(home: &Path, path: &Path) -> std::io::Result<String> {
    match std::fs::read_to_string(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
        read => return read,
    }
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(home)?;
    let pem = Certificate::new_key().map_err(std::io::Error::other)?;
    let mut file = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(pem.as_bytes())?;
    file.sync_all()?;
    Ok(pem.to_string())
}

fn access(args: &Args) -> Result<Access, Failure> {
    if args.allow.is_empty() && args.allow_file.is_none() {
        return Ok(Access::Everybody);
    }
    let mut listed: BTreeSet<DeviceId> = args.allow.iter().copied().collect();
    if let Some(path) = &args.allow_file {
        listed.extend(read_list(path)?);
    }
    Ok(Access::Listed(listed))
}

fn read_list(path: &Path) -> Result<Vec<DeviceId>, Failure> {
    let unreadable = |error: std::io::Error| Failure::file("read", path, &error);
    if std::fs::metadata(path).map_err(unreadable)?.len() > LIST_BYTES_MAX {
        return Err(Failure::new(
            ErrorCode::Config,
            format!("{}: too long for a list of devices", path.display()),
        ));
    }
    let text = std::fs::read_to_string(path).map_err(unreadable)?;
    parse_list(&text)
        .map_err(|(line, why)| Failure::new(ErrorCode::Config, format!("{}:{line}: {why}", path.display())))
}

fn parse_list(text: &str) -> Result<Vec<DeviceId>, (usize, String)> {
    let mut ids = Vec::new();
    for (number, line) in text.lines().enumerate() {
        let id = line.split('#').next().unwrap_or_default().trim();
        if !id.is_empty() {
            ids.push(device(id).map_err(|why| (number + 1, why))?);
        }
    }
    Ok(ids)
}

/// Reads the list of devices again whenever its file changed. A list that cannot be read leaves the one before in force.
async fn keep_list(args: &Args, server: &RelayServer) {
    let Some(path) = &args.allow_file else { return std::future::pending().await };
    let changed_at = || std::fs::metadata(path).and_then(|data| data.modified()).ok();
    let mut known: Option<SystemTime> = changed_at();
    loop {
        tokio::time::sleep(LIST_EVERY).await;
        let now = changed_at();
        if now == known {
            continue;
        }
        known = now;
        match access(args) {
            Ok(access) => server.set_access(access),
            Err(Failure::Error(error)) => {
                tracing::warn!(error = error.message, "the list of devices stays as it was");
            }
            Err(Failure::Reported(_) | Failure::OutputClosed) => {}
        }
    }
}

async fn serve_metrics(
    address: Option<SocketAddr>,
    server: Arc<RelayServer>,
) -> Result<impl Future<Output = ()>, Failure> {
    let listener = match address {
        Some(address) => Some(tokio::net::TcpListener::bind(address).await.map_err(|error| {
            Failure::new(ErrorCode::Config, format!("--metrics: cannot listen on {address}: {error}"))
        })?),
        None => None,
    };
    Ok(async move {
        let Some(listener) = listener else { return std::future::pending().await };
        let router = Router::new()
            .route("/healthz", get(async || "ok\n"))
            .route("/metrics", get(async |State(server): State<Arc<RelayServer>>| text(&server.stats())))
            .with_state(server);
        if let Err(error) = axum::serve(listener, router).await {
            tracing::warn!(%error, "metrics are not served any more");
        }
        std::future::pending::<()>().await;
    })
}

/// The counts in the Prometheus text format.
fn text(stats: &RelayStats) -> String {
    let families = [
        ("guests", "gauge", "Devices connected now.", stats.guests as u64),
        ("accepted_total", "counter", "Devices let in.", stats.accepted),
        ("refused_access_total", "counter", "Turned away, not being on the list.", stats.refused_access),
        ("refused_busy_total", "counter", "Turned away because there were too many.", stats.refused_busy),
        ("failed_total", "counter", "Connections that failed before anything was asked.", stats.failed),
        ("passed_total", "counter", "Messages passed on.", stats.passed),
        ("passed_bytes_total", "counter", "Bytes passed on.", stats.passed_bytes),
        ("absent_total", "counter", "Messages for devices that were not there.", stats.absent),
        ("dropped_total", "counter", "Messages for which the receiver had no room.", stats.dropped),
        ("throttled_total", "counter", "Times a device was made to wait.", stats.throttled),
        ("discoveries_total", "counter", "Devices that asked for their address.", stats.discoveries),
        ("observed_total", "counter", "Questions that the observer answered.", stats.observed),
        ("unobserved_total", "counter", "Questions it left, being too many or none.", stats.unobserved),
    ];
    let lines = families.map(|(name, kind, help, value)| {
        let name = format!("honeylink_relay_{name}");
        format!("# HELP {name} {help}\n# TYPE {name} {kind}\n{name} {value}\n")
    });
    lines.concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_of_devices_has_remarks_and_names_the_line_that_is_wrong() {
        let id = honeylink_core_id();
        let list = format!("# guests\n\n{id}  # studio\n");
        assert_eq!(parse_list(&list).unwrap().len(), 1);
        let (line, why) = parse_list(&format!("{list}abc\n")).unwrap_err();
        assert_eq!(line, 4);
        assert!(why.contains("honeylink status"), "{why}");
    }

    /// An id that is a key: the generator of the curve.
    fn honeylink_core_id() -> String {
        format!("58{}", "66".repeat(31))
    }

    #[test]
    fn metrics_name_every_count_once() {
        let text = text(&RelayStats::default());
        let names: BTreeSet<_> = text.lines().filter(|line| line.starts_with("# TYPE")).collect();
        assert_eq!(names.len(), 13);
    }
}
