#!/bin/sh
# The installation behind `make`: deploy/setup.sh venv|lock|sync <lock>|native. POSIX sh; each failure names its cure.
set -eu

VENV=.venv
BIN=$VENV/bin
OLDEST="3.11"
NEWEST="3.13"

fail() {
    printf 'error: %s\n' "$1" >&2
    shift
    for line in "$@"; do printf '       %s\n' "$line" >&2; done
    exit 1
}

# Prints what keeps a Python from being used, nothing when it is fine. $1: command
trouble_with() {
    "$1" - "$OLDEST" "$NEWEST" 2>/dev/null <<'PYTHON' || echo "doesn't run"
import os
import sys
import sysconfig

oldest, newest = (tuple(map(int, text.split("."))) for text in sys.argv[1:])
missing = []
if not oldest <= sys.version_info[:2] <= newest:
    missing.append("is version %d.%d" % sys.version_info[:2])
else:
    try:
        import ensurepip
        import venv
    except ImportError:
        missing.append("lacks venv/ensurepip")
    if not os.path.exists(os.path.join(sysconfig.get_path("include"), "Python.h")):
        missing.append("lacks its C headers (Python.h)")
if missing:
    print(" and ".join(missing))
PYTHON
}

find_python() {
    tried=""
    for candidate in ${PYTHON:-python3.13 python3.12 python3.11 python3 /usr/bin/python3 /usr/local/bin/python3}; do
        command -v "$candidate" >/dev/null 2>&1 || continue
        trouble=$(trouble_with "$candidate")
        if [ -z "$trouble" ]; then
            printf '%s\n' "$candidate"
            return
        fi
        tried="$tried $candidate $trouble;"
    done
    if [ -n "${PYTHON:-}" ]; then
        command -v "$PYTHON" >/dev/null 2>&1 || fail "PYTHON=$PYTHON: no such command."
    fi
    case $tried in
    *"lacks"*)
        fail "no usable Python:$tried" \
            "Debian and Ubuntu pack these apart: apt-get install python3-venv python3-dev" \
            "Fedora: dnf install python3-devel. Or name another one: make run PYTHON=/path/to/python3.12"
        ;;
    *)
        fail "no Python $OLDEST to $NEWEST found.${tried:+ Tried:$tried}" \
            "Debian and Ubuntu: apt-get install python3 python3-venv python3-dev. macOS: brew install python@3.13" \
            "Or name one: make run PYTHON=/path/to/python3.12"
        ;;
    esac
}

make_venv() {
    if [ -x "$BIN/python" ] && [ -z "$(trouble_with "$BIN/python")" ]; then
        if [ -z "${PYTHON:-}" ] || same_version; then
            install_uv
            return
        fi
    fi
    python=$(find_python)
    echo "Creating $VENV with $("$python" --version 2>&1) ($python)"
    rm -rf "$VENV"
    "$python" -m venv "$VENV" || fail "$python can't create a virtual environment in $VENV (see above)." \
        "Debian and Ubuntu: apt-get install python3-venv. Or name another one: make run PYTHON=/path/to/python3.12"
    install_uv
}

same_version() {
    [ "$("$PYTHON" -c 'import sys; print(sys.version_info[:2])' 2>/dev/null)" = \
        "$("$BIN/python" -c 'import sys; print(sys.version_info[:2])')" ]
}

install_uv() {
    wanted=$(sed -n 's/^uv==\([^ ]*\).*/\1/p' requirements/uv.lock)
    if [ "$("$BIN/uv" --version 2>/dev/null | cut -d' ' -f2)" = "$wanted" ]; then return; fi
    "$BIN/python" -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/uv.lock ||
        no_packages
}

no_packages() {
    fail "packages can't be installed (see above). Is there a network, or a package index that this machine may use?" \
        "Behind a proxy set HTTPS_PROXY; for an index of your own set PIP_INDEX_URL and UV_DEFAULT_INDEX (or pip.conf)." \
        "If a hash doesn't match, the index serves other files than those this checkout was tested with: don't go on."
}

