//! A counterpart that does not keep to the protocol gets an error, and nothing of it gets a final name.

use super::*;
use bytes::{BufMut, BytesMut};
use honeylink_core::transfer::frame::{
    Body, Claim, Entry, HEADER_BYTES, Header, Kind, Message, Modified, put_whole,
};
use proptest::prelude::*;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

fn file(path: &str, size: u64) -> Entry {
    let modified = Modified { seconds: 0, nanos: 0 };
    Entry { path: path.into(), body: Body::File { size, executable: false, modified } }
}

fn offer(files: u64, bytes: u64) -> Message {
    Message::Offer(Offer { id: [9; 16], name: "gift".into(), entries: files, files, bytes })
}

fn data(out: &mut BytesMut, content: &[u8]) {
    out.put_slice(&Header { kind: Kind::Data, len: content.len() }.encode());
    out.put_slice(content);
}

/// What a receiver makes of these bytes.
async fn received(bytes: &[u8], into: &Path) -> Result<ReceiveReport, ReceiveError> {
    let ((mut sr, mut sw), (rr, rw)) = stream(64 << 10);
    let sender = async {
        // The offer first; the rest when it is accepted.
        let (offer, after) = bytes.split_at(HEADER_BYTES + usize::from(bytes[3]));
        let _ = sw.write_all(offer).await;
        let mut rest = vec![0; HEADER_BYTES + 1];
        let _ = sr.read_exact(&mut rest).await;
        let _ = sw.write_all(after).await;
        let _ = sw.shutdown().await;
        let _ = sr.read_to_end(&mut rest).await;
    };
    let handle = Handle::new();
    let outcome = tokio::join!(sender, receive(rr, rw, into, accept, options(), &handle)).1;
    if outcome.is_err() {
        let names = names_in(into);
        assert!(names.iter().all(|name| name.ends_with(".part")), "{names:?}");
    }
    outcome
}

/// Frames of a sender that wants to send `files`, then `rest`.
fn frames(files: &[Entry], bytes: u64, rest: impl FnOnce(&mut BytesMut)) -> BytesMut {
    let mut out = BytesMut::new();
    offer(files.len() as u64, bytes).encode(&mut out);
    Message::List { first: 0, entries: files.to_vec() }.encode(&mut out);
    rest(&mut out);
    out
}

#[tokio::test]
async fn names_that_escape_are_refused() {
    for path in ["../../etc/cron.d/x", "/etc/passwd", "C:\\x", "a\\..\\..\\x", "a/../../b", "a\0b"] {
        let to = tempfile::tempdir().unwrap();
        let inside = to.path().join("inside");
        let outcome = received(&frames(&[file(path, 0)], 0, |_| {}), &inside).await;
        assert!(matches!(outcome, Err(ReceiveError::Violation(_))), "{path:?}: {outcome:?}");
        assert_eq!(names_in(to.path()), ["inside"]);
    }
}

#[tokio::test]
async fn a_deceiving_name_is_repaired_and_marked() {
    let to = tempfile::tempdir().unwrap();
    let hash = *blake3::hash(b"hi").as_bytes();
    let bytes = frames(&[file("photo\u{202e}gpj.exe", 2)], 2, |out| {
        put_whole(out, 0, &hash, 2);
        out.put_slice(b"hi");
        Message::Finish { digest: hash }.encode(out);
    });
    received(&bytes, to.path()).await.unwrap();
    let names = names_in(to.path());
    assert!(names[0].starts_with("photo_gpj~") && names[0].ends_with(".exe"), "{names:?}");
}

#[tokio::test]
async fn a_person_is_shown_a_name_that_cannot_steer_a_terminal() {
    let to = tempfile::tempdir().unwrap();
    let ((_sr, mut sw), (rr, rw)) = stream(64 << 10);
    let name = "\u{1b}[2Jphoto\u{202e}gpj.exe".to_owned();
    let offer = Message::Offer(Offer { id: [9; 16], name, entries: 0, files: 0, bytes: 0 });
    sw.write_all(&wire::encoded(&offer)).await.unwrap();
    let mut shown = String::new();
    let decide = async |offer: Offer| {
        shown = offer.name;
        Decision::Decline("no".into())
    };
    let outcome = receive(rr, rw, to.path(), decide, options(), &Handle::new()).await;
    assert!(matches!(outcome, Err(ReceiveError::Declined)), "{outcome:?}");
    assert_eq!(shown, "_[2Jphoto_gpj.exe");
}

