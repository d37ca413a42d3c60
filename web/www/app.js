// The page: it shows the state that worker.js computes, and sends what the user does.

import { Curves } from './curves.js';
import { Pad, image } from './digit.js';
import { engine, obstacle } from './engine.js';
import { Kernels, MOST, repaint } from './kernels.js';
import { theme } from './theme.js';

const $ = id => document.getElementById(id);

const DEFAULTS = { model: 'digits', optimizer: 'sgd', rate: 0.05, momentum: 0.9, decay: 0, batch: 64, seed: 1 };
const RATES = { sgd: 0.05, adagrad: 0.01 };
/** Milliseconds of training in one call, after which the page can send something else. */
const SLICE = 60;
/** Milliseconds between two updates of the weights on the page, and between two proofs. */
const SHOW_EVERY = 110;
const PROVE_EVERY = 1500;
const EXAMPLES = 24;

let call;
let network;
let settings = readSettings();
let running = false;
/** Training steps in one call. */
let slice = 1;
let views = new Map();
let losses;
let accuracies;
let pad;
let pending = [];
let lastShown = 0;
let lastProof = 0;
let timings = [];
/** The actions of the user, one after the other. */
let busy = Promise.resolve();
/** The training, which actions need not wait for: each of its calls is short. */
let loop = Promise.resolve();

function readSettings() {
  const given = new URLSearchParams(location.search);
  const read = (key, value) => {
    const text = given.get(key);
    if (text === null) return value;
    return typeof value === 'number' ? (Number.isFinite(+text) ? +text : value) : text;
  };
  return Object.fromEntries(Object.entries(DEFAULTS).map(([key, value]) => [key, read(key, value)]));
}

function writeSettings() {
  const address = new URL(location.href);
  for (const [key, value] of Object.entries(settings)) {
    if (value === DEFAULTS[key]) address.searchParams.delete(key);
    else address.searchParams.set(key, value);
  }
  history.replaceState(null, '', address);
}

let toastTimer;
function toast(text, error = false) {
  $('toast').textContent = text;
  $('toast').className = error ? 'shown error' : 'shown';
  clearTimeout(toastTimer);
  toastTimer = setTimeout(() => { $('toast').className = ''; }, error ? 9000 : 3000);
}

/** Runs an action of the user after those before it; errors are shown. */
function act(action) {
  busy = busy.then(action).catch(error => toast(error.message, true));
  return busy;
}

const percent = value => `${(100 * value).toFixed(1)} %`;
const grouped = value => value.toLocaleString('en');

// ---- the network ----

function showNetwork() {
  $('layers').replaceChildren(layerChip({ name: 'input', kind: '', output: network.input, parameters: 0 }),
    ...network.layers.map(layerChip));
  $('kernels').replaceChildren();
  views = new Map();
  const target = $('target');
  target.replaceChildren(
    new Option('the convolutions', 'conv*.kernel'),
    new Option('all kernels', '*.kernel'),
    new Option('everything', '*'),
    ...network.parameters.map(parameter => new Option(parameter.path, parameter.path)),
  );
  for (const parameter of network.parameters) addView(parameter);
}

function layerChip({ name, kind, output, parameters }) {
  const item = document.createElement('li');
  item.dataset.layer = name;
  const title = document.createElement('b');
  title.textContent = parameters ? name : kind.replaceAll('_', ' ') || name;
  const detail = document.createElement('small');
  detail.textContent = output.join(' × ') + (parameters ? `, ${grouped(parameters)} weights` : '');
  if (parameters) {
    const link = document.createElement('a');
    link.href = `#${name}.kernel`;
    link.append(title, detail);
    item.append(link);
  } else {
    item.append(title, detail);
  }
  return item;
}

