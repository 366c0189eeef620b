//! The closed list of what is measured. A family that is not here is not printed, and the manual lists each.

use super::text::{Family, Kind};

const fn counter(name: &'static str, help: &'static str) -> Family {
    Family { name, kind: Kind::Counter, help }
}

const fn gauge(name: &'static str, help: &'static str) -> Family {
    Family { name, kind: Kind::Gauge, help }
}

const fn histogram(name: &'static str, help: &'static str) -> Family {
    Family { name, kind: Kind::Histogram, help }
}

/// Every family, in the order printed.
pub(super) const FAMILIES: &[Family] = &[
    gauge("honeylink_info", "Version and reach of the node, as labels; always 1."),
    gauge("honeylink_uptime_seconds", "Since the node started."),
    gauge("honeylink_health", "How a part does: 0 healthy, 1 degraded, 2 draining, 3 unhealthy."),
    gauge("honeylink_devices_paired", "Paired devices."),
    gauge("honeylink_devices_nearby", "Devices that discovery sees now."),
    gauge("honeylink_transfers_running", "Transfers that move now."),
    gauge("honeylink_connections", "Devices connected for links now, by the rung of the path in use."),
    counter(
        "honeylink_carrier_bytes_total",
        "Bytes by carrier: with everything that UDP carries, and of TCP what TLS carries.",
    ),
    counter("honeylink_carrier_packets_total", "UDP datagrams by carrier."),
    counter("honeylink_carrier_lost_total", "Packets sent and lost on the way."),
    counter("honeylink_carrier_errors_total", "Connections that did not come about, in either direction."),
    counter("honeylink_accepts_total", "Connections that others made to this device."),
    counter("honeylink_accepts_failed_total", "Connections that others began and did not bring about."),
    histogram("honeylink_dial_seconds", "From dialling a device to a finished handshake."),
    counter("honeylink_dials_failed_total", "Devices dialled in vain."),
    histogram(
        "honeylink_discovery_seconds",
        "From the start of discovery to the first sight of a paired device, of those seen in its first minute.",
    ),
    histogram("honeylink_pairing_seconds", "Ceremonies of pairing that ended well, people included."),
    counter("honeylink_pairings_failed_total", "Ceremonies of pairing that did not."),
    gauge("honeylink_links", "Links that are open now."),
    counter("honeylink_link_messages_total", "Messages of links."),
    counter("honeylink_link_bytes_total", "Bytes of messages of links."),
    counter("honeylink_link_resent_total", "Messages sent once more after a failover."),
    counter("honeylink_link_failovers_total", "Times a link was taken up on another connection."),
    counter(
        "honeylink_link_datagrams_dropped_total",
        "Datagrams that came and that the application did not take.",
    ),
    counter(
        "honeylink_held_back_total",
        "Messages of chat, offers and links that waited because their device asks for more than its share.",
    ),
    counter(
        "honeylink_candidates_refused_total",
        "Connections ended because their devices named too many addresses to be tried.",
    ),
    gauge("honeylink_streams_open", "Streams and flows of datagrams that are open now, by class."),
    counter("honeylink_stream_bytes_total", "Bytes sent on them, by class."),
    gauge("honeylink_stream_queued_bytes", "Bytes that wait for their turn, by class."),
    gauge(
        "honeylink_stream_wait_seconds",
        "How long bytes waited lately for their turn, by class and quantile.",
    ),
    gauge("honeylink_stream_reserved_bytes_per_second", "What streams were promised."),
    counter("honeylink_datagrams_late_total", "Datagrams dropped because they were too late, by class."),
    counter("honeylink_fec_repair_sent_total", "Repair datagrams sent, by class."),
    counter("honeylink_fec_recovered_total", "Datagrams of others that were lost and put together again."),
    counter("honeylink_fec_lost_total", "Datagrams of others that stayed lost, where repair was asked for."),
    gauge("honeylink_peer_relay_guests", "Devices that this one relays for and that are connected for that."),
    gauge("honeylink_peer_relay_pairs", "Pairs of them that packets are carried between."),
    counter("honeylink_peer_relay_packets_total", "Packets carried between them."),
    counter("honeylink_peer_relay_bytes_total", "Bytes of those."),
    counter("honeylink_peer_relay_dropped_total", "Packets not carried, by reason: nowhere, rate, full."),
    gauge("honeylink_peer_relay_peers_connected", "Devices of node.relay_peers that can be asked to carry."),
    counter("honeylink_peer_relay_own_packets_total", "Own packets that others carried, by direction."),
    gauge("honeylink_mesh_ports", "Connections and radios that carry the mesh now."),
    gauge("honeylink_mesh_neighbours", "Neighbours heard lately."),
    gauge("honeylink_mesh_destinations", "Devices to which a way is known."),
    counter("honeylink_mesh_lookups_total", "Times a way was asked for."),
    counter("honeylink_mesh_lookups_missed_total", "Times there was none."),
    counter("honeylink_mesh_destinations_evicted_total", "Destinations forgotten to make room."),
    counter("honeylink_mesh_searches_failed_total", "Searches for a device that nobody answered."),
    counter(
        "honeylink_mesh_messages_total",
        "Messages: own ones accepted, delivered, failed; others received, lost.",
    ),
    histogram("honeylink_mesh_delivery_seconds", "From sending a message to the receipt of its target."),
    gauge("honeylink_mesh_messages_under_way", "Own messages under way."),
    gauge("honeylink_mesh_messages_waiting", "Messages that wait to be taken by the application."),
    gauge("honeylink_mesh_kept_frames", "Frames kept for devices that are away."),
    gauge("honeylink_mesh_kept_bytes", "Bytes of those."),
    counter("honeylink_mesh_kept_total", "Frames taken to be kept, and what became of them."),
    counter("honeylink_mesh_frames_total", "Frames by kind."),
    counter("honeylink_mesh_sent_bytes_total", "Bytes of frames sent, by kind."),
    counter(
        "honeylink_mesh_dropped_total",
        "Frames and messages dropped, by reason; forged and replayed are two.",
    ),
    counter("honeylink_mesh_forwarded_total", "Frames passed on for others."),
    counter("honeylink_mesh_suppressed_total", "Frames that needed no repeating."),
    counter("honeylink_mesh_unanswered_total", "Transmissions nobody was heard to have."),
    counter("honeylink_mesh_violations_total", "Connections ended because of what came over them."),
    gauge("honeylink_mesh_frames_waiting", "Frames that wait to be sent."),
    gauge("honeylink_mesh_state_bytes", "Roughly what the mesh holds in memory."),
    gauge("honeylink_radio_up", "Whether a radio takes frames: 1 or 0."),
    gauge("honeylink_radio_duty_used_seconds", "Airtime used in the last hour, by radio and band."),
    gauge("honeylink_radio_duty_budget_seconds", "Airtime that any hour may hold, by radio and band."),
    counter("honeylink_radio_airtime_seconds_total", "Airtime charged since the start."),
    counter("honeylink_radio_announce_airtime_seconds_total", "Of it, announces."),
    gauge("honeylink_radio_queued_frames", "Frames that wait for a radio."),
    counter("honeylink_radio_frames_total", "What became of frames given to a radio."),
    counter("honeylink_radio_restarts_total", "Times a modem started anew by itself."),
    counter("honeylink_radio_malformed_total", "Frames from a modem that have no known form."),
];
