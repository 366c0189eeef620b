//! A TCP stream on the same cable, by `iperf3`: what a bottleneck gives a bulk transfer that does not care about anybody's
//! latency.

use std::process::{Command, Stdio};
use std::time::Duration;

use serde_json::Value;

use super::net::{Cable, THERE};
use super::peers::WARM_UP;
use crate::Trouble;

const PROGRAM: &str = "iperf3";
pub(crate) const NEEDS: &str = "needs iperf3";
/// How often its server is asked before it counts as absent.
const TRIES: u32 = 40;

pub(crate) fn is_there() -> bool {
    let asked = Command::new(PROGRAM).arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status();
    asked.is_ok_and(|status| status.success())
}

/// Megabits a second of what the receiver's application got, without the first two seconds.
pub(crate) fn goodput_mbit_per_s(cable: &Cable, seconds: Duration) -> Result<f64, Trouble> {
    let mut server = cable.command("there", PROGRAM);
    let mut serving = server.args(["-s", "-1", "-B", THERE]).stdout(Stdio::null()).spawn()?;
    let asked = ask(cable, seconds);
    // It ends by itself after one client; if none came it would wait for one.
    let _ = serving.kill();
    serving.wait()?;
    asked
}

fn ask(cable: &Cable, seconds: Duration) -> Result<f64, Trouble> {
    let mut answer = Value::Null;
    for _ in 0..TRIES {
        let mut client = cable.command("here", PROGRAM);
        client.args(["-c", THERE, "-J", "-t", &seconds.as_secs().to_string()]);
        client.args(["-O", &WARM_UP.as_secs().to_string(), "--connect-timeout", "2000"]);
        let output = client.stdin(Stdio::null()).output()?;
        answer = serde_json::from_slice(&output.stdout)?;
        if let Some(rate) = rate_mbit_per_s(&answer) {
            return Ok(rate);
        }
        // The server may not listen yet.
        std::thread::sleep(Duration::from_millis(50));
    }
    Err(format!("iperf3 says no rate: {}", answer.pointer("/error").unwrap_or(&answer)).into())
}

/// What the receiver got, megabits a second. Answering in JSON it ends with success also where it could not connect, or was
/// cut off half way: then it says `error`, and what rate there may be is no measurement.
fn rate_mbit_per_s(answer: &Value) -> Option<f64> {
    let rate = answer.pointer("/end/sum_received/bits_per_second").and_then(Value::as_f64);
    rate.filter(|rate| answer.get("error").is_none() && *rate > 0.0).map(|rate| rate * 1e-6)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_that_names_an_error_is_no_rate() {
        let done = |more: &str| {
            let text = format!(r#"{{"end": {{"sum_received": {{"bits_per_second": 9.5e7}}}}{more}}}"#);
            serde_json::from_str::<Value>(&text).unwrap()
        };
        assert_eq!(rate_mbit_per_s(&done("")), Some(95.0));
        assert_eq!(rate_mbit_per_s(&done(r#", "error": "control socket has closed unexpectedly""#)), None);
        assert_eq!(rate_mbit_per_s(&serde_json::json!({"error": "unable to connect to server"})), None);
    }
}
