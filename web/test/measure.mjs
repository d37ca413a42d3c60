// Measures the page in a headless Chromium on its software GPU, and the program `frazil` on the same driver, in turn.
//
//   FRAZIL=target/release/frazil node web/test/measure.mjs [ROUNDS]
//
// Prints the time from opening the page to its first step, the shortest step of both, and the longest task of the page's main
// thread. Times depend on what else runs on the machine: the program is measured between two measurements of the page. Needs what test.mjs needs, and a Vulkan driver of SwiftShader (SWIFTSHADER=FILE.json).

import { spawnSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { launch } from './launch.mjs';
import { serve } from './serve.mjs';

const web = join(dirname(fileURLToPath(import.meta.url)), '..');
const rounds = +(process.argv[2] ?? 3);
const icd = process.env.SWIFTSHADER ?? '/usr/lib/chromium/vk_swiftshader_icd.json';
const server = await serve(join(web, 'dist'));
/** Steps of each measurement. */
const STEPS = 12;

/** The shortest step of the program, in milliseconds. */
function native(family) {
  const args = ['bench', '--workload', 'digits', '--batch', '64', '--steps', String(STEPS), '--json', ...family];
  const run = spawnSync(process.env.FRAZIL, args, { env: { ...process.env, VK_DRIVER_FILES: icd } });
  if (run.status !== 0) throw new Error(`${run.stderr}`);
  return JSON.parse(run.stdout.toString().split('\n').find(line => line.includes('min_step_ms'))).min_step_ms;
}

/** The shortest step of the page, in milliseconds: as the program measures it, with a wait after each. */
async function steps(page) {
  return page.evaluate(async steps => {
    let shortest = Infinity;
    for (let n = 0; n < steps; n += 1) shortest = Math.min(shortest, (await frazil.call('steps', 1, [])).ms);
    return shortest;
  }, STEPS);
}

/** Opens the page in a new browser, without a cache of shaders; returns milliseconds to the first step, and the page. */
async function opened() {
  const browser = await launch();
  const page = await browser.newPage({ viewport: { width: 1280, height: 900 } });
  const begun = performance.now();
  await page.goto(`${server.address}index.html`);
  await page.waitForSelector('body[data-ready=yes]', { timeout: 120_000 });
  const ready = performance.now() - begun;
  const opened = await page.evaluate(() => frazil.times);
  await page.click('#step');
  await page.waitForFunction(() => document.getElementById('steps').textContent === '1');
  return { browser, page, ready, opened, step: performance.now() - begun };
}

/** The longest tasks of the main thread while it trains and weights are frozen, in milliseconds of CPU and of the clock. */
async function longest(browser, page) {
  await browser.startTracing(page, { categories: ['devtools.timeline', 'toplevel'] });
  await page.click('#run');
  for (const rule of ['random:0.5', 'smallest:0.9']) {
    await page.waitForTimeout(1000);
    await page.click(`[data-rule="${rule}"]`);
  }
  await page.waitForTimeout(2000);
  await page.click('#run');
  await page.evaluate(() => frazil.settled());
  const { traceEvents } = JSON.parse((await browser.stopTracing()).toString());
  const main = traceEvents.find(event => event.name === 'thread_name' && event.args.name === 'CrRendererMain'
    && traceEvents.some(other => other.pid === event.pid && other.tid === event.tid && other.name === 'FunctionCall'));
  const tasks = traceEvents.filter(event => event.ph === 'X' && event.pid === main.pid && event.tid === main.tid
    && /RunTask$/.test(event.name));
  const top = key => Math.max(...tasks.map(task => (task[key] ?? 0) / 1000));
  const late = tasks.filter(task => (task.tdur ?? 0) > 16_700).length;
  return { cpu: top('tdur'), clock: top('dur'), tasks: tasks.length, late };
}

const wasm = readFileSync(join(web, 'dist', 'frazil_web_bg.wasm'));
console.log(`WebAssembly: ${wasm.length} bytes`);
const program = process.env.FRAZIL ? { register: ['--family', 'register'], default: [] } : {};
for (let round = 0; round < rounds; round += 1) {
  const { browser, page, ready, opened: parts, step } = await opened();
  console.log(`page ready after ${ready.toFixed(0)} ms ${JSON.stringify(parts)}, first step after ${step.toFixed(0)} ms`);
  const found = [`page ${(await steps(page)).toFixed(1)}`];
  for (const [name, family] of Object.entries(program)) found.push(`program, ${name}: ${native(family).toFixed(1)}`);
  console.log(`shortest step, ms: ${found.join(', ')}, page again ${(await steps(page)).toFixed(1)}`);
  const { cpu, clock, tasks, late } = await longest(browser, page);
  console.log(`main thread: ${tasks} tasks, the longest ${cpu.toFixed(1)} ms of CPU, ${clock.toFixed(1)} ms of the clock; ${late} above a frame`);
  await browser.close();
}
server.close();
