//! Rules as text.

use super::FreezeRule;
use super::slices::Norm;
use crate::error::{Error, Result};
use std::ops::Range;

/// What [`FreezeRule::parse`] reads.
pub const FORMS: &str = "all, none, random:FRACTION, smallest:FRACTION, largest:FRACTION, smallest-global:FRACTION, \
    largest-global:FRACTION (each with :trainable at its end to count trainable elements only, random too), n-of-m:N:M, \
    filters:FRACTION or filters:FRACTION:l1|l2|random or filters:at:I,J, input-channels: likewise, position:Y,X, \
    block:A..B,A..B (a range an axis), equal:VALUE or file:PATH:TENSOR; a FRACTION is from 0 to 1";

impl FreezeRule {
    /// Reads a rule from one of the forms in [`FORMS`].
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] with the forms for anything else.
    pub fn parse(text: &str) -> Result<Self> {
        let rule = read(text).filter(|rule| rule.check().is_ok());
        rule.ok_or_else(|| Error::argument("freeze rule", FORMS, text))
    }
}

fn read(text: &str) -> Option<FreezeRule> {
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
        "filters" => slices(rest, FreezeRule::filters, FreezeRule::filters_at),
        "input-channels" => slices(rest, FreezeRule::input_channels, FreezeRule::input_channels_at),
        "position" => {
            let (y, x) = rest.split_once(',')?;
            Some(FreezeRule::kernel_position(y.parse().ok()?, x.parse().ok()?))
        }
        "block" => {
            let ranges: Option<Vec<Range<usize>>> = rest.split(',').map(range).collect();
            Some(FreezeRule::block(ranges?))
        }
        "equal" => Some(FreezeRule::where_equal(rest.parse().ok()?)),
        // From the right, for a path may hold a colon.
        "file" => {
            let (path, tensor) = rest.rsplit_once(':')?;
            Some(FreezeRule::from_file(path, tensor)).filter(|_| !path.is_empty() && !tensor.is_empty())
        }
        _ => chosen(name, rest),
    }
}

fn chosen(name: &str, rest: &str) -> Option<FreezeRule> {
    let (number, trainable) = match rest.strip_suffix(":trainable") {
        Some(number) => (number, true),
        None => (rest, false),
    };
    let fraction = number.parse().ok()?;
    let rule = match name {
        "random" => FreezeRule::random(fraction),
        "smallest" => FreezeRule::smallest(fraction),
        "largest" => FreezeRule::largest(fraction),
        "smallest-global" => FreezeRule::smallest(fraction).global(),
        "largest-global" => FreezeRule::largest(fraction).global(),
        _ => return None,
    };
    Some(if trainable { rule.among_trainable() } else { rule })
}

fn slices(
    rest: &str,
    fraction: impl Fn(f64) -> FreezeRule,
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
    Some(fraction(number.parse().ok()?).norm(norm))
}

fn range(text: &str) -> Option<Range<usize>> {
    let (start, end) = text.split_once("..")?;
    Some(start.parse().ok()?..end.parse().ok()?)
}
