#!/bin/sh
# Builds the page and tests it in a headless Chromium, driven by playwright-core, which npm installs into web/node_modules.
#
# Exit codes: 0; 1 if a check fails; 77 if something that it needs is not available.
set -eu
cd "$(dirname "$0")/.."
target=${CARGO_TARGET_DIR:-target}

unavailable() {
    echo "SKIPPED: $1"
    exit 77
}

sh scripts/web.sh
command -v npm >/dev/null || unavailable "no npm"
command -v "${CHROMIUM:-chromium}" >/dev/null || unavailable "no ${CHROMIUM:-chromium}"
if [ ! -e web/node_modules/playwright-core ]; then
    (cd web && PLAYWRIGHT_SKIP_BROWSER_DOWNLOAD=1 timeout 120 npm ci --no-audit --no-fund --loglevel=error) ||
        unavailable "npm cannot install playwright-core"
fi
if [ -z "${FRAZIL:-}" ] && [ -x "$target/release/frazil" ]; then
    FRAZIL=$(cd "$target/release" && pwd)/frazil
    export FRAZIL
fi
exec timeout 300 node web/test/test.mjs
