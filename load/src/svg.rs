//! Charts as SVG: grouped bars against a reference line, and lines. Text in, text out: no files, no
//! scripts, no fonts of their own. They look right on a light and on a dark page, and each says in
//! words what it shows, for those who do not see it.

use std::fmt::Write as _;

#[path = "axis.rs"]
mod axis;

use axis::{Axis, percent};
#[allow(unused_imports, reason = "who draws needs some of them")]
pub(crate) use axis::{Scale, bytes, micros, nanos, ratio, si};

const WIDTH: f64 = 800.0;
const MARGIN: f64 = 20.0;
const LINE: f64 = 18.0; // of text
const BAR: f64 = 16.0; // its height, of a row's
const ROW: f64 = 23.0;
const PLOT: f64 = 300.0; // the height of a line chart's plot
const COLOURS: usize = 7; // .s0 to .s6

/// The page's own colours are not known inside an image, so each has its own ground.
const STYLE: &str = "\
text{paint-order:stroke;stroke:#fff;stroke-width:3px;stroke-linejoin:round;font:13px system-ui,-apple-system,'Segoe UI','Noto Sans',Helvetica,Arial,sans-serif;fill:#1f2328}\
.h{font-size:17px;font-weight:600}.g,.b{font-weight:600}.m{fill:#59636e;font-size:12px}\
.i{font-style:italic}.e{text-anchor:end}.c{text-anchor:middle}\
.ground{fill:#fff;stroke:#d1d9e0}.grid{stroke:#d1d9e0;stroke-opacity:.6}.ref{stroke:#1f2328;stroke-dasharray:5 4}\
.whisker{stroke:#1f2328;stroke-opacity:.55}.dot{stroke:#fff;stroke-width:1.5}\
.line{fill:none;stroke-width:2;stroke-linejoin:round;stroke-linecap:round}.thick{stroke-width:3.5}.dash{stroke-dasharray:6 5}\
.lead{stroke-opacity:.5}.soft{fill-opacity:.22;stroke-width:1}\
.own{--c:#0969da}.reference{--c:#59636e}.other{--c:#afb8c1}\
.s0{--c:#bc4c00}.s1{--c:#1a7f37}.s2{--c:#8250df}.s3{--c:#bf3989}.s4{--c:#9a6700}.s5{--c:#0a7d91}.s6{--c:#82071e}\
.fill{fill:var(--c)}.stroke{stroke:var(--c)}\
@media(prefers-color-scheme:dark){text{fill:#e6edf3;stroke:#0d1117}.m{fill:#9198a1}.ground{fill:#0d1117;stroke:#3d444d}\
.grid{stroke:#3d444d}.ref,.whisker{stroke:#e6edf3}.dot{stroke:#0d1117}\
.own{--c:#4493f8}.reference{--c:#9198a1}.other{--c:#565f69}.s0{--c:#f0883e}.s1{--c:#3fb950}.s2{--c:#a371f7}\
.s3{--c:#f778ba}.s4{--c:#d29922}.s5{--c:#39c5cf}.s6{--c:#ff7b72}}";

/// Whose figure it is, which says how it is drawn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    /// What the chart is about.
    Own,
    /// What the others are measured by.
    Reference,
    /// Everyone else.
    Other,
}

/// What stands around a chart.
#[derive(Clone, Debug, Default)]
pub(crate) struct Words {
    /// Its name.
    pub(crate) title: String,
    /// What is drawn, in which unit, and which direction is better.
    pub(crate) subtitle: String,
    /// Where the figures come from; below it.
    pub(crate) note: String,
}

/// One bar.
#[derive(Clone, Debug)]
pub(crate) struct Bar {
    /// Whose it is.
    pub(crate) name: String,
    /// Its length; none if there is no figure, and then the label says why.
    pub(crate) value: Option<f64>,
    /// The least and the most that were seen.
    pub(crate) range: Option<(f64, f64)>,
    /// What stands behind it.
    pub(crate) label: String,
    /// How it is drawn.
    pub(crate) role: Role,
}

/// Horizontal bars, in groups.
#[derive(Clone, Debug)]
pub(crate) struct Bars {
    /// What stands around them.
    pub(crate) words: Words,
    /// Each with a name, which may be empty.
    pub(crate) groups: Vec<(String, Vec<Bar>)>,
    /// A line through all groups, and what it means.
    pub(crate) reference: Option<(f64, String)>,
    /// Linear, or logarithmic: dots on stems then, for the length of a bar would say nothing.
    pub(crate) scale: Scale,
    /// How the axis writes numbers.
    pub(crate) format: fn(f64) -> String,
}

