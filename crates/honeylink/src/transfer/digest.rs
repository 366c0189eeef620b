//! The digest over a whole transfer; see the module doc for its definition.

use honeylink_core::transfer::frame::{Hash, Offer};

#[derive(Debug)]
pub(super) struct Digest {
    alone: bool,
    single: Hash,
    list: blake3::Hasher,
}

impl Digest {
    pub(super) fn new(offer: &Offer) -> Self {
        Self { alone: offer.entries == 1 && offer.files == 1, single: [0; 32], list: blake3::Hasher::new() }
    }

    /// Adds the next file in listing order.
    pub(super) fn add(&mut self, path: &str, hash: &Hash) {
        self.single = *hash;
        // Paths are at most TRANSFER_PATH_BYTES_MAX long, so the length fits.
        let len = u16::try_from(path.len()).unwrap_or(u16::MAX);
        self.list.update(&len.to_be_bytes());
        self.list.update(path.as_bytes());
        self.list.update(hash);
    }

    pub(super) fn finish(&self) -> Hash {
        if self.alone { self.single } else { *self.list.finalize().as_bytes() }
    }
}
