// The page's side of worker.js, and what the browser must have for it.

/** Says why this browser cannot run the library; null if it can. */
export function obstacle() {
  if (!isSecureContext) return 'WebGPU needs a page from https or from localhost.';
  if (!('gpu' in navigator)) {
    return 'This browser has no WebGPU, or has it switched off. Chrome and Edge have it; Firefox on Linux has it behind the '
      + 'setting dom.webgpu.enabled of about:config.';
  }
  if (typeof WebAssembly.Suspending !== 'function') {
    return 'This browser lacks JavaScript promise integration (JSPI), with which WebAssembly waits for the GPU. '
      + 'Chrome and Edge have it from version 137; Firefox 153 has it.';
  }
  return null;
}

/** Starts the worker; returns a function that calls one of its functions by name. */
export function engine() {
  const worker = new Worker(new URL('./worker.js', import.meta.url), { type: 'module' });
  const waiting = new Map();
  let next = 0;
  worker.onmessage = ({ data: { id, value, error } }) => {
    const { resolve, reject } = waiting.get(id);
    waiting.delete(id);
    if (error === undefined) resolve(value);
    else reject(new Error(error));
  };
  worker.onerror = event => {
    event.preventDefault();
    for (const { reject } of waiting.values()) reject(new Error(event.message || 'worker.js cannot be loaded'));
    waiting.clear();
  };
  return (name, ...args) => new Promise((resolve, reject) => {
    waiting.set(next, { resolve, reject });
    worker.postMessage({ id: next, name, args });
    next += 1;
  });
}
