//! The mesh between real nodes: the same promises over the memory carrier and over QUIC on loopback.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::path::Path;
use std::time::Duration;

use honeylink::mesh::{
    MeshEvent, MeshHandle, MeshOptions, MeshSendError, Messages, SendOptions, Step, Topic,
};
use honeylink::services::Chat;
use honeylink::store::chat::MessageState;
use honeylink::store::{NewPeer, OnNameTaken, PairingMethod};
use honeylink::{DeviceId, DeviceType, MemoryNetwork, Node, Reach, Rung, Ticket, testing};
use tokio::io::{AsyncBufReadExt as _, BufReader};

const PATIENCE: Duration = Duration::from_secs(90);

async fn soon<T>(what: &str, future: impl Future<Output = T>) -> T {
    match tokio::time::timeout(PATIENCE, future).await {
        Ok(value) => value,
        Err(_) => panic!("waited too long: {what}"),
    }
}

/// Where the nodes live.
#[derive(Clone)]
enum Backend {
    Memory(MemoryNetwork),
    Loopback,
}

impl Backend {
    async fn node(&self, name: &str, home: Option<&Path>, options: MeshOptions) -> Node {
        let builder = Node::builder().name(name).reach(Reach::Loopback).discovery(false).mesh(options);
        let builder = match self {
            Self::Memory(network) => builder.memory(network),
            Self::Loopback => builder,
        };
        let builder = if let Some(home) = home { builder.home(home) } else { builder };
        builder.build().await.unwrap()
    }

    /// Two devices that trust each other and cannot reach each other.
    fn acquaint(&self, a: &Node, b: &Node) {
        if let Self::Memory(network) = self {
            network.part(a.id(), b.id());
        }
        for (here, there) in [(a, b), (b, a)] {
            let peer = NewPeer {
                id: there.id(),
                name: None,
                announced_name: there.name(),
                device_type: there.device_type(),
                method: PairingMethod::Code,
            };
            here.store().trust().pair(&peer, OnNameTaken::Disambiguate, 0).unwrap();
        }
    }

    /// A to B to C, where A and C know each other and have no connection.
    async fn row(&self, relay: &Path) -> [Node; 3] {
        let a = self.node("a", None, MeshOptions::default()).await;
        let b = self.node("b", Some(relay), MeshOptions::default()).await;
        let c = self.node("c", None, MeshOptions::default()).await;
        self.acquaint(&a, &c);
        testing::introduce(&a, &b).unwrap();
        testing::introduce(&b, &c).unwrap();
        [a, b, c]
    }
}

fn mesh(node: &Node) -> MeshHandle {
    node.mesh().unwrap()
}

fn inbox(node: &Node) -> Messages {
    mesh(node).messages(Topic::APPLICATION).unwrap()
}

/// Waits until a node has that many ports.
async fn ports(node: &Node, count: usize) {
    let mesh = mesh(node);
    let mut events = mesh.events();
    soon("ports", async {
        while mesh.snapshot().await.unwrap().ports.len() != count {
            events.recv().await.unwrap();
        }
    })
    .await;
}

async fn stop(nodes: impl IntoIterator<Item = Node>) {
    for node in nodes {
        assert_eq!(node.shutdown().await.stuck_tasks, 0, "{}", node.name());
    }
}

async fn a_message_crosses_a_relay_once_and_its_sender_gets_the_receipt(backend: Backend) {
    let home = tempfile::tempdir().unwrap();
    let [a, b, c] = backend.row(home.path()).await;
    ports(&b, 2).await;
    let mut messages = inbox(&c);
    for text in ["one", "two", "three"] {
        let mut sending = soon("send", mesh(&a).send("c", text, SendOptions::default())).await.unwrap();
        let message = soon("message", messages.next()).await.unwrap();
        assert_eq!((message.from, &message.payload[..]), (a.id(), text.as_bytes()));
        assert_eq!(message.hops, 2);
        soon("receipt", sending.delivered()).await.unwrap();
        assert_eq!(sending.step(), Step::Delivered);
    }
    let trace = mesh(&a).trace("c").await.unwrap();
    assert_eq!(trace.ways[0].hops, 2, "{trace:?}");
    assert_eq!(mesh(&b).snapshot().await.unwrap().mesh.stats.delivered, 0);
    assert_eq!(mesh(&c).snapshot().await.unwrap().mesh.stats.delivered, 3);
    stop([a, b, c]).await;
}

