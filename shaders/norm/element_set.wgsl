// Sets of elements of an example that are normalized together: a group of channels at one position, or at all. Set s
// of an example has the channels of group s % p.groups at p.positions positions from s / p.groups * p.positions on.
// uses: scalars

// Elements of the set with this index among those of the batch; 0 if its example is not valid.
fn valid_length(index: u32) -> u32 {
    return select(0u, p.length, index < valid_count(p.sets, p.sets_per_example, 0u));
}

// Index of the first element. Examples follow each other, and so do their positions.
fn first_element(index: u32) -> u32 {
    return index / p.groups * p.positions * p.channels + index % p.groups * p.group_channels;
}

// Offset of element i of a set from the first.
fn offset_of(i: u32) -> u32 {
    return i / p.group_channels * p.channels + i % p.group_channels;
}
