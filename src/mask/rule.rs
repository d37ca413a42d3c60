//! Rules that select elements of a tensor, and their text form.

use super::Mask;
use super::select::{self, Amount, Candidates, ChannelAxis, Channels, Norm, TensorView};
use crate::error::{Error, Result};
use crate::shape::MAX_ELEMENTS;
use std::fmt;
use std::ops::Range;
use std::path::PathBuf;
use std::str::FromStr;

/// Selects elements of a tensor: to freeze, to prune or to thaw. Resolves to one [`Mask`] per parameter.
///
/// Rules that depend on weights run on the host: the weights of the tensors in question are read back once.
/// Magnitudes are ordered as `f32::total_cmp` orders absolute values, so that a NaN is larger than infinity;
/// ties go to the lower index, and with [`FreezeRule::global`] to the earlier tensor. Counts are therefore
/// exact.
///
/// Measured: freezing the smaller half of 1,000,000 weights by magnitude takes 28 ms on two cores with
/// software Vulkan: 1 ms to read them back, 10 ms to select, and the rest to store the frozen bits for
/// [`Trainer::verify_frozen`] and to write the mask.
///
/// A rule is parsed from text ([`FreezeRule::SYNTAX`]), and displayed in the same form. The text has no seed.
/// A mask, an exact count, given scores and [`FreezeRule::among_frozen`] have no text form: their text cannot
/// be parsed.
///
/// [`Trainer::verify_frozen`]: crate::Trainer::verify_frozen
#[derive(Clone, Debug, PartialEq)]
pub struct FreezeRule {
    kind: Kind,
    seed: u64,
    candidates: Candidates,
    global: bool,
    scores: Option<Scores>,
}

/// Values by which elements are ranked instead of by the weights.
#[derive(Clone, Debug, PartialEq)]
enum Scores {
    /// Those of a single tensor.
    One(Vec<f32>),
    /// Those of parameters, by path.
    ByPath(Vec<(String, Vec<f32>)>),
}

/// What [`Trainer::scores`](crate::Trainer::scores) accumulates for each element over batches, from the gradient g of
/// the mean loss of a batch and the weight w.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Score {
    /// The sum of `|g|`, as sparse fine-tuning by gradients (SIFT, Song et al. 2024) ranks weights.
    Gradient,
    /// The sum of `g^2`: with batches of one example, the diagonal of the empirical Fisher information, as in FISH masks
    /// (Sung et al. 2021).
    SquaredGradient,
    /// The sum of `|w g|`: the change of the loss if the weight becomes 0, to first order (SNIP, Lee et al. 2019).
    WeightGradient,
}

impl Score {
    const ALL: [(Score, &str); 3] = [
        (Score::Gradient, "gradient"),
        (Score::SquaredGradient, "squared-gradient"),
        (Score::WeightGradient, "weight-gradient"),
    ];

    fn name(self) -> &'static str {
        Score::ALL.iter().find(|(score, _)| *score == self).map_or("", |(_, name)| name)
    }

    /// The score with this weight and gradient.
    pub(crate) fn of(self, weight: f32, gradient: f32) -> f64 {
        let (weight, gradient) = (f64::from(weight), f64::from(gradient));
        match self {
            Score::Gradient => gradient.abs(),
            Score::SquaredGradient => gradient * gradient,
            Score::WeightGradient => (weight * gradient).abs(),
        }
    }
}

/// What [`Kind::Top`] ranks elements by.
#[derive(Clone, Debug, PartialEq)]
enum Criterion {
    Score(Score),
    /// The distance of the weight from that in a file.
    Moved(PathBuf),
}

#[derive(Clone, Debug, PartialEq)]
enum Kind {
    All,
    None,
    Random(Amount),
    Smallest(Amount),
    Largest(Amount),
    /// All candidates but these of largest score.
    Top(Amount, Criterion),
    NOfM(usize, usize),
    Channels(ChannelAxis, Channels),
    Position(usize, usize),
    Block(Vec<Range<usize>>),
    Equal(f32),
    File(PathBuf, String),
    Mask(Mask),
}

