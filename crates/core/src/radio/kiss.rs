//! KISS framing: how frames share a serial line with a modem (docs/wire/radio.md, RA-K).
//!
//! A frame is `C0 command payload C0`. A `C0` inside is written `DB DC`, a `DB` inside `DB DD`. One `C0` may both end a
//! frame and begin the next, and empty frames mean nothing, so a reader that was cut off, or heard a modem's boot
//! messages, is in step again at the next `C0`.

use bytes::{BufMut, Bytes, BytesMut};

/// Frame end.
pub const FEND: u8 = 0xc0;
/// Escape.
pub const FESC: u8 = 0xdb;
/// What a [`FEND`] becomes after an escape.
pub const TFEND: u8 = 0xdc;
/// What a [`FESC`] becomes after an escape.
pub const TFESC: u8 = 0xdd;

/// A frame from a modem.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KissFrame {
    /// Its first byte.
    pub command: u8,
    /// What follows.
    pub payload: Bytes,
}

/// Appends a frame to `out`.
pub fn encode(command: u8, payload: &[u8], out: &mut BytesMut) {
    out.reserve(payload.len() + 4);
    out.put_u8(FEND);
    for byte in core::iter::once(command).chain(payload.iter().copied()) {
        match byte {
            FEND => out.put_slice(&[FESC, TFEND]),
            FESC => out.put_slice(&[FESC, TFESC]),
            plain => out.put_u8(plain),
        }
    }
    out.put_u8(FEND);
}

/// What a decoder could not use.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Discarded {
    /// Bytes before the first frame began.
    pub noise_bytes: u64,
    /// Frames over the limit.
    pub oversize: u64,
    /// Frames with an escape that means nothing.
    pub bad_escapes: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Nothing understood yet: waiting for a first frame end.
    Noise,
    Inside,
    Escaped,
    /// Inside a frame that is given up.
    Skipping,
}

/// Finds frames in a stream of bytes, cut anywhere, with anything between them. Holds at most one frame.
#[derive(Debug)]
pub struct Decoder {
    state: State,
    buffer: BytesMut,
    frame_bytes_max: usize,
    discarded: Discarded,
}

impl Decoder {
    /// A decoder for frames of at most `frame_bytes_max` bytes, command included.
    #[must_use]
    pub fn new(frame_bytes_max: usize) -> Self {
        Self {
            state: State::Noise,
            buffer: BytesMut::new(),
            frame_bytes_max,
            discarded: Discarded::default(),
        }
    }

    /// What was thrown away so far.
    #[must_use]
    pub const fn discarded(&self) -> Discarded {
        self.discarded
    }

    /// Forgets a frame that was begun: the line was cut.
    pub fn reset(&mut self) {
        self.buffer.clear();
        self.state = State::Noise;
    }

    /// Takes one byte; a frame, if it was the last one's last.
    pub fn push(&mut self, byte: u8) -> Option<KissFrame> {
        match (self.state, byte) {
            (State::Inside, FEND) => return self.complete(),
            (State::Escaped, FEND) => {
                // Cut in the middle of an escape: the frame is not whole, but this byte begins another.
                self.discarded.bad_escapes += 1;
                self.begin();
            }
            (State::Noise | State::Skipping, FEND) => self.begin(),
            (State::Noise, _) => self.discarded.noise_bytes += 1,
            (State::Skipping, _) => {}
            (State::Inside, FESC) => self.state = State::Escaped,
            (State::Inside, plain) => self.keep(plain),
            (State::Escaped, TFEND) => self.keep(FEND),
            (State::Escaped, TFESC) => self.keep(FESC),
            (State::Escaped, _) => {
                self.discarded.bad_escapes += 1;
                self.state = State::Skipping;
            }
        }
        None
    }

    fn begin(&mut self) {
        self.buffer.clear();
        self.state = State::Inside;
    }

    fn keep(&mut self, byte: u8) {
        if self.buffer.len() < self.frame_bytes_max {
            self.buffer.put_u8(byte);
            self.state = State::Inside;
        } else {
            self.discarded.oversize += 1;
            self.state = State::Skipping;
        }
    }

    fn complete(&mut self) -> Option<KissFrame> {
        let mut whole = self.buffer.split();
        if whole.is_empty() {
            return None;
        }
        let payload = whole.split_off(1).freeze();
        Some(KissFrame { command: whole[0], payload })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn decode(decoder: &mut Decoder, bytes: &[u8]) -> Vec<KissFrame> {
        bytes.iter().filter_map(|byte| decoder.push(*byte)).collect()
    }

    fn frame(command: u8, payload: &[u8]) -> KissFrame {
        KissFrame { command, payload: Bytes::copy_from_slice(payload) }
    }

    #[test]
    fn kiss_frames_have_their_golden_bytes() {
        let mut out = BytesMut::new();
        encode(0x00, &[0x01, 0xc0, 0x02, 0xdb, 0x03], &mut out);
        assert_eq!(out[..], [0xc0, 0x00, 0x01, 0xdb, 0xdc, 0x02, 0xdb, 0xdd, 0x03, 0xc0]);
        assert_eq!(decode(&mut Decoder::new(16), &out), [frame(0, &[0x01, 0xc0, 0x02, 0xdb, 0x03])]);
    }

    #[test]
    fn frames_may_share_a_frame_end_and_empty_ones_mean_nothing() {
        let bytes = [0xc0, 0xc0, 0x01, 0xaa, 0xc0, 0x02, 0xbb, 0xc0, 0xc0, 0xc0];
        assert_eq!(decode(&mut Decoder::new(16), &bytes), [frame(1, &[0xaa]), frame(2, &[0xbb])]);
    }

    #[test]
    fn boot_messages_and_broken_frames_do_not_hide_the_next_frame() {
        let mut decoder = Decoder::new(4);
        let mut bytes = b"boot: ok\r\n".to_vec();
        bytes.extend([0xc0, 1, 2, 3, 4, 5, 6, 7, 0xc0]); // too long
        bytes.extend([0xc0, 1, 0xdb, 9, 7, 0xc0]); // an escape of nothing
        bytes.extend([0xc0, 1, 0xdb, 0xc0, 0x07, 0x08, 0xc0]); // cut inside an escape; the next begins at once
        assert_eq!(decode(&mut decoder, &bytes), [frame(7, &[8])]);
        assert_eq!(decoder.discarded(), Discarded { noise_bytes: 10, oversize: 1, bad_escapes: 2 });
    }

    proptest! {
        #[test]
        fn a_frame_survives_garbage_before_it_and_any_cut(
            garbage in proptest::collection::vec(any::<u8>(), 0..40),
            command: u8,
            payload in proptest::collection::vec(any::<u8>(), 0..60),
        ) {
            let mut bytes = BytesMut::from(&garbage[..]);
            encode(command, &payload, &mut bytes);
            let frames = decode(&mut Decoder::new(61), &bytes);
            prop_assert_eq!(frames.last(), Some(&frame(command, &payload)));
        }

        #[test]
        fn a_decoder_never_holds_more_than_one_frame(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
            let mut decoder = Decoder::new(8);
            for byte in bytes {
                if let Some(frame) = decoder.push(byte) {
                    prop_assert!(frame.payload.len() < 8);
                }
                prop_assert!(decoder.buffer.len() <= 8);
            }
        }
    }
}
