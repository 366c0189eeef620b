//! The third device of a scenario: paired with both others, reachable by both, and granted to relay between them
//! (`node.relay_peers`).

use std::net::SocketAddr;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use honeylink::store::grants::GrantChange;
use honeylink::{Node, Reach};

use crate::Trouble;
use crate::world::World;

/// The UDP port that it listens on, so that the others can know it beforehand.
pub(crate) const PORT: u16 = 7844;

/// Where the third device of that name is in a world.
pub(crate) fn address(world: &World, name: &str) -> Result<SocketAddr, Trouble> {
    let ip = world.device(name)?.ip().ok_or("the third device has no address")?;
    Ok(SocketAddr::from((ip, PORT)))
}

/// Lets the third device relay for the guests, and lets them know where it is: as if they had met there. All homes exist,
/// and their devices are paired.
pub(crate) async fn board(
    home: &Path,
    guests: impl Iterator<Item = &Path>,
    at: SocketAddr,
) -> Result<(), Trouble> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH)?.as_millis().try_into()?;
    let ferry = open(home).await?;
    for guest in guests {
        let guest = open(guest).await?;
        ferry.change_grants(guest.id(), vec![GrantChange::Relay(true)]).await?;
        guest.store().trust().connected(&ferry.id(), at, now);
        guest.shutdown().await;
    }
    ferry.shutdown().await;
    Ok(())
}

async fn open(home: &Path) -> Result<Node, Trouble> {
    Ok(Node::builder().home(home).reach(Reach::Loopback).discovery(false).build().await?)
}
