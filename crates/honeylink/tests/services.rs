//! Chat, files and pipes between two nodes of this process.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::time::Duration;

use honeylink::services::chat::ChatError;
use honeylink::services::{Chat, Pipes};
use honeylink::store::chat::MessageState;
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
