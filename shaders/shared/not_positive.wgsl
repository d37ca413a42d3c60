// Returns x <= 0 for each component, and false for NaN. Compares bits, like at_most_zero in shared/bits.wgsl.
fn not_positive(x: Element) -> Flags {
    let bits = bitcast<Words>(x);
    return (bits - Words(0x80000000u) <= Words(0x7f800000u)) | (bits == Words(0u));
}
