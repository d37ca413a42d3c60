//! `frazil draw`: the convolution kernels of a checkpoint as an SVG picture. Needs no GPU.
//!
//! The only `<rect>` elements of the picture are the weights, with these classes:
//!
//! | class | weight |
//! |---|---|
//! | `p`, `n` | positive or zero, negative |
//! | `x` | NaN or infinite |
//! | `f` | frozen |
//!
//! The colour of a class covers the colour of zero with an opacity of sqrt(|weight| / scale): few weights are
//! large, and with a linear scale all others would be hardly visible. As values differ in opacity only, the
//! style sheet can replace the two colours by those of a dark theme (`prefers-color-scheme`).

use super::output::Output;
use super::{Failure, usage};
use clap::Args;
use frazil::checkpoint::{Checkpoint, printable};
use frazil::{Error, Mask, Result};
use std::ffi::OsStr;
use std::fmt;
use std::path::{Path, PathBuf};

#[derive(Args)]
pub struct DrawArgs {
    /// Checkpoint or output folder of `frazil train`, or any safetensors file of `f32` and `u32` tensors.
    file: PathBuf,
    /// Output file; `-` for standard output [default: the path of the checkpoint with the extension svg].
    #[arg(short, long, value_name = "OUT.svg")]
    out: Option<PathBuf>,
}

pub fn run(args: &DrawArgs) -> std::result::Result<(), Failure> {
    let output = Output::new(false);
    let file = if args.file.is_dir() { args.file.join("weights.safetensors") } else { args.file.clone() };
    let out = args.out.clone().unwrap_or_else(|| file.with_extension("svg"));
    if out == file {
        let (expected, got) = ("a file other than the checkpoint".to_owned(), out.display().to_string());
        return usage(Err(Error::InvalidArgument { at: "--out".to_owned(), expected, got }));
    }
    let checkpoint = Checkpoint::read(&file)?;
    let picture = Picture::new(&checkpoint, &file)?;
    if out == Path::new("-") {
        output.text(&picture)?;
        return Ok(());
    }
    std::fs::write(&out, format!("{picture}\n")).map_err(|source| Error::Io { path: out.clone(), source })?;
    for kernel in &picture.kernels {
        output.text(format!("{}: {}", printable(kernel.path), kernel.summary()))?;
    }
    if !picture.omitted.is_empty() {
        output.text(printable(&picture.omission()))?;
    }
    output.text(format!("wrote {}", out.display()))?;
    Ok(())
}

/// Maximum number of weights that are drawn; the first tensor is drawn even if it is larger.
const MOST_WEIGHTS: usize = 10_000;

/// Lengths in pixels.
const WIDTH: usize = 1080;
const MARGIN: usize = 32;
const HEADER: usize = 116;
/// Width of the input channels' numbers at the left of the tiles.
const ROW_LABELS: usize = 24;
/// Distance from the baseline of a tensor's heading to its first row of tiles.
const HEADING: usize = 36;
/// Distance between two tensors, and between two blocks of one tensor.
const BETWEEN: usize = 40;
/// Minimum and maximum distance from one weight to the next.
const CELL: std::ops::RangeInclusive<usize> = 8..=20;

/// Colours of the light and of the dark theme. Blue and vermilion, and their lighter versions, are those of
/// Okabe and Ito (2008), which people with any common colour blindness tell apart.
const STYLE: &str = "\
text{font-family:ui-sans-serif,system-ui,-apple-system,'Segoe UI',Roboto,Helvetica,Arial,sans-serif;font-size:13px;fill:#1f2328}\
.h{font-size:24px;font-weight:600}.b{font-size:15px;font-weight:600}.m{fill:#59636e}.l{fill:#59636e;font-size:10px}\
.e{text-anchor:end}.c{text-anchor:middle}\
.panel{fill:#f6f8fa;stroke:#d1d9e0}.z{fill:#fff;stop-color:#fff}.p{fill:#d55e00;stop-color:#d55e00}\
.n{fill:#0072b2;stop-color:#0072b2}.x{fill:#cc79a7}.f{stroke:#1f2328;stroke-opacity:.75}.r{stroke:#d1d9e0}\
@media(prefers-color-scheme:dark){text{fill:#f0f6fc}.m,.l{fill:#9198a1}\
.panel{fill:#212830;stroke:#3d444d}.z{fill:#0d1117;stop-color:#0d1117}.p{fill:#f0a202;stop-color:#f0a202}\
.n{fill:#56b4e9;stop-color:#56b4e9}.f{stroke:#f0f6fc}.r{stroke:#3d444d}}";

/// A convolution kernel, `[rows, columns, input channels / groups, output channels]`, with its mask.
struct Kernel<'a> {
    path: &'a str,
    shape: [usize; 4],
    bits: &'a [u32],
    mask: Mask,
}

