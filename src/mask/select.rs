//! Selection of elements: random, by magnitude, by structure, by value, or read from a file.

use super::Mask;
use crate::error::{Error, Result};
use crate::host_memory;
use crate::npy;
use crate::rng::{Purpose, Stream};
use crate::shape::elements_of;
use crate::tensor_file::Checkpoint;
use std::fmt;
use std::ops::Range;
use std::path::Path;

/// One tensor, as input of [`FreezeRule::resolve_all`](super::FreezeRule::resolve_all).
#[derive(Clone, Copy, Debug)]
pub struct TensorView<'a> {
    /// Path of the parameter.
    pub path: &'a str,
    /// Extents, row-major: HWIO for a convolution kernel, `[in, out]` for a dense one.
    pub shape: &'a [usize],
    /// Bits of the f32 elements; may be `None` unless
    /// [`FreezeRule::needs_weights`](super::FreezeRule::needs_weights).
    pub bits: Option<&'a [u32]>,
    /// Elements that are frozen already.
    pub frozen: &'a Mask,
}

impl TensorView<'_> {
    /// Number of elements; `usize::MAX` if it is larger than that.
    pub fn elements(&self) -> usize {
        elements_of(self.shape)
    }
}

/// Number of candidates to select: a fraction of them, or an exact count.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Amount {
    Fraction(f64),
    Count(usize),
}

impl Amount {
    /// Returns the number of elements to select from `candidates`. A fraction is rounded to the nearest
    /// count.
    fn resolve(self, candidates: usize, path: &str) -> Result<usize> {
        match self {
            Amount::Fraction(fraction) => Ok((fraction * candidates as f64).round() as usize),
            Amount::Count(count) if count <= candidates => Ok(count),
            Amount::Count(count) => {
                let expected = format!("a count of at most {candidates} candidates, or a fraction of them");
                Err(Error::argument(path, expected, count))
            }
        }
    }
}

impl fmt::Display for Amount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Amount::Fraction(fraction) => write!(f, "{fraction}"),
            Amount::Count(count) => write!(f, "count={count}"),
        }
    }
}

/// Candidates of a rule: the elements that it counts and may select.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Candidates {
    All,
    Trainable,
    Frozen,
}

impl Candidates {
    /// Returns the candidates of a tensor.
    pub(super) fn of(self, view: &TensorView) -> Result<Mask> {
        match self {
            Candidates::All => Mask::all(view.elements()),
            Candidates::Trainable => Ok(view.frozen.complement()),
            Candidates::Frozen => Ok(view.frozen.clone()),
        }
    }

    fn includes(self, view: &TensorView, index: usize) -> bool {
        match self {
            Candidates::All => true,
            Candidates::Trainable => !view.frozen.is_frozen(index),
            Candidates::Frozen => view.frozen.is_frozen(index),
        }
    }
}

/// Criterion by which a fraction of filters or input channels is selected.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Norm {
    /// Smallest sum of magnitudes.
    L1,
    /// Smallest sum of squares.
    L2,
    /// Random.
    Random,
}

/// Channel axis of a kernel: the last axis for output channels, the second-to-last one for input channels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ChannelAxis {
    Input,
    Output,
}

/// Channels to select along one axis.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Channels {
    Fraction(f64, Norm),
    Indices(Vec<usize>),
}

/// Returns the bits of the view's weights; fails if the view has none.
fn weights<'a>(view: &TensorView<'a>) -> Result<&'a [u32]> {
    view.bits.ok_or_else(|| {
        let expected =
            "weights, on which the rule depends; call FreezeRule::resolve_all with TensorView::bits";
        Error::argument(view.path, expected, "none")
    })
}

/// Selects random candidates without replacement. The path of the tensor is a part of the seed.
pub(super) fn random(view: &TensorView, amount: Amount, candidates: Candidates, seed: u64) -> Result<Mask> {
    let len = view.elements();
    let mut order: Vec<usize> = host_memory::reserve(len, view.path)?;
    order.extend((0..len).filter(|&i| candidates.includes(view, i)));
    let count = amount.resolve(order.len(), view.path)?;
    shuffle(&mut order, seed, view.path);
    let mut frozen = flags(view)?;
    order.iter().take(count).for_each(|&i| frozen[i] = true);
    Ok(Mask::from_frozen(frozen))
}