#[tokio::test]
async fn a_stop_is_heard_behind_any_number_of_claims() {
    let from = tempfile::tempdir().unwrap();
    for i in 0..100 {
        write(&from.path().join(format!("tree/{i:03}")), &noise(i, 1 << 20));
    }
    let ((sr, sw), (mut rr, mut rw)) = stream(4 << 10);
    let receiver = async {
        rw.write_all(&wire::encoded(&Message::Accept { resume: true })).await.unwrap();
        for upto in 1..=101 {
            rw.write_all(&wire::encoded(&Message::Have { upto, claims: vec![] })).await.unwrap();
        }
        let full = Message::Stop { reason: Reason::NoSpace, text: "full".into() };
        rw.write_all(&wire::encoded(&full)).await.unwrap();
        // Nothing is read any more; the sender's file thread waits for room in the stream.
        rr.read_exact(&mut [0; 1]).await.unwrap();
        (rr, rw)
    };
    let handle = Handle::new();
    let sources = Sources::new([from.path().join("tree")]).unwrap();
    let (sent, _open) = tokio::join!(send(sr, sw, sources, SendOptions { id: [0; 16] }, &handle), receiver);
    assert!(matches!(sent, Err(SendError::Stopped { reason: Reason::NoSpace, .. })), "{sent:?}");
}

#[tokio::test]
async fn more_or_fewer_bytes_than_listed_are_refused() {
    let to = tempfile::tempdir().unwrap();
    let hash = *blake3::hash(&[0; 10]).as_bytes();
    for len in [9, 11] {
        let bytes = frames(&[file("x", 10)], 10, |out| {
            Message::Start { index: 0, offset: 0 }.encode(out);
            data(out, &vec![0; len]);
            Message::End { hash }.encode(out);
            Message::Finish { digest: hash }.encode(out);
        });
        let outcome = received(&bytes, to.path()).await;
        assert!(matches!(outcome, Err(ReceiveError::Violation(_))), "{len}: {outcome:?}");
    }
    let outcome = received(&frames(&[file("x", 10)], 5, |_| {}), to.path()).await;
    assert!(matches!(outcome, Err(ReceiveError::Violation(_))), "{outcome:?}");
}

#[tokio::test]
async fn a_wrong_hash_keeps_a_file_from_its_name() {
    for whole in [true, false] {
        let to = tempfile::tempdir().unwrap();
        let bytes = frames(&[file("x", 3)], 3, |out| {
            if whole {
                put_whole(out, 0, &[1; 32], 3);
                out.put_slice(b"abc");
            } else {
                Message::Start { index: 0, offset: 0 }.encode(out);
                data(out, b"abc");
                Message::End { hash: [1; 32] }.encode(out);
            }
            Message::Finish { digest: [1; 32] }.encode(out);
        });
        let outcome = received(&bytes, to.path()).await;
        assert!(matches!(&outcome, Err(ReceiveError::Corrupt { path }) if path == "x"), "{outcome:?}");
    }
}

#[tokio::test]
async fn an_endless_listing_is_cut_off() {
    let to = tempfile::tempdir().unwrap();
    let mut out = BytesMut::new();
    offer(1_000_000, 0).encode(&mut out);
    for first in (0..4000u64).step_by(100) {
        let entries = (first..first + 100).map(|i| file(&format!("{i:08}"), 0)).collect();
        Message::List { first, entries }.encode(&mut out);
    }
    let outcome = received(&out, to.path()).await;
    assert!(matches!(outcome, Err(ReceiveError::Violation(_))), "{outcome:?}");
}

#[tokio::test]
async fn an_offset_nobody_claimed_is_refused() {
    let to = tempfile::tempdir().unwrap();
    let bytes = frames(&[file("x", 10)], 10, |out| Message::Start { index: 0, offset: 5 }.encode(out));
    let outcome = received(&bytes, to.path()).await;
    assert!(matches!(outcome, Err(ReceiveError::Violation(_))), "{outcome:?}");
}

