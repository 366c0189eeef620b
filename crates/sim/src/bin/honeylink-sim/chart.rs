//! Bar charts with error bars, as SVG that reads on light and on dark paper.

use std::fmt::Write as _;

use crate::stats::Estimate;

/// A chart: groups of bars, one bar for each series.
pub(crate) struct Chart<'a> {
    pub(crate) title: &'a str,
    pub(crate) unit: &'a str,
    pub(crate) series: Vec<&'a str>,
    /// A name and one value per series.
    pub(crate) groups: Vec<(String, Vec<Estimate>)>,
    /// The axis in powers of ten: for values that differ by orders of magnitude.
    pub(crate) logarithmic: bool,
}

/// Colours that people with any colour vision tell apart (Okabe, Ito 2008).
const COLOURS: [&str; 6] = ["#E69F00", "#56B4E9", "#009E73", "#0072B2", "#D55E00", "#CC79A7"];
const WIDTH: f64 = 860.0;
const HEIGHT: f64 = 340.0;
const LEFT: f64 = 60.0;
const TOP: f64 = 64.0;
const BOTTOM: f64 = 36.0;

impl Chart<'_> {
    /// The chart as a file.
    pub(crate) fn svg(&self) -> String {
        let mut out = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\" \
             font-family=\"system-ui, sans-serif\" font-size=\"12\" fill=\"#777\">\n\
             <title>{}</title>\n<text x=\"{LEFT}\" y=\"18\" font-size=\"15\">{} ({})</text>\n",
            self.title, self.title, self.unit
        );
        self.legend(&mut out);
        self.axis(&mut out);
        let room = (WIDTH - LEFT - 10.0) / self.groups.len().max(1) as f64;
        for (index, (name, values)) in self.groups.iter().enumerate() {
            let left = LEFT + room * index as f64 + room * 0.08;
            let width = room * 0.84 / values.len().max(1) as f64;
            for (series, value) in values.iter().enumerate() {
                self.bar(&mut out, left + width * series as f64, width * 0.86, series, value);
            }
            let middle = left + room * 0.42;
            let _ = writeln!(
                out,
                "<text x=\"{middle:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{name}</text>",
                HEIGHT - BOTTOM + 18.0
            );
        }
        out.push_str("</svg>\n");
        out
    }

    fn legend(&self, out: &mut String) {
        let room = (WIDTH - LEFT) / self.series.len().max(1) as f64;
        for (index, name) in self.series.iter().enumerate() {
            let x = LEFT + room * index as f64;
            let colour = COLOURS[index % COLOURS.len()];
            let _ =
                writeln!(out, "<rect x=\"{x:.1}\" y=\"32\" width=\"11\" height=\"11\" fill=\"{colour}\"/>");
            let _ = writeln!(out, "<text x=\"{:.1}\" y=\"42\">{name}</text>", x + 16.0);
        }
    }

    fn bar(&self, out: &mut String, x: f64, width: f64, series: usize, value: &Estimate) {
        let (base, top) = (HEIGHT - BOTTOM, self.y(value.mean));
        let colour = COLOURS[series % COLOURS.len()];
        let _ = writeln!(
            out,
            "<rect x=\"{x:.1}\" y=\"{top:.1}\" width=\"{width:.1}\" height=\"{:.1}\" fill=\"{colour}\">\
             <title>{}: {:.3} ± {:.3}</title></rect>",
            (base - top).max(0.0),
            self.series[series],
            value.mean,
            value.margin
        );
        let (low, high) = (self.y(value.mean - value.margin), self.y(value.mean + value.margin));
        let middle = x + width / 2.0;
        let _ = writeln!(
            out,
            "<line x1=\"{middle:.1}\" x2=\"{middle:.1}\" y1=\"{low:.1}\" y2=\"{high:.1}\" stroke=\"#777\"/>"
        );
    }

    fn axis(&self, out: &mut String) {
        let (low, high) = self.span();
        let marks: Vec<f64> = if self.logarithmic {
            let first = low.log10().ceil() as i32;
            (first..=high.log10().floor() as i32).map(|power| 10_f64.powi(power)).collect()
        } else {
            (0..=4).map(|part| high * f64::from(part) / 4.0).collect()
        };
        for mark in marks {
            let y = self.y(mark);
            let _ = writeln!(
                out,
                "<line x1=\"{LEFT}\" x2=\"{WIDTH}\" y1=\"{y:.1}\" y2=\"{y:.1}\" stroke=\"#777\" stroke-opacity=\"0.3\"/>\
                 <text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>",
                LEFT - 6.0,
                y + 4.0,
                short(mark)
            );
        }
    }

    fn y(&self, value: f64) -> f64 {
        let (low, high) = self.span();
        let part = if self.logarithmic {
            (value.max(low).log10() - low.log10()) / (high.log10() - low.log10())
        } else {
            value.max(0.0) / high
        };
        HEIGHT - BOTTOM - part.clamp(0.0, 1.0) * (HEIGHT - BOTTOM - TOP)
    }

    fn span(&self) -> (f64, f64) {
        let values = || self.groups.iter().flat_map(|(_, values)| values);
        let high = values().map(|value| value.mean + value.margin).fold(0.0, f64::max).max(1e-9);
        let low = values().map(|value| value.mean).filter(|mean| *mean > 0.0).fold(high, f64::min);
        if self.logarithmic {
            (10_f64.powf((low / 2.0).log10().floor()), high * 1.2)
        } else {
            (0.0, high * 1.05)
        }
    }
}

fn short(value: f64) -> String {
    if value >= 10.0 { format!("{value:.0}") } else { format!("{value:.2}") }
}
