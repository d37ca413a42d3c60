//! Rules that say which elements to freeze.

use super::Mask;
use crate::error::{Error, Result};
use crate::rng::{Purpose, Stream};

/// Which elements of a tensor to freeze. A rule becomes a [`Mask`] for each parameter that a path names.
#[derive(Clone, Debug, PartialEq)]
pub struct FreezeRule {
    kind: Kind,
    seed: u64,
}

#[derive(Clone, Debug, PartialEq)]
enum Kind {
    All,
    None,
    Random(f64),
    Exactly(Mask),
}

impl FreezeRule {
    fn of(kind: Kind) -> Self {
        FreezeRule { kind, seed: 0 }
    }

    /// Every element.
    pub fn all() -> Self {
        Self::of(Kind::All)
    }

    /// No element.
    pub fn none() -> Self {
        Self::of(Kind::None)
    }

    /// This fraction of the elements, exactly (rounded to the nearest count), drawn without replacement.
    pub fn random(fraction: f64) -> Self {
        Self::of(Kind::Random(fraction))
    }

    /// The elements of this mask.
    pub fn mask(mask: Mask) -> Self {
        Self::of(Kind::Exactly(mask))
    }

    /// Sets the seed of random rules (0 unless set).
    pub fn seed(mut self, seed: u64) -> Self {
        self.seed = seed;
        self
    }

    /// Reads `all`, `none` or `random:FRACTION`.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] for anything else.
    pub fn parse(text: &str) -> Result<Self> {
        let unknown = || {
            Error::argument("freeze rule", "all, none or random:FRACTION with a fraction from 0 to 1", text)
        };
        let rule = match text.split_once(':') {
            None if text == "all" => Self::all(),
            None if text == "none" => Self::none(),
            Some(("random", fraction)) => Self::random(fraction.parse().map_err(|_| unknown())?),
            _ => return Err(unknown()),
        };
        rule.check().map_err(|_| unknown())?;
        Ok(rule)
    }

    fn check(&self) -> Result<()> {
        match self.kind {
            Kind::Random(f) if !(0.0..=1.0).contains(&f) => {
                Err(Error::argument("FreezeRule::random", "a fraction from 0 to 1", f))
            }
            _ => Ok(()),
        }
    }

    /// The mask for the tensor at `path` with `len` elements. The path takes part in the seed, so that two tensors
    /// of one size get different masks.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] for a fraction outside 0 to 1, [`Error::MaskMismatch`] for a mask of another length.
    pub fn resolve(&self, path: &str, len: usize) -> Result<Mask> {
        self.check()?;
        match &self.kind {
            Kind::All => Ok(Mask::all(len)),
            Kind::None => Ok(Mask::none(len)),
            Kind::Random(fraction) => {
                let count = (fraction * len as f64).round() as usize;
                let mut order: Vec<usize> = (0..len).collect();
                Stream::new(self.seed, Purpose::Mask, path_number(path)).shuffle(&mut order);
                let mut frozen = vec![false; len];
                order.iter().take(count).for_each(|&i| frozen[i] = true);
                Ok(Mask::from_frozen(frozen))
            }
            Kind::Exactly(mask) if mask.len() == len => Ok(mask.clone()),
            Kind::Exactly(mask) => {
                Err(Error::MaskMismatch { path: path.to_owned(), expected: len, got: mask.len() })
            }
        }
    }
}

/// FNV-1a, to tell tensors apart in a seed.
fn path_number(path: &str) -> u64 {
    path.bytes().fold(0xcbf2_9ce4_8422_2325, |h, b| (h ^ u64::from(b)).wrapping_mul(0x100_0000_01b3))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn random_freezes_the_exact_count_and_follows_seed_and_path() {
        let rule = FreezeRule::random(0.5).seed(42);
        let mask = rule.resolve("conv1.kernel", 144).unwrap();
        assert_eq!(mask.frozen_count(), 72);
        assert_eq!(mask, rule.resolve("conv1.kernel", 144).unwrap());
        assert_ne!(mask, rule.resolve("conv2.kernel", 144).unwrap());
        assert_ne!(mask, rule.clone().seed(43).resolve("conv1.kernel", 144).unwrap());
    }

    #[test]
    fn parses_or_says_why_not() {
        assert_eq!(FreezeRule::parse("random:0.5").unwrap(), FreezeRule::random(0.5));
        for bad in ["", "some", "random", "random:", "random:1.5", "random:nan", "all:1"] {
            assert!(matches!(FreezeRule::parse(bad), Err(Error::InvalidArgument { .. })), "{bad}");
        }
    }
}
