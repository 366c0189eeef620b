//! The bytes of [`PolicyFrame`]: what two sides of a link say to each other about policies, on a stream of kind `policy`
//! (`docs/wire/qos.md`).
//!
//! ```text
//! frame    = length u16 | type u8 | revision varint | body
//! apply    = 0x01 | .. | name text | priority u8 | weight u8 | rate_min varint | rate_max varint
//!                      | deadline_us varint | queue_bytes_max varint | fec u8          0 stands for none
//! ack      = 0x02
//! refuse   = 0x03 | .. | reason text
//! ```

use core::time::Duration;

use bytes::{BufMut as _, BytesMut};

use super::class::{StreamOptions, Weight};
use super::fec::FecChoice;
use super::policy::{Policy, PolicyFrame};
use crate::limits::{CONTROL_BYTES_MAX, NAME_BYTES_MAX, REASON_BYTES_MAX};
use crate::wire::link::Priority;
use crate::wire::{Invalid, Reader, put_bytes, put_varint};

const APPLY: u8 = 1;
const ACK: u8 = 2;
const REFUSE: u8 = 3;

impl PolicyFrame {
    /// Bytes of the length field that comes first.
    pub const LENGTH_BYTES: usize = 2;

    /// Appends the frame with its length field.
    pub fn encode(&self, out: &mut BytesMut) {
        let mut body = BytesMut::new();
        match self {
            Self::Apply { revision, policy } => {
                body.put_u8(APPLY);
                put_varint(&mut body, *revision);
                put_policy(&mut body, policy);
            }
            Self::Ack { revision } => {
                body.put_u8(ACK);
                put_varint(&mut body, *revision);
            }
            Self::Refuse { revision, reason } => {
                body.put_u8(REFUSE);
                put_varint(&mut body, *revision);
                let end = reason.floor_char_boundary(REASON_BYTES_MAX);
                put_bytes(&mut body, &reason.as_bytes()[..end]);
            }
        }
        out.put_u16(u16::try_from(body.len()).unwrap_or(u16::MAX));
        out.put_slice(&body);
    }

    /// The body's length from the two bytes of the length field.
    ///
    /// # Errors
    /// [`Invalid::TooLarge`] over [`CONTROL_BYTES_MAX`]: checked before anything is read or allocated.
    pub fn body_len(field: [u8; 2]) -> Result<usize, Invalid> {
        let size = usize::from(u16::from_be_bytes(field));
        if size > CONTROL_BYTES_MAX {
            return Err(Invalid::TooLarge {
                what: "policy frame",
                size: size as u64,
                max: CONTROL_BYTES_MAX as u64,
            });
        }
        Ok(size)
    }

    /// Reads the body, without the length field. Whether the policy can be used is [`Policy::check`]'s to say.
    ///
    /// # Errors
    /// [`Invalid`], naming the field.
    pub fn decode(body: &[u8]) -> Result<Self, Invalid> {
        let mut r = Reader::new(body);
        let kind = r.u8("policy frame type")?;
        let revision = r.varint("policy revision")?;
        let frame = match kind {
            APPLY => Self::Apply { revision, policy: policy(&mut r)? },
            ACK => Self::Ack { revision },
            REFUSE => {
                Self::Refuse { revision, reason: r.text(REASON_BYTES_MAX, "policy reason")?.to_owned() }
            }
            _ => return Err(Invalid::Value { what: "policy frame type" }),
        };
        r.finish("policy frame")?;
        Ok(frame)
    }
}

fn put_policy(out: &mut BytesMut, policy: &Policy) {
    let options = policy.options;
    let deadline_us = options.deadline.map_or(0, |d| u64::try_from(d.as_micros()).unwrap_or(u64::MAX));
    put_bytes(out, policy.name.as_bytes());
    out.put_slice(&[options.priority.as_u8(), options.weight.as_u8()]);
    for number in
        [options.rate_min.unwrap_or(0), options.rate_max.unwrap_or(0), deadline_us, options.queue_bytes_max]
    {
        put_varint(out, number);
    }
    out.put_u8(match policy.fec {
        FecChoice::Off => 0,
        FecChoice::Auto => 1,
        FecChoice::AtLeastLight => 2,
    });
}

fn policy(r: &mut Reader<'_>) -> Result<Policy, Invalid> {
    let name = r.text(NAME_BYTES_MAX, "policy name")?.to_owned();
    let priority =
        Priority::new(r.u8("policy priority")?).ok_or(Invalid::Value { what: "policy priority" })?;
    let weight = Weight::new(r.u8("policy weight")?).ok_or(Invalid::Value { what: "policy weight" })?;
    let some = |number: u64| (number > 0).then_some(number);
    let rate_min = some(r.varint("policy rate_min")?);
    let rate_max = some(r.varint("policy rate_max")?);
    let deadline = some(r.varint("policy deadline")?).map(Duration::from_micros);
    let queue_bytes_max = r.varint("policy queue")?;
    let fec = match r.u8("policy repair")? {
        0 => FecChoice::Off,
        1 => FecChoice::Auto,
        2 => FecChoice::AtLeastLight,
        _ => return Err(Invalid::Value { what: "policy repair" }),
    };
    let options = StreamOptions { priority, weight, rate_min, rate_max, deadline, queue_bytes_max };
    Ok(Policy { name, options, fec })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::qos::policy::Preset;
    use proptest::prelude::*;

    fn encoded(frame: &PolicyFrame) -> String {
        let mut out = BytesMut::new();
        frame.encode(&mut out);
        data_encoding::HEXLOWER.encode(&out)
    }

    #[test]
    fn policy_frames_have_the_bytes_of_version_1() {
        let media = PolicyFrame::Apply { revision: 7, policy: Preset::Media8k.policy() };
        assert_eq!(encoded(&media), "001b0107086d656469612d386b0508805f5e10008007a1208040000001");
        assert_eq!(encoded(&PolicyFrame::Ack { revision: 7 }), "00020207");
        assert_eq!(encoded(&PolicyFrame::Refuse { revision: 7, reason: "no".into() }), "00050307026e6f");
    }

    #[test]
    fn every_preset_survives_the_wire() {
        for preset in Preset::ALL {
            let frame = PolicyFrame::Apply { revision: 1, policy: preset.policy() };
            let mut out = BytesMut::new();
            frame.encode(&mut out);
            let (field, body) = out.split_first_chunk().unwrap();
            assert_eq!(PolicyFrame::body_len(*field), Ok(body.len()));
            assert_eq!(PolicyFrame::decode(body), Ok(frame));
        }
    }

    #[test]
    fn a_frame_that_claims_too_much_or_means_nothing_is_refused() {
        assert!(matches!(PolicyFrame::body_len([0xff, 0xff]), Err(Invalid::TooLarge { .. })));
        for body in [&[][..], &[9, 0], &[2], &[2, 0, 0], &[1, 0, 1, b'x', 8, 1, 0, 0, 0, 1, 0]] {
            assert!(PolicyFrame::decode(body).is_err(), "{body:?}");
        }
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic_and_what_it_takes_has_one_encoding(
            body in proptest::collection::vec(any::<u8>(), 0..120)
        ) {
            if let Ok(frame) = PolicyFrame::decode(&body) {
                let mut out = BytesMut::new();
                frame.encode(&mut out);
                prop_assert_eq!(&out[PolicyFrame::LENGTH_BYTES..], &body[..]);
            }
        }
    }
}
