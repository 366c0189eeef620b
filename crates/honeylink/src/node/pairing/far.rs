//! Codes across the internet: a note in the DHT under the number of a code says which device shows it, and where.
//!
//! The number is public, so anybody can read such a note, or store another one there. That gives away nothing that the
//! announcement on a local network does not: the exchange that follows proves who knows the words, one guess at a time
//! ([`honeylink_core::pairing`]). Clauses `WA-C..` of `docs/wire/wide-area.md`.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use honeylink_core::identity::DeviceId;
use honeylink_core::limits::PAIRING_CODE_LIFETIME;
use honeylink_core::wide::{CodeNote, Whereabouts, of_code};

use super::{Inner, JoinError};
use crate::wide::Item;

/// How long a guest looks in the DHT. The host may just be storing its note, which takes a few seconds.
const SEEK_MAX: Duration = Duration::from_secs(15);
/// The pause between two lookups.
const SEEK_PAUSE: Duration = Duration::from_secs(2);
/// The pause before a note is stored that could not be stored.
const RETRY: Duration = Duration::from_secs(5);
/// Taking a note back may take this long; whoever finds it later finds nothing open.
const FAREWELL: Duration = Duration::from_secs(3);

impl Inner {
    /// Keeps a note under the number of a code for as long as the code is open (WA-C2).
    pub(super) async fn keep_code_note(self: Arc<Self>, number: u16) {
        let Some(desk) = self.wide.desk() else { return };
        let place = of_code(number);
        let mut watch = self.pairing.watch_desk();
        let closed = async {
            while self.pairing.desk.state().nameplates.contains(&number) {
                watch.changed().await;
            }
        };
        let showing = async {
            loop {
                let open = CodeNote::Open(self.id, self.whereabouts(desk).await);
                match desk.store(&place, |seq| open.seal(&place, seq)).await {
                    Ok(()) => std::future::pending::<()>().await,
                    Err(error) => tracing::warn!(%error, "this code is not found across the internet"),
                }
                tokio::time::sleep(RETRY).await;
            }
        };
        tokio::select! {
            biased;
            () = closed => {}
            () = self.stop.cancelled() => {}
            () = showing => {}
        }
        let taken_back = desk.store(&place, |seq| CodeNote::Gone.seal(&place, seq));
        // The DHT forgets it by itself in two hours, and nothing is open there any more.
        let _ = tokio::time::timeout(FAREWELL, taken_back).await;
    }

    /// The device that shows a code, by the note under its number; what it says of its place is remembered.
    pub(super) async fn find_code_note(&self, number: u16) -> Result<DeviceId, JoinError> {
        let Some(desk) = self.wide.desk() else { return Err(JoinError::NobodyShowsIt) };
        let place = of_code(number);
        let mut why = "nothing is stored under its number".to_owned();
        let search = async {
            loop {
                match desk.dht().get(&place.key()).await {
                    Ok(items) => match who_shows(number, &items) {
                        Shown::Nobody => why = "nothing is stored under its number".to_owned(),
                        Shown::By(host, at) => return Ok((host, at)),
                        Shown::BySeveral(names) => return Err(JoinError::Ambiguous(names)),
                    },
                    Err(error) => why = error.to_string(),
                }
                tokio::time::sleep(SEEK_PAUSE).await;
            }
        };
        let found = tokio::time::timeout(SEEK_MAX, search).await;
        match found {
            Ok(found) => {
                let (host, at) = found?;
                self.add_addresses(host, &at.addrs);
                self.add_relays(host, &at.relays);
                Ok(host)
            }
            Err(_) => Err(JoinError::NobodyShowsItAnywhere(why)),
        }
    }
}

/// What the notes under a number say.
#[derive(Debug, PartialEq, Eq)]
enum Shown {
    Nobody,
    By(DeviceId, Whereabouts),
    /// Their ids, for people.
    BySeveral(String),
}

/// Reads the notes under a number, the newest first (WA-C3). By their own clocks alone: that of this device may be wrong.
fn who_shows(number: u16, items: &[Item]) -> Shown {
    let place = of_code(number);
    let lifetime_ms = u64::try_from(PAIRING_CODE_LIFETIME.as_millis()).unwrap_or(u64::MAX);
    let mut newest = None;
    let mut hosts: BTreeMap<DeviceId, Whereabouts> = BTreeMap::new();
    for item in items {
        let Ok(note) = CodeNote::open(&place, item.seq, &item.value) else { continue };
        if *newest.get_or_insert(item.seq) > item.seq.saturating_add(lifetime_ms) {
            break;
        }
        match note {
            // Whatever is older was there before.
            CodeNote::Gone => break,
            CodeNote::Open(host, at) => drop(hosts.entry(host).or_insert(at)),
        }
    }
    if hosts.len() > 1 {
        return Shown::BySeveral(hosts.keys().map(DeviceId::short).collect::<Vec<_>>().join(", "));
    }
    hosts.pop_first().map_or(Shown::Nobody, |(host, at)| Shown::By(host, at))
}

#[cfg(test)]
mod tests {
    use super::*;
    use honeylink_core::identity::SecretKey;

    fn at(port: u16) -> Whereabouts {
        Whereabouts { addrs: vec![([192, 0, 2, 7], port).into()], relays: Vec::new() }
    }

    fn item(seq: u64, note: &CodeNote) -> Item {
        Item { seq, value: note.seal(&of_code(48_213), seq) }
    }

    #[test]
    fn the_newest_note_counts_and_a_code_that_is_gone_is_found_nowhere() {
        let [ann, bob] = [1, 2].map(|seed| SecretKey::from_u64(seed).id());
        let open = |seq, host, port| item(seq, &CodeNote::Open(host, at(port)));
        let shown = |items: &[Item]| who_shows(48_213, items);
        assert_eq!(shown(&[]), Shown::Nobody);
        assert_eq!(shown(&[open(2, ann, 2), open(1, ann, 1)]), Shown::By(ann, at(2)));
        assert_eq!(shown(&[item(2, &CodeNote::Gone), open(1, ann, 1)]), Shown::Nobody);
        assert_eq!(
            shown(&[open(3, ann, 3), item(2, &CodeNote::Gone), open(1, bob, 1)]),
            Shown::By(ann, at(3))
        );
        assert!(matches!(shown(&[open(2, ann, 2), open(1, bob, 1)]), Shown::BySeveral(_)));
        // No code is as old as that.
        assert_eq!(shown(&[open(400_000, ann, 2), open(1, bob, 1)]), Shown::By(ann, at(2)));
    }

    #[test]
    fn notes_of_other_numbers_and_nonsense_count_for_nothing() {
        let ann = SecretKey::from_u64(1).id();
        let open = CodeNote::Open(ann, at(1));
        let elsewhere = Item { seq: 9, value: open.seal(&of_code(7), 9) };
        let nonsense = [Vec::new(), vec![0; 512], vec![0; 1000]].map(|value| Item { seq: 8, value });
        let mut items = vec![elsewhere];
        items.extend(nonsense);
        assert_eq!(who_shows(48_213, &items), Shown::Nobody);
        items.push(item(1, &open));
        assert_eq!(who_shows(48_213, &items), Shown::By(ann, at(1)));
    }
}
