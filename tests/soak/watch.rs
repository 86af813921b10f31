//! What is looked at every few seconds, as a line, as a row of a table, and as a picture.

use std::fmt::Write;
use std::path::PathBuf;

use super::draw::{Panel, Series, svg};

#[derive(Clone, Copy, Debug, Default)]
pub struct Sample {
    pub elapsed_s: f64,
    pub connections: u64,
    pub rss_kib: u64,
    pub published_per_s: f64,
    pub delivered_per_s: f64,
    pub p50_ms: f64,
    pub p99_ms: f64,
    pub lost: u64,
    pub gaps: u64,
    pub descriptors: usize,
}

pub const HEAD: &str =
    " elapsed  conns  RSS MiB  publ/s  deliv/s   p50 ms   p99 ms  lost   gaps  fds";

impl Sample {
    pub fn line(&self) -> String {
        format!(
            "{:>6.0} s {:>6} {:>8.1} {:>7.0} {:>8.0} {:>8.2} {:>8.2} {:>5} {:>6} {:>4}",
            self.elapsed_s,
            self.connections,
            self.rss_kib as f64 / 1024.0,
            self.published_per_s,
            self.delivered_per_s,
            self.p50_ms,
            self.p99_ms,
            self.lost,
            self.gaps,
            self.descriptors
        )
    }
}

/// Where the table and the picture go.
pub fn folder() -> PathBuf {
    let target = PathBuf::from(env!("CARGO_TARGET_TMPDIR"));
    let folder = target.parent().expect("the target directory").join("soak");
    std::fs::create_dir_all(&folder).expect("a directory");
    folder
}

pub fn write(title: &str, samples: &[Sample]) {
    let folder = folder();
    std::fs::write(folder.join("soak.tsv"), table(samples)).expect("written");
    std::fs::write(folder.join("soak.svg"), picture(title, samples)).expect("written");
    println!("{}/soak.svg and soak.tsv", folder.display());
}

fn table(samples: &[Sample]) -> String {
    let mut out =
        "elapsed_s\tconnections\trss_kib\tpublished_per_s\tdelivered_per_s\tp50_ms\tp99_ms\
                   \tlost\tgaps\tdescriptors\n"
            .to_owned();
    for s in samples {
        let _ = writeln!(
            out,
            "{:.1}\t{}\t{}\t{:.0}\t{:.0}\t{:.3}\t{:.3}\t{}\t{}\t{}",
            s.elapsed_s,
            s.connections,
            s.rss_kib,
            s.published_per_s,
            s.delivered_per_s,
            s.p50_ms,
            s.p99_ms,
            s.lost,
            s.gaps,
            s.descriptors
        );
    }
    out
}

fn picture(title: &str, samples: &[Sample]) -> String {
    let series = |name, colour, value: fn(&Sample) -> f64| {
        let points = samples.iter().map(|sample| (sample.elapsed_s, value(sample))).collect();
        Series { name, colour, points }
    };
    let panels = [
        Panel {
            title: "Resident memory of the server, MiB",
            series: vec![series("VmRSS", "#1b6ca8", |s| s.rss_kib as f64 / 1024.0)],
        },
        Panel {
            title: "Delivery to readers that are steady, ms",
            series: vec![
                series("p99", "#c0392b", |s| s.p99_ms),
                series("p50", "#27823b", |s| s.p50_ms),
            ],
        },
        Panel {
            title: "Connections, by the server",
            series: vec![series("connections", "#7a4fa3", |s| s.connections as f64)],
        },
        Panel {
            title: "Messages a second, to all readers",
            series: vec![series("delivered", "#b36b00", |s| s.delivered_per_s)],
        },
    ];
    svg(title, &panels)
}
