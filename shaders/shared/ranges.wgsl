// Ranges of an arena that one dispatch covers. Params ends with their number, p.ranges, and p.table: two vectors
// for each range in the order of their workgroups, of which the first begins with the range's first workgroup.

// Returns the index of the range that a workgroup belongs to, by binary search.
fn range_of(workgroup: u32) -> u32 {
    var first = 0u;
    var end = p.ranges;
    while (end - first > 1u) {
        let middle = (first + end) / 2u;
        if (p.table[2u * middle].x <= workgroup) {
            first = middle;
        } else {
            end = middle;
        }
    }
    return first;
}
