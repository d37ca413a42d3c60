// Data sets of few images with four classes that a network learns at once.

import { gzipSync } from 'node:zlib';

const SIDE = 28;

/** A file of the IDX format. */
function idx(extents, bytes) {
  const header = Buffer.alloc(4 + 4 * extents.length);
  header.writeUInt32BE(0x800 + extents.length);
  extents.forEach((extent, axis) => header.writeUInt32BE(extent, 4 + 4 * axis));
  return Buffer.concat([header, bytes]);
}

/** The files {name, buffer} of a set like MNIST; an image of class c is bright in a quarter of its columns. */
export function idxFiles(train, test) {
  let state = 1;
  const noise = () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return state >>> 26;
  };
  const set = (name, count) => {
    const labels = Buffer.from(Array.from({ length: count }, (_, i) => i % 4));
    const pixels = Buffer.alloc(count * SIDE * SIDE);
    for (let i = 0; i < pixels.length; i += 1) {
      const bright = Math.floor(i % SIDE / 7) === labels[Math.floor(i / SIDE ** 2)];
      pixels[i] = noise() + (bright ? 160 : 0);
    }
    return [
      { name: `${name}-images-idx3-ubyte.gz`, buffer: gzipSync(idx([count, SIDE, SIDE], pixels)) },
      { name: `${name}-labels-idx1-ubyte`, buffer: idx([count], labels) },
    ];
  };
  return [...set('train', train), ...set('t10k', test)];
}

/** Draws PNG files {name, buffer} in a page: four shapes in colours and sizes that differ. */
export async function pngFiles(page, count) {
  const files = await page.evaluate(async count => {
    const files = [];
    const shapes = {
      circle: (c, s) => { c.beginPath(); c.arc(s / 2, s / 2, s / 3, 0, 7); c.stroke(); },
      cross: (c, s) => { c.moveTo(0, 0); c.lineTo(s, s); c.moveTo(s, 0); c.lineTo(0, s); c.stroke(); },
      square: (c, s) => c.fillRect(s / 4, s / 4, s / 2, s / 2),
      stripe: (c, s) => c.fillRect(0, s * 0.4, s, s / 5),
    };
    for (const [name, draw] of Object.entries(shapes)) {
      for (let number = 0; number < count; number += 1) {
        const side = 30 + 7 * number;
        const canvas = new OffscreenCanvas(side, side);
        const context = canvas.getContext('2d');
        context.lineWidth = side / 8;
        context.fillStyle = context.strokeStyle = `hsl(${90 * number}, 80%, 30%)`;
        draw(context, side);
        const bytes = new Uint8Array(await (await canvas.convertToBlob({ type: 'image/png' })).arrayBuffer());
        files.push([`${name}/${number}.png`, [...bytes]]);
      }
    }
    return files;
  }, count);
  return files.map(([name, bytes]) => ({ name, buffer: Buffer.from(bytes) }));
}
