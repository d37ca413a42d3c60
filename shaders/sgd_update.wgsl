// g += weight_decay*w; w -= learning_rate*g, where not frozen.
struct Params {
    first: u32,
    quads: u32,
    weight_decay: f32,
}
@group(0) @binding(0) var<uniform> p: Params;

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) local: u32) {
    let number = invocation_number(group, local);
    if (number >= p.quads || skipped()) {
        return;
    }
    let index = p.first + number;
    let frozen = frozen_bits(index);
    if (frozen == 15u) {
        return;
    }
    let old = weights[index];
    let w = bitcast<vec4<f32>>(old);
    var g = gradients[index];
    if (p.weight_decay != 0.0) {
        g += p.weight_decay * w;
    }
    weights[index] = keep_frozen(frozen, old, w - scalars.learning_rate * g);
}
