//! Randomness of a run: streams that all spring from its one seed.
//!
//! Every part of the world draws from a stream of its own, named by what it is for. Adding a draw in one place then
//! does not shift every other: a run with one more node still has the same weather. The generator is SplitMix64
//! (Steele, Lea, Flood 2014): eight bytes of state, the same on every machine, and nothing here needs to be secret.

/// A stream of random numbers.
#[derive(Clone, Debug)]
pub struct Chance(u64);

/// Scrambles 64 bits: the finaliser of SplitMix64. Equal inputs give equal outputs, near ones nothing alike.
#[must_use]
pub const fn scramble(x: u64) -> u64 {
    let x = (x ^ (x >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let x = (x ^ (x >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    x ^ (x >> 31)
}

/// One number that depends on all of `parts` and their order.
#[must_use]
pub fn blend(parts: &[u64]) -> u64 {
    parts
        .iter()
        .fold(0x9E37_79B9_7F4A_7C15, |sum, part| scramble(sum.rotate_left(17) ^ scramble(part ^ 0xA5A5_A5A5)))
}

/// What a stream is for. The number goes into the seed of the stream, so it must never be reused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u64)]
pub enum Purpose {
    /// Where nodes stand.
    Places = 1,
    /// What the terrain adds to each radio path.
    Shadows = 2,
    /// What changes from frame to frame on a radio path.
    Fading = 3,
    /// Who waits how long before transmitting.
    Backoff = 4,
    /// Loss, delay and disorder of links.
    Links = 5,
    /// Which unsynced writes a crash takes.
    Disks = 6,
    /// How clocks differ.
    Clocks = 7,
    /// Who sends what to whom, and when.
    Traffic = 8,
    /// What goes wrong, and when.
    Faults = 9,
    /// What a device itself draws.
    Devices = 10,
    /// What hostile devices draw.
    Hostility = 11,
    /// How people and vehicles move.
    Movement = 12,
    /// Which options a swarm seed turns on.
    Swarm = 13,
    /// Ports that NAT boxes hand out.
    Nats = 14,
    /// Resampling in statistics.
    Statistics = 15,
}

impl Chance {
    /// The stream for `purpose` in the run of `seed`; `which` tells apart those of several nodes or links.
    #[must_use]
    pub fn new(seed: u64, purpose: Purpose, which: u64) -> Self {
        Self(blend(&[seed, purpose as u64, which]))
    }

    /// 64 random bits.
    pub fn next_u64(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        scramble(self.0)
    }

    /// A number in `0..bound`; zero when `bound` is. Biased by at most `bound / 2^64`.
    pub fn below(&mut self, bound: u64) -> u64 {
        let product = u128::from(self.next_u64()) * u128::from(bound);
        u64::try_from(product >> 64).unwrap_or(u64::MAX)
    }

    /// An index into something of `len` elements; zero when there are none.
    pub fn index(&mut self, len: usize) -> usize {
        usize::try_from(self.below(len as u64)).unwrap_or(0)
    }

    /// A number in `low..=high`.
    pub fn between(&mut self, low: u64, high: u64) -> u64 {
        low + self.below(high.saturating_sub(low).saturating_add(1))
    }

    /// A number in `0.0..1.0`.
    pub fn unit(&mut self) -> f64 {
        unit_of(self.next_u64())
    }

    /// True in `ppm` of a million cases.
    pub fn happens(&mut self, ppm: u32) -> bool {
        self.below(1_000_000) < u64::from(ppm)
    }

    /// A draw from the normal distribution with mean 0 and deviation 1 (Box and Muller 1958).
    pub fn normal(&mut self) -> f64 {
        let (a, b) = (self.next_u64(), self.next_u64());
        normal_of(a, b)
    }

    /// A draw from the exponential distribution with this mean.
    pub fn exponential(&mut self, mean: f64) -> f64 {
        -mean * (1.0 - self.unit()).ln()
    }

    /// One of `items`; `None` when there are none.
    pub fn pick<'a, T>(&mut self, items: &'a [T]) -> Option<&'a T> {
        let index = self.index(items.len());
        items.get(index)
    }

    /// Puts `items` into random order (Fisher and Yates).
    pub fn shuffle<T>(&mut self, items: &mut [T]) {
        for last in (1..items.len()).rev() {
            items.swap(last, self.index(last + 1));
        }
    }
}

fn unit_of(bits: u64) -> f64 {
    // 53 bits are what an f64 holds exactly.
    (bits >> 11) as f64 / (1_u64 << 53) as f64
}

/// The normal draw that belongs to these 128 bits, for values that must not depend on the order of asking.
#[must_use]
pub fn normal_of(a: u64, b: u64) -> f64 {
    let radius = (-2.0 * (1.0 - unit_of(a)).ln()).sqrt();
    radius * (core::f64::consts::TAU * unit_of(b)).cos()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn streams_repeat_and_differ_by_seed_purpose_and_index() {
        let draw = |seed, purpose, which| Chance::new(seed, purpose, which).next_u64();
        assert_eq!(draw(1, Purpose::Places, 0), draw(1, Purpose::Places, 0));
        let all = [
            draw(1, Purpose::Places, 0),
            draw(2, Purpose::Places, 0),
            draw(1, Purpose::Shadows, 0),
            draw(1, Purpose::Places, 1),
        ];
        for (i, a) in all.iter().enumerate() {
            assert!(all[..i].iter().all(|b| a != b));
        }
    }

    #[test]
    fn draws_stay_in_range_and_cover_it() {
        let mut chance = Chance::new(7, Purpose::Traffic, 0);
        let mut seen = [0; 6];
        for _ in 0..6_000 {
            seen[chance.index(6)] += 1;
            assert!((0.0..1.0).contains(&chance.unit()));
        }
        assert!(seen.iter().all(|n| (800..1_200).contains(n)), "{seen:?}");
        assert_eq!(chance.below(0), 0);
        assert!((0..100).map(|_| chance.between(3, 5)).all(|n| (3..=5).contains(&n)));
    }

    #[test]
    fn normal_draws_have_mean_zero_and_deviation_one() {
        let mut chance = Chance::new(7, Purpose::Shadows, 0);
        let draws: Vec<f64> = (0..20_000).map(|_| chance.normal()).collect();
        let mean = draws.iter().sum::<f64>() / 20_000.0;
        let variance = draws.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / 20_000.0;
        assert!(mean.abs() < 0.03 && (variance - 1.0).abs() < 0.05, "{mean} {variance}");
    }
}
