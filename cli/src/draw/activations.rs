//! The outputs of the layers of a network for one image, as rows of maps.

use super::scene::{Anchor, Image, Item, Scene, Style};
use super::{BETWEEN, HEADING, MARGIN, WIDTH, plural, significant};
use frazil::Batch;
use frazil::trainer::Trainer;
use frazil::{Error, Result};

/// Maximum number of channels of a layer that are drawn.
const MOST_CHANNELS: usize = 64;
/// Side of a map.
const SIDE: usize = 56;
const GAP: usize = 8;

/// Colours of values from the smallest to the largest, which also differ in lightness and which people with any common
/// colour blindness tell apart: those of cividis (Nunez et al. 2018), one in each ninth of the scale.
const COLOURS: [[u8; 3]; 10] = [
    [0, 34, 78],
    [18, 53, 112],
    [59, 73, 108],
    [87, 93, 109],
    [112, 113, 115],
    [138, 134, 120],
    [165, 156, 116],
    [195, 179, 105],
    [225, 204, 85],
    [254, 232, 56],
];

/// The image and the outputs of layers.
pub struct Activations {
    title: String,
    layers: Vec<Layer>,
}

/// Maps of one layer.
struct Layer {
    name: String,
    /// Rows, columns and channels.
    shape: [usize; 3],
    values: Vec<f32>,
    /// Whether the maps are the colours of an image.
    is_image: bool,
}

impl Activations {
    /// Computes the outputs of all layers that have parameters and images as outputs, for the only example of `batch`.
    pub fn new(trainer: &Trainer, batch: &Batch, title: String) -> Result<Self> {
        let model = trainer.model();
        let Ok(shape) = <[usize; 3]>::try_from(model.example_shape()) else {
            let got = format!("{:?}", model.example_shape());
            let expected = "a network of images [h, w, c]".to_owned();
            return Err(Error::InvalidArgument { at: "--data".to_owned(), expected, got });
        };
        let name = "input".to_owned();
        let mut layers = vec![Layer { name, shape, values: batch.features.clone(), is_image: true }];
        for layer in model.layers().iter().filter(|layer| !layer.parameters().is_empty()) {
            if let Ok(shape) = <[usize; 3]>::try_from(layer.output()) {
                let values = trainer.activations(layer.name(), batch)?;
                layers.push(Layer { name: layer.name().to_owned(), shape, values, is_image: false });
            }
        }
        Ok(Activations { title, layers })
    }

    /// Appends all maps from `y` on, the baseline of the heading. Returns the `y` of what follows.
    pub fn draw(&self, scene: &mut Scene, mut y: usize) -> usize {
        scene.text([MARGIN, y], Style::Heading, Anchor::Start, "Activations");
        scene.text([MARGIN, y + 24], Style::Muted, Anchor::Start, self.title.clone());
        y += 24 + BETWEEN;
        for layer in &self.layers {
            scene.text([MARGIN, y], Style::Bold, Anchor::Start, layer.name.clone());
            scene.text([MARGIN, y + 20], Style::Muted, Anchor::Start, layer.heading());
            y = layer.draw(scene, y + HEADING) + BETWEEN;
        }
        y
    }
}

impl Layer {
    fn range(&self) -> [f32; 2] {
        let finite = self.values.iter().copied().filter(|value| value.is_finite());
        let (low, high) =
            finite.fold((f32::INFINITY, f32::NEG_INFINITY), |(low, high), v| (low.min(v), high.max(v)));
        if low <= high { [low, high] } else { [0.0, 0.0] }
    }

    fn heading(&self) -> String {
        let [height, width, channels] = self.shape;
        let [low, high] = self.range();
        let sign = if low < 0.0 { "−" } else { "" };
        let shown = match channels {
            0..=MOST_CHANNELS => String::new(),
            _ => format!(", the first {MOST_CHANNELS} are drawn"),
        };
        format!(
            "{height} × {width}, {}{shown}; from {sign}{} to {}",
            plural(channels, "channel", "channels"),
            significant(low.abs()),
            significant(high)
        )
    }

    /// Draws the maps from `y` on, and returns where they end.
    fn draw(&self, scene: &mut Scene, y: usize) -> usize {
        let [height, width, channels] = self.shape;
        let longest = height.max(width).max(1);
        let [high, wide] = [height, width].map(|extent| (SIDE * extent / longest).max(1));
        let [low, top] = self.range();
        let share = |value: f32| {
            let share = if top > low {
                (f64::from(value) - f64::from(low)) / (f64::from(top) - f64::from(low))
            } else {
                0.5
            };
            // Values that are not finite are drawn as the smallest.
            if share.is_finite() { share.clamp(0.0, 1.0) } else { 0.0 }
        };
        let pixels = height * width;
        let maps = match (self.is_image, channels) {
            (true, 3) => vec![self.values.iter().map(|&v| (255.0 * share(v)).round() as u8).collect()],
            _ => {
                let map = |channel: usize| -> Vec<u8> {
                    let values = (0..pixels).filter_map(|pixel| self.values.get(pixel * channels + channel));
                    let gray = |value: f64| [(255.0 * value).round() as u8; 3];
                    values
                        .flat_map(|&v| if self.is_image { gray(share(v)) } else { colour(share(v)) })
                        .collect()
                };
                (0..channels.min(MOST_CHANNELS)).map(map).collect()
            }
        };
        let each_row = ((WIDTH - 2 * MARGIN + GAP) / (wide + GAP)).max(1);
        let rows = maps.len().div_ceil(each_row);
        for (number, rgb) in maps.into_iter().enumerate() {
            let (x, y) = (MARGIN + number % each_row * (wide + GAP), y + number / each_row * (high + GAP));
            scene.items.push(Item::Image(Image { x, y, width: wide, height: high, columns: width, rgb }));
        }
        y + rows * (high + GAP)
    }
}

/// The colour of a value from 0 to 1.
fn colour(value: f64) -> [u8; 3] {
    let position = value.clamp(0.0, 1.0) * (COLOURS.len() - 1) as f64;
    let first = (position as usize).min(COLOURS.len() - 2);
    let share = position - first as f64;
    let mixed = |channel: usize| {
        let [low, high] = [first, first + 1].map(|index| f64::from(COLOURS[index][channel]));
        (low + share * (high - low)).round() as u8
    };
    [mixed(0), mixed(1), mixed(2)]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn colours_begin_and_end_with_those_of_the_scale_and_grow_lighter() {
        assert_eq!((colour(0.0), colour(1.0), colour(7.0)), (COLOURS[0], COLOURS[9], COLOURS[9]));
        let lightness = |value: f64| colour(value).iter().map(|&c| u32::from(c)).sum::<u32>();
        let steps: Vec<_> = (0..=30).map(|step| lightness(f64::from(step) / 30.0)).collect();
        assert!(steps.windows(2).all(|pair| pair[0] < pair[1]), "{steps:?}");
    }
}
