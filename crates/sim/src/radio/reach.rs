//! Who hears whom, and how loudly.

use super::{Settings, Terrain, hundredths};
use crate::chance::{Purpose, blend, normal_of};
use crate::device::NodeId;

/// How much below the limit of reception a frame still disturbs others, in hundredths of a decibel: a frame at the
/// limit is destroyed by one that is less than the capture threshold (6 dB) weaker.
const DISTURBS_BELOW_CDB: i32 = 600;
/// Shadowing beyond so many deviations is cut off, so that "in range" has an end.
const SHADOW_DEVIATIONS_MAX: f64 = 3.0;

/// Somebody who hears a node, or is at least disturbed by it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Audible {
    /// Who.
    pub node: NodeId,
    /// The mean received power, in hundredths of a dBm.
    pub power_cdbm: i32,
}

/// The rules by which places become powers.
#[derive(Clone, Copy, Debug)]
pub struct Reach {
    settings: Settings,
    terrain: Terrain,
    seed: u64,
    noise_cdbm: i32,
}

impl Reach {
    /// The rules in the run of `seed`.
    #[must_use]
    pub fn new(settings: Settings, terrain: Terrain, seed: u64) -> Self {
        let noise_cdbm = settings.noise_cdbm(terrain.noise_figure_db);
        Self { settings, terrain, seed, noise_cdbm }
    }

    /// The least power at which a frame is received, in hundredths of a dBm.
    #[must_use]
    pub const fn limit_cdbm(&self) -> i32 {
        self.noise_cdbm + self.settings.snr_floor_cdb()
    }

    /// The signal-to-noise ratio that belongs to a power, in hundredths of a decibel.
    #[must_use]
    pub const fn snr_cdb(&self, power_cdbm: i32) -> i32 {
        power_cdbm - self.noise_cdbm
    }

    /// The mean power at one node of what the other sends, in hundredths of a dBm; the same in both directions.
    #[must_use]
    pub fn power_cdbm(&self, a: (NodeId, f64, f64), b: (NodeId, f64, f64)) -> i32 {
        let metres = (a.1 - b.1).hypot(a.2 - b.2).max(1.0);
        let (low, high) = (a.0.min(b.0), a.0.max(b.0));
        let pair = [self.seed, Purpose::Shadows as u64, low.0.into(), high.0.into()];
        let draw = normal_of(blend(&pair), blend(&[pair[3], pair[2], pair[0]]));
        let shadow = self.terrain.shadow_db * draw.clamp(-SHADOW_DEVIATIONS_MAX, SHADOW_DEVIATIONS_MAX);
        let loss = self.terrain.loss_1m_db + 10.0 * self.terrain.exponent * metres.log10();
        hundredths(f64::from(self.settings.tx_dbm) - loss + shadow)
    }

    /// The distance in metres at which the mean power falls to the limit of reception.
    #[must_use]
    pub fn range_m(&self) -> f64 {
        self.distance_m(f64::from(self.limit_cdbm()) / 100.0)
    }

    /// The mean number of others that hear a node when `n` stand at random in `area_m2`, borders left out.
    #[must_use]
    pub fn mean_degree(&self, n: usize, area_m2: f64) -> f64 {
        // The range is lognormal: E[r^2] = r0^2 exp(2 s^2) with s the shadowing's deviation in natural units of r.
        let s = self.terrain.shadow_db * core::f64::consts::LN_10 / (10.0 * self.terrain.exponent);
        let disc = core::f64::consts::PI * self.range_m().powi(2) * (2.0 * s * s).exp();
        (n.saturating_sub(1)) as f64 * disc / area_m2
    }

    fn distance_m(&self, power_dbm: f64) -> f64 {
        let loss = f64::from(self.settings.tx_dbm) - power_dbm - self.terrain.loss_1m_db;
        10_f64.powf(loss / (10.0 * self.terrain.exponent))
    }

    /// For each place, who is reached from it, by number.
    #[must_use]
    pub fn all(&self, places: &[(f64, f64)]) -> Vec<Vec<Audible>> {
        let cells = Cells::new(places, self.furthest_m());
        (0..places.len()).map(|index| self.from(index, places, &cells)).collect()
    }

    /// Who is reached from one place, looking at every other.
    #[must_use]
    pub fn one(&self, index: usize, places: &[(f64, f64)]) -> Vec<Audible> {
        let everybody = 0..places.len();
        self.among(index, places, everybody)
    }

    fn from(&self, index: usize, places: &[(f64, f64)], cells: &Cells) -> Vec<Audible> {
        let mut near: Vec<usize> = cells.around(places[index]).collect();
        near.sort_unstable();
        self.among(index, places, near.into_iter())
    }