function addView(parameter) {
  const { path, shape, elements } = parameter;
  // Large tensors are closed at first: they take time to read and to draw.
  const folded = elements > 8000 && elements <= MOST;
  const block = document.createElement(folded ? 'details' : 'div');
  block.className = 'kernel';
  block.id = path;
  const heading = document.createElement('h3');
  const name = document.createElement('b');
  const info = document.createElement('span');
  name.textContent = path;
  heading.append(name, info);
  const canvas = document.createElement('canvas');
  canvas.tabIndex = 0;
  canvas.setAttribute('role', 'application');
  canvas.setAttribute('aria-label', `Weights of ${path}: arrow keys move, Enter freezes or thaws`);
  if (elements > MOST) {
    const why = document.createElement('p');
    why.className = 'note';
    why.textContent = 'Too many weights to draw; rules freeze them.';
    block.append(heading, why);
  } else if (folded) {
    const summary = document.createElement('summary');
    summary.append(heading);
    block.append(summary, canvas);
  } else {
    block.append(heading, canvas);
  }
  $('kernels').append(block);
  const view = new Kernels(canvas, parameter, {
    edited: (indices, frozen) => edited(path, indices, frozen),
    pointed: index => point(view, index),
    brush: () => document.querySelector('input[name=brush]:checked').value,
  });
  view.info = info;
  view.block = block;
  block.addEventListener('toggle', () => {
    if (!block.open) return;
    view.resize();
    act(async () => view.show((await call('values', [path]))[path]));
  });
  views.set(path, view);
}

const visible = () => [...views.values()].filter(view => view.canvas.isConnected && view.block.open !== false).map(view => view.path);

let pointedAt = null;
function point(view, index) {
  pointedAt = index === null ? null : [view, index];
  if (pointedAt) $('pointed').textContent = view.describe(index);
}

function showValues(values, masks = {}) {
  for (const [path, view] of views) {
    if (values[path] || masks[path]) view.show(values[path], masks[path]);
  }
  if (Object.keys(masks).length > 0) showCounts();
  if (pointedAt) point(...pointedAt);
}

const describeShape = shape => {
  if (shape.length === 4) return `${shape[0]} × ${shape[1]}, ${shape[2]} input × ${shape[3]} output channels`;
  return shape.length === 2 ? `${shape[0]} inputs × ${shape[1]} outputs` : `${shape[0]}`;
};

function showCounts() {
  const frozenLayers = new Map();
  for (const view of views.values()) {
    const { frozen } = view;
    view.info.textContent = `${describeShape(view.shape)} · ${grouped(frozen)} of ${grouped(view.values.length)} frozen`;
    const layer = view.path.split('.')[0];
    frozenLayers.set(layer, (frozenLayers.get(layer) ?? 0) + frozen);
  }
  for (const item of $('layers').children) {
    item.classList.toggle('frozen', (frozenLayers.get(item.dataset.layer) ?? 0) > 0);
  }
}

// ---- freezing ----

function edited(path, indices, frozen) {
  pending.push({ path, indices, frozen });
  showCounts();
  if (!running) act(flush);
}

/** Sends the cells that were clicked since the last time. */
async function flush() {
  if (pending.length === 0) return;
  const merged = new Map();
  for (const { path, indices, frozen } of pending) {
    const last = merged.get(path) ?? new Map();
    for (const index of indices) last.set(index, frozen);
    merged.set(path, last);
  }
  pending = [];
  const edits = [];
  for (const [path, cells] of merged) {
    for (const frozen of [true, false]) {
      const indices = [...cells].filter(([, wanted]) => wanted === frozen).map(([index]) => index);
      if (indices.length > 0) edits.push({ path, indices, frozen });
    }
  }
  const { masks } = await call('edit', edits);
  // Cells that were clicked meanwhile are newer than this answer.
  if (pending.length === 0) showValues({}, masks);
  await prove();
  showSavings();
}

async function rule(text, frozen) {
  await flush();
  const { changed, masks } = await call('rule', $('target').value, text, frozen);
  showValues({}, masks);
  toast(`${grouped(changed)} weights ${frozen ? 'frozen' : 'thawed'}`);
  await prove();
  showSavings();
}

