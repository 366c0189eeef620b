//! Three devices of which two reach only the one between them: what the program says of the mesh, and what people who
//! talk over it hear.
#![cfg(unix)]
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot be set up has failed")]

mod support;

use std::io::Write as _;
use std::process::Stdio;

use serde_json::Value;
use support::{Device, discovery_port, free_port};

/// How often a state is asked for that no event tells. Each time starts a process, which is pause enough.
const ASK_MAX: usize = 400;

/// Pairs two devices that are up on the same discovery port.
fn pair(host: &Device, guest: &Device) {
    let mut showing = host.start(&["pair", "--json", "--timeout", "30"]);
    let code = showing.line()["code"].as_str().unwrap().to_owned();
    guest.sees(host);
    guest.run(&["pair", &code, "--yes", "--quiet"]).exits(0);
    assert_eq!(showing.until(|line| line.get("ok").is_some())["name"], guest.name);
}

/// Anna and Carl know each other, and both know Bert. Then Anna and Carl move: neither announces where the other listens,
/// and the addresses they remember of each other are nobody's. Bert stays where he was.
fn valley() -> [Device; 3] {
    let (meeting, village, farm) = (discovery_port(), discovery_port(), discovery_port());
    let bert_at = format!("node.port={}", free_port());
    let mut anna = Device::up("anna", meeting);
    let mut carl = Device::up("carl", meeting);
    let mut bert = Device::new("bert", meeting);
    bert.run(&["up", "--quiet", "--set", &bert_at]).exits(0);
    pair(&bert, &anna);
    pair(&bert, &carl);
    pair(&anna, &carl);
    for (device, to) in [(&mut anna, village), (&mut bert, village), (&mut carl, farm)] {
        device.run(&["down", "--drain", "0", "--quiet"]).exits(0);
        device.moves(to);
    }
    bert.run(&["up", "--quiet", "--set", &bert_at]).exits(0);
    anna.run(&["up", "--quiet"]).exits(0);
    carl.run(&["up", "--quiet"]).exits(0);
    [anna, bert, carl]
}

/// Asks until the answer fits.
fn until(device: &Device, args: &[&str], fits: impl Fn(&Value) -> bool) -> Value {
    let mut last = Value::Null;
    for _ in 0..ASK_MAX {
        last = device.run(args).exits(0).last();
        if fits(&last) {
            return last;
        }
    }
    panic!("{args:?} of {} came to {last}", device.name)
}

fn ports(device: &Device, count: usize) {
    until(device, &["mesh", "stats", "--json"], |stats| stats["ports"].as_array().unwrap().len() == count);
}

#[test]
fn a_message_goes_over_the_device_between_and_everybody_is_told_how() {
    let [anna, bert, carl] = valley();
    ports(&bert, 2);
    ports(&anna, 1);

    let mut heard = carl.start(&["chat", "--json", "--timeout", "120"]);
    assert_eq!(heard.line()["event"], "ready");
    let sent =
        anna.run(&["chat", "carl", "hello", "over", "there", "--json", "--timeout", "60"]).exits(0).last();
    assert_eq!((&sent["state"], &sent["path"]["rung"]), (&"delivered".into(), &"mesh".into()), "{sent}");
    assert_eq!(sent["path"]["address"], "2 hops", "{sent}");
    let came = heard.until(|line| line["event"] == "message");
    assert_eq!(
        (&came["text"], &came["path"]["rung"]),
        (&"hello over there".into(), &"mesh".into()),
        "{came}"
    );
    anna.run(&["chat", "carl", "and again"]).exits(0).says("delivered to carl, mesh over 2 hops");

    let trace = anna.run(&["mesh", "trace", "carl", "--json"]).exits(0).last();
    assert_eq!((&trace["name"], &trace["ways"][0]["hops"]), (&"carl".into(), &2.into()), "{trace}");
    assert_eq!((&trace["ways"][0]["next_name"], &trace["ways"][0]["over"]), (&"bert".into(), &"bert".into()));
    let routes = bert.run(&["mesh", "routes", "--json"]).exits(0).last();
    let names: Vec<&Value> = routes.as_array().unwrap().iter().map(|route| &route["name"]).collect();
    assert!(names.contains(&&"anna".into()) && names.contains(&&"carl".into()), "{routes}");
    let stats = bert.run(&["mesh", "stats", "--json"]).exits(0).last();
    assert!(stats["frames"]["forwarded"].as_u64() >= Some(2), "{stats}");
    assert_eq!(anna.run(&["mesh", "stats", "--json"]).last()["messages"]["delivered"], 2);
    assert_eq!(anna.run(&["mesh", "announce", "--json"]).exits(0).last()["ports"], 1);
    for (args, shown) in [
        (&["mesh", "stats"][..], "2 sent: 2 delivered"),
        (&["mesh", "routes"], "carl"),
        (&["mesh", "trace", "carl"], "bert"),
        (&["mesh", "radios"], "no radio is configured"),
        (&["mesh", "devices"], "bert"),
        (&["status"], "mesh     1 neighbour"),
    ] {
        let run = anna.run(args).exits(0);
        assert!(run.out.contains(shown), "{run:?}");
    }
    anna.run(&["mesh", "trace", "nobody"]).exits(4).says("nobody");
    commands_in_a_chat(&anna);
}

