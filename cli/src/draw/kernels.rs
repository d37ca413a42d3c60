//! Convolution kernels as grids of values, and what moved in them since other weights.

use super::scene::{Anchor, Cell, Item, Scene, Shade, Style, Tile, Tiles, outline};
use super::{BETWEEN, HEADING, MARGIN, WIDTH, plural, significant};
use frazil::checkpoint::Checkpoint;
use frazil::{Error, Mask, Result};
use std::path::Path;

/// Maximum number of weights that are drawn; the first tensor is drawn even if it is larger.
const MOST_WEIGHTS: usize = 10_000;

/// Width of the input channels' numbers at the left of the tiles.
const ROW_LABELS: usize = 24;
/// Minimum and maximum distance from one weight to the next.
const CELL: std::ops::RangeInclusive<usize> = 8..=20;

/// A convolution kernel, `[rows, columns, input channels / groups, output channels]`, with its mask.
pub struct Kernel<'a> {
    pub path: &'a str,
    shape: [usize; 4],
    bits: &'a [u32],
    mask: Mask,
    /// Differences from the base weights, and the number of weights whose bits differ.
    moved: Option<(Vec<f32>, usize)>,
}

impl Kernel<'_> {
    pub fn summary(&self) -> String {
        let [height, width, inputs, outputs] = self.shape;
        let moved = self.moved.as_ref().map_or(String::new(), |(_, count)| format!(", {count} moved"));
        format!(
            "{height} x {width}, {inputs} x {outputs} channels, {} of {} weights frozen{moved}",
            self.mask.frozen_count(),
            self.mask.len()
        )
    }

    fn heading(&self) -> String {
        let [height, width, inputs, outputs] = self.shape;
        format!(
            "{height} × {width}, {}, {}; {} of {} weights frozen",
            plural(inputs, "input channel", "input channels (rows)"),
            plural(outputs, "output channel", "output channels (columns)"),
            self.mask.frozen_count(),
            self.mask.len()
        )
    }
}

/// The convolution kernels of a checkpoint that are drawn.
pub struct Kernels<'a> {
    pub drawn: Vec<Kernel<'a>>,
    /// Paths of convolution kernels that are not drawn.
    omitted: Vec<&'a str>,
    /// The largest magnitude of all finite weights that are drawn.
    pub scale: f32,
    /// The largest magnitude of all finite differences from the base weights.
    moved_scale: f32,
}