/// Waits until a node seals messages to another with a ratchet.
async fn forward_secret(node: &Node, peer: &Node) {
    let mesh = mesh(node);
    let mut events = mesh.events();
    let sealing = async {
        while !mesh.trace(peer.id()).await.unwrap().forward_secret {
            events.recv().await.unwrap();
        }
    };
    soon("a ratchet", sealing).await;
}

async fn devices_that_meet_have_forward_secrecy_and_keep_it_across_a_restart(backend: Backend) {
    let home = tempfile::tempdir().unwrap();
    let a = backend.node("a", None, MeshOptions::default()).await;
    let b = backend.node("b", Some(home.path()), MeshOptions::default()).await;
    testing::introduce(&a, &b).unwrap();
    forward_secret(&a, &b).await;
    forward_secret(&b, &a).await;
    b.shutdown().await;
    drop(b);
    let b = backend.node("b", Some(home.path()), MeshOptions::default()).await;
    assert!(mesh(&b).trace(a.id()).await.unwrap().forward_secret, "read back before they meet again");
    testing::introduce(&b, &a).unwrap();
    let mut messages = inbox(&b);
    let mut sending = soon("send", mesh(&a).send("b", "hello", SendOptions::default())).await.unwrap();
    assert_eq!(soon("message", messages.next()).await.unwrap().payload, "hello");
    soon("receipt", sending.delivered()).await.unwrap();
    stop([a, b]).await;
}

async fn a_message_waits_for_a_relay_that_restarts(backend: Backend) {
    let home = tempfile::tempdir().unwrap();
    let [a, b, c] = backend.row(home.path()).await;
    ports(&b, 2).await;
    b.shutdown().await;
    drop(b);
    let mut sending = soon("send", mesh(&a).send("c", "hello", SendOptions::default())).await.unwrap();
    let b = backend.node("b", Some(home.path()), MeshOptions::default()).await;
    // Where they are is remembered by the ones that dial; the new socket has a new port.
    for other in [&a, &c] {
        testing::introduce(&b, other).unwrap();
    }
    let mut messages = inbox(&c);
    assert_eq!(soon("message", messages.next()).await.unwrap().payload, "hello");
    soon("receipt", sending.delivered()).await.unwrap();
    stop([a, b, c]).await;
}

async fn without_relaying_nothing_is_passed_on(backend: Backend) {
    let home = tempfile::tempdir().unwrap();
    let [a, b, c] = backend.row(home.path()).await;
    b.shutdown().await;
    drop(b);
    let b = backend.node("b", Some(home.path()), MeshOptions::default().relay(false)).await;
    for other in [&a, &c] {
        testing::introduce(&b, other).unwrap();
    }
    ports(&b, 2).await;
    let options = SendOptions::default().lifetime(Duration::from_secs(2));
    let mut sending = soon("send", mesh(&a).send("c", "hello", options)).await.unwrap();
    assert!(soon("failure", sending.delivered()).await.is_err());
    let mut sending = soon("send", mesh(&a).send("b", "hello", SendOptions::default())).await.unwrap();
    soon("receipt", sending.delivered()).await.unwrap();
    stop([a, b, c]).await;
}

async fn a_device_that_is_forgotten_loses_its_port_and_gets_no_other(backend: Backend) {
    let a = backend.node("a", None, MeshOptions::default()).await;
    let b = backend.node("b", None, MeshOptions::default()).await;
    testing::introduce(&a, &b).unwrap();
    ports(&a, 1).await;
    a.forget_peer(b.id()).await.unwrap();
    ports(&a, 0).await;
    ports(&b, 0).await;
    let mut sending = soon("send", mesh(&b).send("a", "hello", SendOptions::default())).await.unwrap();
    let refused = soon("send", mesh(&a).send(b.id(), "hello", SendOptions::default())).await;
    assert!(matches!(refused, Err(MeshSendError::Target(_))), "{refused:?}");
    let more = tokio::time::timeout(Duration::from_secs(2), sending.delivered()).await;
    assert!(more.is_err(), "{more:?}");
    stop([a, b]).await;
}

