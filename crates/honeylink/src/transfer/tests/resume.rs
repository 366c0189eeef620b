//! Interrupted transfers continue, and never end in wrong bytes.

use super::*;
use honeylink_core::transfer::frame::Message;
use std::pin::pin;
use std::time::Duration;

/// Runs both ends until `bytes` have crossed the stream, then drops both, as a killed process would. Returns the reports
/// if it came to an end before.
async fn interrupted(paths: &[PathBuf], into: &Path, bytes: u64) -> Option<(SendReport, ReceiveReport)> {
    let ((sr, sw), (rr, rw)) = stream(64 << 10);
    let (rr, reached, _shut) = Gate::after(bytes, rr);
    let sources = Sources::new(paths).unwrap();
    let id = sources.id(b"test");
    let (handle_a, handle_b) = (Handle::new(), Handle::new());
    let mut both = pin!(async {
        tokio::join!(
            send(sr, sw, sources, SendOptions { id }, &handle_a),
            receive(rr, rw, into, accept, options(), &handle_b),
        )
    });
    tokio::select! {
        biased;
        Ok(()) = reached => None,
        (sent, received) = &mut both => Some((sent.unwrap(), received.unwrap())),
    }
}

fn sample(root: &Path) {
    write(&root.join("one.bin"), &noise(1, 5_000_000));
    for i in 0..300 {
        write(&root.join(format!("many/{i:03}")), &noise(i, 4096));
    }
    write(&root.join("two.bin"), &noise(2, 3_000_000));
    std::fs::create_dir_all(root.join("void")).unwrap();
}

