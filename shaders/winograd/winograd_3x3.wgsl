// One-dimensional Winograd transforms of F(4, 3) (4 outputs, 3 kernel elements), at the interpolation points
// 0, 1, -1, 2, -2 and infinity (Lavin and Gray 2016).
// uses: winograd_points

fn input_transform(d: Points) -> Points {
    let a = fma(vec4<f32>(-4.0), d[2], d[4]);
    let b = fma(vec4<f32>(-4.0), d[1], d[3]);
    let c = d[4] - d[2];
    let e = 2.0 * (d[3] - d[1]);
    return Points(
        fma(vec4<f32>(4.0), d[0], fma(vec4<f32>(-5.0), d[2], d[4])),
        a + b,
        a - b,
        c + e,
        c - e,
        fma(vec4<f32>(4.0), d[1], fma(vec4<f32>(-5.0), d[3], d[5])),
    );
}

fn kernel_transform(g: Taps) -> Points {
    let a = (g[0] + g[2]) * (-1.0 / 6.0);
    let b = g[1] * (1.0 / 6.0);
    let c = fma(g[2], vec4<f32>(1.0 / 6.0), g[0] * (1.0 / 24.0));
    let d = g[1] * (1.0 / 12.0);
    return Points(0.25 * g[0], a - b, a + b, c + d, c - d, g[2]);
}

// Adjoint (transposed matrix) of kernel_transform, for the weight gradient.
fn kernel_grad_transform(m: Points) -> Taps {
    let a = (m[1] + m[2]) * (-1.0 / 6.0);
    let b = m[3] + m[4];
    return Taps(
        fma(b, vec4<f32>(1.0 / 24.0), fma(vec4<f32>(0.25), m[0], a)),
        fma(m[3] - m[4], vec4<f32>(1.0 / 12.0), (m[2] - m[1]) * (1.0 / 6.0)),
        fma(b, vec4<f32>(1.0 / 6.0), a) + m[5],
    );
}

fn output_transform(m: Points) -> Outputs {
    let a = m[1] + m[2];
    let b = m[1] - m[2];
    let c = m[3] + m[4];
    let d = m[3] - m[4];
    return Outputs(
        m[0] + a + c,
        fma(vec4<f32>(2.0), d, b),
        fma(vec4<f32>(4.0), c, a),
        fma(vec4<f32>(8.0), d, b) + m[5],
    );
}

// Adjoint (transposed matrix) of output_transform, for the weight gradient.
fn output_grad_transform(d: Outputs) -> Points {
    let a = d[0] + d[2];
    let b = d[1] + d[3];
    let c = fma(vec4<f32>(4.0), d[2], d[0]);
    let e = fma(vec4<f32>(8.0), d[3], 2.0 * d[1]);
    return Points(d[0], a + b, a - b, c + e, c - e, d[3]);
}
