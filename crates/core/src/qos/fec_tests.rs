//! What repair gets back, measured over simulated losses, and what hostile datagrams get: nothing.

use core::time::Duration;

use bytes::Bytes;
use proptest::prelude::*;

use super::*;
use crate::limits::FEC_BLOCK_SHARDS_MAX;
use crate::rng::Rng;

/// Sends `count` payloads over a line that loses `loss_per_mille` of its datagrams, in bursts of `burst`; the part of
/// payloads lost before and after repair.
fn over_a_line(layout: Layout, count: u32, loss_per_mille: u64, burst: u64) -> (f64, f64) {
    let mut rng = Rng::from_u64(7);
    let mut encoder = Encoder::new(layout);
    let mut decoder = Decoder::default();
    let (mut lost, mut arrived, mut losing) = (0, std::collections::BTreeSet::new(), 0);
    for n in 0..count {
        let payload =
            Bytes::copy_from_slice(&[&n.to_be_bytes()[..], &vec![n as u8; (n % 200) as usize]].concat());
        let (datagram, repair) = encoder.push(payload).unwrap();
        for (index, datagram) in std::iter::once(datagram).chain(repair).enumerate() {
            if losing == 0 && rng.below(1000 * burst) < loss_per_mille {
                losing = burst;
            }
            if losing > 0 {
                losing -= 1;
                lost += u32::from(index == 0);
                continue;
            }
            for repaired in decoder.accept(&datagram).unwrap() {
                let number = u32::from_be_bytes(repaired.payload[..4].try_into().unwrap());
                assert!(repaired.payload[4..].iter().all(|b| *b == number as u8), "made up");
                assert!(arrived.insert(number), "{number} came twice");
            }
        }
    }
    (f64::from(lost) / f64::from(count), 1.0 - arrived.len() as f64 / f64::from(count))
}

/// The table of docs/decisions/qos.md: layout, losses per mille, and the bound on what stays lost, per mille.
#[test]
fn repair_leaves_what_the_documents_say() {
    let of = |data, repair| Layout { data, repair };
    for (layout, loss, left) in [
        (of(4, 1), 20, 2.0),
        (of(8, 2), 20, 1.0),
        (of(16, 4), 20, 0.3),
        (of(4, 1), 80, 27.0),
        (of(8, 2), 80, 17.0),
        (of(16, 4), 80, 9.0),
        (of(4, 2), 100, 11.0),
        (of(8, 4), 100, 4.0),
        (of(16, 8), 100, 1.0),
        (of(16, 8), 200, 30.0),
    ] {
        let (before, after) = over_a_line(layout, 12_000, loss, 1);
        let (before, after) = (before * 1e3, after * 1e3);
        assert!((before - loss as f64).abs() < 8.0, "{before}");
        assert!(after <= left, "{layout:?} at {loss} per mille: {after} stay lost");
    }
}

#[test]
fn losses_in_a_row_need_the_larger_block() {
    let (_, small) = over_a_line(Layout { data: 4, repair: 1 }, 12_000, 20, 3);
    let (_, large) = over_a_line(Layout { data: 16, repair: 4 }, 12_000, 20, 3);
    assert!(small > 0.01 && large < 0.004, "{small} {large}");
}

#[test]
fn the_level_follows_the_losses_and_does_not_flap_at_a_bound() {
    let mut control = FecControl::new(FecChoice::Auto);
    let mut after = |loss| {
        control.lossy(loss);
        control.level()
    };
    use FecLevel::{Heavy, Light, None};
    let seen: Vec<_> = [0, 49, 50, 45, 41, 39, 99, 100, 92, 89, 30].into_iter().map(&mut after).collect();
    assert_eq!(seen, [None, None, Light, Light, Light, None, Light, Heavy, Heavy, Light, None]);
    let mut eager = FecControl::new(FecChoice::AtLeastLight);
    eager.lossy(0);
    assert_eq!(eager.level(), Light);
    let mut off = FecControl::new(FecChoice::Off);
    off.lossy(500);
    assert_eq!(off.level(), None);
}

