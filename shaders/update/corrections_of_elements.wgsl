// Adam's bias corrections where elements missed steps, because they were frozen: 1 - beta^n for each
// element, where n is the number of steps in which it was trained, including this one. They are combined
// from the powers 1 - beta^(2^k) in Params by 1 - a*b = (1 - a) + (1 - b)*(1 - (1 - a)): a sum of
// non-negative terms, without the cancellation of 1 - pow(beta, n).
// uses: scalars

@group(0) @binding(13) var<storage, read> missed_steps: array<vec4<u32>>;

struct Corrections {
    first: vec4<f32>,
    second: vec4<f32>,
}

// Multiplies the power in `correction` by another one where the lowest bit of n is 1.
fn combined(correction: vec4<f32>, power: f32, n: vec4<u32>) -> vec4<f32> {
    let has_power = (n & vec4<u32>(1u)) != vec4<u32>(0u);
    return select(correction, correction + power * (vec4<f32>(1.0) - correction), has_power);
}

fn corrections(index: u32) -> Corrections {
    let missed = missed_steps[index];
    // At most 2^24 - 1, because there are 24 powers.
    var n = min(vec4<u32>(scalars.step) - missed, vec4<u32>(0xfffffeu)) + vec4<u32>(1u);
    var first = vec4<f32>(0.0);
    var second = vec4<f32>(0.0);
    for (var pair = 0u; pair < 12u; pair++) {
        let powers = p.powers[pair];
        first = combined(first, powers.x, n);
        second = combined(second, powers.y, n);
        n = n >> vec4<u32>(1u);
        first = combined(first, powers.z, n);
        second = combined(second, powers.w, n);
        n = n >> vec4<u32>(1u);
    }
    // An element that missed no step has the same bits as in a plan without missed steps.
    let missed_none = missed == vec4<u32>(0u);
    first = select(first, vec4<f32>(scalars.correction1), missed_none);
    second = select(second, vec4<f32>(scalars.correction2), missed_none);
    return Corrections(first, second);
}
