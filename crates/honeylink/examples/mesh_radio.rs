//! Messages over radio and network: a hut in a valley has only a radio, a cabin on the ridge has a radio and a network, a
//! town has only the network. The modems are emulated; put `/dev/ttyUSB0` in their place, and each node on its own
//! machine, and it is the real thing.
//!
//! ```text
//! cargo run -p honeylink --example mesh_radio
//! ```

#[cfg(target_os = "linux")]
use demonstration::run;

#[cfg(not(target_os = "linux"))]
async fn run() -> Result<(), Box<dyn std::error::Error>> {
    println!("emulated modems need the pseudo-terminals of Linux");
    Ok(())
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    run().await
}

#[cfg(target_os = "linux")]
mod demonstration {
    use std::error::Error;

    use honeylink::carrier::serial::{Radio, SerialConfig};
    use honeylink::mesh::{MeshOptions, SendOptions, Topic};
    use honeylink::radio::{CodingRate, Lora, Region, Tuning};
    use honeylink::store::{NewPeer, OnNameTaken, PairError, PairingMethod};
    use honeylink::testing::modem::{Air, AirConfig, Kind, Modem};
    use honeylink::{Node, Reach, testing};

    pub(super) async fn run() -> Result<(), Box<dyn Error>> {
        let folder = std::env::temp_dir().join(format!("honeylink-mesh-radio-{}", std::process::id()));
        std::fs::create_dir(&folder)?;
        let told = tell(&folder).await;
        std::fs::remove_dir_all(&folder)?;
        told
    }

    async fn tell(folder: &std::path::Path) -> Result<(), Box<dyn Error>> {
        // Two modems and the air between them.
        let air = Air::new(AirConfig::default());
        let hut_modem = Modem::plugged(&air, folder, "hut-modem", Kind::rnode())?;
        let cabin_modem = Modem::plugged(&air, folder, "cabin-modem", Kind::rnode())?;

        // 10 % of the time is allowed in this band; the home remembers how much of it was used.
        let lora = Lora::new(7, 125_000, CodingRate::Cr45)?;
        let tuning = Tuning::new(&Region::EU868, 869_525_000, lora, 14, 215)?;
        let radio = |modem: &Modem| SerialConfig::new(modem.path(), Radio::Rnode(tuning));
        let node = |name: &str, mesh: MeshOptions| {
            let builder = Node::builder().name(name).home(folder.join(name));
            builder.reach(Reach::Loopback).discovery(false).mesh(mesh).build()
        };
        let hut = node("hut", MeshOptions::default().radio(radio(&hut_modem))).await?;
        let cabin = node("cabin", MeshOptions::default().radio(radio(&cabin_modem))).await?;
        let town = node("town", MeshOptions::default()).await?;

        // Hut and town know each other and have no way to connect; the cabin knows both.
        know(&hut, &town)?;
        know(&hut, &cabin)?;
        testing::introduce(&cabin, &town)?;

        let mesh = hut.mesh().ok_or("the hut has no mesh")?;
        let mut inbox = town.mesh().ok_or("the town has no mesh")?.messages(Topic::APPLICATION)?;
        let mut sending = mesh.send("town", "snow up to the windows", SendOptions::default()).await?;
        let message = inbox.next().await.ok_or("the town closed")?;
        println!("town: \"{}\", over {} hops", String::from_utf8_lossy(&message.payload), message.hops);
        sending.delivered().await?;
        println!("hut: it has arrived");

        let on_air: u64 = air.log().iter().map(|frame| frame.end_us - frame.start_us).sum();
        println!("{} frames took {} ms on the air", air.log().len(), on_air / 1000);
        for radio in mesh.snapshot().await?.radios {
            let load = radio.status.load;
            println!("the hut used {} ms of {} ms in this hour", load.used_us / 1000, load.budget_us / 1000);
        }
        for node in [hut, cabin, town] {
            node.shutdown().await;
        }
        Ok(())
    }

    /// Makes two devices know each other, as pairing would, without telling either where the other is.
    fn know(a: &Node, b: &Node) -> Result<(), PairError> {
        for (here, there) in [(a, b), (b, a)] {
            let peer = NewPeer {
                id: there.id(),
                name: None,
                announced_name: there.name(),
                device_type: there.device_type(),
                method: PairingMethod::Code,
            };
            here.store().trust().pair(&peer, OnNameTaken::Refuse, 0)?;
        }
        Ok(())
    }
}
