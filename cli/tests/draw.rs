//! `frazil draw`: the picture has a cell for each weight that is not 0, and an outline for each frozen weight.

use crate::program::{folder, frazil};
use frazil::Mask;
use frazil::checkpoint::{Checkpoint, Tensor};
use std::path::Path;

/// Writes a checkpoint with the given convolution kernels; `frozen` elements of each are frozen. It also has
/// a dense kernel, which is not drawn.
fn write(path: &Path, kernels: &[(&str, [usize; 4])], frozen: usize) {
    let mut checkpoint = Checkpoint::default();
    checkpoint.note("step", 460);
    checkpoint.push("fc.kernel".to_owned(), Tensor::f32_bits(vec![4, 2], vec![0; 8]));
    for (index, (name, shape)) in kernels.iter().enumerate() {
        let count: usize = shape.iter().product();
        let bits = (0..count).map(|i| (i as f32 / 8.0 - 1.0).to_bits()).collect();
        let mask = Mask::from_frozen((0..count).map(|i| i < frozen));
        checkpoint.note(&format!("parameter.{index}"), name);
        checkpoint.push((*name).to_owned(), Tensor::f32_bits(shape.to_vec(), bits));
        checkpoint.push(format!("mask.{name}"), Tensor::u32(vec![mask.words().len()], mask.words().to_vec()));
    }
    checkpoint.note(&format!("parameter.{}", kernels.len()), "fc.kernel");
    checkpoint.write(path).unwrap();
}

/// A cell of a picture: row and column in pixels, class and opacity.
type CellOf<'a> = ([usize; 2], &'a str, &'a str);

/// The cells of a picture.
#[derive(Default)]
struct Cells<'a> {
    /// In the order of rows and columns.
    values: Vec<CellOf<'a>>,
    /// The places of outlines, in this order.
    frozen: Vec<[usize; 2]>,
}

impl<'a> Cells<'a> {
    /// Reads the cells of each grid, in order.
    fn of(svg: &'a str) -> Vec<Self> {
        let attribute = |line: &'a str, name: &str| {
            let (_, rest) = line.split_once(&format!(" {name}=\"")).unwrap();
            rest.split('"').next().unwrap()
        };
        let places = |line| {
            attribute(line, "d").split('M').skip(1).map(|part| {
                let (x, rest) = part.split_once(' ').unwrap();
                let (y, _) = rest.split_once('h').unwrap();
                [y, x].map(|text| text.parse::<usize>().unwrap())
            })
        };
        let grid = |text: &'a str| {
            let (values, rest) = text.split_once("</g>\n").unwrap();
            let mut cells = Cells::default();
            for line in values.lines().skip(1) {
                let (class, opacity) = (attribute(line, "class"), attribute(line, "stroke-opacity"));
                cells.values.extend(places(line).map(|place| (place, class, opacity)));
            }
            let outlines = rest.lines().next().filter(|line| line.starts_with("<path class=\"f\""));
            cells.frozen.extend(outlines.into_iter().flat_map(places));
            cells.values.sort_unstable();
            cells.frozen.sort_unstable();
            cells
        };
        svg.split("<g class=\"v\"").skip(1).map(grid).collect()
    }

    /// The classes and opacities of the cells in a range of rows and of columns, in pixels from those of the first cell.
    fn inside(&self, rows: std::ops::Range<usize>, columns: std::ops::Range<usize>) -> Vec<(&str, &str)> {
        let top = self.values.iter().map(|([y, _], ..)| y).min().unwrap();
        let left = self.values.iter().map(|([_, x], ..)| x).min().unwrap();
        let inside = |&&([y, x], ..): &&CellOf| rows.contains(&(y - top)) && columns.contains(&(x - left));
        self.values.iter().filter(inside).map(|&(_, class, opacity)| (class, opacity)).collect()
    }

    /// The classes and opacities of all cells, in order.
    fn shades(&self) -> Vec<(&str, &str)> {
        self.values.iter().map(|&(_, class, opacity)| (class, opacity)).collect()
    }
}

