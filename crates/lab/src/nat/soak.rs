//! The soak: many devices behind all kinds of NAT, links between them that talk without end, and every two seconds something
//! breaks. In the end each message must have arrived once, and nobody may have grown.
//!
//! What is said goes through `honeylink chat`, because its log is on both disks: who asks for a node to be killed must count
//! what the next process knows. A sender that dies with a message under way knows nothing of it, so such a message may have
//! arrived or not, but not twice.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Stdio;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use honeylink::store::chat::NewMessage;
use honeylink::{Node, Reach};
use rustix::process::Signal;
use serde::Serialize;
use serde_json::Value;
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::process::Command;
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::Trouble;
use crate::line::Chance;
use crate::observers::Observers;
use crate::scenario::{self, Kind, Scenario};
use crate::subject::{Programs, Relays, Subject};
use crate::world::World;

/// All pairs of them would be 55 links.
const DEVICES: usize = 11;
const FAULT_EVERY: Duration = Duration::from_secs(2);
/// From one message of a link to the next.
const SAY_EVERY: Duration = Duration::from_secs(2);
/// How long somebody waits for word of a message before asking no more.
const WORD_MAX: Duration = Duration::from_secs(40);
/// A frozen program and a dead one come back after this time.
const AWAY: Duration = Duration::from_secs(3);
/// In the end nothing is broken for so long, and then everything must have arrived.
const SETTLE: Duration = Duration::from_secs(90);
/// A message that a third device keeps may come later: its sender repeats it after a minute at the earliest, and leaves it to
/// the keeper for eight when it does not hear of its target.
const KEPT_MAX: Duration = Duration::from_secs(600);
/// How often it is asked whether some are under way.
const KEPT_EVERY: Duration = Duration::from_secs(5);
/// Memory may grow by this factor from the second minute to the end: allocators keep what a fault made them take.
const GROWTH_MAX: f64 = 1.3;
const KINDS: [Kind; 6] =
    [Kind::Public, Kind::Open, Kind::Home, Kind::Cgnat, Kind::Corporate, Kind::UdpBlocked];

/// The faults, as they are told while they happen.
const FAULTS: [&str; 6] =
    ["the direct paths are cut of", "everything is healed", "moves", "a relay dies", "frozen", "killed"];

/// What a sender knows of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Word {
    /// Taken by the node: it must arrive.
    Taken,
    /// Nothing was said of it any more.
    Unknown,
}

/// One direction between two devices, and what was said over it.
#[derive(Debug)]
struct Line {
    from: usize,
    to: usize,
    said: Mutex<BTreeMap<u64, Word>>,
}

impl Line {
    /// How many messages the sender's node took.
    fn taken(&self) -> usize {
        held(&self.said).values().filter(|word| **word == Word::Taken).count()
    }
}

/// What the soak found.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Found {
    minutes: f64,
    seed: u64,
    links: usize,
    faults: u64,
    taken: u64,
    unknown: u64,
    lost: u64,
    twice: u64,
    /// Links over which nothing more went after everything was mended.
    stuck: u64,
    /// How long the last message took that was on its way over others when everything was quiet.
    kept_s: f64,
    memory_bytes_early: u64,
    memory_bytes_late: u64,
}

impl Found {
    pub(crate) fn is_good(&self) -> bool {
        let grown = self.memory_bytes_late as f64 / (self.memory_bytes_early.max(1)) as f64;
        self.lost == 0 && self.twice == 0 && self.stuck == 0 && self.taken > 0 && grown <= GROWTH_MAX
    }
}