impl<'a> Kernels<'a> {
    /// The kernels of a checkpoint; `base` are other weights of the same network, with the path of their file.
    pub fn new(checkpoint: &'a Checkpoint, file: &Path, base: Option<(&Checkpoint, &Path)>) -> Result<Self> {
        let (mut drawn, mut omitted, mut weights) = (Vec::new(), Vec::new(), 0);
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
            if !drawn.is_empty() && weights > MOST_WEIGHTS {
                omitted.push(path);
                continue;
            }
            let moved = base.map(|(base, file)| differences(path, shape, bits, base, file)).transpose()?;
            drawn.push(Kernel { path, shape, bits, mask: checkpoint.mask(path), moved });
        }
        if drawn.is_empty() {
            let names: Vec<_> = checkpoint.tensors().iter().map(|(name, _)| name.as_str()).collect();
            let got = if names.is_empty() { "no tensor".to_owned() } else { names.join(", ") };
            let why = format!("expected a convolution kernel (an f32 tensor of 4 axes), got {got}");
            return Err(Error::Checkpoint { path: file.to_owned(), why, source: None });
        }
        let bits = drawn.iter().flat_map(|kernel: &Kernel| kernel.bits);
        let scale = largest(bits.map(|&bits| f32::from_bits(bits)));
        let moved = drawn.iter().flat_map(|kernel| &kernel.moved).flat_map(|(moved, _)| moved);
        let moved_scale = largest(moved.copied());
        Ok(Kernels { drawn, omitted, scale, moved_scale })
    }

    /// The names of the kernels that are not drawn.
    pub fn omission(&self) -> Option<String> {
        let names = self.omitted.join(", ");
        let text = format!("not drawn, because the picture is limited to {MOST_WEIGHTS} weights: {names}");
        Some(text).filter(|_| !self.omitted.is_empty())
    }

    /// Whether a weight is NaN or infinite.
    pub fn any_not_finite(&self) -> bool {
        let mut bits = self.drawn.iter().flat_map(|kernel| kernel.bits);
        bits.any(|&bits| !f32::from_bits(bits).is_finite())
    }

    /// Appends all kernels from `y` on, the baseline of the first heading. Returns the `y` of what follows.
    pub fn draw(&self, scene: &mut Scene, mut y: usize) -> usize {
        for kernel in &self.drawn {
            let grid = Grid::new(kernel.shape);
            scene.text([MARGIN, y], Style::Bold, Anchor::Start, kernel.path);
            scene.text([MARGIN, y + 20], Style::Muted, Anchor::Start, kernel.heading());
            y += HEADING + 20;
            let value = |index: usize| kernel.bits.get(index).copied().map_or(f32::NAN, f32::from_bits);
            self.grid(scene, kernel, &grid, y, self.scale, value);
            y += grid.height() + BETWEEN;
            if let Some((moved, count)) = &kernel.moved {
                let scale = significant(self.moved_scale);
                let text =
                    format!("{} since the base weights; full colour is a change of {scale}", changed(*count));
                scene.text([MARGIN, y - 8], Style::Muted, Anchor::Start, text);
                y += HEADING - 8;
                let value = |index: usize| moved.get(index).copied().unwrap_or(f32::NAN);
                self.grid(scene, kernel, &grid, y, self.moved_scale, value);
                y += grid.height() + BETWEEN;
            }
        }
        if let Some(omission) = self.omission() {
            scene.text([MARGIN, y], Style::Muted, Anchor::Start, omission);
            y += BETWEEN / 2;
        }
        y
    }

    /// Draws one value for each weight of a kernel, from `y` on.
    fn grid(
        &self,
        scene: &mut Scene,
        kernel: &Kernel,
        grid: &Grid,
        y: usize,
        scale: f32,
        value: impl Fn(usize) -> f32,
    ) {
        let [height, width, inputs, outputs] = kernel.shape;
        let (left, top) = (MARGIN + ROW_LABELS, y);
        labels(scene, kernel.shape, grid, [left, top]);
        let (seam, _) = outline(grid.cell);
        let pairs = (0..inputs).flat_map(|input| (0..outputs).map(move |output| (input, output)));
        let tile = |(input, output): (usize, usize)| {
            let [x, y] = grid.tile(input, output);
            let positions = (0..height).flat_map(|row| (0..width).map(move |column| (row, column)));
            let cell = |(row, column): (usize, usize)| {
                let index = ((row * width + column) * inputs + input) * outputs + output;
                Cell {
                    x: column * grid.cell,
                    y: row * grid.cell,
                    shade: Shade::of(value(index), scale),
                    frozen: kernel.mask.is_frozen(index),
                }
            };
            Tile {
                x: left + x,
                y: top + y,
                width: width * grid.cell - seam,
                height: height * grid.cell - seam,
                cells: positions.map(cell).collect(),
            }
        };
        scene.items.push(Item::Tiles(Tiles { pitch: grid.cell, tiles: pairs.map(tile).collect() }));
    }
}

/// Returns the differences of a kernel's weights from those of the same path in `base`, and the number of weights
/// whose bits differ.
fn differences(
    path: &str,
    shape: [usize; 4],
    bits: &[u32],
    base: &Checkpoint,
    file: &Path,
) -> Result<(Vec<f32>, usize)> {
    let tensor = base.tensor(path).filter(|tensor| tensor.dtype() == "f32" && tensor.shape() == shape);
    let Some(tensor) = tensor else {
        let why = format!("expected F32 weights {path} of shape {shape:?} to compare with, got none");
        return Err(Error::Checkpoint { path: file.to_owned(), why, source: None });
    };
    let pairs = || bits.iter().zip(tensor.bits());
    let moved = pairs().map(|(&now, &before)| f32::from_bits(now) - f32::from_bits(before)).collect();
    Ok((moved, pairs().filter(|(now, before)| now != before).count()))
}

fn changed(count: usize) -> String {
    plural(count, "weight moved", "weights moved")
}

/// The largest magnitude of finite values.
fn largest(values: impl Iterator<Item = f32>) -> f32 {
    values.map(f32::abs).filter(|value| value.is_finite()).fold(0.0, f32::max)
}

/// Draws the numbers of the input channels at the left of the tiles and those of the output channels above them, as
/// many as fit.
fn labels(scene: &mut Scene, shape: [usize; 4], grid: &Grid, [left, top]: [usize; 2]) {
    let [height, width, inputs, outputs] = shape;
    let [every_row, every_column] = [12usize.div_ceil(grid.pitch[0]), 20usize.div_ceil(grid.pitch[1])];
    for block in 0..grid.blocks {
        let first = block * grid.columns;
        for output in (first..outputs.min(first + grid.columns)).step_by(every_column) {
            let [x, y] = grid.tile(0, output);
            let x = left + x + width * grid.cell / 2;
            scene.text([x, top + y - 7], Style::Label, Anchor::Middle, output.to_string());
        }
        for input in (0..inputs).step_by(every_row) {
            let [_, y] = grid.tile(input, first);
            let y = top + y + height * grid.cell / 2 + 3;
            scene.text([left - 8, y], Style::Label, Anchor::End, input.to_string());
        }
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
}
