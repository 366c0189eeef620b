//! Rows of one unit as bars: ours, and under it the peer's where a row's facts have one (`raw_p99_ms`).

use std::fmt::Write as _;

use crate::report::Row;

const LEFT: f64 = 60.0;
const WIDTH: f64 = 720.0;
const BAR_HEIGHT: f64 = 14.0;
const ROW_HEIGHT: f64 = 44.0;
/// The fact that holds the peer's value.
const PEERS: &str = "raw_p99_ms";

/// An SVG with a bar for each measured row of `unit`, on a logarithmic scale: what is compared differs by factors.
pub(crate) fn draw(unit: &str, rows: &[Row]) -> String {
    let shown: Vec<_> =
        rows.iter().filter(|row| row.unit == unit).filter_map(|row| Some((row, row.value?))).collect();
    let peers = |row: &Row| row.facts.get(PEERS).copied();
    let most = shown.iter().map(|(row, value)| value.max(peers(row).unwrap_or(0.0))).fold(1.0, f64::max);
    let height = ROW_HEIGHT * shown.len() as f64 + 40.0;
    let scale = |value: f64| (WIDTH - LEFT - 90.0) * (1.0 + value.max(0.0)).ln() / (1.0 + most).ln();
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" font-family=\"sans-serif\" \
         font-size=\"12\">\n<rect width=\"100%\" height=\"100%\" fill=\"#fff\"/>\n\
         <text x=\"10\" y=\"18\">{unit}, logarithmic; dark: HoneyLink, light: raw iroh in the same run</text>\n"
    );
    for (nth, (row, value)) in shown.iter().enumerate() {
        let y = 34.0 + ROW_HEIGHT * nth as f64;
        // Writing to a string cannot fail.
        let _ = writeln!(svg, "<text x=\"10\" y=\"{:.0}\">{}</text>", y + 18.0, row.id);
        bar(&mut svg, y, scale(*value), *value, "#b45309");
        if let Some(peer) = peers(row) {
            bar(&mut svg, y + BAR_HEIGHT + 2.0, scale(peer), peer, "#fcd34d");
        }
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
