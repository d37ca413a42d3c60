//! Exact numbers of elements, by chance or by magnitude.

use super::{Mask, TensorView};
use crate::error::{Error, Result};
use crate::rng::{Purpose, Stream};

/// How many.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Amount {
    Fraction(f64),
    Count(usize),
}

/// Which elements count and may be chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Among {
    Every,
    Trainable,
    Frozen,
}

impl Amount {
    /// Rounded to the nearest count.
    fn of(self, candidates: usize, path: &str) -> Result<usize> {
        match self {
            Amount::Fraction(fraction) => Ok((fraction * candidates as f64).round() as usize),
            Amount::Count(count) if count <= candidates => Ok(count),
            Amount::Count(count) => {
                Err(Error::argument(path, format!("at most {candidates} elements to choose"), count))
            }
        }
    }
}

impl Among {
    fn includes(self, view: &TensorView, index: usize) -> bool {
        match self {
            Among::Every => true,
            Among::Trainable => !view.frozen.is_frozen(index),
            Among::Frozen => view.frozen.is_frozen(index),
        }
    }
}

/// The weights' bits, which the caller must have given.
pub(super) fn weights<'a>(view: &TensorView<'a>) -> Result<&'a [u32]> {
    view.bits.ok_or_else(|| Error::argument(view.path, "the weights, for a rule that looks at them", "none"))
}

/// Drawn without replacement; the path takes part in the seed.
pub(super) fn random(view: &TensorView, amount: Amount, among: Among, seed: u64) -> Result<Mask> {
    let len = view.elements();
    let mut order: Vec<usize> = (0..len).filter(|&i| among.includes(view, i)).collect();
    let count = amount.of(order.len(), view.path)?;
    shuffle(&mut order, seed, view.path);
    let mut frozen = vec![false; len];
    order.iter().take(count).for_each(|&i| frozen[i] = true);
    Ok(Mask::from_frozen(frozen))
}

pub(super) fn shuffle(order: &mut [usize], seed: u64, path: &str) {
    Stream::new(seed, Purpose::Mask, path_number(path)).shuffle(order);
}

/// By magnitude over all views together: smallest or largest first, ties to the earlier tensor and the lower index.
pub(super) fn by_magnitude(
    views: &[TensorView],
    amount: Amount,
    largest: bool,
    among: Among,
    scores: Option<&[f32]>,
) -> Result<Vec<Mask>> {
    let mut candidates: Vec<(u32, usize, usize)> = Vec::new();
    for (tensor, view) in views.iter().enumerate() {
        let len = view.elements();
        let own: Vec<u32>;
        let bits = match scores {
            Some(scores) if scores.len() != len => {
                return Err(Error::shape(view.path, format!("{len} scores"), scores.len()));
            }
            Some(scores) => {
                own = scores.iter().map(|s| s.to_bits()).collect();
                &own
            }
            None => weights(view)?,
        };
        let keys = bits.iter().enumerate().filter(|(i, _)| among.includes(view, *i));
        candidates.extend(keys.map(|(i, &b)| (key(b, largest), tensor, i)));
    }
    let path = views.first().map_or("", |view| view.path);
    let count = amount.of(candidates.len(), path)?;
    if 0 < count && count < candidates.len() {
        candidates.select_nth_unstable(count - 1);
    }
    let mut frozen: Vec<_> = views.iter().map(|view| vec![false; view.elements()]).collect();
    candidates[..count].iter().for_each(|&(_, tensor, index)| frozen[tensor][index] = true);
    Ok(frozen.into_iter().map(Mask::from_frozen).collect())
}

/// Ascending in the order of choice. Without its sign bit, an f32's bits are ordered as its magnitude is.
pub(super) fn key(bits: u32, largest: bool) -> u32 {
    let magnitude = bits & 0x7fff_ffff;
    if largest { !magnitude } else { magnitude }
}

/// FNV-1a, to tell tensors apart in a seed.
fn path_number(path: &str) -> u64 {
    path.bytes().fold(0xcbf2_9ce4_8422_2325, |h, b| (h ^ u64::from(b)).wrapping_mul(0x100_0000_01b3))
}
