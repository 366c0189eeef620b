//! The JSON that scripts depend on, byte for byte. A failing test here means a change that breaks them: add fields, but
//! do not rename or remove one without raising `API_VERSION`.

#![expect(clippy::unwrap_used, reason = "the helper `pin` of these tests is no #[test] itself")]

use honeylink_api::*;

fn path() -> PathInfo {
    PathInfo {
        rung: Rung::Lan,
        carrier: "iroh".into(),
        address: "192.0.2.7:7843".into(),
        rtt_ms: Some(0.4),
        why: "chosen over relay 41 ms".into(),
    }
}

/// Asserts that a value prints as `json` and that `json` reads back as the value.
fn pin<T>(value: &T, json: &str)
where
    T: serde::Serialize + serde::de::DeserializeOwned + PartialEq + std::fmt::Debug,
{
    assert_eq!(serde_json::to_string(value).unwrap(), json);
    assert_eq!(&serde_json::from_str::<T>(json).unwrap(), value);
}

const PATH: &str = r#"{"rung":"direct/lan","carrier":"iroh","address":"192.0.2.7:7843","rtt_ms":0.4,"why":"chosen over relay 41 ms"}"#;

#[test]
fn status_has_the_promised_names() {
    let status = Status {
        id: "ab".into(),
        name: "studio".into(),
        device_type: "laptop".into(),
        version: "0.1.0".into(),
        api: 1,
        listen: vec!["192.0.2.7:7843".into()],
        mode: Mode::Daemon,
        phase: Phase::Running,
        pid: 7,
        uptime_s: 60,
        home: "/home/a/.local/share/honeylink".into(),
        reach: "lan".into(),
        peers: 1,
        nearby: 2,
        transfers: 0,
        subsystems: vec![Subsystem {
            name: "discovery".into(),
            state: SubsystemState::Degraded,
            detail: Some("no interface has multicast".into()),
        }],
    };
    pin(
        &status,
        concat!(
            r#"{"id":"ab","name":"studio","type":"laptop","version":"0.1.0","api":1,"listen":["192.0.2.7:7843"],"#,
            r#""mode":"daemon","phase":"running","pid":7,"uptime_s":60,"home":"/home/a/.local/share/honeylink","#,
            r#""reach":"lan","peers":1,"nearby":2,"transfers":0,"subsystems":[{"name":"discovery","#,
            r#""state":"degraded","detail":"no interface has multicast"}]}"#
        ),
    );
}

#[test]
fn a_nearby_device_and_its_events_have_the_promised_names() {
    let device = NearbyDevice {
        id: "ab".into(),
        name: "studio".into(),
        device_type: "laptop".into(),
        seen_by: vec!["mdns".into()],
        trust: Trust::Paired,
        path: Some(path()),
        addresses: vec!["192.0.2.7:7843".into()],
        version: None,
        rssi_dbm: None,
    };
    let json = format!(
        r#""id":"ab","name":"studio","type":"laptop","seen_by":["mdns"],"trust":"paired","path":{PATH},"addresses":["192.0.2.7:7843"]}}"#
    );
    pin(&device, &format!("{{{json}"));
    pin(&NearbyEvent::Found(device), &format!(r#"{{"event":"found",{json}"#));
    pin(
        &NearbyEvent::Lost { id: "ab".into(), name: "studio".into() },
        r#"{"event":"lost","id":"ab","name":"studio"}"#,
    );
}

#[test]
fn a_pairing_starts_with_the_code_and_ends_with_the_outcome() {
    pin(
        &PairEvent::Open { code: "7-amber-falcon".into(), qr: "HONEYLINK:P/AA".into(), expires_s: 300 },
        r#"{"event":"open","code":"7-amber-falcon","qr":"HONEYLINK:P/AA","expires_s":300}"#,
    );
    pin(
        &PairEvent::Outcome(PairOutcome {
            ok: true,
            id: Some("ab".into()),
            name: Some("studio".into()),
            trust: Some(Trust::Verified),
            method: Some("code".into()),
            seconds: 0.25,
            error: None,
        }),
        r#"{"event":"outcome","ok":true,"id":"ab","name":"studio","trust":"verified","method":"code","seconds":0.25}"#,
    );
}

#[test]
fn a_transfer_ends_with_the_promised_names() {
    let outcome = TransferOutcome {
        ok: false,
        id: "t1".into(),
        bytes: 9,
        resumed_bytes: 0,
        seconds: 1.5,
        path: Some(path()),
        blake3: Some("cd".into()),
        saved: Vec::new(),
        notes: Vec::new(),
        error: Some(ErrorBody::new(ErrorCode::Declined, "studio said no")),
    };
    pin(
        &TransferEvent::Outcome(outcome),
        &format!(
            r#"{{"event":"outcome","ok":false,"id":"t1","bytes":9,"resumed_bytes":0,"seconds":1.5,"path":{PATH},"blake3":"cd","error":{{"code":"declined","message":"studio said no"}}}}"#
        ),
    );
}

#[test]
fn messages_and_pings_have_the_promised_names() {
    let message = ChatMessage {
        peer: "ab".into(),
        name: "studio".into(),
        direction: Direction::In,
        text: "hello".into(),
        at_unix_ms: 1,
        state: ChatState::Delivered,
        path: None,
    };
    pin(
        &ChatEvent::Message(message),
        r#"{"event":"message","peer":"ab","name":"studio","direction":"in","text":"hello","at_unix_ms":1,"state":"delivered"}"#,
    );
    pin(
        &PingEvent::Reply { seq: 0, rtt_ms: 0.5, path: None },
        r#"{"event":"reply","seq":0,"rtt_ms":0.5,"path":null}"#,
    );
}

#[test]
fn an_error_code_of_a_newer_node_is_still_an_error() {
    let body: ErrorBody = serde_json::from_str(r#"{"code":"brand_new","message":"m","extra":1}"#).unwrap();
    assert_eq!(body.code, ErrorCode::Other);
    assert_eq!(body.code.exit().number(), 1);
}

#[test]
fn exit_codes_are_the_published_ones() {
    let table = [
        (ErrorCode::Internal, 1),
        (ErrorCode::BadRequest, 2),
        (ErrorCode::NoNode, 3),
        (ErrorCode::NotFound, 4),
        (ErrorCode::Timeout, 5),
        (ErrorCode::Declined, 6),
        (ErrorCode::WrongCode, 7),
        (ErrorCode::IdentityChanged, 8),
        (ErrorCode::Partial, 9),
        (ErrorCode::Policy, 10),
        (ErrorCode::Resumable, 75),
        (ErrorCode::Interrupted, 130),
    ];
    for (code, number) in table {
        assert_eq!(code.exit().number(), number, "{code:?}");
    }
}
