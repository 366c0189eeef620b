//! One run: two devices link by the relay, and the time until they have a hole.

use std::time::{Duration, Instant};

use honeylink::{Link, Node, Rung};

use crate::Trouble;
use crate::world::World;

/// The protocol of the test application: the second device says again what the first says.
const PROTOCOL: &str = "test/echo/1";

/// Two devices, linked.
pub(crate) struct Pair {
    pub(crate) here: Node,
    pub(crate) there: Node,
    link: Link,
    began: Instant,
}

impl Pair {
    /// Links the two devices of a world, however the bytes go.
    pub(crate) fn link(world: &World) -> Result<Self, Trouble> {
        let [here, there] = world.devices()?;
        let mut listener = there.listen(PROTOCOL)?;
        world.spawn(1, async move {
            while let Some(link) = listener.accept().await {
                tokio::spawn(async move {
                    while let Ok(message) = link.recv().await {
                        if link.send(message).await.is_err() {
                            return;
                        }
                    }
                });
            }
        })?;
        let (dialler, peer, began) = (here.clone(), there.id(), Instant::now());
        let link = world.run(0, async move { dialler.connect(peer, PROTOCOL).await })??;
        Ok(Self { here, there, link, began })
    }

    /// Waits until the first device uses a way on this rung; how long after dialling that was, or `None` if it took longer than
    /// `patience`.
    pub(crate) fn until(
        &self,
        world: &World,
        rung: Rung,
        patience: Duration,
    ) -> Result<Option<Duration>, Trouble> {
        let (node, peer, began) = (self.here.clone(), self.there.id(), self.began);
        world.run(0, async move {
            let mut changes = node.way_changes();
            let waiting = async {
                loop {
                    if node.ways(&peer).used.is_some_and(|way| way.rung == rung) {
                        return began.elapsed();
                    }
                    // That some changes were missed does not matter: the state is looked at again.
                    let _ = tokio::time::timeout(Duration::from_millis(100), changes.recv()).await;
                }
            };
            tokio::time::timeout(patience, waiting).await.ok()
        })
    }

    /// Sends `count` messages and gets each back, in order.
    pub(crate) fn echo(&self, world: &World, count: u32) -> Result<bool, Trouble> {
        let link = self.link.clone();
        world.run(0, async move {
            for n in 0..count {
                link.send(n.to_be_bytes().to_vec()).await?;
            }
            for n in 0..count {
                if link.recv().await?[..] != n.to_be_bytes() {
                    return Ok(false);
                }
            }
            Ok(true)
        })?
    }

    /// Probes that both devices sent in their latest attempt.
    pub(crate) fn probes(&self) -> u32 {
        let of = |node: &Node| {
            let latest = node.nat().map(|nat| nat.latest).unwrap_or_default();
            latest.iter().map(|attempt| u32::from(attempt.probes)).sum::<u32>()
        };
        of(&self.here) + of(&self.there)
    }

    /// Ends both devices.
    pub(crate) fn end(self, world: &World) -> Result<(), Trouble> {
        drop(self.link);
        for (at, node) in [(0, self.here), (1, self.there)] {
            world.run(at, async move { node.shutdown().await })?;
        }
        Ok(())
    }
}
