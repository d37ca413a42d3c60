//! Charts as SVG: the time of a step by layer and kernel, and the step time against the frozen fraction.

use super::Structure;
use super::job::{Job, Variant};
use super::report::{Ratio, Row};
use frazil::gpu::AdapterReport;
use frazil::low_level::TimedDispatch;
use frazil::{Error, Result};
use plotters::coord::Shift;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

/// The chart of one workload.
pub struct Chart {
    title: String,
    bars: Vec<Bar>,
    /// Kernels and their milliseconds, descending.
    kernels: Vec<(&'static str, f64)>,
    /// Frozen fraction, step time and time of weight gradients; both times are relative to nothing frozen.
    curve: Vec<(f64, Ratio, Option<Ratio>)>,
}

/// The milliseconds of one layer by kernel.
struct Bar {
    layer: String,
    parts: Vec<(&'static str, f64)>,
}

/// Lengths in pixels.
const WIDTH: u32 = 1200;
const HEAD: u32 = 72;
const NAMES: i32 = 200;
const LEGEND: i32 = 350;
const BAR: u32 = 20;
/// Height of a bar chart without its bars: title, axis and axis label.
const FRAME: u32 = 120;
const CURVE: u32 = 420;
/// Colours of kernels in the bars: the kernels with the longest times have one colour each, and all others
/// share the last colour.
const COLOURS: [RGBColor; 12] = [
    RGBColor(31, 119, 180),
    RGBColor(255, 127, 14),
    RGBColor(44, 160, 44),
    RGBColor(214, 39, 40),
    RGBColor(148, 103, 189),
    RGBColor(140, 86, 75),
    RGBColor(227, 119, 194),
    RGBColor(188, 189, 34),
    RGBColor(23, 190, 207),
    RGBColor(174, 199, 232),
    RGBColor(255, 187, 120),
    RGBColor(150, 150, 150),
];

impl Chart {
    /// Collects the chart of a workload from the profile of a step with nothing frozen and the results of all
    /// variants.
    pub fn new(job: &Job, step: &[TimedDispatch], rows: &[Row]) -> Self {
        let mut bars: Vec<Bar> = Vec::new();
        let mut kernels: Vec<(&'static str, f64)> = Vec::new();
        for d in step {
            let ms = d.ns / 1e6;
            let layer = d.label.split(' ').next().unwrap_or_default();
            let found = bars.iter().position(|bar| bar.layer == layer).unwrap_or(bars.len());
            if found == bars.len() {
                bars.push(Bar { layer: layer.to_owned(), parts: Vec::new() });
            }
            for times in [&mut bars[found].parts, &mut kernels] {
                match times.iter_mut().find(|(kernel, _)| *kernel == d.kernel) {
                    Some((_, sum)) => *sum += ms,
                    None => times.push((d.kernel, ms)),
                }
            }
        }
        kernels.sort_by(|a, b| b.1.total_cmp(&a.1));
        let mut curve: Vec<_> = rows
            .iter()
            .filter(|row| matches!(row.variant, Variant::EmptyMask | Variant::Frozen(_)))
            .filter_map(|row| Some((row.variant.fraction(), row.ratio?, row.weight_gradient_ratio)))
            .collect();
        curve.sort_by(|a, b| a.0.total_cmp(&b.0));
        let total: f64 = kernels.iter().map(|(_, ms)| ms).sum();
        let median = rows.first().map_or(f64::NAN, |row| row.median);
        let title = format!(
            "{}, batch {}: {total:.3} ms in {} dispatches; {median:.3} ms per step on the host",
            job.workload,
            job.rows,
            step.len()
        );
        Chart { title, bars, kernels, curve }
    }

    fn bars_height(&self) -> u32 {
        // The legend of kernels may need more height than the bars of layers.
        let lines = self.bars.len().max(self.kernels.len().min(COLOURS.len()));
        FRAME + BAR * lines as u32
    }

    fn height(&self) -> u32 {
        self.bars_height() + if self.curve.is_empty() { 0 } else { CURVE }
    }

    fn colour(&self, kernel: &str) -> RGBColor {
        let index = self.kernels.iter().position(|(k, _)| *k == kernel).unwrap_or(COLOURS.len());
        COLOURS[index.min(COLOURS.len() - 1)]
    }
}

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;

/// Draws all charts, one below the other.
pub fn svg(adapter: &AdapterReport, structure: Structure, charts: &[Chart]) -> Result<String> {
    let mut text = String::new();
    let drawn = draw(&mut text, adapter, structure, charts);
    drawn.map_err(|error| Error::InvalidArgument {
        at: "--svg".to_owned(),
        expected: "a chart that can be drawn".to_owned(),
        got: error.to_string(),
    })?;
    Ok(text)
}

type Drawn = std::result::Result<(), Box<dyn std::error::Error>>;

fn draw(text: &mut String, adapter: &AdapterReport, structure: Structure, charts: &[Chart]) -> Drawn {
    let height = HEAD + charts.iter().map(Chart::height).sum::<u32>();
    let root = SVGBackend::with_string(text, (WIDTH, height)).into_drawing_area();
    root.fill(&WHITE)?;
    write(&root, "Training steps by layer and kernel", (16, 12), 24)?;
    let software = if adapter.software { ", a software adapter" } else { "" };
    let device = format!(
        "{} ({}{software}), driver {}; frazil {}",
        adapter.name,
        adapter.backend,
        adapter.driver,
        env!("CARGO_PKG_VERSION")
    );
    write(&root, &device, (16, 44), 17)?;
    let mut rest = root.split_vertically(HEAD).1;
    for chart in charts {
        let (area, below) = rest.split_vertically(chart.bars_height());
        bars(&area, chart)?;
        rest = below;
        if !chart.curve.is_empty() {
            let (area, below) = rest.split_vertically(CURVE);
            curve(&area, chart, structure)?;
            rest = below;
        }
    }
    root.present()?;
    Ok(())
}

/// Writes text. `size` is the line height; the font size is `size` / 1.24.
fn write(area: &Area, text: &str, at: (i32, i32), size: i32) -> Drawn {
    area.draw_text(text, &("sans-serif", size).into_text_style(area), at)?;
    Ok(())
}

/// Draws entry number `line` of a legend: a square and its text.
fn legend(area: &Area, line: usize, colour: RGBColor, text: &str) -> Drawn {
    let top = 44 + BAR as i32 * line as i32;
    area.draw(&Rectangle::new([(16, top), (28, top + 12)], colour.filled()))?;
    write(area, text, (36, top), 15)
}

fn bars(area: &Area, chart: &Chart) -> Drawn {
    write(area, &chart.title, (16, 8), 18)?;
    let (left, right) = area.split_horizontally(WIDTH as i32 - LEGEND);
    let longest = chart.bars.iter().map(|b| b.parts.iter().map(|p| p.1).sum::<f64>()).fold(1e-6, f64::max);
    let count = chart.bars.len() as f64;
    // The axis extends beyond the longest bar to leave room for the number at its end.
    let mut plot = ChartBuilder::on(&left)
        .margin_top(40)
        .margin_right(16)
        .margin_bottom(16)
        .set_label_area_size(LabelAreaPosition::Left, NAMES)
        .set_label_area_size(LabelAreaPosition::Bottom, 48)
        .build_cartesian_2d(0.0..longest * 1.15, 0.0..count)?;
    plot.configure_mesh()
        .disable_y_mesh()
        .disable_y_axis()
        .x_labels(8)
        .x_label_formatter(&|ms| short(*ms))
        .x_desc("time by timestamp queries, milliseconds")
        .label_style(("sans-serif", 15))
        .axis_desc_style(("sans-serif", 16))
        .light_line_style(TRANSPARENT)
        .draw()?;
    let middle = Pos::new(HPos::Right, VPos::Center);
    for (index, bar) in chart.bars.iter().enumerate() {
        let y = count - index as f64;
        let mut x = 0.0;
        for (kernel, ms) in &bar.parts {
            let corners = [(x, y - 0.12), (x + ms, y - 0.88)];
            plot.draw_series([Rectangle::new(corners, chart.colour(kernel).filled())])?;
            x += ms;
        }
        let size = ("sans-serif", 15).into_text_style(&left);
        let (zero, row) = plot.backend_coord(&(0.0, y - 0.5));
        let (end, _) = plot.backend_coord(&(x, y - 0.5));
        // `backend_coord` is relative to the picture, `draw_text` to the area.
        let corner = left.get_base_pixel();
        let at = |x: i32| (x - corner.0, row - corner.1);
        left.draw_text(&shorten(&bar.layer), &size.pos(middle), at(zero - 8))?;
        let left_aligned = size.pos(Pos::new(HPos::Left, VPos::Center));
        left.draw_text(&short(x), &left_aligned, at(end + 5))?;
    }
    let coloured = COLOURS.len() - 1;
    for (line, (kernel, ms)) in chart.kernels.iter().take(coloured).enumerate() {
        legend(&right, line, COLOURS[line], &format!("{kernel}, {} ms", short(*ms)))?;
    }
    if chart.kernels.len() > coloured {
        let others: f64 = chart.kernels.iter().skip(coloured).map(|(_, ms)| ms).sum();
        let text = format!("{} others, {} ms", chart.kernels.len() - coloured, short(others));
        legend(&right, coloured, COLOURS[coloured], &text)?;
    }
    Ok(())
}

fn curve(area: &Area, chart: &Chart, structure: Structure) -> Drawn {
    let (left, right) = area.split_horizontally(WIDTH as i32 - LEGEND);
    let ratios = chart.curve.iter().flat_map(|(_, step, gradients)| [Some(*step), *gradients]).flatten();
    let highest = ratios.map(|ratio| ratio.high).fold(1.0, f64::max);
    let mut plot = ChartBuilder::on(&left)
        .margin_top(24)
        .margin_left(16)
        .margin_right(24)
        .set_label_area_size(LabelAreaPosition::Left, 80)
        .set_label_area_size(LabelAreaPosition::Bottom, 52)
        .build_cartesian_2d(-0.02..1.02, 0.0..highest * 1.08)?;
    plot.configure_mesh()
        .x_labels(11)
        .y_labels(8)
        .x_label_formatter(&|x| format!("{x:.1}"))
        .y_label_formatter(&|y| format!("{y:.1}"))
        .x_desc(format!("frozen fraction of each kernel except the last ({structure})"))
        .y_desc("time / time with nothing frozen")
        .label_style(("sans-serif", 15))
        .axis_desc_style(("sans-serif", 16))
        .light_line_style(TRANSPARENT)
        .draw()?;
    plot.draw_series([PathElement::new([(-0.02, 1.0), (1.02, 1.0)], BLACK.stroke_width(1))])?;
    let step: Vec<_> = chart.curve.iter().map(|(x, step, _)| (*x, *step)).collect();
    let gradients: Vec<_> =
        chart.curve.iter().filter_map(|(x, _, gradients)| Some((*x, (*gradients)?))).collect();
    let named = [("whole step", step), ("weight gradients", gradients)];
    for (line, ((name, points), colour)) in named.into_iter().zip(COLOURS).enumerate() {
        if points.is_empty() {
            continue;
        }
        let path: Vec<_> = points.iter().map(|(x, ratio)| (*x, ratio.median)).collect();
        plot.draw_series([PathElement::new(path.clone(), colour.stroke_width(2))])?;
        plot.draw_series(path.into_iter().map(|at| Circle::new(at, 4, colour.filled())))?;
        let bars = points.iter().map(|(x, ratio)| [(*x, ratio.low), (*x, ratio.high)]);
        plot.draw_series(bars.map(|bar| PathElement::new(bar, colour.stroke_width(1))))?;
        legend(&right, line, colour, name)?;
    }
    write(&right, "median and quartiles;", (16, 96), 15)?;
    write(&right, "fraction 0: empty mask", (16, 116), 15)
}

/// Milliseconds with three significant digits.
fn short(ms: f64) -> String {
    match ms {
        0.0 => "0".to_owned(),
        ms if ms >= 100.0 => format!("{ms:.0}"),
        ms if ms >= 10.0 => format!("{ms:.1}"),
        ms if ms >= 1.0 => format!("{ms:.2}"),
        ms => format!("{ms:.3}"),
    }
}

/// A name shortened to the width of the label area.
fn shorten(name: &str) -> String {
    const MOST: usize = 28;
    if name.chars().count() <= MOST {
        name.to_owned()
    } else {
        name.chars().take(MOST - 1).chain(['~']).collect()
    }
}
