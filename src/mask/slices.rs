//! Structured rules: groups of channels, filters, places of a window, blocks.

use super::choose::{key, shuffle, weights};
use super::{Mask, TensorView};
use crate::error::{Error, Result};
use std::ops::Range;

/// By what a fraction of filters or input channels is chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Norm {
    /// Those of smallest sum of magnitudes.
    L1,
    /// Those of smallest sum of squares.
    L2,
    /// By chance.
    Random,
}

/// Whose slices.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Axis {
    Input,
    Output,
}

#[derive(Clone, Debug, PartialEq)]
pub(super) enum Which {
    Fraction(f64, Norm),
    At(Vec<usize>),
}

/// The extents (places, input channels, outputs) of a kernel; the last two axes are the channels.
fn channels(view: &TensorView) -> Result<[usize; 3]> {
    match view.shape {
        [window @ .., inputs, outputs] => Ok([window.iter().product(), *inputs, *outputs]),
        _ => Err(Error::shape(
            view.path,
            "a kernel with input and output channels",
            format!("{:?}", view.shape),
        )),
    }
}

pub(super) fn n_of_m(view: &TensorView, n: usize, m: usize) -> Result<Mask> {
    let [places, inputs, outputs] = channels(view)?;
    let bits = weights(view)?;
    let mut frozen = vec![false; view.elements()];
    for place in 0..places {
        for output in 0..outputs {
            for first in (0..inputs).step_by(m) {
                let at = |channel: usize| (place * inputs + channel) * outputs + output;
                let mut group: Vec<usize> = (first..inputs.min(first + m)).map(at).collect();
                group.sort_by_key(|&i| key(bits[i], false));
                let cut = group.len().saturating_sub(n);
                group[..cut].iter().for_each(|&i| frozen[i] = true);
            }
        }
    }
    Ok(Mask::from_frozen(frozen))
}

pub(super) fn slices(view: &TensorView, axis: Axis, which: &Which, seed: u64) -> Result<Mask> {
    // A vector (a bias) has one element an output.
    let [_, inputs, outputs] = match (axis, view.shape) {
        (Axis::Output, [outputs]) => [1, 1, *outputs],
        _ => channels(view)?,
    };
    let extent = if axis == Axis::Input { inputs } else { outputs };
    let slice = |index: usize| if axis == Axis::Input { index / outputs % inputs } else { index % outputs };
    let chosen = match which {
        Which::At(indices) => {
            if let Some(wrong) = indices.iter().find(|&&i| i >= extent) {
                return Err(Error::argument(view.path, format!("slices below {extent}"), wrong));
            }
            indices.clone()
        }
        Which::Fraction(fraction, norm) => {
            let mut order: Vec<usize> = (0..extent).collect();
            if *norm == Norm::Random {
                shuffle(&mut order, seed, view.path);
            } else {
                let mut sums = vec![0.0_f64; extent];
                for (index, &bits) in weights(view)?.iter().enumerate() {
                    let w = f64::from(f32::from_bits(bits)).abs();
                    sums[slice(index)] += if *norm == Norm::L1 { w } else { w * w };
                }
                order.sort_by(|&a, &b| sums[a].abs().total_cmp(&sums[b].abs()));
            }
            order.truncate((fraction * extent as f64).round() as usize);
            order
        }
    };
    let mut whole = vec![false; extent];
    chosen.iter().for_each(|&i| whole[i] = true);
    Ok(Mask::from_frozen((0..view.elements()).map(|i| whole[slice(i)])))
}

pub(super) fn position(view: &TensorView, ky: usize, kx: usize) -> Result<Mask> {
    let [height, width, inputs, outputs] = *view.shape else {
        return Err(Error::shape(view.path, "a kernel of 4 axes, HWIO", format!("{:?}", view.shape)));
    };
    if ky >= height || kx >= width {
        return Err(Error::argument(
            view.path,
            format!("a place in {height} x {width}"),
            format!("{ky}, {kx}"),
        ));
    }
    let place = ky * width + kx;
    Ok(Mask::from_frozen((0..view.elements()).map(|i| i / (inputs * outputs) == place)))
}

pub(super) fn block(view: &TensorView, ranges: &[Range<usize>]) -> Result<Mask> {
    let inside = ranges.iter().zip(view.shape).all(|(r, &extent)| r.start <= r.end && r.end <= extent);
    if ranges.len() != view.shape.len() || !inside {
        let expected = format!("one range inside each axis of {:?}", view.shape);
        return Err(Error::argument(view.path, expected, format!("{ranges:?}")));
    }
    Ok(Mask::from_frozen((0..view.elements()).map(|index| {
        let mut rest = index;
        view.shape.iter().zip(ranges).rev().all(|(&extent, range)| {
            let at = rest % extent;
            rest /= extent;
            range.contains(&at)
        })
    })))
}
