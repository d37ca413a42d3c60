// A pad to draw on. The image is made as those of the digits and of MNIST: from strokes on a grid of 4 x 4 points for each
// pixel, of which the pixel counts those with ink.

import { colour } from './theme.js';

/** Points along a side of a pixel. */
const FINE = 4;

export class Pad {
  /** `drawn(features)` is called with an image, values from 0 to 1, after each stroke, and with null after clearing. */
  constructor(canvas, drawn) {
    Object.assign(this, { canvas, drawn, strokes: [], shape: [8, 8, 1], onWhite: false });
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

  /** The image `[height, width, channels]` of the strokes, as those of the data; null without strokes. */
  features() {
    const points = this.strokes.flat();
    if (points.length === 0) return null;
    const [height, width, channels] = this.shape;
    // The digits of the library fill their images; those of MNIST fill 20 of 28 pixels, around their centre of mass.
    const fills = width === 8;
    const across = FINE * Math.min(height, width);
    const range = axis => [Math.min(...points.map(p => p[axis])), Math.max(...points.map(p => p[axis]))];
    const [[left, right], [top, bottom]] = [range(0), range(1)];
    const size = Math.max(right - left, bottom - top, 0.05);
    const scale = across * (fills ? 28 / 32 : 20 / 28) / size;
    const fine = document.createElement('canvas');
    [fine.width, fine.height] = [FINE * width, FINE * height];
    const context = fine.getContext('2d', { willReadFrequently: true });
    const inked = shift => {
      context.resetTransform();
      context.clearRect(0, 0, fine.width, fine.height);
      context.translate(fine.width / 2 + shift[0], fine.height / 2 + shift[1]);
      context.scale(scale, scale);
      context.translate(-(left + right) / 2, -(top + bottom) / 2);
      this.paint(context, '#000', across * (fills ? 3.6 / 32 : 2.4 / 28) / scale);
      return context.getImageData(0, 0, fine.width, fine.height).data;
    };
    let pixels = inked([0, 0]);
    if (!fills) pixels = inked(centring(pixels, fine.width, fine.height));
    const ink = new Float32Array(height * width);
    for (let y = 0; y < fine.height; y += 1) {
      for (let x = 0; x < fine.width; x += 1) {
        const alpha = pixels[4 * (y * fine.width + x) + 3] / 255;
        const amount = fills ? Math.round(alpha) : alpha;
        ink[Math.floor(y / FINE) * width + Math.floor(x / FINE)] += amount / FINE ** 2;
      }
    }
    const features = new Float32Array(height * width * channels);
    for (let i = 0; i < features.length; i += 1) {
      const dark = ink[Math.floor(i / channels)];
      features[i] = this.onWhite ? 1 - dark : dark;
    }
    return features;
  }
}

/** How far to move an image so that its centre of mass is in the middle. */
function centring(pixels, width, height) {
  let [mass, across, down] = [0, 0, 0];
  for (let y = 0; y < height; y += 1) {
    for (let x = 0; x < width; x += 1) {
      const alpha = pixels[4 * (y * width + x) + 3];
      mass += alpha;
      across += alpha * (x + 0.5);
      down += alpha * (y + 0.5);
    }
  }
  return mass > 0 ? [width / 2 - across / mass, height / 2 - down / mass] : [0, 0];
}

/** Draws an image `[height, width, channels]`; ink, bright or dark on white, is drawn in the colour of the page's text. */
export function image(canvas, features, [height, width, channels], onWhite) {
  [canvas.width, canvas.height] = [width, height];
  const context = canvas.getContext('2d');
  const picture = context.createImageData(width, height);
  const parse = name => colour(name).match(/\w\w/g).map(pair => parseInt(pair, 16));
  const [paper, ink] = [parse('zero'), parse('text')];
  for (let i = 0; i < height * width; i += 1) {
    const pixel = c => features[channels * i + Math.min(c, channels - 1)];
    const rgb = paper.map((from, c) => (channels >= 3 ? 255 * pixel(c) : from + (ink[c] - from) * (onWhite ? 1 - pixel(0) : pixel(0))));
    picture.data.set([...rgb, 255], 4 * i);
  }
  context.putImageData(picture, 0, 0);
}
