// Natural logarithm of a positive, normal x with a relative error of about 1e-7; the error of the built-in
// log is 1e-5 on some drivers. x = 2^e * m with m in [sqrt(1/2), sqrt(2)), and log(m) = 2 atanh(s), s = (m -
// 1) / (m + 1), as a series in s.
fn log_accurate(x: f32) -> f32 {
    let bits = bitcast<u32>(x);
    // 0x3f3504f3 are the bits of sqrt(1/2). After subtracting them, the exponent field contains e.
    let shifted = bits - 0x3f3504f3u;
    let e = bitcast<i32>(shifted) >> 23u;
    let m = bitcast<f32>((shifted & 0x007fffffu) + 0x3f3504f3u);
    let f = m - 1.0;
    let s = f / (m + 1.0);
    let z = s * s;
    let series = z * (0.66666667 + z * (0.4 + z * (0.28571429 + z * (0.22222222 + z * 0.18181818))));
    // log(1 + f) = f - f*s + s*series; the small terms are added first to reduce rounding.
    let log_m = f - s * (f - series);
    // ln 2 is split in two parts, the first of which is exact when multiplied by e.
    return f32(e) * 0.693359375 + (log_m - f32(e) * 2.12194440e-4);
}

// log(1 + x) of x from 0 to 1 with a relative error of about 1e-7: 2 atanh(s), s = x / (2 + x), as a series in s.
fn log1p_accurate(x: f32) -> f32 {
    let s = x / (2.0 + x);
    let z = s * s;
    let series = 0.2 + z * (0.14285715 + z * (0.11111111 + z * (0.09090909 + z * 0.07692308)));
    return 2.0 * s * (1.0 + z * (0.33333334 + z * series));
}
