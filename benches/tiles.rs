//! Times of GEMMs and convolutions by tile of the tiled family, from timestamp queries, as JSON lines. The
//! estimate of `Tile::time` in `src/kernels/gemm/tile.rs` is fitted to its results.
//!
//! Run with `cargo bench --bench tiles`; `-- --light` measures one shape.

mod graphs;

use frazil::low_level::{GemmFamily, Plan, PlanOptions, StepScalars, TILES, TileSet};
use frazil::{Gpu, GpuOptions, Result};
use std::time::{Duration, Instant};

fn main() -> Result<()> {
    let light = std::env::args().any(|argument| argument == "--light")
        || std::env::var("FRAZIL_BENCH_LIGHT").is_ok_and(|value| value != "0");
    let gpu = Gpu::new(GpuOptions::default())?;
    println!("{}", serde_json::json!({"adapter": gpu.report().name, "driver": gpu.report().driver}));
    let mut all = Vec::new();
    let matmuls: &[[usize; 3]] =
        if light { &[[64, 64, 64]] } else { &[[64, 2048, 256], [512; 3], [1024; 3], [2048; 3], [4096; 3]] };
    for &[m, k, n] in matmuls {
        all.push((format!("gemm {m}x{k}x{n}"), graphs::gemm([m, k, n])?));
    }
    // Convolutions of cifar, of the three stages of resnet20, and of resnet50 at batch 4.
    let convolutions: &[[usize; 5]] = if light {
        &[[2, 8, 4, 8, 3]]
    } else {
        &[
            [64, 32, 3, 32, 3],
            [64, 32, 32, 32, 3],
            [64, 16, 32, 64, 3],
            [64, 16, 64, 64, 3],
            [64, 8, 64, 128, 3],
            [64, 32, 16, 16, 3],
            [64, 16, 32, 32, 3],
            [64, 8, 64, 64, 3],
            [4, 56, 64, 64, 3],
            [4, 56, 64, 256, 1],
            [4, 28, 128, 128, 3],
            [4, 14, 256, 256, 3],
            [4, 7, 512, 512, 3],
            [4, 7, 2048, 512, 1],
        ]
    };
    for &[batch, side, c_in, c_out, kernel] in convolutions {
        for part in ["forward", "grad_input", "grad_kernel"] {
            if c_in == 3 && part == "grad_input" {
                continue;
            }
            let name = format!("conv {kernel}x{kernel} {batch}x{side}x{side} {c_in} to {c_out} {part}");
            all.push((name, graphs::convolution([batch, side, c_in, c_out, kernel], part)?));
        }
    }
    let large = GemmFamily::Tiled { tiles: TileSet::Large };
    let families = || {
        let tiles = TILES.map(|tile| GemmFamily::Tiled { tiles: TileSet::Only(tile) });
        tiles.into_iter().chain([large]).filter(|family| family.is_supported(gpu.report()))
    };
    let mut first = true;
    for (name, graph) in &all {
        let mut earlier = Vec::new();
        for family in families() {
            let options = PlanOptions::default().family(family);
            let launches = Plan::launches(graph, gpu.report(), &options)?;
            let key: Vec<_> = launches.iter().map(|l| (l.variant(), l.params.clone(), l.groups)).collect();
            // Some tiles may give the same launches; the choice of `tiled-large` is printed anyway.
            if family != large && earlier.contains(&key) {
                continue;
            }
            earlier.push(key);
            let plan = Plan::compile(&gpu, graph, &options)?;
            let scalars = StepScalars::forward(graph.batch());
            // Work before the measurement raises the device's clock and keeps it high.
            let begun = Instant::now();
            let warm_up = Duration::from_millis(if light {
                0
            } else if first {
                2_000
            } else {
                20
            });
            first = false;
            while begun.elapsed() < warm_up {
                plan.run(scalars)?;
            }
            let mut times = Vec::new();
            for _ in 0..if light { 1 } else { 6 } {
                times.push(
                    plan.profile(scalars)?.iter().map(|dispatch| dispatch.ns / 1e3).collect::<Vec<f64>>(),
                );
            }
            times.sort_by(|a, b| a.iter().sum::<f64>().total_cmp(&b.iter().sum::<f64>()));
            let us: f64 = times[0].iter().sum();
            println!(
                "{}",
                serde_json::json!({
                    "shape": name,
                    "family": family.to_string(),
                    "splits": launches[0].groups[2],
                    "workgroups": launches[0].groups[0] * launches[0].groups[1],
                    "us": us,
                    "gemm_us": times[0][0],
                    "gflops": plan.report().flops() as f64 / us / 1e3,
                })
            );
        }
    }
    Ok(())
}
