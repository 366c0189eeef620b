//! QUIC packet protection (RFC 9001 section 5.3) over graviola's AEADs.
//!
//! This is the hot path: the key schedule and the GHASH tables are made once per key, and a packet costs no
//! allocation, only the nonce on the stack and the bytes in place.

use graviola::aead::{AesGcm, ChaCha20Poly1305};
use rustls::{
    Error,
    crypto::cipher::{AeadKey, Iv, NONCE_LEN, Nonce},
    quic::{PacketKey, Tag},
};

use super::suites::key_bytes;

/// Length in bytes of the authentication tag, the same for every AEAD of QUIC.
const TAG_LEN: usize = 16;

/// An AEAD with the numbers that RFC 9001 ties to it.
pub(super) trait Aead: Send + Sync + 'static {
    /// Length of the key in bytes.
    const KEY_LEN: usize;
    /// Packets that may be sealed under one key (RFC 9001 section 6.6).
    const CONFIDENTIALITY_LIMIT: u64;
    /// Packets that may fail to open, over all keys of a connection (RFC 9001 section 6.6).
    const INTEGRITY_LIMIT: u64;

    /// Prepares a key of [`Self::KEY_LEN`] bytes.
    fn new(key: &AeadKey) -> Self;

    /// Encrypts in place and returns the tag.
    fn seal(&self, nonce: &[u8; NONCE_LEN], header: &[u8], payload: &mut [u8]) -> [u8; TAG_LEN];

    /// Decrypts in place; a forged packet leaves zeros behind, never plaintext.
    fn open(
        &self,
        nonce: &[u8; NONCE_LEN],
        header: &[u8],
        payload: &mut [u8],
        tag: &[u8],
    ) -> Result<(), graviola::Error>;
}

/// AEAD_AES_128_GCM (`KEY_LEN` = 16) or AEAD_AES_256_GCM (32).
pub(super) struct Gcm<const KEY_LEN: usize>(AesGcm);

impl<const KEY_LEN: usize> Aead for Gcm<KEY_LEN> {
    const KEY_LEN: usize = KEY_LEN;
    const CONFIDENTIALITY_LIMIT: u64 = 1 << 23;
    const INTEGRITY_LIMIT: u64 = 1 << 52;

    fn new(key: &AeadKey) -> Self {
        Self(AesGcm::new(key_bytes::<KEY_LEN>(key).as_slice()))
    }

    fn seal(&self, nonce: &[u8; NONCE_LEN], header: &[u8], payload: &mut [u8]) -> [u8; TAG_LEN] {
        let mut tag = [0; TAG_LEN];
        self.0.encrypt(nonce, header, payload, &mut tag);
        tag
    }

    fn open(
        &self,
        nonce: &[u8; NONCE_LEN],
        header: &[u8],
        payload: &mut [u8],
        tag: &[u8],
    ) -> Result<(), graviola::Error> {
        self.0.decrypt(nonce, header, payload, tag)
    }
}

/// AEAD_CHACHA20_POLY1305.
pub(super) struct ChaChaPoly(ChaCha20Poly1305);

impl Aead for ChaChaPoly {
    const KEY_LEN: usize = 32;
    /// More than the 2^62 packet numbers there are.
    const CONFIDENTIALITY_LIMIT: u64 = u64::MAX;
    const INTEGRITY_LIMIT: u64 = 1 << 36;

    fn new(key: &AeadKey) -> Self {
        Self(ChaCha20Poly1305::new(*key_bytes(key)))
    }

    fn seal(&self, nonce: &[u8; NONCE_LEN], header: &[u8], payload: &mut [u8]) -> [u8; TAG_LEN] {
        let mut tag = [0; TAG_LEN];
        self.0.encrypt(nonce, header, payload, &mut tag);
        tag
    }

    fn open(
        &self,
        nonce: &[u8; NONCE_LEN],
        header: &[u8],
        payload: &mut [u8],
        tag: &[u8],
    ) -> Result<(), graviola::Error> {
        self.0.decrypt(nonce, header, payload, tag)
    }
}

/// The key of one direction at one encryption level.
pub(super) struct PacketProtection<A> {
    aead: A,
    iv: Iv,
}

impl<A: Aead> PacketProtection<A> {
    pub(super) fn new(key: &AeadKey, iv: Iv) -> Self {
        Self { aead: A::new(key), iv }
    }

    fn seal(&self, nonce: &Nonce, header: &[u8], payload: &mut [u8]) -> Tag {
        Tag::from(self.aead.seal(&nonce.0, header, payload).as_slice())
    }

    /// Takes ciphertext with the tag at its end, returns the plaintext at its front.
    fn open<'a>(&self, nonce: &Nonce, header: &[u8], payload: &'a mut [u8]) -> Result<&'a [u8], Error> {
        let Some(plain_len) = payload.len().checked_sub(TAG_LEN) else {
            return Err(Error::DecryptError);
        };
        let (body, tag) = payload.split_at_mut(plain_len);
        self.aead.open(&nonce.0, header, body, tag).map_err(|_| Error::DecryptError)?;
        Ok(body)
    }
}

impl<A: Aead> PacketKey for PacketProtection<A> {
    fn encrypt_in_place(&self, packet_number: u64, header: &[u8], payload: &mut [u8]) -> Result<Tag, Error> {
        Ok(self.seal(&Nonce::new(&self.iv, packet_number), header, payload))
    }

    fn encrypt_in_place_for_path(
        &self,
        path_id: u32,
        packet_number: u64,
        header: &[u8],
        payload: &mut [u8],
    ) -> Result<Tag, Error> {
        Ok(self.seal(&Nonce::for_path(path_id, &self.iv, packet_number), header, payload))
    }

    fn decrypt_in_place<'a>(
        &self,
        packet_number: u64,
        header: &[u8],
        payload: &'a mut [u8],
    ) -> Result<&'a [u8], Error> {
        self.open(&Nonce::new(&self.iv, packet_number), header, payload)
    }

    fn decrypt_in_place_for_path<'a>(
        &self,
        path_id: u32,
        packet_number: u64,
        header: &[u8],
        payload: &'a mut [u8],
    ) -> Result<&'a [u8], Error> {
        self.open(&Nonce::for_path(path_id, &self.iv, packet_number), header, payload)
    }

    fn tag_len(&self) -> usize {
        TAG_LEN
    }

    fn confidentiality_limit(&self) -> u64 {
        A::CONFIDENTIALITY_LIMIT
    }

    fn integrity_limit(&self) -> u64 {
        A::INTEGRITY_LIMIT
    }
}