async function prove() {
  const proof = await call('proof');
  lastProof = performance.now();
  const { frozen, changed, first, digest, step } = proof;
  const section = $('proof');
  section.classList.toggle('good', frozen > 0 && changed === 0);
  section.classList.toggle('bad', changed > 0);
  setText('proof-line', frozen === 0 ? 'No weight is frozen yet' : `${grouped(changed)} of ${grouped(frozen)} frozen weights changed`);
  let detail = 'Frozen weights are compared on the GPU with their bits at the time of freezing.';
  if (frozen > 0) detail = `Compared on the GPU with their bits at the time of freezing, at step ${grouped(step)}. Digest ${digest}.`;
  if (first) {
    detail = `The first: ${first.what} of ${first.path}[${first.coordinates.join(', ')}] was ${first.expected}, is ${first.got}.`;
  }
  setText('proof-detail', detail);
  $('corrupt').disabled = frozen === 0;
}

/** Sets a text only if it differs, so that screen readers say it only then. */
function setText(id, text) {
  if ($(id).textContent !== text) $(id).textContent = text;
}

async function showSavings() {
  const { avoided, flops, dispatches, bytes, family } = await call('details');
  const saved = avoided > 0
    ? `Freezing saves ${(100 * avoided / (avoided + flops)).toFixed(1)} % of the arithmetic of a step.`
    : 'Scattered weights save no arithmetic; whole filters and layers do.';
  $('saved').textContent = `${saved} A step has ${dispatches} dispatches (${family}), ${(bytes / 2 ** 20).toFixed(1)} MiB of GPU memory.`;
}

// ---- training ----

function setRunning(on) {
  running = on;
  $('run').textContent = on ? 'Pause' : 'Train';
  $('step').disabled = on;
  if (on) {
    loop = loop.then(train).catch(error => {
      setRunning(false);
      toast(error.message, true);
    });
  }
}

async function train() {
  while (running) {
    await flush();
    await advance(slice);
    if (performance.now() > lastProof + PROVE_EVERY) await prove();
  }
  await show();
}

async function advance(steps) {
  const now = performance.now();
  const wanted = now > lastShown + SHOW_EVERY ? visible() : [];
  if (wanted.length > 0) lastShown = now;
  const before = +$('steps').dataset.value;
  const result = await call('steps', steps, wanted);
  const done = result.step - before;
  $('steps').dataset.value = result.step;
  $('steps').textContent = grouped(result.step);
  $('epoch').textContent = result.epoch;
  $('loss').textContent = result.loss.toFixed(4);
  // The examples of the end of an epoch and its evaluation are no measure of the speed.
  if (!result.test) {
    const ms = result.ms / done;
    slice = Math.max(1, Math.min(200, Math.round(SLICE / ms)));
    timings.push([done, result.ms]);
    timings = timings.slice(-20);
    const [count, total] = timings.reduce(([c, t], [done, ms]) => [c + done, t + ms], [0, 0]);
    $('speed').textContent = (1000 * count / total).toFixed(count / total > 0.01 ? 0 : 1);
  }
  const at = result.epoch + result.batch / network.batches;
  losses.add(0, at, result.loss);
  accuracies.add(0, at, result.accuracy);
  if (result.test) showTest(result.epoch, result.test);
  losses.draw();
  accuracies.draw();
  showValues(result.values);
  if (result.test) await showExamples();
}

function showTest(epoch, test) {
  losses.add(1, epoch, test.loss);
  accuracies.add(1, epoch, test.accuracy);
  $('accuracy').textContent = percent(test.accuracy);
  $('accuracy').dataset.value = test.accuracy;
}

/** Shows the weights, the proof and the predictions of now. */
async function show() {
  showValues(await call('values', visible()));
  await prove();
  await showExamples();
}

