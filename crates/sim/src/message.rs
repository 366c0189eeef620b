//! The payloads of simulated traffic: each says which message it is, so that a checker knows what was delivered.

use bytes::{BufMut as _, Bytes, BytesMut};

use crate::chance::blend;
use crate::device::MessageId;

/// Shortest payload in bytes: a message's number.
pub const BYTES_MIN: usize = 4;
/// Longest payload in bytes.
pub const BYTES_MAX: usize = 4_096;

/// The payload of message `id` in the run of `seed`: its number, then bytes that only this message has.
#[must_use]
pub fn payload(seed: u64, id: MessageId, len: usize) -> Bytes {
    let mut bytes = BytesMut::with_capacity(len);
    bytes.put_u32(id.0);
    let mut block = 0;
    while bytes.len() < len {
        let filler = blend(&[seed, u64::from(id.0), block]).to_be_bytes();
        let rest = len - bytes.len();
        bytes.put_slice(&filler[..rest.min(8)]);
        block += 1;
    }
    bytes.truncate(len);
    bytes.freeze()
}

/// Which message a payload says it is.
#[must_use]
pub fn number(payload: &[u8]) -> Option<MessageId> {
    let bytes = payload.first_chunk::<4>()?;
    Some(MessageId(u32::from_be_bytes(*bytes)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_payload_tells_its_number_and_differs_from_every_other() {
        let a = payload(1, MessageId(7), 20);
        assert_eq!((a.len(), number(&a)), (20, Some(MessageId(7))));
        assert_ne!(a[4..], payload(2, MessageId(7), 20)[4..]);
        assert_ne!(a[4..], payload(1, MessageId(8), 20)[4..]);
        assert_eq!(payload(1, MessageId(7), 4).len(), 4);
        assert_eq!(number(&[1, 2, 3]), None);
    }
}