#[test]
fn picture_has_one_cell_per_weight_and_one_outline_per_frozen_weight() {
    let out = folder("draw");
    std::fs::create_dir_all(&out).unwrap();
    let file = out.join("weights.safetensors");
    // The second kernel has more output channels (200) than fit next to each other in the picture.
    write(&file, &[("conv1.kernel", [3, 2, 1, 4]), ("a<b.kernel", [1, 1, 2, 200])], 10);
    // If the argument is a folder, the command draws the weights.safetensors in it.
    let output = frazil(&["draw", out.to_str().unwrap()]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.contains("conv1.kernel: 3 x 2, 1 x 4 channels, 10 of 24 weights frozen"), "{text}");
    let svg = std::fs::read_to_string(out.join("weights.svg")).unwrap();
    let grids = Cells::of(&svg);
    let [first, second] = grids.as_slice() else { panic!("{} grids", grids.len()) };
    // The weight 0 of each kernel, with index 8, has the colour of the background.
    assert_eq!((first.values.len(), second.values.len()), (23, 399));
    assert_eq!((first.frozen.len(), second.frozen.len()), (10, 10));
    // Tiles are in the order of output channels. The first tile has the elements `[row, column, 0, 0]` of conv1.kernel,
    // whose indices are 0, 4, 8 and so on. Cells are 20 pixels apart.
    let tile: Vec<_> = first.inside(0..60, 0..40).iter().map(|(class, _)| *class).collect();
    assert_eq!(tile, ["n", "n", "p", "p", "p"]);
    // The first 10 elements are frozen: 0, 4 and 8 of the first tile.
    let [y, x] = first.values[0].0;
    let outlined = |row: usize, column: usize| first.frozen.contains(&[y + 20 * row, x + 20 * column]);
    let tile = [[0, 0], [0, 1], [1, 0], [1, 1], [2, 0], [2, 1]].map(|[row, column]| outlined(row, column));
    assert_eq!(tile, [true, true, true, false, false, false]);
    // Both kernels share one scale, the largest magnitude 399 / 8 - 1 = 48.875. The cell of this weight has opacity 1.
    assert_eq!(second.values.last().unwrap().2, "1");
    assert_eq!(first.values[0].2, ".14", "sqrt(1 / 48.875)");
    for part in ["48.9", "frozen", "step 460", "3 × 2", "a&lt;b.kernel", "prefers-color-scheme:dark"] {
        assert!(svg.contains(part), "{part}");
    }
    assert!(svg.starts_with("<svg ") && svg.ends_with("</svg>\n"));
    assert_eq!(svg.matches("<g ").count(), svg.matches("</g>").count());

    let output = frazil(&["draw", file.to_str().unwrap(), "-o", "-"]);
    assert!(output.status.success() && output.stdout == svg.as_bytes());
    std::fs::remove_dir_all(out).unwrap();
}

#[test]
fn weights_that_are_not_finite_have_their_own_colour_and_do_not_change_the_scale() {
    let out = folder("draw-nan");
    std::fs::create_dir_all(&out).unwrap();
    let file = out.join("other.safetensors");
    let mut checkpoint = Checkpoint::default();
    let bits = [f32::NAN, f32::INFINITY, -0.5, 0.125].map(f32::to_bits).to_vec();
    checkpoint.push("features.0.weight".to_owned(), Tensor::f32_bits(vec![2, 2, 1, 1], bits));
    checkpoint.write(&file).unwrap();
    let output = frazil(&["draw", file.to_str().unwrap(), "--out", out.join("a.svg").to_str().unwrap()]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let svg = std::fs::read_to_string(out.join("a.svg")).unwrap();
    assert_eq!(Cells::of(&svg)[0].shades(), [("x", "1"), ("x", "1"), ("n", "1"), ("p", ".5")]);
    assert!(svg.contains("NaN or infinite"), "the legend names the colour");
    std::fs::remove_dir_all(out).unwrap();
}

#[test]
fn kernels_beyond_the_maximum_number_of_weights_are_named() {
    let out = folder("draw-large");
    std::fs::create_dir_all(&out).unwrap();
    let file = out.join("weights.safetensors");
    // The first kernel is drawn although it has more weights than the maximum; the second is not drawn.
    write(&file, &[("conv1.kernel", [3, 3, 16, 80]), ("conv2.kernel", [1, 1, 1, 1])], 0);
    let output = frazil(&["draw", file.to_str().unwrap()]);
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.contains("not drawn") && text.contains("conv2.kernel"), "{text}");
    let svg = std::fs::read_to_string(out.join("weights.svg")).unwrap();
    // One weight is 0.
    assert_eq!(Cells::of(&svg).iter().map(|grid| grid.values.len()).collect::<Vec<_>>(), [11_519]);
    std::fs::remove_dir_all(out).unwrap();
}

