//! The small quantities of a mesh frame: what a way costs, how far a frame came, how urgent it is, which announce is newer.
//!
//! Each fits a byte or a few bits, and each is a value of its own type so that nobody adds a cost to a hop count.

use crate::limits::{MESH_HOPS_MAX, MESH_KEEP_CODE_MAX};
use crate::wire::Invalid;

/// The eight steps of an octave, 2^(k/8), in fixed point: 65,536 is one.
const EIGHTHS: [u64; 8] = [65_536, 71_468, 77_936, 84_990, 92_682, 101_070, 110_218, 120_194];

/// What a way costs: airtime and latency together, in milliseconds on a logarithmic scale (ME-U1).
///
/// 0 is free, code `c` in 1..=254 stands for 2^((c - 1) / 8) ms, 255 for more than 38 days: not reachable. A step is 9 %.
/// A relay adds its own hop and writes the sum back; costs are nobody's promise and may lie.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Cost(pub u8);

impl Cost {
    /// No cost: the origin itself.
    pub const FREE: Self = Self(0);
    /// More than can be written: as good as no way.
    pub const UNREACHABLE: Self = Self(255);

    /// The code nearest to `ms`; only 0 ms is free.
    #[must_use]
    pub fn from_ms(ms: u64) -> Self {
        if ms == 0 {
            return Self::FREE;
        }
        // Fixed point like the table. The octave is the position of the highest bit.
        let octave = ms.ilog2();
        if octave > 31 {
            return Self::UNREACHABLE;
        }
        let mantissa = (ms << 16) >> octave;
        let below = EIGHTHS.iter().rposition(|eighth| *eighth <= mantissa).unwrap_or(0);
        let next = EIGHTHS.get(below + 1).copied().unwrap_or(2 * EIGHTHS[0]);
        let nearest = if next - mantissa < mantissa - EIGHTHS[below] { below + 1 } else { below };
        // At most 31 * 8 + 8 + 1 = 257, clamped to "unreachable".
        Self(u8::try_from(1 + octave as usize * 8 + nearest).unwrap_or(u8::MAX))
    }

    /// Milliseconds, rounded to whole ones; `None` for [`Cost::UNREACHABLE`].
    #[must_use]
    pub fn ms(self) -> Option<u64> {
        match self.0 {
            0 => Some(0),
            255 => None,
            code => {
                let (octave, eighth) = ((code - 1) / 8, (code - 1) % 8);
                Some(((EIGHTHS[usize::from(eighth)] << octave) + 0x8000) >> 16)
            }
        }
    }

    /// The cost of a way that is `ms` longer. Always more for any `ms` but 0, so that a longer way never looks as cheap as
    /// the shorter one; what cannot be written any more is unreachable.
    #[must_use]
    pub fn plus(self, ms: u64) -> Self {
        if ms == 0 {
            return self;
        }
        let sum = self.ms().map_or(Self::UNREACHABLE, |own| Self::from_ms(own.saturating_add(ms)));
        sum.max(Self(self.0.saturating_add(1)))
    }
}

/// How long a frame is worth keeping for a target that is away: 2^(code / 8) seconds, rounded down (ME-U7).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Keep(pub u8);

impl Keep {
    /// The longest that is no longer than `span`. One second is the least that can be said.
    #[must_use]
    pub fn at_most(span: core::time::Duration) -> Self {
        Self((0..=MESH_KEEP_CODE_MAX).rev().find(|code| Self(*code).span() <= span).unwrap_or(0))
    }

    /// How long. Never longer than [`MESH_LIFETIME_MAX`](crate::limits::MESH_LIFETIME_MAX), whatever the code.
    #[must_use]
    pub fn span(self) -> core::time::Duration {
        let code = self.0.min(MESH_KEEP_CODE_MAX);
        let eighth = EIGHTHS.get(usize::from(code % 8)).copied().unwrap_or(0);
        core::time::Duration::from_secs((eighth << (code / 8)) >> 16)
    }
}

/// What a device offers the mesh, as it says in its announces: four bits (ME-U3).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Caps(u8);

