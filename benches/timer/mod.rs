//! Timer of the benchmarks: rounds in which every candidate runs once, and quantiles over the rounds.

use std::time::Instant;

/// Whether to make one short round: with `--light`, or with `FRAZIL_BENCH_LIGHT=1`.
pub fn light() -> bool {
    std::env::args().any(|argument| argument == "--light")
        || std::env::var("FRAZIL_BENCH_LIGHT").is_ok_and(|value| value != "0")
}

/// Times of one candidate in microseconds, or ratios of times, by round.
pub struct Times {
    pub rounds: Vec<f64>,
}

impl Times {
    /// Quantile of the rounds; `fraction` is in `[0, 1]`.
    pub fn quantile(&self, fraction: f64) -> f64 {
        let mut sorted = self.rounds.clone();
        sorted.sort_by(f64::total_cmp);
        sorted[(fraction * (sorted.len() - 1) as f64).round() as usize]
    }

    pub fn median(&self) -> f64 {
        self.quantile(0.5)
    }
}

/// Runs all candidates in turn for `rounds` rounds, after a warm-up round that is not counted. Interleaving
/// spreads load from other processes over all candidates.
pub fn interleaved<T>(items: &mut [T], rounds: usize, mut run: impl FnMut(&mut T)) -> Vec<Times> {
    let mut all: Vec<Times> = items.iter().map(|_| Times { rounds: Vec::with_capacity(rounds) }).collect();
    for round in 0..=rounds {
        for (item, times) in items.iter_mut().zip(&mut all) {
            let start = Instant::now();
            run(item);
            let elapsed = start.elapsed().as_secs_f64() * 1e6;
            if round > 0 {
                times.rounds.push(elapsed);
            }
        }
    }
    all
}