/// The same, typed while talking; a mistake does not end the conversation.
fn commands_in_a_chat(anna: &Device) {
    let mut chat = anna.command(&["chat", "carl", "--timeout", "60"]);
    let mut chat = chat.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let typed = "/help\n/mesh trace\n/mesh trace nobody\n/mesh fly\n/mesh routes\nstill here\n/quit\n";
    chat.stdin.take().unwrap().write_all(typed.as_bytes()).unwrap();
    let output = chat.wait_with_output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{said}");
    for what in [
        "/mesh trace DEVICE",
        "carl, mesh address",
        "nobody",
        "after /mesh comes one of",
        "delivered to carl, mesh",
    ] {
        assert!(said.contains(what), "{what:?} in {said}");
    }
    assert_eq!(
        said.lines().filter(|line| line.starts_with("TO ") || line.starts_with("THROUGH ")).count(),
        2,
        "{said}"
    );
}

#[test]
fn a_message_to_a_device_that_is_off_waits_and_the_chat_hears_when_it_arrives() {
    let [anna, bert, carl] = valley();
    ports(&bert, 2);
    carl.run(&["down", "--drain", "0", "--quiet"]).exits(0);
    let mut talk = anna.start_with(Stdio::piped(), &["chat", "carl", "--json", "--timeout", "180"]);
    assert_eq!(talk.line()["event"], "ready");
    talk.says("come home");
    let sent = talk.until(|line| line["event"] == "message");
    assert_eq!((&sent["state"], &sent["path"]["rung"]), (&"stored".into(), &"stored".into()), "{sent}");
    let kept = bert.run(&["mesh", "stats", "--json"]).exits(0).last()["kept"].clone();
    assert_eq!((&kept["frames"], &kept["taken"]), (&1.into(), &1.into()), "{kept}");
    carl.run(&["up", "--quiet"]).exits(0);
    let update = talk.until(|line| line["event"] == "update" && line["state"] == "delivered");
    assert_eq!((&update["id"], &update["text"]), (&sent["id"], &"come home".into()));
    until(&bert, &["mesh", "stats", "--json"], |stats| stats["kept"]["delivered"] == 1);
}

#[test]
fn what_the_mesh_cannot_do_is_said() {
    let anna = Device::new("anna", discovery_port());
    anna.run(&["mesh", "stats"]).exits(3);
    anna.run(&["up", "--quiet", "--set", "mesh.enabled=false"]).exits(0);
    let off = anna.run(&["mesh", "routes", "--json"]).exits(1).says("takes no part in the mesh");
    assert_eq!(off.last()["error"]["code"], "unsupported");
    assert!(off.err.contains("mesh.enabled"), "{off:?}");
    assert!(anna.run(&["status"]).exits(0).out.contains("mesh     off"));
    anna.run(&["down", "--quiet"]).exits(0);
    let radio = "mesh.radios=[{port = \"/dev/ttyUSB0\", frequency_hz = 868_650_000}]";
    anna.run(&["up", "--set", radio]).exits(2).says("868650000 Hz is in no band").says("869.4-869.65 MHz");
}

#[test]
fn a_radio_that_is_not_plugged_in_is_shown_and_stops_nothing() {
    let anna = Device::new("anna", discovery_port());
    let port = anna.file("no-such-modem");
    let radio = format!("mesh.radios=[{{port = {:?}, frequency_hz = 869_525_000}}]", port.to_str().unwrap());
    anna.run(&["up", "--quiet", "--set", &radio]).exits(0);
    let status = until(&anna, &["status", "--json"], |status| {
        let parts = status["subsystems"].as_array().unwrap();
        parts
            .iter()
            .any(|part| part["detail"].as_str().is_some_and(|why| why.contains("cannot open the port")))
    });
    assert_eq!((&status["mesh"]["radios"], &status["mesh"]["radios_up"]), (&1.into(), &0.into()));
    let radios = anna.run(&["mesh", "radios", "--json"]).exits(0).last();
    assert_eq!((&radios[0]["state"], &radios[0]["budget_ms"]), (&"down".into(), &360_000.into()), "{radios}");
    assert!(anna.run(&["status"]).exits(0).out.contains("0 of 1 radio up"));
}
