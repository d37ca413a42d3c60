// The conformance suite on the visitor's GPU. `?filter=TEXT` runs only the cases whose names contain the text.

import { engine, obstacle } from './engine.js';
import { theme } from './theme.js';

const $ = id => document.getElementById(id);
const filter = new URLSearchParams(location.search).get('filter') ?? '';

let call;
let adapter;
let version;
let stopped = false;
const tallies = new Map();
const failures = [];
/** Networks to measure; a software GPU needs seconds for one step of the larger ones. */
const NETWORKS = [
  { model: 'digits', shape: [8, 8, 1], batch: 64 },
  { model: 'lenet28', shape: [28, 28, 1], batch: 64, hardware: true },
  { model: 'cifar', shape: [32, 32, 3], batch: 64, hardware: true },
  { model: 'resnet20', shape: [32, 32, 3], batch: 64, hardware: true },
];
/** Milliseconds of each measurement, at least. */
const LEAST = 400;
let speeds = [];
let counts = { done: 0, cases: 0, total: 0, seconds: 0, finished: false };

function row(kernel) {
  let tally = tallies.get(kernel);
  if (!tally) {
    const line = document.createElement('tr');
    line.innerHTML = '<td></td><td class="number"></td><td class="number"></td><td class="waits"></td>';
    line.firstChild.textContent = kernel;
    tally = { kernel, runs: 0, failed: 0, worst: 0, line };
    tallies.set(kernel, tally);
    const after = [...tallies.keys()].sort().indexOf(kernel);
    $('kernels').insertBefore(line, $('kernels').children[after] ?? null);
  }
  return tally;
}

function show(tally, finished) {
  const [, runs, worst, verdict] = tally.line.children;
  runs.textContent = tally.runs;
  worst.textContent = tally.failed > 0 ? '' : tally.worst.toFixed(3);
  const state = tally.failed > 0 ? 'fail' : finished ? 'pass' : 'waits';
  verdict.className = state;
  verdict.textContent = { fail: `${tally.failed} wrong`, pass: 'agrees', waits: 'agrees so far' }[state];
}

function verdict() {
  const wrong = [...tallies.values()].filter(tally => tally.failed > 0).length;
  const section = $('verdict');
  section.classList.toggle('bad', failures.length > 0);
  section.classList.toggle('good', counts.finished && failures.length === 0);
  const rest = counts.finished ? '' : ` so far, ${counts.cases} of ${counts.total} cases`;
  $('verdict-line').textContent = wrong > 0
    ? `${wrong} of ${tallies.size} kernels are wrong on this GPU${rest}`
    : counts.finished ? `${filter ? `In the cases of “${filter}”, every` : 'Every'} kernel agrees with the reference` : `All kernels agree with the reference${rest}`;
  $('verdict-detail').textContent = `${tallies.size} ${tallies.size === 1 ? 'kernel' : 'kernels'}, ${counts.done} runs, ${counts.seconds.toFixed(0)} s`;
  $('progress').max = counts.total;
  $('progress').value = counts.cases;
}

function report() {
  const kernels = [...tallies.values()].sort((a, b) => a.kernel < b.kernel ? -1 : 1)
    .map(({ kernel, runs, failed, worst }) => ({ kernel, runs, failed, worst_of_bound: failed > 0 ? null : worst, passed: failed === 0 }));
  return {
    frazil: version, browser: navigator.userAgent, adapter, filter: filter || null, finished: counts.finished,
    passed: counts.done > 0 && failures.length === 0, runs: counts.done, seconds: Math.round(counts.seconds), kernels, failures,
    speeds: speeds.map(({ model, batch, ms, first, family }) => ({ model, batch, family, ms_per_step: +ms.toPrecision(4), first_step_ms: Math.round(first) })),
  };
}

function markdown() {
  const { browser, passed, finished, runs, seconds, kernels } = report();
  const agreement = runs === 0 ? 'kernels not compared' : `${passed ? 'every kernel agrees with the reference' : 'some kernels are wrong'}${finished ? '' : ' (not finished)'}`;
  const lines = [
    `### ${adapter.name}: ${agreement}`,
    '',
    `Frazil ${version}, ${browser}`,
    '',
    `${adapter.kind}, ${adapter.backend}; ${kernels.length} kernels, ${runs} runs, ${seconds} s; subgroups ${adapter.subgroup?.join(' to ') ?? 'none'}; `
      + `largest binding ${adapter.maxBinding}, workgroup memory ${adapter.maxWorkgroupMemory}, invocations ${adapter.maxInvocations}`,
  ];
  if (speeds.length > 0) {
    lines.push('', '| network | batch | GEMM family | ms a step | first step, s |', '|---|---:|---|---:|---:|',
      ...speeds.map(({ model, batch, family, ms, first }) => `| ${model} | ${batch} | ${family} | ${ms.toFixed(2)} | ${(first / 1000).toFixed(1)} |`));
  }
  if (runs > 0) {
    lines.push('', '| kernel | runs | error / bound | verdict |', '|---|---:|---:|---|', ...kernels.map(k => `| ${k.kernel} | ${k.runs} | ${k.worst_of_bound?.toFixed(3) ?? ''} | ${k.passed ? 'pass' : `${k.failed} wrong`} |`));
  }
  if (failures.length > 0) lines.push('', '```text', ...failures, '```');
  return lines.join('\n');
}

