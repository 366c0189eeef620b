//! Chat messages that no link took: they wait for nobody once there is a link, and they come once.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::path::Path;
use std::time::Duration;

use honeylink::mesh::{MeshOptions, Stats};
use honeylink::node::BuildError;
use honeylink::services::Chat;
use honeylink::services::chat::{ChatError, ChatEvent, PROTOCOL};
use honeylink::store::chat::{MessageState, NewMessage};
use honeylink::store::home::OpenHomeError;
use honeylink::{DeviceId, MemoryNetwork, Node, Rung, testing};
use tokio::sync::broadcast::Receiver;

/// No wait in these tests is longer; the mesh alone would leave a kept message where it is for six minutes or more.
const PATIENCE: Duration = Duration::from_secs(90);

async fn soon<T>(what: &str, future: impl Future<Output = T>) -> T {
    match tokio::time::timeout(PATIENCE, future).await {
        Ok(value) => value,
        Err(_) => panic!("waited too long: {what}"),
    }
}

async fn node(network: &MemoryNetwork, name: &str, home: &Path, mesh: bool) -> Node {
    let builder = || {
        let builder = Node::builder().name(name).memory(network).home(home.join(name));
        if mesh { builder.mesh(MeshOptions::default()) } else { builder }
    };
    let built = async {
        loop {
            match builder().build().await {
                Ok(node) => return node,
                // Whoever held the node that is gone may let go of it a moment later.
                Err(BuildError::Home(OpenHomeError::InUse { .. })) => {
                    // tidy: sleep because no event says that a lock is free
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
                Err(error) => panic!("{name}: {error}"),
            }
        }
    };
    soon("a home", built).await
}

/// Waits until the mesh of one device seals messages to another as it will from then on.
async fn met(node: &Node, peer: &Node) {
    let mesh = node.mesh().unwrap();
    let mut events = mesh.events();
    let meeting = async {
        while !mesh.trace(peer.id()).await.unwrap().forward_secret {
            events.recv().await.unwrap();
        }
    };
    soon("a meeting", meeting).await;
}

/// Three paired devices.
struct Three {
    network: MemoryNetwork,
    home: tempfile::TempDir,
    a: Node,
    b: Node,
    c: Option<Node>,
}

impl Three {
    async fn new() -> Self {
        let (network, home) = (MemoryNetwork::new(), tempfile::tempdir().unwrap());
        let [a, b, c] = [
            node(&network, "a", home.path(), true).await,
            node(&network, "b", home.path(), true).await,
            node(&network, "c", home.path(), true).await,
        ];
        for (one, other) in [(&a, &b), (&b, &c), (&a, &c)] {
            testing::introduce(one, other).unwrap();
        }
        // Whoever leaves in the middle of this would not be able to read what was said in between.
        for (one, other) in [(&a, &c), (&c, &a), (&b, &c), (&c, &b), (&a, &b), (&b, &a)] {
            met(one, other).await;
        }
        Self { network, home, a, b, c: Some(c) }
    }

    /// Stops the third and says who it was.
    async fn c_leaves(&mut self) -> DeviceId {
        let c = self.c.take().unwrap();
        c.shutdown().await;
        c.id()
    }

    async fn c_again(&self, mesh: bool) -> Node {
        node(&self.network, "c", self.home.path(), mesh).await
    }
}

/// Waits until another device answers for the message that was said last.
async fn kept(chat: &Chat, to: DeviceId, from: &Node, text: &str) {
    let mut events = chat.events();
    let sent = soon("send", chat.send(to, text)).await.unwrap();
    assert_eq!(sent.message.state, MessageState::Pending);
    let stored = async {
        loop {
            let logged = from.store().chat().find(&to, &sent.message.id).unwrap().unwrap();
            if logged.rung == Some(Rung::Stored) {
                return;
            }
            events.recv().await.unwrap();
        }
    };
    soon("a keeper", stored).await;
}

/// The next text that comes in.
async fn heard(events: &mut Receiver<ChatEvent>) -> (String, Option<Rung>) {
    let next = async {
        loop {
            let event = events.recv().await.unwrap();
            if event.message.state == MessageState::Received {
                return (event.message.text, event.message.rung);
            }
        }
    };
    soon("a message", next).await
}

/// Waits until the log says that a text was delivered.
async fn delivered(from: &Node, to: DeviceId, chat: &Chat, text: &str) -> Option<Rung> {
    let mut events = chat.events();
    let delivered = async {
        loop {
            let page = from.store().chat().list(&to, None, 99).unwrap();
            let found = page.messages.iter().find(|found| found.message.text == text).unwrap();
            if found.message.state == MessageState::Delivered {
                return found.message.rung;
            }
            events.recv().await.unwrap();
        }
    };
    soon("a confirmation", delivered).await
}

/// Waits until a counter of a node's mesh has come so far; not every step of it is an event.
async fn counted(node: &Node, what: &str, counter: impl Fn(&Stats) -> u64, least: u64) {
    let mesh = node.mesh().unwrap();
    let came = async {
        while counter(&mesh.snapshot().await.unwrap().mesh.stats) < least {
            // tidy: sleep because the mesh tells no event when it hands a message over
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    soon(what, came).await;
}

fn received(at: &Node, from: &Node) -> Vec<String> {
    let page = at.store().chat().list(&from.id(), None, 99).unwrap();
    let messages = page.messages.into_iter().map(|found| found.message);
    messages.filter(|m| m.state == MessageState::Received).map(|m| m.text).collect()
}

async fn stop(nodes: impl IntoIterator<Item = Node>) {
    for node in nodes {
        assert_eq!(node.shutdown().await.stuck_tasks, 0, "{}", node.name());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_third_device_keeps_goes_over_the_first_link_and_its_late_copy_is_dropped() {
    let mut three = Three::new().await;
    let c = three.c_leaves().await;
    let Three { network, a, b, .. } = &three;
    let at_a = Chat::start(a).unwrap();
    kept(&at_a, c, a, "hello").await;

    // It comes back without a mesh, says something itself, and hears what was said meanwhile.
    let again = three.c_again(false).await;
    let at_c = Chat::start(&again).unwrap();
    let mut events = at_c.events();
    soon("send", at_c.send(a.id(), "I am back")).await.unwrap();
    assert_eq!(heard(&mut events).await, ("hello".to_owned(), Some(Rung::Local)));
    assert_eq!(delivered(a, c, &at_a, "hello").await, Some(Rung::Local));
    counted(a, "the mesh to give its copy up", |stats| stats.failed, 1).await;

    // Restarted, with a mesh: the keeper hands its copy over.
    again.shutdown().await;
    // Its home is free when nothing holds it any more.
    drop((again, at_c));
    network.part(a.id(), c);
    let again = three.c_again(true).await;
    let at_c = Chat::start(&again).unwrap();
    let mut events = at_c.events();
    counted(&again, "the copy that was kept", |stats| stats.delivered, 1).await;
    soon("send", at_a.send(c, "and now?")).await.unwrap();
    assert_eq!(heard(&mut events).await.0, "and now?", "the mesh's messages are taken in order");
    assert_eq!(received(&again, a), ["hello", "and now?"]);
    assert_eq!(delivered(a, c, &at_a, "hello").await, Some(Rung::Local));
    stop([a.clone(), b.clone(), again]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_left_to_the_mesh_while_a_link_was_broken_goes_over_it_when_it_is_back() {
    let three = Three::new().await;
    let (Three { network, a, b, .. }, Some(c)) = (&three, &three.c) else { panic!("no third") };
    let (at_a, at_c) = (Chat::start(a).unwrap(), Chat::start(c).unwrap());
    let mut events = at_c.events();
    soon("send", at_a.send(c.id(), "before")).await.unwrap();
    assert_eq!(heard(&mut events).await.0, "before");
    for keeps_away in [a, b] {
        network.part(keeps_away.id(), c.id());
    }
    // The first is said on the broken link too, the second is not tried there.
    let texts = ["one", "two"];
    for text in texts {
        kept(&at_a, c.id(), a, text).await;
    }
    network.rejoin(a.id(), c.id());
    let mut came = Vec::new();
    for _ in texts {
        came.push(heard(&mut events).await.0);
    }
    came.sort();
    assert_eq!(came, texts);
    for text in texts {
        delivered(a, c.id(), &at_a, text).await;
    }
    assert_eq!(received(c, a), ["before", "one", "two"]);
    stop([a.clone(), b.clone(), c.clone()]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_not_confirmed_before_the_sender_stopped_goes_over_the_next_link_once() {
    let (network, home) = (MemoryNetwork::new(), tempfile::tempdir().unwrap());
    let a = node(&network, "a", home.path(), false).await;
    let c = node(&network, "c", home.path(), false).await;
    testing::introduce(&a, &c).unwrap();
    let said = |n: u8, state: MessageState| NewMessage {
        id: [n; 16],
        state,
        text: format!("message {n}"),
        at: u64::from(n),
        rung: None,
    };
    for n in 1..=3 {
        a.store().chat().append(&c.id(), &said(n, MessageState::Pending)).unwrap();
    }
    a.store().chat().append(&c.id(), &said(4, MessageState::Failed)).unwrap();
    // It has the second already: only the confirmation was lost.
    c.store().chat().append(&a.id(), &said(2, MessageState::Received)).unwrap();
    let (at_a, at_c) = (Chat::start(&a).unwrap(), Chat::start(&c).unwrap());
    let mut events = at_c.events();
    soon("send", at_c.send(a.id(), "hello")).await.unwrap();
    assert_eq!(heard(&mut events).await.0, "message 1");
    assert_eq!(heard(&mut events).await.0, "message 3");
    for n in 1..=3 {
        delivered(&a, c.id(), &at_a, &format!("message {n}")).await;
    }
    assert_eq!(received(&c, &a), ["message 2", "message 1", "message 3"], "what was given up stays so");
    stop([a, c]).await;
}

/// Two paired devices without a mesh, of which the second is killed and started again: to the first it looks as if a cable was
/// cut, and then the other device has forgotten all links.
struct Two {
    network: MemoryNetwork,
    home: tempfile::TempDir,
    a: Node,
    c: Node,
}

impl Two {
    async fn new() -> Self {
        let (network, home) = (MemoryNetwork::new(), tempfile::tempdir().unwrap());
        let a = node(&network, "a", home.path(), false).await;
        let c = node(&network, "c", home.path(), false).await;
        testing::introduce(&a, &c).unwrap();
        Self { network, home, a, c }
    }

    /// Whoever holds something of the second lets go of it first. It is out of reach until its network rejoins.
    async fn kill_c(self) -> (MemoryNetwork, Node, Node, tempfile::TempDir) {
        let Self { network, home, a, c } = self;
        network.part(a.id(), c.id());
        c.shutdown().await;
        drop(c);
        let again = node(&network, "c", home.path(), false).await;
        (network, a, again, home)
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_under_way_to_a_device_that_was_killed_is_said_again_when_it_is_back() {
    let two = Two::new().await;
    let at_a = Chat::start(&two.a).unwrap();
    let mut taking = two.c.listen(PROTOCOL).unwrap();
    let (chat, to) = (at_a.clone(), two.c.id());
    let saying = tokio::spawn(async move { chat.send(to, "hello").await });
    let link = soon("a link", taking.accept()).await.unwrap();
    soon("a message", link.recv()).await.unwrap();
    // It has the message and dies before it says so, or keeps it: nobody knows, and nobody says goodbye.
    two.network.part(two.a.id(), to);
    drop((link, taking));
    let (network, a, c, _home) = two.kill_c().await;
    let at_c = Chat::start(&c).unwrap();
    let mut events = at_c.events();
    network.rejoin(a.id(), c.id());
    assert_eq!(heard(&mut events).await.0, "hello");
    delivered(&a, c.id(), &at_a, "hello").await;
    assert_eq!(received(&c, &a), ["hello"]);
    // Its sender was told that it stays pending, unless it heard of the second try.
    let told = soon("its sender", saying).await.unwrap();
    assert!(told.as_ref().err().is_none_or(ChatError::is_pending), "{told:?}");
    stop([a, c]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_device_that_was_killed_hears_what_is_said_on_the_link_that_it_had_made() {
    let two = Two::new().await;
    let at_a = Chat::start(&two.a).unwrap();
    let at_c = Chat::start(&two.c).unwrap();
    soon("send", at_c.send(two.a.id(), "here I am")).await.unwrap();
    drop(at_c);
    let (network, a, c, _home) = two.kill_c().await;
    let at_c = Chat::start(&c).unwrap();
    let mut events = at_c.events();
    network.rejoin(a.id(), c.id());
    // On the link that nobody will take up again, since whoever made it does not know it any more.
    let error = soon("send", at_a.send(c.id(), "welcome back")).await.unwrap_err();
    assert!(error.is_pending(), "{error}");
    assert_eq!(heard(&mut events).await.0, "welcome back");
    delivered(&a, c.id(), &at_a, "welcome back").await;
    stop([a, c]).await;
}
