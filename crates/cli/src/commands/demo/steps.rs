//! The steps of a demonstration, each of which either works within its time or says why not.

use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use honeylink_api::client::Lines;
use honeylink_api::{
    ChatEvent, ChatMessage, ChatSend, Direction, ErrorCode, NearbyEvent, PairEvent, PairJoin, PairOpen,
    PairOutcome, SendRequest, ShutdownEvent, ShutdownRequest, TransferEvent, TransferOutcome, routes,
};

use super::device::Device;
use super::report::{Report, Step};
use crate::failure::Failure;
use crate::output::units;

/// How long a step may take before it counts as failed; transfers of gigabytes have their own limits inside the node.
const STEP_MAX: Duration = Duration::from_secs(30);
/// The file of the resume step is sized to take about so long, so that there is a middle to kill somebody in.
const RESUME_TAKES: Duration = Duration::from_secs(3);
/// Largest file of the resume step, in bytes.
const RESUME_BYTES_MAX: u64 = 2 << 30;

const NAMES: [&str; 16] = [
    "anna", "bert", "cleo", "dina", "emil", "fred", "gina", "hugo", "ines", "jean", "karl", "lena", "mona",
    "nils", "olga", "paul",
];

pub(super) async fn in_time<T>(
    what: &str,
    work: impl Future<Output = Result<T, Failure>>,
) -> Result<T, Failure> {
    tokio::time::timeout(STEP_MAX, work).await.unwrap_or_else(|_| {
        Err(Failure::new(ErrorCode::Timeout, format!("{what} took more than {} s", STEP_MAX.as_secs())))
    })
}

pub(super) fn ended_early(what: &str) -> Failure {
    Failure::new(ErrorCode::Internal, format!("{what} ended without an outcome"))
}

/// Starts the devices, on a discovery port of their own.
pub(super) async fn start(
    report: &Report,
    stage: &Path,
    count: u8,
    devices: &mut Vec<Device>,
) -> Result<(), Failure> {
    let began = Instant::now();
    let port = free_port().map_err(Failure::internal)?;
    for name in NAMES.iter().take(usize::from(count)) {
        let settings = vec![format!("discovery.port={port}")];
        devices.push(Device::start(name, &stage.join(name), settings).await?);
    }
    let names: Vec<&str> = devices.iter().map(|device| device.name.as_str()).collect();
    report.step(&Step {
        step: "start",
        seconds: began.elapsed().as_secs_f64(),
        detail: format!(
            "{} in processes of their own: {}",
            units::count(u64::from(count), "device"),
            names.join(", ")
        ),
        ..Step::default()
    })
}

/// A UDP port nobody uses now. Devices share it, so it has to be free only of others.
pub(super) fn free_port() -> std::io::Result<u16> {
    std::net::UdpSocket::bind("127.0.0.1:0")?.local_addr().map(|addr| addr.port())
}

/// Waits until the first device sees all others.
pub(super) async fn discover(report: &Report, devices: &[Device]) -> Result<(), Failure> {
    let began = Instant::now();
    let (first, others) = devices.split_first().ok_or_else(|| ended_early("the start"))?;
    in_time("discovery", sees(first, others)).await?;
    report.step(&Step {
        step: "discover",
        seconds: began.elapsed().as_secs_f64(),
        detail: format!("{} sees {} by mDNS", first.name, units::count(others.len() as u64, "other")),
        ..Step::default()
    })
}

/// Waits until a device sees others.
pub(super) async fn sees(device: &Device, others: &[Device]) -> Result<(), Failure> {
    let mut events = device.client.watch::<NearbyEvent>(routes::NEARBY_WATCH).await?;
    let mut missing: Vec<&str> = others.iter().map(|device| device.id.as_str()).collect();
    while !missing.is_empty() {
        match events.next().await?.ok_or_else(|| ended_early("discovery"))? {
            NearbyEvent::Found(seen) | NearbyEvent::Changed(seen) => missing.retain(|id| *id != seen.id),
            NearbyEvent::Lost { .. } | NearbyEvent::Conflict { .. } => {}
        }
    }
    Ok(())
}

/// Pairs the first device with each other one.
pub(super) async fn pair(report: &Report, devices: &[Device]) -> Result<(), Failure> {
    let (first, others) = devices.split_first().ok_or_else(|| ended_early("the start"))?;
    for other in others {
        pair_two(report, first, other).await?;
    }
    Ok(())
}