/// One line.
#[derive(Clone, Debug)]
pub(crate) struct Series {
    /// Whose it is; it stands at the line's end.
    pub(crate) name: String,
    /// From left to right.
    pub(crate) points: Vec<(f64, f64)>,
    /// How it is drawn.
    pub(crate) role: Role,
}

/// Lines over one axis.
#[derive(Clone, Debug)]
pub(crate) struct Lines {
    /// What stands around them.
    pub(crate) words: Words,
    /// The horizontal axis: what, how, and how it writes numbers (percentiles write themselves).
    pub(crate) x: (String, Scale, fn(f64) -> String),
    /// The vertical axis.
    pub(crate) y: (String, Scale, fn(f64) -> String),
    /// The lines.
    pub(crate) series: Vec<Series>,
}

impl Bars {
    /// Draws it.
    pub(crate) fn draw(&self) -> String {
        let bars = || self.groups.iter().flat_map(|(_, bars)| bars);
        // What is one's own is bold, and so wider.
        let wide =
            |bar: &Bar, words: &str| width(words) * if bar.role == Role::Own { 1.1 } else { 1.0 };
        let gutter = bars().map(|bar| wide(bar, &bar.name)).fold(40.0, f64::max) + MARGIN + 10.0;
        let label = bars().map(|bar| wide(bar, &bar.label)).fold(20.0, f64::max) + 14.0;
        let mut values: Vec<f64> = bars().filter_map(|bar| bar.value).collect();
        values.extend(bars().filter_map(|bar| bar.range).flat_map(|range| [range.0, range.1]));
        values.extend(self.reference.iter().map(|(value, _)| *value));
        let axis = Axis::new(self.scale, &values, (gutter, WIDTH - MARGIN - label), false);
        let (mut svg, top) = open(&self.words);
        // The reference's name stands above it.
        let top = if self.reference.is_some() { top + LINE } else { top };
        let mut body = String::new();
        let mut y = top;
        for (name, bars) in &self.groups {
            if !name.is_empty() {
                text(&mut body, "g", MARGIN, y + 15.0, name);
                y += ROW;
            }
            for bar in bars {
                self.bar(&mut body, &axis, y, bar);
                y += ROW;
            }
            y += 8.0;
        }
        for tick in axis.ticks() {
            let x = axis.at(tick);
            line(&mut svg, "grid", (x, top), (x, y));
            text(&mut svg, "m c", x, y + 16.0, &(self.format)(tick));
        }
        if let Some((value, name)) = &self.reference {
            let x = axis.at(*value);
            line(&mut svg, "ref", (x, top - 4.0), (x, y));
            let half = width(name) / 2.0;
            let x = x.clamp(MARGIN + half, WIDTH - MARGIN - half);
            text(&mut svg, "m c", x, top - 8.0, name);
        }
        svg += &body;
        close(svg, &self.words, y + 24.0, &self.said())
    }

    fn bar(&self, svg: &mut String, axis: &Axis, y: f64, bar: &Bar) {
        let is_own = bar.role == Role::Own;
        let weight = if is_own { " b" } else { "" };
        let middle = y + BAR / 2.0;
        text(svg, &format!("e{weight}"), axis.from - 10.0, middle + 4.5, &bar.name);
        let Some(value) = bar.value else {
            return text(svg, "m i", axis.from + 6.0, middle + 4.5, &bar.label);
        };
        let class = role_class(bar.role, None);
        let x = axis.at(value).max(axis.from + 1.0);
        if self.scale == Scale::Log {
            line(svg, &format!("{class} stroke line"), (axis.from, middle), (x, middle));
            circle(svg, &format!("{class} fill"), (x, middle), 5.5, None);
        } else {
            let soft = if bar.role == Role::Reference { " stroke soft" } else { "" };
            let _ = write!(
                svg,
                r#"<rect class="{class} fill{soft}" x="{:.1}" y="{y:.1}" width="{:.1}" height="{BAR}" rx="2"/>"#,
                axis.from,
                x - axis.from,
            );
        }
        let mut end = x;
        if let Some((low, high)) = bar.range.filter(|(low, high)| low < high) {
            let (low, high) = (axis.at(low), axis.at(high));
            line(svg, "whisker", (low, middle), (high, middle));
            [low, high].iter().for_each(|x| {
                line(svg, "whisker", (*x, middle - 3.5), (*x, middle + 3.5));
            });
            end = end.max(high);
        }
        let class = if is_own { "b" } else { "" };
        text(svg, class, end + 8.0, middle + 4.5, &bar.label);
    }

