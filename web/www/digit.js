// A pad to draw a digit on. The image is made as those of the data set: strokes on 32 x 32 pixels, scaled to fill them,
// of which each pixel of the 8 x 8 image counts 4 x 4.

import { colour } from './theme.js';

const FINE = 32;

export class DigitPad {
  /** `drawn(features)` is called with 64 values from 0 to 1 after each stroke, and with null after clearing. */
  constructor(canvas, drawn) {
    Object.assign(this, { canvas, drawn, strokes: [] });
    let drawing = false;
    const at = event => {
      const box = canvas.getBoundingClientRect();
      return [(event.clientX - box.left) / box.width, (event.clientY - box.top) / box.height];
    };
    canvas.addEventListener('pointerdown', event => {
      if (event.button !== 0) return;
      drawing = true;
      canvas.setPointerCapture(event.pointerId);
      this.strokes.push([at(event)]);
      this.draw();
    });
    canvas.addEventListener('pointermove', event => {
      if (!drawing) return;
      for (const point of event.getCoalescedEvents?.() ?? [event]) this.strokes.at(-1).push(at(point));
      this.draw();
    });
    const stop = () => {
      if (drawing) this.drawn(this.features());
      drawing = false;
    };
    for (const name of ['pointerup', 'pointercancel']) canvas.addEventListener(name, stop);
    this.draw();
  }

  clear() {
    this.strokes = [];
    this.draw();
    this.drawn(null);
  }

  draw() {
    const side = this.canvas.clientWidth || 160;
    const ratio = devicePixelRatio || 1;
    this.canvas.width = this.canvas.height = side * ratio;
    const context = this.canvas.getContext('2d');
    context.setTransform(side * ratio, 0, 0, side * ratio, 0, 0);
    this.paint(context, colour('text'), 0.09);
  }

  paint(context, style, width) {
    Object.assign(context, { strokeStyle: style, lineWidth: width, lineCap: 'round', lineJoin: 'round' });
    for (const stroke of this.strokes) {
      context.beginPath();
      context.moveTo(...stroke[0]);
      for (const point of stroke) context.lineTo(...point);
      context.stroke();
    }
  }

  features() {
    const points = this.strokes.flat();
    if (points.length === 0) return null;
    const range = axis => [Math.min(...points.map(p => p[axis])), Math.max(...points.map(p => p[axis]))];
    const [[left, right], [top, bottom]] = [range(0), range(1)];
    const size = Math.max(right - left, bottom - top, 0.05);
    const scale = (FINE - 4) / size;
    const fine = document.createElement('canvas');
    fine.width = fine.height = FINE;
    const context = fine.getContext('2d', { willReadFrequently: true });
    context.translate(FINE / 2, FINE / 2);
    context.scale(scale, scale);
    context.translate(-(left + right) / 2, -(top + bottom) / 2);
    this.paint(context, '#000', 3.6 / scale);
    const pixels = context.getImageData(0, 0, FINE, FINE).data;
    const features = new Float32Array(64);
    for (let y = 0; y < FINE; y += 1) {
      for (let x = 0; x < FINE; x += 1) {
        if (pixels[4 * (y * FINE + x) + 3] >= 128) features[(y >> 2) * 8 + (x >> 2)] += 1 / 16;
      }
    }
    return features;
  }
}

/** Draws an 8 x 8 image. */
export function image(canvas, features) {
  canvas.width = canvas.height = 8;
  const context = canvas.getContext('2d');
  const picture = context.createImageData(8, 8);
  const parse = name => colour(name).match(/\w\w/g).map(pair => parseInt(pair, 16));
  const [paper, ink] = [parse('zero'), parse('text')];
  for (let i = 0; i < 64; i += 1) {
    const rgb = paper.map((from, c) => from + (ink[c] - from) * features[i]);
    picture.data.set([...rgb, 255], 4 * i);
  }
  context.putImageData(picture, 0, 0);
}
