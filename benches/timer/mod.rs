//! Timer of the benchmarks: runs every candidate once in each iteration, and computes quantiles over the
//! iterations.

use std::time::Instant;

/// Returns whether to run one short iteration: with `--light`, or with `FRAZIL_BENCH_LIGHT=1`.
pub fn light() -> bool {
    std::env::args().any(|argument| argument == "--light")
        || std::env::var("FRAZIL_BENCH_LIGHT").is_ok_and(|value| value != "0")
}

/// Times of one candidate in microseconds, or ratios of times, by iteration.
pub struct Times {
    pub iterations: Vec<f64>,
}

impl Times {
    /// Returns a quantile over the iterations; `fraction` is in `[0, 1]`.
    pub fn quantile(&self, fraction: f64) -> f64 {
        let mut sorted = self.iterations.clone();
        sorted.sort_by(f64::total_cmp);
        sorted[(fraction * (sorted.len() - 1) as f64).round() as usize]
    }

    pub fn median(&self) -> f64 {
        self.quantile(0.5)
    }
}

/// Runs all candidates in turn for this number of iterations, after a warm-up iteration that is not counted.
/// Interleaving spreads load from other processes over all candidates.
pub fn interleaved<T>(items: &mut [T], iterations: usize, mut run: impl FnMut(&mut T)) -> Vec<Times> {
    let mut all: Vec<Times> =
        items.iter().map(|_| Times { iterations: Vec::with_capacity(iterations) }).collect();
    for iteration in 0..=iterations {
        for (item, times) in items.iter_mut().zip(&mut all) {
            let start = Instant::now();
            run(item);
            let elapsed = start.elapsed().as_secs_f64() * 1e6;
            if iteration > 0 {
                times.iterations.push(elapsed);
            }
        }
    }
    all
}
