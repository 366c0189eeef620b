//! A hundred streams to one device: input of a game, a film with a guaranteed rate, and files that take what is left. Ends
//! with what each class went through.
//!
//! ```text
//! cargo run -p honeylink --example streams
//! ```

use std::time::Duration;

use honeylink::{Class, FecChoice, Link, MemoryNetwork, Node, StreamOptions, testing};
use tokio::io::AsyncWriteExt as _;

const FILES: usize = 98;
const FILE_BYTES: usize = 256 << 10;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let network = MemoryNetwork::new();
    let console = Node::builder().name("console").memory(&network).build().await?;
    let tv = Node::builder().name("tv").memory(&network).build().await?;
    testing::introduce(&console, &tv)?; // what a pairing would do
    let mut listener = tv.listen("play/1")?;
    let link = console.connect("tv", "play/1").await?;
    let other = listener.accept().await.ok_or("the tv stopped")?;
    let drained = tokio::spawn(drain(other.clone()));

    // A class is a complete answer to what a stream asks for; options say more.
    let mut files = Vec::new();
    for _ in 0..FILES {
        let mut stream = link.open_stream(Class::Bulk).await?;
        files.push(tokio::spawn(async move {
            stream.send.write_all(&vec![7; FILE_BYTES]).await?;
            stream.send.finish().await?;
            Ok::<_, std::io::Error>(stream.send.stats())
        }));
    }
    let guaranteed = StreamOptions { rate_min: Some(1 << 20), ..Class::Interactive.into() };
    let mut film = link.open_stream(guaranteed).await?;
    film.send.write_all(&vec![7; 1 << 20]).await?;

    // Input is worth nothing after 20 ms, so it goes by datagrams, with some repair of losses.
    let input = StreamOptions { deadline: Some(Duration::from_millis(20)), ..Class::Realtime.into() };
    let (input, pressed) =
        tokio::join!(link.open_datagrams(input, FecChoice::AtLeastLight), other.accept_datagrams());
    let (input, mut pressed) = (input?, pressed?);
    for button in 0..16_u8 {
        input.send(vec![button])?;
    }
    println!("the tv saw button {:?} first", pressed.recv().await.ok_or("the flow ended")?[0]);

    for file in files {
        file.await??;
    }
    for stream in link.traffic().ok_or("the link is suspended")?.streams {
        let class = stream.options.priority.class();
        println!(
            "{class:?}: {} bytes, waited {:?} at most times",
            stream.stats.bytes_sent, stream.stats.wait_p99
        );
    }
    drop(film);
    link.close("that was all").await?;
    println!("the tv read {} bytes of streams", drained.await?);
    console.shutdown().await;
    tv.shutdown().await;
    Ok(())
}

/// Reads every stream to its end; the number of bytes.
async fn drain(link: Link) -> u64 {
    let mut reading = tokio::task::JoinSet::new();
    while let Ok(mut stream) = link.accept_stream().await {
        reading.spawn(async move { tokio::io::copy(&mut stream.recv, &mut tokio::io::sink()).await });
    }
    let read = reading.join_all().await;
    read.into_iter().filter_map(Result::ok).sum()
}
