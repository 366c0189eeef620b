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
        reach: "wide".into(),
        power: "mains".into(),
        dht: None,
        peer_relay: None,
        relays: vec![RelayStatus {
            relay: "https://192.0.2.7:8443#00112233445566778899aabbccddeeff".into(),
            home: true,
            connected: false,
            problem: Some("it shows another key".into()),
        }],
        peers: 1,
        nearby: 2,
        transfers: 0,
        nat: None,
        mesh: Some(MeshSummary { neighbours: 2, destinations: 3, messages: 1, radios: 1, radios_up: 0 }),
        streams: Streams {
            classes: vec![StreamClass {
                class: "bulk".into(),
                open: 1,
                bytes_sent: 9,
                bytes_per_s: 8,
                queued_bytes: 7,
                wait_p50_ms: Some(0.5),
                wait_p90_ms: None,
                wait_p99_ms: None,
                datagrams_late: 6,
                repair_sent: 5,
            }],
            ..Streams::default()
        },
        held_back: Some(HeldBack { messages: 4, offers: 3, links: 2 }),
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
            r#""reach":"wide","power":"mains","relays":[{"relay":"https://192.0.2.7:8443#00112233445566778899aabbccddeeff","home":true,"#,
            r#""connected":false,"problem":"it shows another key"}],"peers":1,"nearby":2,"transfers":0,"#,
            r#""mesh":{"neighbours":2,"destinations":3,"messages":1,"radios":1,"radios_up":0},"#,
            r#""streams":{"reserved_bytes_per_s":0,"datagrams_repaired":0,"datagrams_lost":0,"classes":[{"class":"bulk","#,
            r#""open":1,"bytes_sent":9,"bytes_per_s":8,"queued_bytes":7,"wait_p50_ms":0.5,"datagrams_late":6,"#,
            r#""repair_sent":5}]},"held_back":{"messages":4,"offers":3,"links":2},"subsystems":[{"name":"discovery","#,
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
        policy: None,
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
        id: "0c".into(),
        peer: "ab".into(),
        name: "studio".into(),
        direction: Direction::In,
        text: "hello".into(),
        at_unix_ms: 1,
        state: ChatState::Delivered,
        path: None,
        keeper: None,
    };
    pin(
        &ChatEvent::Message(message.clone()),
        r#"{"event":"message","id":"0c","peer":"ab","name":"studio","direction":"in","text":"hello","at_unix_ms":1,"state":"delivered"}"#,
    );
    pin(
        &ChatEvent::Update(ChatMessage {
            direction: Direction::Out,
            state: ChatState::Stored,
            keeper: Some("bert".into()),
            ..message
        }),
        r#"{"event":"update","id":"0c","peer":"ab","name":"studio","direction":"out","text":"hello","at_unix_ms":1,"state":"stored","keeper":"bert"}"#,
    );
    pin(
        &PingEvent::Reply { seq: 0, rtt_ms: 0.5, path: None },
        r#"{"event":"reply","seq":0,"rtt_ms":0.5,"path":null}"#,
    );
}

