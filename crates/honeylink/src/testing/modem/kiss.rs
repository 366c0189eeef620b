//! The emulator's own KISS: frames out of bytes, bytes out of frames.

/// Longest frame taken, bytes.
const FRAME_BYTES_MAX: usize = 1024;

/// Collects bytes into frames.
#[derive(Debug, Default)]
pub(super) struct Unframer {
    frame: Option<Vec<u8>>,
    escaped: bool,
}

impl Unframer {
    /// Takes one byte; a frame's command and payload, if it ended one.
    pub(super) fn take(&mut self, byte: u8) -> Option<(u8, Vec<u8>)> {
        if byte == 0xc0 {
            self.escaped = false;
            let mut whole = self.frame.replace(Vec::new())?;
            return (!whole.is_empty()).then(|| (whole.remove(0), whole));
        }
        let frame = self.frame.as_mut()?;
        let meant = match (std::mem::take(&mut self.escaped), byte) {
            (false, 0xdb) => {
                self.escaped = true;
                return None;
            }
            (false, plain) => Some(plain),
            (true, 0xdc) => Some(0xc0),
            (true, 0xdd) => Some(0xdb),
            (true, _) => None,
        };
        match meant.filter(|_| frame.len() < FRAME_BYTES_MAX) {
            Some(byte) => frame.push(byte),
            // Nonsense or too long: given up until the next frame begins.
            None => self.frame = None,
        }
        None
    }
}

/// A frame as bytes.
pub(super) fn framed(command: u8, payload: &[u8]) -> Vec<u8> {
    let mut out = vec![0xc0, command];
    for byte in payload {
        match byte {
            0xc0 => out.extend([0xdb, 0xdc]),
            0xdb => out.extend([0xdb, 0xdd]),
            plain => out.push(*plain),
        }
    }
    out.push(0xc0);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_framed_is_unframed() {
        let payload: Vec<u8> = (0..=255).collect();
        let mut unframer = Unframer::default();
        let mut bytes = b"noise".to_vec();
        bytes.extend(framed(7, &payload));
        let frames: Vec<_> = bytes.into_iter().filter_map(|byte| unframer.take(byte)).collect();
        assert_eq!(frames, [(7, payload)]);
    }
}
