//! One radio of `mesh.radios`: its fields, what each takes, and what the region's rules say of them together.
//!
//! A radio that the rules do not allow never becomes a [`SerialConfig`], so the daemon cannot be told to send where it
//! must not.

use honeylink::carrier::serial::{self, SerialConfig};
use honeylink::radio::{Band, CodingRate, Lora, Pace, RadioError, Region, Tuning};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::problem::meant;
use super::schema::Kind;

/// One radio, with what was left out filled in.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Radio {
    pub(crate) port: String,
    pub(crate) kind: String,
    pub(crate) region: String,
    pub(crate) frequency_hz: u32,
    pub(crate) bandwidth_hz: u32,
    pub(crate) spreading_factor: u8,
    pub(crate) coding_rate: u8,
    pub(crate) power_dbm: i8,
    pub(crate) antenna_dbi: f64,
    pub(crate) baud: u32,
    pub(crate) bits_per_s: u64,
    pub(crate) key_up_ms: u64,
    pub(crate) frame_bytes_max: usize,
}

impl Default for Radio {
    fn default() -> Self {
        Self {
            port: String::new(),
            kind: "rnode".to_owned(),
            region: "eu868".to_owned(),
            frequency_hz: 0,
            bandwidth_hz: 125_000,
            spreading_factor: 8,
            coding_rate: 5,
            power_dbm: 14,
            antenna_dbi: 2.15,
            baud: serial::BAUD_DEFAULT,
            bits_per_s: 0,
            key_up_ms: 50,
            frame_bytes_max: 255,
        }
    }
}

/// A field of a radio.
pub(crate) struct Field {
    /// Its name.
    pub(crate) name: &'static str,
    /// What values it takes.
    pub(crate) kind: Kind,
    /// What it is for.
    pub(crate) about: &'static str,
}

/// Fields without a default.
pub(crate) const REQUIRED: [&str; 2] = ["port", "frequency_hz"];

/// All fields, in the order shown.
pub(crate) const FIELDS: &[Field] = &[
    Field {
        name: "port",
        kind: Kind::Text { max: 1024 },
        about: "The modem's serial port. A name that follows the device is best: those in /dev/serial/by-id.",
    },
    Field {
        name: "kind",
        kind: Kind::Choice(&["rnode", "kiss"]),
        about: "`rnode`: RNode-compatible, set up by this program. `kiss`: a plain KISS modem that you have set up.",
    },
    Field {
        name: "region",
        kind: Kind::Choice(&["eu868", "eu433", "unrestricted"]),
        about: "Whose rules hold. `unrestricted` has none: for cables, and where you hold a licence.",
    },
    Field {
        name: "frequency_hz",
        kind: Kind::Integer { min: 100_000_000, max: 3_000_000_000, unit: "Hz" },
        about: "Centre of the channel.",
    },
    Field {
        name: "bandwidth_hz",
        kind: Kind::Integer { min: 1_000, max: 500_000, unit: "Hz" },
        about: "Width of the channel. Wider is faster and reaches less far.",
    },
    Field {
        name: "spreading_factor",
        kind: Kind::Integer { min: 7, max: 12, unit: "" },
        about: "LoRa: each step reaches further and takes twice as long.",
    },
    Field {
        name: "coding_rate",
        kind: Kind::Integer { min: 5, max: 8, unit: "" },
        about: "LoRa: 5 is 4/5, the fastest; 8 is 4/8, the most robust.",
    },
    Field {
        name: "power_dbm",
        kind: Kind::Integer { min: -9, max: 37, unit: "dBm" },
        about: "Power at the antenna's plug.",
    },
    Field {
        name: "antenna_dbi",
        kind: Kind::Decimal { min: -30, max: 30, unit: "dBi" },
        about: "Gain of the antenna less the loss of its cable. 2.15 is a dipole.",
    },
    Field {
        name: "baud",
        kind: Kind::Integer { min: 1_200, max: 4_000_000, unit: "bits per second" },
        about: "Speed of the serial port.",
    },
    Field {
        name: "bits_per_s",
        kind: Kind::Integer { min: 0, max: 10_000_000, unit: "bits per second" },
        about: "`kiss` only: what the modem sends on the air, if it is no LoRa modem. 0: it is one.",
    },
    Field {
        name: "key_up_ms",
        kind: Kind::Integer { min: 0, max: 5_000, unit: "milliseconds" },
        about: "`kiss` with `bits_per_s` only: what each frame costs before its first bit.",
    },
    Field {
        name: "frame_bytes_max",
        kind: Kind::Integer { min: 128, max: 1_200, unit: "bytes" },
        about: "`kiss` only: the largest frame the modem takes.",
    },
];

