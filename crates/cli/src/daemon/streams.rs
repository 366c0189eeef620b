//! What is sent on streams, by class: the library's counters in the API's words.

use std::time::Duration;

use honeylink::Class;
use honeylink::link::{ClassTraffic, LinkTraffic};
use honeylink::node::StreamTotals;
use honeylink_api::{StreamClass, Streams};

/// To one device.
pub(super) fn of_link(traffic: &LinkTraffic) -> Streams {
    Streams {
        carries_bytes_per_s: traffic.carries_bytes_per_s,
        queue_delay_ms: Some(millis(traffic.queue_delay)),
        reserved_bytes_per_s: traffic.reserved_bytes_per_s,
        datagrams_repaired: traffic.received.recovered,
        datagrams_lost: traffic.received.lost,
        classes: traffic.classes.iter().map(class).collect(),
    }
}

/// To all devices.
pub(super) fn of_node(totals: &StreamTotals) -> Streams {
    Streams {
        carries_bytes_per_s: None,
        queue_delay_ms: None,
        reserved_bytes_per_s: totals.reserved_bytes_per_s,
        datagrams_repaired: totals.received.recovered,
        datagrams_lost: totals.received.lost,
        classes: totals.classes.iter().map(class).collect(),
    }
}

fn class(of: &ClassTraffic) -> StreamClass {
    StreamClass {
        class: name(of.class).to_owned(),
        open: of.open,
        bytes_sent: of.stats.bytes_sent,
        bytes_per_s: of.stats.bytes_per_s,
        queued_bytes: of.stats.queued_bytes,
        wait_p50_ms: of.stats.wait_p50.map(millis),
        wait_p90_ms: of.stats.wait_p90.map(millis),
        wait_p99_ms: of.stats.wait_p99.map(millis),
        datagrams_late: of.stats.datagrams_late,
        repair_sent: of.repair_sent,
    }
}

pub(super) const fn name(class: Class) -> &'static str {
    match class {
        Class::Realtime => "realtime",
        Class::Interactive => "interactive",
        Class::Bulk => "bulk",
    }
}

fn millis(time: Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}