/// Returns one `false` for each element.
fn flags(view: &TensorView) -> Result<Vec<bool>> {
    let mut flags = host_memory::reserve(view.elements(), view.path)?;
    flags.resize(view.elements(), false);
    Ok(flags)
}

fn shuffle(order: &mut [usize], seed: u64, path: &str) {
    Stream::new(seed, Purpose::Mask, path_hash(path)).shuffle(order);
}

/// Returns the FNV-1a hash of a path, used as the random stream's number.
fn path_hash(path: &str) -> u64 {
    path.bytes().fold(0xcbf2_9ce4_8422_2325, |h, b| (h ^ u64::from(b)).wrapping_mul(0x100_0000_01b3))
}

/// Selects the smallest or largest magnitudes over all views together. Ties go to the earlier tensor and the
/// lower index. If `scores` are given, one list for each view, they replace the weights.
pub(super) fn by_magnitude(
    views: &[TensorView],
    amount: Amount,
    largest: bool,
    candidates: Candidates,
    scores: Option<&[Vec<f32>]>,
) -> Result<Vec<Mask>> {
    let mut ranked: Vec<(u32, usize, usize)> = Vec::new();
    for (tensor, view) in views.iter().enumerate() {
        let len = view.elements();
        let score_bits: Vec<u32>;
        let bits = match scores.and_then(|all| all.get(tensor)) {
            Some(scores) if scores.len() != len => {
                return Err(Error::shape(view.path, format!("{len} scores"), scores.len()));
            }
            Some(scores) => {
                score_bits = scores.iter().map(|s| s.to_bits()).collect();
                &score_bits
            }
            None => weights(view)?,
        };
        let included = bits.iter().enumerate().filter(|(i, _)| candidates.includes(view, *i));
        host_memory::extend(&mut ranked, len, view.path)?;
        ranked.extend(included.map(|(i, &b)| (sort_key(b, largest), tensor, i)));
    }
    let path = views.first().map_or("", |view| view.path);
    let count = amount.resolve(ranked.len(), path)?;
    if 0 < count && count < ranked.len() {
        ranked.select_nth_unstable(count - 1);
    }
    let mut frozen = views.iter().map(flags).collect::<Result<Vec<_>>>()?;
    ranked[..count].iter().for_each(|&(_, tensor, index)| frozen[tensor][index] = true);
    Ok(frozen.into_iter().map(Mask::from_frozen).collect())
}

/// Returns, for each tensor, the distances of its weights from those of the same path in a checkpoint.
pub(super) fn distances(views: &[TensorView], path: &Path) -> Result<Vec<Vec<f32>>> {
    let file = Checkpoint::read(path)?;
    let of = |view: &TensorView| {
        let error = |got: String| {
            let why = format!("{}: expected F32 weights of shape {:?}, got {got}", view.path, view.shape);
            Error::Checkpoint { path: path.to_owned(), why, source: None }
        };
        let stored = file.tensor(view.path).ok_or_else(|| error("none".to_owned()))?;
        if stored.dtype() != "f32" || stored.shape() != view.shape {
            return Err(error(format!("{} of shape {:?}", stored.dtype(), stored.shape())));
        }
        let pairs = weights(view)?.iter().zip(stored.bits());
        Ok(pairs.map(|(&a, &b)| f32::from_bits(a) - f32::from_bits(b)).collect())
    };
    views.iter().map(of).collect()
}

/// Returns the key by which elements are sorted in ascending order. Without the sign bit, the bits of f32
/// values have the same order as their magnitudes.
fn sort_key(bits: u32, largest: bool) -> u32 {
    let magnitude = bits & 0x7fff_ffff;
    if largest { !magnitude } else { magnitude }
}

