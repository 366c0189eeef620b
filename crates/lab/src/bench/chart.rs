//! The rows of one unit as bars: ours, and under it the peers' where the same row has them.
//!
//! Drawn from the finished table and not from what was measured just now, so that a row measured by itself changes its own
//! bars and no others.

use std::fmt::Write as _;

const LEFT: f64 = 60.0;
const WIDTH: f64 = 720.0;
const BAR_HEIGHT: f64 = 14.0;
const BAR_STEP: f64 = 16.0;
/// The facts that hold the peers' values, and their colours.
const PEERS: [(&str, &str); 2] = [("raw_p99_ms", "#fcd34d"), ("zenoh_p99_ms", "#94a3b8")];
const OURS: &str = "#b45309";

/// What a row shows: its id, and each bar with its colour.
struct Shown<'a> {
    id: &'a str,
    bars: Vec<(f64, &'static str)>,
}

/// Reads a line of the table: `| id | figure | value unit | quartiles | bar | verdict | name value, name value |`.
fn read<'a>(line: &'a str, unit: &str) -> Option<Shown<'a>> {
    let cells: Vec<_> = line.trim().trim_matches('|').split('|').map(str::trim).collect();
    let [id, _, value, _, _, _, facts] = cells.as_slice() else { return None };
    let ours = value.strip_suffix(unit)?.trim().parse().ok()?;
    let fact = |name: &str| {
        let found = facts.split(',').find_map(|fact| fact.trim().strip_prefix(name)?.strip_prefix(' '));
        found.and_then(|value| value.parse::<f64>().ok())
    };
    let peers = PEERS.iter().filter_map(|(name, colour)| Some((fact(name)?, *colour)));
    Some(Shown { id, bars: std::iter::once((ours, OURS)).chain(peers).collect() })
}

/// An SVG with bars for each measured row of `unit`, on a logarithmic scale: what is compared differs by factors.
pub(crate) fn draw(unit: &str, table: &str) -> String {
    let shown: Vec<_> = table.lines().filter_map(|line| read(line, unit)).collect();
    let bars = || shown.iter().flat_map(|row| &row.bars);
    let most = bars().map(|(value, _)| *value).fold(1.0, f64::max);
    let height = 46.0 + bars().count() as f64 * BAR_STEP + shown.len() as f64 * 12.0;
    let scale = |value: f64| (WIDTH - LEFT - 90.0) * (1.0 + value.max(0.0)).ln() / (1.0 + most).ln();
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" font-family=\"sans-serif\" \
         font-size=\"12\">\n<rect width=\"100%\" height=\"100%\" fill=\"#fff\"/>\n\
         <text x=\"10\" y=\"18\">{unit}, logarithmic; dark: HoneyLink, light: raw iroh, grey: Zenoh over QUIC, in the \
         same run</text>\n"
    );
    let mut y = 34.0;
    for row in &shown {
        // Writing to a string cannot fail.
        let _ = writeln!(svg, "<text x=\"10\" y=\"{:.0}\">{}</text>", y + 12.0, row.id);
        for (value, colour) in &row.bars {
            bar(&mut svg, y, scale(*value), *value, colour);
            y += BAR_STEP;
        }
        y += 12.0;
    }
    svg.push_str("</svg>\n");
    svg
}

fn bar(svg: &mut String, y: f64, width: f64, value: f64, fill: &str) {
    let _ = writeln!(
        svg,
        "<rect x=\"{LEFT}\" y=\"{y:.0}\" width=\"{width:.1}\" height=\"{BAR_HEIGHT}\" fill=\"{fill}\"/>\
         <text x=\"{:.1}\" y=\"{:.0}\">{value:.1}</text>",
        LEFT + width + 6.0,
        y + 12.0
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: &str = "\
| id | figure | value | quartiles | bar | | from the same runs |
|---|---|---|---|---|---|---|
| Q1 | ping, p99 | 6.4 ms | 6 .. 7 | <= 12 | ok | p50_ms 4.8, raw_p50_ms 14, raw_p99_ms 36.7 |
| Q4 | shares | 0.3 % |  | <= 5 | ok |  |
| Q5 | goodput | skipped: needs iperf3 |  | >= 0.95 | - |  |
";

    #[test]
    fn a_row_has_its_own_bar_and_one_for_each_peer_it_was_measured_with() {
        let row = read(TABLE.lines().nth(2).unwrap(), "ms").unwrap();
        assert_eq!((row.id, row.bars.iter().map(|bar| bar.0).collect::<Vec<_>>()), ("Q1", vec![6.4, 36.7]));
    }

    #[test]
    fn rows_of_other_units_and_without_a_value_are_not_drawn() {
        let svg = draw("ms", TABLE);
        assert!(svg.contains(">Q1<") && !svg.contains(">Q4<") && !svg.contains(">Q5<"), "{svg}");
    }
}