async function measure() {
  const chosen = NETWORKS.filter(network => !network.hardware || !adapter.software);
  speeds = [];
  $('measure').disabled = $('start').disabled = true;
  $('speeds').hidden = false;
  $('speeds').querySelector('tbody').replaceChildren();
  for (const network of chosen) {
    $('measuring').textContent = `${network.model} …`;
    try {
      const speed = await call('bench', network, LEAST);
      speeds.push(speed);
      const line = $('speeds').querySelector('tbody').insertRow();
      const { model, batch, ms, first } = speed;
      for (const [index, text] of [model, batch, ms.toFixed(2), (1000 * batch / ms).toFixed(0), (first / 1000).toFixed(1)].entries()) {
        const cell = line.insertCell();
        cell.textContent = text;
        if (index > 0) cell.className = 'number';
      }
    } catch (error) {
      failures.push(`${network.model}, batch ${network.batch}: ${error.message}`);
      showFailures();
    }
  }
  $('measuring').textContent = '';
  $('measure').disabled = $('start').disabled = false;
  $('report').hidden = false;
  document.body.dataset.measured = speeds.length;
}

function showFailures() {
  $('failures').hidden = failures.length === 0;
  $('failed').textContent = failures.join('\n');
}

async function run() {
  stopped = false;
  tallies.clear();
  failures.length = 0;
  $('kernels').replaceChildren();
  $('failures').hidden = $('report').hidden = true;
  $('start').hidden = true;
  $('stop').hidden = $('progress').hidden = false;
  counts = { done: 0, cases: 0, total: 0, seconds: 0, finished: false };
  $('verdict').className = 'proof';
  $('verdict-line').textContent = 'Preparing the cases';
  const begun = performance.now();
  try {
    counts.total = await call('check', filter);
    while (!stopped) {
      const outcome = await call('next');
      counts.seconds = (performance.now() - begun) / 1000;
      if (outcome === null) {
        counts.finished = true;
        break;
      }
      counts.done += 1;
      counts.cases = outcome.case;
      for (const kernel of outcome.kernels) {
        const tally = row(kernel);
        tally.runs += 1;
        tally.worst = Math.max(tally.worst, outcome.worst ?? 0);
        if (outcome.failure !== null) tally.failed += 1;
        show(tally, false);
      }
      if (outcome.failure !== null) {
        failures.push(outcome.failure);
        showFailures();
      }
      verdict();
    }
  } catch (error) {
    failures.push(error.message);
    showFailures();
  }
  if (counts.finished && counts.done === 0) failures.push(`no case has ${filter} in its name`);
  for (const tally of tallies.values()) show(tally, counts.finished);
  verdict();
  $('start').hidden = $('report').hidden = false;
  $('start').textContent = 'Run again';
  $('stop').hidden = $('progress').hidden = true;
  document.body.dataset.done = counts.finished && failures.length === 0 ? 'passed' : 'failed';
}

async function main() {
  theme($('theme'), () => {});
  let why = obstacle();
  if (!why) {
    call = engine();
    try {
      const opened = await call('open');
      ({ version, report: adapter } = opened);
    } catch (error) {
      why = error.message;
    }
  }
  if (why) {
    $('obstacle').textContent = why;
    $('obstacle').hidden = false;
    $('adapter').textContent = 'no GPU';
    return;
  }
  $('adapter').textContent = adapter.name + (adapter.software ? ' (software)' : '');
  $('adapter').classList.add('open');
  $('about').textContent = `Frazil ${version}, ${navigator.userAgent}`;
  document.querySelector('main').hidden = false;
  $('start').addEventListener('click', run);
  $('measure').addEventListener('click', measure);
  $('stop').addEventListener('click', () => { stopped = true; });
  for (const button of document.querySelectorAll('[data-copy]')) {
    button.addEventListener('click', async () => {
      const text = button.dataset.copy === 'json' ? JSON.stringify(report(), null, 1) : markdown();
      await navigator.clipboard.writeText(text);
      $('copied').textContent = 'copied';
    });
  }
  document.body.dataset.ready = 'yes';
}

main();