async fn what_nobody_took_before_the_node_stopped_is_handed_over_after(backend: Backend) {
    let home = tempfile::tempdir().unwrap();
    let a = backend.node("a", None, MeshOptions::default()).await;
    let b = backend.node("b", Some(home.path()), MeshOptions::default()).await;
    testing::introduce(&a, &b).unwrap();
    for text in ["one", "two"] {
        let mut sending = soon("send", mesh(&a).send("b", text, SendOptions::default())).await.unwrap();
        soon("receipt", sending.delivered()).await.unwrap();
    }
    let mut messages = inbox(&b);
    assert_eq!(soon("message", messages.next()).await.unwrap().payload, "one");
    assert_eq!(soon("message", messages.next()).await.unwrap().payload, "two");
    drop(messages);
    b.shutdown().await;
    drop(b);
    let b = backend.node("b", Some(home.path()), MeshOptions::default()).await;
    let mut messages = inbox(&b);
    let again = soon("message", messages.next()).await.unwrap();
    assert_eq!(again.payload, "two", "the one before was dealt with");
    stop([a, b]).await;
}

async fn chat_goes_over_the_mesh_where_no_link_can_be_made(backend: Backend) {
    let home = tempfile::tempdir().unwrap();
    let [a, b, c] = backend.row(home.path()).await;
    ports(&b, 2).await;
    let (at_a, at_c) = (Chat::start(&a).unwrap(), Chat::start(&c).unwrap());
    let mut heard = at_c.events();
    let sent = soon("send", at_a.send("c", "hello")).await.unwrap();
    assert_eq!(sent.message.state, MessageState::Delivered);
    assert_eq!((sent.message.rung, sent.path.unwrap().rung), (Some(Rung::Mesh), Rung::Mesh));
    let event = soon("hear", heard.recv()).await.unwrap();
    assert_eq!((event.peer, event.message.text.as_str()), (a.id(), "hello"));
    assert_eq!((event.message.rung, event.path.unwrap().remote.as_str()), (Some(Rung::Mesh), "2 hops"));
    let started = std::time::Instant::now();
    soon("send", at_a.send("c", "and again")).await.unwrap();
    assert!(started.elapsed() < Duration::from_secs(3), "what was out of reach is not tried each time");
    let sent = soon("send", at_a.send("b", "hello you")).await.unwrap_err();
    assert!(sent.to_string().contains("nobody listens"), "a refusal is final: {sent}");
    let log = c.store().chat().list(&a.id(), None, 9).unwrap();
    let texts: Vec<_> = log.messages.iter().map(|m| (m.message.text.as_str(), m.message.rung)).collect();
    assert_eq!(texts, [("hello", Some(Rung::Mesh)), ("and again", Some(Rung::Mesh))]);
    stop([a, b, c]).await;
}

async fn both_ends_keep_one_connection(backend: Backend) {
    let mut nodes = Vec::new();
    for name in ["a", "b", "c", "d"] {
        let node = backend.node(name, None, MeshOptions::default()).await;
        for other in &nodes {
            testing::introduce(&node, other).unwrap();
        }
        nodes.push(node);
    }
    for node in &nodes {
        ports(node, 3).await;
    }
    stop(nodes).await;
}

macro_rules! on_both {
    ($($name:ident),* $(,)?) => {
        mod memory {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() {
                super::$name(super::Backend::Memory(honeylink::MemoryNetwork::new())).await;
            })*
        }
        mod quic {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() {
                super::$name(super::Backend::Loopback).await;
            })*
        }
    };
}

