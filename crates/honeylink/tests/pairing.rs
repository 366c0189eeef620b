//! Pairing between real nodes on loopback: discovery finds the device that shows the code, the ceremony runs over QUIC,
//! and both trust stores agree afterwards.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;

use honeylink::node::{JoinError, PairingEvent, PairingOpening, PairingOptions};
use honeylink::pairing::{Code, Errand, Invite, PairingError, Purpose, SasPrompt};
use honeylink::store::{PairError, PeerRecord, Trust};
use honeylink::{Node, Reach};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::sync::mpsc;

const PATIENCE: Duration = Duration::from_secs(30);

async fn soon<T>(what: &str, future: impl Future<Output = T>) -> T {
    match tokio::time::timeout(PATIENCE, future).await {
        Ok(value) => value,
        Err(_) => panic!("waited too long: {what}"),
    }
}

/// Each test meets only its own nodes.
fn own_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let base = 20_000 + u16::try_from(std::process::id() % 20_000).unwrap();
    base + NEXT.fetch_add(1, Ordering::Relaxed)
}

async fn node(name: &str, port: u16) -> Node {
    Node::builder().name(name).reach(Reach::Loopback).discovery_port(port).build().await.unwrap()
}

async fn pair_of_nodes() -> (Node, Node) {
    let port = own_port();
    (node("host", port).await, node("guest", port).await)
}

fn typed(opening: &PairingOpening) -> Errand {
    Errand::Code(Code::parse(&opening.code).unwrap(), Purpose::Pair)
}

/// A code that differs from the open one in its words, not in its number.
fn mistyped(opening: &PairingOpening) -> Errand {
    let number = opening.code.split('-').next().unwrap();
    let wrong = ["able-acid", "acid-able"].map(|words| format!("{number}-{words}"));
    let wrong = wrong.into_iter().find(|w| *w != opening.code && Code::parse(w).is_ok());
    Errand::Code(Code::parse(&wrong.unwrap_or_else(|| any_other(opening))).unwrap(), Purpose::Pair)
}

fn any_other(opening: &PairingOpening) -> String {
    let mut parts: Vec<_> = opening.code.split('-').collect();
    parts.swap(1, 2);
    parts.join("-")
}

/// Nobody is asked anything.
fn no_prompts() -> mpsc::Sender<SasPrompt> {
    mpsc::channel(1).0
}

/// Says yes to every comparison, after looking at what is shown.
fn agreeable() -> (mpsc::Sender<SasPrompt>, tokio::task::JoinHandle<Vec<String>>) {
    let (sender, mut prompts) = mpsc::channel::<SasPrompt>(1);
    let person = tokio::spawn(async move {
        let mut shown = vec![];
        while let Some(prompt) = prompts.recv().await {
            shown.push(prompt.sas.digits().to_string());
            prompt.answer.send(true).unwrap();
        }
        shown
    });
    (sender, person)
}