impl FreezeRule {
    /// The forms that [`FromStr`] parses.
    pub const SYNTAX: &str = "all, none, random:FRACTION, smallest:FRACTION, largest:FRACTION, \
        smallest-global:FRACTION, largest-global:FRACTION (append :trainable to select among trainable elements only), \
        top-score:FRACTION, top-score:FRACTION:gradient|squared-gradient|weight-gradient, top-moved:FRACTION:FILE \
        (all but the FRACTION of largest score; top-score-global, top-moved-global), \
        n-of-m:N:M, filters:FRACTION or filters:FRACTION:l1|l2|random or filters:at:I,J, input-channels: likewise, \
        position:Y,X, block:A..B,A..B (one range for each axis), equal:VALUE or file:PATH:TENSOR; \
        a FRACTION is from 0 to 1";

    fn new(kind: Kind) -> Self {
        FreezeRule { kind, seed: 0, candidates: Candidates::All, global: false, scores: None }
    }

    /// Selects every element.
    pub fn all() -> Self {
        Self::new(Kind::All)
    }

    /// Selects no element.
    pub fn none() -> Self {
        Self::new(Kind::None)
    }

    /// Selects this fraction of the elements (rounded to the nearest count) at random, without replacement.
    pub fn random(fraction: f64) -> Self {
        Self::new(Kind::Random(Amount::Fraction(fraction)))
    }

    /// Selects this fraction of the elements (rounded to the nearest count): those of smallest magnitude.
    pub fn smallest(fraction: f64) -> Self {
        Self::new(Kind::Smallest(Amount::Fraction(fraction)))
    }

    /// Selects this fraction of the elements (rounded to the nearest count): those of largest magnitude.
    pub fn largest(fraction: f64) -> Self {
        Self::new(Kind::Largest(Amount::Fraction(fraction)))
    }

    /// Selects all but this fraction of the elements (rounded to the nearest count), so that those of largest
    /// accumulated score train. The scores are those of [`Trainer::scores`](crate::Trainer::scores), given by
    /// [`FreezeRule::scores_by_path`].
    pub fn top_score(fraction: f64, score: Score) -> Self {
        Self::new(Kind::Top(Amount::Fraction(fraction), Criterion::Score(score)))
    }

    /// Selects all but this fraction of the elements (rounded to the nearest count), so that those train whose
    /// weights differ most, `|w - w0|`, from the ones of the same path in a checkpoint (lottery-ticket sparse
    /// fine-tuning, Ansell et al. 2022). It may be the base or the fine-tuned network, while the trainer has the other.
    pub fn top_moved(fraction: f64, checkpoint: impl Into<PathBuf>) -> Self {
        Self::new(Kind::Top(Amount::Fraction(fraction), Criterion::Moved(checkpoint.into())))
    }

    /// Selects all but the `n` weights of largest magnitude of every `m` consecutive input channels (the
    /// second-to-last axis), for each position along the other axes (N:M sparsity). A shorter last group also
    /// keeps `n`.
    pub fn n_of_m(n: usize, m: usize) -> Self {
        Self::new(Kind::NOfM(n, m))
    }

    /// Selects this fraction of the filters (slices along the last axis): those of smallest L2 norm, unless
    /// [`FreezeRule::norm`] sets another criterion.
    pub fn filters(fraction: f64) -> Self {
        Self::new(Kind::Channels(ChannelAxis::Output, Channels::Fraction(fraction, Norm::L2)))
    }

    /// Selects the filters (slices along the last axis) with these indices.
    pub fn filters_at(indices: impl Into<Vec<usize>>) -> Self {
        Self::new(Kind::Channels(ChannelAxis::Output, Channels::Indices(indices.into())))
    }

    /// Selects this fraction of the input channels (slices along the second-to-last axis): those of smallest
    /// L2 norm, unless [`FreezeRule::norm`] sets another criterion.
    pub fn input_channels(fraction: f64) -> Self {
        Self::new(Kind::Channels(ChannelAxis::Input, Channels::Fraction(fraction, Norm::L2)))
    }

    /// Selects the input channels (slices along the second-to-last axis) with these indices.
    pub fn input_channels_at(indices: impl Into<Vec<usize>>) -> Self {
        Self::new(Kind::Channels(ChannelAxis::Input, Channels::Indices(indices.into())))
    }

    /// Selects one position (row, column) of a convolution kernel, in all channels.
    pub fn kernel_position(ky: usize, kx: usize) -> Self {
        Self::new(Kind::Position(ky, kx))
    }

    /// Selects a block: one index range for each axis.
    pub fn block(ranges: impl Into<Vec<Range<usize>>>) -> Self {
        Self::new(Kind::Block(ranges.into()))
    }

    /// Selects the elements that equal this value, compared by bits, except that 0.0 equals -0.0. A NaN
    /// equals NaNs with the same bits only.
    pub fn where_equal(value: f32) -> Self {
        Self::new(Kind::Equal(value))
    }