impl Caps {
    /// Nothing.
    pub const NONE: Self = Self(0);
    /// Forwards what is for others.
    pub const RELAY: Self = Self(1);
    /// Keeps messages for devices that are not there.
    pub const STORE: Self = Self(2);
    /// Reaches another network: IP from radio, for example.
    pub const GATEWAY: Self = Self(4);
    /// Has little power, memory or airtime: spare it.
    pub const CONSTRAINED: Self = Self(8);

    /// From the low four bits; the others are ignored.
    #[must_use]
    pub const fn from_bits(bits: u8) -> Self {
        Self(bits & 0x0f)
    }

    /// The four bits.
    #[must_use]
    pub const fn bits(self) -> u8 {
        self.0
    }

    /// Both together.
    #[must_use]
    pub const fn and(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Whether all of `other` is offered.
    #[must_use]
    pub const fn has(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }
}

/// The number of an announce: 20 bits that wrap, compared as in RFC 1982 (ME-U4).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Seq20(u32);

impl Seq20 {
    /// How many numbers there are. At one announce in ten minutes they last for 19 years.
    pub const COUNT: u32 = 1 << 20;

    /// From the low 20 bits.
    #[must_use]
    pub const fn new(number: u32) -> Self {
        Self(number % Self::COUNT)
    }

    /// The number, below 2^20.
    #[must_use]
    pub const fn number(self) -> u32 {
        self.0
    }

    /// The number `steps` later, around the end if need be.
    #[must_use]
    pub const fn plus(self, steps: u32) -> Self {
        Self::new(self.0.wrapping_add(steps))
    }

    /// Whether this number comes after `other`: less than half the circle ahead of it. No order, because it is not
    /// transitive: compare only with the newest number known.
    #[must_use]
    pub const fn is_newer_than(self, other: Self) -> bool {
        let ahead = Self::new(self.0.wrapping_sub(other.0)).0;
        ahead != 0 && ahead < Self::COUNT / 2
    }
}

/// How urgent a frame is. Whoever forwards it may read and, lying, change it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Priority {
    /// Can wait.
    Bulk,
    /// A message between people.
    #[default]
    Normal,
    /// Before the others.
    Urgent,
    /// What keeps the mesh going, and emergencies.
    Control,
}

impl Priority {
    /// All, the least urgent first.
    pub const ALL: [Self; 4] = [Self::Bulk, Self::Normal, Self::Urgent, Self::Control];

    /// From the low two bits.
    #[must_use]
    pub const fn from_bits(bits: u8) -> Self {
        Self::ALL[(bits & 3) as usize]
    }
}

/// The `hop` byte of a frame: how far it came, and how urgent it is (ME-U2).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Hop {
    /// Transmissions before this one: 0 as the origin sends it, at most [`MESH_HOPS_MAX`]. An untrusted hint.
    pub hops: u8,
    /// How urgent.
    pub priority: Priority,
}

impl Hop {
    /// As an origin sends it.
    #[must_use]
    pub const fn first(priority: Priority) -> Self {
        Self { hops: 0, priority }
    }

    /// The byte: priority in the high two bits.
    #[must_use]
    pub const fn to_byte(self) -> u8 {
        ((self.priority as u8) << 6) | (self.hops & MESH_HOPS_MAX)
    }

    /// Every byte is a hop byte.
    #[must_use]
    pub const fn from_byte(byte: u8) -> Self {
        Self { hops: byte & MESH_HOPS_MAX, priority: Priority::from_bits(byte >> 6) }
    }
}

/// How far a route request may spread: each ring is asked only when the smaller one did not answer
/// (ME-F10).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Ring(u8);

impl Ring {
    /// Four hops: whoever is near enough to know a way at little cost.
    pub const NEAR: Self = Self(1);
    /// The widest ring: everywhere.
    pub const WIDEST: Self = Self(4);

