//! QUIC header protection (RFC 9001 section 5.4): a cipher turns a sample of the packet's ciphertext into a mask, which
//! hides the packet number and the low bits of the first byte.
//!
//! graviola offers no bare block or stream cipher, so RustCrypto's are used here. The sample is foreign bytes: no
//! value of it may fail, or a stranger could stop the node with one datagram.

use aes::{
    Aes128, Aes256,
    cipher::{Array, BlockCipherEncrypt, KeyInit, consts::U16},
};
use chacha20::{
    ChaChaCore, KeyIvInit, R20,
    cipher::{Block, StreamCipherCore},
    variants::Ietf,
};
use rustls::{Error, crypto::cipher::AeadKey, quic::HeaderProtectionKey};
use zeroize::Zeroizing;

use super::suites::key_bytes;

/// Length of a sample in bytes, for every cipher of QUIC (RFC 9001 sections 5.4.3 and 5.4.4).
const SAMPLE_LEN: usize = 16;

/// One byte for the first byte of the header, four for the longest packet number.
type MaskBytes = [u8; 5];

/// A cipher that makes masks.
pub(super) trait Mask: Send + Sync + 'static {
    /// Prepares the header protection key.
    fn new(key: &AeadKey) -> Self;

    /// The mask of a sample. Total: every sample has one.
    fn mask(&self, sample: &[u8; SAMPLE_LEN]) -> MaskBytes;
}

/// RFC 9001 section 5.4.3: the sample, encrypted as one block.
fn aes_mask(cipher: &impl BlockCipherEncrypt<BlockSize = U16>, sample: &[u8; SAMPLE_LEN]) -> MaskBytes {
    let mut block = Array(*sample);
    cipher.encrypt_block(&mut block);
    let [first, a, b, c, d, ..] = block.0;
    [first, a, b, c, d]
}

impl Mask for Aes128 {
    fn new(key: &AeadKey) -> Self {
        KeyInit::new(&Array(*key_bytes(key)))
    }

    fn mask(&self, sample: &[u8; SAMPLE_LEN]) -> MaskBytes {
        aes_mask(self, sample)
    }
}

impl Mask for Aes256 {
    fn new(key: &AeadKey) -> Self {
        KeyInit::new(&Array(*key_bytes(key)))
    }

    fn mask(&self, sample: &[u8; SAMPLE_LEN]) -> MaskBytes {
        aes_mask(self, sample)
    }
}

/// RFC 9001 section 5.4.4: the key stream of ChaCha20 at the block and nonce that the sample names.
pub(super) struct ChaChaMask(Zeroizing<[u8; 32]>);

impl Mask for ChaChaMask {
    fn new(key: &AeadKey) -> Self {
        Self(key_bytes(key))
    }

    fn mask(&self, sample: &[u8; SAMPLE_LEN]) -> MaskBytes {
        let [c0, c1, c2, c3, nonce @ ..] = *sample;
        let mut core = ChaChaCore::<R20, Ietf>::new((&*self.0).into(), &Array(nonce));
        core.set_block_pos(u32::from_le_bytes([c0, c1, c2, c3]));
        // One block straight from the core, because the buffered cipher refuses the last block of its key stream,
        // which a sample that starts with ff ff ff ff names.
        let mut stream = Block::<ChaChaCore<R20, Ietf>>::default();
        core.write_keystream_block(&mut stream);
        let [first, a, b, c, d, ..] = stream.0;
        [first, a, b, c, d]
    }
}

/// The header protection key of one direction at one encryption level.
pub(super) struct HeaderProtection<M>(M);

impl<M: Mask> HeaderProtection<M> {
    pub(super) fn new(key: &AeadKey) -> Self {
        Self(M::new(key))
    }

    /// The mask as (for the first byte, for the packet number), once the arguments are known to be legal.
    fn mask(&self, sample: &[u8], packet_number: &[u8]) -> Result<(u8, [u8; 4]), Error> {
        let sample = sample.try_into().map_err(|_| {
            Error::General(format!("header protection sample of {} bytes, not {SAMPLE_LEN}", sample.len()))
        })?;
        let [first, number @ ..] = self.0.mask(sample);
        if packet_number.len() > number.len() {
            let len = packet_number.len();
            return Err(Error::General(format!("packet number of {len} bytes, more than {}", number.len())));
        }
        Ok((first, number))
    }
}

/// The bits of the first byte that are hidden: four of a long header, five of a short one (RFC 9001 section 5.4.1).
fn hidden_bits(first: u8) -> u8 {
    const LONG_HEADER: u8 = 0x80;
    if first & LONG_HEADER == 0 { 0x1f } else { 0x0f }
}

/// Applies the mask to the packet number, whose length the plain first byte gives: the bytes behind it are payload.
fn xor_packet_number(plain_first: u8, packet_number: &mut [u8], mask: [u8; 4]) {
    let len = usize::from(plain_first & 0x03) + 1;
    for (byte, mask) in packet_number.iter_mut().zip(mask).take(len) {
        *byte ^= mask;
    }
}

impl<M: Mask> HeaderProtectionKey for HeaderProtection<M> {
    fn encrypt_in_place(&self, sample: &[u8], first: &mut u8, packet_number: &mut [u8]) -> Result<(), Error> {
        let (first_mask, number_mask) = self.mask(sample, packet_number)?;
        xor_packet_number(*first, packet_number, number_mask);
        *first ^= first_mask & hidden_bits(*first);
        Ok(())
    }

    fn decrypt_in_place(&self, sample: &[u8], first: &mut u8, packet_number: &mut [u8]) -> Result<(), Error> {
        let (first_mask, number_mask) = self.mask(sample, packet_number)?;
        *first ^= first_mask & hidden_bits(*first);
        xor_packet_number(*first, packet_number, number_mask);
        Ok(())
    }

    fn sample_len(&self) -> usize {
        SAMPLE_LEN
    }
}
