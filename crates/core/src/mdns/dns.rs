//! The little of the DNS message format (RFC 1035 section 4, RFC 6762 section 18) that service discovery needs.
//!
//! Reading is total and bounded: names follow compression pointers only backwards and never grow past 255 bytes, a
//! record's data is a slice of the packet, and at most [`RECORDS_MAX`] records of the five types we know are kept.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::wire::{Invalid, Reader};

/// Records of one packet that are kept; a device's announcement has about six.
const RECORDS_MAX: usize = 64;
/// Questions of one packet that are kept.
const QUESTIONS_MAX: usize = 32;
/// Longest name, RFC 1035 section 2.3.4.
const NAME_BYTES_MAX: usize = 255;
/// Longest label, RFC 1035 section 2.3.4.
pub(super) const LABEL_BYTES_MAX: usize = 63;

const CLASS_IN: u16 = 1;
/// "Cache flush" in a record, "unicast answer wanted" in a question (RFC 6762 sections 10.2 and 5.4).
const TOP_BIT: u16 = 0x8000;
const FLAG_RESPONSE: u16 = 0x8000;
const FLAG_AUTHORITATIVE: u16 = 0x0400;

/// Record types (RFC 1035, 2782, 3596).
pub(super) mod kind {
    pub(in crate::mdns) const A: u16 = 1;
    pub(in crate::mdns) const PTR: u16 = 12;
    pub(in crate::mdns) const TXT: u16 = 16;
    pub(in crate::mdns) const AAAA: u16 = 28;
    pub(in crate::mdns) const SRV: u16 = 33;
    pub(in crate::mdns) const ANY: u16 = 255;
}

/// A domain name: its labels with their lengths, uncompressed, ASCII letters in lower case, so that names which DNS
/// calls equal are equal bytes. (A length is at most 63 and so never an ASCII letter.)
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Name(Vec<u8>);

impl Name {
    /// The name with these labels, most specific first. Labels over [`LABEL_BYTES_MAX`] are cut.
    pub(super) fn new(labels: &[&str]) -> Self {
        let mut bytes = Vec::with_capacity(64);
        for label in labels {
            let label = &label.as_bytes()[..label.len().min(LABEL_BYTES_MAX)];
            bytes.push(label.len() as u8);
            bytes.extend_from_slice(label);
        }
        bytes.push(0);
        bytes.make_ascii_lowercase();
        Self(bytes)
    }

    /// This name with one more label in front.
    pub(super) fn child(&self, label: &str) -> Self {
        let mut child = Self::new(&[label]);
        child.0.pop();
        child.0.extend_from_slice(&self.0);
        child
    }

    /// Whether this is `parent` with exactly one label in front.
    pub(super) fn is_child_of(&self, parent: &Self) -> bool {
        let first = self.0.first().map_or(0, |len| usize::from(*len));
        first > 0 && self.0.get(1 + first..) == Some(&parent.0[..])
    }
}

/// A question.
#[derive(Debug)]
pub(super) struct Question {
    pub(super) name: Name,
    pub(super) kind: u16,
}

/// A resource record.
#[derive(Debug)]
pub(super) struct Record<'a> {
    pub(super) name: Name,
    pub(super) ttl_s: u32,
    pub(super) data: Data<'a>,
}

/// What a record says.
#[derive(Debug)]
pub(super) enum Data<'a> {
    Ptr(Name),
    Srv { port: u16, host: Name },
    Txt(&'a [u8]),
    Address(IpAddr),
}

/// A query or a response.
#[derive(Debug)]
pub(super) struct Message<'a> {
    pub(super) is_response: bool,
    pub(super) questions: Vec<Question>,
    /// Of all three record sections; their difference means nothing to us.
    pub(super) records: Vec<Record<'a>>,
}

impl<'a> Message<'a> {
    pub(super) fn parse(packet: &'a [u8]) -> Result<Self, Invalid> {
        let mut at = Cursor { packet, rest: Reader::new(packet) };
        at.rest.u16("id")?;
        let flags = at.rest.u16("flags")?;
        let questions_len = at.rest.u16("question count")?;
        let records_len =
            (0..3).try_fold(0_u32, |sum, _| Ok(sum + u32::from(at.rest.u16("record count")?)))?;
        let mut message =
            Self { is_response: flags & FLAG_RESPONSE != 0, questions: Vec::new(), records: Vec::new() };
        // The loops end with the packet: every turn reads at least five bytes or fails.
        for _ in 0..questions_len {
            let (name, kind) = (at.name()?, at.rest.u16("question type")?);
            let class = at.rest.u16("question class")? & !TOP_BIT;
            if message.questions.len() < QUESTIONS_MAX && (class == CLASS_IN || class == kind::ANY) {
                message.questions.push(Question { name, kind });
            }
        }
        for _ in 0..records_len {
            let record = at.record()?;
            if message.records.len() < RECORDS_MAX {
                message.records.extend(record);
            }
        }
        Ok(message)
    }
}

