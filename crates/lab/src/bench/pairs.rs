//! Pairs and quartiles: how two things are compared on a machine that is never quiet.

use crate::Trouble;

/// Fewer pairs than this say nothing.
pub(crate) const PAIRS_MIN: usize = 7;

/// One pair: the same work done by us and by the peer, within the same seconds.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pair {
    pub(crate) ours: f64,
    pub(crate) peers: f64,
}

/// Runs `count` pairs in the order A B, B A, A B, ..: a slow drift of the machine then favours neither.
pub(crate) fn alternate(
    count: usize,
    mut ours: impl FnMut() -> Result<f64, Trouble>,
    mut peers: impl FnMut() -> Result<f64, Trouble>,
) -> Result<Vec<Pair>, Trouble> {
    let mut pairs = Vec::with_capacity(count);
    for n in 0..count {
        let pair = if n % 2 == 0 {
            let ours = ours()?;
            Pair { ours, peers: peers()? }
        } else {
            let peers = peers()?;
            Pair { ours: ours()?, peers }
        };
        pairs.push(pair);
    }
    Ok(pairs)
}

/// The value below which the share `q` (0 to 1) of the samples lies, by the nearest rank; 0 of nothing.
pub(crate) fn quantile(samples: &[f64], q: f64) -> f64 {
    let mut sorted = samples.to_vec();
    sorted.sort_by(f64::total_cmp);
    let rank = (q * sorted.len() as f64).ceil() as usize;
    sorted.get(rank.saturating_sub(1)).copied().unwrap_or_default()
}

/// The median by [`quantile`].
pub(crate) fn median(samples: &[f64]) -> f64 {
    quantile(samples, 0.5)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_samples_of_the_nearest_rank() {
        let samples = [4.0, 1.0, 3.0, 2.0];
        assert_eq!(median(&samples), 2.0);
        assert_eq!(quantile(&samples, 0.75), 3.0);
        assert_eq!(quantile(&samples, 0.99), 4.0);
        assert_eq!(quantile(&samples, 0.0), 1.0);
        assert_eq!(median(&[]), 0.0);
    }

    #[test]
    fn pairs_run_in_the_order_that_cancels_drift() {
        let order = std::cell::RefCell::new(String::new());
        let pairs = alternate(
            4,
            || {
                order.borrow_mut().push('A');
                Ok(2.0)
            },
            || {
                order.borrow_mut().push('B');
                Ok(1.0)
            },
        )
        .unwrap();
        assert_eq!(*order.borrow(), "ABBAABBA");
        assert!(pairs.iter().all(|pair| pair.ours == 2.0 && pair.peers == 1.0));
    }
}
