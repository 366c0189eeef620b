//! Means with their 95 % confidence intervals.

/// A mean and how far it may be off.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Estimate {
    pub(crate) mean: f64,
    /// Half the width of the 95 % interval.
    pub(crate) margin: f64,
    pub(crate) samples: usize,
}

/// The two-sided 95 % quantiles of Student's distribution for 1 to 30 degrees of freedom; above, the normal one is near.
const STUDENT_95: [f64; 30] = [
    12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.160, 2.145, 2.131,
    2.120, 2.110, 2.101, 2.093, 2.086, 2.080, 2.074, 2.069, 2.064, 2.060, 2.056, 2.052, 2.048, 2.045, 2.042,
];

impl Estimate {
    /// The mean of `values`, which are one per seed and so independent of each other.
    pub(crate) fn of(values: &[f64]) -> Self {
        let samples = values.len();
        if samples == 0 {
            return Self { mean: 0.0, margin: 0.0, samples };
        }
        let mean = values.iter().sum::<f64>() / samples as f64;
        if samples == 1 {
            return Self { mean, margin: 0.0, samples };
        }
        let variance = values.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / (samples - 1) as f64;
        let quantile = STUDENT_95.get(samples - 2).copied().unwrap_or(1.96);
        Self { mean, margin: quantile * (variance / samples as f64).sqrt(), samples }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_interval_of_a_known_sample() {
        // Mean 3, deviation sqrt(2.5), t(4) = 2.776: 2.776 * sqrt(2.5 / 5).
        let estimate = Estimate::of(&[1.0, 2.0, 3.0, 4.0, 5.0]);
        assert!((estimate.mean - 3.0).abs() < 1e-9 && (estimate.margin - 1.963).abs() < 1e-3);
        assert_eq!(Estimate::of(&[]).samples, 0);
    }
}
