//! An attacker for the tests of hostile peers: a plain iroh endpoint, paired with its victim, that speaks its own bytes.
#![allow(dead_code, reason = "each test file uses its part")]
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot be set up has failed")]

use std::time::Duration;

use bytes::BytesMut;
use honeylink::carrier::ALPN_LINK;
use honeylink::store::{NewPeer, OnNameTaken, PairingMethod};
use honeylink::{Class, DeviceId, DeviceType, Node, Reach};
use honeylink_core::identity::SecretKey;
use honeylink_core::qos::policy::PolicyFrame;
use honeylink_core::wire::link::{Frame, SessionId, StreamHeader, StreamKind};
use iroh::endpoint::{Connection, RecvStream, SendStream, presets};
use iroh::{Endpoint, EndpointAddr, EndpointId, RelayMode};

pub(crate) const PROTOCOL: &str = "victim/1";
/// No wait in these tests is longer; a test that hits it has failed.
pub(crate) const PATIENCE: Duration = Duration::from_secs(120);

pub(crate) async fn soon<T>(what: &str, future: impl Future<Output = T>) -> T {
    match tokio::time::timeout(PATIENCE, future).await {
        Ok(value) => value,
        Err(_) => panic!("waited too long: {what}"),
    }
}

pub(crate) async fn node(name: &str) -> Node {
    Node::builder().name(name).reach(Reach::Loopback).discovery(false).build().await.unwrap()
}

/// An endpoint that can say anything, paired with the victim.
pub(crate) struct Attacker(pub(crate) Endpoint);

impl Attacker {
    pub(crate) async fn paired(seed: u64, victim: &Node) -> Self {
        let key = SecretKey::from_u64(seed);
        let endpoint = Endpoint::builder(presets::Empty)
            .crypto_provider(honeylink::crypto::provider().unwrap())
            .secret_key(iroh::SecretKey::from_bytes(&key.to_bytes()))
            .relay_mode(RelayMode::Disabled)
            .alpns(vec![ALPN_LINK.to_vec()])
            .clear_ip_transports()
            .bind_addr("127.0.0.1:0")
            .unwrap()
            .bind()
            .await
            .unwrap();
        let peer = NewPeer {
            id: key.id(),
            name: None,
            announced_name: format!("attacker {seed}"),
            device_type: DeviceType::Desktop,
            method: PairingMethod::Code,
        };
        victim.store().trust().pair(&peer, OnNameTaken::Refuse, 0).unwrap();
        Self(endpoint)
    }

    pub(crate) async fn connect(&self, victim: &Node) -> Connection {
        let id = EndpointId::from_bytes(victim.id().as_bytes()).unwrap();
        let v4 = victim.bound_addrs().into_iter().find(std::net::SocketAddr::is_ipv4).unwrap();
        let target = EndpointAddr::new(id).with_ip_addr(v4);
        soon("attacker connects", self.0.connect(target, ALPN_LINK)).await.unwrap()
    }
}

pub(crate) fn header_of(kind: StreamKind) -> Vec<u8> {
    let mut out = BytesMut::new();
    StreamHeader {
        kind,
        session: SessionId([SESSION; 16]),
        priority: Class::Interactive.into(),
        protocol: PROTOCOL.into(),
    }
    .encode(&mut out);
    out.to_vec()
}

/// An attacker with a session on the victim, and the victim's end of it.
pub(crate) struct Session {
    _attacker: Attacker,
    pub(crate) conn: Connection,
    pub(crate) link: honeylink::Link,
    _held: (SendStream, RecvStream),
    _listener: honeylink::Listener,
}

pub(crate) const SESSION: u8 = 7;

impl Session {
    pub(crate) async fn new(seed: u64, victim: &Node) -> Self {
        let mut listener = victim.listen(PROTOCOL).unwrap();
        let attacker = Attacker::paired(seed, victim).await;
        let conn = attacker.connect(victim).await;
        let (mut send, recv) = conn.open_bi().await.unwrap();
        let mut opening = BytesMut::from(&header_of(StreamKind::Session)[..]);
        Frame::Hello { version_min: 1, version_max: 1, message_max: 1 << 20, next: 0 }.encode(&mut opening);
        send.write_all(&opening).await.unwrap();
        let link = soon("accept", listener.accept()).await.unwrap();
        Self { _attacker: attacker, conn, link, _held: (send, recv), _listener: listener }
    }