/// Returns the extents of a kernel: number of kernel positions, input channels and output channels.
fn kernel_extents(view: &TensorView) -> Result<[usize; 3]> {
    match view.shape {
        [window @ .., inputs, outputs] => Ok([window.iter().product(), *inputs, *outputs]),
        _ => {
            let expected = "a kernel with input and output channels; use a glob that matches kernels only";
            Err(Error::shape(view.path, expected, format!("{:?}", view.shape)))
        }
    }
}

/// Selects all but the `n` largest magnitudes of every `m` consecutive input channels.
pub(super) fn n_of_m(view: &TensorView, n: usize, m: usize) -> Result<Mask> {
    let [positions, inputs, outputs] = kernel_extents(view)?;
    let bits = weights(view)?;
    let mut frozen = flags(view)?;
    for position in 0..positions {
        for output in 0..outputs {
            for first in (0..inputs).step_by(m) {
                let index = |channel: usize| (position * inputs + channel) * outputs + output;
                let mut group: Vec<usize> = (first..inputs.min(first + m)).map(index).collect();
                group.sort_by_key(|&i| sort_key(bits[i], false));
                let selected = group.len().saturating_sub(n);
                group[..selected].iter().for_each(|&i| frozen[i] = true);
            }
        }
    }
    Ok(Mask::from_frozen(frozen))
}

/// Selects all elements of some input or output channels of a kernel.
pub(super) fn channels(view: &TensorView, axis: ChannelAxis, which: &Channels, seed: u64) -> Result<Mask> {
    let [_, inputs, outputs] = match (axis, view.shape) {
        // A vector, such as a bias, has one element per output channel.
        (ChannelAxis::Output, [outputs]) => [1, 1, *outputs],
        _ => kernel_extents(view)?,
    };
    let (extent, channel): (_, &dyn Fn(usize) -> usize) = match axis {
        ChannelAxis::Input => (inputs, &|index| index / outputs % inputs),
        ChannelAxis::Output => (outputs, &|index| index % outputs),
    };
    let indices = match which {
        Channels::Indices(indices) => {
            if let Some(out_of_range) = indices.iter().find(|&&i| i >= extent) {
                return Err(Error::argument(
                    view.path,
                    format!("channel indices below {extent}"),
                    out_of_range,
                ));
            }
            indices.clone()
        }
        Channels::Fraction(fraction, norm) => {
            let mut order: Vec<usize> = host_memory::reserve(extent, view.path)?;
            order.extend(0..extent);
            if *norm == Norm::Random {
                shuffle(&mut order, seed, view.path);
            } else {
                let mut norms = vec![0.0_f64; extent];
                for (index, &bits) in weights(view)?.iter().enumerate() {
                    let w = f64::from(f32::from_bits(bits)).abs();
                    norms[channel(index)] += if *norm == Norm::L1 { w } else { w * w };
                }
                order.sort_by(|&a, &b| norms[a].abs().total_cmp(&norms[b].abs()));
            }
            order.truncate((fraction * extent as f64).round() as usize);
            order
        }
    };
    let mut selected = vec![false; extent];
    indices.iter().for_each(|&i| selected[i] = true);
    Ok(Mask::from_frozen((0..view.elements()).map(|i| selected[channel(i)])))
}

/// Selects one position of a convolution kernel, in all channels.
pub(super) fn kernel_position(view: &TensorView, ky: usize, kx: usize) -> Result<Mask> {
    let [height, width, inputs, outputs] = *view.shape else {
        let expected = "a kernel of 4 axes, HWIO; use a glob that matches convolutions only";
        return Err(Error::shape(view.path, expected, format!("{:?}", view.shape)));
    };
    if ky >= height || kx >= width {
        let expected = format!("a kernel position within {height} x {width}");
        return Err(Error::argument(view.path, expected, format!("{ky}, {kx}")));
    }
    let position = ky * width + kx;
    Ok(Mask::from_frozen((0..view.elements()).map(|i| i / (inputs * outputs) == position)))
}