    /// Selects the elements that a mask in a safetensors, `.npz` (with the feature `npz`) or `.npy` file marks.
    ///
    /// The mask is either u8 or bool, one entry per element, non-zero = frozen, or, in a safetensors file, packed
    /// u32 words as in checkpoints (element i in bit i % 32 of word i / 32, 1 = frozen). A `*` in the tensor's
    /// name stands for the parameter's path, as in `mask.*`. A `.npy` file has one array without a name: any
    /// name selects it.
    pub fn from_file(path: impl Into<PathBuf>, tensor: impl Into<String>) -> Self {
        Self::new(Kind::File(path.into(), tensor.into()))
    }

    /// Selects the frozen elements of this mask.
    pub fn mask(mask: Mask) -> Self {
        Self::new(Kind::Mask(mask))
    }

    /// Selects exactly `count` elements instead of a fraction; for random, smallest and largest, and for top
    /// score and top moved the number of elements that train. Resolving fails if there are fewer candidates.
    pub fn count(mut self, count: usize) -> Self {
        if let Kind::Random(amount) | Kind::Smallest(amount) | Kind::Largest(amount) | Kind::Top(amount, _) =
            &mut self.kind
        {
            *amount = Amount::Count(count);
        }
        self
    }

    /// Ranks the elements of all tensors together instead of each tensor separately; for smallest, largest, top
    /// score and top moved.
    pub fn global(mut self) -> Self {
        self.global = true;
        self
    }

    /// Counts and selects trainable elements only; for random, smallest, largest, top score and top moved.
    pub fn among_trainable(mut self) -> Self {
        self.candidates = Candidates::Trainable;
        self
    }

    /// Counts and selects frozen elements only, as for regrowing weights; for random, smallest and largest.
    pub fn among_frozen(mut self) -> Self {
        self.candidates = Candidates::Frozen;
        self
    }

    /// Ranks by the magnitudes of these values, such as gradients, instead of those of the weights; for
    /// smallest and largest of a single tensor, one score per element.
    pub fn scores(mut self, scores: impl Into<Vec<f32>>) -> Self {
        self.scores = Some(Scores::One(scores.into()));
        self
    }

    /// Ranks by the magnitudes of these values of parameters, by path, instead of those of the weights; for
    /// smallest, largest and top score. See [`Trainer::scores`](crate::Trainer::scores).
    pub fn scores_by_path(mut self, scores: impl Into<Vec<(String, Vec<f32>)>>) -> Self {
        self.scores = Some(Scores::ByPath(scores.into()));
        self
    }

    /// The score that the rule ranks elements by and that it lacks: to be accumulated by
    /// [`Trainer::scores`](crate::Trainer::scores) and given by [`FreezeRule::scores_by_path`].
    pub fn needs_scores(&self) -> Option<Score> {
        match self.kind {
            Kind::Top(_, Criterion::Score(score)) if self.scores.is_none() => Some(score),
            _ => None,
        }
    }

    /// Sets the criterion by which a fraction of filters or input channels is selected ([`Norm::L2`] unless
    /// set).
    pub fn norm(mut self, norm: Norm) -> Self {
        if let Kind::Channels(_, Channels::Fraction(_, current)) = &mut self.kind {
            *current = norm;
        }
        self
    }

    /// Sets the seed of random rules (0 unless set).
    pub fn seed(mut self, seed: u64) -> Self {
        self.seed = seed;
        self
    }

    /// Whether [`FreezeRule::resolve_all`] needs the weights' bits.
    pub fn needs_weights(&self) -> bool {
        match &self.kind {
            Kind::Smallest(_) | Kind::Largest(_) => self.scores.is_none(),
            Kind::Top(_, Criterion::Moved(_)) => true,
            Kind::Channels(_, Channels::Fraction(_, norm)) => *norm != Norm::Random,
            Kind::NOfM(..) | Kind::Equal(_) => true,
            _ => false,
        }
    }