/// Pairs two devices that see each other.
pub(super) async fn pair_two(report: &Report, shows: &Device, types: &Device) -> Result<(), Failure> {
    let began = Instant::now();
    let mut host =
        shows.client.stream::<_, PairEvent>(routes::PAIR_OPEN, &PairOpen { verify: false }).await?;
    let Some(PairEvent::Open { code, .. }) = host.next().await? else {
        return Err(ended_early("pairing"));
    };
    let join = PairJoin { code: code.clone(), verify: false };
    let mut guest = types.client.stream::<_, PairEvent>(routes::PAIR_JOIN, &join).await?;
    let both = async { tokio::try_join!(paired(&mut host), paired(&mut guest)) };
    in_time("pairing", both).await?;
    report.step(&Step {
        step: "pair",
        seconds: began.elapsed().as_secs_f64(),
        detail: format!("{} and {} by the code {code}", shows.name, types.name),
        ..Step::default()
    })
}

async fn paired(events: &mut Lines<PairEvent>) -> Result<PairOutcome, Failure> {
    while let Some(event) = events.next().await? {
        if let PairEvent::Outcome(outcome) = event {
            return match outcome.error {
                None => Ok(outcome),
                Some(error) => Err(error.into()),
            };
        }
    }
    Err(ended_early("pairing"))
}

/// The first device and each other one say something to each other.
pub(super) async fn chat(report: &Report, devices: &[Device]) -> Result<(), Failure> {
    let (first, others) = devices.split_first().ok_or_else(|| ended_early("the start"))?;
    for other in others {
        let began = Instant::now();
        in_time("chat", say(first, other)).await?;
        let back = in_time("chat", say(other, first)).await?;
        report.step(&Step {
            step: "chat",
            seconds: began.elapsed().as_secs_f64(),
            detail: format!("{} and {}, a message each way, confirmed", first.name, other.name),
            path: back.path,
            ..Step::default()
        })?;
    }
    Ok(())
}

async fn say(from: &Device, to: &Device) -> Result<ChatMessage, Failure> {
    let mut heard = to.client.watch::<ChatEvent>(routes::CHAT_WATCH).await?;
    // The first line says that nothing is missed from here on.
    heard.next().await?;
    let text = format!("hello {}, this is {}", to.name, from.name);
    let said = ChatSend { peer: to.id.clone(), text: text.clone(), policy: None };
    let sent: ChatMessage = from.client.post(routes::CHAT, &said).await?;
    while let Some(event) = heard.next().await? {
        if let ChatEvent::Message(message) = event
            && message.direction == Direction::In
            && message.text == text
            && message.peer == from.id
        {
            return Ok(sent);
        }
    }
    Err(ended_early("the chat"))
}

/// Sends a file from the first device to the second. Returns its rate in bytes per second.
pub(super) async fn send(
    report: &Report,
    stage: &Path,
    devices: &[Device],
    bytes: u64,
) -> Result<u64, Failure> {
    let [first, second, ..] = devices else { return Err(ended_early("the start")) };
    let file = fresh_file(stage, "photos.bin", bytes)?;
    let mut events = first.client.stream::<_, TransferEvent>(routes::SEND, &request(&file, second)).await?;
    let outcome = sent(&mut events).await?;
    same(&file, &second.inbox())?;
    let rate = per_second(outcome.bytes, outcome.seconds);
    report.step(&Step {
        step: "send",
        seconds: outcome.seconds,
        detail: format!("{} from {} to {}, verified", units::bytes(bytes), first.name, second.name),
        path: outcome.path,
        rate_bytes_per_s: Some(rate),
        ..Step::default()
    })?;
    Ok(rate)
}

/// Sends another file, kills the receiver in the middle, starts it again, and waits for the rest.
pub(super) async fn resume(
    report: &Report,
    stage: &Path,
    devices: &mut [Device],
    rate: u64,
    bytes_min: u64,
) -> Result<(), Failure> {
    let [first, second, ..] = devices else { return Err(ended_early("the start")) };
    let bytes = rate.saturating_mul(RESUME_TAKES.as_secs()).clamp(bytes_min, RESUME_BYTES_MAX.max(bytes_min));
    let file = fresh_file(stage, "film.bin", bytes)?;
    let began = Instant::now();
    let mut events = first.client.stream::<_, TransferEvent>(routes::SEND, &request(&file, second)).await?;
    let mut killed_at = None;
    let outcome = loop {
        match events.next().await?.ok_or_else(|| ended_early("the transfer"))? {
            TransferEvent::Progress(at)
                if killed_at.is_none() && at.bytes > 0 && at.bytes < at.total_bytes =>
            {
                second.kill().await?;
                killed_at = Some(at.bytes);
                second.restart().await?;
            }
            TransferEvent::Progress(_) | TransferEvent::Offer { .. } => {}
            TransferEvent::Outcome(outcome) => break checked(outcome)?,
        }
    };
    let Some(killed_at) = killed_at else {
        return Err(Failure::hint(
            ErrorCode::Internal,
            "the file had arrived before anybody could be killed",
            "try a larger one: honeylink demo --size 1024",
        ));
    };
    if outcome.resumed_bytes == 0 {
        return Err(Failure::new(ErrorCode::Internal, "the transfer began again instead of continuing"));
    }
    same(&file, &second.inbox())?;
    report.step(&Step {
        step: "resume",
        seconds: began.elapsed().as_secs_f64(),
        detail: format!(
            "{}: {} killed (SIGKILL) at {}, started again, {} kept, verified",
            units::bytes(bytes),
            second.name,
            units::bytes(killed_at),
            units::bytes(outcome.resumed_bytes)
        ),
        path: outcome.path,
        ..Step::default()
    })
}

