//! `frazil draw`: the convolution kernels of a checkpoint as a picture, what moved in them, and what they compute.

mod activations;
mod kernels;
mod png;
mod scene;
mod svg;

use super::data::{ImageArgs, Reading, Source};
use super::network::load;
use super::output::Output;
use super::{DeviceArgs, Failure, os_text, usage};
use activations::Activations;
use clap::{Args, ValueEnum};
use frazil::checkpoint::{Checkpoint, printable};
use frazil::{Error, Gpu, Loss, Result, Sgd, Trainer, TrainerOptions};
use kernels::Kernels;
use scene::{Anchor, Cell, DARK, Item, LIGHT, Palette, Scene, Shade, Style, Tile, Tiles};
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use svg::Svg;

#[derive(Args)]
pub struct DrawArgs {
    /// Checkpoint or output folder of `frazil train`, or any safetensors file of `f32` and `u32` tensors.
    file: PathBuf,
    /// Output file, an SVG picture or, with the extension png, a PNG picture; `-` for SVG on standard output
    /// [default: the path of the checkpoint with the extension svg].
    #[arg(short, long, value_name = "OUT.svg|OUT.png")]
    out: Option<PathBuf>,
    /// Draw what moved since these weights of the same network, too.
    #[arg(long, value_name = "FILE")]
    base: Option<PathBuf>,
    /// Draw the outputs of the layers for an example of this data set, too, as of `frazil train`; needs an adapter.
    #[arg(long, value_name = "SET", value_parser = os_text::parser())]
    data: Option<String>,
    /// With --data, the index of the example in the test set.
    #[arg(long, value_name = "N", default_value_t = 0, requires = "data")]
    example: usize,
    /// Colours of a PNG picture; SVG pictures have those of both themes.
    #[arg(long, default_value = "light")]
    theme: Theme,
    #[command(flatten)]
    device: DeviceArgs,
}

/// Colours of a PNG picture.
#[derive(Clone, Copy, ValueEnum)]
enum Theme {
    Light,
    Dark,
}

impl Theme {
    fn palette(self) -> &'static Palette {
        match self {
            Theme::Light => &LIGHT,
            Theme::Dark => &DARK,
        }
    }
}

/// Lengths in pixels.
const WIDTH: usize = 1080;
const MARGIN: usize = 32;
const HEADER: usize = 116;
/// Distance from the baseline of a tensor's heading to its first row of tiles.
const HEADING: usize = 36;
/// Distance between two tensors, and between two blocks of one tensor.
const BETWEEN: usize = 40;

pub fn run(args: &DrawArgs) -> std::result::Result<(), Failure> {
    let output = Output::new(false);
    let in_folder =
        |path: &Path| if path.is_dir() { path.join("weights.safetensors") } else { path.to_owned() };
    let file = in_folder(&args.file);
    let out = args.out.clone().unwrap_or_else(|| file.with_extension("svg"));
    let base_file = args.base.as_deref().map(in_folder);
    if out == file || Some(&out) == base_file.as_ref() {
        let (expected, got) = ("a file other than the checkpoint".to_owned(), out.display().to_string());
        return usage(Err(Error::InvalidArgument { at: "--out".to_owned(), expected, got }));
    }
    let checkpoint = Checkpoint::read(&file)?;
    let base =
        base_file.as_deref().map(|path| Checkpoint::read(path).map(|read| (read, path))).transpose()?;
    let base = base.as_ref().map(|(base, path)| (base, *path));
    let kernels = Kernels::new(&checkpoint, &file, base)?;
    let activations = match &args.data {
        Some(data) => Some(activations_of(args, &file, data)?),
        None => None,
    };
    let scene = picture(&title(&checkpoint, &file), &kernels, activations.as_ref());
    if out == Path::new("-") {
        output.text(Svg(&scene))?;
        return Ok(());
    }
    write(&out, &scene, args.theme.palette())?;
    for kernel in &kernels.drawn {
        output.text(format!("{}: {}", printable(kernel.path), kernel.summary()))?;
    }
    if let Some(omission) = kernels.omission() {
        output.text(printable(&omission))?;
    }
    output.text(format!("wrote {}", out.display()))?;
    Ok(())
}

/// Writes the picture of a finished run, with what moved since `base`; nothing if the network has no convolution.
pub fn write_run(checkpoint: &Path, base: &Checkpoint, out: &Path) -> Result<bool> {
    let read = Checkpoint::read(checkpoint)?;
    let Ok(kernels) = Kernels::new(&read, checkpoint, Some((base, checkpoint))) else { return Ok(false) };
    write(out, &picture(&title(&read, checkpoint), &kernels, None), &LIGHT)?;
    Ok(true)
}

fn write(out: &Path, scene: &Scene, palette: &Palette) -> Result<()> {
    let is_png = out.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("png"));
    let bytes = if is_png {
        png::draw(scene, palette).ok_or_else(|| {
            let expected = "a picture that fits into a PNG file; write an SVG picture".to_owned();
            let got = format!("{} x {} pixels", scene.width, scene.height);
            Error::InvalidArgument { at: "--out".to_owned(), expected, got }
        })?
    } else {
        format!("{}\n", Svg(scene)).into_bytes()
    };
    std::fs::write(out, bytes).map_err(|source| Error::Io { path: out.to_owned(), source })
}