/// What is wrong with a list of radios.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Wrong {
    /// Which radio, from 0; `None` if it is the list itself.
    pub(crate) radio: Option<usize>,
    /// Which field, where it is one.
    pub(crate) field: Option<String>,
    /// What is wrong, and what is allowed.
    pub(crate) why: String,
}

impl std::fmt::Display for Wrong {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if let Some(radio) = self.radio {
            write!(f, "radio {}: ", radio + 1)?;
        }
        f.write_str(&self.why)
    }
}

/// Checks a list of radios: fields, values, and the rules of the region.
///
/// # Errors
/// The first thing that is wrong.
pub(crate) fn check(value: &Value) -> Result<(), Wrong> {
    let whole = |why: String| Wrong { radio: None, field: None, why };
    let Value::Array(radios) = value else {
        return Err(whole(format!("it must be {}", Kind::Radios.allowed())));
    };
    if radios.len() > honeylink::mesh::RADIOS_MAX {
        return Err(whole(format!(
            "{} radios are too many; at most {}",
            radios.len(),
            honeylink::mesh::RADIOS_MAX
        )));
    }
    let mut ports: Vec<String> = Vec::new();
    for (at, value) in radios.iter().enumerate() {
        let radio = read(value).map_err(|wrong| Wrong { radio: Some(at), ..wrong })?;
        if ports.contains(&radio.port) {
            let why = format!("port = {:?} is another radio's already", radio.port);
            return Err(Wrong { radio: Some(at), field: Some("port".to_owned()), why });
        }
        ports.push(radio.port);
    }
    Ok(())
}

fn read(value: &Value) -> Result<Radio, Wrong> {
    let of = |field: &str, why: String| Wrong { radio: None, field: Some(field.to_owned()), why };
    let whole = |why: String| Wrong { radio: None, field: None, why };
    let Value::Object(given) = value else {
        return Err(whole("it must be a table of its fields".to_owned()));
    };
    for (name, value) in given {
        let Some(field) = FIELDS.iter().find(|field| field.name == name) else {
            let all: Vec<&str> = FIELDS.iter().map(|field| field.name).collect();
            let why = format!("unknown field {name:?}{}; fields are {}", meant(name, &all), all.join(", "));
            return Err(of(name, why));
        };
        let wrong = |why: String| of(name, format!("{name} = {value} is not allowed; {why}"));
        field.kind.check(value).map_err(wrong)?;
    }
    for Field { name, about, .. } in FIELDS.iter().filter(|field| REQUIRED.contains(&field.name)) {
        if given.get(*name).is_none_or(|value| value.as_str() == Some("")) {
            return Err(whole(format!("{name} is missing: {about}")));
        }
    }
    fits_its_kind(given)?;
    let radio: Radio = serde_json::from_value(value.clone()).map_err(|error| whole(error.to_string()))?;
    radio.serial()?;
    Ok(radio)
}

/// Some fields mean something for one kind of modem only: set for another, they would silently do nothing.
fn fits_its_kind(given: &Map<String, Value>) -> Result<(), Wrong> {
    let text = |name: &str| given.get(name).and_then(Value::as_str);
    let of_kiss = ["bits_per_s", "key_up_ms", "frame_bytes_max"];
    let of_lora = ["spreading_factor", "coding_rate"];
    let rate = given.get("bits_per_s").and_then(Value::as_u64).is_some_and(|rate| rate > 0);
    let misplaced = match (text("kind") == Some("kiss"), rate) {
        (false, _) => of_kiss
            .iter()
            .find(|name| given.contains_key(**name))
            .map(|name| (name, "for kind = \"kiss\" only")),
        (true, true) => of_lora
            .iter()
            .find(|name| given.contains_key(**name))
            .map(|name| (name, "for LoRa modems only, which have no bits_per_s")),
        (true, false) => None,
    };
    match misplaced {
        None => Ok(()),
        Some((name, whom)) => {
            Err(Wrong { radio: None, field: Some((*name).to_owned()), why: format!("{name} is {whom}") })
        }
    }
}

