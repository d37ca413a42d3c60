//! Pictures as SVG.
//!
//! Values are in groups `<g class="v">`: a path for each colour and opacity, in which a value is a stroke `Mx yhs` of the
//! length and the width s. That is a sixth of the bytes of an element for each value. The classes of paths are:
//!
//! | class | values |
//! |---|---|
//! | `p`, `n` | positive, negative |
//! | `x` | NaN or infinite |
//! | `f` | the outlines of those that are frozen, after the group |
//!
//! The colour of a class covers the colour of zero with the opacity of its shade; the nearest to 0 are not drawn. As values
//! differ in opacity only, the style sheet can replace the colours by those of a dark theme (`prefers-color-scheme`).

use super::png;
use super::scene::{
    Anchor, CORNER, DARK, Image, Item, LIGHT, OUTLINE_OPACITY, Palette, Scene, Shade, Style, Tiles, outline,
};
use frazil::checkpoint::printable;
use std::collections::BTreeMap;
use std::fmt::{self, Display, Formatter, Write};

/// Prints a scene as an SVG document.
pub struct Svg<'a>(pub &'a Scene);

impl Display for Svg<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let Scene { title, width, height, items } = self.0;
        writeln!(
            f,
            r#"<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" viewBox="0 0 {width} {height}" role="img">"#
        )?;
        writeln!(f, "<title>{}</title>", escape(title))?;
        writeln!(
            f,
            "<style>text{{font-family:ui-sans-serif,system-ui,-apple-system,'Segoe UI',Roboto,Helvetica,Arial,sans-serif;\
             font-size:13px}}.h{{font-size:24px;font-weight:600}}.b{{font-size:15px;font-weight:600}}.l{{font-size:10px}}\
             .e{{text-anchor:end}}.c{{text-anchor:middle}}.f{{fill:none;stroke-opacity:.{OUTLINE_OPACITY}}}\
             image{{image-rendering:pixelated}}{}\
             @media(prefers-color-scheme:dark){{{}}}</style>",
            Colours(&LIGHT),
            Colours(&DARK)
        )?;
        writeln!(
            f,
            r#"<linearGradient id="scale"><stop class="n" offset="0"/><stop class="z" offset=".5"/><stop class="p" offset="1"/></linearGradient>"#
        )?;
        let (r, w, h) = (CORNER, width.saturating_sub(2 * CORNER + 1), height.saturating_sub(2 * CORNER + 1));
        writeln!(
            f,
            r#"<path class="panel" d="M{r}.5 .5h{w}a{r} {r} 0 0 1 {r} {r}v{h}a{r} {r} 0 0 1 -{r} {r}h-{w}a{r} {r} 0 0 1 -{r} -{r}v-{h}a{r} {r} 0 0 1 {r} -{r}z"/>"#
        )?;
        for item in items {
            match item {
                Item::Text { x, y, style, anchor, text } => {
                    let class = match (style, anchor) {
                        (Style::Normal, Anchor::Start) => String::new(),
                        _ => format!(r#" class="{}{}""#, class(*style), position(*anchor)),
                    };
                    writeln!(f, r#"<text{class} x="{x}" y="{y}">{}</text>"#, escape(text))?;
                }
                Item::Tiles(tiles) => write_tiles(f, tiles, "v")?,
                Item::Legend(tiles) => write_tiles(f, tiles, "k")?,
                Item::Image(image) => write_image(f, image)?,
                Item::Scale { x, y, width: w, height: h } => {
                    writeln!(f, r#"<path class="r" fill="url(#scale)" d="M{x} {y}h{w}v{h}h-{w}z"/>"#)?;
                }
            }
        }
        write!(f, "</svg>")
    }
}

/// The rules of a palette's colours.
struct Colours<'a>(&'a Palette);

impl Display for Colours<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let Palette { text, muted, panel, border, zero, positive, negative, not_finite, outline } = self.0;
        write!(f, "text{{fill:#{text:06x}}}.m,.l{{fill:#{muted:06x}}}")?;
        write!(f, ".panel{{fill:#{panel:06x};stroke:#{border:06x}}}.r{{stroke:#{border:06x}}}")?;
        write!(f, ".z{{fill:#{zero:06x};stop-color:#{zero:06x}}}")?;
        for (class, colour) in [("p", positive), ("n", negative)] {
            write!(f, ".{class}{{stroke:#{colour:06x};stop-color:#{colour:06x}}}")?;
        }
        write!(f, ".x{{stroke:#{not_finite:06x}}}.f{{stroke:#{outline:06x}}}")
    }
}

