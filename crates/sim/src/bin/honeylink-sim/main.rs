//! `honeylink-sim`: what `cargo xtask sim` calls. People use `honeylink sim`, which is the same library with help texts.

use std::process::ExitCode;

mod ci;

const USAGE: &str = "\
usage: honeylink-sim <command>

  swarm FROM COUNT   plans drawn from so many seeds; failing ones are shrunk and saved
  seed SEED [TRACE]  the swarm plan of one seed, its events written to TRACE
  replay FILE [TRACE]  a run that was saved";

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let number = |text: &str| text.parse::<u64>().map_err(|_| format!("`{text}` is no number"));
    let done = match args.as_slice() {
        ["swarm", from, count] => number(from).and_then(|from| ci::swarm(from, number(count)?)),
        ["replay", file] => ci::replay(file, None),
        ["replay", file, lines] => ci::replay(file, Some(lines)),
        ["seed", seed] => number(seed).and_then(|seed| ci::seed(seed, None)),
        ["seed", seed, lines] => number(seed).and_then(|seed| ci::seed(seed, Some(lines))),
        ["cmp", n, seeds, conv, rest @ ..] => cmp(number(n).unwrap_or(1) as usize, number(seeds).unwrap_or(1), number(conv).unwrap_or(1) as usize, rest.first().copied()),
        _ => Err(USAGE.to_owned()),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("{why}");
            ExitCode::FAILURE
        }
    }
}

fn cmp(n: usize, seeds: u64, conv: usize, only: Option<&str>) -> Result<(), String> {
    use honeylink_sim::{oracle::Judge, protocol::Protocol, scenario::*, topology::Shape, trace::Trace, world::World};
    for shape in [Shape::Random] {
        for (protocol, name) in Protocol::ALL {
            if only.is_some_and(|o| o != name) { continue }
            for seed in 1..=seeds {
                let s = Scenario { protocol, duration_s: 3600, nodes: Nodes { count: n, shape, ..Nodes::default() }, radio: Some(Radio::default()), warm_up_s: 1800,
                    traffic: Traffic { conversations: conv, messages_each: 5, ..Traffic::default() }, ..Scenario::default() };
                let t = std::time::Instant::now();
                let plan = s.plan(seed);
                let judge = Judge::lawful(&plan);
                let mut w = World::new(plan, Trace::default(), judge).unwrap();
                let d = w.mean_degree();
                w.run();
                let e = w.finish();
                println!("{name} n={n} seed={seed} deg={d:.1} ev={} viol={:?} {:.2}s state max {} mean {}", e.events, e.violations.first(), t.elapsed().as_secs_f64(), e.tally.state_bytes_max, e.tally.state_last.0 / e.tally.state_last.1.max(1));
                println!("   {:?}", e.tally.summary());
            }
        }
    }
    Ok(())
}