    /// The chart in words.
    fn said(&self) -> String {
        let mut said = String::new();
        for (name, bars) in &self.groups {
            let bars: Vec<_> =
                bars.iter().map(|bar| format!("{} {}", bar.name, bar.label)).collect();
            let colon = if name.is_empty() { "" } else { ": " };
            let _ = write!(said, "{name}{colon}{}. ", bars.join(", "));
        }
        said
    }
}

impl Lines {
    /// Draws it.
    pub(crate) fn draw(&self) -> String {
        let (mut svg, top) = open(&self.words);
        let (top, bottom) = (top + LINE + 6.0, top + LINE + 6.0 + PLOT);
        let points = || self.series.iter().flat_map(|series| &series.points);
        let ys: Vec<f64> = points().map(|point| point.1).collect();
        let y = Axis::new(self.y.1, &ys, (bottom, top), true);
        let left = y.ticks().iter().map(|tick| width(&(self.y.2)(*tick))).fold(24.0, f64::max);
        let right = self.series.iter().map(|series| width(&series.name)).fold(30.0, f64::max);
        let xs: Vec<f64> = points().map(|point| point.0).collect();
        let ends = (MARGIN + left + 8.0, WIDTH - MARGIN - right - 22.0);
        let x = Axis::new(self.x.1, &xs, ends, false);
        for tick in y.ticks() {
            line(&mut svg, "grid", (x.from, y.at(tick)), (x.to, y.at(tick)));
            text(&mut svg, "m e", x.from - 8.0, y.at(tick) + 4.0, &(self.y.2)(tick));
        }
        for tick in x.ticks() {
            let format = if self.x.1 == Scale::Percentile { percent } else { self.x.2 };
            line(&mut svg, "grid", (x.at(tick), top), (x.at(tick), bottom));
            text(&mut svg, "m c", x.at(tick), bottom + 17.0, &format(tick));
        }
        text(&mut svg, "m", MARGIN, top - 12.0, &self.y.0);
        text(&mut svg, "m c", (x.from + x.to) / 2.0, bottom + 36.0, &self.x.0);
        self.lines(&mut svg, &x, &y);
        close(svg, &self.words, bottom + 44.0, &self.said())
    }

