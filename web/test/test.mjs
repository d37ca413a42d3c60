// Tests the page in a headless Chromium on its software GPU.
//
//   node web/test/test.mjs [--keep-going]
//
// Screenshots go to web/screenshots. CHROMIUM names the browser's program [default: chromium on the PATH]. FRAZIL names the
// program `frazil`, which inspects the saved checkpoint and continues it; without it, these two checks are skipped.
// Exit codes: 0 if all checks passed, 1 if one failed, 77 if there is no browser, driver or WebGPU.

import { execFileSync, spawnSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { launch, unavailable } from './launch.mjs';
import { idxFiles, pngFiles } from './samples.mjs';
import { serve } from './serve.mjs';

const web = join(dirname(fileURLToPath(import.meta.url)), '..');
const pictures = join(web, 'screenshots');
const LIMIT = 60_000;

let page;
const began = performance.now();
let [passed, failed, skipped] = [0, 0, 0];
const wrong = [];

function expect(holds, what) {
  if (!holds) throw new Error(what);
}

async function check(name, run) {
  const begun = performance.now();
  try {
    await run();
    passed += 1;
    console.log(`ok    ${name} (${((performance.now() - begun) / 1000).toFixed(1)} s)`);
  } catch (error) {
    failed += 1;
    console.log(`FAIL  ${name}: ${error.message}`);
    await page?.screenshot({ path: join(pictures, `failed-${failed}.png`), fullPage: true }).catch(() => {});
    // Later checks continue the state of earlier ones.
    if (!process.argv.includes('--keep-going')) await end();
  }
}

async function end() {
  await browser.close();
  server.close();
  rmSync(scratch, { recursive: true, force: true });
  for (const line of failed > 0 ? wrong : []) console.log(`      ${line}`);
  console.log(`${((performance.now() - began) / 1000).toFixed(0)} s`);
  console.log(`${passed} passed, ${failed} failed, ${skipped} skipped`);
  process.exit(failed > 0 ? 1 : 0);
}

rmSync(pictures, { recursive: true, force: true });
mkdirSync(pictures, { recursive: true });
const server = await serve(join(web, 'dist'));
const scratch = mkdtempSync(join(tmpdir(), 'frazil-web-'));
const browser = await launch();

/** Opens a page in a window of its own; whatever it prints as an error, and each request to another host, is a failure. */
async function open(path, options = {}, prepare) {
  const context = await browser.newContext({ viewport: { width: 1280, height: 900 }, ...options });
  const page = await context.newPage();
  page.setDefaultTimeout(LIMIT);
  page.on('console', message => {
    if (message.type() === 'error') wrong.push(`console: ${message.text()}`);
  });
  page.on('pageerror', error => wrong.push(`page error: ${error.message}`));
  page.on('request', request => {
    if (!request.url().startsWith(server.address) && !/^(blob|data):/.test(request.url())) wrong.push(`request to ${request.url()}`);
  });
  if (prepare) await page.addInitScript(prepare);
  await page.goto(server.address + path);
  return page;
}

/** Whether the classes under the test images are those that the present weights predict. */
const predictionsAreOfNow = () => page.evaluate(async () => {
  const shown = [...document.querySelectorAll('#examples li span')].map(span => span.textContent);
  const { labels, probabilities } = await frazil.call('examples', shown.length);
  const classes = probabilities.length / labels.length;
  return shown.every((name, i) => {
    const row = probabilities.subarray(classes * i, classes * (i + 1));
    return +name === row.indexOf(Math.max(...row));
  });
});

const text = id => page.locator(`#${id}`).textContent();
const number = async id => +(await text(id)).replaceAll(',', '');

/** Bits of all weights of a parameter, read from the GPU. */
const bits = path => page.evaluate(async path => {
  const values = (await frazil.call('values', [path]))[path];
  return [...new Uint32Array(values.buffer)];
}, path);

const frozen = path => page.evaluate(path => {
  const view = frazil.views.get(path);
  return [...view.values.keys()].filter(index => view.isFrozen(index));
}, path);

/** Waits until the page has nothing to do. */
const settled = () => page.evaluate(() => frazil.settled());

/** Position on the screen of the middle of a weight's cell. */
const centre = (path, cell) => page.evaluate(([path, cell]) => {
  const view = frazil.views.get(path);
  view.canvas.scrollIntoView({ block: 'center' });
  const box = view.canvas.getBoundingClientRect();
  const [x, y] = view.place(...cell);
  return [box.left + x + view.cell / 2 - 1, box.top + y + view.cell / 2 - 1];
}, [path, cell]);

async function trainTo(epoch) {
  await page.click('#run');
  await page.waitForFunction(epoch => +document.getElementById('epoch').textContent >= epoch, epoch);
  await page.click('#run');
  await settled();
}

const supported = await (async () => {
  const probe = await open('index.html', {}, () => { globalThis.probing = true; });
  const found = await probe.evaluate(async () => !!await navigator.gpu?.requestAdapter() && 'Suspending' in WebAssembly);
  await probe.context().close();
  return found;
})();
if (!supported) {
  await browser.close();
  server.close();
  unavailable('Chromium has no WebGPU adapter, or no JSPI');
}

await check('the page opens and draws the network', async () => {
  const begun = performance.now();
  page = await open('index.html');
  await page.waitForSelector('body[data-ready]');
  console.log(`      ready after ${((performance.now() - begun) / 1000).toFixed(1)} s on ${await text('adapter')}`);
  expect(await page.locator('body').getAttribute('data-ready') === 'yes', `not ready: ${await text('toast')}`);
  expect(await page.locator('.kernel').count() === 8, 'expected 8 parameters');
});

await check('a step trains', async () => {
  const begun = performance.now();
  await page.click('#step');
  await page.waitForFunction(() => document.getElementById('steps').textContent === '1');
  await settled();
  console.log(`      first step: ${(performance.now() - begun).toFixed(0)} ms`);
  expect(await predictionsAreOfNow(), 'the predictions are those of other weights');
});

await check('two epochs reach the expected accuracy', async () => {
  await trainTo(2);
  const accuracy = +await page.locator('#accuracy').getAttribute('data-value');
  console.log(`      accuracy ${accuracy.toFixed(4)}, ${await text('speed')} steps/s`);
  expect(accuracy >= 0.85 && accuracy <= 1, `accuracy ${accuracy}`);
  await page.screenshot({ path: join(pictures, 'desktop.png'), fullPage: true });
});

await check('clicked and dragged weights freeze while it trains, and do not move', async () => {
  await page.click('#run');
  await page.click('#run >> text=Pause', { trial: true });
  for (const cell of [[0, 0, 0, 0], [1, 2, 3, 4], [2, 2, 15, 31], [1, 1, 7, 9]]) {
    await page.mouse.click(...await centre('conv2.kernel', cell));
  }
  const [from, to] = [await centre('conv1.kernel', [1, 0, 0, 2]), await centre('conv1.kernel', [1, 2, 0, 3])];
  await page.mouse.move(...from);
  await page.mouse.down();
  await page.mouse.move(...to, { steps: 2 });
  await page.mouse.up();
  await page.waitForFunction(() => document.getElementById('proof-line').textContent === '0 of 10 frozen weights changed');
  await page.click('#run');
  await settled();
  const [chosen2, chosen1] = [await frozen('conv2.kernel'), await frozen('conv1.kernel')];
  expect(chosen2.length === 4, `conv2: ${chosen2}`);
  expect(chosen1.length === 6, `conv1: ${chosen1}`);
  const before = [await bits('conv1.kernel'), await bits('conv2.kernel')];
  await trainTo(await number('epoch') + 1);
  const after = [await bits('conv1.kernel'), await bits('conv2.kernel')];
  expect(chosen1.every(index => before[0][index] === after[0][index]), 'a frozen weight of conv1 moved');
  expect(chosen2.every(index => before[1][index] === after[1][index]), 'a frozen weight of conv2 moved');
  const moved = after[1].filter((value, index) => value !== before[1][index]).length;
  expect(moved > 4000, `only ${moved} trainable weights moved`);
  expect(await text('proof-line') === '0 of 10 frozen weights changed', await text('proof-line'));
});

await check('another click thaws, and the weight moves again', async () => {
  const index = await page.evaluate(() => frazil.views.get('conv2.kernel').index(1, 1, 7, 9));
  await page.mouse.click(...await centre('conv2.kernel', [1, 1, 7, 9]));
  await settled();
  expect(await text('proof-line') === '0 of 9 frozen weights changed', await text('proof-line'));
  const before = await bits('conv2.kernel');
  await page.click('#step');
  await settled();
  expect((await bits('conv2.kernel'))[index] !== before[index], 'it did not move');
});

await check('the keyboard freezes', async () => {
  await page.focus('[id="conv1.kernel"] canvas');
  const before = (await frozen('conv1.kernel')).length;
  for (let n = 0; n < 3; n += 1) await page.keyboard.press('ArrowDown');
  await page.keyboard.press('Enter');
  await settled();
  expect((await frozen('conv1.kernel')).length === before + 1, 'no weight froze');
  await page.keyboard.press('Enter');
  await settled();
  expect((await frozen('conv1.kernel')).length === before, 'it did not thaw');
});

await check('brushes freeze kernels and filters', async () => {
  await page.check('input[value=filter]');
  await page.mouse.click(...await centre('conv2.kernel', [1, 1, 2, 20]));
  await settled();
  const filter = (await frozen('conv2.kernel')).filter(index => index % 32 === 20);
  expect(filter.length === 9 * 16, `${filter.length} weights of the filter`);
  await page.check('input[value=kernel]');
  await page.mouse.click(...await centre('conv2.kernel', [1, 1, 5, 20]));
  await settled();
  expect((await frozen('conv2.kernel')).filter(index => index % 32 === 20).length === 9 * 15, 'the kernel did not thaw');
  await page.check('input[value=weight]');
});

await check('rules freeze and thaw', async () => {
  await page.click('[data-thaw=all]');
  await settled();
  expect(await text('proof-line') === 'No weight is frozen yet', await text('proof-line'));
  await page.click('[data-rule="random:0.5"]');
  await settled();
  expect(await text('proof-line') === '0 of 2,376 frozen weights changed', await text('proof-line'));
});

await check('a corrupted bit is found and named, while it trains', async () => {
  await page.click('#run');
  await page.click('#corrupt');
  await page.waitForFunction(() => document.getElementById('proof-line').textContent.startsWith('1 of 2,376 '));
  const detail = await text('proof-detail');
  expect(/^The first: weight of conv[12]\.kernel\[\d+, \d+, \d+, \d+\] was 0x[0-9a-f]{8}, is 0x[0-9a-f]{8}\.$/.test(detail), detail);
  await page.evaluate(() => scrollTo(0, 0));
  await page.screenshot({ path: join(pictures, 'corrupted.png') });
  await page.click('#restore');
  await page.waitForFunction(() => document.getElementById('proof-line').textContent.startsWith('0 of 2,376 '));
  await page.click('#run');
  await settled();
});

await check('a drawn digit is classified', async () => {
  const box = await page.locator('#pad').boundingBox();
  await page.locator('#pad').scrollIntoViewIfNeeded();
  const pad = await page.locator('#pad').boundingBox();
  const at = turn => [pad.x + pad.width * (0.5 + 0.26 * Math.sin(turn)), pad.y + pad.height * (0.5 - 0.38 * Math.cos(turn))];
  await page.mouse.move(...at(0));
  await page.mouse.down();
  for (let turn = 0; turn <= 6.4; turn += 0.2) await page.mouse.move(...at(turn));
  await page.mouse.up();
  await page.waitForFunction(() => document.getElementById('answer').textContent !== '');
  const answer = await page.locator('#answer').getAttribute('data-value');
  expect(answer === '0', `a circle is a ${answer} (${box.width} px)`);
});

const saved = join(scratch, 'weights.safetensors');
await check('a saved checkpoint continues to the bit', async () => {
  const [download] = await Promise.all([page.waitForEvent('download'), page.click('#save')]);
  await download.saveAs(saved);
  await settled();
  const position = await text('steps');
  const digest = async () => (await page.evaluate(() => frazil.call('details'))).digest;
  const [before, masks] = [await digest(), await frozen('conv2.kernel')];
  for (let n = 0; n < 3; n += 1) await page.click('#step');
  await settled();
  const after = await digest();
  expect(before !== after, 'three steps changed nothing');
  await page.click('[data-thaw=all]');
  await page.setInputFiles('#load', saved);
  await page.waitForFunction(text => document.getElementById('steps').textContent === text, position);
  await settled();
  expect(await digest() === before, 'the loaded state differs');
  expect(JSON.stringify(await frozen('conv2.kernel')) === JSON.stringify(masks), 'the loaded masks differ');
  for (let n = 0; n < 3; n += 1) await page.click('#step');
  await settled();
  expect(await digest() === after, 'training continues differently');
});

await check('a file that is no checkpoint is refused, and nothing changes', async () => {
  const steps = await text('steps');
  await page.setInputFiles('#load', { name: 'other.safetensors', mimeType: '', buffer: readFileSync(saved).subarray(0, 5000) });
  await page.waitForSelector('#toast.error');
  await settled();
  expect(/other\.safetensors/.test(await text('toast')), await text('toast'));
  expect(await text('steps') === steps, 'the step changed');
});

const frazil = process.env.FRAZIL;
if (frazil) {
  await check('the program inspects and continues the checkpoint', async () => {
    const inspected = execFileSync(frazil, ['inspect', saved]).toString();
    expect(/2,?376/.test(inspected), inspected);
    const epochs = await number('epoch') + 1;
    const options = ['train', '--resume', saved, '--epochs', String(epochs), '--out', join(scratch, 'out')];
    const printed = spawnSync(frazil, options, { env: process.env });
    expect(printed.status === 0, `${printed.stderr}`);
    expect(/0 of 2376 frozen elements changed/.test(printed.stdout), `${printed.stdout}`);
  });
} else {
  skipped += 1;
  console.log('SKIPPED the program inspects and continues the checkpoint: FRAZIL is not set');
}

await check('the question: the blend moves, frozen weights do not', async () => {
  await page.click('#question');
  await page.waitForSelector('#question-result:not([hidden])');
  await settled();
  const [blend, ours] = [await text('blend-line'), await text('ours-line')];
  const moved = +/^(\d+) of (\d+) frozen weights moved, by up to 0\.\d+$/.exec(blend)?.[1];
  expect(moved > 100, blend);
  expect(/^0 of \d+ frozen weights moved$/.test(ours), ours);
  await page.locator('#question-result').scrollIntoViewIfNeeded();
  await page.screenshot({ path: join(pictures, 'question.png') });
});

await check('settings are in the address, and wrong ones are named', async () => {
  await page.selectOption('[name=optimizer]', 'adam');
  await page.fill('[name=seed]', '7');
  await page.click('#settings button');
  await settled();
  const { searchParams } = new URL(page.url());
  const got = [...searchParams].map(pair => pair.join('=')).sort().join();
  expect(got === 'momentum=0,optimizer=adam,rate=0.001,seed=7', got);
  expect(await text('steps') === '0', 'it did not start again');
  const wrongPage = await open('index.html?optimizer=sgdd');
  await wrongPage.waitForSelector('#toast.error');
  expect((await wrongPage.textContent('#toast')).includes('got sgdd'), await wrongPage.textContent('#toast'));
  await wrongPage.context().close();
});

await check('a browser without JSPI or WebGPU is told what is missing', async () => {
  for (const [remove, names] of [[() => { delete WebAssembly.Suspending; }, 'JSPI'], [() => { delete Navigator.prototype.gpu; }, 'WebGPU']]) {
    const bare = await open('index.html', {}, remove);
    await bare.waitForSelector('#obstacle:not([hidden])');
    expect((await bare.textContent('#obstacle')).includes(names), await bare.textContent('#obstacle'));
    await bare.context().close();
  }
});

await page?.context().close();
const idxFolder = join(scratch, 'idx');
await check('it trains on IDX files, and the program continues', async () => {
  mkdirSync(idxFolder);
  const files = idxFiles(128, 32).map(({ name, buffer }) => {
    writeFileSync(join(idxFolder, name), buffer);
    return join(idxFolder, name);
  });
  page = await open('index.html?batch=32');
  await page.waitForSelector('body[data-ready=yes]');
  await page.setInputFiles('#idx', files.slice(1));
  await page.waitForSelector('#toast.error');
  expect((await text('toast')).includes('expected one file train-images-idx3-ubyte'), await text('toast'));
  expect((await text('data')).startsWith('1,437 training'), 'the data changed');
  await page.setInputFiles('#idx', files);
  await page.waitForFunction(() => document.getElementById('data').textContent.startsWith('128 training and 32 test images of 28 × 28'));
  await settled();
  expect(new URL(page.url()).searchParams.get('model') === 'lenet28', page.url());
  await page.selectOption('#target', 'conv2.kernel');
  await page.click('[data-rule="position:1,1"]');
  await settled();
  await trainTo(2);
  const accuracy = +await page.locator('#accuracy').getAttribute('data-value');
  expect(accuracy > 0.9, `accuracy ${accuracy}`);
  expect(await text('proof-line') === '0 of 2,048 frozen weights changed', await text('proof-line'));
  await page.screenshot({ path: join(pictures, 'idx.png'), fullPage: true });
  const [download] = await Promise.all([page.waitForEvent('download'), page.click('#save')]);
  await download.saveAs(saved);
  await settled();
  const position = await text('steps');
  await page.click('#step');
  await settled();
  await page.setInputFiles('#load', saved);
  await page.waitForFunction(text => document.getElementById('steps').textContent === text, position);
  await settled();
  if (frazil) {
    const options = ['train', '--resume', saved, '--data', `idx:${idxFolder}`, '--epochs', String(await number('epoch') + 1), '--out', join(scratch, 'idx-out')];
    const printed = spawnSync(frazil, options, { env: process.env });
    expect(printed.status === 0, `${printed.stderr}`);
    expect(/0 of 2048 frozen elements changed/.test(printed.stdout), `${printed.stdout}`);
  }
});

await check('it trains on a folder of images', async () => {
  const folder = join(scratch, 'shapes');
  for (const { name, buffer } of await pngFiles(page, 5)) {
    mkdirSync(dirname(join(folder, name)), { recursive: true });
    writeFileSync(join(folder, name), buffer);
  }
  await page.setInputFiles('#folder', join(folder, 'circle'));
  await page.waitForSelector('#toast.error');
  expect(/subfolder of images for each class, got 5 other files, such as circle/.test(await text('toast')), await text('toast'));
  await page.setInputFiles('#folder', folder);
  await page.waitForFunction(() => document.getElementById('data').textContent.startsWith('16 training and 4 test images'));
  await settled();
  expect((await page.locator('#bars').innerText()).split(/\s+/).join() === 'circle,cross,square,stripe', await page.locator('#bars').innerText());
  await trainTo(1);
  expect((await text('data')).endsWith('4 classes'), await text('data'));
  await page.setInputFiles('#load', saved);
  await page.waitForSelector('#toast.error');
  expect((await text('toast')).includes('idx:files; open that first'), await text('toast'));
  await page.locator('#data').scrollIntoViewIfNeeded();
  await page.screenshot({ path: join(pictures, 'images.png') });
  await page.context().close();
});

await check('the page fits a phone, and is dark where the system is', async () => {
  page = await open('index.html', { viewport: { width: 390, height: 844 }, deviceScaleFactor: 2, colorScheme: 'dark', hasTouch: true, isMobile: true });
  await page.waitForSelector('body[data-ready=yes]');
  await page.click('[data-rule="random:0.5"]');
  await settled();
  // As in the README: the same weights frozen at the same initial values by the program, on another driver.
  expect((await text('proof-detail')).includes('Digest 1f285992644ce11e.'), await text('proof-detail'));
  await page.click('#run');
  await page.waitForFunction(() => +document.getElementById('steps').dataset.value >= 8);
  await page.click('#run');
  await settled();
  const overflow = await page.evaluate(() => document.documentElement.scrollWidth - innerWidth);
  expect(overflow <= 0, `the page is ${overflow} px too wide`);
  const back = await page.evaluate(() => getComputedStyle(document.body).backgroundColor);
  expect(back === 'rgb(13, 17, 23)', back);
  await page.touchscreen.tap(...await centre('conv1.kernel', [0, 0, 0, 0]));
  await settled();
  await page.evaluate(() => scrollTo(0, 0));
  await page.screenshot({ path: join(pictures, 'phone-top.png') });
  await page.screenshot({ path: join(pictures, 'phone.png'), fullPage: true });
  await page.context().close();
});

await check('the conformance suite agrees with the reference', async () => {
  page = await open('check.html?filter=pad_channels', { permissions: ['clipboard-read', 'clipboard-write'] });
  await page.waitForSelector('body[data-ready]');
  await page.click('#start');
  await page.waitForSelector('body[data-done]');
  console.log(`      ${await text('verdict-detail')}`);
  expect(await page.locator('body').getAttribute('data-done') === 'passed', `${await text('verdict-line')} ${await text('failed')}`);
  expect(await page.locator('#kernels tr').count() > 0, 'no kernel ran');
  expect(await page.locator('#kernels .pass').count() === await page.locator('#kernels tr').count(), 'a kernel is not green');
  await page.click('[data-copy=json]');
  await page.waitForFunction(() => document.getElementById('copied').textContent === 'copied');
  const report = JSON.parse(await page.evaluate(() => navigator.clipboard.readText()));
  expect(report.passed && report.finished && report.kernels.length > 0 && report.adapter.name !== '', JSON.stringify(report));
  await page.click('#measure');
  await page.waitForSelector('body[data-measured="1"]');
  await page.click('[data-copy=markdown]');
  await page.waitForFunction(() => navigator.clipboard.readText().then(text => text.startsWith('### ')));
  const markdown = await page.evaluate(() => navigator.clipboard.readText());
  expect(/\| digits \| 64 \| \w+ \| [\d.]+ \| [\d.]+ \|/.test(markdown), markdown);
  console.log(`      ${markdown.match(/\| digits .*/)[0]}`);
  await page.screenshot({ path: join(pictures, 'check.png'), fullPage: true });
});

await check('no errors in the console, no request to another host', async () => {
  expect(wrong.length === 0, wrong.join('\n'));
});

await end();