impl Radio {
    /// The radio for the library.
    ///
    /// # Errors
    /// The field that the hardware or the region's rules do not allow, and what they do.
    pub(crate) fn serial(&self) -> Result<SerialConfig, Wrong> {
        let region = Region::named(&self.region).unwrap_or(Region::EU868);
        let refused = |error: RadioError| Wrong {
            radio: None,
            field: Some(field_of(&error).to_owned()),
            why: explained(&error, &region),
        };
        let antenna_cdbi = hundredths(self.antenna_dbi);
        let radio = if self.kind == "kiss" {
            let channel = region.channel(self.frequency_hz, self.bandwidth_hz).map_err(refused)?;
            channel.check_power(self.power_dbm, antenna_cdbi).map_err(refused)?;
            let pace = match self.bits_per_s {
                0 => Pace::Lora(self.lora().map_err(refused)?),
                bits_per_s => Pace::Rate { bits_per_s, latency_us: self.key_up_ms * 1000 },
            };
            serial::Radio::Plain { pace, band: channel.band(), frame_bytes_max: self.frame_bytes_max }
        } else {
            let lora = self.lora().map_err(refused)?;
            let tuning = Tuning::new(&region, self.frequency_hz, lora, self.power_dbm, antenna_cdbi);
            serial::Radio::Rnode(tuning.map_err(refused)?)
        };
        Ok(SerialConfig::new(&self.port, radio).baud(self.baud))
    }

    fn lora(&self) -> Result<Lora, RadioError> {
        let rate = CodingRate::from_denominator(self.coding_rate)?;
        Lora::new(self.spreading_factor, self.bandwidth_hz, rate)
    }
}

/// Decibels as the library counts them. The schema has checked that they fit.
#[expect(clippy::cast_possible_truncation, reason = "between -30 and 30 by the schema")]
fn hundredths(dbi: f64) -> i16 {
    (dbi * 100.0).round() as i16
}

const fn field_of(error: &RadioError) -> &'static str {
    match error {
        RadioError::SpreadingFactor { .. } | RadioError::Preamble { .. } => "spreading_factor",
        RadioError::Bandwidth { .. } => "bandwidth_hz",
        RadioError::CodingRate { .. } => "coding_rate",
        RadioError::BetweenBands { .. } | RadioError::CrossesEdge { .. } => "frequency_hz",
        RadioError::TooStrong { .. } => "power_dbm",
        RadioError::Bands => "region",
    }
}

/// The library's words, and where the frequency is what is wrong, every band there is.
fn explained(error: &RadioError, region: &Region) -> String {
    match error {
        RadioError::BetweenBands { .. } | RadioError::CrossesEdge { .. } => {
            let bands: Vec<String> = region.bands().iter().map(band).collect();
            format!("{error}; {} allows {}", region.name(), bands.join(", "))
        }
        RadioError::SpreadingFactor { .. }
        | RadioError::Bandwidth { .. }
        | RadioError::CodingRate { .. }
        | RadioError::Preamble { .. }
        | RadioError::TooStrong { .. }
        | RadioError::Bands => error.to_string(),
    }
}

/// A band and its rule in words: `869.4-869.65 MHz (10 % of the time, 27 dBm)`.
fn band(band: &Band) -> String {
    let share = f64::from(band.duty_ppm) / 1e4;
    format!("{} ({share} % of the time, {} dBm)", band_name(band), band.erp_max_dbm)
}

