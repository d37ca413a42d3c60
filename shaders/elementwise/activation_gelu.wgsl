// x * P(x), P the normal distribution function: (1 + erf(x / sqrt(2))) / 2 (Hendrycks and Gimpel 2016).
fn distribution(x: vec4<f32>) -> vec4<f32> {
    let beyond = 0.5 * erfc_accurate(abs(x) * 0.70710678);
    return select(beyond, 1.0 - beyond, x > vec4<f32>(0.0));
}

fn activate(x: vec4<f32>) -> vec4<f32> {
    return x * distribution(x);
}

fn slope(x: vec4<f32>) -> vec4<f32> {
    // 1 / sqrt(2 pi) times exp(-x^2 / 2) is the density.
    return distribution(x) + x * (0.39894228 * exp(-0.5 * x * x));
}