use_pip_index() {
    # uv doesn't read pip's configuration: take the index from there when none is set for uv.
    if [ -z "${UV_DEFAULT_INDEX:-}${UV_INDEX_URL:-}" ] && [ ! -f "${XDG_CONFIG_HOME:-$HOME/.config}/uv/uv.toml" ]; then
        index=$("$BIN/python" -m pip config get global.index-url 2>/dev/null || true)
        index=${PIP_INDEX_URL:-$index}
        if [ -n "$index" ]; then
            UV_DEFAULT_INDEX=$index
            export UV_DEFAULT_INDEX
        fi
    fi
}

# Installs a hashed lock. $1: requirements/<name>.lock
sync_lock() {
    use_pip_index
    # Bytecode at once: a first start would spend half a minute on it, each start where Python may not write it.
    VIRTUAL_ENV=$PWD/$VENV "$BIN/uv" pip install --quiet --compile-bytecode --require-hashes -r "$1" || no_packages
}

# Resolves the dependencies of pyproject.toml for every platform, without a word about where they came from. What is
# pinned stays, unless `--upgrade` or `--upgrade-package NAME` follow.
lock() {
    use_pip_index
    compile="$BIN/uv pip compile --quiet --universal --python-version $OLDEST --generate-hashes --no-annotate
        --no-emit-index-url --no-emit-find-links"
    $compile --custom-compile-command "make lock" "$@" --group build --group dev --all-extras pyproject.toml \
        -o requirements/dev.lock
    # What runs is what was tested: the same versions.
    $compile --custom-compile-command "make lock" "$@" --group build --constraint requirements/dev.lock pyproject.toml \
        -o requirements/run.lock
    echo uv | $compile --custom-compile-command "make lock" "$@" - -o requirements/uv.lock
}

check_compiler() {
    compiler=${CXX:-}
    if [ -z "$compiler" ]; then
        for candidate in c++ g++ clang++; do
            if command -v "$candidate" >/dev/null 2>&1; then
                compiler=$candidate
                break
            fi
        done
    fi
    if [ -z "$compiler" ] || ! command -v "${compiler%% *}" >/dev/null 2>&1; then
        fail "no C++ compiler found${CXX:+ (CXX=$CXX)}." \
            "Debian and Ubuntu: apt-get install g++. Fedora: dnf install gcc-c++. macOS: xcode-select --install" \
            "Or name one: make run CXX=/path/to/g++"
    fi
    scratch=$(mktemp -d)
    printf '#include <expected>\nint main() { return std::expected<int, int>(0).value(); }\n' >"$scratch/check.cpp"
    supported=no
    for standard in c++23 c++2b; do
        if $compiler -std=$standard -o "$scratch/check" "$scratch/check.cpp" >"$scratch/log" 2>&1; then
            supported=yes
            break
        fi
    done
    first_complaint=$(head -n 1 "$scratch/log")
    rm -rf "$scratch"
    if [ $supported = no ]; then
        fail "$compiler can't compile C++23 ($first_complaint). VeloZ needs GCC 12, Clang 16 or Xcode 15, or newer." \
            "Debian 12 and Ubuntu 24.04: apt-get install g++. Or name a newer one: make run CXX=/path/to/g++-13"
    fi
}

build_native() {
    check_compiler
    VIRTUAL_ENV=$PWD/$VENV "$BIN/uv" pip install --quiet --no-build-isolation --no-deps --offline -e . ||
        fail "the native part doesn't build (see above). If the message doesn't help, try: make clean run"
    "$BIN/python" -m compileall -q agent api audit core evals knowledge tools || fail "the sources don't compile (see above)."
    "$BIN/python" -P -c 'import core._native' || fail "the native part was built but doesn't load (see above)."
}

case ${1:-} in
venv) make_venv ;;
lock)
    shift
    lock "$@"
    ;;
sync) sync_lock "$2" ;;
native) build_native ;;
*) fail "deploy/setup.sh venv|lock|sync <lock>|native" ;;
esac