/// A reader that can also look back, for compressed names.
struct Cursor<'a> {
    packet: &'a [u8],
    rest: Reader<'a>,
}

impl<'a> Cursor<'a> {
    /// `None` for a type or class we have no use for.
    fn record(&mut self) -> Result<Option<Record<'a>>, Invalid> {
        let name = self.name()?;
        let kind = self.rest.u16("record type")?;
        let class = self.rest.u16("record class")? & !TOP_BIT;
        let ttl_s = self.rest.u32("record ttl")?;
        let len = usize::from(self.rest.u16("record length")?);
        let start = self.packet.len() - self.rest.remaining();
        let bytes = self.rest.take(len, "record data")?;
        // Names inside the data may point back into the packet, but must end where the data ends.
        let until = self.packet.get(..start + len).unwrap_or(self.packet);
        let mut inner = Cursor { packet: until, rest: Reader::new(bytes) };
        let data = match kind {
            kind::PTR => Data::Ptr(inner.name()?),
            kind::SRV => {
                inner.rest.take(4, "srv priority and weight")?;
                Data::Srv { port: inner.rest.u16("srv port")?, host: inner.name()? }
            }
            kind::TXT => Data::Txt(bytes),
            kind::A => Data::Address(Ipv4Addr::from(inner.rest.array::<4>("a")?).into()),
            kind::AAAA => Data::Address(Ipv6Addr::from(inner.rest.array::<16>("aaaa")?).into()),
            _ => return Ok(None),
        };
        Ok((class == CLASS_IN).then_some(Record { name, ttl_s, data }))
    }

    fn name(&mut self) -> Result<Name, Invalid> {
        const WHAT: &str = "name";
        let mut name = Vec::new();
        // While following pointers we read from `jumped`; the cursor itself stays behind the first pointer.
        let mut jumped: Option<Reader<'a>> = None;
        let mut lowest = self.packet.len() - self.rest.remaining();
        loop {
            let reader = jumped.as_mut().unwrap_or(&mut self.rest);
            let len = reader.u8(WHAT)?;
            match len {
                0 => break,
                1..=63 => {
                    let label = reader.take(usize::from(len), WHAT)?;
                    name.push(len);
                    name.extend_from_slice(label);
                }
                0xc0.. => {
                    let target = usize::from(len & 0x3f) << 8 | usize::from(reader.u8(WHAT)?);
                    // Strictly backwards, so that a loop cannot be written.
                    if target >= lowest {
                        return Err(Invalid::Value { what: WHAT });
                    }
                    lowest = target;
                    jumped = Some(Reader::new(self.packet.get(target..).unwrap_or_default()));
                }
                _ => return Err(Invalid::Value { what: WHAT }),
            }
            if name.len() >= NAME_BYTES_MAX {
                return Err(Invalid::TooLarge {
                    what: WHAT,
                    size: name.len() as u64,
                    max: NAME_BYTES_MAX as u64,
                });
            }
        }
        name.push(0);
        name.make_ascii_lowercase();
        Ok(Name(name))
    }
}

/// The strings of a TXT record as key/value pairs (RFC 6763 section 6.3). A string without `=` is a key alone.
pub(super) fn txt_pairs(data: &[u8]) -> Vec<(&str, &[u8])> {
    const PAIRS_MAX: usize = 32;
    let mut rest = Reader::new(data);
    let mut pairs = Vec::new();
    while pairs.len() < PAIRS_MAX {
        let Ok(string) = rest.u8("txt").and_then(|len| rest.take(usize::from(len), "txt")) else { break };
        let (key, value) = match string.iter().position(|b| *b == b'=') {
            Some(at) => (&string[..at], &string[at + 1..]),
            None => (string, &[][..]),
        };
        if let Ok(key) = core::str::from_utf8(key) {
            pairs.push((key, value));
        }
    }
    pairs
}

/// Writes a message. No compression: our own messages fit in a frame without it.
#[derive(Debug)]
pub(super) struct Writer {
    bytes: Vec<u8>,
    questions: u16,
    answers: u16,
}

impl Writer {
    pub(super) fn query() -> Self {
        Self::start(0)
    }

    pub(super) fn response() -> Self {
        Self::start(FLAG_RESPONSE | FLAG_AUTHORITATIVE)
    }

    fn start(flags: u16) -> Self {
        let mut bytes = vec![0; 12];
        bytes[2..4].copy_from_slice(&flags.to_be_bytes());
        Self { bytes, questions: 0, answers: 0 }
    }

    pub(super) fn question(&mut self, name: &Name, kind: u16) {
        self.questions += 1;
        self.bytes.extend_from_slice(&name.0);
        self.u16(kind);
        self.u16(CLASS_IN);
    }

    pub(super) fn ptr(&mut self, name: &Name, ttl_s: u32, target: &Name) {
        // A shared record: several devices answer for the service name, so nobody may flush the others.
        self.record(name, kind::PTR, CLASS_IN, ttl_s, &target.0);
    }

