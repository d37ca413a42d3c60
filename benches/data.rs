//! Decoding of image files, and training on them.
//!
//! Run with `cargo bench --bench data`; `-- --light` runs a short version.

#![allow(clippy::expect_used)]

#[cfg(not(feature = "images"))]
fn main() {
    println!("needs the feature images, which `cargo bench` without -p frazil has");
}

#[cfg(feature = "images")]
fn main() -> frazil::Result<()> {
    let light = std::env::args().any(|argument| argument == "--light");
    files::run(light || std::env::var("FRAZIL_BENCH_LIGHT").is_ok_and(|value| value != "0"))
}

#[cfg(feature = "images")]
mod files {
    use frazil::data::{ImageFiles, ImageOptions, LoadedBatches, Loader};
    use frazil::{Dataset, Gpu, GpuOptions, Loss, Model, Sgd, Trainer, TrainerOptions};
    use image::codecs::jpeg::JpegEncoder;
    use image::{Rgb, RgbImage};
    use std::path::Path;
    use std::time::{Duration, Instant};

    const BATCH: usize = 32;

    /// Model and side of its images: decoding is slower than the first and faster than the last on two cores.
    const WORKLOADS: [(&str, usize); 3] = [("digits", 32), ("cifar", 32), ("cifar", 64)];

    pub fn run(light: bool) -> frazil::Result<()> {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let bytes = write_photos(folder.path(), if light { 16 } else { 320 });
        println!("JPEG photographs of 640 x 480 pixels, {} kB on average", bytes / 1000);
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let open = |side: usize, workers: usize| -> frazil::Result<Loader> {
            let files = ImageFiles::folder(folder.path(), ImageOptions::size([side, side, 3])?)?;
            Ok(Loader::new(files).workers(workers))
        };

        println!("\n{:<12} {:>16}", "threads", "decoded images/s");
        let mut threads = vec![1, 2, cores];
        threads.sort_unstable();
        threads.dedup();
        let mut decoded = 0.0;
        for workers in threads {
            let loader = open(224, workers)?;
            let (begun, mut count) = (Instant::now(), 0);
            for batch in loader.in_order(BATCH)? {
                count += batch?.rows();
            }
            decoded = count as f64 / begun.elapsed().as_secs_f64();
            println!("{workers:<12} {decoded:>16.0}");
        }

        println!("\na device that needs no processor: it sleeps");
        println!("{:<34} {:>10} {:>10}", "its images/s", "trained/s", "waiting");
        for share in [0.5, 0.8, 1.25, 2.0] {
            let step = Duration::from_secs_f64(BATCH as f64 / (share * decoded));
            let mut batches = open(224, cores)?.batches_for_epoch(BATCH, 1, 0)?;
            let (count, elapsed) = epoch(&mut batches, |_| {
                std::thread::sleep(step);
                Ok(())
            })?;
            let name = format!("{:.0}, {share} times as many as decoded", share * decoded);
            print_row(&name, count, elapsed, batches.waited());
        }

        let gpu = Gpu::new(GpuOptions::default())?;
        println!("\n{}", gpu.report().name);
        println!("{:<34} {:>10} {:>10}", "model, images", "trained/s", "waiting");
        for (name, side) in WORKLOADS {
            let loader = open(side, cores)?;
            let memory = in_memory(&loader)?;
            let model = Model::named_for(name, &[side, side, 3], 2)?;
            let options = TrainerOptions::batch(BATCH).progress_every(0);
            let loss = Loss::SoftmaxCrossEntropy;
            let mut trainer = Trainer::new(&gpu, model, loss, Sgd::new(0.01), options)?;
            for (place, loader) in [("to warm up", &memory), ("in memory", &memory), ("in files", &loader)] {
                let mut batches = loader.batches_for_epoch(BATCH, 1, 0)?.begun()?;
                let begun = Instant::now();
                let (count, _) = epoch(&mut batches, |batch| trainer.step(batch))?;
                trainer.metrics()?;
                if place != "to warm up" {
                    let name = format!("{name} {side} x {side}, {place}");
                    print_row(&name, count, begun.elapsed(), batches.waited());
                }
            }
        }
        Ok(())
    }

    fn print_row(name: &str, count: usize, elapsed: Duration, waited: Duration) {
        let [elapsed, waited] = [elapsed, waited].map(|time| time.as_secs_f64());
        println!("{name:<34} {:>10.0} {:>8.1} %", count as f64 / elapsed, 100.0 * waited / elapsed);
    }

    /// Calls a function with each batch; returns the number of examples and the time.
    fn epoch(
        batches: &mut LoadedBatches,
        mut step: impl FnMut(&frazil::Batch) -> frazil::Result<()>,
    ) -> frazil::Result<(usize, Duration)> {
        let (begun, mut count) = (Instant::now(), 0);
        for batch in batches.by_ref() {
            let batch = batch?;
            step(&batch)?;
            count += batch.rows();
        }
        Ok((count, begun.elapsed()))
    }

    fn in_memory(loader: &Loader) -> frazil::Result<Loader> {
        let examples = loader.examples();
        let all = loader.in_order(examples.len())?.next().expect("a batch")?;
        let shape = examples.example_shape();
        Ok(Loader::new(Dataset::new("memory", shape, all.features, all.labels, examples.classes())?))
    }

    /// Writes two classes of photographs: waves of several lengths with noise. Returns the mean size in bytes.
    fn write_photos(folder: &Path, count: u32) -> usize {
        let mut bytes = 0;
        for number in 0..count {
            let wave = |x: u32, y: u32, length: f32, phase: f32| {
                ((x as f32 + phase * number as f32) / length).sin() * ((y as f32 - phase) / length).cos()
            };
            let photo = RgbImage::from_fn(640, 480, |x, y| {
                let noise = (x * 31 + y * 17 + number * 101).wrapping_mul(2_654_435_761) >> 28;
                let value = |phase: f32| {
                    let [long, middle, short] = [90.0, 23.0, 5.0].map(|length| wave(x, y, length, phase));
                    (128.0 + 60.0 * (long + 0.5 * middle + 0.2 * short) + noise as f32) as u8
                };
                Rgb([1.0, 2.0, 3.0].map(value))
            });
            let class = folder.join(if number % 2 == 0 { "even" } else { "odd" });
            std::fs::create_dir_all(&class).expect("a folder");
            let mut encoded = Vec::new();
            JpegEncoder::new_with_quality(&mut encoded, 90).encode_image(&photo).expect("encode");
            std::fs::write(class.join(format!("{number}.jpg")), &encoded).expect("write");
            bytes += encoded.len();
        }
        bytes / count as usize
    }
}
