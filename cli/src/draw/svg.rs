//! Pictures as SVG.
//!
//! The only `<rect>` elements are values, with these classes:
//!
//! | class | value |
//! |---|---|
//! | `p`, `n` | positive or zero, negative |
//! | `x` | NaN or infinite |
//! | `f` | frozen |
//!
//! The colour of a class covers the colour of zero with the opacity of its shade. As values differ in opacity only, the
//! style sheet can replace the colours by those of a dark theme (`prefers-color-scheme`).

use super::png;
use super::scene::{
    Anchor, CORNER, DARK, Image, Item, LIGHT, OUTLINE_OPACITY, Palette, Scene, Shade, Style, Tile, outline,
};
use frazil::checkpoint::printable;
use std::fmt::{self, Display, Formatter};

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
             .e{{text-anchor:end}}.c{{text-anchor:middle}}.f{{stroke-opacity:.{OUTLINE_OPACITY}}}\
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
                Item::Tile(tile) => write_tile(f, tile, "rect")?,
                Item::Swatch(tile) => write_tile(f, tile, "path")?,
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
        for (class, colour) in [("z", zero), ("p", positive), ("n", negative)] {
            write!(f, ".{class}{{fill:#{colour:06x};stop-color:#{colour:06x}}}")?;
        }
        write!(f, ".x{{fill:#{not_finite:06x}}}.f{{stroke:#{outline:06x}}}")
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

/// Writes a tile with its cells as `<rect>`, or as `<path>` elements.
fn write_tile(f: &mut Formatter<'_>, tile: &Tile, element: &str) -> fmt::Result {
    let Tile { x, y, width, height, pitch, title, cells } = tile;
    let (seam, twice) = outline(*pitch);
    write!(f, r#"<g transform="translate({x},{y})" stroke-width="{}.{}">"#, twice / 2, twice % 2 * 5)?;
    if !title.is_empty() {
        write!(f, "<title>{}</title>", escape(title))?;
    }
    writeln!(f, r#"<path class="z" d="M0 0h{width}v{height}h-{width}z"/>"#)?;
    let side = pitch.saturating_sub(seam);
    for cell in cells {
        let (class, opacity) = match cell.shade {
            Shade::NotFinite => ('x', "1".to_owned()),
            Shade::Finite { negative, percent } => {
                let opacity = match percent {
                    0 => "0".to_owned(),
                    100.. => "1".to_owned(),
                    percent => format!(".{percent:02}").trim_end_matches('0').to_owned(),
                };
                (if negative { 'n' } else { 'p' }, opacity)
            }
        };
        let frozen = if cell.frozen { " f" } else { "" };
        let (x, y) = (cell.x, cell.y);
        write!(f, r#"<{element} class="{class}{frozen}""#)?;
        match element {
            "rect" => write!(f, r#" x="{x}" y="{y}" width="{side}" height="{side}""#)?,
            _ => write!(f, r#" d="M{x} {y}h{side}v{side}h-{side}z""#)?,
        }
        writeln!(f, r#" fill-opacity="{opacity}"/>"#)?;
    }
    writeln!(f, "</g>")
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
