//! An axis of a chart: from numbers to places, where it is marked, and how numbers are written.

/// How numbers become places.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Scale {
    /// In proportion, from zero.
    Linear,
    /// Each factor of ten as long as the next.
    Log,
    /// For shares below one: each nine as long as the next, so that the tail has room.
    Percentile,
}

/// A scale with its ends, in numbers and in pixels.
pub(crate) struct Axis {
    scale: Scale,
    low: f64,
    high: f64,
    /// Where it begins, in pixels.
    pub(crate) from: f64,
    /// Where it ends.
    pub(crate) to: f64,
}

impl Axis {
    /// From zero, or near the least of the values, to the most, or the next tick after that.
    pub(crate) fn new(
        scale: Scale,
        values: &[f64],
        (from, to): (f64, f64),
        is_round: bool,
    ) -> Self {
        let finite = || values.iter().copied().filter(|value| value.is_finite());
        let positive = || finite().filter(|value| *value > 0.0);
        let most = finite().fold(0.0, f64::max);
        let (low, high) = match scale {
            Scale::Linear => {
                let most = if most > 0.0 { most } else { 1.0 };
                let step = nice_step(most);
                (0.0, if is_round { (most / step - 1e-9).ceil() * step } else { most })
            }
            Scale::Log => {
                let least = positive().fold(f64::INFINITY, f64::min).min(most.max(1e-9));
                let low = steps().rfind(|step| *step <= least * 1.0001).unwrap_or(least);
                let high = steps().find(|step| *step >= most * 0.9999).unwrap_or(most);
                (low, if high > low { high } else { low * 10.0 })
            }
            Scale::Percentile => (0.0, most.clamp(0.9, 0.999_999)),
        };
        Self { scale, low, high, from, to }
    }

    fn place(&self, value: f64) -> f64 {
        match self.scale {
            Scale::Linear => value,
            Scale::Log => value.max(1e-12).log10(),
            Scale::Percentile => -(1.0 - value.clamp(0.0, 0.999_999)).log10(),
        }
    }

    /// The pixel of a value.
    pub(crate) fn at(&self, value: f64) -> f64 {
        let (low, high) = (self.place(self.low), self.place(self.high));
        let share = (self.place(value) - low) / (high - low);
        let share = if share.is_finite() { share.clamp(0.0, 1.0) } else { 0.0 };
        self.from + (self.to - self.from) * share
    }

    /// What it is marked with.
    pub(crate) fn ticks(&self) -> Vec<f64> {
        let (low, high) = (self.place(self.low), self.place(self.high));
        let slack = (high - low) * 1e-6;
        let is_in = |tick: &f64| (low - slack..=high + slack).contains(&self.place(*tick));
        match self.scale {
            Scale::Linear => {
                let step = nice_step(self.high);
                (0..=(self.high / step + 1e-9) as u32)
                    .map(|count| f64::from(count) * step)
                    .collect()
            }
            Scale::Log => {
                let is_long = self.high / self.low > 300.0;
                let is_ten = |tick: &f64| (tick.log10() - tick.log10().round()).abs() < 1e-6;
                steps().filter(is_in).filter(|tick| !is_long || is_ten(tick)).collect()
            }
            Scale::Percentile => {
                let nines = (1..7).map(|nines| 1.0 - 10f64.powi(-nines));
                [0.0, 0.5].into_iter().chain(nines).filter(is_in).collect()
            }
        }
    }
}

/// 1, 2, 5, 10, 20 and so on, from a billionth up.
fn steps() -> impl DoubleEndedIterator<Item = f64> {
    (-9..15).flat_map(|power| [1.0, 2.0, 5.0].map(|digit| digit * 10f64.powi(power)))
}

/// A distance between ticks that gives four to eight of them up to `most`.
fn nice_step(most: f64) -> f64 {
    steps().find(|step| most / step <= 8.0).unwrap_or(most)
}

/// A share as the percentile it is: 0.999 is 99.9 %.
pub(crate) fn percent(share: f64) -> String {
    let digits =
        if share < 1.0 { (-(1.0 - share).log10() - 2.001).ceil().clamp(0.0, 4.0) } else { 0.0 };
    format!("{:.*} %", digits as usize, share * 100.0)
}

/// With three digits and the prefix for thousands: 12.3 k.
pub(crate) fn si(value: f64) -> String {
    scaled(value, &[" ", " k", " M", " G"])
}

/// Nanoseconds as a time.
pub(crate) fn nanos(value: f64) -> String {
    scaled(value, &[" ns", " µs", " ms", " s"])
}