function begin({ network: built, values, masks }) {
  network = built;
  settings = { ...DEFAULTS, ...network.settings };
  writeSettings();
  for (const [key, value] of Object.entries(settings)) $('settings').elements[key].value = value;
  momentumOf(settings.optimizer);
  showNetwork();
  showData();
  losses.clear();
  accuracies.clear();
  timings = [];
  slice = 1;
  $('steps').dataset.value = 0;
  for (const id of ['steps', 'epoch']) $(id).textContent = '0';
  for (const id of ['loss', 'accuracy', 'speed']) $(id).textContent = '–';
  showValues(values, masks);
}

/** Begins with new weights, on other data if `files` is given: null for the digits. */
async function start(files) {
  const started = await call('start', settings, files);
  times.start = started.ms;
  pending = [];
  begin(started);
  $('restore').hidden = true;
  $('corrupt').hidden = false;
  await prove();
  await showSavings();
  await showExamples();
}

const restart = () => paused(() => start());

/** Opens other data, for which the model has to have the right size. */
function open(files) {
  return paused(async () => {
    const before = settings;
    settings = { ...settings, model: files ? 'lenet28' : 'digits' };
    if (files) toast(`reading ${grouped(files.length)} files`);
    try {
      await start(files);
    } catch (error) {
      settings = before;
      throw error;
    }
  });
}

// ---- examples and the pad ----

/** Bars of classes: more of them do not fit, and the most probable are shown. */
const BARS = 10;

function showData() {
  const { data, classes, input, train, test } = network;
  setText('data', `${grouped(train)} training and ${grouped(test)} test images of ${input.slice(0, 2).join(' × ')} pixels`
    + `${input[2] > 1 ? `, ${input[2]} channels` : ''}; ${classes.length} classes`);
  $('digits').hidden = data === 'digits';
  setText('draw-title', data === 'digits' ? 'Draw a digit' : 'Draw an image');
  pad.shape = input;
  $('bars').replaceChildren(...classes.slice(0, BARS).map(name => {
    const item = document.createElement('li');
    const label = document.createElement('span');
    label.textContent = name;
    item.append(label, document.createElement('i'));
    return item;
  }));
  const named = classes.some(name => name.length > 2);
  for (const id of ['bars', 'examples']) $(id).classList.toggle('named', named);
}

async function showExamples() {
  const { images, labels, probabilities } = await call('examples', EXAMPLES);
  const { classes, input } = network;
  const pixels = input.reduce((a, b) => a * b, 1);
  // Ink is dark on white paper, as in most pictures, or bright on black, as in the digits and in MNIST.
  pad.onWhite = images.reduce((sum, value) => sum + value, 0) > images.length / 2;
  const list = $('examples');
  while (list.children.length < labels.length) {
    const item = document.createElement('li');
    item.append(document.createElement('canvas'), document.createElement('span'));
    list.append(item);
  }
  while (list.children.length > labels.length) list.lastChild.remove();
  for (const [i, label] of labels.entries()) {
    const row = probabilities.subarray(classes.length * i, classes.length * (i + 1));
    const predicted = row.indexOf(Math.max(...row));
    const item = list.children[i];
    image(item.firstChild, images.subarray(pixels * i, pixels * (i + 1)), input, pad.onWhite);
    item.firstChild.setAttribute('aria-label', `a ${classes[label]}`);
    item.lastChild.textContent = classes[predicted];
    item.classList.toggle('wrong', predicted !== label);
    item.title = `a ${classes[label]}, predicted as ${classes[predicted]} with ${percent(row[predicted])}`;
  }
  if (pad.strokes.length > 0) await classify(pad.features());
}