/// A band by its edges: `869.4-869.65 MHz`.
pub(crate) fn band_name(band: &Band) -> String {
    let mhz = |hz: u32| f64::from(hz) / 1e6;
    format!("{}-{} MHz", mhz(band.low_hz), mhz(band.high_hz))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn wrong(radio: &Value) -> String {
        check(&json!([radio])).unwrap_err().to_string()
    }

    #[test]
    fn a_radio_needs_a_port_and_a_frequency_and_has_defaults_for_the_rest() {
        let least = json!({"port": "/dev/ttyUSB0", "frequency_hz": 869_525_000});
        assert_eq!(check(&json!([least])), Ok(()));
        let radio: Radio = serde_json::from_value(least).unwrap();
        assert_eq!(radio.serial().unwrap().schedule().band.duty_ppm, 100_000);
        assert_eq!(
            wrong(&json!({"port": "/dev/ttyUSB0"})),
            "radio 1: frequency_hz is missing: Centre of the channel."
        );
        let wrong = wrong(&json!({"frequency_hz": 869_525_000}));
        assert!(wrong.starts_with("radio 1: port is missing: The modem's serial port."), "{wrong}");
    }

    #[test]
    fn every_default_is_a_value_its_field_takes() {
        let all = serde_json::to_value(Radio::default()).unwrap();
        for Field { name, kind, .. } in FIELDS.iter().filter(|field| field.name != "frequency_hz") {
            assert_eq!(kind.check(&all[*name]), Ok(()), "{name}");
        }
        assert_eq!(all.as_object().unwrap().len(), FIELDS.len());
    }

    #[test]
    fn a_frequency_between_the_bands_is_answered_with_every_band() {
        assert_eq!(
            wrong(&json!({"port": "/dev/ttyUSB0", "frequency_hz": 868_650_000})),
            "radio 1: 868650000 Hz is in no band of eu868: nothing may be sent there; eu868 allows \
             863-865 MHz (0.1 % of the time, 14 dBm), 865-868 MHz (1 % of the time, 14 dBm), \
             868-868.6 MHz (1 % of the time, 14 dBm), 868.7-869.2 MHz (0.1 % of the time, 14 dBm), \
             869.4-869.65 MHz (10 % of the time, 27 dBm), 869.7-870 MHz (1 % of the time, 14 dBm)"
        );
    }

    #[test]
    fn power_is_judged_with_the_antenna_and_kiss_modems_by_the_same_rules() {
        let strong = json!({"port": "p", "frequency_hz": 868_100_000, "power_dbm": 14, "antenna_dbi": 6.0});
        assert!(wrong(&strong).contains("10 dBm with this antenna"), "{}", wrong(&strong));
        let kiss = json!({"port": "p", "kind": "kiss", "frequency_hz": 868_650_000, "bits_per_s": 9600});
        assert!(wrong(&kiss).contains("in no band of eu868"), "{}", wrong(&kiss));
        let kiss = json!({"port": "p", "kind": "kiss", "frequency_hz": 868_100_000, "bandwidth_hz": 25_000, "bits_per_s": 9600});
        assert_eq!(check(&json!([kiss])), Ok(()));
    }

    #[test]
    fn what_would_do_nothing_is_an_error() {
        let radio = json!({"port": "p", "frequency_hz": 868_100_000, "key_up_ms": 5});
        assert_eq!(wrong(&radio), "radio 1: key_up_ms is for kind = \"kiss\" only");
        let typo = json!({"port": "p", "frequncy_hz": 1});
        assert!(
            wrong(&typo)
                .starts_with("radio 1: unknown field \"frequncy_hz\"; did you mean \"frequency_hz\"?")
        );
        let range = json!({"port": "p", "frequency_hz": 868_100_000, "spreading_factor": 6});
        assert_eq!(
            wrong(&range),
            "radio 1: spreading_factor = 6 is not allowed; it must be a whole number from 7 to 12"
        );
        let one = json!({"port": "p", "frequency_hz": 868_100_000});
        assert_eq!(
            check(&json!([one, one])).unwrap_err().to_string(),
            "radio 2: port = \"p\" is another radio's already"
        );
        assert!(check(&json!(vec![one; 9])).unwrap_err().why.contains("at most 8"));
    }
}
