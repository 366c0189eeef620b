//! Two devices meet, pair by a code and talk. Both live in this program, but they speak QUIC over loopback and find each
//! other by multicast DNS: put each half on its own machine, leave `reach` out, and it is the real thing.
//!
//! ```text
//! cargo run -p honeylink --example hello
//! ```

use honeylink::node::{PairingEvent, PairingOptions};
use honeylink::pairing::{Code, Errand, Purpose};
use honeylink::{Node, Reach};
use tokio::sync::mpsc;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    // Without `.home(folder)` a node forgets who it is when it ends; that is what an example wants.
    let studio = Node::builder().name("studio").reach(Reach::Loopback).build().await?;
    let phone = Node::builder().name("phone").reach(Reach::Loopback).build().await?;

    // One device shows a code, a person types it on the other.
    let mut opening = studio.open_pairing(PairingOptions::default())?;
    println!("studio shows {}", opening.code);
    let errand = Errand::Code(Code::parse(&opening.code)?, Purpose::Pair);
    let (prompts, _nobody_compares) = mpsc::channel(1);
    let typing = phone.join_pairing(errand, None, PairingOptions::default(), prompts);
    let showing = async {
        while let Some(event) = opening.next().await {
            if let PairingEvent::Paired(peer) = event {
                return Some(peer.name);
            }
        }
        None
    };
    let (typed, shown) = tokio::join!(typing, showing);
    println!("phone paired with {:?}, studio with {shown:?}", typed?.name);

    // From now on a name is enough.
    let mut visitors = studio.listen("hello/1")?;
    let link = phone.connect("studio", "hello/1").await?;
    link.send("hello, studio").await?;
    let visitor = visitors.accept().await.ok_or("the studio closed")?;
    let words = visitor.recv().await?;
    println!("studio hears {:?} from {}", String::from_utf8_lossy(&words), visitor.peer().short());
    if let Some(path) = link.path() {
        println!("it went {} over {} to {}", path.rung.as_str(), path.carrier, path.remote);
    }
    link.close("that was all").await?;
    phone.shutdown().await;
    studio.shutdown().await;
    Ok(())
}