on_both!(
    a_message_crosses_a_relay_once_and_its_sender_gets_the_receipt,
    devices_that_meet_have_forward_secrecy_and_keep_it_across_a_restart,
    a_message_waits_for_a_relay_that_restarts,
    without_relaying_nothing_is_passed_on,
    a_device_that_is_forgotten_loses_its_port_and_gets_no_other,
    what_nobody_took_before_the_node_stopped_is_handed_over_after,
    both_ends_keep_one_connection,
    chat_goes_over_the_mesh_where_no_link_can_be_made,
);

const CHILD_HOME: &str = "HONEYLINK_TEST_MESH_HOME";
const CHILD_PEER: &str = "HONEYLINK_TEST_MESH_PEER";

/// Not a test of its own: the process that the test below kills.
#[tokio::test]
#[ignore = "run by the test below, in a process of its own"]
async fn killed_child() {
    let Ok(home) = std::env::var(CHILD_HOME) else { return };
    let node = Backend::Loopback.node("b", Some(Path::new(&home)), MeshOptions::default()).await;
    let id: DeviceId = std::env::var(CHILD_PEER).unwrap().parse().unwrap();
    let peer = NewPeer {
        id,
        name: None,
        announced_name: "a".into(),
        device_type: DeviceType::Desktop,
        method: PairingMethod::Code,
    };
    node.store().trust().pair(&peer, OnNameTaken::Refuse, 0).unwrap();
    println!("ticket {}", node.ticket());
    // Nobody takes the messages. Bounded, in case nobody kills us.
    tokio::time::sleep(PATIENCE).await; // tidy: sleep because it waits to be killed
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_message_whose_receipt_was_sent_survives_kill_9() {
    let home = tempfile::tempdir().unwrap();
    let layout = home.path().join("b");
    let a = Backend::Loopback.node("a", None, MeshOptions::default()).await;
    let mut child = tokio::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "killed_child", "--ignored", "--nocapture"])
        .env(CHILD_HOME, &layout)
        .env(CHILD_PEER, a.id().to_string())
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let ticket: Ticket = loop {
        let line = soon("the child", lines.next_line()).await.unwrap().unwrap();
        if let Some((_, ticket)) = line.split_once("ticket ") {
            break ticket.parse().unwrap();
        }
    };
    let peer = NewPeer {
        id: ticket.id,
        name: None,
        announced_name: "b".into(),
        device_type: DeviceType::Desktop,
        method: PairingMethod::Code,
    };
    a.store().trust().pair(&peer, OnNameTaken::Refuse, 0).unwrap();
    for text in ["one", "two", "three"] {
        let mut sending =
            soon("send", mesh(&a).send(ticket.clone(), text, SendOptions::default())).await.unwrap();
        soon("receipt", sending.delivered()).await.unwrap();
    }
    // On Unix this is SIGKILL, right after the last receipt.
    child.start_kill().unwrap();
    soon("the end of the child", child.wait()).await.unwrap();
    let b = Backend::Loopback.node("b", Some(&layout), MeshOptions::default()).await;
    let mut messages = inbox(&b);
    let mut texts = Vec::new();
    for _ in 0..3 {
        texts.push(soon("message", messages.next()).await.unwrap().payload);
    }
    assert_eq!(texts, ["one", "two", "three"]);
    stop([a, b]).await;
}

#[tokio::test]
async fn a_node_without_a_mesh_says_so_and_is_asked_rarely() {
    let network = MemoryNetwork::new();
    let a = Node::builder().name("a").memory(&network).mesh(MeshOptions::default()).build().await.unwrap();
    let b = Node::builder().name("b").memory(&network).build().await.unwrap();
    assert!(b.mesh().is_none());
    let mut events = mesh(&a).events();
    testing::introduce(&a, &b).unwrap();
    let mut sending = mesh(&a).send("b", "hello", SendOptions::default()).await.unwrap();
    let more = tokio::time::timeout(Duration::from_secs(1), sending.delivered()).await;
    assert!(more.is_err(), "{more:?}");
    while let Ok(event) = events.try_recv() {
        assert!(!matches!(event, MeshEvent::PortUp(_)), "{event:?}");
    }
    stop([a, b]).await;
}
