//! What a picture consists of, independent of its file format.

/// Font sizes and weights of texts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Style {
    Heading,
    Bold,
    Normal,
    Muted,
    /// Small and muted.
    Label,
}

/// The point of a text that its position is that of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Anchor {
    Start,
    Middle,
    End,
}

/// The colour of a value.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Shade {
    /// A finite value: the square root of its share of the largest magnitude, in percent. Few values are large, and
    /// with a linear scale all others would be hardly visible.
    Finite { negative: bool, percent: u32 },
    /// NaN or infinite.
    NotFinite,
}

impl Shade {
    /// The shade of a value on a scale that ends at `scale`.
    pub fn of(value: f32, scale: f32) -> Self {
        if !value.is_finite() {
            return Shade::NotFinite;
        }
        let share = if scale > 0.0 { f64::from(value.abs()) / f64::from(scale) } else { 0.0 };
        Shade::Finite { negative: value < 0.0, percent: (100.0 * share.sqrt()).round() as u32 }
    }
}

/// One value, at its position in a tile.
pub struct Cell {
    pub x: usize,
    pub y: usize,
    pub shade: Shade,
    pub frozen: bool,
}

/// A rectangle of values on a background of the colour of zero. Positions and lengths of all parts of a picture are in
/// pixels.
pub struct Tile {
    pub x: usize,
    pub y: usize,
    pub width: usize,
    pub height: usize,
    pub cells: Vec<Cell>,
}

/// Tiles with cells of one size.
pub struct Tiles {
    /// Distance from one cell to the next; a seam belongs to it.
    pub pitch: usize,
    pub tiles: Vec<Tile>,
}

/// An image whose pixels become rectangles.
pub struct Image {
    pub x: usize,
    pub y: usize,
    pub width: usize,
    pub height: usize,
    /// Pixels in a row, and RGB values row by row.
    pub columns: usize,
    pub rgb: Vec<u8>,
}

/// A part of a picture.
pub enum Item {
    Text {
        x: usize,
        y: usize,
        style: Style,
        anchor: Anchor,
        text: String,
    },
    /// Values.
    Tiles(Tiles),
    /// Values that explain colours.
    Legend(Tiles),
    Image(Image),
    /// The colours of values from the most negative to the most positive.
    Scale {
        x: usize,
        y: usize,
        width: usize,
        height: usize,
    },
}

/// A picture.
pub struct Scene {
    pub title: String,
    pub width: usize,
    pub height: usize,
    pub items: Vec<Item>,
}

impl Scene {
    /// Appends a text; `y` is its baseline.
    pub fn text(&mut self, [x, y]: [usize; 2], style: Style, anchor: Anchor, text: impl Into<String>) {
        self.items.push(Item::Text { x, y, style, anchor, text: text.into() });
    }
}

/// An outline of a frozen cell is centred on the edge of the cell; the seam between two cells has room for both.
/// Returns the seam, and twice the width of the outline.
pub fn outline(pitch: usize) -> (usize, usize) {
    if pitch < 14 { (1, 2) } else { (2, 3) }
}

/// Colours of a theme, as 0xRRGGBB.
pub struct Palette {
    pub text: u32,
    pub muted: u32,
    pub panel: u32,
    pub border: u32,
    pub zero: u32,
    pub positive: u32,
    pub negative: u32,
    pub not_finite: u32,
    pub outline: u32,
}

/// Blue and vermilion, and their lighter versions, are those of Okabe and Ito (2008), which people with any common
/// colour blindness tell apart.
pub const LIGHT: Palette = Palette {
    text: 0x1f2328,
    muted: 0x59636e,
    panel: 0xf6f8fa,
    border: 0xd1d9e0,
    zero: 0xffffff,
    positive: 0xd55e00,
    negative: 0x0072b2,
    not_finite: 0xcc79a7,
    outline: 0x1f2328,
};
pub const DARK: Palette = Palette {
    text: 0xf0f6fc,
    muted: 0x9198a1,
    panel: 0x212830,
    border: 0x3d444d,
    zero: 0x0d1117,
    positive: 0xf0a202,
    negative: 0x56b4e9,
    not_finite: 0xcc79a7,
    outline: 0xf0f6fc,
};
/// Opacity of outlines, in percent.
pub const OUTLINE_OPACITY: u32 = 75;
/// Radius of the corners of the panel behind a picture.
pub const CORNER: usize = 12;
