//! Loops of seeded random cases: each case is accepted or refused with an error, and none panics.
//!
//! `FRAZIL_SOAK_SECONDS` sets how long each loop runs (a few seconds unless set) and `FRAZIL_SOAK_SEED` its
//! first case, so that a failing case can be repeated alone: case `n` of a loop depends on `n` only.

use super::random::stream;
use super::say;
use frazil::low_level::Stream;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

/// Result of a case.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Case {
    Accepted,
    Refused,
}

impl<T, E> From<Result<T, E>> for Case {
    fn from(result: Result<T, E>) -> Self {
        if result.is_ok() { Case::Accepted } else { Case::Refused }
    }
}

fn number(variable: &str) -> Option<u64> {
    let text = std::env::var(variable).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{variable}: expected a number, got {text:?}")))
}

/// Runs cases for a while and prints their numbers.
///
/// # Panics
/// If a case panics, or if no case was accepted or none refused: then the loop tests nothing. An abort ends
/// the test program.
pub fn soak(name: &str, seconds: u64, mut case: impl FnMut(&mut Stream) -> Case) {
    let limit = Duration::from_secs(number("FRAZIL_SOAK_SECONDS").unwrap_or(seconds));
    let first = number("FRAZIL_SOAK_SEED").unwrap_or(1);
    let (begun, mut accepted, mut refused) = (Instant::now(), 0u64, 0u64);
    // The counts of a short loop on a slow machine must not depend on luck.
    while begun.elapsed() < limit || accepted == 0 || refused == 0 {
        let seed = first + accepted + refused;
        match catch_unwind(AssertUnwindSafe(|| case(&mut stream(seed)))) {
            Ok(Case::Accepted) => accepted += 1,
            Ok(Case::Refused) => refused += 1,
            Err(_) => panic!("soak {name}: case {seed} panics; repeat it with FRAZIL_SOAK_SEED={seed}"),
        }
    }
    let cases = accepted + refused;
    say(&format!("soak {name}: {cases} cases, {accepted} accepted, {refused} refused, 0 panics, 0 aborts"));
}

/// Returns one of the items.
pub fn pick<'a, T>(random: &mut Stream, items: &'a [T]) -> &'a T {
    &items[random.below(items.len())]
}

/// Returns a size: mostly small, sometimes at or near a limit.
pub fn size(random: &mut Stream) -> usize {
    const LIMITS: [usize; 12] = [
        0,
        1 << 16,
        1 << 20,
        (1 << 20) + 1,
        1 << 24,
        (1 << 31) - 1,
        1 << 31,
        1 << 32,
        1 << 40,
        1 << 62,
        usize::MAX - 1,
        usize::MAX,
    ];
    match random.below(8) {
        0 => *pick(random, &LIMITS),
        1 => 1 + random.below(1000),
        _ => 1 + random.below(12),
    }
}

/// Damages bytes in one to three places: flips a bit, sets a byte, removes, inserts or repeats a range, or cuts
/// off the end.
pub fn damage(random: &mut Stream, bytes: &[u8]) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    for _ in 0..1 + random.below(3) {
        let at = random.below(bytes.len());
        let end = (at + 1 + random.below(16)).min(bytes.len());
        match random.below(8) {
            _ if bytes.is_empty() => bytes.push(random.bits() as u8),
            0..3 => bytes[at] ^= 1 << random.below(8),
            3 => bytes[at] = *pick(random, &[0, 1, 0x7f, 0xff, b'0', b'9', b'"', b'\n']),
            4 => drop(bytes.drain(at..end)),
            5 => bytes.truncate(at),
            6 => drop(bytes.splice(at..at, (0..end - at).map(|_| random.bits() as u8).collect::<Vec<_>>())),
            _ => drop(bytes.splice(at..at, bytes[at..end].to_vec())),
        }
    }
    bytes
}