/// Computes the outputs of a checkpoint's network for an example.
fn activations_of(args: &DrawArgs, file: &Path, data: &str) -> std::result::Result<Activations, Failure> {
    let network = load(file, None)?;
    let source = usage(Source::parse(data))?;
    let images = ImageArgs::default();
    let reading = Reading::of_network(&images, &network.model, network.normalize.as_ref());
    let test = source.load_test(&reading, &network.classes)?;
    let Some(batch) = test.loader.in_order(1)?.starting_at(args.example).next().transpose()? else {
        return usage(Err(Error::InvalidArgument {
            at: "--example".to_owned(),
            expected: format!("an index below the {} test examples", test.len()),
            got: args.example.to_string(),
        }));
    };
    let gpu = Gpu::new(args.device.options())?;
    let loss = Loss::SoftmaxCrossEntropy;
    let mut trainer = Trainer::new(&gpu, network.model, loss, Sgd::new(0.1), TrainerOptions::batch(1))?;
    trainer.set_parameters(&network.parameters)?;
    let outputs = trainer.predict(&batch.features)?;
    let mut best = 0;
    for (class, x) in outputs.iter().enumerate() {
        if *x > outputs[best] {
            best = class;
        }
    }
    let label = batch.labels.first().copied().unwrap_or(0);
    let title = format!("test example {} of {data}: class {label}, predicted class {best}", args.example);
    Ok(Activations::new(&trainer, &batch, title)?)
}

/// The name of a checkpoint's file with its folder, because every run's file is called weights.safetensors.
fn title(checkpoint: &Checkpoint, file: &Path) -> String {
    let folder =
        file.parent().and_then(Path::file_name).map_or(String::new(), |f| format!("{}/", f.display()));
    let name = file.file_name().map_or(file.display().to_string(), |name: &OsStr| name.display().to_string());
    let step = checkpoint.notes().get("step").map_or(String::new(), |step| format!(", step {step}"));
    format!("{folder}{name}{step}")
}

fn picture(title: &str, kernels: &Kernels, activations: Option<&Activations>) -> Scene {
    let title_of_picture = format!("Convolution kernels of {title}");
    let mut scene = Scene { title: title_of_picture, width: WIDTH, height: 0, items: Vec::new() };
    header(&mut scene, title, kernels);
    let mut y = kernels.draw(&mut scene, HEADER);
    if let Some(activations) = activations {
        y = activations.draw(&mut scene, y + BETWEEN / 2);
    }
    scene.height = y;
    scene
}

/// Draws the title and the legend: the colour scale, and a frozen and a trainable cell of the same colour.
fn header(scene: &mut Scene, title: &str, kernels: &Kernels) {
    let right = WIDTH - MARGIN;
    scene.text([MARGIN, 54], Style::Heading, Anchor::Start, "Convolution kernels");
    scene.text([MARGIN, 78], Style::Muted, Anchor::Start, title);
    let (bar, width) = (right - 340, 340);
    let [limit, quarter] = [kernels.scale, kernels.scale / 4.0].map(significant);
    scene.items.push(Item::Scale { x: bar, y: 40, width, height: 12 });
    // The labels of a quarter of the largest magnitude are at half of the full opacity, which is the square root.
    for (x, anchor, text) in [
        (bar, Anchor::Start, format!("−{limit}")),
        (bar + width / 4, Anchor::Middle, format!("−{quarter}")),
        (bar + width / 2, Anchor::Middle, "0".to_owned()),
        (bar + 3 * width / 4, Anchor::Middle, quarter.clone()),
        (right, Anchor::End, limit.clone()),
    ] {
        scene.text([x, 70], Style::Muted, anchor, text);
    }
    let half = Shade::Finite { negative: true, percent: 50 };
    let mut swatches = vec![(36, half, true, "frozen"), (58, half, false, "trainable")];
    if kernels.any_not_finite() {
        swatches.push((80, Shade::NotFinite, false, "NaN or infinite"));
    }
    for (y, shade, frozen, text) in swatches {
        let cells = vec![Cell { x: 0, y: 0, shade, frozen }];
        let tiles = vec![Tile { x: bar - 140, y, width: 14, height: 14, cells }];
        scene.items.push(Item::Legend(Tiles { pitch: 16, tiles }));
        scene.text([bar - 118, y + 12], Style::Normal, Anchor::Start, text);
    }
}

fn plural(count: usize, one: &str, many: &str) -> String {
    format!("{count} {}", if count == 1 { one } else { many })
}

/// Formats a number with three significant digits.
fn significant(value: f32) -> String {
    if value == 0.0 {
        return "0".to_owned();
    }
    let decimals = (2.0 - value.log10().floor()).clamp(0.0, 12.0) as usize;
    format!("{value:.decimals$}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_three_significant_digits() {
        assert_eq!(
            [0.0, 0.012345, 0.61994, 12.345, 6543.0].map(significant),
            ["0", "0.0123", "0.620", "12.3", "6543"]
        );
    }
}
