#!/usr/bin/env bash
# Checks the toolchains that everything else is built with, and says in plain words what is missing.
#   tools.sh          check all
#   tools.sh python   print a Python that is new enough
set -euo pipefail

say() { printf 'tickcast: %s\n' "$*" >&2; }

python() {
    local candidate
    for candidate in "${PYTHON:-python3}" python3.14 python3.13 python3.12 python3.11; do
        if "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
            command -v "$candidate"
            return
        fi
    done
    say "Python 3.11 or newer is needed (found: $(python3 --version 2>/dev/null || echo none)); name one with PYTHON=…"
    return 1
}

# newer NAME FOUND WANTED HINT
newer() {
    if [ -z "$2" ]; then
        say "$1 is needed, $3 or newer: $4"
        return 1
    fi
    if [ "$(printf '%s\n%s\n' "$3" "$2" | sort -V | head -n 1)" != "$3" ]; then
        say "$1 $3 or newer is needed, found $2: $4"
        return 1
    fi
}

if [ "${1:-}" = python ]; then
    python
    exit
fi

missing=0
python > /dev/null || missing=1
if chosen=$(python 2>/dev/null) && ! "$chosen" -c 'import ensurepip, venv' 2>/dev/null; then
    say "Python's venv module is missing (on Debian and Ubuntu: apt-get install python3-venv)"
    missing=1
fi
newer Rust "$(cargo --version 2>/dev/null | cut -d' ' -f2)" 1.88 "https://rustup.rs" || missing=1
newer Node.js "$(node --version 2>/dev/null | tr -d v)" 20.19 "https://nodejs.org" || missing=1
command -v npm > /dev/null || { say "npm is needed, it comes with Node.js"; missing=1; }
command -v cc > /dev/null || { say "a C compiler is needed as Rust's linker (on Debian and Ubuntu: apt-get install build-essential)"; missing=1; }
exit "$missing"