#[test]
fn the_mesh_has_the_promised_names() {
    let way = MeshWay {
        next: "0badb".into(),
        next_name: Some("bert".into()),
        port: 1,
        over: "bert".into(),
        hops: 2,
        cost_ms: Some(3),
        failures: 0,
        age_s: 4,
    };
    let way_json = r#"{"next":"0badb","next_name":"bert","port":1,"over":"bert","hops":2,"cost_ms":3,"failures":0,"age_s":4}"#;
    pin(
        &MeshRoute {
            hint: "c0ffee".into(),
            id: Some("ab".into()),
            name: Some("carl".into()),
            way: way.clone(),
        },
        &format!(r#"{{"hint":"c0ffee","id":"ab","name":"carl","way":{way_json}}}"#),
    );
    let trace = MeshTrace {
        id: "ab".into(),
        name: "carl".into(),
        address: "cd".into(),
        ways: vec![way],
        searching: false,
        forward_secret: true,
        messages: 1,
        keepers: vec!["bert".into()],
        passing: 0,
    };
    pin(
        &trace,
        &format!(
            r#"{{"id":"ab","name":"carl","address":"cd","ways":[{way_json}],"searching":false,"forward_secret":true,"messages":1,"keepers":["bert"],"passing":0}}"#
        ),
    );
    let radio = MeshRadio {
        port: "/dev/ttyUSB0".into(),
        state: RadioState::Down,
        detail: Some("cannot open the port".into()),
        firmware: None,
        frequency_hz: 869_525_000,
        band: MeshBand { low_hz: 869_400_000, high_hz: 869_650_000, duty_ppm: 100_000 },
        class: "constrained".into(),
        used_ms: 1000,
        left_ms: 359_000,
        budget_ms: 360_000,
        frees_in_s: 0,
        queued: 1,
        queued_bytes: 44,
        sent: 7,
        unsent: 1,
        malformed: 0,
        restarts: 0,
    };
    pin(
        &radio,
        concat!(
            r#"{"port":"/dev/ttyUSB0","state":"down","detail":"cannot open the port","frequency_hz":869525000,"#,
            r#""band":{"low_hz":869400000,"high_hz":869650000,"duty_ppm":100000},"class":"constrained","#,
            r#""used_ms":1000,"left_ms":359000,"budget_ms":360000,"frees_in_s":0,"queued":1,"queued_bytes":44,"#,
            r#""sent":7,"unsent":1,"malformed":0,"restarts":0}"#
        ),
    );
    let heard = MeshDevice {
        id: "ab".into(),
        name: None,
        offers: vec!["relay".into(), "store".into()],
        hops: 2,
        heard_s: 9,
    };
    pin(&heard, r#"{"id":"ab","offers":["relay","store"],"hops":2,"heard_s":9}"#);
    let kept =
        MeshKept { frames: 1, frame_bytes: 44, taken: 3, delivered: 1, expired: 1, ..MeshKept::default() };
    pin(
        &kept,
        concat!(
            r#"{"frames":1,"frame_bytes":44,"taken":3,"delivered":1,"handed_on":0,"expired":1,"#,
            r#""displaced":0,"refused":0}"#
        ),
    );
    pin(&MeshAnnounced { ports: 2 }, r#"{"ports":2}"#);
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

#[test]
fn policies_and_open_streams_have_the_promised_names() {
    let policy = Policy {
        name: "film".into(),
        from: "/home/a/.local/share/honeylink/policies/film.toml".into(),
        class: "interactive".into(),
        priority: 5,
        weight: 8,
        rate_min_bytes_per_s: Some(6),
        rate_max_bytes_per_s: None,
        deadline_ms: Some(500),
        queue_bytes_max: 4,
        fec: "auto".into(),
        default_of: vec!["send".into()],
    };
    let json = concat!(
        r#"{"name":"film","from":"/home/a/.local/share/honeylink/policies/film.toml","class":"interactive","priority":5,"#,
        r#""weight":8,"rate_min_bytes_per_s":6,"deadline_ms":500,"queue_bytes_max":4,"fec":"auto","default_of":["send"]}"#
    );
    pin(&policy, json);
    let why = Some("the other device did not answer within 5 s".into());
    let links = vec![PolicyOnLink { verb: "send".into(), ok: false, why }];
    pin(
        &PolicyApplied { ok: false, policy, peer: "ab".into(), name: "studio".into(), links },
        &format!(
            r#"{{"ok":false,"policy":{json},"peer":"ab","name":"studio","links":[{}]}}"#,
            r#"{"verb":"send","ok":false,"why":"the other device did not answer within 5 s"}"#
        ),
    );
    pin(
        &OpenStream {
            peer: Some("studio".into()),
            verb: "send".into(),
            policy: Some("film".into()),
            class: "interactive".into(),
            priority: 5,
            weight: 8,
            bytes_sent: 9,
            wait_p50_ms: Some(0.5),
            wait_p90_ms: Some(1.0),
            wait_p99_ms: Some(2.5),
            ..OpenStream::default()
        },
        concat!(
            r#"{"peer":"studio","verb":"send","policy":"film","class":"interactive","priority":5,"weight":8,"#,
            r#""bytes_sent":9,"bytes_per_s":0,"queued_bytes":0,"wait_p50_ms":0.5,"wait_p90_ms":1.0,"wait_p99_ms":2.5,"#,
            r#""datagrams_late":0}"#
        ),
    );
    pin(
        &PolicyTakenBack { peer: None, verb: "chat".into(), policy: "iot".into(), why: "refused".into() },
        r#"{"verb":"chat","policy":"iot","why":"refused"}"#,
    );
}
