//! What the trust store promises, on a database in memory and on one that is opened again.

use honeylink_core::identity::{DeviceType, SecretKey};

use super::*;
use crate::store::grants::FilesGrant;
use crate::store::limits::SEEN_PEERS_MAX;
use crate::store::peer::PairingMethod;

fn id(seed: u64) -> DeviceId {
    SecretKey::from_u64(seed).id()
}

fn new_peer(seed: u64, name: &str) -> NewPeer {
    NewPeer {
        id: id(seed),
        name: None,
        announced_name: name.to_owned(),
        device_type: DeviceType::Laptop,
        method: PairingMethod::Code,
    }
}

fn store() -> TrustStore {
    TrustStore::load(Arc::new(StateDb::in_memory().unwrap())).unwrap()
}

/// The same database, read again as after a restart.
fn reopened(store: &TrustStore) -> TrustStore {
    TrustStore::load(store.db.clone()).unwrap()
}

#[test]
fn a_device_climbs_from_seen_over_paired_to_verified() {
    let store = store();
    store.touch(&id(1), &Sighting { name: Some("Studio"), device_type: None }, 5);
    assert_eq!(store.trust(&id(1)), Some(Trust::Seen));
    assert!(matches!(store.verify(&id(1)), Err(ChangePeerError::NotPaired { trust: Trust::Seen, .. })));

    let record = store.pair(&new_peer(1, "Studio"), OnNameTaken::Refuse, 7).unwrap();
    assert_eq!((record.trust, record.first_seen, record.last_seen), (Trust::Paired, 5, 7));
    assert_eq!(record.grants, Grants::after_pairing());
    store.verify(&id(1)).unwrap();
    store.verify(&id(1)).unwrap();
    assert_eq!(reopened(&store).trust(&id(1)), Some(Trust::Verified));
}

#[test]
fn pairing_again_keeps_name_grants_and_verification() {
    let store = store();
    store.pair(&new_peer(1, "studio"), OnNameTaken::Refuse, 1).unwrap();
    store.verify(&id(1)).unwrap();
    store.rename(&id(1), "My studio").unwrap();
    store.change_grants(&id(1), &["files=auto".parse().unwrap()]).unwrap();
    let record = store.pair(&new_peer(1, "other name"), OnNameTaken::Refuse, 2).unwrap();
    assert_eq!((record.name.as_str(), record.trust), ("My studio", Trust::Verified));
    assert_eq!(record.grants.files, FilesGrant::Auto);
    assert_eq!(record.announced_name, "other name");
}

#[test]
fn revoked_is_for_ever() {
    let store = store();
    store.pair(&new_peer(1, "studio"), OnNameTaken::Refuse, 1).unwrap();
    store.revoke(&id(1), 2).unwrap();
    store.revoke(&id(2), 2).unwrap();
    for store in [&store, &reopened(&store)] {
        for id in [id(1), id(2)] {
            assert_eq!(store.forget(&id).unwrap(), Forgotten::StillRevoked);
            assert_eq!(store.trust(&id), Some(Trust::Revoked));
            assert_eq!(store.grants(&id), Grants::none());
            assert!(matches!(
                store.verify(&id),
                Err(ChangePeerError::NotPaired { trust: Trust::Revoked, .. })
            ));
            assert!(matches!(
                store.set_grants(&id, &Grants::after_pairing()),
                Err(ChangePeerError::NotPaired { .. })
            ));
            store.touch(&id, &Sighting::default(), 9);
            store.flush().unwrap();
        }
        assert!(matches!(
            store.pair(&new_peer(1, "again"), OnNameTaken::Disambiguate, 3),
            Err(PairError::Revoked { .. })
        ));
    }
}

#[test]
fn a_forgotten_device_has_to_pair_again() {
    let store = store();
    store.pair(&new_peer(1, "studio"), OnNameTaken::Refuse, 1).unwrap();
    assert_eq!(store.forget(&id(1)).unwrap(), Forgotten::Removed);
    assert_eq!(store.forget(&id(1)).unwrap(), Forgotten::WasUnknown);
    assert!(!store.is_trusted(&id(1)) && !reopened(&store).is_trusted(&id(1)));
}

#[test]
fn another_key_under_a_known_name_is_blocked_with_both_fingerprints() {
    let store = store();
    store.pair(&new_peer(1, "Studio"), OnNameTaken::Refuse, 1).unwrap();
    let error = store.pair(&new_peer(2, "studio"), OnNameTaken::Refuse, 2).unwrap_err();
    let shown = error.to_string();
    assert!(
        matches!(error, PairError::NameTaken(taken) if taken.existing == id(1) && taken.offered == id(2))
    );
    assert!(shown.contains(&id(1).fingerprint()) && shown.contains(&id(2).fingerprint()), "{shown}");
    assert_eq!(store.trust(&id(2)), None, "nothing was recorded");

    let record = store.pair(&new_peer(2, "studio"), OnNameTaken::Disambiguate, 3).unwrap();
    assert_eq!(record.name, "studio-2");
    assert!(matches!(store.rename(&id(2), "STUDIO"), Err(ChangePeerError::NameTaken(_))));
    store.rename(&id(2), "attic").unwrap();
}

