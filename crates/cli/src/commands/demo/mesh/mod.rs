//! `honeylink demo --mesh`: messages between a device that has only a radio and one that has only a network, over a third
//! that has both and is killed in between.
//!
//! ```text
//!  anna ── modem ~~~ air ~~~ modem ── bert ── QUIC on loopback ── cleo
//! ```
//!
//! Three processes of this program. The modems are emulated in this one, on pseudo-terminals: the devices speak with them as
//! with the hardware. All three are paired on a network first; then anna leaves it, so that she knows the others and cannot
//! reach them but by radio.

mod ear;
mod valley;

use std::path::Path;
use std::time::{Duration, Instant};

use honeylink_api::{
    ChatMessage, ChatSend, ChatState, Direction, ErrorCode, MeshRadio, MeshStats, Rung, routes,
};

use self::ear::Ear;
use self::valley::Valley;
use super::device::Device;
use super::report::{Duty, Report, Step};
use super::steps;
use crate::failure::Failure;
use crate::output::units;

/// How long a message may take, whatever happens to those that carry it.
const MESSAGE_MAX: Duration = Duration::from_secs(45);
/// How long the modem stays unplugged.
const UNPLUGGED_FOR: Duration = Duration::from_secs(2);
/// Bytes of the long message: several frames, so that it has a middle.
const LONG_BYTES: usize = 500;
/// The frame of the long message at whose beginning its relay is killed.
const KILLED_AT: usize = 2;
/// A frame at least so long holds a piece of the long message and nothing else, bytes.
const PIECE_BYTES_MIN: usize = 120;
const NAMES: [&str; 3] = ["anna", "bert", "cleo"];

/// The whole demonstration, up to the end of the devices.
pub(super) async fn play(report: &Report, stage: &Path, devices: &mut Vec<Device>) -> Result<(), Failure> {
    let port = steps::free_port().map_err(Failure::internal)?;
    acquaint(report, stage, devices, port).await?;
    let valley = Valley::new(stage).map_err(Failure::internal)?;
    part(report, devices, &valley, port).await?;
    let [anna, bert, cleo] = devices.as_mut_slice() else { return Err(steps::ended_early("the start")) };
    let mut ears = [Ear::open(anna).await?, Ear::open(cleo).await?];
    let [at_anna, at_cleo] = &mut ears;

    let to_cleo = Talk { valley: &valley, from: anna, to: cleo };
    let short = "all well in the valley?".to_owned();
    to_cleo.say(report, "send", &short, at_anna, at_cleo, async { Ok(String::new()) }).await?;
    let to_anna = Talk { valley: &valley, from: cleo, to: anna };
    let back = "all well, and in town?".to_owned();
    to_anna.say(report, "answer", &back, at_cleo, at_anna, async { Ok(String::new()) }).await?;

    let long = "it snows ".chars().cycle().take(LONG_BYTES).collect::<String>();
    let killing = async {
        valley.pieces(KILLED_AT, PIECE_BYTES_MIN).await;
        bert.kill().await?;
        bert.restart().await?;
        Ok(format!("; {} killed (SIGKILL) at its frame {KILLED_AT}, and started again", bert.name))
    };
    to_cleo.say(report, "kill", &long, at_anna, at_cleo, killing).await?;

    valley.unplug().await;
    let late = "the cable was loose".to_owned();
    let plugging = async {
        tokio::time::sleep(UNPLUGGED_FOR).await;
        valley.plug_in().await;
        Ok(format!("; {}'s modem was unplugged for {}", anna.name, units::span(UNPLUGGED_FOR)))
    };
    to_cleo.say(report, "unplug", &late, at_anna, at_cleo, plugging).await?;

    // A copy that is still under way comes before what follows it on the same way.
    let (last, reply) = ("good night".to_owned(), "sleep well".to_owned());
    to_cleo.say(report, "follow", &last, at_anna, at_cleo, async { Ok(String::new()) }).await?;
    to_anna.say(report, "follow", &reply, at_cleo, at_anna, async { Ok(String::new()) }).await?;
    once(at_cleo, cleo, &[&short, &long, &late, &last]).await?;
    once(at_anna, anna, &[&back, &reply]).await?;
    duty(report, &valley, [anna, bert]).await
}

/// Starts the devices on one network and pairs each with each.
async fn acquaint(
    report: &Report,
    stage: &Path,
    devices: &mut Vec<Device>,
    port: u16,
) -> Result<(), Failure> {
    let began = Instant::now();
    for name in NAMES {
        let settings = vec![format!("discovery.port={port}"), "mesh.enabled=false".to_owned()];
        devices.push(Device::start(name, &stage.join(name), settings).await?);
    }
    for (at, device) in devices.iter().enumerate() {
        steps::in_time("discovery", steps::sees(device, &devices[..at])).await?;
    }
    report.step(&Step {
        step: "start",
        seconds: began.elapsed().as_secs_f64(),
        detail: format!("{} in processes of their own, on one network", NAMES.join(", ")),
        ..Step::default()
    })?;
    for (shows, types) in [(0, 1), (0, 2), (1, 2)] {
        steps::pair_two(report, &devices[shows], &devices[types]).await?;
    }
    steps::stop(devices).await
}

