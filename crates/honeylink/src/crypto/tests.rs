//! The vectors of RFC 9001 Appendix A, and the promises that no vector there covers.

use data_encoding::HEXLOWER;
use rustls::{
    CipherSuite, Side, SupportedCipherSuite,
    crypto::cipher::{AeadKey, InboundOpaqueMessage, Iv, OutboundChunks, OutboundPlainMessage},
    quic::{Algorithm, DirectionalKeys, Keys, Version},
};

use super::{
    header::{ChaChaMask, HeaderProtection},
    packet::{Aead, ChaChaPoly, Gcm, PacketProtection},
    suites::{self, AES_128, CHACHA},
};

fn hex(text: &str) -> Vec<u8> {
    let digits: String = text.split_whitespace().collect();
    HEXLOWER.decode(digits.as_bytes()).unwrap()
}

fn key(text: &str) -> AeadKey {
    AeadKey::from(<[u8; 32]>::try_from(hex(text)).unwrap())
}

fn iv(text: &str) -> Iv {
    Iv::from(<[u8; 12]>::try_from(hex(text)).unwrap())
}

/// Protects a packet as a sender does: payload first, then the header by a sample of the result.
fn protect(keys: &DirectionalKeys, number: u64, number_at: usize, header: &[u8], payload: &[u8]) -> Vec<u8> {
    let mut packet = [header, payload].concat();
    let (head, body) = packet.split_at_mut(header.len());
    let tag = keys.packet.encrypt_in_place(number, head, body).unwrap();
    packet.extend_from_slice(tag.as_ref());
    let (head, sample) = packet.split_at_mut(number_at + 4);
    let sample = &sample[..keys.header.sample_len()];
    let (first, rest) = head.split_first_mut().unwrap();
    keys.header.encrypt_in_place(sample, first, &mut rest[number_at - 1..]).unwrap();
    packet
}

/// Undoes [`protect`] as a receiver does, with a packet number of `number_len` bytes; gives header and payload.
fn unprotect(
    keys: &DirectionalKeys,
    number: u64,
    number_at: usize,
    number_len: usize,
    packet: &[u8],
) -> (Vec<u8>, Vec<u8>) {
    let mut packet = packet.to_vec();
    let (head, sample) = packet.split_at_mut(number_at + 4);
    let sample = &sample[..keys.header.sample_len()];
    let (first, rest) = head.split_first_mut().unwrap();
    keys.header.decrypt_in_place(sample, first, &mut rest[number_at - 1..]).unwrap();
    let (header, body) = packet.split_at_mut(number_at + number_len);
    let plain = keys.packet.decrypt_in_place(number, header, body).unwrap().to_vec();
    (header.to_vec(), plain)
}

/// Appendix A.1: both sides' Initial keys follow from the client's first destination connection id.
fn initial(side: Side) -> Keys {
    Keys::initial(Version::V1, &AES_128, AES_128.quic.unwrap(), &hex("8394c8f03e515708"), side)
}

