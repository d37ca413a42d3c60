// dw = Gt m G of each 6x6 sums over all tiles: the adjoint of winograd_kernel. One invocation four output channels of an input
// channel.
struct Params {
    c_in: u32,
    c_out: u32,
    flipped: u32,
}
@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(2) var<storage, read> m: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read_write> dw: array<vec4<f32>>;

alias Three = array<vec4<f32>, 3>;
alias Six = array<vec4<f32>, 6>;

fn transform(m: Six) -> Three {
    let a = (m[1] + m[2]) * (-1.0 / 6.0);
    let b = m[3] + m[4];
    return Three(
        fma(b, vec4<f32>(1.0 / 24.0), fma(vec4<f32>(0.25), m[0], a)),
        fma(m[3] - m[4], vec4<f32>(1.0 / 12.0), (m[2] - m[1]) * (1.0 / 6.0)),
        fma(b, vec4<f32>(1.0 / 6.0), a) + m[5],
    );
}

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) local: u32) {
    let index = invocation_number(group, local);
    let count = p.c_in * p.c_out / 4u;
    if (index >= count) {
        return;
    }
    var rows: array<Three, 6>;
    // Rows and then columns move through the first place: loops that are written out compile slowly.
    for (var i = 0u; i < 6u; i++) {
        var line: Six;
        for (var j = 0u; j < 6u; j++) { // unroll
            line[j] = m[(6u * i + j) * count + index];
        }
        for (var r = 0u; r < 5u; r++) { // unroll
            rows[r] = rows[r + 1u];
        }
        rows[5] = transform(line);
    }
    for (var j = 0u; j < 3u; j++) {
        let column = transform(Six(rows[0][0], rows[1][0], rows[2][0], rows[3][0], rows[4][0], rows[5][0]));
        for (var i = 0u; i < 3u; i++) { // unroll
            dw[(3u * i + j) * count + index] = column[i];
        }
        for (var r = 0u; r < 6u; r++) { // unroll
            for (var k = 0u; k < 2u; k++) { // unroll
                rows[r][k] = rows[r][k + 1u];
            }
        }
    }
}
