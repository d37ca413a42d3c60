// Weights as grids of cells, as `frazil draw` draws them: each kernel is a tile, input channels are rows and output
// channels columns. The colour has the opacity sqrt(|weight| / largest), as few weights are large.

import { colour } from './theme.js';

const SHADES = 48;
const LABELS = 22;
/** Cells of a grid that can be drawn. */
export const MOST = 100_000;
/** Milliseconds of a frame for rows on the screen, and for the others. */
const BUDGET = [7, 2];
/** Cells between two looks at the clock. */
const STRIDE = 400;

/** Grids with rows that show old values. */
const stale = new Set();
let frame = null;

function schedule() {
  frame ??= requestAnimationFrame(() => {
    frame = null;
    for (const [pass, budget] of BUDGET.entries()) {
      const end = performance.now() + budget;
      for (const view of stale) {
        if (view.paint(end, pass === 0)) stale.delete(view);
        if (performance.now() > end) break;
      }
    }
    if (stale.size > 0) schedule();
  });
}

let palette;

/** Forgets the colours, after a change of the theme. */
export function repaint() {
  palette = undefined;
}

function shades() {
  if (palette) return palette;
  const parse = name => colour(name).match(/\w\w/g).map(pair => parseInt(pair, 16));
  const zero = parse('zero');
  const mix = name => {
    const full = parse(name);
    const shade = n => `rgb(${full.map((x, i) => Math.round(zero[i] + (x - zero[i]) * n / SHADES)).join()})`;
    return Array.from({ length: SHADES + 1 }, (_, n) => shade(n));
  };
  palette = { positive: mix('positive'), negative: mix('negative'), other: colour('other'), line: colour('frozen'), label: colour('muted'), mark: colour('other') };
  return palette;
}

/** [rows, columns, inputs, outputs] of any parameter. A dense layer has one row for each output, as it has more inputs. */
function layoutOf(shape) {
  if (shape.length === 4) return { tile: [shape[0], shape[1]], rows: shape[2], columns: shape[3], swap: false };
  if (shape.length === 2) return { tile: [1, 1], rows: shape[1], columns: shape[0], swap: true };
  return { tile: [1, 1], rows: 1, columns: shape.reduce((a, b) => a * b, 1), swap: false };
}

/**
 * A grid of the weights of one parameter on a canvas. `edited(indices, frozen)` is called when the user freezes or thaws
 * cells; without it, the grid is a picture. `pointed(index)` is called for the cell under the pointer or the cursor.
 */
export class Kernels {
  constructor(canvas, { path, shape }, { edited, pointed, brush = () => 'weight', largest = 18, smallest } = {}) {
    Object.assign(this, { canvas, path, shape, edited, pointed, brush });
    this.layout = layoutOf(shape);
    // Fingers need no larger cells: the brush of a kernel or a filter is for them.
    const small = shape.length === 4 ? 6 : 5;
    this.sizes = [smallest ?? small, shape.length === 2 ? 12 : largest];
    this.values = new Float32Array(shape.reduce((a, b) => a * b, 1));
    this.mask = new Uint32Array(Math.ceil(this.values.length / 32));
    this.marks = new Set();
    this.scale = 0;
    this.cursor = null;
    if (edited) this.listen();
    this.resize();
  }

  isFrozen(index) {
    return (this.mask[index >> 5] >>> (index & 31) & 1) === 1;
  }

  setFrozen(index, frozen) {
    if (frozen) this.mask[index >> 5] |= 1 << (index & 31);
    else this.mask[index >> 5] &= ~(1 << (index & 31));
  }

  get frozen() {
    let count = 0;
    for (const [index, word] of this.mask.entries()) {
      // The bits after the last element are no elements.
      const left = this.values.length - 32 * index;
      let bits = left < 32 ? word & ((1 << left) - 1) : word;
      bits -= bits >>> 1 & 0x55555555;
      bits = (bits & 0x33333333) + (bits >>> 2 & 0x33333333);
      count += Math.imul((bits + (bits >>> 4)) & 0x0f0f0f0f, 0x01010101) >>> 24;
    }
    return count;
  }

