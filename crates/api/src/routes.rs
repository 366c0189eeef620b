//! Where things are: the paths of the API, for server and client alike.
//!
//! | method and path | body | answer |
//! |---|---|---|
//! | `GET /v1/status` | | [`Status`](crate::Status) |
//! | `POST /v1/shutdown` | [`ShutdownRequest`](crate::ShutdownRequest) | lines of [`ShutdownEvent`](crate::ShutdownEvent) |
//! | `GET /v1/nearby?wait_ms=` | | list of [`NearbyDevice`](crate::NearbyDevice) |
//! | `GET /v1/nearby/watch` | | lines of [`NearbyEvent`](crate::NearbyEvent) |
//! | `GET /v1/devices` | | list of [`Peer`](crate::Peer) |
//! | `GET /v1/devices/{peer}` | | [`Peer`](crate::Peer) |
//! | `PATCH /v1/devices/{peer}` | [`PeerChange`](crate::PeerChange) | [`Peer`](crate::Peer) |
//! | `DELETE /v1/devices/{peer}` | | [`Peer`](crate::Peer) as it was |
//! | `POST /v1/devices/{peer}/revoke` | | [`Peer`](crate::Peer) |
//! | `POST /v1/devices/{peer}/grants` | [`GrantsChange`](crate::GrantsChange) | [`Peer`](crate::Peer) |
//! | `GET /v1/devices/{peer}/path` | | [`PathReport`](crate::PathReport) |
//! | `GET /v1/devices/{peer}/path/watch` | | lines of [`PathChange`](crate::PathChange) |
//! | `POST /v1/devices/{peer}/call-back` | | [`CallBack`](crate::CallBack) |
//! | `POST /v1/pair/open` | [`PairOpen`](crate::PairOpen) | lines of [`PairEvent`](crate::PairEvent) |
//! | `POST /v1/pair/join` | [`PairJoin`](crate::PairJoin) | lines of [`PairEvent`](crate::PairEvent) |
//! | `POST /v1/pair/answer` | [`PairAnswer`](crate::PairAnswer) | `{}` |
//! | `POST /v1/send` | [`SendRequest`](crate::SendRequest) | lines of [`TransferEvent`](crate::TransferEvent) |
//! | `POST /v1/receive` | [`ReceiveRequest`](crate::ReceiveRequest) | lines of [`ReceiveEvent`](crate::ReceiveEvent) |
//! | `GET /v1/transfers` | | list of [`Transfer`](crate::Transfer) |
//! | `POST /v1/transfers/{id}/answer` | [`TransferAnswer`](crate::TransferAnswer) | `{}` |
//! | `DELETE /v1/transfers/{id}` | | `{}`: cancelled, its partial files removed |
//! | `POST /v1/chat` | [`ChatSend`](crate::ChatSend) | [`ChatMessage`](crate::ChatMessage) |
//! | `GET /v1/chat/watch?peer=` | | lines of [`ChatEvent`](crate::ChatEvent) |
//! | `GET /v1/mesh/stats` | | [`MeshStats`](crate::MeshStats) |
//! | `GET /v1/mesh/routes` | | list of [`MeshRoute`](crate::MeshRoute) |
//! | `GET /v1/mesh/devices` | | list of [`MeshDevice`](crate::MeshDevice) |
//! | `GET /v1/mesh/radios` | | list of [`MeshRadio`](crate::MeshRadio) |
//! | `GET /v1/mesh/trace/{peer}` | | [`MeshTrace`](crate::MeshTrace) |
//! | `POST /v1/mesh/announce` | | [`MeshAnnounced`](crate::MeshAnnounced) |
//! | `GET /v1/policies` | | list of [`Policy`](crate::Policy) |
//! | `POST /v1/policies/apply` | [`PolicyApply`](crate::PolicyApply) | [`PolicyApplied`](crate::PolicyApplied) |
//! | `POST /v1/ping` | [`PingRequest`](crate::PingRequest) | lines of [`PingEvent`](crate::PingEvent) |
//! | `POST /v1/speed` | [`SpeedRequest`](crate::SpeedRequest) | [`SpeedReport`](crate::SpeedReport), after the time asked for |
//! | `GET /healthz` | | [`Health`](crate::Health), with status 503 if a part does not work |
//! | `GET /metrics` | | Prometheus text format 0.0.4 |
//! | `GET /v1/pipe/{peer}?policy=` | upgrade `honeylink-pipe`, then bytes | [`PIPE_RECEIPT`], or [`PIPE_BROKEN`] and [`ErrorBody`](crate::ErrorBody) |
//! | `GET /v1/pipe-listen?peer=` | upgrade `honeylink-pipe`, at the end [`PIPE_RECEIPT`] | blocks: length as `u32` big-endian, bytes; length 0 ends |

