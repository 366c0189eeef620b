//! What a simulated network is like unless a test says otherwise, from the environment.

use std::str::FromStr;
use std::time::Duration;

use honeylink_core::limits::MESSAGE_BYTES_CEILING;
use honeylink_sim::net::lane::{Lane, Loss};

/// The environment's way to run one seed instead of those in the test.
pub(super) const SEED: &str = "HONEYLINK_SEED";
const LATENCY_MS: &str = "SIMULATOR_DEFAULT_LATENCY_MS";
const PACKET_LOSS: &str = "SIMULATOR_DEFAULT_PACKET_LOSS";
const DISCOVERY_DELAY_MS: &str = "SIMULATOR_DISCOVERY_DELAY_MS";
const CONNECTION_TIMEOUT_SECS: &str = "SIMULATOR_CONNECTION_TIMEOUT_SECS";
const MAX_MESSAGE_SIZE: &str = "SIMULATOR_MAX_MESSAGE_SIZE";

/// What a UDP packet carries on Ethernet over IPv4.
const MTU: usize = 1_472;

/// A setting from the environment has a value that cannot be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{name}={value} is not {wanted}")]
pub struct InvalidSetting {
    /// The variable.
    pub name: &'static str,
    /// What it was set to.
    pub value: String,
    /// What it may be.
    pub wanted: &'static str,
}

/// The settings of a network.
#[derive(Clone, Debug)]
pub(super) struct Settings {
    /// If the environment names one.
    pub(super) seed: Option<u64>,
    pub(super) lane: Lane,
    pub(super) discovery_delay: Duration,
    pub(super) connection_timeout: Duration,
    pub(super) message_bytes_max: usize,
}

impl Settings {
    /// The environment's, or where it says nothing: 50 ms each way, 1 % loss, 100 ms until a device is noticed, 30 s for a
    /// connection, messages of 1 MiB.
    pub(super) fn from_environment() -> Result<Self, InvalidSetting> {
        Self::from(|name| std::env::var_os(name).map(|value| value.to_string_lossy().into_owned()))
    }

    fn from(look: impl Fn(&'static str) -> Option<String>) -> Result<Self, InvalidSetting> {
        let millis = "a number of milliseconds, at most 3600000";
        let latency_ms = read(&look, LATENCY_MS, 50, millis, |ms| *ms <= 3_600_000)?;
        let discovery_ms = read(&look, DISCOVERY_DELAY_MS, 100, millis, |ms| *ms <= 3_600_000)?;
        let loss: f64 =
            read(&look, PACKET_LOSS, 0.01, "a share between 0 and 1", |p| (0.0..=1.0).contains(p))?;
        let seconds = "a number of seconds between 1 and 3600";
        let timeout_s = read(&look, CONNECTION_TIMEOUT_SECS, 30, seconds, |s| (1..=3_600).contains(s))?;
        let bytes = "a number of bytes between 1 and 16777216";
        let allowed = |max: &usize| (1..=MESSAGE_BYTES_CEILING).contains(max);
        let message_bytes_max = read(&look, MAX_MESSAGE_SIZE, 1 << 20, bytes, allowed)?;
        let seed = look(SEED)
            .map(|value| {
                let wanted = "a whole number below 2^64";
                value.parse().map_err(|_| InvalidSetting { name: SEED, value, wanted })
            })
            .transpose()?;
        let lane = Lane {
            latency_us: latency_ms * 1_000,
            loss: Loss::Independent(ppm(loss)),
            mtu: MTU,
            ..Lane::default()
        };
        Ok(Self {
            seed,
            lane,
            discovery_delay: Duration::from_millis(discovery_ms),
            connection_timeout: Duration::from_secs(timeout_s),
            message_bytes_max,
        })
    }
}

fn read<T: FromStr>(
    look: impl Fn(&'static str) -> Option<String>,
    name: &'static str,
    default: T,
    wanted: &'static str,
    allowed: impl Fn(&T) -> bool,
) -> Result<T, InvalidSetting> {
    let Some(value) = look(name) else { return Ok(default) };
    match value.parse() {
        Ok(parsed) if allowed(&parsed) => Ok(parsed),
        Ok(_) | Err(_) => Err(InvalidSetting { name, value, wanted }),
    }
}

/// A share in millionths; what is no share is cut to one.
pub(super) fn ppm(share: f64) -> u32 {
    // A cast of a float saturates, and NaN is 0.
    (share.clamp(0.0, 1.0) * 1e6).round() as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_an_environment_the_documented_values_hold() {
        let settings = Settings::from(|_| None).unwrap();
        assert_eq!((settings.lane.latency_us, settings.lane.loss), (50_000, Loss::Independent(10_000)));
        assert_eq!(settings.discovery_delay, Duration::from_millis(100));
        assert_eq!(settings.connection_timeout, Duration::from_secs(30));
        assert_eq!((settings.message_bytes_max, settings.seed), (1_048_576, None));
    }

    #[test]
    fn a_bad_value_is_named_with_what_it_may_be() {
        for (bad, value, wanted) in [
            (LATENCY_MS, "fast", "milliseconds"),
            (PACKET_LOSS, "1.5", "between 0 and 1"),
            (PACKET_LOSS, "NaN", "between 0 and 1"),
            (DISCOVERY_DELAY_MS, "-1", "milliseconds"),
            (CONNECTION_TIMEOUT_SECS, "0", "seconds"),
            (MAX_MESSAGE_SIZE, "99999999999", "bytes"),
            (SEED, "0x7", "whole number"),
        ] {
            let error = Settings::from(|name| (name == bad).then(|| value.to_owned())).unwrap_err();
            let text = error.to_string();
            assert!(text.starts_with(&format!("{bad}={value} ")) && text.contains(wanted), "{text}");
        }
        let good = Settings::from(|name| (name == SEED).then(|| "7".to_owned())).unwrap();
        assert_eq!(good.seed, Some(7));
    }
}