impl Kernel<'_> {
    fn value(&self, index: usize) -> f32 {
        self.bits.get(index).copied().map_or(f32::NAN, f32::from_bits)
    }

    fn summary(&self) -> String {
        let [height, width, inputs, outputs] = self.shape;
        format!(
            "{height} x {width}, {inputs} x {outputs} channels, {} of {} weights frozen",
            self.mask.frozen_count(),
            self.mask.len()
        )
    }
}

/// Layout of the tiles of one kernel: one row for each input channel and one column for each output channel.
/// If the columns are too wide for the picture, they are split into blocks below each other.
#[derive(Debug, PartialEq)]
struct Grid {
    /// Distance from one weight to the next.
    cell: usize,
    /// Distance between two tiles.
    gap: usize,
    /// Output channels of a block.
    columns: usize,
    blocks: usize,
    /// Distance from one tile to the next, `[down, right]`.
    pitch: [usize; 2],
    /// Height of one block, without the distance to the next.
    block_height: usize,
}

impl Grid {
    fn new([height, width, inputs, outputs]: [usize; 4]) -> Self {
        let gap = |cell: usize| (cell / 2).max(4);
        let room = WIDTH - 2 * MARGIN - ROW_LABELS;
        let fitting = |cell: usize| ((room + gap(cell)) / (width * cell + gap(cell))).max(1);
        let blocks = outputs.div_ceil(fitting(*CELL.start())).max(1);
        let columns = outputs.div_ceil(blocks).max(1);
        let cell = CELL.rev().find(|&cell| fitting(cell) >= columns).unwrap_or(*CELL.start());
        let pitch = [height * cell + gap(cell), width * cell + gap(cell)];
        let block_height = (inputs * pitch[0]).saturating_sub(gap(cell));
        Grid { cell, gap: gap(cell), columns, blocks, pitch, block_height }
    }

    fn height(&self) -> usize {
        self.blocks * self.block_height + self.blocks.saturating_sub(1) * BETWEEN
    }

    /// Offset of a tile from the first tile, `[x, y]`.
    fn tile(&self, input: usize, output: usize) -> [usize; 2] {
        let (block, column) = (output / self.columns, output % self.columns);
        [column * self.pitch[1], block * (self.block_height + BETWEEN) + input * self.pitch[0]]
    }
}

/// The convolution kernels of a checkpoint that are drawn.
struct Picture<'a> {
    title: String,
    kernels: Vec<Kernel<'a>>,
    /// Paths of convolution kernels that are not drawn.
    omitted: Vec<&'a str>,
    /// The largest magnitude of all finite weights that are drawn.
    scale: f32,
}

impl<'a> Picture<'a> {
    fn new(checkpoint: &'a Checkpoint, file: &Path) -> Result<Self> {
        let (mut kernels, mut omitted, mut weights) = (Vec::new(), Vec::new(), 0);
        for path in checkpoint.parameters() {
            let Some(tensor) = checkpoint.tensor(path).filter(|tensor| tensor.dtype() == "f32") else {
                continue;
            };
            let Ok(shape) = <[usize; 4]>::try_from(tensor.shape()) else { continue };
            let bits = tensor.bits();
            if bits.is_empty() {
                continue;
            }
            weights += bits.len();
            if !kernels.is_empty() && weights > MOST_WEIGHTS {
                omitted.push(path);
                continue;
            }
            kernels.push(Kernel { path, shape, bits, mask: checkpoint.mask(path) });
        }
        if kernels.is_empty() {
            let names: Vec<_> = checkpoint.tensors().iter().map(|(name, _)| name.as_str()).collect();
            let got = if names.is_empty() { "no tensor".to_owned() } else { names.join(", ") };
            let why = format!("expected a convolution kernel (an f32 tensor of 4 axes), got {got}");
            return Err(Error::Checkpoint { path: file.to_owned(), why, source: None });
        }
        let values =
            kernels.iter().flat_map(|kernel: &Kernel| kernel.bits).map(|&bits| f32::from_bits(bits).abs());
        let scale = values.filter(|value| value.is_finite()).fold(0.0, f32::max);
        // The title has the folder name, because every run's file is called weights.safetensors.
        let folder =
            file.parent().and_then(Path::file_name).map_or(String::new(), |f| format!("{}/", f.display()));
        let name =
            file.file_name().map_or(file.display().to_string(), |name: &OsStr| name.display().to_string());
        let step = checkpoint.notes().get("step").map_or(String::new(), |step| format!(", step {step}"));
        Ok(Picture { title: format!("{folder}{name}{step}"), kernels, omitted, scale })
    }

    fn omission(&self) -> String {
        format!(
            "not drawn, because the picture is limited to {MOST_WEIGHTS} weights: {}",
            self.omitted.join(", ")
        )
    }

