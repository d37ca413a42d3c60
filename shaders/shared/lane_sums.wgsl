// Sums of one Element of each invocation of a workgroup over the lanes of a column: p.columns (a power of 2) is
// the number of columns, and invocation i has column i % p.columns. The order of the tree is fixed.

var<workgroup> lane_sums: array<Element, WORKGROUP>;

// Lanes of a column.
fn lanes() -> u32 {
    return WORKGROUP / p.columns;
}

// Returns the sum of `value` over the lanes of the invocation's column.
fn sum_of_lanes(local: u32, value: Element) -> Element {
    // Invocations may still read the sums of an earlier call.
    workgroupBarrier();
    lane_sums[local] = value;
    for (var stride = WORKGROUP / 2u; stride >= p.columns; stride /= 2u) {
        workgroupBarrier();
        if (local < stride) {
            lane_sums[local] += lane_sums[local + stride];
        }
    }
    workgroupBarrier();
    return lane_sums[local % p.columns];
}