    /// Opens a stream of this kind, says this, and reads what comes until the victim ends the stream.
    pub(crate) async fn say(&self, kind: StreamKind, bytes: &[u8]) -> Vec<u8> {
        let (mut send, mut recv) = soon("a stream", self.conn.open_bi()).await.unwrap();
        let _ = send.write_all(&[&header_of(kind)[..], bytes].concat()).await;
        let _ = send.finish();
        soon("the victim ends the stream", recv.read_to_end(1 << 20)).await.unwrap_or_default()
    }
}

/// What a listening attacker does with a policy that its victim proposes.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Answer {
    /// Nothing.
    Silence,
    /// Acknowledges changes that nobody made, claims policies of its own, then noise.
    Lies,
    /// No, with this reason.
    Refusal(&'static str),
}

/// An attacker that its victim connects to. It takes sessions, and tells of every stream that is opened.
pub(crate) struct Listening {
    pub(crate) id: DeviceId,
    pub(crate) kinds: tokio::sync::mpsc::UnboundedReceiver<StreamKind>,
    pub(crate) endpoint: Endpoint,
    _serving: tokio::task::JoinHandle<()>,
}

impl Listening {
    pub(crate) async fn paired(seed: u64, victim: &Node, answer: Answer) -> Self {
        let Attacker(endpoint) = Attacker::paired(seed, victim).await;
        let id = SecretKey::from_u64(seed).id();
        let addr = endpoint.bound_sockets().into_iter().find(std::net::SocketAddr::is_ipv4).unwrap();
        victim.add_address(id, addr);
        let (told, kinds) = tokio::sync::mpsc::unbounded_channel();
        let listening = endpoint.clone();
        let serving = tokio::spawn(async move {
            let conn = listening.accept().await.unwrap().await.unwrap();
            let mut held = Vec::new();
            while let Ok((mut send, mut recv)) = conn.accept_bi().await {
                let Some(kind) = kind_of(&mut recv).await else { continue };
                let _ = told.send(kind);
                match kind {
                    StreamKind::Session => {
                        let mut welcome = BytesMut::new();
                        Frame::Welcome { version: 1, message_max: 1 << 20, next: 0 }.encode(&mut welcome);
                        send.write_all(&welcome).await.unwrap();
                    }
                    StreamKind::Policy => reply(answer, &mut send, &mut recv).await,
                    StreamKind::Bytes
                    | StreamKind::Resume
                    | StreamKind::Datagrams
                    | StreamKind::Nat
                    | StreamKind::Relays
                    | StreamKind::CallBack => {}
                }
                held.push((send, recv));
            }
        });
        Self { id, kinds, endpoint, _serving: serving }
    }
}

async fn kind_of(recv: &mut RecvStream) -> Option<StreamKind> {
    let mut length = [0; StreamHeader::LENGTH_BYTES];
    recv.read_exact(&mut length).await.ok()?;
    let mut body = vec![0; u16::from_be_bytes(length).into()];
    recv.read_exact(&mut body).await.ok()?;
    Some(StreamHeader::decode(&body).ok()?.kind)
}

/// Answers a proposal; the victim may have given up in the middle, which is none of the attacker's business.
async fn reply(answer: Answer, send: &mut SendStream, recv: &mut RecvStream) {
    let mut length = [0; PolicyFrame::LENGTH_BYTES];
    recv.read_exact(&mut length).await.unwrap();
    let mut body = vec![0; u16::from_be_bytes(length).into()];
    recv.read_exact(&mut body).await.unwrap();
    let PolicyFrame::Apply { revision, policy } = PolicyFrame::decode(&body).unwrap() else {
        panic!("a change begins with apply")
    };
    let mut out = BytesMut::new();
    match answer {
        Answer::Silence => {}
        Answer::Lies => {
            for wrong in [0, revision + 1, u64::MAX >> 2] {
                PolicyFrame::Ack { revision: wrong }.encode(&mut out);
                PolicyFrame::Refuse { revision: wrong, reason: "no".into() }.encode(&mut out);
            }
            PolicyFrame::Apply { revision, policy }.encode(&mut out);
            out.extend_from_slice(&[0, 9, 0xff, 0xff]);
        }
        Answer::Refusal(reason) => PolicyFrame::Refuse { revision, reason: reason.into() }.encode(&mut out),
    }
    let _ = send.write_all(&out).await;
}
