//! Assigns tensors to memory slots: tensors whose lifetimes do not overlap may share one.

use std::collections::BTreeMap;

/// Size of a tensor, and the first and the last dispatch that bind it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Lifetime {
    pub bytes: u64,
    pub first: usize,
    pub last: usize,
}

/// The slot (index of a buffer) of each tensor, and the size of each slot in bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Slots {
    pub of: Vec<usize>,
    pub bytes: Vec<u64>,
}

/// Assigns the largest tensors first, each to the first slot that is free during its lifetime. Two tensors of
/// one dispatch overlap and never share a slot: wgpu rejects a buffer bound both for reading and for writing.
pub(super) fn share(lifetimes: &[Lifetime]) -> Slots {
    let mut order: Vec<usize> = (0..lifetimes.len()).collect();
    order.sort_by_key(|&i| (std::cmp::Reverse(lifetimes[i].bytes), lifetimes[i].first, i));
    let mut slots = Slots { of: vec![0; lifetimes.len()], bytes: Vec::new() };
    // The lifetimes in each slot, from first to last dispatch. They do not overlap, so that one look-up tells
    // whether a slot is free: a plan may have hundreds of thousands of tensors.
    let mut occupants: Vec<BTreeMap<usize, usize>> = Vec::new();
    for index in order {
        let lifetime = lifetimes[index];
        let free = |occupants: &BTreeMap<usize, usize>| {
            let before = occupants.range(..=lifetime.last).next_back();
            before.is_none_or(|(_, &last)| last < lifetime.first)
        };
        let slot = occupants.iter().position(free).unwrap_or_else(|| {
            occupants.push(BTreeMap::new());
            slots.bytes.push(lifetime.bytes);
            occupants.len() - 1
        });
        occupants[slot].insert(lifetime.first, lifetime.last);
        slots.of[index] = slot;
    }
    slots
}

/// Assigns each tensor a separate slot.
pub(super) fn separate(lifetimes: &[Lifetime]) -> Slots {
    Slots { of: (0..lifetimes.len()).collect(), bytes: lifetimes.iter().map(|l| l.bytes).collect() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::{Purpose, Stream};

    #[test]
    fn tensors_that_share_a_slot_fit_it_and_never_overlap_in_time() {
        let mut rng = Stream::new(5, Purpose::Data, 0);
        for _ in 0..200 {
            let lifetimes: Vec<_> = (0..rng.below(40))
                .map(|_| {
                    let first = rng.below(30);
                    Lifetime { bytes: 16 * (1 + rng.below(20) as u64), first, last: first + rng.below(10) }
                })
                .collect();
            let slots = share(&lifetimes);
            for i in 0..lifetimes.len() {
                assert!(slots.bytes[slots.of[i]] >= lifetimes[i].bytes);
                for j in 0..i {
                    let overlap =
                        lifetimes[i].first <= lifetimes[j].last && lifetimes[j].first <= lifetimes[i].last;
                    assert!(
                        !(overlap && slots.of[i] == slots.of[j]),
                        "{:?} and {:?}",
                        lifetimes[i],
                        lifetimes[j]
                    );
                }
            }
        }
    }

    /// With a search among all tensors of a slot, this took minutes.
    #[test]
    fn many_short_lifetimes_are_assigned_in_little_time() {
        let begun = std::time::Instant::now();
        let lifetimes: Vec<_> =
            (0..400_000).map(|i| Lifetime { bytes: 64, first: i / 2, last: i / 2 }).collect();
        assert_eq!(share(&lifetimes).bytes, [64, 64]);
        assert!(begun.elapsed().as_secs() < 20, "{:?}", begun.elapsed());
    }

    #[test]
    fn a_chain_needs_two_slots() {
        let lifetimes: Vec<_> = (0..10).map(|i| Lifetime { bytes: 64, first: i, last: i + 1 }).collect();
        assert_eq!(share(&lifetimes).bytes, [64, 64]);
        assert_eq!(separate(&lifetimes).bytes.len(), 10);
    }
}
