//! What is sent arrives, whatever it is.

use super::*;
use proptest::prelude::*;
use std::os::unix::fs::MetadataExt;

#[tokio::test]
async fn a_file_arrives_with_its_time_and_its_digest() {
    let (from, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let file = from.path().join("big.bin");
    let content = noise(1, 3_000_001);
    write(&file, &content);
    let (sent, received) = transfer(std::slice::from_ref(&file), to.path()).await;
    let (sent, received) = (sent.unwrap(), received.unwrap());
    let placed = to.path().join("big.bin");
    assert_eq!(std::fs::read(&placed).unwrap(), content);
    assert_eq!(sent.digest, *blake3::hash(&content).as_bytes());
    assert_eq!(received.digest, sent.digest);
    assert_eq!(received.placed, std::slice::from_ref(&placed));
    assert_eq!((sent.files, sent.bytes, sent.bytes_kept), (1, 3_000_001, 0));
    let (a, b) = (file.metadata().unwrap(), placed.metadata().unwrap());
    assert_eq!((a.mtime(), a.mtime_nsec()), (b.mtime(), b.mtime_nsec()));
    assert_eq!(names_in(to.path()), ["big.bin"]);
}

#[tokio::test]
async fn a_tree_arrives_whole_with_empty_folders_and_executable_bits() {
    let (from, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let root = from.path().join("tree");
    write(&root.join("a/b/c/deep.txt"), b"deep");
    write(&root.join("a.txt"), b"");
    write(&root.join("big"), &noise(2, 700_000));
    write(&root.join("a/run.sh"), b"#!/bin/sh\n");
    std::fs::set_permissions(root.join("a/run.sh"), std::fs::Permissions::from_mode(0o755)).unwrap();
    std::fs::create_dir_all(root.join("empty/inner")).unwrap();
    // More than the window.
    for i in 0..2100 {
        write(&root.join(format!("many/{i}")), &noise(i, 100));
    }
    let (sent, received) = transfer(std::slice::from_ref(&root), to.path()).await;
    let (sent, received) = (sent.unwrap(), received.unwrap());
    assert_eq!(sent.files, 2104);
    assert_eq!(sent.digest, received.digest);
    assert!(tree(&root) == tree(&to.path().join("tree")));
}

#[tokio::test]
async fn nothing_at_all_and_an_empty_folder_and_an_empty_file_arrive() {
    let (from, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let folder = from.path().join("void");
    let file = from.path().join("zero");
    std::fs::create_dir(&folder).unwrap();
    write(&file, b"");
    let (sent, received) = transfer(&[folder, file], to.path()).await;
    sent.unwrap();
    assert_eq!(received.unwrap().placed_count, 2);
    assert_eq!(names_in(to.path()), ["void", "zero"]);
}

#[tokio::test]
async fn a_taken_name_is_numbered_and_nothing_is_replaced() {
    let (from, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let file = from.path().join("note.txt");
    write(&file, b"new");
    write(&to.path().join("note.txt"), b"old");
    let (_, received) = transfer(&[file], to.path()).await;
    assert_eq!(received.unwrap().placed, [to.path().join("note (2).txt")]);
    assert_eq!(std::fs::read(to.path().join("note.txt")).unwrap(), b"old");
    assert_eq!(std::fs::read(to.path().join("note (2).txt")).unwrap(), b"new");
}

#[tokio::test]
async fn links_and_sockets_are_left_out_with_a_note_and_never_followed() {
    let (from, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    write(&from.path().join("secret"), b"secret");
    let root = from.path().join("tree");
    write(&root.join("fine"), b"fine");
    std::os::unix::fs::symlink(from.path().join("secret"), root.join("link")).unwrap();
    let _socket = std::os::unix::net::UnixListener::bind(root.join("socket")).unwrap();
    let (sent, _) = transfer(std::slice::from_ref(&root), to.path()).await;
    let sent = sent.unwrap();
    assert_eq!(sent.notes_count, 2);
    assert_eq!(
        sent.notes,
        [
            Note::SkippedLink(root.canonicalize().unwrap().join("link")),
            Note::SkippedSpecial(root.canonicalize().unwrap().join("socket"))
        ]
    );
    assert_eq!(names_in(&to.path().join("tree")), ["fine"]);
}

#[tokio::test]
async fn two_sources_of_the_same_name_both_arrive() {
    let (from, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (a, b) = (from.path().join("a/x.txt"), from.path().join("b/x.txt"));
    write(&a, b"a");
    write(&b, b"b");
    transfer(&[a, b], to.path()).await.0.unwrap();
    assert_eq!(std::fs::read(to.path().join("x.txt")).unwrap(), b"a");
    assert_eq!(std::fs::read(to.path().join("x (2).txt")).unwrap(), b"b");
}

#[tokio::test]
async fn a_declined_offer_writes_nothing() {
    let (from, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let file = from.path().join("x");
    write(&file, b"x");
    let ((sr, sw), (rr, rw)) = stream(4096);
    let sources = Sources::new([&file]).unwrap();
    let decide = |offer: Offer| async move {
        assert_eq!((offer.name.as_str(), offer.files, offer.bytes), ("x", 1, 1));
        Decision::Decline("not today".into())
    };
    let (handle_a, handle_b) = (Handle::new(), Handle::new());
    let (sent, received) = tokio::join!(
        send(sr, sw, sources, SendOptions { id: [0; 16] }, &handle_a),
        receive(rr, rw, to.path(), decide, options(), &handle_b),
    );
    assert!(matches!(sent, Err(SendError::Declined { text, .. }) if text == "not today"));
    assert!(matches!(received, Err(ReceiveError::Declined)));
    assert!(names_in(to.path()).is_empty());
}

#[tokio::test]
async fn progress_ends_at_the_total_and_a_pause_stops_the_bytes() {
    let (from, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let file = from.path().join("x");
    write(&file, &noise(3, 8 << 20));
    let ((sr, sw), (rr, rw)) = stream(64 << 10);
    let sources = Sources::new([&file]).unwrap();
    let (handle_a, handle_b) = (Handle::new(), Handle::new());
    handle_a.pause();
    let mut progress = handle_b.progress();
    let steer = async {
        // The offer goes out although paused; content does not.
        progress.wait_for(|p| p.bytes_total == 8 << 20).await.unwrap();
        tokio::task::yield_now().await;
        assert_eq!(progress.borrow().bytes_done, 0);
        handle_a.unpause();
    };
    let (sent, received, ()) = tokio::join!(
        send(sr, sw, sources, SendOptions { id: [0; 16] }, &handle_a),
        receive(rr, rw, to.path(), accept, options(), &handle_b),
        steer,
    );
    sent.unwrap();
    received.unwrap();
    for handle in [handle_a, handle_b] {
        let last = handle.progress().borrow().clone();
        assert_eq!((last.bytes_done, last.files_done), (8 << 20, 1));
        assert!(last.rate > 0.0);
    }
}

#[tokio::test]
async fn a_pipe_carries_everything_and_then_the_end() {
    let (mut near, far) = tokio::io::duplex(1000);
    let content = noise(4, 200_000);
    let copied = tokio::spawn(async move {
        let mut out = Vec::new();
        let copied = copy_pipe(far, std::io::Cursor::new(&mut out)).await.unwrap();
        (copied, out)
    });
    assert_eq!(copy_pipe(content.as_slice(), &mut near).await.unwrap(), 200_000);
    assert_eq!(copied.await.unwrap(), (200_000, content));
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_set_of_names_and_sizes_arrives(
        files in proptest::collection::btree_map("[^/\0]{1,12}(/[a-zA-Z.: é\u{202e}]{1,8}){0,3}", 0usize..200_000, 1..12),
    ) {
        let (from, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let root = from.path().join("root");
        std::fs::create_dir(&root).unwrap();
        let mut contents = Vec::new();
        for (i, (name, size)) in files.iter().enumerate() {
            let path = root.join(name);
            // Some combinations cannot exist here either: `.`, a file where another needs a folder.
            if std::fs::create_dir_all(path.parent().unwrap()).is_ok() && !path.exists() {
                let content = noise(i as u64, *size);
                if std::fs::write(&path, &content).is_ok() {
                    contents.push(content);
                }
            }
        }
        let (sent, received) = runtime().block_on(transfer(std::slice::from_ref(&root), to.path()));
        prop_assert_eq!(sent.unwrap().digest, received.unwrap().digest);
        let mut arrived: Vec<_> = tree(&to.path().join("root")).into_values().flatten().map(|(c, _)| c).collect();
        arrived.sort();
        contents.sort();
        prop_assert!(arrived == contents);
    }
}
