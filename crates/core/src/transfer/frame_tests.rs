//! Golden bytes and properties of the transfer frames.

use super::*;
use proptest::prelude::*;

fn encoded(message: &Message) -> Vec<u8> {
    let mut out = BytesMut::new();
    message.encode(&mut out);
    out.to_vec()
}

fn decoded(frame: &[u8]) -> Result<Message, Invalid> {
    let (header, body) = frame.split_first_chunk::<HEADER_BYTES>().unwrap();
    let header = Header::decode(*header)?;
    assert_eq!(header.len, body.len());
    Message::decode(header.kind, body)
}

#[test]
fn version_1_has_these_bytes() {
    let hash = [0xab; 32];
    let hash_hex = "ab".repeat(32);
    let modified = Modified { seconds: -1, nanos: 5 };
    let file = Body::File { size: 300, executable: true, modified };
    let golden = [
        (
            Message::Offer(Offer { id: [1; 16], name: "a b".into(), entries: 2, files: 1, bytes: 16_384 }),
            format!("0100001b 01 {} 02 01 80004000 03 612062", "01".repeat(16)),
        ),
        (
            Message::List {
                first: 7,
                entries: vec![
                    Entry { path: "d".into(), body: Body::Folder },
                    Entry { path: "d/x".into(), body: file },
                ],
            },
            "02000017 07 00 01 64 03 03 642f78 412c ffffffffffffffff 00000005".into(),
        ),
        (Message::Start { index: 5, offset: 64 }, "04000003 05 4040".into()),
        (Message::End { hash }, format!("06000020 {hash_hex}")),
        (Message::Finish { digest: hash }, format!("07000020 {hash_hex}")),
        (Message::Receipt { digest: hash }, format!("13000020 {hash_hex}")),
        (Message::Accept { resume: true }, "10000001 01".into()),
        (Message::Decline { reason: Reason::Declined, text: "no".into() }, "11000004 01 02 6e6f".into()),
        (Message::Stop { reason: Reason::Busy, text: String::new() }, "08000002 08 00".into()),
        (
            Message::Have { upto: 9, claims: vec![Claim { index: 8, offset: 1, prefix: hash }] },
            format!("12000023 09 08 01 {hash_hex}"),
        ),
    ];
    for (message, hex) in golden {
        let hex = hex.replace(' ', "");
        assert_eq!(data_encoding::HEXLOWER.encode(&encoded(&message)), hex, "{message:?}");
        assert_eq!(decoded(&data_encoding::HEXLOWER.decode(hex.as_bytes()).unwrap()), Ok(message));
    }
    let mut whole = BytesMut::new();
    put_whole(&mut whole, 1, &hash, 3);
    whole.put_slice(b"abc");
    assert_eq!(
        data_encoding::HEXLOWER.encode(&whole),
        format!("0300002401{hash_hex}616263"),
        "a small file in one frame"
    );
    assert_eq!(split_whole(&whole[HEADER_BYTES..]), Ok((1, hash, &b"abc"[..])));
}

#[test]
fn a_frame_over_its_kinds_limit_is_refused_before_it_is_read() {
    let header = |kind: Kind, len: usize| Header { kind, len }.encode();
    assert!(Header::decode(header(Kind::Data, TRANSFER_CHUNK_BYTES_MAX)).is_ok());
    assert!(Header::decode(header(Kind::Data, TRANSFER_CHUNK_BYTES_MAX + 1)).is_err());
    assert!(Header::decode(header(Kind::Offer, 1025)).is_err());
    assert!(Header::decode([0, 0, 0, 0]).is_err());
    assert!(Header::decode([255, 0, 0, 0]).is_err());
}

#[test]
fn an_offer_of_more_entries_than_the_limit_or_of_another_version_is_refused() {
    let offer = Offer { id: [0; 16], name: String::new(), entries: 1_000_001, files: 0, bytes: 0 };
    assert!(matches!(decoded(&encoded(&Message::Offer(offer.clone()))), Err(Invalid::TooLarge { .. })));
    let mut frame = encoded(&Message::Offer(Offer { entries: 1, ..offer }));
    frame[HEADER_BYTES] = 2;
    assert_eq!(decoded(&frame), Err(Invalid::Value { what: "transfer version" }));
}

#[test]
fn a_reason_cannot_steer_a_terminal() {
    let stop = Message::Stop { reason: Reason::Disk, text: "a\u{1b}[2Jb".into() };
    assert_eq!(decoded(&encoded(&stop)), Ok(Message::Stop { reason: Reason::Disk, text: "a [2Jb".into() }));
}

fn entry() -> impl Strategy<Value = Entry> {
    let file = (0..1u64 << 60, any::<bool>(), any::<i64>(), 0..1_000_000_000u32).prop_map(
        |(size, executable, seconds, nanos)| Body::File {
            size,
            executable,
            modified: Modified { seconds, nanos },
        },
    );
    ("\\PC{0,40}", prop_oneof![Just(Body::Folder), file]).prop_map(|(path, body)| Entry { path, body })
}

fn claim() -> impl Strategy<Value = Claim> {
    (0..1u64 << 40, 0..1u64 << 60, any::<[u8; 32]>()).prop_map(|(index, offset, prefix)| Claim {
        index,
        offset,
        prefix,
    })
}

fn message() -> impl Strategy<Value = Message> {
    prop_oneof![
        (any::<[u8; 16]>(), "\\PC{0,40}", 0..1_000_000u64, 0..1u64 << 60).prop_map(
            |(id, name, entries, bytes)| Message::Offer(Offer {
                id,
                name,
                entries,
                files: entries / 2,
                bytes
            })
        ),
        (0..1u64 << 40, proptest::collection::vec(entry(), 0..20))
            .prop_map(|(first, entries)| Message::List { first, entries }),
        (0..1u64 << 40, 0..1u64 << 60).prop_map(|(index, offset)| Message::Start { index, offset }),
        any::<[u8; 32]>().prop_map(|hash| Message::End { hash }),
        any::<bool>().prop_map(|resume| Message::Accept { resume }),
        "\\PC{0,60}".prop_map(|text| Message::Decline { reason: Reason::NoSpace, text }),
        (0..1u64 << 40, proptest::collection::vec(claim(), 0..20))
            .prop_map(|(upto, claims)| Message::Have { upto, claims }),
    ]
}

proptest! {
    #[test]
    fn messages_round_trip(message in message()) {
        prop_assert_eq!(decoded(&encoded(&message)), Ok(message));
    }

    #[test]
    fn no_bytes_make_the_codec_panic(kind in any::<[u8; 4]>(), body in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = split_whole(&body);
        if let Ok(header) = Header::decode(kind) {
            let _ = Message::decode(header.kind, &body);
        }
    }

    #[test]
    fn a_truncated_message_is_an_error_or_another_message(message in message(), cut in 1..64usize) {
        let frame = encoded(&message);
        let body = &frame[HEADER_BYTES..];
        let header = Header::decode(*frame.first_chunk().unwrap()).unwrap();
        let shorter = &body[..body.len().saturating_sub(cut)];
        if let Ok(other) = Message::decode(header.kind, shorter) {
            prop_assert!(other != message || shorter.len() == body.len());
        }
    }
}
