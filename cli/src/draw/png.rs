//! Pictures as PNG, with twice as many pixels as the lengths of the scene.

use super::scene::{
    Anchor, CORNER, Image, Item, OUTLINE_OPACITY, Palette, Scene, Shade, Style, Tiles, outline,
};
use noto_sans_mono_bitmap::{FontWeight, RasterHeight, get_raster, get_raster_width};

/// Pixels for each unit of length.
const SCALE: usize = 2;

/// Encodes an image of RGB values; `None` if they are no image.
pub fn encode_rgb(columns: usize, rgb: &[u8]) -> Option<Vec<u8>> {
    let rows = rgb.len().checked_div(3 * columns)?;
    encode(columns, rows, png::ColorType::Rgb, rgb)
}

fn encode(columns: usize, rows: usize, colours: png::ColorType, data: &[u8]) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    let mut encoder = png::Encoder::new(&mut bytes, u32::try_from(columns).ok()?, u32::try_from(rows).ok()?);
    encoder.set_color(colours);
    encoder.set_depth(png::BitDepth::Eight);
    let mut writer = encoder.write_header().ok()?;
    writer.write_image_data(data).ok()?;
    writer.finish().ok()?;
    Some(bytes)
}

/// Draws a scene; `None` if it is too large for a PNG file.
pub fn draw(scene: &Scene, palette: &Palette) -> Option<Vec<u8>> {
    let mut canvas = Canvas::new(SCALE * scene.width, SCALE * scene.height);
    canvas.panel(palette);
    for item in &scene.items {
        match item {
            Item::Text { x, y, style, anchor, text } => {
                let colour = match style {
                    Style::Heading | Style::Bold | Style::Normal => palette.text,
                    Style::Muted | Style::Label => palette.muted,
                };
                canvas.text([SCALE * x, SCALE * y], *style, *anchor, text, colour);
            }
            Item::Tiles(tiles) | Item::Legend(tiles) => canvas.tiles(tiles, palette),
            Item::Image(image) => canvas.image(image),
            Item::Scale { x, y, width, height } => {
                let [x, y, width, height] = [x, y, width, height].map(|&length| SCALE * length);
                for column in 0..width {
                    let at = 2.0 * (column as f64 + 0.5) / width as f64 - 1.0;
                    let ink = if at < 0.0 { palette.negative } else { palette.positive };
                    canvas.fill([x + column, y, 1, height], palette.zero, 100);
                    canvas.fill([x + column, y, 1, height], ink, (100.0 * at.abs()).round() as u32);
                }
                canvas.frame([x, y, width, height], SCALE, palette.border, 100);
            }
        }
    }
    encode(canvas.width, canvas.height, png::ColorType::Rgba, &canvas.rgba)
}

struct Canvas {
    width: usize,
    height: usize,
    rgba: Vec<u8>,
}

impl Canvas {
    fn new(width: usize, height: usize) -> Self {
        Canvas { width, height, rgba: vec![0; 4 * width * height] }
    }

    /// Covers a pixel, if it is inside, with a colour of this opacity in percent.
    fn blend(&mut self, x: usize, y: usize, colour: u32, opacity: u32) {
        if x >= self.width || y >= self.height {
            return;
        }
        let pixel = &mut self.rgba[4 * (y * self.width + x)..][..4];
        let opacity = opacity.min(100);
        let covered = |under: u8, over: u32| {
            let sum = u32::from(under) * (100 - opacity) + over * opacity;
            ((sum + 50) / 100).min(255) as u8
        };
        if pixel[3] == 0 {
            // Nothing is there yet: the colour as it is.
            let [_, r, g, b] = colour.to_be_bytes();
            pixel.copy_from_slice(&[r, g, b, ((255 * opacity + 50) / 100) as u8]);
            return;
        }
        for (channel, shift) in pixel.iter_mut().zip([16, 8, 0]) {
            *channel = covered(*channel, colour >> shift & 0xff);
        }
        pixel[3] = covered(pixel[3], 255);
    }

    fn fill(&mut self, [x, y, width, height]: [usize; 4], colour: u32, opacity: u32) {
        for row in y..y + height {
            (x..x + width).for_each(|column| self.blend(column, row, colour, opacity));
        }
    }

    /// Draws the edges of a rectangle, inside of it.
    fn frame(&mut self, [x, y, width, height]: [usize; 4], line: usize, colour: u32, opacity: u32) {
        let inner = height.saturating_sub(2 * line);
        self.fill([x, y, width, line], colour, opacity);
        self.fill([x, y + line + inner, width, line], colour, opacity);
        self.fill([x, y + line, line, inner], colour, opacity);
        self.fill([x + width - line.min(width), y + line, line, inner], colour, opacity);
    }

    /// Draws the panel behind the picture, with round corners.
    fn panel(&mut self, palette: &Palette) {
        let (width, height, radius) = (self.width as f64, self.height as f64, (SCALE * CORNER) as f64);
        for y in 0..self.height {
            for x in 0..self.width {
                let [px, py] = [x as f64 + 0.5, y as f64 + 0.5];
                // The distance from the edge, inside; at the corners from a circle.
                let across = |p: f64, length: f64| (radius - p).max(p - (length - radius)).max(0.0);
                let (dx, dy) = (across(px, width), across(py, height));
                let inside = if dx > 0.0 && dy > 0.0 {
                    radius - dx.hypot(dy)
                } else {
                    px.min(width - px).min(py).min(height - py)
                };
                let share = |depth: f64| (100.0 * (depth + 0.5).clamp(0.0, 1.0)).round() as u32;
                self.blend(x, y, palette.border, share(inside));
                self.blend(x, y, palette.panel, share(inside - SCALE as f64));
            }
        }
    }