  show(values, mask) {
    if (values) this.values = values;
    if (mask) this.mask = mask;
    this.draw();
  }

  /** Chooses the size of cells for the width of the canvas, and splits the columns into blocks if they do not fit. */
  resize() {
    if (!this.canvas.parentElement) return;
    const { tile: [, width], columns } = this.layout;
    const room = Math.max(120, this.canvas.parentElement.clientWidth - LABELS - 2);
    const dense = this.layout.tile[0] * this.layout.tile[1] === 1;
    const gap = cell => dense ? 0 : Math.max(3, Math.floor(cell / 2));
    const fitting = cell => Math.max(1, Math.floor((room + gap(cell)) / (width * cell + gap(cell))));
    const [smallest, largest] = this.sizes;
    this.blocks = Math.ceil(columns / fitting(smallest));
    this.perBlock = Math.ceil(columns / this.blocks);
    this.cell = smallest;
    for (let cell = largest; cell >= smallest; cell -= 1) {
      if (fitting(cell) >= this.perBlock) {
        this.cell = cell;
        break;
      }
    }
    this.gap = gap(this.cell);
    const { tile: [height], rows } = this.layout;
    this.pitch = [height * this.cell + this.gap, width * this.cell + this.gap];
    this.top = 14;
    this.blockHeight = this.top + rows * this.pitch[0] - this.gap + 6;
    const size = [LABELS + this.perBlock * this.pitch[1] - this.gap + 2, this.blocks * this.blockHeight + 2];
    const ratio = devicePixelRatio || 1;
    this.canvas.width = Math.ceil(size[0] * ratio);
    this.canvas.height = Math.ceil(size[1] * ratio);
    this.canvas.style.width = `${size[0]}px`;
    this.canvas.style.height = `${size[1]}px`;
    this.draw();
  }

  /** Left and top of a cell, from the row and the column in its tile, and the row and the column of the tile. */
  place(y, x, row, column) {
    const block = Math.floor(column / this.perBlock);
    return [
      LABELS + (column - block * this.perBlock) * this.pitch[1] + x * this.cell,
      block * this.blockHeight + this.top + row * this.pitch[0] + y * this.cell,
    ];
  }

  index(y, x, row, column) {
    const { tile: [, width], rows, columns, swap } = this.layout;
    return swap ? column * rows + row : ((y * width + x) * rows + row) * columns + column;
  }

  /** Marks all rows as old; they are drawn in the next frames, those on the screen first. */
  draw() {
    // A canvas in a closed section has no size yet.
    if (!this.canvas.isConnected || this.canvas.parentElement.clientWidth === 0) return;
    let scale = 0;
    for (const value of this.values) {
      const size = Math.abs(value);
      if (size > scale && size < Infinity) scale = size;
    }
    this.scale = scale;
    this.old = new Set(Array(this.blocks * this.layout.rows).keys());
    stale.add(this);
    schedule();
  }

  /** Draws old rows until the time `end`, those on the screen or all; returns whether none is left. */
  paint(end, onScreen) {
    if (!this.canvas.isConnected) return true;
    const context = this.canvas.getContext('2d');
    const ratio = devicePixelRatio || 1;
    context.setTransform(ratio, 0, 0, ratio, 0, 0);
    const { rows } = this.layout;
    const above = this.canvas.getBoundingClientRect().top;
    let cells = 0;
    for (const number of this.old) {
      const [block, row] = [Math.floor(number / rows), number % rows];
      const [, top] = this.place(0, 0, row, block * this.perBlock);
      const visible = above + top < innerHeight && above + top + this.pitch[0] > 0;
      if (onScreen && !visible) continue;
      this.old.delete(number);
      cells += this.paintRow(context, block, row, top);
      if (cells > STRIDE) {
        cells = 0;
        if (performance.now() > end) break;
      }
    }
    return this.old.size === 0;
  }