/// Runs the soak for `minutes`.
pub(crate) async fn run(
    programs: &Programs,
    minutes: f64,
    links: usize,
    seed: u64,
    folder: &Path,
) -> Result<Found, Trouble> {
    let program = programs.honeylink.clone();
    let names: Vec<String> = (0..DEVICES).map(|number| format!("node-{number}")).collect();
    let world = World::build(&scenario(&names)?).await?;
    let mut relays = Relays::start(&world, programs, folder).await?;
    let observers = Observers::start(&world, programs, folder).await?;
    let pairs: Vec<(usize, usize)> =
        (0..DEVICES).flat_map(|a| (a + 1..DEVICES).map(move |b| (a, b))).take(links).collect();
    let mut nodes = Subject::product(programs, &names, &pairs, &relays.at, &observers, folder).await?;
    nodes.start(&world).await?;
    let lines: Vec<Arc<Line>> = pairs
        .iter()
        .map(|(from, to)| Arc::new(Line { from: *from, to: *to, said: Mutex::default() }))
        .collect();
    // Whether each device's node runs.
    let runs: Runs = names.iter().map(|name| (name.clone(), watch::Sender::new(true))).collect();
    let mut talkers = JoinSet::new();
    for line in &lines {
        let device = world.device(&names[line.from])?.clone();
        let home = nodes.home(&names[line.from])?.to_owned();
        let (program, to, line) = (program.clone(), names[line.to].clone(), line.clone());
        let mut up = runs.get(&names[line.from]).ok_or("no such device")?.subscribe();
        talkers.spawn(async move {
            loop {
                // A program that finds no node becomes one itself, and would be in the way of the one that comes back.
                if up.wait_for(|up| *up).await.is_err() {
                    return;
                }
                let mut command = Command::new(&program);
                command.arg("--home").arg(&home).args(["chat", &to, "--json"]);
                // An end is a fault's doing: somebody asks again.
                tokio::select! {
                    _ = talk(&device, command, &line) => {}
                    _ = up.wait_for(|up| !*up) => {}
                }
                tokio::time::sleep(SAY_EVERY / 4).await;
            }
        });
    }
    let mut found = Found { minutes, seed, links: lines.len(), ..Found::default() };
    faults(&mut found, &world, &mut relays, &mut nodes, &runs).await?;
    let mended: Vec<_> = lines.iter().map(|line| line.taken()).collect();
    // The last words are said before the talkers go, so that nothing is unknown for want of time.
    tokio::time::sleep(SETTLE / 2).await;
    talkers.shutdown().await;
    for (line, before) in lines.iter().zip(mended).filter(|(line, before)| line.taken() == *before) {
        println!("stuck after {before} messages: {} to {}", names[line.from], names[line.to]);
        found.stuck += 1;
    }
    tokio::time::sleep(SETTLE / 2).await;
    found.kept_s = until_none_is_under_way(&nodes, &names).await.as_secs_f64();
    found.memory_bytes_late = memory(&nodes, &names);
    let homes: Vec<_> =
        names.iter().map(|name| nodes.home(name).map(Path::to_owned)).collect::<Result<_, _>>()?;
    nodes.stop().await;
    count(&mut found, &lines, &names, &homes).await?;
    Ok(found)
}

fn scenario(names: &[String]) -> Result<Scenario, Trouble> {
    let mut text =
        String::from("name = \"soak\"\nabout = \"everything at once\"\nrelays = 2\nobservers = 2\n");
    for (name, kind) in names.iter().zip(KINDS.iter().cycle()) {
        text.push_str(&format!("[[devices]]\nname = \"{name}\"\nbehind = \"{}\"\n", kind.name()));
    }
    text.push_str("[[steps]]\ndo = \"connect\"\n");
    Ok(scenario::parse_any("soak", &text)?)
}

/// One program that talks, until it ends or says no word of a message for too long.
async fn talk(device: &patchbay::Device, mut command: Command, line: &Line) -> Result<(), Trouble> {
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).kill_on_drop(true);
    let mut child = device.spawn_command(command)?;
    let mut says = child.stdin.take().ok_or("no pipe")?;
    let mut hears = BufReader::new(child.stdout.take().ok_or("no pipe")?).lines();
    loop {
        let number = {
            let mut said = held(&line.said);
            let number = said.len() as u64;
            said.insert(number, Word::Unknown);
            number
        };
        let text = format!("{}>{}:{number}", line.from, line.to);
        says.write_all(format!("{text}\n").as_bytes()).await?;
        let word = async {
            while let Some(heard) = hears.next_line().await? {
                let event: Value = serde_json::from_str(&heard).unwrap_or_default();
                if event["event"] == "message" && event["text"] == text.as_str() {
                    return Ok::<_, Trouble>(event["state"] != "failed");
                }
            }
            Err("the program ended".into())
        };
        if tokio::time::timeout(WORD_MAX, word).await?? {
            held(&line.said).insert(number, Word::Taken);
        }
        tokio::time::sleep(SAY_EVERY).await;
    }
}