    fn header(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let right = WIDTH - MARGIN;
        writeln!(f, r#"<text class="h" x="{MARGIN}" y="54">Convolution kernels</text>"#)?;
        writeln!(f, r#"<text class="m" x="{MARGIN}" y="78">{}</text>"#, escape(&self.title))?;
        // Draws the legend: the colour scale, and a frozen and a trainable cell of the same colour.
        let (bar, width) = (right - 340, 340);
        let [limit, quarter] = [self.scale, self.scale / 4.0].map(significant);
        writeln!(f, r#"<path class="r" fill="url(#scale)" d="M{bar} 40h{width}v12h-{width}z"/>"#)?;
        writeln!(f, r#"<text class="m" x="{bar}" y="70">−{limit}</text>"#)?;
        // The labels are at half of the full opacity, which is a quarter of the largest magnitude, because
        // opacity is the square root of the magnitude.
        writeln!(f, r#"<text class="m c" x="{}" y="70">−{quarter}</text>"#, bar + width / 4)?;
        writeln!(f, r#"<text class="m c" x="{}" y="70">0</text>"#, bar + width / 2)?;
        writeln!(f, r#"<text class="m c" x="{}" y="70">{quarter}</text>"#, bar + 3 * width / 4)?;
        writeln!(f, r#"<text class="m e" x="{right}" y="70">{limit}</text>"#)?;
        let (left, x) = (bar - 140, bar - 118);
        writeln!(f, r#"<path class="z" d="M{left} 36h14v14h-14zm0 22h14v14h-14z"/>"#)?;
        writeln!(
            f,
            r#"<path class="n f" fill-opacity=".5" stroke-width="1.5" d="M{left}.75 36.75h12.5v12.5h-12.5z"/>"#
        )?;
        writeln!(f, r#"<path class="n" fill-opacity=".5" d="M{left} 58h14v14h-14z"/>"#)?;
        writeln!(f, r#"<text x="{x}" y="48">frozen</text><text x="{x}" y="70">trainable</text>"#)?;
        if self.kernels.iter().flat_map(|kernel| kernel.bits).any(|&bits| !f32::from_bits(bits).is_finite()) {
            let x = left - 140;
            writeln!(
                f,
                r#"<path class="x" d="M{x} 36h14v14h-14z"/><text x="{}" y="48">NaN or infinite</text>"#,
                x + 22
            )?;
        }
        Ok(())
    }

    /// Draws a kernel; `y` is the baseline of its heading.
    fn kernel(&self, f: &mut fmt::Formatter<'_>, kernel: &Kernel, grid: &Grid, y: usize) -> fmt::Result {
        let [height, width, inputs, outputs] = kernel.shape;
        writeln!(
            f,
            r#"<text x="{MARGIN}" y="{y}"><tspan class="b">{}</tspan><tspan class="m" dx="12">{height} × {width}, {}, {}; {} of {} weights frozen</tspan></text>"#,
            escape(kernel.path),
            plural(inputs, "input channel", "input channels (rows)"),
            plural(outputs, "output channel", "output channels (columns)"),
            kernel.mask.frozen_count(),
            kernel.mask.len()
        )?;
        let (left, top) = (MARGIN + ROW_LABELS, y + HEADING);
        self.labels(f, kernel, grid, [left, top])?;
        // An outline is centred on the edge of its cell; the seam between two cells leaves room for both
        // outlines.
        let (seam, stroke) = if grid.cell < 14 { (1, ".8") } else { (2, "1.5") };
        let side = grid.cell - seam;
        writeln!(f, r#"<g stroke-width="{stroke}">"#)?;
        for (input, output) in (0..inputs).flat_map(|input| (0..outputs).map(move |output| (input, output))) {
            let [x, y] = grid.tile(input, output);
            let (w, h) = (width * grid.cell - seam, height * grid.cell - seam);
            write!(f, r#"<g transform="translate({},{})">"#, left + x, top + y)?;
            writeln!(
                f,
                r#"<title>input {input}, output {output}</title><path class="z" d="M0 0h{w}v{h}h-{w}z"/>"#
            )?;
            for (row, column) in (0..height).flat_map(|row| (0..width).map(move |column| (row, column))) {
                let index = ((row * width + column) * inputs + input) * outputs + output;
                let value = kernel.value(index);
                let (class, opacity) = self.colour(value);
                let frozen = if kernel.mask.is_frozen(index) { " f" } else { "" };
                let (x, y) = (column * grid.cell, row * grid.cell);
                write!(f, r#"<rect class="{class}{frozen}" x="{x}" y="{y}" width="{side}" height="{side}""#)?;
                write!(f, r#" fill-opacity="{opacity}"/>"#)?;
            }
            writeln!(f, "</g>")?;
        }
        writeln!(f, "</g>")
    }

    /// Draws the numbers of the input channels at the left of the tiles and those of the output channels
    /// above them, as many as fit.
    fn labels(
        &self,
        f: &mut fmt::Formatter<'_>,
        kernel: &Kernel,
        grid: &Grid,
        [left, top]: [usize; 2],
    ) -> fmt::Result {
        let [height, width, inputs, outputs] = kernel.shape;
        let [every_row, every_column] = [12usize.div_ceil(grid.pitch[0]), 20usize.div_ceil(grid.pitch[1])];
        for block in 0..grid.blocks {
            let first = block * grid.columns;
            for output in (first..outputs.min(first + grid.columns)).step_by(every_column) {
                let [x, y] = grid.tile(0, output);
                let x = left + x + width * grid.cell / 2;
                writeln!(f, r#"<text class="l c" x="{x}" y="{}">{output}</text>"#, top + y - 7)?;
            }
            for input in (0..inputs).step_by(every_row) {
                let [_, y] = grid.tile(input, first);
                let y = top + y + height * grid.cell / 2 + 3;
                writeln!(f, r#"<text class="l e" x="{}" y="{y}">{input}</text>"#, left - 8)?;
            }
        }
        Ok(())
    }

    /// Returns the class of a weight's colour, and its opacity.
    fn colour(&self, value: f32) -> (char, String) {
        if !value.is_finite() {
            return ('x', "1".to_owned());
        }
        let share = if self.scale > 0.0 { f64::from(value.abs()) / f64::from(self.scale) } else { 0.0 };
        let opacity = match (100.0 * share.sqrt()).round() as u32 {
            0 => "0".to_owned(),
            100 => "1".to_owned(),
            percent => format!(".{percent:02}").trim_end_matches('0').to_owned(),
        };
        (if value < 0.0 { 'n' } else { 'p' }, opacity)
    }
}

impl fmt::Display for Picture<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let grids: Vec<_> = self.kernels.iter().map(|kernel| Grid::new(kernel.shape)).collect();
        let mut height = HEADER + grids.iter().map(|grid| HEADING + grid.height() + BETWEEN).sum::<usize>();
        if !self.omitted.is_empty() {
            height += BETWEEN / 2;
        }
        writeln!(
            f,
            r#"<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height}" viewBox="0 0 {WIDTH} {height}" role="img">"#
        )?;
        writeln!(f, "<title>Convolution kernels of {}</title>", escape(&self.title))?;
        writeln!(f, "<style>{STYLE}</style>")?;
        writeln!(
            f,
            r#"<linearGradient id="scale"><stop class="n" offset="0"/><stop class="z" offset=".5"/><stop class="p" offset="1"/></linearGradient>"#
        )?;
        let (w, h) = (WIDTH - 25, height - 25);
        writeln!(
            f,
            r#"<path class="panel" d="M12.5 .5h{w}a12 12 0 0 1 12 12v{h}a12 12 0 0 1 -12 12h-{w}a12 12 0 0 1 -12 -12v-{h}a12 12 0 0 1 12 -12z"/>"#
        )?;
        self.header(f)?;
        let mut y = HEADER;
        for (kernel, grid) in self.kernels.iter().zip(&grids) {
            self.kernel(f, kernel, grid, y)?;
            y += HEADING + grid.height() + BETWEEN;
        }
        if !self.omitted.is_empty() {
            writeln!(f, r#"<text class="m" x="{MARGIN}" y="{y}">{}</text>"#, escape(&self.omission()))?;
        }
        write!(f, "</svg>")
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

/// Escapes text for XML, which allows no control characters at all.
fn escape(text: &str) -> String {
    printable(text).replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grid_breaks_output_channels_into_blocks_of_the_pictures_width() {
        for shape in [[3, 3, 1, 16], [3, 3, 16, 32], [7, 7, 3, 64], [1, 1, 8, 400], [40, 200, 1, 2]] {
            let grid = Grid::new(shape);
            assert!(
                grid.columns * grid.blocks >= shape[3] && CELL.contains(&grid.cell),
                "{shape:?}: {grid:?}"
            );
            let width = grid.columns * grid.pitch[1] - grid.gap;
            assert!(grid.columns == 1 || width <= WIDTH - 2 * MARGIN - ROW_LABELS, "{shape:?}: {grid:?}");
        }
        assert_eq!(Grid::new([3, 3, 16, 32]).blocks, 1);
    }

    #[test]
    fn numbers_have_three_significant_digits() {
        assert_eq!(
            [0.0, 0.012345, 0.61994, 12.345, 6543.0].map(significant),
            ["0", "0.0123", "0.620", "12.3", "6543"]
        );
    }
}
