//! A paired device that misuses streams, policies and datagrams: limits hold, and other links of the node keep their
//! latency. As in `hostile`, the attacker is a plain iroh endpoint that speaks its own bytes.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod attacker;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use attacker::{PATIENCE, Session, header_of, node, soon};
use bytes::BytesMut;
use honeylink::link::ApplyError;
use honeylink::{Node, Policy, Preset, testing};
use honeylink_core::limits::{
    DATAGRAM_FLOWS_MAX, LINKS_OPENED_BURST_MAX, POLICIES_MAX, STREAMS_PER_PEER_MAX, UNREAD_BYTES_MAX,
};
use honeylink_core::qos::policy::PolicyFrame;
use honeylink_core::wire::link::{Frame, StreamKind};
use tokio::io::AsyncWriteExt as _;
use tokio::task::JoinSet;

fn apply(name: &str, revision: u64) -> Vec<u8> {
    let policy = Policy { name: name.into(), ..Preset::File.policy() };
    let mut out = BytesMut::new();
    PolicyFrame::Apply { revision, policy }.encode(&mut out);
    out.to_vec()
}

/// The middle of some round trips of an honest link of the same node.
async fn honest_ping(victim: &Node, honest: &Node) -> Duration {
    let mut listener = victim.listen("honest/1").unwrap();
    let link = soon("honest connect", honest.connect(victim.id(), "honest/1")).await.unwrap();
    let _other = soon("honest accept", listener.accept()).await.unwrap();
    middle_ping(&link).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_peer_that_opens_streams_without_end_and_never_reads_holds_up_nobody() {
    let victim = node("victim").await;
    let session = Session::new(1, &victim).await;
    let link = session.link.clone();
    let writing = tokio::spawn(async move {
        while let Ok(mut stream) = link.accept_stream().await {
            // Each writer waits for ever in its own task: the attacker takes nothing.
            tokio::spawn(async move { while stream.send.write_all(&[7; 64 << 10]).await.is_ok() {} });
        }
    });
    let mut held = Vec::new();
    while let Ok(Ok((mut send, recv))) =
        tokio::time::timeout(Duration::from_secs(3), session.conn.open_bi()).await
    {
        send.write_all(&header_of(StreamKind::Bytes)).await.unwrap();
        held.push((send, recv));
        assert!(held.len() <= STREAMS_PER_PEER_MAX as usize, "the victim allows more streams than it says");
    }
    assert!(held.len() > 500, "only {} streams were opened", held.len());
    // What the victim holds for it is bounded by the connection's window, whatever the number of streams.
    let traffic = session.link.traffic().unwrap();
    assert!(traffic.streams.len() <= STREAMS_PER_PEER_MAX as usize + 1, "{}", traffic.streams.len());
    let honest = node("honest").await;
    testing::introduce(&honest, &victim).unwrap();
    // However busy the machine: a link that waited for somebody who never reads would not come back at all.
    let middle = honest_ping(&victim, &honest).await;
    assert!(middle < Duration::from_secs(5), "an honest link's ping took {middle:?}");
    writing.abort();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_peer_sends_on_streams_that_nobody_reads_does_not_fill_the_memory() {
    let victim = node("victim").await;
    let session = Session::new(8, &victim).await;
    let let_in = Arc::new(AtomicU64::new(0));
    let mut writing = JoinSet::new();
    // With 1.25 MB each, together they would be let in more than all of them may.
    for _ in 0..150 {
        let (mut send, recv) = soon("a stream", session.conn.open_bi()).await.unwrap();
        let let_in = let_in.clone();
        writing.spawn(async move {
            let _held = recv;
            let _ = send.write_all(&header_of(StreamKind::Bytes)).await;
            while let Ok(wrote) = send.write(&[7; 64 << 10]).await {
                let_in.fetch_add(wrote as u64, Ordering::Relaxed);
            }
        });
    }
    let most = u64::from(UNREAD_BYTES_MAX);
    let filling = async {
        while let_in.load(Ordering::Relaxed) < most - (1 << 20) {
            // tidy: sleep because the attacker's own counter tells nobody when it moves
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    soon("as much as may be is let in", filling).await;
    let honest = node("honest").await;
    testing::introduce(&honest, &victim).unwrap();
    let middle = honest_ping(&victim, &honest).await;
    assert!(middle < Duration::from_secs(5), "an honest link's ping took {middle:?}");
    let all = let_in.load(Ordering::Relaxed);
    assert!(all <= most, "{all} bytes that nobody reads were let in");
    writing.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_peer_that_lies_about_policies_reaches_its_limit_and_changes_nothing_of_ours() {
    let victim = node("victim").await;
    let session = Session::new(2, &victim).await;
    // More policies than are kept.
    for nth in 0..=POLICIES_MAX as u64 {
        let answer = session.say(StreamKind::Policy, &apply(&format!("p{nth}"), nth)).await;
        let (_, body) = answer.split_at(PolicyFrame::LENGTH_BYTES);
        let refused = matches!(PolicyFrame::decode(body), Ok(PolicyFrame::Refuse { .. }));
        assert_eq!(refused, nth >= POLICIES_MAX as u64, "policy {nth}: {answer:?}");
    }
    assert!(session.link.peers_policy("p0").is_some());
    let traffic = session.link.traffic().unwrap();
    assert_eq!(traffic.reserved_bytes_per_s, 0, "what a peer says it steers by reserves nothing here");
    assert!(session.link.peers_policy(&format!("p{POLICIES_MAX}")).is_none());
    // Answers to nothing, a length beyond the limit, noise, a policy that contradicts itself.
    let mut ack = BytesMut::new();
    PolicyFrame::Ack { revision: 1 }.encode(&mut ack);
    for bytes in [&ack[..], &[0xff, 0xff], &[0, 3, 9, 9, 9], &[0, 1]] {
        assert_eq!(session.say(StreamKind::Policy, bytes).await, b"", "{bytes:?}");
    }
    let refused = session.say(StreamKind::Policy, &apply("two words", 1)).await;
    assert!(String::from_utf8_lossy(&refused).contains("no name for a policy"), "{refused:?}");
    assert_eq!(session.link.policy("p0"), None, "the peer's policies are not ours");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_peer_that_takes_a_link_up_again_without_end_does_so_at_a_rate() {
    let victim = node("victim").await;
    let session = Session::new(9, &victim).await;
    // Kept until the attacker says that it has it. It never does, and asks for it once more with each stream.
    session.link.send(vec![7; 64 << 10]).await.unwrap();
    let mut again = BytesMut::from(&header_of(StreamKind::Resume)[..]);
    Frame::Hello { version_min: 1, version_max: 1, message_max: 1 << 20, next: 0 }.encode(&mut again);
    let flooding = async {
        let mut held = Vec::new();
        for _ in 0..2 * LINKS_OPENED_BURST_MAX {
            let (mut send, recv) = session.conn.open_bi().await.unwrap();
            send.write_all(&again).await.unwrap();
            held.push((send, recv));
        }
        while victim.stats().held_back.links == 0 {
            // tidy: sleep because a counter tells nobody
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    soon("the victim holds it back", flooding).await;
}

/// The middle of some round trips of a link.
async fn middle_ping(link: &honeylink::Link) -> Duration {
    let mut times = Vec::new();
    for _ in 0..100 {
        times.push(link.ping(PATIENCE).await.unwrap());
    }
    times.sort_unstable();
    times[times.len() / 2]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn while_a_peer_opens_streams_lies_and_never_reads_another_link_keeps_its_latency() {
    let victim = node("victim").await;
    let honest = node("honest").await;
    testing::introduce(&honest, &victim).unwrap();
    let mut listener = victim.listen("honest/1").unwrap();
    let link = soon("honest connect", honest.connect(victim.id(), "honest/1")).await.unwrap();
    let _other = soon("honest accept", listener.accept()).await.unwrap();

    // The control: the same attack on a node beside, so that this machine is as busy with it.
    let decoy = node("decoy").await;
    let elsewhere = Arc::new(Session::new(6, &decoy).await);
    let mut busy = attack(&elsewhere);
    let control = middle_ping(&link).await;
    busy.shutdown().await;
    drop((elsewhere, decoy));

    let session = Arc::new(Session::new(5, &victim).await);
    let mut busy = attack(&session);
    let during = middle_ping(&link).await;
    // Two runs on a busy machine differ; a link that waited for somebody who never reads would not come back at all.
    let most = control * 10 + Duration::from_secs(1);
    assert!(
        during <= most,
        "a ping took {control:?} while another node was attacked, {during:?} while its own was"
    );
    let traffic = session.link.traffic().unwrap();
    assert!(traffic.streams.len() <= STREAMS_PER_PEER_MAX as usize + 1, "{}", traffic.streams.len());
    assert_eq!(traffic.reserved_bytes_per_s, 0);
    busy.shutdown().await;
}

/// Streams without end of which nothing is read, and policies that promise and demand everything.
fn attack(session: &Arc<Session>) -> JoinSet<()> {
    let taken = session.link.clone();
    let mut busy = JoinSet::new();
    busy.spawn(async move {
        let mut writers = JoinSet::new();
        while let Ok(mut stream) = taken.accept_stream().await {
            writers.spawn(async move { while stream.send.write_all(&[7; 64 << 10]).await.is_ok() {} });
            // Those whose stream the attacker ended.
            while writers.try_join_next().is_some() {}
        }
    });
    // Half of the streams end at once, so that there is always room for more.
    let flooding = session.clone();
    busy.spawn(async move {
        let mut held = Vec::new();
        while let Ok((mut send, recv)) = flooding.conn.open_bi().await {
            let _ = send.write_all(&header_of(StreamKind::Bytes)).await;
            if held.len() < 100 {
                held.push((send, recv));
            }
        }
    });
    // One policy after the other, and noise in between.
    let lying = session.clone();
    busy.spawn(async move {
        for revision in 0.. {
            let mut policy = Preset::Media8k.policy();
            policy.options.rate_min = Some(u64::MAX >> 2);
            let mut said = BytesMut::new();
            PolicyFrame::Apply { revision, policy }.encode(&mut said);
            lying.say(StreamKind::Policy, &[&said[..], &[0, 9, 9]].concat()).await;
        }
    });
    busy
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_policy_that_the_peer_never_acknowledges_is_taken_back_after_five_seconds() {
    let victim = node("victim").await;
    let session = Session::new(3, &victim).await;
    let started = tokio::time::Instant::now();
    let applying = tokio::spawn({
        let link = session.link.clone();
        async move { link.apply_policy(Preset::Iot.policy()).await }
    });
    let _silent = soon("the change", session.conn.accept_bi()).await.unwrap();
    // In force while nothing speaks against it.
    assert!(session.link.policy("iot").is_some());
    let taken_back = soon("taken back", applying).await.unwrap();
    assert!(matches!(taken_back, Err(ApplyError::RolledBack { .. })), "{taken_back:?}");
    let took = started.elapsed();
    assert!(took.as_secs() >= 4, "it took {took:?}");
    assert_eq!(session.link.policy("iot"), None);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn flows_beyond_the_limit_and_datagrams_of_nobody_are_dropped() {
    let victim = node("victim").await;
    let session = Session::new(4, &victim).await;
    let mut held = Vec::new();
    for nth in 0..=u8::try_from(DATAGRAM_FLOWS_MAX).unwrap() {
        let (mut send, mut recv) = session.conn.open_bi().await.unwrap();
        let opening = [&header_of(StreamKind::Datagrams)[..], &[100 + nth; 16], &[1]].concat();
        send.write_all(&opening).await.unwrap();
        let mut answer = [0];
        let listening = soon("an answer", recv.read_exact(&mut answer)).await.is_ok();
        assert_eq!(listening, usize::from(nth) < DATAGRAM_FLOWS_MAX, "flow {nth}");
        held.push((send, recv));
    }
    let mut flow = soon("a flow", session.link.accept_datagrams()).await.unwrap();
    // Noise for the flow, for nobody, and too short to be for anybody; then one that is right.
    for datagram in [[&[100; 16][..], &[0xff; 40]].concat(), vec![0xee; 60], vec![1, 2, 3]] {
        session.conn.send_datagram(datagram.into()).unwrap();
    }
    let right = [&[100; 16][..], &[0, 0, 0, 1, 0, 0, 0], b"hello"].concat();
    session.conn.send_datagram(right.into()).unwrap();
    assert_eq!(soon("a datagram", flow.recv()).await.unwrap(), "hello");
    assert_eq!(flow.stats().dropped, 1);
}
