//! A policy that both sides know, changed while a stream uses it.
//!
//! ```text
//! cargo run -p honeylink --example policy
//! ```

use honeylink::link::QosEvent;
use honeylink::{MemoryNetwork, Node, Policy, Preset, policy, testing};

/// As it would stand in a file of the application.
const OWN: &str = r#"
    [captions]
    class = "interactive"
    weight = 8
    rate_max_bytes_per_s = 64000
"#;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let network = MemoryNetwork::new();
    let console = Node::builder().name("console").memory(&network).build().await?;
    let tv = Node::builder().name("tv").memory(&network).build().await?;
    testing::introduce(&console, &tv)?; // what a pairing would do
    let mut listener = tv.listen("play/1")?;
    let link = console.connect("tv", "play/1").await?;
    let other = listener.accept().await.ok_or("the tv stopped")?;
    let mut told = other.qos_events().ok_or("the link is suspended")?;

    // Five come with the product; others are a few lines of TOML.
    link.apply_policy(Preset::GamingInput.policy()).await?;
    for own in policy::from_toml(OWN)? {
        link.apply_policy(own).await?;
    }
    let stream = link.open_stream_under("captions").await?;
    while let Ok(event) = told.try_recv() {
        if let QosEvent::PeerPolicy { policy } = event {
            println!("the tv knows `{}`: {:?}", policy.name, policy.options.priority);
        }
    }

    // Applied live: the open stream has twice the share from its next byte on.
    let captions = link.policy("captions").ok_or("just agreed")?;
    let mut options = captions.options;
    options.weight = honeylink::Weight::new(16).ok_or("1 to 64")?;
    link.apply_policy(Policy { options, ..captions }).await?;
    let weights = |streams: Vec<honeylink::link::StreamReport>| {
        streams.iter().map(|stream| stream.options.weight.as_u8()).collect::<Vec<_>>()
    };
    let traffic = link.traffic().ok_or("the link is suspended")?;
    println!("weights of the open streams: {:?}", weights(traffic.streams));

    // Or everything of the link at once, its messages and what is open: until a policy of that name changes again.
    link.follow_policy(Preset::File.policy()).await?;
    let follows = link.followed_policy().map(|policy| policy.name);
    println!("the link follows {follows:?}, and nothing was taken back: {:?}", link.taken_back_policy());
    drop(stream);
    link.close("that was all").await?;
    console.shutdown().await;
    tv.shutdown().await;
    Ok(())
}