    /// The ring with this number.
    ///
    /// # Errors
    /// [`Invalid::Value`] over 4.
    pub const fn new(number: u8) -> Result<Self, Invalid> {
        if number > Self::WIDEST.0 {
            Err(Invalid::Value { what: "route request ring" })
        } else {
            Ok(Self(number))
        }
    }

    /// Its number, 0 to 4.
    #[must_use]
    pub const fn number(self) -> u8 {
        self.0
    }

    /// How many hops a request of this ring may take.
    #[must_use]
    pub const fn hops_max(self) -> u8 {
        match self.0 {
            0 => 2,
            1 => 4,
            2 => 8,
            3 => 16,
            _ => MESH_HOPS_MAX,
        }
    }

    /// The next wider ring, if there is one.
    #[must_use]
    pub const fn wider(self) -> Option<Self> {
        if self.0 < Self::WIDEST.0 { Some(Self(self.0 + 1)) } else { None }
    }
}

/// Which of up to 256 fragments arrived (ME-F13).
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub struct FragmentSet([u8; Self::BYTES_MAX]);

impl FragmentSet {
    /// Most bytes on the wire.
    pub const BYTES_MAX: usize = 32;

    /// Nothing arrived.
    pub const EMPTY: Self = Self([0; Self::BYTES_MAX]);

    /// Adds a fragment.
    pub const fn insert(&mut self, index: u8) {
        self.0[(index / 8) as usize] |= 1 << (index % 8);
    }

    /// Whether a fragment is in it.
    #[must_use]
    pub const fn contains(&self, index: u8) -> bool {
        self.0[(index / 8) as usize] & (1 << (index % 8)) != 0
    }

    /// How many fragments are in it.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.iter().map(|byte| byte.count_ones() as usize).sum()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::EMPTY
    }

    /// The bytes on the wire: fragment 0 is the lowest bit of the first byte, and zero bytes at the end are left out,
    /// except for the first.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        let used = self.0.iter().rposition(|byte| *byte != 0).unwrap_or(0);
        &self.0[..=used]
    }

    /// The bitmap of a message of `count` fragments, zero bytes at its end included.
    #[must_use]
    pub fn bitmap(&self, count: u8) -> &[u8] {
        &self.0[..usize::from(count).div_ceil(8)]
    }

    /// The set that a bitmap of any length means; what is beyond 256 bits is left out.
    #[must_use]
    pub fn from_bitmap(bitmap: &[u8]) -> Self {
        let mut set = Self::EMPTY;
        for (byte, bits) in set.0.iter_mut().zip(bitmap) {
            *byte = *bits;
        }
        set
    }

    /// Reads the bytes of [`FragmentSet::as_bytes`].
    ///
    /// # Errors
    /// [`Invalid`] if there are none, more than 32, or a zero at the end.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, Invalid> {
        const WHAT: &str = "fragment bitmap";
        if bytes.len() > Self::BYTES_MAX {
            let (size, max) = (bytes.len() as u64, Self::BYTES_MAX as u64);
            return Err(Invalid::TooLarge { what: WHAT, size, max });
        }
        if bytes.is_empty() {
            return Err(Invalid::Truncated { what: WHAT });
        }
        let set = Self::from_bitmap(bytes);
        if set.as_bytes().len() != bytes.len() {
            return Err(Invalid::Value { what: WHAT });
        }
        Ok(set)
    }
}

impl core::fmt::Debug for FragmentSet {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "FragmentSet({})", data_encoding::HEXLOWER.encode(self.as_bytes()))
    }
}