    fn validate(&self) -> Result<()> {
        let invalid = |expected: &str, got: String| Err(Error::argument("FreezeRule", expected, got));
        match &self.kind {
            Kind::Random(Amount::Fraction(f))
            | Kind::Smallest(Amount::Fraction(f))
            | Kind::Largest(Amount::Fraction(f))
            | Kind::Top(Amount::Fraction(f), _)
            | Kind::Channels(_, Channels::Fraction(f, _))
                if !(0.0..=1.0).contains(f) =>
            {
                return invalid("a fraction from 0 to 1", f.to_string());
            }
            Kind::NOfM(n, m) if *m == 0 || n > m => {
                return invalid("n of m with n at most m and m above 0", format!("{n} of {m}"));
            }
            _ => {}
        }
        let ranks = matches!(self.kind, Kind::Smallest(_) | Kind::Largest(_) | Kind::Top(..));
        if self.global && !ranks {
            return invalid("global with smallest, largest, top score or top moved only", self.to_string());
        }
        let moved = matches!(self.kind, Kind::Top(_, Criterion::Moved(_)));
        if self.scores.is_some() && (!ranks || moved) {
            return invalid("scores with smallest, largest or top score only", self.to_string());
        }
        if matches!(self.scores, Some(Scores::One(_))) && self.global {
            return invalid("scores_by_path for several tensors", self.to_string());
        }
        if self.candidates != Candidates::All && !ranks && !matches!(self.kind, Kind::Random(_)) {
            let expected =
                "among_trainable or among_frozen with random, smallest, largest, top score or top moved only";
            return invalid(expected, self.to_string());
        }
        Ok(())
    }

    /// Resolves the rule for one tensor of `len` elements, none of them frozen. Only for rules that do not
    /// depend on weights.
    ///
    /// Random rules combine the seed with the path, so that two tensors of one size get different random
    /// masks.
    ///
    /// # Errors
    /// As [`FreezeRule::resolve_all`].
    pub fn resolve(&self, path: &str, len: usize) -> Result<Mask> {
        let frozen = Mask::none(len)?;
        let view = TensorView { path, shape: &[len], bits: None, frozen: &frozen };
        Ok(self.resolve_all(&[view])?.pop().unwrap_or(frozen))
    }

    /// Resolves the rule to one mask for each tensor, in their order.
    ///
    /// # Errors
    /// - [`Error::InvalidArgument`] if a number is out of range, there are fewer candidates than the count,
    ///   or the rule needs weights and a view has none;
    /// - [`Error::ShapeMismatch`] if a tensor lacks the axes that the rule names, or has more than
    ///   [`MAX_ELEMENTS`] elements;
    /// - [`Error::MaskMismatch`] if a mask has another length than its tensor;
    /// - [`Error::HostMemory`] if there is not enough host memory;
    /// - [`Error::Io`], [`Error::Checkpoint`] and [`Error::Data`] if a file cannot be read, or has no such mask.
    pub fn resolve_all(&self, views: &[TensorView]) -> Result<Vec<Mask>> {
        self.validate()?;
        for view in views {
            let len = view.elements();
            if len > MAX_ELEMENTS {
                let expected = format!("a shape of at most {MAX_ELEMENTS} elements");
                return Err(Error::shape(view.path, expected, format!("{:?}", view.shape)));
            }
            if view.frozen.len() != len {
                let (path, got) = (view.path.to_owned(), view.frozen.len());
                return Err(Error::MaskMismatch { path, expected: len, got });
            }
            if let Some(bits) = view.bits
                && bits.len() != len
            {
                return Err(Error::shape(view.path, format!("{len} weights"), bits.len()));
            }
        }
        match &self.kind {
            Kind::Smallest(amount) | Kind::Largest(amount) | Kind::Top(amount, _) => {
                let largest = !matches!(self.kind, Kind::Smallest(_));
                let scores = self.ranked_scores(views)?;
                let select = |views: &[TensorView], scores: Option<&[Vec<f32>]>| {
                    select::by_magnitude(views, *amount, largest, self.candidates, scores)
                };
                let selected = if self.global {
                    select(views, scores.as_deref())?
                } else {
                    let one = |index: usize| scores.as_deref().map(|all| &all[index..=index]);
                    let each = views.iter().enumerate().map(|(index, view)| select(&[*view], one(index)));
                    each.collect::<Result<Vec<_>>>()?.concat()
                };
                if !matches!(self.kind, Kind::Top(..)) {
                    return Ok(selected);
                }
                let others = |(view, top): (&TensorView, Mask)| self.candidates.of(view)?.difference(&top);
                views.iter().zip(selected).map(others).collect()
            }
            _ => views.iter().map(|view| self.resolve_one(view)).collect(),
        }
    }

