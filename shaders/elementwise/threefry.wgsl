// Threefry-2x32 with 20 rounds (Salmon et al. 2011), vectorized over four counters; same generator as
// rng::threefry.
struct ThreefryState {
    a: vec4<u32>,
    b: vec4<u32>,
}

fn threefry_round(s: ThreefryState, left: u32) -> ThreefryState {
    let a = s.a + s.b;
    let rotated = (s.b << vec4<u32>(left)) | (s.b >> vec4<u32>(32u - left));
    return ThreefryState(a, rotated ^ a);
}

fn threefry_even(s: ThreefryState) -> ThreefryState {
    return threefry_round(threefry_round(threefry_round(threefry_round(s, 13u), 15u), 26u), 6u);
}

fn threefry_odd(s: ThreefryState) -> ThreefryState {
    return threefry_round(threefry_round(threefry_round(threefry_round(s, 17u), 29u), 16u), 24u);
}

fn threefry_inject(s: ThreefryState, a: u32, b: u32) -> ThreefryState {
    return ThreefryState(s.a + vec4<u32>(a), s.b + vec4<u32>(b));
}

// Returns the first output word for each of four 64-bit counters; `low` and `high` are the words of a
// counter.
fn threefry_first(key: vec2<u32>, low: vec4<u32>, high: u32) -> vec4<u32> {
    let parity = 0x1bd11bdau ^ key.x ^ key.y;
    var s = threefry_inject(ThreefryState(low, vec4<u32>(high)), key.x, key.y);
    s = threefry_inject(threefry_even(s), key.y, parity + 1u);
    s = threefry_inject(threefry_odd(s), parity, key.x + 2u);
    s = threefry_inject(threefry_even(s), key.x, key.y + 3u);
    s = threefry_inject(threefry_odd(s), key.y, parity + 4u);
    s = threefry_inject(threefry_even(s), parity, key.x + 5u);
    return s.a;
}