    /// The lines, and at the end of each its name; what is most important lies on top.
    fn lines(&self, svg: &mut String, x: &Axis, y: &Axis) {
        let mut drawn = Vec::new();
        let mut others = 0;
        for series in self.series.iter().filter(|series| !series.points.is_empty()) {
            let class = role_class(series.role, Some(others));
            others += usize::from(series.role == Role::Other);
            let places: Vec<_> = series.points.iter().map(|(a, b)| (x.at(*a), y.at(*b))).collect();
            drawn.push((series, class, places));
        }
        drawn.sort_by_key(|(series, ..)| series.role == Role::Own);
        let mut names = Vec::new();
        for (series, class, places) in &drawn {
            let more = match series.role {
                Role::Own => " thick",
                Role::Reference => " dash",
                Role::Other => "",
            };
            let path: Vec<String> = places.iter().map(|(x, y)| format!("{x:.1},{y:.1}")).collect();
            let path = path.join(" ");
            let _ = write!(svg, r#"<polyline class="{class} stroke line{more}" points="{path}"/>"#);
            for (place, (at, value)) in places.iter().zip(&series.points) {
                let at = if self.x.1 == Scale::Percentile { percent(*at) } else { (self.x.2)(*at) };
                let said = format!("{}, {at}: {}", series.name, (self.y.2)(*value));
                if places.len() <= 24 {
                    circle(svg, &format!("{class} fill dot"), *place, 4.0, Some(&said));
                }
            }
            names.push((series, class, places[places.len() - 1]));
        }
        names.sort_by(|a, b| a.2.1.total_cmp(&b.2.1));
        let ends: Vec<f64> = names.iter().map(|(.., end)| end.1).collect();
        for ((series, class, end), at) in names.iter().zip(apart(&ends, y.to, y.from)) {
            line(svg, &format!("{class} stroke lead"), (end.0 + 6.0, end.1), (x.to + 16.0, at));
            let weight = if series.role == Role::Own { " b" } else { "" };
            let class = format!("{class} fill{weight}");
            text(svg, &class, x.to + 20.0, at + 4.5, &series.name);
        }
    }

    /// The chart in words: where each line begins and ends.
    fn said(&self) -> String {
        let mut said = format!("{} by {}. ", self.y.0, self.x.0);
        for series in &self.series {
            if let [first, .., last] = &*series.points {
                let (from, to) = ((self.y.2)(first.1), (self.y.2)(last.1));
                let _ = write!(said, "{}: from {from} to {to}. ", series.name);
            }
        }
        said
    }
}

/// Moves what is in order from top to bottom so far apart that names do not lie on each other.
fn apart(wanted: &[f64], top: f64, bottom: f64) -> Vec<f64> {
    let mut places = wanted.to_vec();
    for at in 1..places.len() {
        places[at] = places[at].max(places[at - 1] + LINE - 2.0);
    }
    let mut limit = bottom + 4.0;
    for place in places.iter_mut().rev() {
        *place = place.min(limit).max(top - MARGIN);
        limit = *place - (LINE - 2.0);
    }
    places
}

/// The beginning up to where the plot may begin, and that height. The end fills in what depends on it.
fn open(words: &Words) -> (String, f64) {
    let mut svg = String::new();
    text(&mut svg, "h", MARGIN, 32.0, &words.title);
    let y = paragraph(&mut svg, 52.0, &words.subtitle);
    (svg, y)
}

/// Puts everything into its frame.
fn close(mut body: String, words: &Words, y: f64, said: &str) -> String {
    let height =
        if words.note.is_empty() { y } else { paragraph(&mut body, y + 12.0, &words.note) - 8.0 };
    let (height, end) = (height.ceil() + 8.0, height.ceil() + 7.0);
    let (title, said) = (
        escape(&words.title),
        escape(&format!("{}. {said}", words.subtitle.trim_end_matches('.'))),
    );
    format!(
        r#"<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height}" viewBox="0 0 {WIDTH} {height}" role="img"><title>{title}</title><desc>{said}</desc><style>{STYLE}</style><rect class="ground" x=".5" y=".5" width="799" height="{end}" rx="6"/>{body}</svg>
"#
    )
}

/// Small text over as many lines as it takes; returns where the next would stand.
fn paragraph(svg: &mut String, mut y: f64, words: &str) -> f64 {
    let mut row = String::new();
    for word in words.split_whitespace() {
        if width(&row) + width(word) > (WIDTH - 2.0 * MARGIN) * 1.06 {
            text(svg, "m", MARGIN, y, &std::mem::take(&mut row));
            y += LINE;
        }
        row = if row.is_empty() { word.into() } else { format!("{row} {word}") };
    }
    if row.is_empty() {
        return y;
    }
    text(svg, "m", MARGIN, y, &row);
    y + LINE
}

fn text(svg: &mut String, class: &str, x: f64, y: f64, words: &str) {
    let words = escape(words);
    let _ = write!(svg, r#"<text class="{class}" x="{x:.1}" y="{y:.1}">{words}</text>"#);
}

fn line(svg: &mut String, class: &str, from: (f64, f64), to: (f64, f64)) {
    let ((x1, y1), (x2, y2)) = (from, to);
    let _ = write!(
        svg,
        r#"<line class="{class}" x1="{x1:.1}" y1="{y1:.1}" x2="{x2:.1}" y2="{y2:.1}"/>"#
    );
}

fn circle(svg: &mut String, class: &str, (x, y): (f64, f64), r: f64, said: Option<&str>) {
    let said = said.map_or(String::new(), |said| format!("<title>{}</title>", escape(said)));
    let _ =
        write!(svg, r#"<circle class="{class}" cx="{x:.1}" cy="{y:.1}" r="{r}">{said}</circle>"#);
}

fn role_class(role: Role, number: Option<usize>) -> String {
    match (role, number) {
        (Role::Own, _) => "own".into(),
        (Role::Reference, _) => "reference".into(),
        (Role::Other, None) => "other".into(),
        (Role::Other, Some(number)) => format!("s{}", number % COLOURS),
    }
}

/// As text between tags.
pub(crate) fn escape(words: &str) -> String {
    let mut out = String::with_capacity(words.len());
    for c in words.chars() {
        match c {
            '&' => out += "&amp;",
            '<' => out += "&lt;",
            '>' => out += "&gt;",
            c if c.is_control() => out.push(' '),
            c => out.push(c),
        }
    }
    out
}

/// About how wide it is, in pixels: which font there will be is not known.
fn width(words: &str) -> f64 {
    let units = words.chars().map(|c| match c {
        'i' | 'j' | 'l' | 't' | 'f' | 'r' | ' ' | '.' | ',' | ':' | '|' | '(' | ')' | '-' => 0.36,
        'm' | 'w' | 'M' | 'W' | '%' | '@' => 0.9,
        'A'..='Z' | '&' | '<' | '>' | '+' | '=' | '×' | '±' => 0.72,
        c if c > '\u{2e80}' => 1.05,
        _ => 0.6,
    });
    units.sum::<f64>() * 13.0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bars(scale: Scale, values: &[Option<f64>]) -> String {
        let bar = |(at, value): (usize, &Option<f64>)| Bar {
            name: format!("n{at}"),
            value: *value,
            range: value.map(|value| (value * 0.9, value * 1.1)),
            label: value.map_or("cannot".into(), ratio),
            role: Role::Own,
        };
        let all = values.iter().enumerate().map(bar).collect();
        let words =
            Words { title: "a < b & c".into(), subtitle: "more ".repeat(60), ..Words::default() };
        let reference = Some((1.0, "floor".into()));
        let groups = vec![("depth 1".into(), all)];
        Bars { words, groups, reference, scale, format: ratio }.draw()
    }

    fn lines(points: &[&[(f64, f64)]]) -> String {
        let one = |(at, points): (usize, &&[(f64, f64)])| Series {
            name: format!("line {at}"),
            points: points.to_vec(),
            role: [Role::Own, Role::Reference, Role::Other][at % 3],
        };
        let series = points.iter().enumerate().map(one).collect();
        let x = ("percentile".into(), Scale::Percentile, ratio as fn(f64) -> String);
        Lines { words: Words::default(), x, y: ("time".into(), Scale::Log, micros), series }.draw()
    }

    /// Every tag is closed, in order, and no number is none.
    fn check(svg: &str) {
        let mut open = Vec::new();
        for part in svg.split('<').skip(1) {
            let (tag, _) = part.split_once('>').expect("a tag ends");
            let name = tag.split(' ').next().expect("a name");
            if let Some(name) = name.strip_prefix('/') {
                assert_eq!(open.pop(), Some(name), "{part}");
            } else if !tag.ends_with('/') {
                open.push(name);
            }
            assert_eq!(tag.matches('"').count() % 2, 0, "{part}");
        }
        assert!(open.is_empty() && !svg.contains("NaN") && !svg.contains("inf"), "{svg}");
    }

    #[test]
    fn whatever_is_drawn_is_well_formed() {
        for scale in [Scale::Linear, Scale::Log] {
            for values in [&[][..], &[None], &[Some(0.0)], &[Some(1.0), None, Some(0.02)]] {
                check(&bars(scale, values));
            }
        }
        check(&lines(&[]));
        check(&lines(&[&[], &[(0.5, 10.0)], &[(0.5, 0.0), (1.0, f64::NAN)], &[(0.0, 1.0); 30]]));
    }

    #[test]
    fn a_chart_says_in_words_what_it_shows() {
        let svg = bars(Scale::Linear, &[Some(0.5), None]);
        assert!(svg.contains("<title>a &lt; b &amp; c</title>"), "{svg}");
        assert!(svg.contains("depth 1: n0 0.50, n1 cannot. </desc>"), "{svg}");
        let svg = lines(&[&[(0.5, 20.0), (0.9, 3_000.0)]]);
        assert!(svg.contains("line 0: from 20 µs to 3 ms. </desc>"), "{svg}");
    }

    #[test]
    fn a_bar_is_as_long_as_its_value() {
        let svg = bars(Scale::Linear, &[Some(0.5), Some(1.0)]);
        let lengths: Vec<f64> = svg
            .split(r#"<rect class="own fill""#)
            .skip(1)
            .map(|rest| rest.split(r#"width=""#).nth(1).expect("it has one"))
            .map(|rest| rest.split('"').next().expect("it ends").parse().expect("a number"))
            .collect();
        assert!((lengths[1] - 2.0 * lengths[0]).abs() < 0.3, "{lengths:?}");
    }

    #[test]
    fn names_at_the_ends_do_not_lie_on_each_other() {
        let places = apart(&[100.0, 101.0, 102.0, 300.0], 0.0, 300.0);
        assert_eq!(places, [100.0, 116.0, 132.0, 300.0]);
        assert_eq!(apart(&[299.0, 300.0, 300.0], 0.0, 300.0), [272.0, 288.0, 304.0]);
    }
}
