//! Draws what was measured over time: panels one below the other, as SVG. Knows nothing of servers.

use std::fmt::Write;

const WIDTH: f64 = 960.0;
const PANEL: f64 = 190.0;
const LEFT: f64 = 70.0;
const RIGHT: f64 = 24.0;
const TOP: f64 = 56.0;
const GAP: f64 = 52.0;

pub struct Series {
    pub name: &'static str,
    pub colour: &'static str,
    /// Seconds, and what was measured then.
    pub points: Vec<(f64, f64)>,
}

pub struct Panel {
    pub title: &'static str,
    pub series: Vec<Series>,
}

/// The whole picture.
pub fn svg(title: &str, panels: &[Panel]) -> String {
    let height = TOP + panels.len() as f64 * (PANEL + GAP) + 16.0;
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{WIDTH}\" height=\"{height}\" \
         viewBox=\"0 0 {WIDTH} {height}\" font-family=\"sans-serif\" font-size=\"12\">\n\
         <rect width=\"100%\" height=\"100%\" fill=\"#ffffff\"/>\n"
    );
    text(&mut out, (LEFT, 26.0), "start", "#111111", 15, title);
    for (at, panel) in panels.iter().enumerate() {
        draw(&mut out, panel, TOP + at as f64 * (PANEL + GAP) + 16.0);
    }
    out + "</svg>\n"
}

fn draw(out: &mut String, panel: &Panel, top: f64) {
    let points = || panel.series.iter().flat_map(|series| &series.points);
    let (end, step) = scale(points().map(|(x, _)| *x).fold(1.0, f64::max));
    let (high, rise) = scale(points().map(|(_, y)| *y).fold(0.01, f64::max));
    let x = |value: f64| LEFT + value / end * (WIDTH - LEFT - RIGHT);
    let y = |value: f64| top + PANEL - value / high * PANEL;
    text(out, (LEFT, top - 10.0), "start", "#111111", 13, panel.title);
    for n in 0..=(high / rise).round() as u32 {
        let value = f64::from(n) * rise;
        line(out, (LEFT, y(value)), (WIDTH - RIGHT, y(value)));
        text(out, (LEFT - 8.0, y(value) + 4.0), "end", "#555555", 12, &number(value));
    }
    for n in 0..=(end / step).round() as u32 {
        let value = f64::from(n) * step;
        line(out, (x(value), top), (x(value), top + PANEL));
        let label = format!("{} s", number(value));
        text(out, (x(value), top + PANEL + 17.0), "middle", "#555555", 12, &label);
    }
    for (at, series) in panel.series.iter().enumerate() {
        let place = |(px, py): &(f64, f64)| format!("{:.1},{:.1}", x(*px), y(*py));
        let path: Vec<String> = series.points.iter().map(place).collect();
        let _ = writeln!(
            out,
            "<polyline fill=\"none\" stroke=\"{}\" stroke-width=\"1.6\" points=\"{}\"/>",
            series.colour,
            path.join(" ")
        );
        let right = WIDTH - RIGHT - 130.0 * (panel.series.len() - 1 - at) as f64;
        text(out, (right, top - 10.0), "end", series.colour, 12, series.name);
    }
}

/// The end of an axis, and its step: 1, 2 or 5 times a power of ten, four to eight of them.
fn scale(max: f64) -> (f64, f64) {
    let power = 10_f64.powf((max / 4.0).log10().floor());
    let steps = [1.0, 2.0, 5.0, 10.0].map(|step| step * power);
    let step = steps.into_iter().find(|step| max / step <= 8.0).unwrap_or(steps[3]);
    ((max / step).ceil() * step, step)
}

fn number(value: f64) -> String {
    if value.fract().abs() < 1e-9 { format!("{value:.0}") } else { format!("{value}") }
}

fn line(out: &mut String, (x1, y1): (f64, f64), (x2, y2): (f64, f64)) {
    let _ = writeln!(
        out,
        "<line x1=\"{x1:.1}\" y1=\"{y1:.1}\" x2=\"{x2:.1}\" y2=\"{y2:.1}\" stroke=\"#e2e2e2\"/>"
    );
}

fn text(out: &mut String, (x, y): (f64, f64), anchor: &str, fill: &str, size: u32, text: &str) {
    let _ = writeln!(
        out,
        "<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\" fill=\"{fill}\" \
         font-size=\"{size}\">{text}</text>"
    );
}
