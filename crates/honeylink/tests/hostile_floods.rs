//! A paired device that asks for more than its share: what is too much waits and holds it back, nothing is lost, and nobody
//! else waits. In virtual time, where how much got through in how long is a number and not a matter of the machine; and
//! once over QUIC in real time.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod attacker;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use attacker::{PATIENCE, node, soon};
use bytes::BytesMut;
use honeylink::services::Chat;
use honeylink::services::chat::{self, ChatError};
use honeylink::services::files::{self, Accept, Files, Policy};
use honeylink::store::chat::{ChatPage, MessageState};
use honeylink::testing::{self, BoxError, Failure, Network, Stack};
use honeylink::transfer::Durability;
use honeylink::{Class, Link, Node};
use honeylink_core::limits::{
    CHAT_MESSAGE_BYTES_MAX, CHAT_MESSAGES_BURST_MAX, CHAT_MESSAGES_PER_S_MAX, LINKS_OPENED_BURST_MAX,
    LINKS_OPENED_PER_S_MAX, LINKS_PER_PEER_MAX, OFFERS_BURST_MAX, OFFERS_PER_S_MAX, RECEIVE_QUEUE_BYTES_MAX,
    SESSION_WINDOW_BYTES_MAX,
};
use honeylink_core::transfer::frame::{Message, Offer};
use honeylink_core::wire::chat::ChatFrame;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::task::JoinSet;
use tokio::time::Instant;

/// The length of what a flood says, bytes.
const TEXT_BYTES: usize = CHAT_MESSAGE_BYTES_MAX;

fn simulated(test: impl AsyncFnOnce(Network) -> Result<(), BoxError> + Send) -> Result<(), Box<Failure>> {
    let network = Network::builder().stack(Stack::Memory).latency(Duration::from_millis(2)).loss(0.0);
    network.bandwidth(1_000_000_000).run(|network| test(network))
}

/// Lets virtual time pass.
async fn pass(seconds: u64) {
    // tidy: sleep because it is virtual time, and passing is what it is for
    tokio::time::sleep(Duration::from_secs(seconds)).await;
}

/// Everything that `of` keeps of what was said with `peer`.
fn kept(of: &Node, peer: &Node) -> Vec<MessageState> {
    let (mut all, mut before) = (Vec::new(), None);
    loop {
        let ChatPage { messages, .. } = of.store().chat().list(&peer.id(), before, 1000).unwrap();
        let Some(first) = messages.iter().map(|message| message.sequence).min() else { return all };
        all.extend(messages.iter().map(|message| message.message.state));
        before = Some(first);
    }
}

fn say(nth: usize) -> bytes::Bytes {
    let id = (nth as u128 + 1).to_be_bytes();
    ChatFrame::Say { id, sent_unix_ms: 0, text: "x".repeat(TEXT_BYTES) }.encode()
}

/// Links on which `from` says as much as they take, and how much that was.
async fn flood(from: &Node, to: &Node, links: usize) -> (JoinSet<()>, Arc<AtomicUsize>) {
    let said = Arc::new(AtomicUsize::new(0));
    let mut busy = JoinSet::new();
    for _ in 0..links {
        let link: Link = soon("connect", from.connect(to.id(), chat::PROTOCOL)).await.unwrap();
        let said = said.clone();
        busy.spawn(
            async move { while link.send(say(said.fetch_add(1, Ordering::Relaxed))).await.is_ok() {} },
        );
    }
    (busy, said)
}