/// Whether each device's node runs, for those who talk there.
type Runs = BTreeMap<String, watch::Sender<bool>>;

/// What comes back by itself.
enum Mend {
    Relay,
    Frozen(String),
    Killed(String),
}

/// What was broken for a while, and when it is mended.
#[derive(Default)]
struct Broken(Vec<(Instant, Mend)>);

impl Broken {
    /// Whether something happened to this device that is not mended yet.
    fn has(&self, device: &str) -> bool {
        self.0.iter().any(|(_, mend)| match mend {
            Mend::Frozen(name) | Mend::Killed(name) => name == device,
            Mend::Relay => false,
        })
    }

    fn push(&mut self, mend: Mend) {
        self.0.push((Instant::now() + AWAY, mend));
    }

    /// Mends what is due by `now`.
    async fn mend(
        &mut self,
        now: Instant,
        world: &World,
        relays: &mut Relays,
        nodes: &mut Subject,
        runs: &Runs,
    ) -> Result<(), Trouble> {
        let (due, later): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.0).into_iter().partition(|(at, _)| *at <= now);
        self.0 = later;
        for (_, mend) in due {
            match mend {
                Mend::Relay => relays.start_all(world).await?,
                Mend::Frozen(name) => nodes.signal(&name, Signal::CONT)?,
                Mend::Killed(name) => {
                    nodes.up(world, &name).await?;
                    runs.get(&name).ok_or("nobody to start")?.send_replace(true);
                }
            }
        }
        Ok(())
    }
}

/// Breaks something every two seconds, mends it later, and mends everything in the end.
async fn faults(
    found: &mut Found,
    world: &World,
    relays: &mut Relays,
    nodes: &mut Subject,
    runs: &Runs,
) -> Result<(), Trouble> {
    let names: Vec<String> = runs.keys().cloned().collect();
    let mut chance = Chance::new(found.seed);
    let mut broken = Broken::default();
    let began = Instant::now();
    let over = Duration::from_secs_f64(found.minutes * 60.0);
    while began.elapsed() < over {
        let until = Instant::now() + FAULT_EVERY;
        broken.mend(Instant::now(), world, relays, nodes, runs).await?;
        let name = names.get(chance.below(names.len())).ok_or("nobody to hit")?;
        let fault = chance.below(6);
        println!("{:6.1} s: {} {name}", began.elapsed().as_secs_f64(), FAULTS[fault]);
        match fault {
            0 => world.cut_one(name).await?,
            1 => world.heal().await?,
            2 => {
                let to = names.get(chance.below(names.len())).ok_or("nowhere to go")?;
                world.replug(name, &World::place_of(to)).await?;
            }
            3 => {
                relays.kill(chance.below(world.relays())).await;
                broken.push(Mend::Relay);
            }
            // Frozen or dead already: nothing is new for it.
            _ if broken.has(name) => {}
            4 => {
                nodes.signal(name, Signal::STOP)?;
                broken.push(Mend::Frozen(name.clone()));
            }
            _ => {
                nodes.kill(name).await;
                runs.get(name).ok_or("nobody to kill")?.send_replace(false);
                broken.push(Mend::Killed(name.clone()));
            }
        }
        found.faults += 1;
        if found.memory_bytes_early == 0 && began.elapsed() > over.min(Duration::from_secs(600)) / 5 {
            found.memory_bytes_early = memory(nodes, &names);
        }
        tokio::time::sleep(until.saturating_duration_since(Instant::now())).await;
    }
    broken.mend(Instant::now() + AWAY, world, relays, nodes, runs).await?;
    world.heal().await
}