/// Own status.
pub const STATUS: &str = "/v1/status";
/// Ends the node.
pub const SHUTDOWN: &str = "/v1/shutdown";
/// Who is around now.
pub const NEARBY: &str = "/v1/nearby";
/// Who comes and goes.
pub const NEARBY_WATCH: &str = "/v1/nearby/watch";
/// The trust store.
pub const DEVICES: &str = "/v1/devices";
/// Shows a pairing code.
pub const PAIR_OPEN: &str = "/v1/pair/open";
/// Uses a pairing code.
pub const PAIR_JOIN: &str = "/v1/pair/join";
/// What the person said about the short authentication string.
pub const PAIR_ANSWER: &str = "/v1/pair/answer";
/// Sends files.
pub const SEND: &str = "/v1/send";
/// Receives files.
pub const RECEIVE: &str = "/v1/receive";
/// Lists transfers.
pub const TRANSFERS: &str = "/v1/transfers";
/// Says something.
pub const CHAT: &str = "/v1/chat";
/// Hears what is said.
pub const CHAT_WATCH: &str = "/v1/chat/watch";
/// Counters, ports and neighbours of the mesh.
pub const MESH_STATS: &str = "/v1/mesh/stats";
/// Every destination in the mesh with its best way.
pub const MESH_ROUTES: &str = "/v1/mesh/routes";
/// Devices that announced themselves in the mesh.
pub const MESH_DEVICES: &str = "/v1/mesh/devices";
/// The radios of the mesh.
pub const MESH_RADIOS: &str = "/v1/mesh/radios";
/// What is known of the way to a device in the mesh.
pub const MESH_TRACE: &str = "/v1/mesh/trace";
/// Announces this device in the mesh.
pub const MESH_ANNOUNCE: &str = "/v1/mesh/announce";
/// How each part does; also at the address of `metrics.listen`.
pub const HEALTHZ: &str = "/healthz";
/// What there is to measure; also at the address of `metrics.listen`.
pub const METRICS: &str = "/metrics";
/// The policies there are.
pub const POLICIES: &str = "/v1/policies";
/// Lets what is being sent to a device follow a policy.
pub const POLICIES_APPLY: &str = "/v1/policies/apply";
/// Measures round trips.
pub const PING: &str = "/v1/ping";
/// Measures the rate to a device, and latency with and without load.
pub const SPEED: &str = "/v1/speed";
/// Opens a byte pipe to a peer.
pub const PIPE: &str = "/v1/pipe";
/// Waits for a byte pipe from a peer.
pub const PIPE_LISTEN: &str = "/v1/pipe-listen";
/// Name of the upgrade of the two pipes.
pub const PIPE_UPGRADE: &str = "honeylink-pipe";

/// Says that everything of a pipe was taken: the listener to its node, a node to the opener. An end without it is a
/// broken pipe.
pub const PIPE_RECEIPT: u8 = 6;
/// Says to the opener that the pipe broke; the error follows as JSON.
pub const PIPE_BROKEN: u8 = 21;

/// `parts` as one path below `base`, each part percent-encoded (RFC 3986 section 2.1), so that a device may be called
/// `Ann's 50% laptop/2`.
#[must_use]
pub fn below(base: &str, parts: &[&str]) -> String {
    let mut out = String::from(base);
    for part in parts {
        out.push('/');
        encode(part, &mut out);
    }
    out
}

/// `path` with one query parameter, its value percent-encoded.
#[must_use]
pub fn with_query(path: &str, key: &str, value: &str) -> String {
    let mut out = format!("{path}{}{key}=", if path.contains('?') { '&' } else { '?' });
    encode(value, &mut out);
    out
}

fn encode(text: &str, out: &mut String) {
    const HEX: &[u8; 16] = b"0123456789ABCDEF";
    for &byte in text.as_bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.' | b'~') {
            out.push(char::from(byte));
        } else {
            out.push('%');
            out.push(char::from(HEX[usize::from(byte >> 4)]));
            out.push(char::from(HEX[usize::from(byte & 15)]));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_with_any_character_survive_in_a_path() {
        assert_eq!(below(DEVICES, &["a b/ä%", "path"]), "/v1/devices/a%20b%2F%C3%A4%25/path");
    }

    #[test]
    fn query_values_cannot_add_parameters() {
        assert_eq!(with_query(CHAT_WATCH, "peer", "a&b=c"), "/v1/chat/watch?peer=a%26b%3Dc");
    }
}