fn class(style: Style) -> &'static str {
    match style {
        Style::Heading => "h",
        Style::Bold => "b",
        Style::Normal => "t",
        Style::Muted => "m",
        Style::Label => "l",
    }
}

fn position(anchor: Anchor) -> &'static str {
    match anchor {
        Anchor::Start => "",
        Anchor::Middle => " c",
        Anchor::End => " e",
    }
}

/// Writes the backgrounds of tiles, their values in a group of this class, and the outlines of frozen values.
fn write_tiles(f: &mut Formatter<'_>, tiles: &Tiles, group: &str) -> fmt::Result {
    let (seam, twice) = outline(tiles.pitch);
    let side = tiles.pitch.saturating_sub(seam);
    let (mut zero, mut frozen) = (String::new(), String::new());
    let mut values: BTreeMap<(char, u32), String> = BTreeMap::new();
    for tile in &tiles.tiles {
        let (w, h) = (tile.width, tile.height);
        write!(zero, "M{} {}h{w}v{h}h-{w}z", tile.x, tile.y)?;
        for cell in &tile.cells {
            let (x, y) = (tile.x + cell.x, tile.y + cell.y);
            let key = match cell.shade {
                Shade::NotFinite => ('x', 100),
                Shade::Finite { negative, percent } => (if negative { 'n' } else { 'p' }, percent.min(100)),
            };
            if key.1 > 0 {
                write!(values.entry(key).or_default(), "M{x} {y}h{side}")?;
            }
            if cell.frozen {
                write!(frozen, "M{x} {y}h{side}v{side}h-{side}z")?;
            }
        }
    }
    writeln!(f, r#"<path class="z" d="{zero}"/>"#)?;
    // A stroke has its path in the middle.
    let half = format!("{}.{}", side / 2, side % 2 * 5);
    writeln!(f, r#"<g class="{group}" stroke-width="{side}" transform="translate(0,{half})">"#)?;
    for ((class, percent), path) in values {
        let opacity = match percent {
            100 => "1".to_owned(),
            percent => format!(".{percent:02}").trim_end_matches('0').to_owned(),
        };
        writeln!(f, r#"<path class="{class}" stroke-opacity="{opacity}" d="{path}"/>"#)?;
    }
    writeln!(f, "</g>")?;
    if !frozen.is_empty() {
        writeln!(f, r#"<path class="f" stroke-width="{}.{}" d="{frozen}"/>"#, twice / 2, twice % 2 * 5)?;
    }
    Ok(())
}

fn write_image(f: &mut Formatter<'_>, image: &Image) -> fmt::Result {
    let Image { x, y, width, height, columns, rgb } = image;
    // Of an image that cannot be encoded, nothing is drawn.
    let Some(data) = png::encode_rgb(*columns, rgb) else { return Ok(()) };
    write!(f, r#"<image x="{x}" y="{y}" width="{width}" height="{height}" preserveAspectRatio="none""#)?;
    writeln!(f, r#" href="data:image/png;base64,{}"/>"#, Base64(&data))
}

/// Prints bytes in base64 (RFC 4648).
struct Base64<'a>(&'a [u8]);

impl Display for Base64<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
        for part in self.0.chunks(3) {
            let bits =
                part.iter().fold(0u32, |bits, &byte| bits << 8 | u32::from(byte)) << (8 * (3 - part.len()));
            for digit in 0..4 {
                let index = (bits >> (18 - 6 * digit) & 63) as usize;
                write!(f, "{}", if digit <= part.len() { char::from(DIGITS[index]) } else { '=' })?;
            }
        }
        Ok(())
    }
}

/// Escapes text for XML, which allows no control characters at all.
fn escape(text: &str) -> String {
    printable(text).replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_those_of_rfc_4648() {
        for (bytes, expected) in [
            ("", ""),
            ("f", "Zg=="),
            ("fo", "Zm8="),
            ("foo", "Zm9v"),
            ("foobar", "Zm9vYmFy"),
            ("\u{ff}>?", "w78+Pw=="),
        ] {
            assert_eq!(Base64(bytes.as_bytes()).to_string(), expected);
        }
    }
}
