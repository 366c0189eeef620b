//! The observers of a scenario: `honeylink` nodes that anybody can reach, which tell others how their routers show them.

use std::path::Path;

use honeylink::{DeviceId, Node, Reach};

use crate::Trouble;
use crate::process::Process;
use crate::subject::{Programs, START_MAX, honeylink};
use crate::world::World;

/// `nat.observe`: they answer on this UDP port and the next one.
const PORT: u16 = 7842;

/// Running observers. Killed when dropped.
pub(crate) struct Observers {
    /// Held for its processes.
    _running: Vec<Process>,
    /// What devices have in `nat.observers`.
    pub(crate) setting: String,
}

impl Observers {
    /// Starts one on each machine that the world has for them, with a home below `folder`.
    pub(crate) async fn start(world: &World, programs: &Programs, folder: &Path) -> Result<Self, Trouble> {
        let (mut running, mut named) = (Vec::new(), Vec::new());
        for (number, device) in world.observers().iter().enumerate() {
            let name = format!("observer-{number}");
            let home = folder.join(format!("{name}-home"));
            let id = id_of(&home, &name).await?;
            let mut command = honeylink(&programs.honeylink, Some(&home));
            for setting in
                [format!("node.name={name}"), "node.reach=wide".into(), format!("nat.observe={PORT}")]
            {
                command.args(["--set", &setting]);
            }
            command.args(["up", "--foreground"]);
            let mut observer = Process::start(device, command)?;
            observer.wait(START_MAX, |line| line.starts_with("running;").then_some(())).await?;
            running.push(observer);
            let ip = device.ip().ok_or("an observer without an address")?;
            named.push(format!("{id}@{ip}:{PORT}"));
        }
        Ok(Self { _running: running, setting: named.join(", ") })
    }
}

/// The device of a home, which is made if there is none. The home is free afterwards.
async fn id_of(home: &Path, name: &str) -> Result<DeviceId, Trouble> {
    let node = Node::builder().home(home).name(name).reach(Reach::Loopback).discovery(false).build().await?;
    let id = node.id();
    node.shutdown().await;
    Ok(id)
}
