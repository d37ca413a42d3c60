// u[xi][c_in][c_out] = (G g Gt)[xi] of each 3x3 kernel g, turned by 180 degrees if flipped (for the gradient of the input). One
// invocation four output channels of an input channel.
struct Params {
    c_in: u32,
    c_out: u32,
    flipped: u32,
}
@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(2) var<storage, read> kernel: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read_write> u: array<vec4<f32>>;

alias Three = array<vec4<f32>, 3>;
alias Six = array<vec4<f32>, 6>;

fn transform(g: Three) -> Six {
    let a = (g[0] + g[2]) * (-1.0 / 6.0);
    let b = g[1] * (1.0 / 6.0);
    let c = fma(g[2], vec4<f32>(1.0 / 6.0), g[0] * (1.0 / 24.0));
    let d = g[1] * (1.0 / 12.0);
    return Six(0.25 * g[0], a - b, a + b, c + d, c - d, g[2]);
}

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) local: u32) {
    let index = invocation_number(group, local);
    let count = p.c_in * p.c_out / 4u;
    if (index >= count) {
        return;
    }
    var rows: array<Six, 3>;
    // Rows and then columns move through the first place: loops that are written out compile slowly.
    for (var i = 0u; i < 3u; i++) {
        var line: Three;
        for (var j = 0u; j < 3u; j++) { // unroll
            let tap = 3u * i + j;
            line[j] = kernel[select(tap, 8u - tap, p.flipped != 0u) * count + index];
        }
        for (var r = 0u; r < 2u; r++) { // unroll
            rows[r] = rows[r + 1u];
        }
        rows[2] = transform(line);
    }
    for (var j = 0u; j < 6u; j++) {
        let column = transform(Three(rows[0][0], rows[1][0], rows[2][0]));
        for (var i = 0u; i < 6u; i++) { // unroll
            u[(6u * i + j) * count + index] = column[i];
        }
        for (var r = 0u; r < 3u; r++) { // unroll
            for (var k = 0u; k < 5u; k++) { // unroll
                rows[r][k] = rows[r][k + 1u];
            }
        }
    }
}