#[test]
fn a_revoked_device_still_holds_its_name() {
    let store = store();
    store.pair(&new_peer(1, "studio"), OnNameTaken::Refuse, 1).unwrap();
    store.revoke(&id(1), 2).unwrap();
    assert!(matches!(
        store.pair(&new_peer(2, "studio"), OnNameTaken::Refuse, 3),
        Err(PairError::NameTaken(_))
    ));
}

#[test]
fn what_a_device_announces_never_changes_what_the_user_decided() {
    let store = store();
    store.pair(&new_peer(1, "studio"), OnNameTaken::Refuse, 1).unwrap();
    store.touch(&id(1), &Sighting { name: Some("evil"), device_type: Some(DeviceType::Phone) }, 9);
    let record = store.find(&id(1)).unwrap();
    assert_eq!((record.name.as_str(), record.trust), ("studio", Trust::Paired));
    assert_eq!((record.announced_name.as_str(), record.last_seen), ("evil", 9));
}

#[test]
fn strangers_are_bounded_and_never_push_out_a_peer() {
    let store = store();
    store.pair(&new_peer(0, "studio"), OnNameTaken::Refuse, 0).unwrap();
    let strangers = SEEN_PEERS_MAX as u64 + 20;
    for n in 1..=strangers {
        store.touch(&id(n), &Sighting::default(), n);
        if n == 10 {
            store.flush().unwrap();
        }
    }
    assert_eq!(store.list().len(), SEEN_PEERS_MAX + 1);
    assert!(store.is_trusted(&id(0)));
    assert_eq!(store.trust(&id(20)), None, "the oldest made room");
    assert_eq!(store.trust(&id(21)), Some(Trust::Seen));
    store.flush().unwrap();
    assert_eq!(reopened(&store).list(), store.list(), "also on disk");
}

#[test]
fn working_addresses_are_remembered_after_a_flush() {
    let store = store();
    store.pair(&new_peer(1, "studio"), OnNameTaken::Refuse, 1).unwrap();
    let address = "192.0.2.7:7843".parse().unwrap();
    store.connected(&id(1), address, 5);
    store.connected(&id(2), address, 5);
    store.flush().unwrap();
    let again = reopened(&store);
    assert_eq!(again.find(&id(1)).unwrap().addresses, [address]);
    assert_eq!(again.find(&id(2)), None, "an address alone makes no peer");
}

#[test]
fn a_damaged_record_is_named_and_leaves_the_others_alone() {
    let store = store();
    store.pair(&new_peer(1, "studio"), OnNameTaken::Refuse, 1).unwrap();
    store.pair(&new_peer(2, "attic"), OnNameTaken::Refuse, 1).unwrap();
    store.revoke(&id(3), 1).unwrap();
    store
        .db
        .write(|txn| {
            let mut table = txn.open_table(PEERS)?;
            for seed in [1, 3] {
                table.insert(*id(seed).as_bytes(), &b"\x01garbage garbage"[..])?;
            }
            Ok(())
        })
        .unwrap();

    let again = reopened(&store);
    let named: Vec<String> = again.unreadable().iter().map(ToString::to_string).collect();
    assert_eq!(named.len(), 2);
    assert!(
        named.iter().any(|text| text.contains("peers") && text.contains(&id(1).to_string())),
        "{named:?}"
    );
    assert!(again.is_trusted(&id(2)));
    assert_eq!(again.trust(&id(1)), None, "not trusted on the word of a damaged record");
    assert_eq!(again.trust(&id(3)), Some(Trust::Revoked), "a revocation survives its record");

    assert!(matches!(
        again.pair(&new_peer(1, "studio"), OnNameTaken::Refuse, 2),
        Err(PairError::Unreadable(_))
    ));
    assert!(matches!(again.pair(&new_peer(3, "x"), OnNameTaken::Refuse, 2), Err(PairError::Revoked { .. })));
    assert_eq!(again.forget(&id(1)).unwrap(), Forgotten::Removed);
    assert_eq!(again.forget(&id(3)).unwrap(), Forgotten::StillRevoked);
    again.pair(&new_peer(1, "studio"), OnNameTaken::Refuse, 2).unwrap();
}

#[test]
fn grants_change_all_together_or_not_at_all() {
    let store = store();
    store.pair(&new_peer(1, "studio"), OnNameTaken::Refuse, 1).unwrap();
    let mut changes: Vec<GrantChange> = vec!["pipe=yes".parse().unwrap()];
    changes.extend((0..65).map(|n| format!("tunnel:t{n}=yes").parse().unwrap()));
    assert!(matches!(store.change_grants(&id(1), &changes), Err(ChangePeerError::Grant(_))));
    assert_eq!(store.grants(&id(1)), Grants::after_pairing());
    store.change_grants(&id(1), &changes[..2]).unwrap();
    assert!(reopened(&store).grants(&id(1)).tunnel("t0"));
}

#[test]
fn names_are_resolved_among_all_known_devices() {
    let store = store();
    store.pair(&new_peer(1, "studio"), OnNameTaken::Refuse, 1).unwrap();
    store.touch(&id(2), &Sighting { name: Some("phone"), device_type: None }, 1);
    assert_eq!(store.resolve("Studio"), Ok(id(1)));
    assert_eq!(store.resolve("phone"), Ok(id(2)));
    assert!(matches!(store.resolve("nobody"), Err(ResolveError::NotFound { .. })));
}