    pub(super) fn srv(&mut self, name: &Name, ttl_s: u32, port: u16, host: &Name) {
        let mut data = vec![0; 4];
        data.extend_from_slice(&port.to_be_bytes());
        data.extend_from_slice(&host.0);
        self.record(name, kind::SRV, CLASS_IN | TOP_BIT, ttl_s, &data);
    }

    pub(super) fn txt(&mut self, name: &Name, ttl_s: u32, pairs: &[(&'static str, String)]) {
        let mut data = Vec::new();
        for (key, value) in pairs {
            // TxtRecord keeps every pair under 255 bytes; a longer one would be left out rather than damage the rest.
            if let Ok(len) = u8::try_from(key.len() + 1 + value.len()) {
                data.push(len);
                data.extend_from_slice(key.as_bytes());
                data.push(b'=');
                data.extend_from_slice(value.as_bytes());
            }
        }
        self.record(name, kind::TXT, CLASS_IN | TOP_BIT, ttl_s, &data);
    }

    pub(super) fn address(&mut self, name: &Name, ttl_s: u32, address: IpAddr) {
        match address {
            IpAddr::V4(v4) => self.record(name, kind::A, CLASS_IN | TOP_BIT, ttl_s, &v4.octets()),
            IpAddr::V6(v6) => self.record(name, kind::AAAA, CLASS_IN | TOP_BIT, ttl_s, &v6.octets()),
        }
    }

    pub(super) fn finish(mut self) -> Vec<u8> {
        self.bytes[4..6].copy_from_slice(&self.questions.to_be_bytes());
        self.bytes[6..8].copy_from_slice(&self.answers.to_be_bytes());
        self.bytes
    }

    fn record(&mut self, name: &Name, kind: u16, class: u16, ttl_s: u32, data: &[u8]) {
        self.answers += 1;
        self.bytes.extend_from_slice(&name.0);
        self.u16(kind);
        self.u16(class);
        self.bytes.extend_from_slice(&ttl_s.to_be_bytes());
        self.u16(data.len() as u16);
        self.bytes.extend_from_slice(data);
    }

    fn u16(&mut self, value: u16) {
        self.bytes.extend_from_slice(&value.to_be_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn names_are_equal_without_regard_to_case_and_compression() {
        // "F.ISI.ARPA", then "foo" + pointer to it: the example of RFC 1035 section 4.1.4.
        let packet = b"\x01F\x03ISI\x04ARPA\x00\x03FOO\xc0\x00";
        let mut at = Cursor { packet, rest: Reader::new(packet) };
        assert_eq!(at.name(), Ok(Name::new(&["f", "isi", "arpa"])));
        let foo = at.name().unwrap();
        assert_eq!(foo, Name::new(&["Foo", "F", "isi", "arpa"]));
        assert!(foo.is_child_of(&Name::new(&["f", "isi", "arpa"])));
        assert!(!foo.is_child_of(&Name::new(&["isi", "arpa"])));
        assert_eq!(at.rest.remaining(), 0);
    }

    #[test]
    fn a_pointer_can_only_go_back() {
        for packet in [&b"\xc0\x00"[..], b"\x01a\xc0\x02", b"\xc0\x05\0\0\0\0"] {
            let mut at = Cursor { packet, rest: Reader::new(packet) };
            assert_eq!(at.name(), Err(Invalid::Value { what: "name" }));
        }
    }

    #[test]
    fn a_name_never_grows_past_its_limit() {
        // 5 labels of 60 bytes.
        let packet: Vec<u8> = core::iter::repeat_n([&[60][..], &[b'a'; 60]].concat(), 5).flatten().collect();
        let mut at = Cursor { packet: &packet, rest: Reader::new(&packet) };
        assert!(matches!(at.name(), Err(Invalid::TooLarge { .. })));
    }

    proptest! {
        #[test]
        fn no_packet_makes_the_reader_panic(bytes in proptest::collection::vec(any::<u8>(), 0..600)) {
            let _ = Message::parse(&bytes);
            let _ = txt_pairs(&bytes);
        }

        /// A valid message with some bytes changed reaches further than noise does.
        #[test]
        fn no_damage_makes_the_reader_panic(changes in proptest::collection::vec((0..200_usize, any::<u8>()), 0..8)) {
            let name = Name::new(&["a", "b", "local"]);
            let mut w = Writer::response();
            w.ptr(&name, 120, &name.child("x"));
            w.srv(&name, 120, 1, &name);
            w.txt(&name, 120, &[("id", "1".to_owned())]);
            w.address(&name, 120, IpAddr::from([192, 0, 2, 1]));
            let mut packet = w.finish();
            for (at, byte) in changes {
                let at = at % packet.len();
                packet[at] = byte;
            }
            if let Ok(message) = Message::parse(&packet) {
                prop_assert!(message.records.len() <= RECORDS_MAX);
            }
        }
    }
}
