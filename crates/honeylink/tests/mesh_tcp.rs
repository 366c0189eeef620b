//! The mesh over TCP between real nodes, where UDP gets nowhere: each knows of the other only the address of a forwarder
//! that takes TCP.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::net::SocketAddr;
use std::time::Duration;

use honeylink::mesh::{MeshHandle, MeshOptions, SendOptions, Topic};
use honeylink::store::{NewPeer, OnNameTaken, PairingMethod};
use honeylink::{Node, Reach};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;

const PATIENCE: Duration = Duration::from_secs(90);

async fn soon<T>(what: &str, future: impl Future<Output = T>) -> T {
    match tokio::time::timeout(PATIENCE, future).await {
        Ok(value) => value,
        Err(_) => panic!("waited too long: {what}"),
    }
}

async fn node(name: &str, options: MeshOptions) -> Node {
    let builder = Node::builder().name(name).reach(Reach::Loopback).discovery(false);
    builder.mesh(options).build().await.unwrap()
}

fn trust(here: &Node, there: &Node) {
    let peer = NewPeer {
        id: there.id(),
        name: None,
        announced_name: there.name(),
        device_type: there.device_type(),
        method: PairingMethod::Code,
    };
    here.store().trust().pair(&peer, OnNameTaken::Refuse, 0).unwrap();
}

/// Takes TCP connections for `to`; the receiver hears of each that has ended.
async fn forwarder(to: &Node) -> (SocketAddr, mpsc::UnboundedReceiver<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    let to = to.bound_addrs().into_iter().find(SocketAddr::is_ipv4).unwrap();
    let (ended, ends) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        while let Ok((mut near, _)) = listener.accept().await {
            let ended = ended.clone();
            tokio::spawn(async move {
                if let Ok(mut far) = TcpStream::connect(to).await {
                    // However it ends, it has ended.
                    let _ = tokio::io::copy_bidirectional(&mut near, &mut far).await;
                }
                let _ = ended.send(());
            });
        }
    });
    (addr, ends)
}

fn mesh(node: &Node) -> MeshHandle {
    node.mesh().unwrap()
}

async fn port(node: &Node) {
    let mesh = mesh(node);
    let mut events = mesh.events();
    soon("a port", async {
        while mesh.snapshot().await.unwrap().ports.is_empty() {
            events.recv().await.unwrap();
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn messages_go_by_tcp_where_udp_gets_nowhere() {
    let a = node("a", MeshOptions::default()).await;
    let b = node("b", MeshOptions::default().tcp(true)).await;
    trust(&a, &b);
    trust(&b, &a);
    let (through, _ends) = forwarder(&b).await;
    a.add_address(b.id(), through);
    port(&a).await;
    for (from, to) in [(&a, &b), (&b, &a)] {
        let mut inbox = mesh(to).messages(Topic::APPLICATION).unwrap();
        let mut sending =
            soon("send", mesh(from).send(to.id(), "by TCP", SendOptions::default())).await.unwrap();
        assert_eq!(soon("message", inbox.next()).await.unwrap().payload, "by TCP");
        soon("receipt", sending.delivered()).await.unwrap();
    }
    for node in [a, b] {
        assert_eq!(node.shutdown().await.stuck_tasks, 0);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stranger_gets_no_port_by_tcp_either() {
    let stranger = node("stranger", MeshOptions::default()).await;
    let b = node("b", MeshOptions::default().tcp(true)).await;
    trust(&stranger, &b);
    let (through, mut ends) = forwarder(&b).await;
    stranger.add_address(b.id(), through);
    soon("the refusal", ends.recv()).await.unwrap();
    for node in [&stranger, &b] {
        assert!(mesh(node).snapshot().await.unwrap().ports.is_empty());
    }
    for node in [stranger, b] {
        assert_eq!(node.shutdown().await.stuck_tasks, 0);
    }
}

#[tokio::test]
async fn a_node_listens_by_tcp_only_if_it_is_told_to() {
    let tcp = |node: &Node| TcpStream::connect(node.bound_addrs()[0]);
    let (quiet, open) =
        (node("quiet", MeshOptions::default()).await, node("open", MeshOptions::default().tcp(true)).await);
    assert!(tcp(&quiet).await.is_err());
    assert!(tcp(&open).await.is_ok());
    let port = open.bound_addrs()[0].port();
    open.shutdown().await;
    let taken = std::net::TcpListener::bind(("127.0.0.1", port)).unwrap();
    let builder = Node::builder().name("late").reach(Reach::Loopback).discovery(false).port(port);
    let error = builder.mesh(MeshOptions::default().tcp(true)).build().await.unwrap_err();
    assert!(error.to_string().contains(&format!("cannot open TCP port {port}")), "{error}");
    drop(taken);
    quiet.shutdown().await;
}