/// Starts them again: the first with nothing but a radio, the second with radio and network, the third with the network.
async fn part(report: &Report, devices: &mut [Device], valley: &Valley, port: u16) -> Result<(), Failure> {
    let began = Instant::now();
    let network = format!("discovery.port={port}");
    let alone = "discovery.enabled=false".to_owned();
    let settings = [vec![alone, valley.radio(0)], vec![network.clone(), valley.radio(1)], vec![network]];
    for (device, settings) in devices.iter_mut().zip(settings) {
        device.restart_with(settings).await?;
    }
    report.step(&Step {
        step: "part",
        seconds: began.elapsed().as_secs_f64(),
        detail: format!(
            "{} has only a radio now, {} a radio and the network, {} the network",
            NAMES[0], NAMES[1], NAMES[2]
        ),
        ..Step::default()
    })
}

/// Somebody who says something to somebody else, over the valley.
#[derive(Clone, Copy)]
struct Talk<'a> {
    valley: &'a Valley,
    from: &'a Device,
    to: &'a Device,
}

impl Talk<'_> {
    /// Says `text`, lets `meanwhile` happen, and waits until the other side has heard it and the sender knows.
    async fn say(
        self,
        report: &Report,
        step: &'static str,
        text: &str,
        here: &mut Ear,
        there: &mut Ear,
        meanwhile: impl Future<Output = Result<String, Failure>>,
    ) -> Result<(), Failure> {
        let (began, before) = (Instant::now(), self.valley.on_air());
        let said = ChatSend { peer: self.to.id.clone(), text: text.to_owned(), policy: None };
        let saying = async {
            let sent: ChatMessage = self.from.client.post(routes::CHAT, &said).await?;
            if sent.state == ChatState::Delivered {
                return Ok(());
            }
            here.until("the receipt", |message| {
                message.id == sent.id && message.state == ChatState::Delivered
            })
            .await
            .map(drop)
        };
        let hearing = there.until("the message", |message| {
            message.direction == Direction::In && message.peer == self.from.id && message.text == text
        });
        let all = async { tokio::try_join!(saying, hearing, meanwhile) };
        let ((), heard, happened) = tokio::time::timeout(MESSAGE_MAX, all).await.map_err(|_| {
            let why = format!("the message took more than {} s", MESSAGE_MAX.as_secs());
            Failure::new(ErrorCode::Timeout, why)
        })??;
        let over_mesh = heard.path.as_ref().is_some_and(|path| path.rung == Rung::Mesh);
        if !over_mesh {
            let why = format!("the message did not go over the mesh: {:?}", heard.path);
            return Err(Failure::new(ErrorCode::Internal, why));
        }
        let air = self.valley.on_air().since(before);
        report.step(&Step {
            step,
            seconds: began.elapsed().as_secs_f64(),
            detail: format!(
                "{} to {}, {}, confirmed; {}, {} in {} on the air{happened}",
                self.from.name,
                self.to.name,
                units::bytes(text.len() as u64),
                units::count(air.frames, "frame"),
                units::bytes(air.bytes),
                units::span(Duration::from_millis(air.airtime_ms)),
            ),
            path: heard.path,
            air: Some(air),
            ..Step::default()
        })
    }
}

/// Checks that a device has heard each of these once, and its mesh nothing besides.
async fn once(ear: &Ear, device: &Device, texts: &[&String]) -> Result<(), Failure> {
    for text in texts {
        let times = ear.times(text);
        if times != 1 {
            let why = format!("{} heard a message {times} times", device.name);
            return Err(Failure::new(ErrorCode::Internal, why));
        }
    }
    let stats: MeshStats = device.client.get(routes::MESH_STATS).await?;
    if stats.messages.received == texts.len() as u64 {
        return Ok(());
    }
    let why = format!("{} got {} messages and not {}", device.name, stats.messages.received, texts.len());
    Err(Failure::new(ErrorCode::Internal, why))
}

/// Compares what the radios counted with what was on the air, and with what is allowed.
async fn duty(report: &Report, valley: &Valley, devices: [&Device; 2]) -> Result<(), Failure> {
    let began = Instant::now();
    let mut radios = Vec::new();
    for (at, device) in devices.into_iter().enumerate() {
        let own: Vec<MeshRadio> = device.client.get(routes::MESH_RADIOS).await?;
        let radio = own.first().ok_or_else(|| steps::ended_early("the radio"))?;
        let duty = Duty {
            name: device.name.clone(),
            on_air_ms: valley.airtime_ms(at),
            used_ms: radio.used_ms,
            budget_ms: radio.budget_ms,
        };
        if duty.used_ms < duty.on_air_ms || duty.used_ms > duty.budget_ms {
            return Err(Failure::new(ErrorCode::Internal, format!("airtime was not counted: {duty:?}")));
        }
        radios.push(duty);
    }
    let words: Vec<String> = radios.iter().map(in_words).collect();
    report.step(&Step {
        step: "duty",
        seconds: began.elapsed().as_secs_f64(),
        // A radio that was killed cannot know what it had sent last, and counts more rather than less.
        detail: words.join("; "),
        radios,
        ..Step::default()
    })
}

fn in_words(duty: &Duty) -> String {
    let span = |ms| units::span(Duration::from_millis(ms));
    format!(
        "{} was on the air for {} and counted {} of {} allowed in an hour",
        duty.name,
        span(duty.on_air_ms),
        span(duty.used_ms),
        span(duty.budget_ms)
    )
}
