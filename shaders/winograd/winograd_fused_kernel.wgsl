// Kernel transform of Winograd's F(2x2, 3x3): u[point][k][n] = (G g Gt)[point] of the 3x3 kernel g from input
// channel k to output channel n. If p.flipped is set (for the input gradient), kernels are rotated by 180
// degrees, k is the output channel of the stored kernel and n its input channel. One invocation per kernel.
// uses: scalars, grid

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(2) var<storage, read> kernel: array<f32>;
@group(0) @binding(3) var<storage, read_write> u: array<f32>;

fn kernel_transform(g: vec3<f32>) -> vec4<f32> {
    let even = 0.5 * (g.x + g.z);
    let odd = 0.5 * g.y;
    return vec4<f32>(g.x, even + odd, even - odd, g.z);
}

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) local: u32) {
    let index = invocation_index(group, local);
    let count = p.c_in * p.c_out;
    if (index >= count) {
        return;
    }
    let flipped = p.flipped != 0u;
    let stored = select(index, index % p.c_in * p.c_out + index / p.c_in, flipped);
    var rows: array<vec4<f32>, 3>;
    for (var i = 0u; i < 3u; i++) { // unroll
        var g: vec3<f32>;
        for (var j = 0u; j < 3u; j++) { // unroll
            g[j] = kernel[select(3u * i + j, 8u - 3u * i - j, flipped) * count + stored];
        }
        rows[i] = kernel_transform(g);
    }
    for (var j = 0u; j < 4u; j++) { // unroll
        let column = kernel_transform(vec3<f32>(rows[0][j], rows[1][j], rows[2][j]));
        for (var i = 0u; i < 4u; i++) { // unroll
            u[(4u * i + j) * count + index] = column[i];
        }
    }
}
