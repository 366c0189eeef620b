//! What happens to laptops and phones in the middle of a conversation: the cable is pulled and put back, the address changes, the
//! lid is closed for longer than any time-out, the date jumps. The link goes on by itself: every message that was said is heard,
//! once and in order.

use std::io::Write as _;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use crate::host::Host;
use crate::net::{Lan, by_another_date};
use crate::process::{Line, Process};
use crate::{PATIENCE, until};

/// How long the cable is out: connections count as lost after six seconds.
const UNPLUGGED: Duration = Duration::from_secs(10);
/// How long the lid is closed: longer than a connection lives, dialling takes and a confirmation is waited for, together.
const ASLEEP: Duration = Duration::from_secs(40);
/// Messages said after something was mended that have to be heard: the link goes on, it is not a rest of it.
const HEARD_AFTER: u64 = 10;

/// Numbers that one machine says and another hears, without end.
struct Talk {
    over: Arc<AtomicBool>,
    /// How many were said; each once, whatever became of it.
    said: Arc<AtomicU64>,
    saying: Option<JoinHandle<()>>,
    hearing: Process,
    heard: Vec<u64>,
}

impl Talk {
    fn start(from: &Host, to: &Host) -> Self {
        let mut hearing = to.start(&["chat", "--json"]);
        hearing.event("ready");
        let (over, said) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let chat = from.commands(&["chat", to.name(), "--json"]);
        let (ending, counting) = (over.clone(), said.clone());
        let saying = Some(std::thread::spawn(move || say_numbers(&chat, &ending, &counting)));
        let mut talk = Self { over, said, saying, hearing, heard: Vec::new() };
        talk.goes_on("at first");
        talk
    }

    /// Waits until messages are heard that are said from now on.
    #[track_caller]
    fn goes_on(&mut self, after: &str) {
        let said = self.said.load(Ordering::SeqCst);
        println!("{after}: {said} said, {} heard", self.heard.len());
        while self.heard.last().is_none_or(|heard| *heard < said + HEARD_AFTER) {
            self.hear();
        }
    }

    /// Says no more, hears the rest, and looks at all of it.
    #[track_caller]
    fn nothing_was_lost_or_doubled(mut self) {
        self.over.store(true, Ordering::SeqCst);
        self.saying.take().unwrap().join().unwrap();
        let said = self.said.load(Ordering::SeqCst);
        while self.heard.last().is_none_or(|heard| heard + 1 < said) {
            self.hear();
        }
        let wrong = self.heard.iter().zip(0..).find(|(heard, expected)| *heard != expected);
        assert_eq!(wrong, None, "heard, and what should have been, of {said}: {:?}", self.heard);
        assert_eq!(self.heard.len() as u64, said);
    }

    #[track_caller]
    fn hear(&mut self) {
        let number = self.hearing.wait(4 * PATIENCE, |line| match line {
            Line::Stdout(text) => {
                let event: serde_json::Value = serde_json::from_str(text).ok()?;
                event["text"].as_str()?.parse().ok()
            }
            Line::Stderr(_) => None,
        });
        self.heard.push(number);
    }
}

/// Says one number after the other. A conversation that ends because a message was not confirmed in time is begun again with the
/// next number: the link still has the message.
fn say_numbers(chat: &dyn Fn() -> Command, over: &AtomicBool, said: &AtomicU64) {
    while !over.load(Ordering::SeqCst) {
        let (mut talking, mut mouth) = Process::fed(&mut chat());
        loop {
            let number = said.load(Ordering::SeqCst);
            if over.load(Ordering::SeqCst) || writeln!(mouth, "{number}").is_err() {
                break;
            }
            said.fetch_add(1, Ordering::SeqCst);
            let text = number.to_string();
            let answered = talking.says(|line| match line {
                Line::Stdout(line) => {
                    serde_json::from_str::<serde_json::Value>(line).is_ok_and(|event| event["text"] == *text)
                }
                Line::Stderr(_) => false,
            });
            if !answered {
                break;
            }
        }
    }
}

/// Two machines that are paired. What is shown is what links do, so nothing may go over the mesh.
fn acquainted(ann: &mut Host, bob: &mut Host) {
    for host in [&mut *ann, &mut *bob] {
        host.set("mesh.enabled=false");
        host.up();
    }
    ann.pair(bob);
}

#[test]
fn a_conversation_survives_a_pulled_cable_new_addresses_and_a_closed_lid() {
    let Some((lan, [mut ann, mut bob])) = Lan::build(["ann", "bob"]) else { return };
    acquainted(&mut ann, &mut bob);
    let mut talk = Talk::start(&ann, &bob);

    lan.ip("ann", "link set eth0 down");
    // tidy: sleep because a cable that is out for a while is what is tested
    std::thread::sleep(UNPLUGGED);
    lan.ip("ann", "link set eth0 up");
    talk.goes_on("the cable was pulled");

    for (name, before, after) in
        [("ann", "10.77.0.1/24", "10.77.0.21/24"), ("bob", "10.77.0.2/24", "10.77.0.22/24")]
    {
        lan.ip(name, &format!("addr del {before} dev eth0"));
        lan.ip(name, &format!("addr add {after} dev eth0"));
        talk.goes_on(&format!("{name} has another address"));
    }

    let daemon = bob.daemon_pid().to_string();
    lan.exec("bob", &["kill", "-STOP", &daemon]);
    // tidy: sleep because a machine that is asleep for a while is what is tested
    std::thread::sleep(ASLEEP);
    lan.exec("bob", &["kill", "-CONT", &daemon]);
    talk.goes_on("the lid was closed");
    talk.nothing_was_lost_or_doubled();
}

#[test]
fn a_conversation_survives_a_date_that_jumps() {
    let Some(starter) = by_another_date() else { return };
    let Some((lan, [mut ann, mut bob])) = Lan::build(["ann", "bob"]) else { return };
    let date = lan.scratch().join("date");
    let set = |offset: &str| std::fs::write(&date, offset).unwrap();
    set("+0");
    let file = format!("FAKETIME_TIMESTAMP_FILE={}", date.display());
    ann.start_by(&[&starter[..], &[file, "FAKETIME_CACHE_DURATION=1".to_owned()]].concat());
    acquainted(&mut ann, &mut bob);
    let mut talk = Talk::start(&ann, &bob);
    for jump in ["+400d", "-400d", "+0"] {
        set(jump);
        until("the date has jumped", PATIENCE, || {
            let apart = ann.run(&["doctor", "bob", "--json"]).last()["checks"].as_array()?.clone();
            let clock = apart.iter().find(|check| check["name"] == "clock")?.clone();
            ((clock["finding"] == "fine") == (jump == "+0")).then_some(())
        });
        talk.goes_on(&format!("the date jumped to {jump}"));
    }
    talk.nothing_was_lost_or_doubled();
}
