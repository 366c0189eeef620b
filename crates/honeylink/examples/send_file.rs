//! Sends a file to a paired device, with progress, and takes it there without asking.
//!
//! ```text
//! cargo run -p honeylink --example send_file
//! ```

use honeylink::services::Files;
use honeylink::services::files::{Accept, Policy};
use honeylink::transfer::{Durability, Handle};
use honeylink::{Node, Reach, testing};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let folder = std::env::temp_dir().join(format!("honeylink-example-{}", std::process::id()));
    let (outbox, inbox) = (folder.join("outbox"), folder.join("inbox"));
    std::fs::create_dir_all(&outbox)?;
    std::fs::create_dir_all(&inbox)?;
    let film = outbox.join("film.mkv");
    std::fs::write(&film, vec![7; 16 << 20])?;

    let camera = Node::builder().name("camera").reach(Reach::Loopback).build().await?;
    let archive = Node::builder().name("archive").reach(Reach::Loopback).build().await?;
    // In an application two people pair them; see the example `hello`.
    testing::introduce(&camera, &archive)?;

    let policy = |into, accept| Policy { into, accept, durability: Durability::Sync };
    let at_camera = Files::start(&camera, policy(outbox, Accept::Nothing))?;
    let _at_archive = Files::start(&archive, policy(inbox.clone(), Accept::Everything))?;

    let handle = Handle::new();
    let mut progress = handle.progress();
    let watching = tokio::spawn(async move {
        // Ends by itself when the transfer lets go of its side.
        while progress.changed().await.is_ok() {
            let now = progress.borrow_and_update().clone();
            if now.bytes_total > 0 && now.bytes_done == now.bytes_total {
                return now.bytes_done;
            }
        }
        0
    });
    let ended = at_camera.send("archive", &[film], handle).await?;
    let done = ended.result?;
    println!(
        "{} bytes in {:.2} s, {} seen on the way",
        done.bytes,
        done.moving.as_secs_f64(),
        watching.await?
    );
    println!("BLAKE3 {:02x?}…", &done.digest.as_ref()[..8]);
    assert!(inbox.join("film.mkv").exists(), "it is there under its name");

    camera.shutdown().await;
    archive.shutdown().await;
    std::fs::remove_dir_all(&folder)?;
    Ok(())
}