    fn among(
        &self,
        index: usize,
        places: &[(f64, f64)],
        others: impl Iterator<Item = usize>,
    ) -> Vec<Audible> {
        let name = |i: usize| NodeId(u32::try_from(i).unwrap_or(u32::MAX));
        let furthest = self.furthest_m();
        let (x, y) = places[index];
        others
            .filter(|other| *other != index)
            .filter(|other| (places[*other].0 - x).hypot(places[*other].1 - y) <= furthest)
            .map(|other| {
                let there = (name(other), places[other].0, places[other].1);
                Audible { node: there.0, power_cdbm: self.power_cdbm((name(index), x, y), there) }
            })
            .filter(|audible| audible.power_cdbm >= self.limit_cdbm() - DISTURBS_BELOW_CDB)
            .collect()
    }

    /// No shadowing reaches further than this.
    fn furthest_m(&self) -> f64 {
        let limit = f64::from(self.limit_cdbm() - DISTURBS_BELOW_CDB) / 100.0;
        self.distance_m(limit - SHADOW_DEVIATIONS_MAX * self.terrain.shadow_db)
    }
}

/// Places sorted into squares as wide as the furthest reach, so that only nine need looking at.
struct Cells {
    edge_m: f64,
    origin: (f64, f64),
    columns: usize,
    rows: usize,
    members: Vec<Vec<usize>>,
}

/// More squares than this are no use for the numbers of nodes there are.
const CELLS_PER_SIDE_MAX: f64 = 512.0;

impl Cells {
    fn new(places: &[(f64, f64)], reach_m: f64) -> Self {
        let low = places.iter().fold((f64::MAX, f64::MAX), |low, p| (low.0.min(p.0), low.1.min(p.1)));
        let high = places.iter().fold((f64::MIN, f64::MIN), |high, p| (high.0.max(p.0), high.1.max(p.1)));
        let span = (high.0 - low.0).max(high.1 - low.1).max(1.0);
        let edge_m = reach_m.max(span / CELLS_PER_SIDE_MAX);
        let count = |length: f64| (length / edge_m) as usize + 1;
        let (columns, rows) = (count(high.0 - low.0), count(high.1 - low.1));
        let mut cells =
            Self { edge_m, origin: low, columns, rows, members: vec![Vec::new(); columns * rows] };
        for (index, place) in places.iter().enumerate() {
            let (column, row) = cells.cell(*place);
            cells.members[row * columns + column].push(index);
        }
        cells
    }

    fn cell(&self, place: (f64, f64)) -> (usize, usize) {
        let at = |value: f64, origin: f64, count: usize| {
            (((value - origin) / self.edge_m) as usize).min(count - 1)
        };
        (at(place.0, self.origin.0, self.columns), at(place.1, self.origin.1, self.rows))
    }

    fn around(&self, place: (f64, f64)) -> impl Iterator<Item = usize> {
        let (column, row) = self.cell(place);
        let rows = row.saturating_sub(1)..=(row + 1).min(self.rows - 1);
        rows.flat_map(move |row| {
            let columns = column.saturating_sub(1)..=(column + 1).min(self.columns - 1);
            columns.flat_map(move |column| self.members[row * self.columns + column].iter().copied())
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chance::Chance;

    fn reach() -> Reach {
        Reach::new(Settings::default(), Terrain::default(), 3)
    }

    #[test]
    fn hearing_is_mutual_and_squares_change_nothing() {
        let mut chance = Chance::new(3, Purpose::Places, 0);
        let places: Vec<(f64, f64)> =
            (0..300).map(|_| (chance.unit() * 60_000.0, chance.unit() * 60_000.0)).collect();
        let all = reach().all(&places);
        for (index, audible) in all.iter().enumerate() {
            assert_eq!(*audible, reach().one(index, &places));
            for there in audible {
                let back = all[there.node.index()].iter().find(|a| a.node.index() == index).unwrap();
                assert_eq!(back.power_cdbm, there.power_cdbm);
            }
        }
    }

    #[test]
    fn the_formula_for_the_mean_degree_fits_a_count() {
        let (n, edge) = (2_000, 90_000.0);
        let mut chance = Chance::new(3, Purpose::Places, 0);
        let places: Vec<(f64, f64)> = (0..n).map(|_| (chance.unit() * edge, chance.unit() * edge)).collect();
        let limit = reach().limit_cdbm();
        let heard = reach().all(&places).iter().flatten().filter(|a| a.power_cdbm >= limit).count();
        let (counted, expected) = (heard as f64 / n as f64, reach().mean_degree(n, edge * edge));
        // Borders cost a few percent.
        assert!((0.85..1.02).contains(&(counted / expected)), "{counted} {expected}");
    }

    #[test]
    fn known_values_of_the_model() {
        // -174 + 50.97 + 6 = -117.03 dBm, and 10 dB less can be received at SF8.
        assert_eq!(reach().limit_cdbm(), -12_703);
        let alone = Reach::new(Settings::default(), Terrain { shadow_db: 0.0, ..Terrain::default() }, 1);
        // 14 - 31.2 - 30 * 3 = -107.2 dBm at one kilometre.
        assert_eq!(alone.power_cdbm((NodeId(0), 0.0, 0.0), (NodeId(1), 1_000.0, 0.0)), -10_720);
    }
}