/// Appendix A.2: the CRYPTO frame with the ClientHello, padded with PADDING frames (zeros) to 1162 bytes.
fn client_payload() -> Vec<u8> {
    let mut payload = hex("060040f1010000ed0303ebf8fa56f12939b9584a3896472ec40bb863cfd3e868
        04fe3a47f06a2b69484c00000413011302010000c000000010000e00000b6578616d706c652e636f6dff01000100
        000a00080006001d0017001800100007000504616c706e000500050100000000003300260024001d00209370b2c9
        caa47fbabaf4559fedba753de171fa71f50f1ce15d43e994ec74d748002b0003020304000d0010000e0403050306
        030203080408050806002d00020101001c00024001003900320408ffffffffffffffff05048000ffff07048000ff
        ff0801100104800075300901100f088394c8f03e51570806048000ffff");
    payload.resize(1162, 0);
    payload
}

const CLIENT_HEADER: &str = "c300000001088394c8f03e5157080000449e00000002";
const SERVER_HEADER: &str = "c1000000010008f067a5502a4262b50040750001";

#[test]
fn the_client_initial_of_rfc_9001_a2_comes_out_bit_for_bit() {
    let expected = hex(include_str!("rfc9001_a2.hex"));
    let header = hex(CLIENT_HEADER);
    assert_eq!(protect(&initial(Side::Client).local, 2, 18, &header, &client_payload()), expected);
    let opened = unprotect(&initial(Side::Server).remote, 2, 18, 4, &expected);
    assert_eq!(opened, (header, client_payload()));
}

#[test]
fn the_server_initial_of_rfc_9001_a3_comes_out_bit_for_bit() {
    let header = hex(SERVER_HEADER);
    let payload = hex("02000000000600405a020000560303eefce7f7b37ba1d1632e96677825ddf739
        88cfc79825df566dc5430b9a045a1200130100002e00330024001d00209d3c940d89690b84d08a60993c144eca684d
        1081287c834d5311bcf32bb9da1a002b00020304");
    let expected = hex("cf000000010008f067a5502a4262b5004075c0d95a482cd0991cd25b0aac406a
        5816b6394100f37a1c69797554780bb38cc5a99f5ede4cf73c3ec2493a1839b3dbcba3f6ea46c5b7684df3548e7d
        deb9c3bf9c73cc3f3bded74b562bfb19fb84022f8ef4cdd93795d77d06edbb7aaf2f58891850abbdca3d20398c27
        6456cbc42158407dd074ee");
    assert_eq!(protect(&initial(Side::Server).local, 1, 18, &header, &payload), expected);
    let opened = unprotect(&initial(Side::Client).remote, 1, 18, 2, &expected);
    assert_eq!(opened, (header, payload));
}

#[test]
fn the_chacha20_short_packet_of_rfc_9001_a5_comes_out_bit_for_bit() {
    let quic = CHACHA.quic.unwrap();
    let keys = DirectionalKeys {
        packet: quic.packet_key(
            key("c6d98ff3441c3fe1b2182094f69caa2ed4b716b65488960a7a984979fb23e1c8"),
            iv("e0459b3474bdd0e44a41c144"),
        ),
        header: quic
            .header_protection_key(key("25a282b9e82f06f21f488917a4fc8f1b73573685608597d0efcb076b0ab7a7a4")),
    };
    let expected = hex("4cfe4189655e5cd55c41f69080575d7999c25a5bfb");
    assert_eq!(protect(&keys, 654_360_564, 1, &hex("4200bff4"), &hex("01")), expected);
    assert_eq!(unprotect(&keys, 654_360_564, 1, 3, &expected), (hex("4200bff4"), hex("01")));
}

#[test]
fn the_multipath_nonce_puts_the_path_id_before_the_packet_number() {
    let zero_iv = || iv("000000000000000000000000");
    let secret = "c6d98ff3441c3fe1b2182094f69caa2ed4b716b65488960a7a984979fb23e1c8";
    let protection = PacketProtection::<ChaChaPoly>::new(&key(secret), zero_iv());
    let quic: &dyn rustls::quic::PacketKey = &protection;
    let mut payload = *b"seven hills";
    let tag = quic.encrypt_in_place_for_path(0x0102_0304, 5, b"head", &mut payload).unwrap();

    // The same packet under the nonce written out by hand.
    let nonce = [1, 2, 3, 4, 0, 0, 0, 0, 0, 0, 0, 5];
    let mut expected = *b"seven hills";
    let expected_tag = ChaChaPoly::new(&key(secret)).seal(&nonce, b"head", &mut expected);
    assert_eq!((payload, tag.as_ref()), (expected, expected_tag.as_slice()));

    let mut sealed = [payload.as_slice(), tag.as_ref()].concat();
    assert!(quic.decrypt_in_place_for_path(0, 5, b"head", &mut sealed.clone()).is_err());
    assert_eq!(quic.decrypt_in_place_for_path(0x0102_0304, 5, b"head", &mut sealed).unwrap(), b"seven hills");
}

#[test]
fn path_zero_is_plain_quic() {
    let protection = PacketProtection::<ChaChaPoly>::new(&AeadKey::from([7; 32]), Iv::from([9; 12]));
    let quic: &dyn rustls::quic::PacketKey = &protection;
    let (mut plain, mut on_path) = (*b"payload", *b"payload");
    let tag = quic.encrypt_in_place(77, b"head", &mut plain).unwrap();
    let path_tag = quic.encrypt_in_place_for_path(0, 77, b"head", &mut on_path).unwrap();
    assert_eq!((plain, tag.as_ref()), (on_path, path_tag.as_ref()));
}

#[test]
fn a_forged_or_short_packet_is_refused_and_leaks_no_plaintext() {
    let keys = initial(Side::Client).local;
    let mut sealed = b"attack at dawn".to_vec();
    let tag = keys.packet.encrypt_in_place(1, b"head", &mut sealed).unwrap();
    sealed.extend_from_slice(tag.as_ref());
    for at in 0..sealed.len() {
        let mut forged = sealed.clone();
        forged[at] ^= 1;
        assert!(keys.packet.decrypt_in_place(1, b"head", &mut forged).is_err());
        assert_eq!(forged[..14], [0; 14]);
    }
    for len in 0..16 {
        assert!(keys.packet.decrypt_in_place(1, b"head", &mut sealed.clone()[..len]).is_err());
    }
}

#[test]
fn every_sample_has_a_mask_even_the_last_block_of_chacha20() {
    let protection = HeaderProtection::<ChaChaMask>::new(&AeadKey::from([3; 32]));
    let header: &dyn rustls::quic::HeaderProtectionKey = &protection;
    for sample in [[0xff; 16], [0; 16]] {
        let (mut first, mut number) = (0x43, [1, 2, 3, 4]);
        header.encrypt_in_place(&sample, &mut first, &mut number).unwrap();
        header.decrypt_in_place(&sample, &mut first, &mut number).unwrap();
        assert_eq!((first, number), (0x43, [1, 2, 3, 4]));
    }
}

#[test]
fn a_sample_or_packet_number_of_the_wrong_length_changes_nothing() {
    let header = initial(Side::Client).local.header;
    let (mut first, mut number) = (0x43, [1, 2, 3, 4, 5]);
    for len in [0, 15, 17] {
        assert!(header.encrypt_in_place(&[0; 17][..len], &mut first, &mut number[..4]).is_err());
        assert!(header.decrypt_in_place(&[0; 17][..len], &mut first, &mut number[..4]).is_err());
    }
    assert!(header.encrypt_in_place(&[0; 16], &mut first, &mut number).is_err());
    assert!(header.decrypt_in_place(&[0; 16], &mut first, &mut number).is_err());
    assert_eq!((first, number), (0x43, [1, 2, 3, 4, 5]));
}

#[test]
fn the_limits_are_those_of_rfc_9001_section_6_6() {
    fn limits<A: Aead>() -> (u64, u64) {
        (A::CONFIDENTIALITY_LIMIT, A::INTEGRITY_LIMIT)
    }
    assert_eq!(limits::<Gcm<16>>(), (1 << 23, 1 << 52));
    assert_eq!(limits::<Gcm<32>>(), (1 << 23, 1 << 52));
    assert_eq!(limits::<ChaChaPoly>(), (u64::MAX, 1 << 36));
}

#[test]
fn every_tls13_suite_can_do_quic_and_aes_128_comes_first() {
    let provider = suites::provider();
    let tls13: Vec<_> = provider.cipher_suites.iter().filter_map(SupportedCipherSuite::tls13).collect();
    let names: Vec<_> = tls13.iter().map(|suite| suite.common.suite).collect();
    let expected = [
        CipherSuite::TLS13_AES_128_GCM_SHA256,
        CipherSuite::TLS13_AES_256_GCM_SHA384,
        CipherSuite::TLS13_CHACHA20_POLY1305_SHA256,
    ];
    assert_eq!(names, expected);
    let key_lens: Vec<_> = tls13.iter().map(|suite| suite.quic.map(Algorithm::aead_key_len)).collect();
    assert_eq!(key_lens, [Some(16), Some(32), Some(32)]);
    assert!(provider.cipher_suites[0].tls13().is_some());
}

/// iroh seals its address-validation tokens with a 32-byte key under the first TLS 1.3 suite, whatever that suite is.
#[test]
fn the_first_suite_seals_tokens_under_a_32_byte_key() {
    let key = || AeadKey::from([5; 32]);
    let iv = || Iv::from([6; 12]);
    let message = OutboundPlainMessage {
        typ: rustls::ContentType::ApplicationData,
        version: rustls::ProtocolVersion::TLSv1_3,
        payload: OutboundChunks::Single(b"token"),
    };
    let sealed = AES_128.aead_alg.encrypter(key(), iv()).encrypt(message, 0).unwrap();
    let mut bytes = sealed.payload.as_ref().to_vec();
    let message = InboundOpaqueMessage::new(
        rustls::ContentType::ApplicationData,
        rustls::ProtocolVersion::TLSv1_3,
        &mut bytes,
    );
    assert_eq!(AES_128.aead_alg.decrypter(key(), iv()).decrypt(message, 0).unwrap().payload, b"token");
}
