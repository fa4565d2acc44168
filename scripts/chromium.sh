#!/usr/bin/env bash
# Prints the path of a Chromium for the browser tests; installs one where that is possible and none is there.
set -euo pipefail

find_one() {
    local candidate
    for candidate in "${CHROMIUM:-}" chromium chromium-browser google-chrome google-chrome-stable; do
        if [ -n "$candidate" ] && command -v "$candidate"; then
            return
        fi
    done
    return 1
}

as_root() {
    if [ "$(id -u)" = 0 ]; then "$@"; else sudo -n "$@"; fi
}

find_one && exit
if command -v apt-get > /dev/null && as_root true 2>/dev/null; then
    echo "tickcast: installing Chromium for the browser tests" >&2
    as_root apt-get update -qq >&2 || true
    as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends chromium >&2 || true
    find_one && exit
fi
echo "tickcast: the browser tests need Chromium; install it, or name one with CHROMIUM=/path/to/chromium" >&2
exit 1