/// Ends the devices as `honeylink down` does.
pub(super) async fn end(report: &Report, devices: &mut [Device]) -> Result<(), Failure> {
    let began = Instant::now();
    stop(devices).await?;
    report.step(&Step {
        step: "stop",
        seconds: began.elapsed().as_secs_f64(),
        detail: "every device ended by itself; nothing is left behind".to_owned(),
        ..Step::default()
    })
}

/// Ends the devices and says nothing about it.
pub(super) async fn stop(devices: &mut [Device]) -> Result<(), Failure> {
    for device in devices.iter_mut() {
        let request = ShutdownRequest { drain_s: Some(5) };
        let mut phases = device.client.stream::<_, ShutdownEvent>(routes::SHUTDOWN, &request).await?;
        // The end of the stream is the end of the device; how it was, its exit code says.
        while let Ok(Some(_)) = phases.next().await {}
        device.ended().await?;
    }
    Ok(())
}

fn request(file: &Path, to: &Device) -> SendRequest {
    SendRequest { paths: vec![file.display().to_string()], to: Some(to.id.clone()), policy: None }
}

async fn sent(events: &mut Lines<TransferEvent>) -> Result<TransferOutcome, Failure> {
    while let Some(event) = events.next().await? {
        if let TransferEvent::Outcome(outcome) = event {
            return checked(outcome);
        }
    }
    Err(ended_early("the transfer"))
}

fn checked(outcome: TransferOutcome) -> Result<TransferOutcome, Failure> {
    match outcome.error {
        None => Ok(outcome),
        Some(error) => Err(error.into()),
    }
}

#[expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a rate is for the eye and for sizing a file"
)]
fn per_second(bytes: u64, seconds: f64) -> u64 {
    (bytes as f64 / seconds.max(1e-6)) as u64
}

/// A file of bytes that repeat nowhere (xorshift64, Marsaglia 2003), so that nothing on the way can make it smaller.
fn fresh_file(stage: &Path, name: &str, bytes: u64) -> Result<PathBuf, Failure> {
    let path = stage.join(name);
    let write = || {
        let mut out = std::io::BufWriter::with_capacity(1 << 20, std::fs::File::create(&path)?);
        let mut state = bytes | 1;
        let mut left = bytes;
        while left > 0 {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            let word = state.to_le_bytes();
            let take = left.min(8);
            out.write_all(&word[..usize::try_from(take).unwrap_or(8)])?;
            left -= take;
        }
        out.flush()
    };
    write().map_err(|e| Failure::file("write", &path, &e))?;
    Ok(path)
}

/// Checks that the file arrived in the folder as it was sent, byte for byte.
fn same(sent: &Path, folder: &Path) -> Result<(), Failure> {
    let arrived = folder.join(sent.file_name().unwrap_or_default());
    let equal = equal(sent, &arrived).map_err(|e| Failure::file("compare", &arrived, &e))?;
    if equal {
        return Ok(());
    }
    Err(Failure::new(ErrorCode::Internal, format!("{} differs from what was sent", arrived.display())))
}

fn equal(a: &Path, b: &Path) -> std::io::Result<bool> {
    let (mut a, mut b) = (std::fs::File::open(a)?, std::fs::File::open(b)?);
    if a.metadata()?.len() != b.metadata()?.len() {
        return Ok(false);
    }
    let (mut left, mut right) = (vec![0; 1 << 20], vec![0; 1 << 20]);
    loop {
        let read = a.read(&mut left)?;
        if read == 0 {
            return Ok(true);
        }
        b.read_exact(&mut right[..read])?;
        if left[..read] != right[..read] {
            return Ok(false);
        }
    }
}