#[test]
fn whoever_floods_chat_gets_his_share_over_all_links_and_is_held_back() -> Result<(), Box<Failure>> {
    simulated(async |network| {
        let [victim, flooder, honest] = network.paired(["victim", "flooder", "honest"]).await?;
        let _chat = Chat::start(&victim)?;
        let mut listener = victim.listen("honest/1")?;
        let link = honest.connect(victim.id(), "honest/1").await?;
        let _other = listener.accept().await.ok_or("stopped")?;
        let alone = link.ping(PATIENCE).await?;
        let (started, links, seconds) = (Instant::now(), 2, 10);
        let (busy, said) = flood(&flooder, &victim, links).await;
        for _ in 0..seconds {
            pass(1).await;
            assert_eq!(link.ping(PATIENCE).await?, alone, "another link's ping");
        }
        let most = CHAT_MESSAGES_BURST_MAX
            + CHAT_MESSAGES_PER_S_MAX * u32::try_from(started.elapsed().as_secs() + 1)?;
        let got = kept(&victim, &flooder).len();
        assert!(got <= most as usize, "{got} of {most} were kept in {:?}", started.elapsed());
        assert!(got as u32 >= CHAT_MESSAGES_BURST_MAX + CHAT_MESSAGES_PER_S_MAX * (seconds - 2), "{got}");
        // What is not dealt with is bounded, and so the flooder waits; a few are on their way.
        let held = links * ((RECEIVE_QUEUE_BYTES_MAX + SESSION_WINDOW_BYTES_MAX) / TEXT_BYTES + 64);
        let before = said.load(Ordering::Relaxed);
        assert!(before <= got + held, "{before} were taken from it");
        assert!(victim.stats().held_back.messages > 0);
        // An honest device's message is dealt with at once meanwhile.
        let started = Instant::now();
        Chat::start(&honest)?.send(victim.id(), "hello").await?;
        assert!(started.elapsed() < Duration::from_millis(100), "{:?}", started.elapsed());
        drop(busy);
        Ok(())
    })
}

#[test]
fn what_is_more_than_the_share_comes_late_and_whole() -> Result<(), Box<Failure>> {
    simulated(async |network| {
        let [a, b] = network.paired(["a", "b"]).await?;
        let (at_a, _at_b) = (Chat::start(&a)?, Chat::start(&b)?);
        // On a link that is there: senders that find none make one each.
        at_a.send(b.id(), "first").await?;
        let mut updates = at_a.events();
        // More than can be confirmed while their senders wait.
        let count = CHAT_MESSAGES_BURST_MAX + CHAT_MESSAGES_PER_S_MAX * 20;
        let mut sending = JoinSet::new();
        for nth in 0..count {
            let (at_a, b) = (at_a.clone(), b.id());
            sending.spawn(async move { at_a.send(b, &nth.to_string()).await });
        }
        let (mut delivered, mut unconfirmed) = (0, 0);
        while let Some(sent) = sending.join_next().await {
            match sent? {
                Ok(_) => delivered += 1,
                Err(ChatError::Unconfirmed(_)) => unconfirmed += 1,
                Err(other) => return Err(other.into()),
            }
        }
        assert!(delivered >= CHAT_MESSAGES_BURST_MAX && unconfirmed > 0, "{delivered}, {unconfirmed}");
        let mut late = 0;
        while late < unconfirmed {
            // Those that were confirmed in time are told of too, and are more than the queue holds.
            late += u32::from(updates.recv().await.is_ok_and(|event| event.update));
        }
        assert_eq!(kept(&a, &b), vec![MessageState::Delivered; count as usize + 1]);
        assert_eq!(kept(&b, &a), vec![MessageState::Received; count as usize + 1]);
        Ok(())
    })
}

#[test]
fn what_a_closed_link_still_held_is_not_kept_in_memory() -> Result<(), Box<Failure>> {
    simulated(async |network| {
        let [victim, flooder] = network.paired(["victim", "flooder"]).await?;
        let _chat = Chat::start(&victim)?;
        let link = flooder.connect(victim.id(), chat::PROTOCOL).await?;
        let count = CHAT_MESSAGES_BURST_MAX as usize * 2;
        for nth in 0..count {
            link.send(say(nth)).await?;
        }
        link.close("that was all").await?;
        pass(1).await;
        let got = kept(&victim, &flooder).len();
        assert!(got < count, "{got}");
        pass(60).await;
        assert_eq!(kept(&victim, &flooder).len(), got, "nobody waits for these, and they were not confirmed");
        assert_eq!(victim.stats().links, 0);
        Ok(())
    })
}