#[tokio::test]
async fn a_transfer_killed_again_and_again_ends_in_the_same_bytes() {
    let (from, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let root = from.path().join("tree");
    sample(&root);
    for round in 0..12u64 {
        if interrupted(std::slice::from_ref(&root), to.path(), 1000 + round * 650_000).await.is_some() {
            break;
        }
        let names = names_in(to.path());
        assert!(names.iter().all(|name| name.ends_with(".part")), "{names:?} after {round} kills");
    }
    let (sent, received) = transfer(std::slice::from_ref(&root), to.path()).await;
    let (sent, received) = (sent.unwrap(), received.unwrap());
    assert_eq!(sent.digest, received.digest);
    let name = received.placed.first().unwrap().clone();
    assert!(tree(&root) == tree(&name));
    assert!(names_in(to.path()).iter().all(|name| !name.ends_with(".part")));
}

#[tokio::test]
async fn what_arrived_is_not_sent_again() {
    let (from, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let file = from.path().join("big");
    let content = noise(7, 40 << 20);
    write(&file, &content);
    assert!(interrupted(std::slice::from_ref(&file), to.path(), 30 << 20).await.is_none());
    let (sent, received) = transfer(std::slice::from_ref(&file), to.path()).await;
    let kept = sent.unwrap().bytes_kept;
    // What was in memory when the receiver died is lost; the rest is not.
    assert!(kept >= (25 << 20), "kept only {kept}");
    assert_eq!(received.unwrap().bytes_kept, kept);
    assert!(std::fs::read(to.path().join("big")).unwrap() == content);
}

/// As [`transfer`], of what may be in place already.
async fn transfer_again(paths: &[PathBuf], into: &Path) -> Vec<PathBuf> {
    let ((sr, sw), (rr, rw)) = stream(64 << 10);
    let sources = Sources::new(paths).unwrap();
    let id = sources.id(b"test");
    let (handle_a, handle_b) = (Handle::new(), Handle::new());
    let (sent, received) = tokio::join!(
        send(sr, sw, sources, SendOptions { id }, &handle_a),
        receive(rr, rw, into, async |_| Decision::AcceptAgain, options(), &handle_b),
    );
    sent.unwrap();
    received.unwrap().placed
}

#[tokio::test]
async fn what_lies_in_its_place_byte_by_byte_the_same_is_not_placed_again_after_a_lost_receipt() {
    let (from, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (root, file) = (from.path().join("tree"), from.path().join("big"));
    sample(&root);
    write(&file, &noise(7, 3_000_000));
    let paths = [root.clone(), file];
    let both = [to.path().join("big"), to.path().join("tree")];
    // The sender dies before it reads anything behind the acceptance.
    let ((sr, sw), (rr, rw)) = stream(64 << 10);
    let acceptance = wire::encoded(&Message::Accept { resume: false });
    let (sr, _reached, _shut) = Gate::after(acceptance.len() as u64, sr);
    let sources = Sources::new(&paths).unwrap();
    let id = sources.id(b"test");
    let (handle_a, handle_b) = (Handle::new(), Handle::new());
    let received = tokio::select! {
        biased;
        _ = send(sr, sw, sources, SendOptions { id }, &handle_a) => panic!("it had its receipt"),
        received = receive(rr, rw, to.path(), accept, options(), &handle_b) => received.unwrap(),
    };
    assert!(!received.heard);
    assert_eq!(received.placed, both);
    // What a person added beside it meanwhile is no reason to bring all of it again.
    write(&to.path().join("tree/mine"), b"mine");
    assert_eq!(transfer_again(&paths, to.path()).await, both);
    assert_eq!(names_in(to.path()), ["big", "tree"]);
    // What differs is not what was sent, and stays.
    write(&to.path().join("tree/many/007"), &noise(100, 4096));
    let placed = transfer_again(&paths, to.path()).await;
    assert_eq!(placed, [to.path().join("big"), to.path().join("tree (2)")]);
    assert!(tree(&root) == tree(&to.path().join("tree (2)")));
    let (_, received) = transfer(&paths, to.path()).await;
    assert!(received.as_ref().unwrap().heard);
    assert_eq!(names_in(to.path()), ["big", "big (2)", "tree", "tree (2)", "tree (3)"], "sent on purpose");
}

/// A break in an early attempt must not cost what a still earlier one had brought and this one did not come to.
#[tokio::test]
async fn a_second_break_keeps_what_the_first_attempt_brought() {
    let (from, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let root = from.path().join("tree");
    for i in 0..6000 {
        write(&root.join(format!("{i:04}")), &noise(i, 1000));
    }
    assert!(interrupted(std::slice::from_ref(&root), to.path(), 6_200_000).await.is_none());
    let staged = to.path().join(names_in(to.path()).first().unwrap());
    let held = || {
        let folder = std::fs::File::open(&staged).unwrap();
        // The threads of the dropped attempt hold this lock until they are done.
        rustix::fs::flock(&folder, rustix::fs::FlockOperation::LockExclusive).unwrap();
        tree(&staged).len()
    };
    let before = held();
    assert!(before > 5000, "{before}");
    assert!(interrupted(std::slice::from_ref(&root), to.path(), 1000).await.is_none());
    assert_eq!(held(), before);
    let (sent, _) = transfer(std::slice::from_ref(&root), to.path()).await;
    assert!(sent.unwrap().bytes_kept > 5_000_000);
    assert!(tree(&root) == tree(&to.path().join("tree")));
}

#[tokio::test]
async fn a_source_that_changed_between_attempts_is_sent_anew() {
    let (from, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let root = from.path().join("tree");
    sample(&root);
    write(&root.join("gone/old"), b"old");
    write(&root.join("was-folder/x"), b"x");
    write(&root.join("zzz"), &noise(9, 2_000_000));
    assert!(interrupted(std::slice::from_ref(&root), to.path(), 9_500_000).await.is_none());
    write(&root.join("one.bin"), &noise(100, 5_000_000));
    write(&root.join("many/007"), b"shorter");
    std::fs::remove_dir_all(root.join("gone")).unwrap();
    std::fs::remove_dir_all(root.join("was-folder")).unwrap();
    write(&root.join("was-folder"), b"now a file");
    let (sent, received) = transfer(std::slice::from_ref(&root), to.path()).await;
    sent.unwrap();
    received.unwrap();
    assert!(tree(&root) == tree(&to.path().join("tree")));
}

#[tokio::test]
async fn bytes_damaged_between_attempts_do_not_survive() {
    let (from, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let file = from.path().join("big");
    let content = noise(8, 8 << 20);
    write(&file, &content);
    assert!(interrupted(std::slice::from_ref(&file), to.path(), 4 << 20).await.is_none());
    let part = to.path().join(names_in(to.path()).first().unwrap()).join("big");
    // The threads of the dropped attempt may still be writing: wait until they let go of the folder.
    let folder = std::fs::File::open(part.parent().unwrap()).unwrap();
    rustix::fs::flock(&folder, rustix::fs::FlockOperation::LockExclusive).unwrap();
    let mut damaged = std::fs::read(&part).unwrap();
    damaged[100] ^= 1;
    std::fs::write(&part, damaged).unwrap();
    drop(folder);
    let (sent, _) = transfer(std::slice::from_ref(&file), to.path()).await;
    assert_eq!(sent.unwrap().bytes_kept, 0);
    assert!(std::fs::read(to.path().join("big")).unwrap() == content);
}

#[tokio::test]
async fn more_folders_in_a_row_than_the_window_holds_arrive_and_resume() {
    let (from, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let root = from.path().join("tree");
    for i in 0..5000 {
        std::fs::create_dir_all(root.join(format!("{i:04}"))).unwrap();
    }
    write(&root.join("last"), &noise(1, 3_000_000));
    assert!(interrupted(std::slice::from_ref(&root), to.path(), 1_000_000).await.is_none());
    let (sent, received) = transfer(std::slice::from_ref(&root), to.path()).await;
    sent.unwrap();
    received.unwrap();
    assert!(tree(&root) == tree(&to.path().join("tree")));
}

#[tokio::test]
async fn a_cancel_at_either_side_removes_what_arrived() {
    for sender_cancels in [true, false] {
        let (from, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let file = from.path().join("big");
        write(&file, &noise(8, 16 << 20));
        let ((sr, sw), (rr, rw)) = stream(64 << 10);
        let (rr, reached, open) = Gate::after(1 << 20, rr);
        let sources = Sources::new([&file]).unwrap();
        let (handle_a, handle_b) = (Handle::new(), Handle::new());
        let cancel = async {
            reached.await.unwrap();
            if sender_cancels {
                handle_a.cancel();
            } else {
                handle_b.cancel();
            }
            open.send(()).unwrap();
        };
        let (sent, received, ()) = tokio::join!(
            send(sr, sw, sources, SendOptions { id: [0; 16] }, &handle_a),
            receive(rr, rw, to.path(), accept, options(), &handle_b),
            cancel,
        );
        if sender_cancels {
            assert!(matches!(sent, Err(SendError::Cancelled)), "{sent:?}");
            assert!(
                matches!(received, Err(ReceiveError::Stopped { reason: Reason::Cancelled, .. })),
                "{received:?}"
            );
        } else {
            assert!(matches!(sent, Err(SendError::Stopped { reason: Reason::Cancelled, .. })), "{sent:?}");
            assert!(matches!(received, Err(ReceiveError::Cancelled)), "{received:?}");
        }
        assert!(names_in(to.path()).is_empty());
    }
}

#[tokio::test]
async fn a_source_that_changes_while_it_is_sent_is_an_error_and_not_a_wrong_file() {
    let (from, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let file = from.path().join("log");
    write(&file, &noise(8, 16 << 20));
    let ((sr, sw), (rr, rw)) = stream(64 << 10);
    let sources = Sources::new([&file]).unwrap();
    let (handle_a, handle_b) = (Handle::new(), Handle::new());
    handle_a.pause();
    let mut progress = handle_b.progress();
    let grow = async {
        // Accepted, and held up long before the end of the file.
        progress.wait_for(|p| p.bytes_total > 0).await.unwrap();
        std::fs::OpenOptions::new().append(true).open(&file).unwrap().set_len(17 << 20).unwrap();
        handle_a.unpause();
    };
    let (sent, received, ()) = tokio::join!(
        send(sr, sw, sources, SendOptions { id: [0; 16] }, &handle_a),
        receive(rr, rw, to.path(), accept, options(), &handle_b),
        grow,
    );
    assert!(matches!(sent, Err(SendError::SourceChanged { .. })), "{sent:?}");
    assert!(matches!(received, Err(ReceiveError::Stopped { reason: Reason::Source, .. })), "{received:?}");
    assert!(names_in(to.path()).iter().all(|name| name.ends_with(".part")));
}

#[tokio::test]
async fn the_same_transfer_twice_at_once_is_refused_and_another_peers_is_kept_apart() {
    let to = tempfile::tempdir().unwrap();
    let offer = Offer { id: [1; 16], name: "x".into(), entries: 1, files: 1, bytes: 1 };
    let first = staging::Staging::open(to.path(), &offer, b"peer a", Duration::ZERO).unwrap();
    assert!(!first.resumed);
    let (path, again, other) = (to.path().to_owned(), offer.clone(), offer);
    let second = tokio::task::spawn_blocking(move || {
        staging::Staging::open(&path, &again, b"peer a", Duration::ZERO).map(|s| s.path)
    });
    assert!(matches!(second.await.unwrap(), Err(ReceiveError::Busy { .. })));
    assert!(!staging::Staging::open(to.path(), &other, b"peer b", Duration::ZERO).unwrap().resumed);
}

#[tokio::test]
async fn a_full_disk_names_the_file_and_keeps_what_arrived_for_later() {
    let (from, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let mounted = std::process::Command::new("mount")
        .args(["-t", "tmpfs", "-o", "size=4m", "tmpfs"])
        .arg(to.path())
        .status();
    if !mounted.is_ok_and(|status| status.success()) {
        println!("skipped: needs root to mount a small file system");
        return;
    }
    let _unmount = Unmount(to.path().to_owned());
    let file = from.path().join("big");
    let content = noise(3, 3 << 20);
    write(&file, &content);
    // Fits when the offer is judged, and not any more when the bytes come.
    let ((sr, sw), (rr, rw)) = stream(64 << 10);
    let sources = Sources::new([&file]).unwrap();
    let id = sources.id(b"test");
    let (handle_a, handle_b) = (Handle::new(), Handle::new());
    handle_a.pause();
    let mut progress = handle_b.progress();
    let fill = async {
        progress.wait_for(|p| p.bytes_total > 0).await.unwrap();
        write(&to.path().join("other"), &noise(4, 2 << 20));
        handle_a.unpause();
    };
    let (sent, received, ()) = tokio::join!(
        send(sr, sw, sources, SendOptions { id }, &handle_a),
        receive(rr, rw, to.path(), accept, options(), &handle_b),
        fill,
    );
    assert!(matches!(sent, Err(SendError::Stopped { reason: Reason::NoSpace, .. })), "{sent:?}");
    match received {
        Err(ReceiveError::Disk(error)) => {
            assert!(error.is_no_space());
            assert!(error.to_string().contains("/big"), "{error}");
        }
        other => panic!("{other:?}"),
    }
    // Too little room from the start is said before anything is sent, with both numbers.
    let (sent, received) = transfer(std::slice::from_ref(&file), to.path()).await;
    assert!(matches!(sent, Err(SendError::Declined { reason: Reason::NoSpace, .. })), "{sent:?}");
    assert!(matches!(received, Err(ReceiveError::NoSpace { .. })), "{received:?}");
    std::fs::remove_file(to.path().join("other")).unwrap();
    let (sent, _) = transfer(std::slice::from_ref(&file), to.path()).await;
    assert!(sent.unwrap().bytes_kept > 0);
    assert!(std::fs::read(to.path().join("big")).unwrap() == content);
}

struct Unmount(PathBuf);

impl Drop for Unmount {
    fn drop(&mut self) {
        let _ = std::process::Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

#[tokio::test]
async fn a_destination_that_cannot_be_written_is_named() {
    let (from, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let file = from.path().join("x");
    write(&file, b"x");
    // A file where a folder is needed refuses even root.
    write(&to.path().join("blocked"), b"");
    let into = to.path().join("blocked/inside");
    let (sent, received) = transfer(&[file], &into).await;
    assert!(matches!(sent, Err(SendError::Declined { reason: Reason::Disk, .. })), "{sent:?}");
    assert!(received.unwrap_err().to_string().contains("blocked/inside"));
}
