// A line chart with a few series that grow.

import { colour } from './theme.js';

const MARGIN = { left: 40, right: 10, top: 10, bottom: 22 };
/** Points of a series, above which every second one is dropped. */
const MOST = 2000;

export class Curves {
  /** `series` are {name, colour, dots}; `range` is the vertical range, or null for that of the points. */
  constructor(canvas, series, range) {
    Object.assign(this, { canvas, range });
    this.series = series.map(one => ({ ...one, points: [] }));
  }

  clear() {
    for (const one of this.series) one.points = [];
    this.draw();
  }

  add(number, x, y) {
    const one = this.series[number];
    one.points.push([x, y]);
    if (one.points.length > MOST) one.points = one.points.filter((_, index) => index % 2 === 1);
  }

  draw() {
    const { canvas } = this;
    const [width, height] = [canvas.clientWidth, canvas.clientHeight];
    if (width === 0) return;
    const ratio = devicePixelRatio || 1;
    [canvas.width, canvas.height] = [width * ratio, height * ratio];
    const context = canvas.getContext('2d');
    context.setTransform(ratio, 0, 0, ratio, 0, 0);
    context.clearRect(0, 0, width, height);
    const all = this.series.flatMap(one => one.points);
    const finite = all.filter(([, y]) => Number.isFinite(y));
    const right = Math.max(1, ...all.map(([x]) => x));
    let [low, high] = this.range ?? [0, finite.length > 0 ? Math.max(0.001, ...finite.map(([, y]) => y)) * 1.05 : 3];
    const x = value => MARGIN.left + (width - MARGIN.left - MARGIN.right) * value / right;
    const y = value => MARGIN.top + (height - MARGIN.top - MARGIN.bottom) * (high - value) / (high - low);
    context.font = '11px ui-sans-serif, system-ui, sans-serif';
    context.lineWidth = 1;
    for (const value of ticks(low, high)) {
      context.strokeStyle = colour('border');
      context.beginPath();
      context.moveTo(MARGIN.left, Math.round(y(value)) + 0.5);
      context.lineTo(width - MARGIN.right, Math.round(y(value)) + 0.5);
      context.stroke();
      context.fillStyle = colour('muted');
      context.textAlign = 'right';
      context.fillText(String(+value.toPrecision(3)), MARGIN.left - 6, y(value) + 4);
    }
    context.textAlign = 'center';
    for (const value of ticks(0, right)) {
      if (Number.isInteger(value)) context.fillText(value, Math.min(x(value), width - 14), height - 6);
    }
    for (const { points, colour: name, dots } of this.series) {
      context.strokeStyle = context.fillStyle = colour(name);
      context.lineWidth = 1.75;
      context.lineJoin = 'round';
      context.beginPath();
      let drawn = false;
      for (const [px, py] of points) {
        if (!Number.isFinite(py)) continue;
        context[drawn ? 'lineTo' : 'moveTo'](x(px), y(Math.min(py, high)));
        drawn = true;
      }
      context.stroke();
      for (const [px, py] of dots && points.length < 60 ? points : []) {
        context.beginPath();
        context.arc(x(px), y(py), 2.5, 0, 7);
        context.fill();
      }
    }
  }
}

/** Three to six round values from `low` to `high`. */
function ticks(low, high) {
  const rough = (high - low) / 4;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 2.5, 5, 10].map(n => n * power).find(n => n >= rough);
  const values = [];
  for (let value = Math.ceil(low / step) * step; value <= high + step / 1000; value += step) values.push(value);
  return values;
}