#[test]
fn frozen_weights_are_blank_in_what_moved() {
    let out = folder("draw-base");
    std::fs::create_dir_all(&out).unwrap();
    let [file, base, picture] = ["now.safetensors", "base.safetensors", "a.svg"].map(|name| out.join(name));
    let write = |path: &Path, values: [f32; 4]| {
        let mut checkpoint = Checkpoint::default();
        let bits = values.map(f32::to_bits).to_vec();
        checkpoint.note("parameter.0", "conv.kernel");
        checkpoint.push("conv.kernel".to_owned(), Tensor::f32_bits(vec![2, 2, 1, 1], bits));
        checkpoint.push("mask.conv.kernel".to_owned(), Tensor::u32(vec![1], vec![0b0011]));
        checkpoint.write(path).unwrap();
    };
    write(&base, [1.0, -2.0, 0.5, 4.0]);
    write(&file, [1.0, -2.0, 0.25, 4.0625]);
    let [file, base, svg] = [&file, &base, &picture].map(|path| path.to_str().unwrap());
    let output = frazil(&["draw", file, "--base", base, "-o", svg]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(String::from_utf8_lossy(&output.stdout).contains("2 of 4 weights frozen, 2 moved"));
    let text = std::fs::read_to_string(&picture).unwrap();
    let grids = Cells::of(&text);
    assert_eq!((grids[0].frozen.len(), grids[1].frozen.len()), (2, 2));
    // Only the second row moved.
    assert_eq!(grids[1].shades(), [("n", "1"), ("p", ".5")]);
    let moved = grids[1].values[0].0[0];
    assert!(grids[1].frozen.iter().all(|[y, _]| *y < moved));
    assert!(
        text.contains("2 weights moved since the base weights; full colour is a change of 0.250"),
        "{text}"
    );
    // A base of another shape, and a picture that would replace the base.
    let other = out.join("other.safetensors");
    self::write(&other, &[("conv.kernel", [1, 1, 1, 1])], 0);
    for (base, picture, part) in [(other.to_str().unwrap(), svg, "conv.kernel"), (base, base, "--out")] {
        let output = frazil(&["draw", file, "--base", base, "-o", picture]);
        let message = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success() && message.contains(part), "{message}");
    }
    std::fs::remove_dir_all(out).unwrap();
}

#[test]
fn a_run_draws_its_kernels_and_a_picture_shows_an_example() {
    let out = folder("draw-run");
    let run = out.to_str().unwrap();
    let output = frazil(&["train", "--epochs", "1", "--out", run]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let svg = std::fs::read_to_string(out.join("weights.svg")).unwrap();
    // The weights, and what moved in them.
    let grids = Cells::of(&svg);
    assert_eq!(grids.len(), 4);
    for (grid, (weights, frozen)) in grids.iter().zip([(144, 72), (144, 72), (4608, 2304), (4608, 2304)]) {
        assert_eq!(grid.frozen.len(), frozen);
        assert!(grid.values.len() <= weights);
    }
    for moved in [&grids[1], &grids[3]] {
        let outlined = |(place, ..): &CellOf| moved.frozen.binary_search(place).is_ok();
        assert!(!moved.values.iter().any(outlined), "a frozen weight moved");
        assert!(moved.values.len() > moved.frozen.len() / 2 && moved.values.iter().any(|cell| cell.1 == "n"));
    }
    assert!(svg.len() < 300_000, "{} bytes", svg.len());

    let png = out.join("a.png");
    let output = frazil(&["draw", run, "-o", png.to_str().unwrap(), "--data", "digits", "--example", "3"]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let bytes = std::fs::read(&png).unwrap();
    assert_eq!(bytes[..8], *b"\x89PNG\r\n\x1a\n");
    assert_eq!(u32::from_be_bytes(bytes[16..20].try_into().unwrap()), 2160, "the width");
    let output = frazil(&["draw", run, "-o", "-", "--data", "digits"]);
    let svg = String::from_utf8(output.stdout).unwrap();
    // The image, and the maps of both layers.
    assert_eq!(svg.matches("<image ").count(), 1 + 16 + 32);
    assert!(svg.contains("test example 0 of digits: class "), "{svg}");
    let output = frazil(&["draw", run, "-o", "-", "--data", "digits", "--example", "360"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).contains("below the 360 test examples"));
    std::fs::remove_dir_all(out).unwrap();
}

#[test]
fn errors_name_the_file_and_what_was_expected() {
    let out = folder("draw-errors");
    std::fs::create_dir_all(&out).unwrap();
    let path = |name: &str| out.join(name).to_str().unwrap().to_owned();
    write(&out.join("dense"), &[], 0);
    write(&out.join("picture.svg"), &[("conv.kernel", [1, 1, 1, 1])], 0);
    std::fs::write(out.join("text"), "no tensors").unwrap();
    let missing = out.join("no-such-folder").join("a.svg");
    let wrong: [(&[&str], i32, &[&str]); 6] = [
        (&[&path("none.safetensors")], 1, &["none.safetensors", "No such file"]),
        (&[&path("text")], 1, &["text", "safetensors"]),
        (&[&path("dense")], 1, &["dense", "expected a convolution kernel", "got fc.kernel"]),
        (&[&path("picture.svg"), "-o", missing.to_str().unwrap()], 1, &["no-such-folder"]),
        // The checkpoint has the extension svg, so the default output would replace it.
        (&[&path("picture.svg")], 2, &["--out", "picture.svg"]),
        (&[], 2, &["FILE"]),
    ];
    for (arguments, code, parts) in wrong {
        let output = frazil(&[&["draw"], arguments].concat());
        let message = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {message}");
        assert!(parts.iter().all(|part| message.contains(part)), "{arguments:?}: {message}");
    }
    std::fs::remove_dir_all(out).unwrap();
}
