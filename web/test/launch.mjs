// The browser of the tests.

import { spawnSync } from 'node:child_process';

/** Ends this program: something that it needs is missing. */
export function unavailable(why) {
  console.log(`SKIPPED: ${why}`);
  process.exit(77);
}

/** Starts a headless Chromium with WebGPU on its software GPU. CHROMIUM names its program [default: chromium on the PATH]. */
export async function launch(args = []) {
  let chromium;
  try {
    ({ chromium } = await import('playwright-core'));
  } catch {
    unavailable('playwright-core is not installed (npm ci in web/)');
  }
  const program = process.env.CHROMIUM ?? 'chromium';
  const executablePath = spawnSync('sh', ['-c', 'command -v "$0"', program]).stdout?.toString().trim();
  if (!executablePath) unavailable(`no ${program}`);
  return chromium.launch({
    executablePath,
    args: ['--no-sandbox', '--enable-unsafe-webgpu', '--disable-gpu-watchdog', ...args],
  });
}