  /** Draws the tiles of one row of one block, and returns the number of cells. */
  paintRow(context, block, row, above) {
    const { positive, negative, other, line, label, mark } = shades();
    const { scale } = this;
    const { tile: [height, width], rows, columns } = this.layout;
    const [first, end] = [block * this.perBlock, Math.min(columns, (block + 1) * this.perBlock)];
    // The strip from the row above to this one; that of the first row has the numbers of the columns.
    const begin = row === 0 ? block * this.blockHeight : above - this.gap;
    const bottom = row === rows - 1 ? (block + 1) * this.blockHeight : above + this.pitch[0] - this.gap;
    context.clearRect(LABELS - 1, begin, this.canvas.width, bottom - begin);
    if (row === 0) this.labels(context, label, block);
    const seam = this.cell < 6 ? 0.5 : this.cell < 12 ? 1 : 2;
    const side = this.cell - seam;
    const border = this.cell < 9 ? 1 : 1.5;
    for (let column = first; column < end; column += 1) {
      for (let y = 0; y < height; y += 1) {
        for (let x = 0; x < width; x += 1) {
          const index = this.index(y, x, row, column);
          const value = this.values[index];
          const [left, top] = this.place(y, x, row, column);
          const shade = scale > 0 ? Math.round(SHADES * Math.sqrt(Math.abs(value) / scale)) : 0;
          const fill = !Number.isFinite(value) ? other : (value < 0 ? negative : positive)[shade];
          if (this.isFrozen(index)) {
            context.fillStyle = line;
            context.fillRect(left, top, side, side);
            context.fillStyle = fill;
            context.fillRect(left + border, top + border, side - 2 * border, side - 2 * border);
          } else {
            context.fillStyle = fill;
            context.fillRect(left, top, side, side);
          }
          if (this.marks.has(index)) {
            context.fillStyle = mark;
            context.beginPath();
            context.arc(left + side / 2, top + side / 2, Math.max(1.5, side / 4), 0, 7);
            context.fill();
          }
        }
      }
    }
    const [y, x, at, column] = this.cursor ?? [];
    if (at === row && column >= first && column < end && document.activeElement === this.canvas) {
      const [left, top] = this.place(y, x, row, column);
      context.strokeStyle = colour('accent');
      context.lineWidth = 2;
      context.strokeRect(left + 0.5, top + 0.5, side - 1, side - 1);
    }
    return (end - first) * height * width;
  }

  /** Draws the numbers of the rows and the columns of a block. */
  labels(context, label, block) {
    const { tile: [height, width], rows, columns } = this.layout;
    context.clearRect(0, block * this.blockHeight, LABELS - 1, this.blockHeight);
    context.fillStyle = label;
    context.font = '9.5px ui-sans-serif, system-ui, sans-serif';
    context.textBaseline = 'alphabetic';
    const widest = 6 * String(columns - 1).length + 5;
    const [everyRow, everyColumn] = [Math.ceil(11 / this.pitch[0]), Math.ceil(widest / this.pitch[1])];
    const first = block * this.perBlock;
    context.textAlign = 'center';
    for (let column = first; column < Math.min(columns, first + this.perBlock); column += everyColumn) {
      const [left, top] = this.place(0, 0, 0, column);
      context.fillText(column, left + width * this.cell / 2, top - 4);
    }
    context.textAlign = 'right';
    for (let row = 0; row < rows; row += everyRow) {
      const [, top] = this.place(0, 0, row, first);
      context.fillText(row, LABELS - 6, top + height * this.cell / 2 + 3);
    }
  }

  /** The cell at a position of a pointer event; null between tiles. */
  hit(event) {
    const box = this.canvas.getBoundingClientRect();
    const { tile: [height, width], rows, columns } = this.layout;
    const block = Math.floor((event.clientY - box.top) / this.blockHeight);
    const [down, right] = [event.clientY - box.top - block * this.blockHeight - this.top, event.clientX - box.left - LABELS];
    const [row, column] = [Math.floor(down / this.pitch[0]), Math.floor(right / this.pitch[1])];
    const y = Math.floor((down - row * this.pitch[0]) / this.cell);
    const x = Math.floor((right - column * this.pitch[1]) / this.cell);
    const output = block * this.perBlock + column;
    const inside = row >= 0 && row < rows && column >= 0 && column < this.perBlock && output < columns;
    return inside && block >= 0 && block < this.blocks && y < height && x < width ? [y, x, row, output] : null;
  }