#[test]
fn a_block_is_as_large_as_the_patience_allows() {
    let layout = |interval, patience| {
        Layout::choose(FecLevel::Light, Duration::from_millis(interval), Duration::from_millis(patience))
    };
    assert_eq!(layout(5, 100), Some(Layout { data: 16, repair: 4 }));
    assert_eq!(layout(5, 50), Some(Layout { data: 8, repair: 2 }));
    assert_eq!(layout(5, 10), Some(Layout { data: 4, repair: 1 }));
    assert_eq!(Layout::choose(FecLevel::None, Duration::ZERO, Duration::ZERO), None);
    let heavy = Layout::choose(FecLevel::Heavy, Duration::ZERO, Duration::ZERO).unwrap();
    assert!(heavy.shards() <= FEC_BLOCK_SHARDS_MAX);
}

#[test]
fn a_pause_ends_a_block_early_and_its_last_datagrams_are_covered() {
    let mut encoder = Encoder::new(Layout { data: 8, repair: 2 });
    let mut decoder = Decoder::default();
    let payload = Bytes::from_static(b"the last before the pause");
    encoder.push(payload.clone()).unwrap();
    let repair = encoder.flush();
    assert_eq!(repair.len(), 2);
    let got = decoder.accept(&repair[1]).unwrap();
    assert_eq!(got, [Repaired { payload, recovered: true }]);
    assert!(encoder.flush().is_empty());
}

#[test]
fn a_decoder_keeps_a_few_blocks_only_and_counts_what_it_gives_up() {
    let mut decoder = Decoder::default();
    let mut encoder = Encoder::new(Layout { data: 2, repair: 1 });
    for n in 0..100_u8 {
        // The second of each pair is lost, and the repair too.
        let (datagram, _) = encoder.push(Bytes::from(vec![n])).unwrap();
        if n % 2 == 1 {
            decoder.accept(&datagram).unwrap();
        }
    }
    assert_eq!(decoder.stats(), FecStats { received: 50, lost: 50, ..FecStats::default() });
    let (old, _) = Encoder::new(Layout { data: 2, repair: 1 }).push(Bytes::from_static(b"late")).unwrap();
    assert_eq!(decoder.accept(&old), Ok(Vec::new()));
    assert_eq!(decoder.stats().dropped, 1);
}

proptest! {
    /// As many of a block as it has payloads are enough, whichever they are and in whatever order they come.
    #[test]
    fn any_enough_of_a_block_give_all_of_it(
        data in 1_u8..=16, repair in 1_u8..=16, sizes in proptest::collection::vec(0_usize..=PAYLOAD_BYTES_MAX, 16),
        seed in any::<u64>(),
    ) {
        let mut rng = Rng::from_u64(seed);
        let mut encoder = Encoder::new(Layout { data, repair });
        let payloads: Vec<_> = sizes[..data.into()].iter().map(|len| {
            let mut payload = vec![0; *len];
            rng.fill(&mut payload);
            Bytes::from(payload)
        }).collect();
        let mut datagrams = Vec::new();
        for payload in &payloads {
            let (datagram, repair) = encoder.push(payload.clone()).unwrap();
            datagrams.push(datagram);
            datagrams.extend(repair);
        }
        prop_assert_eq!(datagrams.len(), usize::from(data + repair));
        while datagrams.len() > data.into() {
            datagrams.swap_remove(rng.below(datagrams.len() as u64) as usize);
        }
        let mut decoder = Decoder::default();
        let mut got: Vec<_> =
            datagrams.iter().flat_map(|d| decoder.accept(d).unwrap()).map(|r| r.payload).collect();
        let mut want = payloads;
        got.sort();
        want.sort();
        prop_assert_eq!(got, want);
        prop_assert_eq!(decoder.stats().lost, 0);
    }

    #[test]
    fn no_datagram_makes_a_decoder_panic_or_hoard(
        datagrams in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..40), 0..200),
        blocks in proptest::collection::vec(any::<u8>(), 200),
    ) {
        let mut decoder = Decoder::default();
        for (datagram, block) in datagrams.into_iter().zip(blocks) {
            // Half of them close enough to real ones that they get further.
            let mut bytes = vec![0, 0, 0, block % 20];
            bytes.extend(datagram.iter().enumerate().map(|(n, b)| if n < 3 { b % 8 } else { *b }));
            let _ = decoder.accept(&bytes.into());
            let _ = decoder.accept(&datagram.into());
        }
    }
}