/// Waits until the mesh of no node has a message under way; how long it took.
async fn until_none_is_under_way(nodes: &Subject, names: &[String]) -> Duration {
    let began = Instant::now();
    while began.elapsed() < KEPT_MAX {
        let mut under_way = 0;
        for name in names {
            let mut command = nodes.honeylink(name);
            command.args(["mesh", "stats", "--json"]).stdin(Stdio::null()).kill_on_drop(true);
            let said = command.output().await.map(|said| said.stdout).unwrap_or_default();
            let stats: Value = serde_json::from_slice(&said).unwrap_or_default();
            // A node that does not answer now is asked again.
            under_way += stats["messages"]["under_way"].as_u64().unwrap_or(1);
        }
        if under_way == 0 {
            break;
        }
        tokio::time::sleep(KEPT_EVERY).await;
    }
    began.elapsed()
}

fn memory(nodes: &Subject, names: &[String]) -> u64 {
    names.iter().filter_map(|name| nodes.memory_bytes(name)).sum()
}

/// Reads what is on the devices' disks: what the receivers have, and of what they have not, what the senders think.
async fn count(
    found: &mut Found,
    lines: &[Arc<Line>],
    names: &[String],
    homes: &[std::path::PathBuf],
) -> Result<(), Trouble> {
    let mut ids = Vec::new();
    for (home, name) in homes.iter().zip(names) {
        let node = asleep(home, name).await?;
        ids.push(node.id());
        node.shutdown().await;
    }
    // By sender and receiver, on the receiver's disk and on the sender's.
    let mut heard: BTreeMap<(usize, usize), BTreeMap<u64, u64>> = BTreeMap::new();
    let mut said: BTreeMap<(usize, usize), BTreeMap<u64, String>> = BTreeMap::new();
    for (here, (home, name)) in homes.iter().zip(names).enumerate() {
        let node = asleep(home, name).await?;
        for (there, id) in ids.iter().enumerate() {
            let mut before = None;
            loop {
                let page = node.store().chat().list(id, before, 100)?;
                for NewMessage { text, state, rung, .. } in page.messages.iter().map(|row| &row.message) {
                    if let Some(number) = number(text, there, here) {
                        *heard.entry((there, here)).or_default().entry(number).or_default() += 1;
                    }
                    if let Some(number) = number(text, here, there) {
                        said.entry((here, there))
                            .or_default()
                            .insert(number, format!("{state:?} by {rung:?}"));
                    }
                }
                let Some(oldest) = page.messages.first() else { break };
                before = Some(oldest.sequence);
            }
        }
        node.shutdown().await;
    }
    for line in lines {
        let way = (line.from, line.to);
        let (times, thinks) = (heard.remove(&way).unwrap_or_default(), said.remove(&way).unwrap_or_default());
        for (number, word) in held(&line.said).iter() {
            let count = times.get(number).copied().unwrap_or(0);
            found.twice += u64::from(count > 1);
            if count > 1 || (count == 0 && *word == Word::Taken) {
                let thinks = thinks.get(number).map_or("nothing", String::as_str);
                println!(
                    "{} to {}: message {number} came {count} times, and its sender thinks: {thinks}",
                    names[line.from], names[line.to]
                );
            }
            match word {
                Word::Taken => {
                    found.taken += 1;
                    found.lost += u64::from(count == 0);
                }
                Word::Unknown => found.unknown += 1,
            }
        }
    }
    Ok(())
}

/// A device's node, opened for what is on its disk.
async fn asleep(home: &Path, name: &str) -> Result<Node, Trouble> {
    let node = Node::builder().home(home).name(name).reach(Reach::Loopback).discovery(false);
    Ok(node.build().await?)
}

/// The number of a message of the soak from one device to another.
fn number(text: &str, from: usize, to: usize) -> Option<u64> {
    text.strip_prefix(&format!("{from}>{to}:"))?.parse().ok()
}

fn held<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