async function classify(features) {
  const bars = $('bars').children;
  if (!features) {
    for (const bar of bars) {
      bar.className = '';
      bar.lastChild.style.setProperty('--p', 0);
    }
    $('answer').textContent = '';
    return;
  }
  const { classes } = network;
  const probabilities = await call('predict', features);
  const best = probabilities.indexOf(Math.max(...probabilities));
  let shown = [...classes.keys()];
  if (shown.length > BARS) shown = shown.sort((a, b) => probabilities[b] - probabilities[a]).slice(0, BARS);
  for (const [number, index] of shown.entries()) {
    bars[number].className = index === best ? 'top-class' : '';
    bars[number].firstChild.textContent = classes[index];
    bars[number].lastChild.style.setProperty('--p', probabilities[index]);
  }
  $('answer').textContent = `${network.data === 'digits' ? 'a ' : ''}${classes[best]}, ${percent(probabilities[best])}`;
  $('answer').dataset.value = classes[best];
}

// ---- the question ----

let compared;
async function compare() {
  const result = await call('question', $('question-rule').value);
  const { shape, mask, frozen, blend, ours } = result;
  $('question-result').hidden = false;
  const words = new Uint32Array(Math.ceil(mask.length / 32));
  mask.forEach((on, index) => { if (on) words[index >> 5] |= 1 << (index & 31); });
  compared = [['blend', blend], ['ours', ours]].map(([id, side]) => {
    const view = new Kernels($(id), { path: 'conv.kernel', shape }, { largest: 26 });
    side.after.forEach((value, index) => {
      if (mask[index] && value !== side.before[index]) view.marks.add(index);
    });
    view.show(Float32Array.from(side.after), words);
    const line = $(`${id}-line`);
    line.className = side.moved > 0 ? 'moved' : 'kept';
    line.textContent = `${side.moved} of ${frozen} frozen weights moved${side.moved > 0 ? `, by up to ${side.worst.toFixed(3)}` : ''}`;
    return view;
  });
}

// ---- controls ----

function momentumOf(optimizer) {
  const momentum = $('settings').elements.momentum;
  momentum.disabled = !['sgd', 'rmsprop'].includes(optimizer);
}

function download(bytes, name) {
  const link = document.createElement('a');
  link.href = URL.createObjectURL(new Blob([bytes]));
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10000);
}

/** Runs an action while training is paused. */
async function paused(action) {
  const wasRunning = running;
  setRunning(false);
  await loop;
  await act(action);
  if (wasRunning) setRunning(true);
}

