//! A timer for the benches: rounds in which everything compared takes its turn, then medians.

use std::time::Instant;

/// Whether one short round will do: with `--light`, or with `FRAZIL_BENCH_LIGHT=1`.
pub fn light() -> bool {
    std::env::args().any(|argument| argument == "--light")
        || std::env::var("FRAZIL_BENCH_LIGHT").is_ok_and(|value| value != "0")
}

/// Times of something by round, in microseconds; or ratios of such.
pub struct Times {
    pub rounds: Vec<f64>,
}

impl Times {
    /// The time below which this share of all lies.
    pub fn quantile(&self, share: f64) -> f64 {
        let mut sorted = self.rounds.clone();
        sorted.sort_by(f64::total_cmp);
        sorted[(share * (sorted.len() - 1) as f64).round() as usize]
    }

    pub fn median(&self) -> f64 {
        self.quantile(0.5)
    }
}

/// Runs all in turn, `rounds` times after a first that does not count, so that what disturbs the machine disturbs all
/// alike.
pub fn interleaved<T>(items: &mut [T], rounds: usize, mut run: impl FnMut(&mut T)) -> Vec<Times> {
    let mut all: Vec<Times> = items.iter().map(|_| Times { rounds: Vec::with_capacity(rounds) }).collect();
    for round in 0..=rounds {
        for (item, times) in items.iter_mut().zip(&mut all) {
            let begun = Instant::now();
            run(item);
            let elapsed = begun.elapsed().as_secs_f64() * 1e6;
            if round > 0 {
                times.rounds.push(elapsed);
            }
        }
    }
    all
}
