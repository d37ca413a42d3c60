// One-dimensional Winograd transforms of F(4, 5) (4 outputs, 5 kernel elements), at the interpolation points
// 0, 1, -1, 2, -2, 1/2, -1/2 and infinity.
// uses: winograd_points

fn input_transform(d: Points) -> Points {
    let a = fma(vec4<f32>(-4.25), d[4], d[2] + d[6]);
    let b = fma(vec4<f32>(-4.25), d[3], d[1] + d[5]);
    let c = fma(vec4<f32>(0.25), d[2], fma(vec4<f32>(-1.25), d[4], d[6]));
    let e = fma(vec4<f32>(0.5), d[1], fma(vec4<f32>(-2.5), d[3], 2.0 * d[5]));
    let f = fma(vec4<f32>(4.0), d[2], fma(vec4<f32>(-5.0), d[4], d[6]));
    let g = fma(vec4<f32>(2.0), d[1], fma(vec4<f32>(-2.5), d[3], 0.5 * d[5]));
    return Points(
        fma(vec4<f32>(5.25), d[4] - d[2], d[0] - d[6]),
        a + b,
        a - b,
        c + e,
        c - e,
        f + g,
        f - g,
        fma(vec4<f32>(5.25), d[3] - d[5], d[7] - d[1]),
    );
}

fn kernel_transform(g: Taps) -> Points {
    let a = (g[0] + g[2] + g[4]) * (-2.0 / 9.0);
    let b = (g[1] + g[3]) * (-2.0 / 9.0);
    let c = fma(vec4<f32>(16.0), g[4], fma(vec4<f32>(4.0), g[2], g[0])) * (1.0 / 90.0);
    let d = fma(vec4<f32>(4.0), g[3], g[1]) * (1.0 / 45.0);
    let e = fma(vec4<f32>(16.0), g[0], fma(vec4<f32>(4.0), g[2], g[4])) * (2.0 / 45.0);
    let f = fma(vec4<f32>(4.0), g[1], g[3]) * (4.0 / 45.0);
    return Points(g[0], a + b, a - b, c + d, c - d, e + f, e - f, g[4]);
}

// Adjoint (transposed matrix) of kernel_transform, for the weight gradient.
fn kernel_grad_transform(m: Points) -> Taps {
    let a = (m[1] + m[2]) * (-2.0 / 9.0);
    let b = (m[1] - m[2]) * (-2.0 / 9.0);
    let c = (m[3] + m[4]) * (1.0 / 90.0);
    let d = (m[3] - m[4]) * (1.0 / 45.0);
    let e = (m[5] + m[6]) * (2.0 / 45.0);
    let f = (m[5] - m[6]) * (4.0 / 45.0);
    return Taps(
        fma(vec4<f32>(16.0), e, c) + (m[0] + a),
        fma(vec4<f32>(4.0), f, d) + b,
        fma(vec4<f32>(4.0), e, fma(vec4<f32>(4.0), c, a)),
        fma(vec4<f32>(4.0), d, f) + b,
        fma(vec4<f32>(16.0), c, e) + (m[7] + a),
    );
}

fn output_transform(m: Points) -> Outputs {
    let a = m[1] + m[2];
    let b = m[1] - m[2];
    let c = m[3] + m[4];
    let d = m[3] - m[4];
    let e = m[5] + m[6];
    let f = m[5] - m[6];
    return Outputs(
        m[0] + a + c + e,
        fma(vec4<f32>(0.5), f, fma(vec4<f32>(2.0), d, b)),
        fma(vec4<f32>(0.25), e, fma(vec4<f32>(4.0), c, a)),
        fma(vec4<f32>(0.125), f, fma(vec4<f32>(8.0), d, b)) + m[7],
    );
}

// Adjoint (transposed matrix) of output_transform, for the weight gradient.
fn output_grad_transform(d: Outputs) -> Points {
    let a = d[0] + d[2];
    let b = d[1] + d[3];
    let c = fma(vec4<f32>(4.0), d[2], d[0]);
    let e = fma(vec4<f32>(8.0), d[3], 2.0 * d[1]);
    let f = fma(vec4<f32>(0.25), d[2], d[0]);
    let g = fma(vec4<f32>(0.125), d[3], 0.5 * d[1]);
    return Points(d[0], a + b, a - b, c + e, c - e, f + g, f - g, d[3]);
}
