// Runs the library beside the page, so that the page never waits. Messages are calls {id, name, args}; each is answered
// by {id, value} or {id, error}, in order and one at a time, because a call that waits for the GPU has borrowed its object.

import { readData } from './files.js';
import init, { Data, Device, settingsOf, version } from './frazil_web.js';

let device;
let data;
let session;
let suite;

const paths = () => JSON.parse(session.network()).parameters.map(parameter => parameter.path);

async function valuesOf(wanted) {
  const values = {};
  for (const path of wanted) values[path] = await session.values(path);
  return values;
}

const masksOf = wanted => Object.fromEntries(wanted.map(path => [path, session.mask(path)]));

const calls = {
  async open() {
    await init();
    device = await Device.open();
    data = Data.digits();
    return { version: version(), report: JSON.parse(device.report()) };
  },

  /** Begins with new weights; `files` are those of other data, null for the digits, undefined for the present data. */
  async start(settings, files) {
    const begun = performance.now();
    let opened = data;
    if (files !== undefined) opened = files === null ? Data.digits() : await readData(files);
    let next;
    try {
      next = await device.train(JSON.stringify(settings), opened);
    } catch (error) {
      if (opened !== data) opened.free();
      throw error;
    }
    session?.free();
    session = next;
    if (opened !== data) data.free();
    data = opened;
    const network = JSON.parse(session.network());
    return { network, ms: performance.now() - begun, values: await valuesOf(paths()), masks: masksOf(paths()) };
  },

  async steps(count, wanted) {
    const begun = performance.now();
    const result = JSON.parse(await session.steps(count));
    const ms = performance.now() - begun;
    return { ...result, ms, values: await valuesOf(wanted) };
  },

  values: valuesOf,
  setRate: rate => session.setRate(rate),

  async edit(edits) {
    let changed = 0;
    for (const { path, indices, frozen } of edits) {
      changed += await session.edit(path, Uint32Array.from(indices), frozen);
    }
    return { changed, masks: masksOf([...new Set(edits.map(edit => edit.path))]) };
  },

  async rule(glob, rule, frozen) {
    const changed = await session.rule(glob, rule, frozen);
    return { changed, masks: masksOf(paths()) };
  },

  proof: async () => JSON.parse(await session.proof()),
  corrupt: choice => session.corrupt(choice),
  restore: () => session.restore(),
  evaluate: async () => JSON.parse(await session.evaluate()),
  predict: features => session.predict(features),
  details: async () => JSON.parse(await session.details()),

  async examples(count) {
    const images = session.testImages(count);
    const probabilities = await session.predict(images);
    return { images, labels: session.testLabels(count), probabilities };
  },

  save: () => session.save(),

  async load(bytes, name) {
    const settings = JSON.parse(settingsOf(bytes, name, data));
    const next = await device.train(JSON.stringify(settings), data);
    try {
      await next.load(bytes, name);
    } catch (error) {
      next.free();
      throw error;
    }
    session?.free();
    session = next;
    const test = JSON.parse(await session.evaluate());
    const network = JSON.parse(session.network());
    const position = JSON.parse(session.position());
    return { network, test, position, values: await valuesOf(paths()), masks: masksOf(paths()) };
  },

  question: async rule => JSON.parse(await device.question(rule)),

  check(filter) {
    suite?.free();
    suite = device.check(filter);
    return suite.total;
  },

  /** Measures training steps of a model on random images; `least` is the time to measure for, in milliseconds. */
  async bench({ model, shape, batch }, least) {
    const settings = { model, optimizer: 'sgd', rate: 0.01, momentum: 0.9, decay: 0, batch, seed: 1 };
    const random = Data.synthetic(Uint32Array.from(shape), 10, batch);
    let measured;
    try {
      let begun = performance.now();
      measured = await device.train(JSON.stringify(settings), random);
      await measured.repeat(1);
      const first = performance.now() - begun;
      // The best of three, as other work on the machine only adds time.
      let [steps, ms] = [1, Infinity];
      for (let round = 0; round < 3;) {
        begun = performance.now();
        await measured.repeat(steps);
        const took = performance.now() - begun;
        if (took < least && steps < 4096) {
          steps = Math.min(4096, Math.ceil(steps * Math.min(8, 1.2 * least / took)));
          continue;
        }
        ms = Math.min(ms, took / steps);
        round += 1;
      }
      return { model, batch, first, ms, steps, family: JSON.parse(await measured.details()).family };
    } finally {
      measured?.free();
      random.free();
    }
  },

  async next() {
    const outcome = await suite.advance();
    return outcome === undefined ? null : JSON.parse(outcome);
  },
};

let last = Promise.resolve();

onmessage = ({ data: { id, name, args } }) => {
  last = last.then(async () => {
    try {
      postMessage({ id, value: await calls[name](...args) });
    } catch (error) {
      postMessage({ id, error: error instanceof Error ? error.message : String(error) });
    }
  });
};
