//! Chat, files and pipes between two nodes of this process.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::path::{Path, PathBuf};
use std::time::Duration;

use honeylink::services::chat::ChatError;
use honeylink::services::files::{self, Accept, Done, Ended, FileEvent, Policy};
use honeylink::services::{Chat, Files, Pipes, PolicyChoice};
use honeylink::store::chat::MessageState;
use honeylink::store::transfers::{Direction, TransferId, TransferState};
use honeylink::transfer::{Durability, Handle, Offer};
use honeylink::{
    Class, Link, MemoryNetwork, Node, Policy as QosPolicy, Preset, Stream, StreamOptions, testing,
};
use honeylink_core::transfer::frame::{HEADER_BYTES, Header, Message};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

const PATIENCE: Duration = Duration::from_secs(120);

async fn soon<T>(what: &str, future: impl Future<Output = T>) -> T {
    match tokio::time::timeout(PATIENCE, future).await {
        Ok(value) => value,
        Err(_) => panic!("waited too long: {what}"),
    }
}

async fn friends() -> (Node, Node) {
    let network = MemoryNetwork::new();
    let a = Node::builder().name("a").memory(&network).build().await.unwrap();
    let b = Node::builder().name("b").memory(&network).build().await.unwrap();
    testing::introduce(&a, &b).unwrap();
    (a, b)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_message_is_delivered_once_and_kept_on_both_sides() {
    let (a, b) = friends().await;
    let (at_a, at_b) = (Chat::start(&a).unwrap(), Chat::start(&b).unwrap());
    let mut heard = at_b.events();
    let sent = soon("send", at_a.send("b", "hello")).await.unwrap();
    assert_eq!(sent.message.state, MessageState::Delivered);
    assert!(sent.path.is_some());
    let event = soon("hear", heard.recv()).await.unwrap();
    assert_eq!((event.peer, event.message.text.as_str()), (a.id(), "hello"));
    soon("answer", at_b.send(a.id(), "hello yourself")).await.unwrap();
    for (node, peer) in [(&a, b.id()), (&b, a.id())] {
        let page = node.store().chat().list(&peer, None, 10).unwrap();
        let texts: Vec<_> = page.messages.iter().map(|m| m.message.text.clone()).collect();
        assert_eq!(texts, ["hello", "hello yourself"]);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_the_grant_a_message_is_refused_and_marked_failed() {
    let (a, b) = friends().await;
    let (at_a, _at_b) = (Chat::start(&a).unwrap(), Chat::start(&b).unwrap());
    b.change_grants(a.id(), vec!["chat=no".parse().unwrap()]).await.unwrap();
    let error = soon("send", at_a.send("b", "psst")).await.unwrap_err();
    assert!(error.to_string().contains("not allowed"), "{error}");
    let page = a.store().chat().list(&b.id(), None, 10).unwrap();
    assert_eq!(page.messages[0].message.state, MessageState::Failed);
    assert!(b.store().chat().list(&a.id(), None, 10).unwrap().messages.is_empty());
    assert!(matches!(at_a.send("b", "").await, Err(ChatError::Empty)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pipe_needs_a_grant_and_a_taker_and_then_carries_bytes_both_ways() {
    let (a, b) = friends().await;
    let (at_a, at_b) = (Pipes::start(&a).unwrap(), Pipes::start(&b).unwrap());
    let refused = soon("open", at_a.open("b")).await;
    let why = match refused {
        Err(error) => error.to_string(),
        // The refusal may come after the stream was opened: then reading says so.
        Ok(mut pipe) => {
            soon("read", pipe.stream.recv.read_u8()).await.unwrap_err();
            pipe.link.why_closed().to_string()
        }
    };
    assert!(why.contains("not allowed"), "{why}");
    b.change_grants(a.id(), vec!["pipe=yes".parse().unwrap()]).await.unwrap();
    let mut waiting = at_b.take().unwrap();
    let mut ours = soon("open", at_a.open("b")).await.unwrap();
    ours.stream.send.write_all(b"ping").await.unwrap();
    ours.stream.send.finish().await.unwrap();
    let mut theirs = soon("take", waiting.recv()).await.unwrap();
    let mut got = String::new();
    soon("read", theirs.stream.recv.read_to_string(&mut got)).await.unwrap();
    assert_eq!(got, "ping");
    theirs.stream.send.write_all(b"pong").await.unwrap();
    theirs.stream.send.finish().await.unwrap();
    let mut answer = String::new();
    soon("read", ours.stream.recv.read_to_string(&mut answer)).await.unwrap();
    assert_eq!(answer, "pong");
}

fn policy(into: &Path, accept: Accept) -> Policy {
    Policy { into: into.to_owned(), accept, durability: Durability::Lazy }
}

/// A file of `len` bytes that no compression or block alignment makes special.
/// A file that is still under way a hundred milliseconds after it began, on the fastest machine.
const CUT_BYTES: usize = 256 << 20;

fn file(dir: &Path, name: &str, len: usize) -> PathBuf {
    let path = dir.join(name);
    let pattern: Vec<u8> = (0..1 << 16).map(|i| u8::try_from((i * 31 + i / 255) % 251).unwrap()).collect();
    let mut content = pattern.repeat(len.div_ceil(pattern.len()));
    // No two stretches are the same, so that bytes in the wrong place are seen.
    for (number, stretch) in content.chunks_exact_mut(pattern.len()).enumerate() {
        stretch[..8].copy_from_slice(&number.to_le_bytes());
    }
    content.truncate(len);
    std::fs::write(&path, content).unwrap();
    path
}

fn done(ended: &Ended) -> &Done {
    ended.result.as_ref().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_person_is_asked_and_the_file_arrives_under_its_name() {
    let (from, into) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (a, b) = friends().await;
    let at_a = Files::start(&a, policy(from.path(), Accept::Nothing)).unwrap();
    let at_b = Files::start(&b, policy(into.path(), Accept::ByGrant)).unwrap();
    let mut events = at_b.events();
    let person = tokio::spawn(async move {
        loop {
            if let FileEvent::Asked { offer, .. } = events.recv().await.unwrap() {
                assert_eq!((offer.name.as_str(), offer.bytes), ("report.pdf", 300_000));
                assert!(at_b.answer(&TransferId(offer.id), true));
                return at_b;
            }
        }
    });
    let paths = [file(from.path(), "report.pdf", 300_000)];
    let ended = soon("send", at_a.send("b", &paths, Handle::new())).await.unwrap();
    assert_eq!(done(&ended).bytes, 300_000);
    let _at_b = soon("person", person).await.unwrap();
    assert_eq!(std::fs::read(into.path().join("report.pdf")).unwrap(), std::fs::read(&paths[0]).unwrap());
    let listed = &a.store().transfers().list()[0];
    assert_eq!((listed.direction, listed.state), (Direction::Outgoing, TransferState::Done));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refusal_by_grant_is_told_and_leaves_nothing_behind() {
    let (from, into) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (a, b) = friends().await;
    let at_a = Files::start(&a, policy(from.path(), Accept::Nothing)).unwrap();
    let _at_b = Files::start(&b, policy(into.path(), Accept::Everything)).unwrap();
    b.change_grants(a.id(), vec!["files=no".parse().unwrap()]).await.unwrap();
    let paths = [file(from.path(), "report.pdf", 10)];
    let ended = soon("send", at_a.send("b", &paths, Handle::new())).await.unwrap();
    let error = ended.result.unwrap_err();
    assert!(error.is_declined() && error.to_string().contains("not allowed"), "{error}");
    assert_eq!(std::fs::read_dir(into.path()).unwrap().count(), 0);
    assert_eq!(a.store().transfers().list()[0].state, TransferState::Declined);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_cut_in_the_middle_costs_time_and_nothing_else() {
    let (from, into) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let network = MemoryNetwork::new();
    let a = Node::builder().name("a").memory(&network).build().await.unwrap();
    let b = Node::builder().name("b").memory(&network).build().await.unwrap();
    testing::introduce(&a, &b).unwrap();
    let at_a = Files::start(&a, policy(from.path(), Accept::Nothing)).unwrap();
    let _at_b = Files::start(&b, policy(into.path(), Accept::Everything)).unwrap();
    let paths = [file(from.path(), "film.mkv", CUT_BYTES)];
    let handle = Handle::new();
    let mut progress = handle.progress();
    let (ids, cuts) = ((a.id(), b.id()), network.clone());
    let cutting = tokio::spawn(async move {
        for mark in [4_u64 << 20, 12 << 20] {
            progress.wait_for(|p| p.bytes_done >= mark).await.unwrap();
            cuts.sever(ids.0, ids.1);
        }
    });
    let ended = soon("send", at_a.send("b", &paths, handle)).await.unwrap();
    assert_eq!(done(&ended).bytes, CUT_BYTES as u64);
    assert!(done(&ended).bytes_kept > 0, "the last attempt began in the middle");
    soon("cuts", cutting).await.unwrap();
    assert_eq!(std::fs::read(into.path().join("film.mkv")).unwrap(), std::fs::read(&paths[0]).unwrap());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_in_place_before_its_sender_knew_is_not_placed_twice() {
    let (from, into) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (a, b) = friends().await;
    let at_a = Files::start(&a, policy(from.path(), Accept::Nothing)).unwrap();
    let at_b = Files::start(&b, policy(into.path(), Accept::Everything)).unwrap();
    let mut events = at_b.events();
    let paths = [file(from.path(), "photo.jpg", 300_000)];
    let mut placed = Vec::new();
    for _ in 0..3 {
        let sent = soon("send", at_a.send("b", &paths, Handle::new())).await.unwrap();
        assert_eq!(done(&sent).bytes, 300_000);
        let received = async {
            loop {
                if let FileEvent::Ended(ended) = events.recv().await.unwrap() {
                    return done(&ended).placed.clone();
                }
            }
        };
        placed.extend(soon("receive", received).await);
        if placed.len() == 1 {
            // As after `kill -9` between the last file's move and the note that all is done.
            let mut record = b.store().transfers().find(&sent.id).unwrap();
            record.state = TransferState::Paused;
            b.store().transfers().renew(record).unwrap();
        }
    }
    let name = |name: &str| into.path().join(name);
    // Only the last was sent once more on purpose.
    assert_eq!(placed, [name("photo.jpg"), name("photo.jpg"), name("photo (2).jpg")]);
    assert_eq!(std::fs::read_dir(into.path()).unwrap().count(), 2);
}

/// A policy with a cap, bytes a second.
fn capped(name: &str, rate_max: u64) -> QosPolicy {
    QosPolicy {
        name: name.into(),
        options: StreamOptions { rate_max: Some(rate_max), ..Class::Bulk.into() },
        ..Preset::File.policy()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_transfer_goes_by_its_policy_and_by_another_from_the_moment_it_is_applied_even_after_a_cut() {
    let (from, into) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let network = MemoryNetwork::new();
    let a = Node::builder().name("a").memory(&network).build().await.unwrap();
    let b = Node::builder().name("b").memory(&network).build().await.unwrap();
    testing::introduce(&a, &b).unwrap();
    let at_a = Files::start(&a, policy(from.path(), Accept::Nothing)).unwrap();
    let _at_b = Files::start(&b, policy(into.path(), Accept::Everything)).unwrap();
    // At the first cap alone it would take minutes, which the test does not wait.
    let paths = [file(from.path(), "film.mkv", 8 << 20)];
    let (slow, fast) = (capped("slow", 100_000), capped("fast", 4_000_000));
    let choice = PolicyChoice { policy: slow, insist: true };
    let handle = Handle::new();
    let mut progress = handle.progress();
    let (changing, ids) = (a.clone(), (a.id(), b.id()));
    let change = tokio::spawn(async move {
        progress.wait_for(|p| p.bytes_done > 0).await.unwrap();
        let by = |name: &str| {
            let traffic = changing.traffic();
            traffic.iter().flat_map(|(_, to)| &to.streams).any(|s| s.policy.as_deref() == Some(name))
        };
        assert!(by("slow"));
        let others = changing.follow_policy(&ids.1, &fast, |protocol, _| protocol == "other/1").await;
        assert_eq!(others, [], "no link of that protocol is open");
        let steered =
            changing.follow_policy(&ids.1, &fast, |protocol, ours| protocol == files::PROTOCOL && ours);
        assert_eq!(steered.await.into_iter().map(|link| link.result).collect::<Vec<_>>(), [Ok(())]);
        assert!(by("fast") && !by("slow"));
        assert_eq!(changing.link_policies(&ids.1)[0].follows.as_ref(), Some(&fast));
        let mark = progress.borrow_and_update().bytes_done + (1 << 20);
        progress.wait_for(|p| p.bytes_done >= mark).await.unwrap();
        network.sever(ids.0, ids.1);
    });
    let ended = soon("send", at_a.send_under("b", &paths, Some(choice), handle)).await.unwrap();
    soon("change", change).await.unwrap();
    let by = done(&ended).policy.as_ref().unwrap();
    assert_eq!((by.followed.as_deref(), &by.taken_back), (Some("fast"), &None));
    assert_eq!(std::fs::read(into.path().join("film.mkv")).unwrap(), std::fs::read(&paths[0]).unwrap());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn messages_of_chat_go_by_the_policy_of_the_node() {
    let (a, b) = friends().await;
    let (at_a, _at_b) = (Chat::start(&a).unwrap(), Chat::start(&b).unwrap());
    at_a.set_policy(Some(Preset::Iot.policy()));
    soon("send", at_a.send("b", "hello")).await.unwrap();
    let by_iot = || {
        let traffic = a.traffic();
        let mut streams = traffic.iter().flat_map(|(_, to)| &to.streams);
        streams.any(|stream| stream.messages && stream.policy.as_deref() == Some("iot"))
    };
    let followed = async {
        while !by_iot() {
            tokio::task::yield_now().await;
        }
    };
    soon("agreed", followed).await;
    soon("send", at_a.send("b", "hello again")).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_message_goes_by_the_policy_that_was_named_whatever_is_the_nodes() {
    let (a, b) = friends().await;
    let (at_a, _at_b) = (Chat::start(&a).unwrap(), Chat::start(&b).unwrap());
    at_a.set_policy(Some(Preset::File.policy()));
    for preset in [Preset::Iot, Preset::GamingInput] {
        let choice = Some(PolicyChoice { policy: preset.policy(), insist: true });
        let sent = soon("send", at_a.send_under("b", "hello", choice)).await.unwrap();
        assert_eq!(sent.message.state, MessageState::Delivered);
        let follows = a.link_policies(&b.id()).remove(0).follows;
        assert_eq!(follows, Some(preset.policy()));
    }
}

/// A stream on which a test says what no honest sender would.
struct Raw {
    _link: Link,
    stream: Stream,
}

impl Raw {
    async fn offer(from: &Node, to: &Node, offer: &Offer) -> Self {
        let link = soon("connect", from.connect(to.id(), files::PROTOCOL)).await.unwrap();
        let mut stream = soon("open", link.open_stream(Class::Bulk)).await.unwrap();
        let mut frame = bytes::BytesMut::new();
        Message::Offer(offer.clone()).encode(&mut frame);
        stream.send.write_all(&frame).await.unwrap();
        Self { _link: link, stream }
    }

    /// The next frame; nothing if the other side ended the stream.
    async fn reply(&mut self) -> Option<Message> {
        let mut header = [0; HEADER_BYTES];
        soon("reply", self.stream.recv.read_exact(&mut header)).await.ok()?;
        let header = Header::decode(header).unwrap();
        let mut body = vec![0; header.len];
        soon("reply", self.stream.recv.read_exact(&mut body)).await.ok()?;
        Some(Message::decode(header.kind, &body).unwrap())
    }
}

fn photo(id: u8) -> Offer {
    Offer { id: [id; 16], name: "photo.jpg".into(), entries: 1, files: 1, bytes: 1000 }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_yes_to_one_offer_is_none_to_another_under_its_number() {
    let into = tempfile::tempdir().unwrap();
    let (a, b) = friends().await;
    let at_b = Files::start(&b, policy(into.path(), Accept::ByGrant)).unwrap();
    let mut events = at_b.events();
    let mut asked = async |raw: &mut Raw, yes: bool| loop {
        if let FileEvent::Asked { offer, .. } = soon("question", events.recv()).await.unwrap() {
            assert!(at_b.answer(&TransferId(offer.id), yes));
            return (offer, raw.reply().await);
        }
    };
    let mut first = Raw::offer(&a, &b, &photo(1)).await;
    let (question, reply) = asked(&mut first, true).await;
    assert_eq!((question, reply), (photo(1), Some(Message::Accept { resume: false })));
    drop(first);
    let film = Offer { name: "film.mkv".into(), bytes: 1 << 40, ..photo(1) };
    let mut second = Raw::offer(&a, &b, &film).await;
    let (question, reply) = asked(&mut second, false).await;
    assert_eq!(question, film);
    assert!(matches!(reply, Some(Message::Decline { .. })), "{reply:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_newer_attempt_takes_the_place_of_one_that_hangs() {
    let into = tempfile::tempdir().unwrap();
    let (a, b) = friends().await;
    let at_b = Files::start(&b, policy(into.path(), Accept::Everything)).unwrap();
    let mut hanging = Raw::offer(&a, &b, &photo(1)).await;
    assert_eq!(hanging.reply().await, Some(Message::Accept { resume: false }));
    let mut again = Raw::offer(&a, &b, &photo(1)).await;
    assert!(matches!(again.reply().await, Some(Message::Accept { .. })));
    assert_eq!(hanging.reply().await, None);
    assert!(at_b.handle(&TransferId([1; 16])).is_some());
    assert_eq!(b.store().transfers().list()[0].state, TransferState::Active);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_number_that_belongs_to_another_peers_transfer_is_refused_and_changes_nothing() {
    let into = tempfile::tempdir().unwrap();
    let network = MemoryNetwork::new();
    let a = Node::builder().name("a").memory(&network).build().await.unwrap();
    let b = Node::builder().name("b").memory(&network).build().await.unwrap();
    let c = Node::builder().name("c").memory(&network).build().await.unwrap();
    testing::introduce(&a, &b).unwrap();
    testing::introduce(&c, &b).unwrap();
    let at_b = Files::start(&b, policy(into.path(), Accept::Everything)).unwrap();
    let mut honest = Raw::offer(&a, &b, &photo(1)).await;
    assert_eq!(honest.reply().await, Some(Message::Accept { resume: false }));
    let mut thief = Raw::offer(&c, &b, &photo(1)).await;
    assert!(matches!(thief.reply().await, Some(Message::Decline { .. })));
    assert!(at_b.handle(&TransferId([1; 16])).is_some());
    let listed = &b.store().transfers().list()[0];
    assert_eq!((listed.peer, listed.state), (Some(a.id()), TransferState::Active));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_peer_moves_few_transfers_at_a_time_and_the_next_waits_for_its_turn() {
    let into = tempfile::tempdir().unwrap();
    let (a, b) = friends().await;
    let _at_b = Files::start(&b, policy(into.path(), Accept::Everything)).unwrap();
    let mut moving = Vec::new();
    for id in 0..4 {
        let mut raw = Raw::offer(&a, &b, &photo(id)).await;
        assert_eq!(raw.reply().await, Some(Message::Accept { resume: false }));
        moving.push(raw);
    }
    let mut waiting = Raw::offer(&a, &b, &photo(9)).await;
    assert!(tokio::time::timeout(Duration::from_millis(300), waiting.stream.recv.read_u8()).await.is_err());
    moving.pop();
    assert_eq!(soon("its turn", waiting.stream.recv.read_u8()).await.unwrap(), 16);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_person_can_give_up_while_the_peer_is_away() {
    let (from, into) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (a, b) = friends().await;
    let at_a = Files::start(&a, policy(from.path(), Accept::Nothing)).unwrap();
    let _at_b = Files::start(&b, policy(into.path(), Accept::Everything)).unwrap();
    let paths = [file(from.path(), "film.mkv", CUT_BYTES)];
    let handle = Handle::new();
    let (mut progress, cancel) = (handle.progress(), handle.clone());
    let leaving = tokio::spawn(async move {
        progress.wait_for(|p| p.bytes_done >= 1 << 20).await.unwrap();
        b.shutdown().await;
        cancel.cancel();
    });
    let ended = soon("send", at_a.send("b", &paths, handle)).await.unwrap();
    soon("leave", leaving).await.unwrap();
    assert!(ended.result.as_ref().is_err_and(|error| error.is_cancelled()), "{:?}", ended.result);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_dropped_in_the_middle_is_listed_as_interrupted_and_can_be_given_up() {
    let (from, into) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (a, b) = friends().await;
    let at_a = Files::start(&a, policy(from.path(), Accept::Nothing)).unwrap();
    let at_b = Files::start(&b, policy(into.path(), Accept::Everything)).unwrap();
    let mut ended = at_b.events();
    let paths = [file(from.path(), "film.mkv", CUT_BYTES)];
    let handle = Handle::new();
    let mut progress = handle.progress();
    tokio::select! {
        _ = at_a.send("b", &paths, handle) => panic!("it was through before it could be dropped"),
        seen = progress.wait_for(|p| p.bytes_done >= 1 << 20) => drop(seen.unwrap()),
    }
    let over = async { while !matches!(ended.recv().await.unwrap(), FileEvent::Ended(_)) {} };
    soon("the receiver notices", over).await;
    let there = b.store().transfers().list()[0].clone();
    assert_eq!(there.state, TransferState::Paused);
    assert_eq!(std::fs::read_dir(into.path()).unwrap().count(), 1, "its partial folder");
    at_b.discard(&there.id).await.unwrap();
    assert_eq!(std::fs::read_dir(into.path()).unwrap().count(), 0);
    assert!(b.store().transfers().list().is_empty());
    assert!(at_b.discard(&there.id).await.is_err());
    a.shutdown().await;
    let here = a.store().transfers().list()[0].clone();
    assert_eq!((here.state, here.total_bytes, here.files), (TransferState::Paused, CUT_BYTES as u64, 1));
}
