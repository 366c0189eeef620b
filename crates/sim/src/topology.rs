//! Where nodes stand, so that each radio reaches about as many others as asked.

use serde::{Deserialize, Serialize};

use crate::chance::{Chance, Purpose};
use crate::radio::reach::{Audible, Reach};

/// The shape of a network.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Shape {
    /// Rows and columns.
    Grid,
    /// Anywhere in a square.
    Random,
    /// In villages, with few nodes between them.
    Clustered,
    /// One after the other.
    Line,
    /// One in the middle that all others reach, and the others not each other.
    Star,
}

impl Shape {
    /// Every shape, with its name in scenario files.
    pub const ALL: [(Self, &'static str); 5] = [
        (Self::Grid, "grid"),
        (Self::Random, "random"),
        (Self::Clustered, "clustered"),
        (Self::Line, "line"),
        (Self::Star, "star"),
    ];

    /// The name in scenario files.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        Self::ALL.iter().find(|(shape, _)| *shape == self).map_or("", |(_, name)| name)
    }
}

/// Nodes of a village, on average.
const VILLAGE: usize = 25;
/// One node in so many stands outside every village.
const HERMITS: usize = 5;
/// How often the scale is corrected; each time by what was missed.
const ROUNDS: u32 = 8;
/// The part of a clustered network that must hang together, or it is drawn closer: with the mean degree of a random
/// network, villages would be islands.
const TOGETHER: f64 = 0.95;

/// Places for `n` nodes in the run of `seed`, such that a radio reaches `degree` others on average.
///
/// Clustered networks are drawn closer until 95 of 100 nodes hang together; their mean degree is higher then. Lines and
/// stars have the degree their shape gives them.
#[must_use]
pub fn places(shape: Shape, n: usize, degree: f64, seed: u64, reach: &Reach) -> Vec<(f64, f64)> {
    let mut chance = Chance::new(seed, Purpose::Places, 0);
    let range = reach.range_m();
    match shape {
        Shape::Line => (0..n).map(|i| (i as f64 * range * 0.7, 0.0)).collect(),
        Shape::Star => star(n, range),
        Shape::Grid | Shape::Random | Shape::Clustered => {
            let unit = match shape {
                Shape::Grid => grid(n),
                Shape::Clustered => villages(n, &mut chance),
                Shape::Random | Shape::Line | Shape::Star => {
                    (0..n).map(|_| (chance.unit(), chance.unit())).collect()
                }
            };
            // Aim a little higher than asked would give at the borders; then correct by counting.
            let mut edge = (reach.mean_degree(n, 1.0) / degree).sqrt();
            for _ in 0..ROUNDS {
                let all = reach.all(&scaled(&unit, edge));
                let limit = reach.limit_cdbm();
                let found = mean_degree(&all, limit);
                if shape == Shape::Clustered && largest(&all, limit).len() as f64 >= TOGETHER * n as f64 {
                    break;
                }
                if shape == Shape::Clustered {
                    edge *= 0.85;
                } else {
                    edge *= (found / degree).sqrt();
                }
            }
            scaled(&unit, edge)
        }
    }
}

fn scaled(unit: &[(f64, f64)], edge: f64) -> Vec<(f64, f64)> {
    unit.iter().map(|(x, y)| (x * edge, y * edge)).collect()
}

fn grid(n: usize) -> Vec<(f64, f64)> {
    let side = (n as f64).sqrt().ceil() as usize;
    let step = 1.0 / side as f64;
    (0..n).map(|i| ((i % side) as f64 * step, (i / side) as f64 * step)).collect()
}

fn villages(n: usize, chance: &mut Chance) -> Vec<(f64, f64)> {
    let count = (n / VILLAGE).max(2);
    let centres: Vec<(f64, f64)> = (0..count).map(|_| (chance.unit(), chance.unit())).collect();
    let spread = 0.25 / (count as f64).sqrt();
    (0..n)
        .map(|i| {
            let (x, y) = centres[chance.index(count)];
            if i % HERMITS == 0 {
                (chance.unit(), chance.unit())
            } else {
                (
                    (x + spread * chance.normal()).clamp(0.0, 1.0),
                    (y + spread * chance.normal()).clamp(0.0, 1.0),
                )
            }
        })
        .collect()
}

/// The others stand on a circle at 0.8 of the range: far from each other only if they are few.
fn star(n: usize, range: f64) -> Vec<(f64, f64)> {
    let radius = 0.8 * range;
    let spoke = |i: usize| {
        let angle = core::f64::consts::TAU * i as f64 / (n.max(2) - 1) as f64;
        (radius * angle.cos(), radius * angle.sin())
    };
    (0..n).map(|i| if i == 0 { (0.0, 0.0) } else { spoke(i) }).collect()
}

/// How many others a radio reaches on average.
#[must_use]
pub fn mean_degree(all: &[Vec<Audible>], limit_cdbm: i32) -> f64 {
    let links = all.iter().flatten().filter(|audible| audible.power_cdbm >= limit_cdbm).count();
    links as f64 / all.len().max(1) as f64
}

/// The largest set of nodes that reach each other over any number of hops, in order.
#[must_use]
pub fn largest(all: &[Vec<Audible>], limit_cdbm: i32) -> Vec<usize> {
    let mut seen = vec![false; all.len()];
    let mut best = Vec::new();
    for start in 0..all.len() {
        if seen[start] {
            continue;
        }
        seen[start] = true;
        let mut part = vec![start];
        let mut next = 0;
        while let Some(node) = part.get(next).copied() {
            next += 1;
            for audible in all[node].iter().filter(|audible| audible.power_cdbm >= limit_cdbm) {
                if !std::mem::replace(&mut seen[audible.node.index()], true) {
                    part.push(audible.node.index());
                }
            }
        }
        if part.len() > best.len() {
            best = part;
        }
    }
    best.sort_unstable();
    best
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::radio::{Settings, Terrain};

    #[test]
    fn networks_have_the_degree_that_was_asked_for_and_hang_together() {
        let reach = Reach::new(Settings::default(), Terrain::default(), 5);
        for shape in [Shape::Grid, Shape::Random, Shape::Clustered] {
            let all = reach.all(&places(shape, 400, 8.0, 5, &reach));
            let degree = mean_degree(&all, reach.limit_cdbm());
            let together = largest(&all, reach.limit_cdbm()).len();
            if shape != Shape::Clustered {
                assert!((7.6..8.4).contains(&degree), "{shape:?} {degree}");
            }
            assert!(together >= 370, "{shape:?} {together}");
        }
    }
}