#[test]
fn links_one_after_the_other_are_begun_at_a_rate_and_all_of_them() -> Result<(), Box<Failure>> {
    simulated(async |network| {
        let [victim, hasty, honest] = network.paired(["victim", "hasty", "honest"]).await?;
        let mut listener = victim.listen("short/1")?;
        let accepting = tokio::spawn(async move {
            let mut held = JoinSet::new();
            while let Some(link) = listener.accept().await {
                // Until the other side closes it.
                held.spawn(async move { link.recv().await.is_ok() });
            }
        });
        let seconds = 3;
        let count = (LINKS_OPENED_BURST_MAX + LINKS_OPENED_PER_S_MAX * seconds) as usize;
        let (started, mut opening) = (Instant::now(), JoinSet::new());
        for nth in 0..LINKS_PER_PEER_MAX / 2 {
            let (hasty, to) = (hasty.clone(), victim.id());
            let mine = (nth..count).step_by(LINKS_PER_PEER_MAX / 2).count();
            opening.spawn(async move {
                for _ in 0..mine {
                    let link = hasty.connect(to, "short/1").await?;
                    link.close("").await?;
                }
                Ok::<_, BoxError>(())
            });
        }
        pass(1).await;
        let asked = Instant::now();
        honest.connect(victim.id(), "short/1").await?;
        assert!(
            asked.elapsed() < Duration::from_millis(100),
            "an honest device's link: {:?}",
            asked.elapsed()
        );
        for opened in opening.join_all().await {
            opened?;
        }
        let took = started.elapsed();
        assert!(took >= Duration::from_secs(u64::from(seconds) - 1), "{count} links in {took:?}");
        assert!(victim.stats().held_back.links > 0);
        accepting.abort();
        Ok(())
    })
}

#[test]
fn offers_without_end_are_judged_at_a_rate() -> Result<(), Box<Failure>> {
    simulated(async |network| {
        let [victim, pushy] = network.paired(["victim", "pushy"]).await?;
        let rules = Policy { into: "/nowhere".into(), accept: Accept::Nothing, durability: Durability::Lazy };
        let _files = Files::start(&victim, rules)?;
        let link = pushy.connect(victim.id(), files::PROTOCOL).await?;
        let seconds = 5;
        let count = OFFERS_BURST_MAX + OFFERS_PER_S_MAX * seconds;
        let (started, mut offering) = (Instant::now(), JoinSet::new());
        for nth in 0..count {
            let link = link.clone();
            offering.spawn(async move {
                let mut stream = link.open_stream(Class::Bulk).await?;
                let id = (u128::from(nth) + 1).to_be_bytes();
                let mut frame = BytesMut::new();
                Message::Offer(Offer { id, name: "x".into(), entries: 1, files: 1, bytes: 1 })
                    .encode(&mut frame);
                stream.send.write_all(&frame).await?;
                // The answer is a refusal; that there is one is what counts.
                stream.recv.read_u8().await?;
                Ok::<_, BoxError>(())
            });
        }
        for answered in offering.join_all().await {
            answered?;
        }
        let took = started.elapsed();
        assert!(took >= Duration::from_secs(u64::from(seconds) - 1), "{count} offers in {took:?}");
        assert!(victim.stats().held_back.offers > 0);
        Ok(())
    })
}

/// The middle of some round trips of a link.
async fn middle_ping(link: &Link) -> Duration {
    let mut times = Vec::new();
    for _ in 0..20 {
        times.push(link.ping(PATIENCE).await.unwrap());
    }
    times.sort_unstable();
    times[times.len() / 2]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn while_a_peer_floods_chat_another_link_keeps_its_latency() {
    let [victim, honest, decoy, flooder] = [node("victim"), node("honest"), node("decoy"), node("flooder")];
    let [victim, honest, decoy, flooder] = [victim.await, honest.await, decoy.await, flooder.await];
    for (a, b) in [(&honest, &victim), (&flooder, &victim), (&flooder, &decoy)] {
        testing::introduce(a, b).unwrap();
    }
    let _chats = [Chat::start(&victim).unwrap(), Chat::start(&decoy).unwrap()];
    let mut listener = victim.listen("honest/1").unwrap();
    let link = soon("honest connect", honest.connect(victim.id(), "honest/1")).await.unwrap();
    let _other = soon("honest accept", listener.accept()).await.unwrap();
    // The control: the same flood to a node beside, so that this machine is as busy with it.
    let flows = async |said: Arc<AtomicUsize>| {
        while said.load(Ordering::Relaxed) < 100 {
            tokio::task::yield_now().await;
        }
    };
    let (mut busy, said) = flood(&flooder, &decoy, 1).await;
    soon("the flood beside", flows(said)).await;
    let control = middle_ping(&link).await;
    busy.shutdown().await;
    let (mut busy, said) = flood(&flooder, &victim, 1).await;
    soon("the flood", flows(said)).await;
    let during = middle_ping(&link).await;
    busy.shutdown().await;
    // Two runs on a busy machine differ; a link that waited for the flood would not come back at all.
    let most = control * 10 + Duration::from_secs(5);
    assert!(during <= most, "a ping took {control:?} while another node was flooded, {during:?} then");
}
