//! Kill -9 at any instant: the store opens again and holds everything that was acknowledged.
//!
//! The test starts its own binary again as a child that does nothing but decide things and print a line for each decision
//! once the store has returned `Ok`. The parent kills it after a random number of lines and a random moment more, so that
//! the blow falls anywhere inside a write, and then reads the home itself.

use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Command, Stdio};
use std::time::Duration;

use honeylink_core::identity::{DeviceId, DeviceType, SecretKey};
use honeylink_core::rng::Rng;

use super::chat::{ChatLog, MessageState, NewMessage};
use super::home::{Home, HomeLayout};
use super::transfers::{Direction, TransferId, TransferRecord, TransferState};
use super::{NewPeer, OnNameTaken, PairingMethod, Store, Trust, key};

const CHILD_HOME: &str = "HONEYLINK_TEST_CRASH_HOME";
const CHILD_START: &str = "HONEYLINK_TEST_CRASH_START";
const ROUNDS: u64 = 25;

fn id(n: u64) -> DeviceId {
    SecretKey::from_u64(n).id()
}

fn transfer_id(n: u64) -> TransferId {
    TransferId((u128::from(n) + 1).to_be_bytes())
}

fn message(n: u64) -> NewMessage {
    NewMessage {
        id: transfer_id(n).0,
        state: MessageState::Received,
        text: format!("message {n}"),
        at: n,
        rung: None,
    }
}

/// Decision number `n`: every kind of write takes its turn.
fn decide(store: &Store, n: u64) {
    let trust = store.trust();
    match n % 5 {
        0 => {
            let new = NewPeer {
                id: id(n),
                name: None,
                announced_name: format!("peer {n}"),
                device_type: DeviceType::Laptop,
                method: PairingMethod::Code,
            };
            trust.pair(&new, OnNameTaken::Refuse, n).unwrap();
        }
        1 => drop(trust.verify(&id(n - 1)).unwrap()),
        2 => drop(trust.revoke(&id(n - 2), n).unwrap()),
        3 => drop(store.chat().append(&id(0), &message(n)).unwrap()),
        _ => {
            let record = TransferRecord {
                id: transfer_id(n),
                direction: Direction::Incoming,
                peer: Some(id(0)),
                name: "f".to_owned(),
                files: 1,
                total_bytes: 1,
                done_bytes: 1,
                state: TransferState::Done,
                destination: None,
                sources: Vec::new(),
                error: String::new(),
                created: n,
                updated: n,
            };
            store.transfers().add(record).unwrap();
        }
    }
}

/// Whether decision `n` is visible, given that everything up to `last` was acknowledged.
fn is_there(store: &Store, n: u64, last: u64) -> bool {
    match n % 5 {
        0 => store.trust().trust(&id(n)).is_some(),
        1 => store.trust().trust(&id(n - 1)).is_some_and(|trust| trust >= Trust::Verified),
        2 => store.trust().trust(&id(n - 2)) == Some(Trust::Revoked),
        3 => holds(store.chat(), n, last),
        _ => store.transfers().find(&transfer_id(n)).is_some(),
    }
}

fn holds(chat: &ChatLog, n: u64, last: u64) -> bool {
    let page = chat.list(&id(0), None, usize::try_from(last).unwrap() + 10).unwrap();
    page.messages.iter().any(|found| found.message == message(n))
}

/// Not a test of its own: the child of the test below.
#[test]
#[ignore = "run by the test below, in a process of its own"]
fn crash_child() {
    let Some(dir) = std::env::var_os(CHILD_HOME) else { return };
    let start: u64 = std::env::var(CHILD_START).unwrap().parse().unwrap();
    let home = Home::open(HomeLayout::new(dir)).unwrap();
    println!("identity {}", key::load_or_create(&home).unwrap().id());
    let store = Store::open(&home).unwrap();
    // Bounded, in case nobody kills us.
    for n in start..start + 10_000 {
        decide(&store, n);
        println!("ok {n}");
        std::io::stdout().flush().unwrap();
    }
}

#[test]
fn a_store_killed_at_any_instant_opens_and_holds_everything_acknowledged() {
    let dir = tempfile::tempdir().unwrap();
    let layout = HomeLayout::new(dir.path().join("home"));
    let mut rng = Rng::from_u64(0x9111);
    let mut identity = None;
    let mut next = 0;
    for round in 0..ROUNDS {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "store::crash_tests::crash_child", "--ignored", "--nocapture"])
            .env(CHILD_HOME, layout.dir())
            .env(CHILD_START, next.to_string())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        // Some rounds end before the first acknowledgement: in the making of the home, the key or the database.
        let wanted = rng.below(12);
        let mut acknowledged = 0;
        while acknowledged < wanted {
            let line = lines.next().expect("the child ended by itself").unwrap();
            acknowledged += u64::from(line.starts_with("ok "));
            next += u64::from(line.starts_with("ok "));
        }
        // tidy: sleep because it picks the random instant of the blow; it waits for nothing.
        std::thread::sleep(Duration::from_micros(rng.below(8000)));
        child.kill().unwrap();
        for line in lines.map_while(Result::ok) {
            next += u64::from(line.starts_with("ok "));
        }
        child.wait().unwrap();

        let home = Home::open(layout.clone()).unwrap();
        let found = key::load_or_create(&home).unwrap().id();
        assert_eq!(*identity.get_or_insert(found), found, "round {round}: another identity");
        let store = Store::open(&home).unwrap();
        assert!(store.unreadable().is_empty(), "round {round}: {:?}", store.unreadable());
        for n in 0..next {
            assert!(
                is_there(&store, n, next),
                "round {round}: decision {n} of {next} was acknowledged and is gone"
            );
        }
        // The one decision in flight is there wholly or not at all; it can be made again either way.
        if is_there(&store, next, next) {
            next += 1;
        }
    }
    assert!(next > ROUNDS, "the children got something done");
}

/// Whatever is damaged in the file, opening and reading it gives a store or an error, and never more trust.
#[test]
fn no_damage_to_the_state_file_panics_or_makes_a_device_more_trusted() {
    let dir = tempfile::tempdir().unwrap();
    let home = Home::open(HomeLayout::new(dir.path().join("home"))).unwrap();
    let store = Store::open(&home).unwrap();
    for n in 0..15 {
        decide(&store, n);
    }
    store.trust().touch(&id(500), &super::Sighting::default(), 1);
    store.trust().flush().unwrap();
    let before: Vec<_> = store.trust().list();
    drop(store);
    let path = home.layout().state();
    let healthy = std::fs::read(&path).unwrap();
    let mut rng = Rng::from_u64(7);
    for _ in 0..80 {
        let mut bytes = healthy.clone();
        for _ in 0..1 + rng.below(6) {
            let at = usize::try_from(rng.below(bytes.len() as u64)).unwrap();
            bytes[at] ^= 1 << rng.below(8);
        }
        std::fs::write(&path, &bytes).unwrap();
        let Ok(store) = Store::open(&home) else { continue };
        for record in store.trust().list() {
            let was = before.iter().find(|known| known.id == record.id).expect("nobody appears from nowhere");
            assert!(record.trust == was.trust || record.trust == Trust::Revoked);
        }
        let _ = store.chat().list(&id(0), None, 100);
        store.trust().touch(&id(501), &super::Sighting::default(), 1);
        let _ = store.trust().flush();
    }
}
