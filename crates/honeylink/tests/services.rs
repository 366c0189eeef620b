//! Chat, files and pipes between two nodes of this process.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::path::{Path, PathBuf};
use std::time::Duration;

use honeylink::services::chat::ChatError;
use honeylink::services::files::{Accept, Done, Ended, FileEvent, Policy};
use honeylink::services::{Chat, Files, Pipes};
use honeylink::store::chat::MessageState;
use honeylink::store::transfers::{Direction, TransferState};
use honeylink::transfer::{Durability, Handle};
use honeylink::{MemoryNetwork, Node, testing};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

const PATIENCE: Duration = Duration::from_secs(30);

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
fn file(dir: &Path, name: &str, len: usize) -> PathBuf {
    let path = dir.join(name);
    let content: Vec<u8> = (0..len).map(|i| u8::try_from((i * 31 + i / 255) % 251).unwrap()).collect();
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
                assert!(at_b.answer(&honeylink::store::transfers::TransferId(offer.id), true));
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
    let paths = [file(from.path(), "film.mkv", 24 << 20)];
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
    assert_eq!(done(&ended).bytes, 24 << 20);
    assert!(done(&ended).bytes_kept > 0, "the last attempt began in the middle");
    soon("cuts", cutting).await.unwrap();
    assert_eq!(std::fs::read(into.path().join("film.mkv")).unwrap(), std::fs::read(&paths[0]).unwrap());
}
