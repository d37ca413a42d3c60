//! Which tensors may share memory: those whose lives do not overlap.

/// A tensor's life: from the step that writes it to the last that reads it, both included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Life {
    pub bytes: u64,
    pub first: usize,
    pub last: usize,
}

/// The slot of each tensor, and the bytes of each slot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Slots {
    pub of: Vec<usize>,
    pub bytes: Vec<u64>,
}

/// Largest first, each into the first slot that is free for its whole life. Two tensors of one dispatch overlap, so
/// they never share: wgpu refuses a buffer bound both for reading and for writing.
pub(super) fn share(lives: &[Life]) -> Slots {
    let mut order: Vec<usize> = (0..lives.len()).collect();
    order.sort_by_key(|&i| (std::cmp::Reverse(lives[i].bytes), lives[i].first, i));
    let mut slots = Slots { of: vec![0; lives.len()], bytes: Vec::new() };
    let mut tenants: Vec<Vec<usize>> = Vec::new();
    for index in order {
        let life = lives[index];
        let free = |tenants: &Vec<usize>| {
            tenants.iter().all(|&t| lives[t].last < life.first || life.last < lives[t].first)
        };
        let slot = tenants.iter().position(free).unwrap_or_else(|| {
            tenants.push(Vec::new());
            slots.bytes.push(life.bytes);
            tenants.len() - 1
        });
        tenants[slot].push(index);
        slots.of[index] = slot;
    }
    slots
}

/// A slot for each.
pub(super) fn separate(lives: &[Life]) -> Slots {
    Slots { of: (0..lives.len()).collect(), bytes: lives.iter().map(|l| l.bytes).collect() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::{Purpose, Stream};

    #[test]
    fn slots_never_overlap_in_time_and_hold_their_tensors() {
        let mut rng = Stream::new(5, Purpose::Data, 0);
        for _ in 0..200 {
            let lives: Vec<_> = (0..rng.below(40))
                .map(|_| {
                    let first = rng.below(30);
                    Life { bytes: 16 * (1 + rng.below(20) as u64), first, last: first + rng.below(10) }
                })
                .collect();
            let slots = share(&lives);
            for i in 0..lives.len() {
                assert!(slots.bytes[slots.of[i]] >= lives[i].bytes);
                for j in 0..i {
                    let overlap = lives[i].first <= lives[j].last && lives[j].first <= lives[i].last;
                    assert!(!(overlap && slots.of[i] == slots.of[j]), "{:?} and {:?}", lives[i], lives[j]);
                }
            }
        }
    }

    #[test]
    fn a_chain_needs_two_slots() {
        let lives: Vec<_> = (0..10).map(|i| Life { bytes: 64, first: i, last: i + 1 }).collect();
        assert_eq!(share(&lives).bytes, [64, 64]);
        assert_eq!(separate(&lives).bytes.len(), 10);
    }
}