async fn paired(opening: &mut PairingOpening) -> PeerRecord {
    loop {
        match soon("event", opening.next()).await.unwrap() {
            PairingEvent::Paired(record) => return *record,
            PairingEvent::Compare(prompt) => prompt.answer.send(true).unwrap(),
            PairingEvent::Knock(_) => {}
            other @ (PairingEvent::Failed(_) | PairingEvent::NotRecorded(_) | PairingEvent::Fetch(_)) => {
                panic!("{other:?}")
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_typed_code_pairs_both_sides_and_links_open_by_name() {
    let (host, guest) = pair_of_nodes().await;
    let mut opening = host.open_pairing(PairingOptions::default()).unwrap();
    let joined =
        soon("join", guest.join_pairing(typed(&opening), None, PairingOptions::default(), no_prompts()));
    let (record, at_host) = tokio::join!(joined, paired(&mut opening));
    let record = record.unwrap();
    assert_eq!((record.id, record.name.as_str(), record.trust), (host.id(), "host", Trust::Paired));
    assert_eq!((at_host.id, at_host.name.as_str()), (guest.id(), "guest"));
    assert!(!opening.is_open(), "a code is good for one ceremony");
    let mut listener = guest.listen("p/1").unwrap();
    let link = soon("connect", host.connect("guest", "p/1")).await.unwrap();
    link.send("hello").await.unwrap();
    let other = soon("accept", listener.accept()).await.unwrap();
    assert_eq!(soon("recv", other.recv()).await.unwrap(), "hello");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_invite_needs_no_discovery_and_compared_strings_verify() {
    let host = Node::builder().name("host").reach(Reach::Loopback).discovery(false).build().await.unwrap();
    let guest = Node::builder().name("guest").reach(Reach::Loopback).discovery(false).build().await.unwrap();
    let options = PairingOptions { verify: true, ..PairingOptions::default() };
    let mut opening = host.open_pairing(options.clone()).unwrap();
    let invite = Errand::Invite(Invite::parse(&opening.invite).unwrap());
    let (prompts, person) = agreeable();
    let joined = soon("join", guest.join_pairing(invite, None, options, prompts));
    let (record, at_host) = tokio::join!(joined, paired(&mut opening));
    assert_eq!((record.unwrap().trust, at_host.trust), (Trust::Verified, Trust::Verified));
    assert_eq!(soon("person", person).await.unwrap().len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_wrong_codes_lock_pairing_and_trust_nobody() {
    let (host, guest) = pair_of_nodes().await;
    let mut opening = host.open_pairing(PairingOptions::default()).unwrap();
    let wrong = mistyped(&opening);
    let right = typed(&opening);
    let events = tokio::spawn(async move {
        let mut failures = 0;
        while let Some(event) = opening.next().await {
            failures += u32::from(matches!(event, PairingEvent::Failed(_)));
            if failures == 4 {
                break;
            }
        }
        failures
    });
    for _ in 0..3 {
        let options = PairingOptions::default();
        let error = soon("join", guest.join_pairing(wrong.clone(), Some(host.id()), options, no_prompts()))
            .await
            .unwrap_err();
        assert!(matches!(error, JoinError::Ceremony(PairingError::Refused(_))), "{error}");
    }
    let options = PairingOptions::default();
    let error = soon("join", guest.join_pairing(right, Some(host.id()), options, no_prompts())).await;
    assert!(error.is_err(), "the right code came after three wrong ones");
    assert!(host.open_pairing(PairingOptions::default()).is_err());
    assert!(!host.store().trust().is_trusted(&guest.id()));
    events.abort();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_closed_opening_turns_devices_away() {
    let (host, guest) = pair_of_nodes().await;
    let opening = host.open_pairing(PairingOptions::default()).unwrap();
    let errand = typed(&opening);
    drop(opening);
    let options = PairingOptions::default();
    let error = soon("join", guest.join_pairing(errand, Some(host.id()), options, no_prompts())).await;
    assert!(matches!(error, Err(JoinError::NotOpen)), "{error:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_known_name_under_another_key_is_refused_and_shows_both_fingerprints() {
    let port = own_port();
    let (host, guest) = (node("studio", port).await, node("guest", port).await);
    let mut opening = host.open_pairing(PairingOptions::default()).unwrap();
    let joined =
        soon("join", guest.join_pairing(typed(&opening), None, PairingOptions::default(), no_prompts()));
    let (first, _) = tokio::join!(joined, paired(&mut opening));
    first.unwrap();
    host.shutdown().await;
    let impostor = node("studio", port).await;
    let opening = impostor.open_pairing(PairingOptions::default()).unwrap();
    let options = PairingOptions::default();
    let error = soon("join", guest.join_pairing(typed(&opening), Some(impostor.id()), options, no_prompts()))
        .await
        .unwrap_err();
    assert!(matches!(error, JoinError::Record(PairError::NameTaken(_))), "{error}");
    let shown = error.to_string();
    assert!(shown.contains(&host.id().fingerprint()) && shown.contains(&impostor.id().fingerprint()));
    assert!(!guest.store().trust().is_trusted(&impostor.id()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_fetch_code_opens_one_stream_and_no_lasting_trust() {
    let (host, guest) = pair_of_nodes().await;
    let mut opening = host.open_fetch(PairingOptions::default()).unwrap();
    let code = Code::parse(&opening.code).unwrap();
    let sending = tokio::spawn(async move {
        loop {
            if let PairingEvent::Fetch(mut stream) = opening.next().await.unwrap() {
                stream.send.write_all(b"the file").await.unwrap();
                stream.send.finish().await.unwrap();
                stream.closed().await;
                return;
            }
        }
    });
    let mut stream = soon("join", guest.join_fetch(Errand::Code(code, Purpose::Fetch))).await.unwrap();
    let mut got = String::new();
    soon("read", stream.recv.read_to_string(&mut got)).await.unwrap();
    stream.close();
    assert_eq!(got, "the file");
    soon("sender", sending).await.unwrap();
    for (here, there) in [(&host, &guest), (&guest, &host)] {
        assert!(!here.store().trust().is_trusted(&there.id()));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn forgetting_a_peer_ends_its_links_and_refuses_new_ones() {
    let (host, guest) = pair_of_nodes().await;
    let mut opening = host.open_pairing(PairingOptions::default()).unwrap();
    let joined =
        soon("join", guest.join_pairing(typed(&opening), None, PairingOptions::default(), no_prompts()));
    let (record, _) = tokio::join!(joined, paired(&mut opening));
    record.unwrap();
    let _listener = host.listen("p/1").unwrap();
    let link = soon("connect", guest.connect(host.id(), "p/1")).await.unwrap();
    host.forget_peer(guest.id()).await.unwrap();
    assert!(soon("recv", link.recv()).await.is_err());
    assert!(soon("connect", guest.connect(host.id(), "p/1")).await.is_err());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn trust_and_sessions_leave_lines_in_the_audit_log_and_survive_a_restart() {
    let (port, home) = (own_port(), tempfile::tempdir().unwrap());
    let folder = home.path().join("device");
    let at_home = || {
        Node::builder().name("host").reach(Reach::Loopback).discovery_port(port).home(folder.clone()).build()
    };
    let host = at_home().await.unwrap();
    let guest = node("guest", port).await;
    let mut opening = host.open_pairing(PairingOptions::default()).unwrap();
    let joined =
        soon("join", guest.join_pairing(typed(&opening), None, PairingOptions::default(), no_prompts()));
    let (record, _) = tokio::join!(joined, paired(&mut opening));
    record.unwrap();
    drop(opening);
    let _listener = guest.listen("p/1").unwrap();
    let link = soon("connect", host.connect("guest", "p/1")).await.unwrap();
    drop(link);
    let stranger = node("stranger", port).await;
    let trust = stranger.store().trust();
    let unknown = honeylink::store::NewPeer {
        id: host.id(),
        name: None,
        announced_name: "host".into(),
        device_type: host.device_type(),
        method: honeylink::store::PairingMethod::Code,
    };
    trust.pair(&unknown, honeylink::store::OnNameTaken::Refuse, 0).unwrap();
    assert!(soon("refused", stranger.connect(host.id(), "p/1")).await.is_err());
    let id = host.id();
    soon("shutdown", host.shutdown()).await;
    drop(host);
    let log = std::fs::read_to_string(folder.join("audit/audit.jsonl")).unwrap();
    for event in ["paired", "session_established", "session_rejected"] {
        assert!(log.contains(&format!("\"event\":\"{event}\"")), "{event} is missing in {log}");
    }
    let again = at_home().await.unwrap();
    assert_eq!(again.id(), id);
    assert!(again.store().trust().is_trusted(&guest.id()));
}
