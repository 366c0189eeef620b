//! What a node is told about NAT boxes: whom to ask, and whether to try.

use std::fmt;
use std::str::FromStr;

use honeylink_core::identity::DeviceId;
use honeylink_core::limits::NAT_OBSERVERS_MAX;

/// An observer and where it listens: `<64 hex digits>@<host>:<port>`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ObserverAt {
    /// Whose signature its answers have.
    pub id: DeviceId,
    /// Host name or IP address, and UDP port. It answers on the next port too.
    pub at: String,
}

/// Why a text names no observer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidObserver {
    /// It is not of the form.
    #[error("an observer is written <device id>@<host>:<port>, the id as 64 hex digits")]
    Form,
    /// The id is none.
    #[error("the part before the @ is no device id")]
    Id,
    /// The port is none, or has no next one.
    #[error("the port must be 1 to 65534: observers answer on two in a row")]
    Port,
}

impl FromStr for ObserverAt {
    type Err = InvalidObserver;

    fn from_str(text: &str) -> Result<Self, InvalidObserver> {
        let (id, at) = text.trim().split_once('@').ok_or(InvalidObserver::Form)?;
        let (host, port) = at.rsplit_once(':').ok_or(InvalidObserver::Form)?;
        if host.is_empty() || host.len() > 253 || host.chars().any(char::is_whitespace) {
            return Err(InvalidObserver::Form);
        }
        let port: u16 = port.parse().map_err(|_| InvalidObserver::Port)?;
        if port == 0 || port == u16::MAX {
            return Err(InvalidObserver::Port);
        }
        Ok(Self { id: id.parse().map_err(|_| InvalidObserver::Id)?, at: at.to_owned() })
    }
}

impl fmt::Display for ObserverAt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.id, self.at)
    }
}

/// How a node deals with NAT boxes. Nothing of it is used unless the node's reach is wide.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NatOptions {
    pub(crate) observers: Vec<ObserverAt>,
    pub(crate) punch: bool,
    pub(crate) observe: Option<u16>,
}

impl Default for NatOptions {
    fn default() -> Self {
        Self { observers: Vec::new(), punch: true, observe: None }
    }
}

impl NatOptions {
    /// Who is asked where this device is seen, and whose word about others is believed. At most four are used. Two at
    /// different addresses are needed to tell a hard box from an easy one for certain. Default: none, so nobody is asked
    /// and nothing is tried.
    #[must_use]
    pub fn observers(mut self, observers: impl IntoIterator<Item = ObserverAt>) -> Self {
        self.observers = observers.into_iter().take(NAT_OBSERVERS_MAX).collect();
        self
    }

    /// Whether to make holes in hard boxes: up to 256 sockets and 2,048 datagrams of 60 bytes in five seconds, now and then, as
    /// long as a link goes by a relay. Default: yes. Without it links to devices behind such boxes stay on the relay.
    #[must_use]
    pub fn punch(mut self, on: bool) -> Self {
        self.punch = on;
        self
    }

    /// Tells others where they are seen, on this UDP port and the next, signed with the node's identity: for a node that can be
    /// reached by anybody. Others name it as `<this device's id>@<its address>:<port>`. Default: no.
    #[must_use]
    pub fn observe(mut self, port: u16) -> Self {
        self.observe = Some(port);
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_observer_is_written_as_its_id_and_place() {
        let id = crate::testing::device_id(1);
        for at in ["198.51.100.9:7842", "relay.example:1", "[2001:db8::1]:65534"] {
            let text = format!("{id}@{at}");
            assert_eq!(text.parse::<ObserverAt>().unwrap().to_string(), text);
        }
        for (text, why) in [
            (format!("{id}"), InvalidObserver::Form),
            (format!("{id}@host"), InvalidObserver::Form),
            (format!("{id}@:7"), InvalidObserver::Form),
            (format!("{id}@host:0"), InvalidObserver::Port),
            (format!("{id}@host:65535"), InvalidObserver::Port),
            ("abc@host:1".to_owned(), InvalidObserver::Id),
        ] {
            assert_eq!(text.parse::<ObserverAt>(), Err(why), "{text}");
        }
    }
}
