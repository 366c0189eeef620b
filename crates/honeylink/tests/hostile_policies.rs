//! A paired device that does not agree, or says that it does and lies: what it says changes nothing here, nothing waits for
//! longer than it was promised, and the person is told why.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod attacker;

use attacker::{Answer, Listening, node, soon};
use honeylink::services::chat::ChatError;
use honeylink::services::files::{Accept, FileError, Policy as Rules};
use honeylink::services::{Chat, Files, Pipes, PolicyChoice};
use honeylink::transfer::{Durability, Handle};
use honeylink::{Preset, State};
use honeylink_core::wire::link::StreamKind;

/// Streams that were opened so far.
fn opened(attacker: &mut Listening) -> Vec<StreamKind> {
    std::iter::from_fn(|| attacker.kinds.try_recv().ok()).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_insisted_on_and_not_agreed_sends_nothing_and_says_why() {
    let refusal = "we do not do this here";
    tokio::join!(
        nothing_is_sent(1, Answer::Silence, "did not answer within 5 s"),
        nothing_is_sent(2, Answer::Lies, "did not answer within 5 s"),
        nothing_is_sent(3, Answer::Refusal(refusal), refusal),
    );
}

async fn nothing_is_sent(seed: u64, answer: Answer, why: &str) {
    let victim = node("victim").await;
    let mut attacker = Listening::paired(seed, &victim, answer).await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("secret");
    std::fs::write(&file, "for somebody who agrees").unwrap();
    let rules =
        Rules { into: folder.path().to_owned(), accept: Accept::Nothing, durability: Durability::Lazy };
    let files = Files::start(&victim, rules).unwrap();
    let choice = Some(PolicyChoice { policy: Preset::Iot.policy(), insist: true });
    let paths = [file];
    let sent = files.send_under(attacker.id, &paths, choice, Handle::new());
    let ended = soon("an answer", sent).await.unwrap();
    let error = ended.result.unwrap_err();
    assert!(matches!(&*error, FileError::Policy(_)), "{answer:?}: {error}");
    assert!(error.to_string().contains(why), "{answer:?}: {error}");
    let opened = opened(&mut attacker);
    assert!(!opened.contains(&StreamKind::Bytes), "{answer:?}: {opened:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_only_wished_for_goes_without_and_the_link_remembers_why() {
    let victim = node("victim").await;
    let mut attacker = Listening::paired(4, &victim, Answer::Refusal("no")).await;
    let pipes = Pipes::start(&victim).unwrap();
    let choice = Some(PolicyChoice { policy: Preset::Iot.policy(), insist: false });
    let pipe = soon("a pipe", pipes.open_under(attacker.id, choice)).await.unwrap();
    assert_eq!(pipe.link.followed_policy(), None);
    let back = pipe.link.taken_back_policy().unwrap();
    assert!(back.name == "iot" && back.why.contains("no"), "{back:?}");
    let told = victim.link_policies(&attacker.id);
    assert_eq!(told[0].taken_back.as_ref(), Some(&back));
    let streams = victim.traffic().remove(0).1.streams;
    assert!(streams.iter().all(|stream| stream.policy.is_none()), "{streams:?}");
    let bytes = async {
        loop {
            match attacker.kinds.recv().await {
                Some(StreamKind::Bytes) => return,
                Some(_) => {}
                None => panic!("the attacker stopped"),
            }
        }
    };
    soon("the pipe's stream", bytes).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_message_whose_policy_is_refused_is_neither_said_nor_kept() {
    let victim = node("victim").await;
    let attacker = Listening::paired(6, &victim, Answer::Refusal("no")).await;
    let chat = Chat::start(&victim).unwrap();
    let choice = Some(PolicyChoice { policy: Preset::Iot.policy(), insist: true });
    let error = soon("an answer", chat.send_under(attacker.id, "secret", choice)).await.unwrap_err();
    assert!(matches!(error, ChatError::Policy(_)), "{error}");
    let log = victim.store().chat().list(&attacker.id, None, 10).unwrap();
    assert!(log.messages.is_empty(), "{log:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_peer_that_claims_policies_of_its_own_in_an_answer_changes_nothing_here() {
    let victim = node("victim").await;
    let attacker = Listening::paired(5, &victim, Answer::Lies).await;
    let link = soon("connect", victim.connect(attacker.id, "victim/1")).await.unwrap();
    let applied = soon("an answer", link.follow_policy(Preset::GamingInput.policy())).await;
    assert!(applied.is_err(), "{applied:?}");
    assert_eq!((link.policy("gaming-input"), link.followed_policy()), (None, None));
    assert_eq!(link.traffic().unwrap().reserved_bytes_per_s, 0);
    assert_eq!(link.state(), State::Active, "a lie about a policy costs the change and not the link");
}
