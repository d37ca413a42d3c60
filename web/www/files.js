// Data sets from the files of the visitor: the four IDX files of a set like MNIST, or a folder of images.

import { Data } from './frazil_web.js';

const IDX = /idx[134]-ubyte(\.gz)?$/;
const IMAGE = /\.(png|jpe?g|webp|gif|bmp|avif)$/i;
/** Height and width to which images are scaled: those of MNIST. */
const SIDE = 28;
/** Red, green and blue parts of the brightness of a pixel, as in the library. */
const LUMA = [0.299, 0.587, 0.114];

/** Reads a data set from files {path, file}; paths begin with the name of the folder, if one was opened. */
export async function readData(files) {
  const idx = files.filter(({ path }) => IDX.test(path));
  if (idx.length > 0) {
    const contents = await Promise.all(idx.map(async ({ file }) => new Uint8Array(await file.arrayBuffer())));
    return Data.idx('files', idx.map(({ path }) => path.split('/').at(-1)), contents);
  }
  return readImages(files);
}

async function readImages(files) {
  // The folder of a class is directly below the one that was opened; names that begin with a dot are hidden.
  const images = files.map(({ path, file }) => ({ parts: path.split('/'), path, file }))
    .filter(({ parts }) => parts.length > 2 && IMAGE.test(parts.at(-1)) && !parts.some(part => part.startsWith('.')));
  if (images.length === 0) {
    throw new Error(`expected four IDX files, or a folder with a subfolder of images for each class, got ${files.length} other files`
      + `${files.length > 0 ? `, such as ${files[0].path}` : ''}`);
  }
  images.sort((a, b) => (a.path < b.path ? -1 : 1));
  const classes = [...new Set(images.map(({ parts }) => parts[1]))].sort();
  const features = new Float32Array(images.length * SIDE * SIDE);
  const canvas = new OffscreenCanvas(SIDE, SIDE);
  const context = canvas.getContext('2d', { willReadFrequently: true });
  context.imageSmoothingQuality = 'high';
  for (const [number, { path, file }] of images.entries()) {
    let bitmap;
    try {
      bitmap = await createImageBitmap(file, { colorSpaceConversion: 'none' });
    } catch {
      throw new Error(`${path}: expected an image that this browser can decode, got another file of ${file.size} bytes`);
    }
    // Transparent pixels are white.
    context.fillStyle = '#fff';
    context.fillRect(0, 0, SIDE, SIDE);
    context.drawImage(bitmap, 0, 0, SIDE, SIDE);
    bitmap.close();
    const { data } = context.getImageData(0, 0, SIDE, SIDE);
    for (let i = 0; i < SIDE * SIDE; i += 1) {
      features[number * SIDE * SIDE + i] = LUMA.reduce((sum, part, c) => sum + part * data[4 * i + c], 0) / 255;
    }
  }
  const labels = Uint32Array.from(images, ({ parts }) => classes.indexOf(parts[1]));
  return Data.images(images[0].parts[0], Uint32Array.of(SIDE, SIDE, 1), features, labels, classes);
}