/// Microseconds as a time.
pub(crate) fn micros(value: f64) -> String {
    nanos(value * 1000.0)
}

/// Bytes by powers of a thousand, for marks stand at round numbers.
pub(crate) fn bytes(value: f64) -> String {
    scaled(value, &[" B", " kB", " MB", " GB"])
}

/// A ratio: 0.97.
pub(crate) fn ratio(value: f64) -> String {
    format!("{value:.2}")
}

fn scaled(value: f64, units: &[&str]) -> String {
    if !value.is_finite() {
        return "?".into();
    }
    let mut at = 0;
    let mut value = value;
    while value.abs() >= 999.5 && at + 1 < units.len() {
        value /= 1000.0;
        at += 1;
    }
    let digits = match value.abs() {
        0.0..10.0 => 2,
        10.0..100.0 => 1,
        _ => 0,
    };
    let number = format!("{value:.digits$}");
    let number = if number.contains('.') {
        number.trim_end_matches('0').trim_end_matches('.')
    } else {
        &number
    };
    format!("{number}{}", units[at]).trim_end().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn axis(scale: Scale, values: &[f64]) -> Axis {
        Axis::new(scale, values, (100.0, 300.0), false)
    }

    #[test]
    fn values_have_their_places() {
        let linear = axis(Scale::Linear, &[10.0, 40.0]);
        assert_eq!(
            [0.0, 20.0, 40.0, 99.0].map(|value| linear.at(value)),
            [100.0, 200.0, 300.0, 300.0]
        );
        let log = axis(Scale::Log, &[1.0, 100.0, 10_000.0]);
        assert_eq!([1.0, 100.0, 1e4, 0.0].map(|value| log.at(value)), [100.0, 200.0, 300.0, 100.0]);
        let shares = axis(Scale::Percentile, &[0.5, 0.99]);
        assert_eq!([0.0, 0.9, 0.99].map(|value| shares.at(value).round()), [100.0, 200.0, 300.0]);
    }

    #[test]
    fn marks_are_round_numbers_within() {
        assert_eq!(
            axis(Scale::Linear, &[38.0]).ticks(),
            (0..8).map(|n| f64::from(n) * 5.0).collect::<Vec<_>>()
        );
        let round = Axis::new(Scale::Linear, &[38.0], (0.0, 1.0), true);
        assert_eq!(round.ticks().last(), Some(&40.0));
        assert_eq!(axis(Scale::Log, &[0.08, 1.1]).ticks(), [0.05, 0.1, 0.2, 0.5, 1.0, 2.0]);
        assert_eq!(axis(Scale::Log, &[1.0, 1e4]).ticks(), [1.0, 10.0, 100.0, 1e3, 1e4]);
        let shares = axis(Scale::Percentile, &[0.999]).ticks();
        assert_eq!(
            shares.into_iter().map(percent).collect::<Vec<_>>().join(" "),
            "0 % 50 % 90 % 99 % 99.9 %"
        );
    }

    #[test]
    fn no_values_make_no_nonsense() {
        for scale in [Scale::Linear, Scale::Log, Scale::Percentile] {
            for values in [&[][..], &[0.0], &[f64::NAN, f64::INFINITY], &[5.0], &[-1.0]] {
                let axis = axis(scale, values);
                for value in [0.0, 1.0, -1.0, f64::NAN, f64::INFINITY] {
                    assert!(
                        (100.0..=300.0).contains(&axis.at(value)),
                        "{scale:?} {values:?} {value}"
                    );
                }
                assert!((1..20).contains(&axis.ticks().len()), "{scale:?} {values:?}");
            }
        }
    }

    #[test]
    fn numbers_are_short() {
        assert_eq!([0.0, 1.0, 12.34, 999.6, 1.5e6].map(si), ["0", "1", "12.3", "1 k", "1.5 M"]);
        assert_eq!(
            [850.0, 1234.5, 9e12, f64::NAN].map(nanos),
            ["850 ns", "1.23 µs", "9000 s", "?"]
        );
        assert_eq!(
            (micros(1500.0), bytes(233.4), bytes(2.6e6)),
            ("1.5 ms".into(), "233 B".into(), "2.6 MB".into())
        );
        assert_eq!(
            [0.9, 0.999, 0.995, 0.9999].map(percent),
            ["90 %", "99.9 %", "99.5 %", "99.99 %"]
        );
        assert_eq!(ratio(0.966), "0.97");
    }
}