/// Selects the elements whose index lies in the range of each axis.
pub(super) fn block(view: &TensorView, ranges: &[Range<usize>]) -> Result<Mask> {
    let valid = ranges.iter().zip(view.shape).all(|(r, &extent)| r.start <= r.end && r.end <= extent);
    if ranges.len() != view.shape.len() || !valid {
        let expected = format!("one range within each axis of {:?}", view.shape);
        return Err(Error::argument(view.path, expected, format!("{ranges:?}")));
    }
    Ok(Mask::from_frozen((0..view.elements()).map(|index| {
        let mut rest = index;
        view.shape.iter().zip(ranges).rev().all(|(&extent, range)| {
            let coordinate = rest % extent;
            rest /= extent;
            range.contains(&coordinate)
        })
    })))
}

/// Selects the elements with the bits of `value`; 0.0 equals -0.0.
pub(super) fn equal(view: &TensorView, value: f32) -> Result<Mask> {
    let (bits, zero) = (value.to_bits(), value == 0.0);
    // Shifting out the sign bit leaves 0 for both 0.0 and -0.0.
    Ok(Mask::from_frozen(weights(view)?.iter().map(|&b| b == bits || (zero && b << 1 == 0))))
}

/// Reads the mask `tensor` from a safetensors file or a `.npz` file, or the only array of a `.npy` file: one u8 or
/// bool per element in the shape of the parameter, or packed u32 words; 1 = frozen.
pub(super) fn from_file(view: &TensorView, path: &Path, tensor: &str) -> Result<Mask> {
    let error = |why: String| Error::Checkpoint { path: path.to_owned(), why, source: None };
    if let Some(array) = npy::read_named(path, tensor)? {
        let flags = array.flags().map_err(error)?;
        return from_flags(view, path, tensor, &array.shape, flags.into_iter());
    }
    let file = Checkpoint::read(path)?;
    let Some(stored) = file.tensor(tensor) else {
        let got = file.unread().get(tensor).cloned();
        let got = got.unwrap_or_else(|| {
            let names: Vec<_> = file.tensors().iter().map(|(name, _)| name.as_str()).take(8).collect();
            format!("none; the file contains {names:?}")
        });
        let expected = format!("{tensor}: expected a mask of U8, BOOL or packed U32");
        return Err(error(format!("{expected}, got {got}")));
    };
    let (len, bits) = (view.elements(), stored.bits());
    let words = len.div_ceil(32);
    match stored.dtype() {
        "u8" | "bool" => from_flags(view, path, tensor, stored.shape(), bits.iter().map(|&bit| bit != 0)),
        "u32" if bits.len() == words => Mask::from_words(bits.to_vec(), len),
        "u32" if bits.len() == len => Err(error(format!(
            "{tensor}: expected {words} packed U32 words, or one U8 or BOOL per element; got one U32 per element"
        ))),
        "u32" => Err(Error::MaskMismatch { path: view.path.to_owned(), expected: words, got: bits.len() }),
        other => {
            let expected = format!("{tensor}: expected a mask of U8, BOOL or packed U32");
            Err(error(format!("{expected}, got {other}")))
        }
    }
}

/// The mask of one flag per element. Flags along one axis are accepted for a parameter of any shape.
fn from_flags(
    view: &TensorView,
    path: &Path,
    tensor: &str,
    shape: &[usize],
    flags: impl ExactSizeIterator<Item = bool>,
) -> Result<Mask> {
    let len = view.elements();
    if flags.len() != len {
        return Err(Error::MaskMismatch { path: view.path.to_owned(), expected: len, got: flags.len() });
    }
    if shape == view.shape || shape == [len] {
        return Ok(Mask::from_frozen(flags));
    }
    let why = format!(
        "{tensor}: expected the shape {:?} of {}, got {shape:?}; PyTorch's OIHW is to be transposed to HWIO",
        view.shape, view.path
    );
    Err(Error::Checkpoint { path: path.to_owned(), why, source: None })
}