    /// Returns the values by which the elements of each tensor are ranked; `None` for the weights.
    fn ranked_scores(&self, views: &[TensorView]) -> Result<Option<Vec<Vec<f32>>>> {
        if let Kind::Top(_, Criterion::Moved(path)) = &self.kind {
            return select::distances(views, path).map(Some);
        }
        match &self.scores {
            None if self.needs_scores().is_some() => {
                let expected = "scores; accumulate them by Trainer::scores and give them by scores_by_path";
                Err(Error::argument("FreezeRule::top_score", expected, "none"))
            }
            None => Ok(None),
            Some(Scores::One(scores)) => match views {
                [_] => Ok(Some(vec![scores.clone()])),
                _ => {
                    let expected = "one tensor; use a glob that matches one parameter, and a rule for each";
                    Err(Error::argument("FreezeRule::scores", expected, views.len()))
                }
            },
            Some(Scores::ByPath(all)) => {
                let of = |view: &TensorView| {
                    let found = all.iter().find(|(path, _)| path == view.path);
                    found.map(|(_, scores)| scores.clone()).ok_or_else(|| {
                        let paths: Vec<_> = all.iter().map(|(path, _)| path.as_str()).take(8).collect();
                        let expected = format!("scores of {}", view.path);
                        Error::argument("FreezeRule::scores_by_path", expected, format!("those of {paths:?}"))
                    })
                };
                views.iter().map(of).collect::<Result<Vec<_>>>().map(Some)
            }
        }
    }

    fn resolve_one(&self, view: &TensorView) -> Result<Mask> {
        let len = view.elements();
        match &self.kind {
            Kind::All => Mask::all(len),
            Kind::Random(amount) => select::random(view, *amount, self.candidates, self.seed),
            Kind::NOfM(n, m) => select::n_of_m(view, *n, *m),
            Kind::Channels(axis, channels) => select::channels(view, *axis, channels, self.seed),
            Kind::Position(ky, kx) => select::kernel_position(view, *ky, *kx),
            Kind::Block(ranges) => select::block(view, ranges),
            Kind::Equal(value) => select::equal(view, *value),
            Kind::File(path, tensor) => select::from_file(view, path, &tensor.replace('*', view.path)),
            Kind::Mask(mask) if mask.len() == len => Ok(mask.clone()),
            Kind::Mask(mask) => {
                Err(Error::MaskMismatch { path: view.path.to_owned(), expected: len, got: mask.len() })
            }
            // Those that rank elements are resolved over all tensors together, in `resolve_all`.
            Kind::None | Kind::Smallest(_) | Kind::Largest(_) | Kind::Top(..) => Mask::none(len),
        }
    }
}

impl FromStr for FreezeRule {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let rule = parse(text).filter(|rule| rule.validate().is_ok());
        rule.ok_or_else(|| Error::argument("freeze rule", Self::SYNTAX, text))
    }
}

fn parse(text: &str) -> Option<FreezeRule> {
    let Some((name, rest)) = text.split_once(':') else {
        return match text {
            "all" => Some(FreezeRule::all()),
            "none" => Some(FreezeRule::none()),
            _ => None,
        };
    };
    match name {
        "n-of-m" => {
            let (n, m) = rest.split_once(':')?;
            Some(FreezeRule::n_of_m(n.parse().ok()?, m.parse().ok()?))
        }
        "filters" => parse_channels(rest, FreezeRule::filters, FreezeRule::filters_at),
        "input-channels" => parse_channels(rest, FreezeRule::input_channels, FreezeRule::input_channels_at),
        "position" => {
            let (y, x) = rest.split_once(',')?;
            Some(FreezeRule::kernel_position(y.parse().ok()?, x.parse().ok()?))
        }
        "block" => {
            let ranges: Option<Vec<Range<usize>>> = rest.split(',').map(parse_range).collect();
            Some(FreezeRule::block(ranges?))
        }
        "equal" => Some(FreezeRule::where_equal(rest.parse().ok()?)),
        // Split at the last colon, because a Windows path contains one too.
        "file" => {
            let (path, tensor) = rest.rsplit_once(':')?;
            Some(FreezeRule::from_file(path, tensor)).filter(|_| !path.is_empty() && !tensor.is_empty())
        }
        "top-moved" | "top-moved-global" => {
            let (number, file) = rest.split_once(':').filter(|(_, file)| !file.is_empty())?;
            let rule = FreezeRule::top_moved(number.parse().ok()?, file);
            Some(if name == "top-moved" { rule } else { rule.global() })
        }
        _ => parse_fraction(name, rest),
    }
}