function connect() {
  $('run').addEventListener('click', () => setRunning(!running));
  $('step').addEventListener('click', () => act(async () => {
    await advance(1);
    await show();
  }));
  $('reset').addEventListener('click', restart);
  for (const button of document.querySelectorAll('[data-rule]')) {
    button.addEventListener('click', () => paused(() => rule(button.dataset.rule, true)));
  }
  document.querySelector('[data-thaw]').addEventListener('click', () => paused(() => rule('all', false)));
  $('corrupt').addEventListener('click', () => paused(async () => {
    await flush();
    if (await call('corrupt', Math.floor(Math.random() * 2 ** 31))) {
      $('restore').hidden = false;
      $('corrupt').hidden = true;
    }
    await show();
  }));
  $('restore').addEventListener('click', () => paused(async () => {
    await call('restore');
    $('restore').hidden = true;
    $('corrupt').hidden = false;
    await show();
  }));
  $('clear').addEventListener('click', () => pad.clear());
  for (const id of ['idx', 'folder']) {
    $(id).addEventListener('change', event => {
      const files = [...event.target.files].map(file => ({ path: file.webkitRelativePath || file.name, file }));
      event.target.value = '';
      if (files.length > 0) open(files);
    });
  }
  $('digits').addEventListener('click', () => open(null));
  $('question').addEventListener('click', () => paused(compare));
  $('settings').addEventListener('submit', event => {
    event.preventDefault();
    settings = Object.fromEntries(Object.entries(DEFAULTS).map(([key, value]) => {
      const text = event.target.elements[key].value;
      return [key, typeof value === 'number' ? +text : text];
    }));
    writeSettings();
    restart();
  });
  const { rate, optimizer, decay } = $('settings').elements;
  rate.addEventListener('change', () => act(async () => {
    if (optimizer.value !== settings.optimizer || !rate.checkValidity()) return;
    await call('setRate', +rate.value);
    settings.rate = +rate.value;
    writeSettings();
    toast(`learning rate ${rate.value} from the next step on`);
  }));
  optimizer.addEventListener('change', () => {
    rate.value = RATES[optimizer.value] ?? 0.001;
    decay.value = optimizer.value === 'adamw' ? 0.01 : 0;
    $('settings').elements.momentum.value = optimizer.value === 'sgd' ? 0.9 : 0;
    momentumOf(optimizer.value);
  });
  $('save').addEventListener('click', () => paused(async () => {
    await flush();
    download(await call('save'), 'weights.safetensors');
  }));
  $('load').addEventListener('change', event => paused(async () => {
    const [file] = event.target.files;
    event.target.value = '';
    if (!file) return;
    const loaded = await call('load', new Uint8Array(await file.arrayBuffer()), file.name);
    begin(loaded);
    $('restore').hidden = true;
    $('corrupt').hidden = false;
    const { test, position } = loaded;
    $('steps').dataset.value = position.step;
    $('steps').textContent = grouped(position.step);
    $('epoch').textContent = position.epoch;
    showTest(position.epoch, test);
    losses.draw();
    accuracies.draw();
    await prove();
    await showSavings();
    await showExamples();
    toast(`${file.name}: continues at step ${grouped(position.step)}`);
  }));
  document.addEventListener('keydown', event => {
    if (event.target.closest('input, select, button, a, summary, canvas') || event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.key === ' ') {
      event.preventDefault();
      setRunning(!running);
    } else if (event.key === 's' && !running) {
      $('step').click();
    }
  });
  let resizing;
  addEventListener('resize', () => {
    clearTimeout(resizing);
    resizing = setTimeout(redraw, 100);
  });
}

function redraw() {
  for (const view of [...views.values(), ...compared ?? []]) view.resize();
  losses.draw();
  accuracies.draw();
  pad.draw();
}

/** Milliseconds of opening the GPU, and of building and compiling the network. */
const times = {};

async function main() {
  const why = obstacle();
  losses = new Curves($('losses'), [{ colour: 'train' }, { colour: 'test', dots: true }], null);
  accuracies = new Curves($('accuracies'), [{ colour: 'train' }, { colour: 'test', dots: true }], [0, 1]);
  theme($('theme'), () => {
    repaint();
    if (!pad) return;
    redraw();
    if (network) act(showExamples);
  });
  if (why) {
    $('obstacle').textContent = why;
    $('obstacle').hidden = false;
    $('adapter').textContent = 'no GPU';
    return;
  }
  call = engine();
  let opened;
  try {
    const begun = performance.now();
    opened = await call('open');
    times.open = performance.now() - begun;
  } catch (error) {
    $('obstacle').textContent = error.message;
    $('obstacle').hidden = false;
    $('adapter').textContent = 'no GPU';
    return;
  }
  const { report, version } = opened;
  $('adapter').textContent = report.name + (report.software ? ' (software)' : '');
  $('adapter').title = `${report.kind}, ${report.backend}, shaders compiled by ${report.shaderCompiler}`;
  $('adapter').classList.add('open');
  $('about').textContent += ` Frazil ${version}.`;
  document.querySelector('main').hidden = false;
  pad = new Pad($('pad'), features => act(() => classify(features)));
  connect();
  // For the console and for tests.
  globalThis.frazil = {
    call,
    times,
    get views() { return views; },
    async settled() {
      await loop;
      await busy;
    },
  };
  await act(() => start());
  document.body.dataset.ready = network ? 'yes' : 'no';
}

main();
