//! Curves over time as SVG, readable on light and dark ground and without colours.

use std::fmt::Write;

/// One curve: a value for each second.
pub struct Curve {
    pub name: &'static str,
    pub values: Vec<f64>,
    /// The one that is to be compared with: dashed.
    pub other: bool,
}

/// A field of curves with a scale of its own.
pub struct Panel {
    pub what: &'static str,
    pub top: f64,
    pub curves: Vec<Curve>,
    /// A line at this height, and what it means.
    pub mark: Option<(f64, &'static str)>,
}

pub struct Chart {
    pub title: &'static str,
    pub panels: Vec<Panel>,
    /// From when to when something is wrong, seconds, and what.
    pub trouble: (f64, f64, &'static str),
}

const WIDTH: f64 = 760.0;
const LEFT: f64 = 64.0;
const RIGHT: f64 = 16.0;
const HEAD: f64 = 66.0;
const HEIGHT: f64 = 150.0;
const GAP: f64 = 44.0;

const STYLE: &str = "\
text{font:12px system-ui,sans-serif;fill:#57606a}.t{font-size:15px;font-weight:600;fill:#1f2328}\
.g{stroke:#8c959f;stroke-opacity:.35}.m{stroke:#8c959f;stroke-dasharray:2 3}.z{fill:#bf8700;fill-opacity:.13}\
.a{stroke:#1a7f37;stroke-width:2.2;fill:none}.b{stroke:#cf222e;stroke-width:1.8;stroke-dasharray:6 3;fill:none}\
@media(prefers-color-scheme:dark){text{fill:#9198a1}.t{fill:#f0f6fc}.a{stroke:#3fb950}.b{stroke:#ff7b72}}";

impl Chart {
    pub fn svg(&self) -> String {
        let mut out = String::new();
        self.write(&mut out).unwrap_or_default();
        out
    }

    fn write(&self, out: &mut String) -> std::fmt::Result {
        let height = HEAD + self.panels.len() as f64 * (HEIGHT + GAP);
        let seconds = self.panels.iter().flat_map(|panel| &panel.curves).map(|curve| curve.values.len()).max();
        let seconds = seconds.unwrap_or(1).max(2) as f64 - 1.0;
        let x = |second: f64| LEFT + second / seconds * (WIDTH - LEFT - RIGHT);
        writeln!(
            out,
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" width=\"{WIDTH}\" \
             height=\"{height}\" role=\"img\"><title>{0}</title><style>{STYLE}</style>\n<text class=\"t\" x=\"{LEFT}\" \
             y=\"22\">{0}</text>",
            self.title
        )?;
        self.legend(out)?;
        for (index, panel) in self.panels.iter().enumerate() {
            let top = HEAD + index as f64 * (HEIGHT + GAP) + 14.0;
            let y = |value: f64| top + HEIGHT - (value / panel.top).clamp(0.0, 1.0) * HEIGHT;
            let (from, to, what) = self.trouble;
            writeln!(
                out,
                "<rect class=\"z\" x=\"{:.1}\" y=\"{top}\" width=\"{:.1}\" height=\"{HEIGHT}\"/>",
                x(from),
                x(to) - x(from)
            )?;
            if index == 0 {
                writeln!(out, "<text x=\"{:.1}\" y=\"{}\">{what}</text>", x(from) + 6.0, top + HEIGHT - 8.0)?;
            }
            writeln!(out, "<text x=\"{LEFT}\" y=\"{}\">{}</text>", top - 6.0, panel.what)?;
            for quarter in 0..=4 {
                let value = panel.top * f64::from(quarter) / 4.0;
                let at = y(value);
                writeln!(
                    out,
                    "<path class=\"g\" d=\"M{LEFT} {at:.1}H{}\"/><text x=\"{}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>",
                    WIDTH - RIGHT,
                    LEFT - 8.0,
                    at + 4.0,
                    thousands(value)
                )?;
            }
            for second in (0..=seconds as u32).step_by(10) {
                let at = x(second.into());
                let below = top + HEIGHT + 16.0;
                writeln!(out, "<text x=\"{at:.1}\" y=\"{below}\" text-anchor=\"middle\">{second} s</text>")?;
            }
            if let Some((value, what)) = panel.mark {
                let at = y(value);
                writeln!(
                    out,
                    "<path class=\"m\" d=\"M{LEFT} {at:.1}H{0}\"/><text x=\"{0}\" y=\"{1:.1}\" text-anchor=\"end\">{what}</text>",
                    WIDTH - RIGHT,
                    at - 5.0
                )?;
            }
            for curve in &panel.curves {
                let class = if curve.other { "b" } else { "a" };
                write!(out, "<path class=\"{class}\" d=\"")?;
                for (second, value) in curve.values.iter().enumerate() {
                    let step = if second == 0 { 'M' } else { 'L' };
                    write!(out, "{step}{:.1} {:.1}", x(second as f64), y(*value))?;
                }
                writeln!(out, "\"/>")?;
            }
        }
        writeln!(out, "</svg>")
    }

    fn legend(&self, out: &mut String) -> std::fmt::Result {
        let mut at = LEFT;
        for curve in self.panels.first().map(|panel| panel.curves.as_slice()).unwrap_or_default() {
            let class = if curve.other { "b" } else { "a" };
            writeln!(
                out,
                "<path class=\"{class}\" d=\"M{at} 42H{}\"/><text x=\"{}\" y=\"46\">{}</text>",
                at + 32.0,
                at + 40.0,
                curve.name
            )?;
            at += 64.0 + curve.name.len() as f64 * 7.0;
        }
        Ok(())
    }
}

fn thousands(value: f64) -> String {
    let whole = value.round() as u64;
    if whole >= 1_000 { format!("{},{:03}", whole / 1_000, whole % 1_000) } else { whole.to_string() }
}