impl FromIterator<u8> for FragmentSet {
    fn from_iter<I: IntoIterator<Item = u8>>(indices: I) -> Self {
        let mut set = Self::EMPTY;
        for index in indices {
            set.insert(index);
        }
        set
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_frame_is_kept_no_longer_than_it_is_worth_and_never_longer_than_anything() {
        use core::time::Duration;
        for seconds in [1, 2, 59, 600, 3600, 86_400, 604_800] {
            let kept = Keep::at_most(Duration::from_secs(seconds)).span().as_secs();
            assert!(kept <= seconds && kept * 11 >= seconds * 10, "{seconds} s are kept as {kept}");
        }
        assert_eq!(Keep::at_most(Duration::ZERO), Keep(0));
        assert_eq!(Keep::at_most(Duration::MAX), Keep(MESH_KEEP_CODE_MAX));
        assert!(Keep(255).span() <= crate::limits::MESH_LIFETIME_MAX);
    }

    #[test]
    fn costs_at_round_numbers_are_exact() {
        for (ms, code) in [(0, 0), (1, 1), (2, 9), (4, 17), (1024, 81), (1 << 31, 249)] {
            assert_eq!(Cost::from_ms(ms), Cost(code), "{ms} ms");
            assert_eq!(Cost(code).ms(), Some(ms), "code {code}");
        }
        assert_eq!(Cost::from_ms(u64::MAX), Cost::UNREACHABLE);
        assert_eq!(Cost::UNREACHABLE.ms(), None);
        assert_eq!(Cost::UNREACHABLE.plus(1), Cost::UNREACHABLE);
        assert_eq!(Cost(254).plus(u64::MAX), Cost::UNREACHABLE);
    }

    #[test]
    fn every_code_of_ten_milliseconds_and_more_survives_the_way_through_milliseconds() {
        for code in 28..=254 {
            assert_eq!(Cost(code).ms().map(Cost::from_ms), Some(Cost(code)));
        }
    }

    #[test]
    fn sequence_numbers_compare_around_the_end() {
        let last = Seq20::new(Seq20::COUNT - 1);
        assert_eq!(last.plus(1), Seq20::new(0));
        assert!(Seq20::new(0).is_newer_than(last));
        assert!(!last.is_newer_than(Seq20::new(0)));
        assert!(!last.is_newer_than(last));
        // Exactly half the circle away neither is newer.
        assert!(!Seq20::new(0).is_newer_than(Seq20::new(Seq20::COUNT / 2)));
        assert!(!Seq20::new(Seq20::COUNT / 2).is_newer_than(Seq20::new(0)));
    }

    #[test]
    fn rings_widen_to_everywhere() {
        let mut hops = vec![Ring::default().hops_max()];
        let mut ring = Ring::default();
        while let Some(wider) = ring.wider() {
            ring = wider;
            hops.push(ring.hops_max());
        }
        assert_eq!(hops, [2, 4, 8, 16, 63]);
        assert!(Ring::new(5).is_err());
    }

    #[test]
    fn a_set_of_fragments_has_one_encoding() {
        let set: FragmentSet = [0, 9].into_iter().collect();
        assert_eq!(set.as_bytes(), [0x01, 0x02]);
        assert_eq!(FragmentSet::from_bytes(&[0x01, 0x02]), Ok(set));
        assert!(set.contains(9) && !set.contains(8));
        assert_eq!(FragmentSet::EMPTY.as_bytes(), [0]);
        assert_eq!(FragmentSet::from_bitmap(&[0x01, 0x02, 0, 0]), set);
        assert_eq!(set.bitmap(25), [0x01, 0x02, 0, 0]);
        assert!(FragmentSet::from_bytes(&[0x80, 0]).is_err());
        assert!(FragmentSet::from_bytes(&[]).is_err());
        assert!(FragmentSet::from_bytes(&[1; 33]).is_err());
        assert_eq!((0..=255).collect::<FragmentSet>().len(), 256);
    }

    proptest! {
        #[test]
        fn a_cost_is_within_a_twentieth_of_its_milliseconds(ms in 16_u64..(1 << 31)) {
            let told = Cost::from_ms(ms).ms().unwrap();
            prop_assert!(told.abs_diff(ms) * 20 <= ms, "{} for {}", told, ms);
        }

        #[test]
        fn a_longer_way_always_costs_more(code in 0_u8..255, ms in 1_u64..1_000_000_000) {
            prop_assert!(Cost(code).plus(ms) > Cost(code));
        }

        #[test]
        fn hop_bytes_round_trip(byte in any::<u8>()) {
            prop_assert_eq!(Hop::from_byte(byte).to_byte(), byte);
        }
    }
}