fn parse_fraction(name: &str, rest: &str) -> Option<FreezeRule> {
    let (number, trainable) = match rest.strip_suffix(":trainable") {
        Some(number) => (number, true),
        None => (rest, false),
    };
    let (number, score) = match number.split_once(':') {
        Some((number, score)) if name.starts_with("top-score") => {
            (number, Score::ALL.iter().find(|(_, name)| *name == score)?.0)
        }
        _ => (number, Score::Gradient),
    };
    let fraction = number.parse().ok()?;
    let rule = match name {
        "top-score" => FreezeRule::top_score(fraction, score),
        "top-score-global" => FreezeRule::top_score(fraction, score).global(),
        "random" => FreezeRule::random(fraction),
        "smallest" => FreezeRule::smallest(fraction),
        "largest" => FreezeRule::largest(fraction),
        "smallest-global" => FreezeRule::smallest(fraction).global(),
        "largest-global" => FreezeRule::largest(fraction).global(),
        _ => return None,
    };
    Some(if trainable { rule.among_trainable() } else { rule })
}

fn parse_channels(
    rest: &str,
    by_fraction: impl Fn(f64) -> FreezeRule,
    at: impl Fn(Vec<usize>) -> FreezeRule,
) -> Option<FreezeRule> {
    if let Some(list) = rest.strip_prefix("at:") {
        let indices: Option<Vec<usize>> = list.split(',').map(|i| i.parse().ok()).collect();
        return Some(at(indices?));
    }
    let (number, norm) = match rest.split_once(':') {
        None => (rest, Norm::L2),
        Some((number, "l1")) => (number, Norm::L1),
        Some((number, "l2")) => (number, Norm::L2),
        Some((number, "random")) => (number, Norm::Random),
        Some(_) => return None,
    };
    Some(by_fraction(number.parse().ok()?).norm(norm))
}

fn parse_range(text: &str) -> Option<Range<usize>> {
    let (start, end) = text.split_once("..")?;
    Some(start.parse().ok()?..end.parse().ok()?)
}

impl fmt::Display for FreezeRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let global = if self.global { "-global" } else { "" };
        match &self.kind {
            Kind::All => write!(f, "all")?,
            Kind::None => write!(f, "none")?,
            Kind::Random(amount) => write!(f, "random{global}:{amount}")?,
            Kind::Smallest(amount) => write!(f, "smallest{global}:{amount}")?,
            Kind::Largest(amount) => write!(f, "largest{global}:{amount}")?,
            Kind::Top(amount, Criterion::Score(score)) => {
                write!(f, "top-score{global}:{amount}:{}", score.name())?;
            }
            Kind::Top(amount, Criterion::Moved(path)) => {
                write!(f, "top-moved{global}:{amount}:{}", path.display())?;
            }
            Kind::NOfM(n, m) => write!(f, "n-of-m:{n}:{m}")?,
            Kind::Channels(axis, channels) => {
                f.write_str(match axis {
                    ChannelAxis::Output => "filters",
                    ChannelAxis::Input => "input-channels",
                })?;
                match channels {
                    Channels::Fraction(fraction, Norm::L2) => write!(f, ":{fraction}")?,
                    Channels::Fraction(fraction, Norm::L1) => write!(f, ":{fraction}:l1")?,
                    Channels::Fraction(fraction, Norm::Random) => write!(f, ":{fraction}:random")?,
                    Channels::Indices(indices) => write!(f, ":at:{}", comma_separated(indices))?,
                }
            }
            Kind::Position(ky, kx) => write!(f, "position:{ky},{kx}")?,
            Kind::Block(ranges) => {
                let ranges: Vec<_> = ranges.iter().map(|r| format!("{}..{}", r.start, r.end)).collect();
                write!(f, "block:{}", ranges.join(","))?;
            }
            Kind::Equal(value) => write!(f, "equal:{value}")?,
            Kind::File(path, tensor) => write!(f, "file:{}:{tensor}", path.display())?,
            Kind::Mask(mask) => write!(f, "mask:{} of {}", mask.frozen_count(), mask.len())?,
        }
        match self.candidates {
            Candidates::All => {}
            Candidates::Trainable => write!(f, ":trainable")?,
            Candidates::Frozen => write!(f, ":frozen")?,
        }
        if self.scores.is_some() { write!(f, ":scores") } else { Ok(()) }
    }
}

fn comma_separated(indices: &[usize]) -> String {
    indices.iter().map(usize::to_string).collect::<Vec<_>>().join(",")
}