  /** The indices that the brush covers at a cell: the weight, its kernel, or all kernels of its output channel. */
  covered([y, x, row, column]) {
    const { tile: [height, width], rows, columns, swap } = this.layout;
    const brush = this.brush();
    if (brush === 'weight') return [this.index(y, x, row, column)];
    const covered = [];
    const add = (row, column) => {
      for (let y = 0; y < height; y += 1) for (let x = 0; x < width; x += 1) covered.push(this.index(y, x, row, column));
    };
    // The output channel is the row of a dense layer.
    if (brush === 'kernel') add(row, column);
    else if (swap) for (let other = 0; other < columns; other += 1) add(row, other);
    else for (let other = 0; other < rows; other += 1) add(other, column);
    return covered;
  }

  apply(cell, frozen) {
    const changed = this.covered(cell).filter(index => this.isFrozen(index) !== frozen);
    if (changed.length === 0) return;
    for (const index of changed) this.setFrozen(index, frozen);
    this.draw();
    this.edited(changed, frozen);
  }

  listen() {
    const { canvas } = this;
    let painting = null;
    let before = null;
    canvas.addEventListener('pointerdown', event => {
      const cell = this.hit(event);
      if (!cell || event.button !== 0) return;
      painting = !this.isFrozen(this.index(...cell));
      before = event;
      canvas.setPointerCapture(event.pointerId);
      this.cursor = cell;
      this.apply(cell, painting);
    });
    canvas.addEventListener('pointermove', event => {
      const cell = this.hit(event);
      this.pointed?.(cell && this.index(...cell));
      if (painting === null) return;
      // Fast movements skip cells: paints all on the way.
      for (const point of event.getCoalescedEvents?.() ?? [event]) {
        const [dx, dy] = [point.clientX - before.clientX, point.clientY - before.clientY];
        const steps = Math.max(1, Math.ceil(Math.hypot(dx, dy) / (this.cell / 2)));
        for (let step = 1; step <= steps; step += 1) {
          const at = { clientX: before.clientX + dx * step / steps, clientY: before.clientY + dy * step / steps };
          const hit = this.hit(at);
          if (hit) this.apply(hit, painting);
        }
        before = point;
      }
    });
    const stop = () => { painting = null; };
    for (const name of ['pointerup', 'pointercancel', 'lostpointercapture']) canvas.addEventListener(name, stop);
    canvas.addEventListener('pointerleave', () => this.pointed?.(null));
    canvas.addEventListener('keydown', event => this.key(event));
    for (const name of ['focus', 'blur']) {
      canvas.addEventListener(name, () => {
        this.cursor ??= [0, 0, 0, 0];
        this.draw();
      });
    }
  }

  key(event) {
    const { tile: [height, width], rows, columns } = this.layout;
    const [y, x, row, column] = this.cursor ?? [0, 0, 0, 0];
    const down = Math.min(rows * height - 1, Math.max(0, row * height + y + ({ ArrowDown: 1, ArrowUp: -1 }[event.key] ?? 0)));
    const right = Math.min(columns * width - 1, Math.max(0, column * width + x + ({ ArrowRight: 1, ArrowLeft: -1 }[event.key] ?? 0)));
    if (event.key === 'Enter' || event.key === ' ') {
      this.apply(this.cursor, !this.isFrozen(this.index(y, x, row, column)));
    } else if (!event.key.startsWith('Arrow')) {
      return;
    }
    event.preventDefault();
    this.cursor = [down % height, right % width, Math.floor(down / height), Math.floor(right / width)];
    this.draw();
    this.pointed?.(this.index(...this.cursor), true);
  }

  /** Describes an element: its path, coordinates, value, and whether it is frozen. */
  describe(index) {
    const coordinates = [];
    let rest = index;
    for (const extent of [...this.shape].reverse()) {
      coordinates.unshift(rest % extent);
      rest = Math.floor(rest / extent);
    }
    const value = this.values[index];
    return `${this.path}[${coordinates.join(', ')}] = ${Number.isFinite(value) ? value.toPrecision(4) : value}, ${this.isFrozen(index) ? 'frozen' : 'trainable'}`;
  }
}