#[tokio::test]
async fn a_link_planted_in_the_staging_folder_is_not_written_through() {
    let (from, to, victim) =
        (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let root = from.path().join("tree");
    write(&root.join("sub/x"), b"new");
    write(&root.join("y"), b"new");
    write(&victim.path().join("x"), b"precious");
    let sources = Sources::new([&root]).unwrap();
    let offer = Offer { id: sources.id(b"test"), name: "tree".into(), entries: 4, files: 2, bytes: 6 };
    let staged = staging::Staging::open(to.path(), &offer, b"", std::time::Duration::ZERO).unwrap();
    std::fs::create_dir(staged.path.join("tree")).unwrap();
    std::os::unix::fs::symlink(victim.path(), staged.path.join("tree/sub")).unwrap();
    std::os::unix::fs::symlink(victim.path().join("x"), staged.path.join("tree/y")).unwrap();
    drop(staged);
    let (sent, received) = transfer(std::slice::from_ref(&root), to.path()).await;
    sent.unwrap();
    received.unwrap();
    assert_eq!(std::fs::read(victim.path().join("x")).unwrap(), b"precious");
    assert!(tree(&root) == tree(&to.path().join("tree")));
}

#[tokio::test]
async fn a_receiver_that_claims_nonsense_gets_the_whole_file() {
    let from = tempfile::tempdir().unwrap();
    let path = from.path().join("x");
    let content = noise(1, 300_000);
    write(&path, &content);
    for claim in [
        Claim { index: 0, offset: u64::MAX >> 2, prefix: [0; 32] },
        Claim { index: 0, offset: 100, prefix: [0; 32] },
        Claim { index: 77, offset: 0, prefix: [0; 32] },
    ] {
        let ((sr, sw), (mut rr, mut rw)) = stream(1 << 20);
        let receiver = async {
            let offer = wire::read_message(&mut rr).await.unwrap();
            assert!(matches!(offer, Message::Offer(_)));
            rw.write_all(&wire::encoded(&Message::Accept { resume: true })).await.unwrap();
            rw.write_all(&wire::encoded(&Message::Have { upto: 1, claims: vec![claim] })).await.unwrap();
            let mut got = Vec::new();
            loop {
                let header = wire::read_header(&mut rr).await.unwrap();
                if header.kind == Kind::Data {
                    let at = got.len();
                    got.resize(at + header.len, 0);
                    rr.read_exact(&mut got[at..]).await.unwrap();
                } else if let Message::Finish { digest } = wire::read_body(&mut rr, header).await.unwrap() {
                    rw.write_all(&wire::encoded(&Message::Receipt { digest })).await.unwrap();
                    break;
                }
            }
            got
        };
        let handle = Handle::new();
        let sources = Sources::new([&path]).unwrap();
        let (sent, got) = tokio::join!(send(sr, sw, sources, SendOptions { id: [0; 16] }, &handle), receiver);
        sent.unwrap();
        assert!(got == content);
    }
}

#[tokio::test]
async fn a_receiver_that_confirms_something_else_or_too_early_is_not_believed() {
    let from = tempfile::tempdir().unwrap();
    let path = from.path().join("x");
    write(&path, &noise(1, 300_000));
    for reply in [Message::Receipt { digest: [7; 32] }, Message::Finish { digest: [7; 32] }] {
        let ((sr, sw), (mut rr, mut rw)) = stream(1 << 20);
        let receiver = async {
            rw.write_all(&wire::encoded(&Message::Accept { resume: false })).await.unwrap();
            rw.write_all(&wire::encoded(&reply)).await.unwrap();
            let mut rest = Vec::new();
            let _ = rr.read_to_end(&mut rest).await;
        };
        let handle = Handle::new();
        let sources = Sources::new([&path]).unwrap();
        let (sent, ()) = tokio::join!(send(sr, sw, sources, SendOptions { id: [0; 16] }, &handle), receiver);
        assert!(matches!(sent, Err(SendError::Unexpected | SendError::Mismatch)), "{sent:?}");
    }
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    /// An honest conversation with one byte changed either fails or still ends in verified bytes.
    #[test]
    fn one_flipped_byte_never_ends_in_wrong_content(at in any::<prop::sample::Index>(), flip in 1u8..) {
        let content = noise(5, 2000);
        let hash = *blake3::hash(&content).as_bytes();
        let mut bytes = frames(&[file("x", 2000)], 2000, |out| {
            Message::Start { index: 0, offset: 0 }.encode(out);
            data(out, &content);
            Message::End { hash }.encode(out);
            Message::Finish { digest: hash }.encode(out);
        });
        let at = at.index(bytes.len());
        bytes[at] ^= flip;
        // A longer offer than was sent would only wait for more.
        prop_assume!(at >= HEADER_BYTES);
        let to = tempfile::tempdir().unwrap();
        if let Ok(report) = runtime().block_on(received(&bytes, to.path())) {
            let placed = std::fs::read(&report.placed[0]).unwrap();
            prop_assert!(placed == content);
        }
    }

    #[test]
    fn random_frames_end_in_an_error(kinds in proptest::collection::vec((any::<u8>(), 0usize..300), 1..20)) {
        let mut bytes = BytesMut::new();
        offer(3, 1000).encode(&mut bytes);
        for (kind, len) in kinds {
            bytes.put_slice(&[kind % 20, 0, (len >> 8) as u8, len as u8]);
            bytes.put_slice(&noise(len as u64, len));
        }
        let to = tempfile::tempdir().unwrap();
        prop_assert!(runtime().block_on(received(&bytes, to.path())).is_err());
    }
}