    fn tiles(&mut self, tiles: &Tiles, palette: &Palette) {
        let (seam, twice) = outline(tiles.pitch);
        let side = SCALE * tiles.pitch.saturating_sub(seam);
        for tile in &tiles.tiles {
            let [x, y, width, height] =
                [tile.x, tile.y, tile.width, tile.height].map(|length| SCALE * length);
            self.fill([x, y, width, height], palette.zero, 100);
            for cell in &tile.cells {
                let [x, y] = [x + SCALE * cell.x, y + SCALE * cell.y];
                let (colour, opacity) = match cell.shade {
                    Shade::NotFinite => (palette.not_finite, 100),
                    Shade::Finite { negative: true, percent } => (palette.negative, percent),
                    Shade::Finite { negative: false, percent } => (palette.positive, percent),
                };
                self.fill([x, y, side, side], colour, opacity);
                if cell.frozen {
                    let line = SCALE * twice / 2;
                    let [x, y] = [x, y].map(|at| at.saturating_sub(line / 2));
                    let side = side + line / 2 * 2;
                    self.frame([x, y, side, side], line, palette.outline, OUTLINE_OPACITY);
                }
            }
        }
    }

    fn image(&mut self, image: &Image) {
        let rows = image.rgb.len() / (3 * image.columns).max(1);
        let [width, height] = [image.width, image.height].map(|length| SCALE * length);
        for row in 0..height {
            for column in 0..width {
                let at = row * rows / height * image.columns + column * image.columns / width;
                if let Some(&[r, g, b]) = image.rgb.get(3 * at..3 * at + 3) {
                    let colour = u32::from_be_bytes([0, r, g, b]);
                    self.blend(SCALE * image.x + column, SCALE * image.y + row, colour, 100);
                }
            }
        }
    }

    /// Draws a text; `y` is its baseline.
    fn text(&mut self, [x, y]: [usize; 2], style: Style, anchor: Anchor, text: &str, colour: u32) {
        let (size, weight) = match style {
            Style::Heading => (RasterHeight::Size32, FontWeight::Bold),
            Style::Bold => (RasterHeight::Size24, FontWeight::Bold),
            Style::Normal | Style::Muted => (RasterHeight::Size24, FontWeight::Regular),
            Style::Label => (RasterHeight::Size20, FontWeight::Regular),
        };
        let advance = get_raster_width(weight, size);
        let width = advance * text.chars().count();
        let mut left = match anchor {
            Anchor::Start => x,
            Anchor::Middle => x.saturating_sub(width / 2),
            Anchor::End => x.saturating_sub(width),
        };
        // The baseline of these rasters is at about four fifths of their height.
        let top = y.saturating_sub(size.val() * 4 / 5);
        for character in text.chars() {
            // The font has Latin characters only.
            let character = if character == '−' { '-' } else { character };
            let raster = get_raster(character, weight, size).or_else(|| get_raster('?', weight, size));
            for (row, line) in raster.iter().flat_map(|raster| raster.rows().enumerate()) {
                for (column, &intensity) in line.iter().enumerate().filter(|(_, intensity)| **intensity > 0) {
                    self.blend(left + column, top + row, colour, u32::from(intensity) * 100 / 255);
                }
            }
            left += advance;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::draw::scene::{Cell, LIGHT, Tile};

    #[test]
    fn cells_have_their_colours_and_outlines_and_the_corners_are_transparent() {
        let cell =
            |x, percent, frozen| Cell { x, y: 0, shade: Shade::Finite { negative: false, percent }, frozen };
        let cells = vec![cell(0, 100, false), cell(20, 0, true)];
        let tiles = vec![Tile { x: 20, y: 20, width: 38, height: 18, cells }];
        let items = vec![Item::Tiles(Tiles { pitch: 20, tiles })];
        let scene = Scene { title: String::new(), width: 80, height: 60, items };
        let bytes = draw(&scene, &LIGHT).unwrap();
        let mut reader = png::Decoder::new(std::io::Cursor::new(bytes)).read_info().unwrap();
        let mut rgba = vec![0; reader.output_buffer_size().unwrap()];
        let info = reader.next_frame(&mut rgba).unwrap();
        assert_eq!((info.width, info.height), (160, 120));
        let pixel = |x: usize, y: usize| &rgba[4 * (y * 160 + x)..][..4];
        assert_eq!(pixel(0, 0)[3], 0);
        assert_eq!(pixel(150, 60), [0xf6, 0xf8, 0xfa, 255]);
        assert_eq!(pixel(58, 58), [0xd5, 0x5e, 0x00, 255]);
        assert_eq!(pixel(98, 58), [255, 255, 255, 255]);
        assert!(pixel(80, 58)[0] < 100, "the outline of the frozen cell");
    }
}
