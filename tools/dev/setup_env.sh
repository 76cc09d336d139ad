#!/usr/bin/env bash
# Makes or updates the environment this project is developed and tested in. `make setup` calls it.
#
#   tools/dev/setup_env.sh [docs]     with `docs`, also what building the documentation needs
#
# PYTHON and US3L_VENV choose the Python and the place (see the Makefile). A stamp in the environment holds a hash of
# everything that decides its content, so a second call does nothing. A set-up that was stopped half-way is taken up
# where it was: see `repair`.
set -euo pipefail

ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
cd "$ROOT"
EXTRA=${1:-}
VENV=${US3L_VENV:-.venv}
[[ $VENV == /* ]] || VENV=$ROOT/$VENV
STAMP=$VENV/.us3l_stamp${EXTRA:+_$EXTRA}
MADE=$VENV/.us3l_made           # this project made the directory, and may make it anew
RUNNING=$VENV/.us3l_running     # there while a set-up runs, and after one that was stopped
LOG=$VENV/us3l_setup.log
NEEDED_MB=7000                  # the environment, without pip's downloads
NEEDED_TMP_MB=4000              # pip's downloads
export PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_INPUT=1 PIP_USER=0 PIP_ROOT_USER_ACTION=ignore
unset PYTHONHOME PYTHONPATH

fail() {
    printf '\nset-up failed: %s\n' "$1" >&2
    shift
    (($# == 0)) || printf '  %s\n' "$@" >&2
    exit 1
}

step() { printf '[%s/%s] %s\n' "$1" "$STEPS" "$2"; }

fingerprint() {
    { echo "$ROOT"; cat setup.py us3l_mm/version.py tools/us3l tools/dev/setup_env.sh requirements/*.txt; } |
        if command -v sha256sum >/dev/null; then sha256sum; else shasum -a 256; fi | cut -d ' ' -f 1
}

# Prints why Python $1 won't do; nothing if it will. Commands of pyenv can be there and yet fail, so each is run.
why_not() {
    local version
    version=$("$1" -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null) || { echo "does not run"; return; }
    case $version in
        3.10 | 3.11 | 3.12 | 3.13) ;;
        *) echo "found $version"; return ;;
    esac
    "$1" -c 'import ensurepip, venv' 2>/dev/null ||
        echo "its modules venv and ensurepip are missing (Debian, Ubuntu: apt-get install python$version-venv)"
}

choose_python() {
    local name reason seen=()
    if [[ -n ${PYTHON:-} ]]; then
        reason=$(why_not "$PYTHON")
        [[ -z $reason ]] || fail "needs Python 3.10-3.13; PYTHON=$PYTHON: $reason." 'Set PYTHON=... to another.'
        return
    fi
    for name in python3.12 python3.11 python3.10 python3.13 python3; do
        command -v "$name" >/dev/null || continue
        reason=$(why_not "$name")
        [[ -n $reason ]] || { PYTHON=$name; return; }
        seen+=("$name: $reason")
    done
    fail 'needs Python 3.10-3.13, found none that works; set PYTHON=/path/to/python3.' ${seen[@]+"${seen[@]}"}
}

space() { # space DIRECTORY MB WHAT
    local free
    free=$(df -Pk "$1" 2>/dev/null | awk 'NR == 2 {print int($4 / 1024)}')
    [[ -z $free ]] || ((free >= $2)) ||
        fail "$3 needs $2 MB, and $1 has $free MB free." 'Free some, or set US3L_VENV (environment) or TMPDIR (downloads).'
}

# pip with its log read for the usual causes of trouble, because its own last line seldom names them.
pip() {
    local cause
    rm -f "$LOG"
    "$VENV/bin/python" -m pip --log "$LOG" "$@" && return
    cause='see the lines above'
    if grep -qi 'no space left' "$LOG" 2>/dev/null; then
        cause='the disk is full'
    elif grep -qiE 'NewConnectionError|NameResolution|ConnectTimeout|ReadTimeout|ProxyError|Connection (refused|reset)|Max retries|name resolution|Network is unreachable' "$LOG" 2>/dev/null; then
        cause='the package index could not be reached; check the network, or the index and proxy in `pip config list`'
    elif grep -qi 'No matching distribution' "$LOG" 2>/dev/null; then
        cause='the package index lacks a version this project pins; check the index in `pip config list`'
    fi
    fail "pip: $cause." "Full log: $LOG" 'Then call make setup again: it goes on from here.'
}

# A stopped pip leaves a package half there that looks installed. RECORD is the last thing it writes and names
# INSTALLER; forget packages without that, and what it had set aside (~name), so that they are installed anew.
repair() {
    local info
    for info in "$VENV"/lib/python*/site-packages/*.dist-info; do
        [[ ! -d $info ]] || grep -qs 'INSTALLER' "$info/RECORD" ||
            { echo "      half installed, to be done again: $(basename "$info")"; rm -rf "$info"; }
    done
    rm -rf "$VENV"/lib/python*/site-packages/~*
}

make_environment() {
    local want have
    if have=$("$VENV/bin/python" -c 'import pip._internal.cli.main, sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null) &&
        grep -qs INSTALLER "$VENV"/lib/python*/site-packages/pip-*.dist-info/RECORD; then
        if [[ -z ${PYTHON:-} ]]; then
            PYTHON=$VENV/bin/python
            [[ -z $(why_not "$PYTHON") ]] || fail "$VENV has Python $have, needs 3.10-3.13." 'Remove it, or set US3L_VENV.'
            return
        fi
        choose_python
        want=$("$PYTHON" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
        [[ $want != "$have" ]] || return 0
        echo "      it has Python $have and PYTHON=$PYTHON is $want: making it anew"
    fi
    choose_python
    space "$(dirname "$VENV")" "$NEEDED_MB" 'the environment'
    [[ -e $MADE ]] || fail "$VENV is no working environment and was not made by this project." 'Remove it, or set US3L_VENV.'
    touch "$RUNNING"
    rm -f "$VENV"/.us3l_stamp*
    find "$VENV" -mindepth 1 -maxdepth 1 ! -name '.us3l_*' -exec rm -rf {} +
    "$PYTHON" -m venv "$VENV" || fail "$PYTHON -m venv $VENV did not work; see the lines above."
}

up_to_date() { [[ -x $VENV/bin/python && ! -e $RUNNING && $(cat "$STAMP" 2>/dev/null) == $(fingerprint) ]]; }

main() {
    local name wanted=()
    for name in runtime detection mminstall tests demo $EXTRA; do wanted+=(-r "requirements/$name.txt"); done
    STEPS=5
    SECONDS=0
    trap 'echo; echo "set-up interrupted; call it again and it goes on" >&2; exit 130' INT TERM
    step 1 "environment $VENV"
    make_environment
    if [[ -e $RUNNING ]]; then repair; fi
    touch "$RUNNING"

    step 2 'pip and setuptools'
    "$VENV/bin/python" -m pip config list >/dev/null || fail "pip cannot read its settings; see the lines above."
    pip install -q --only-binary :all: -c requirements/constraints.txt --upgrade pip setuptools
    step 3 'packages, torch among them: about 5 GB, 2 to 4 minutes the first time'
    [[ -d $("$VENV/bin/python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/torch ]] ||
        space "${TMPDIR:-/tmp}" "$NEEDED_TMP_MB" 'downloading'
    pip install --only-binary :all: -c requirements/constraints.txt "${wanted[@]}"
    step 4 'us3l_mm itself, in editable mode'
    PYTHONWARNINGS=ignore pip install -q --no-deps --no-build-isolation -e .  # setuptools warns of what is wanted here
    step 5 'check'
    "$VENV/bin/python" -m pip check || echo 'warning: the packages above do not fit together' >&2
    "$VENV/bin/python" -W ignore -c 'import torch, torchvision, cv2, mmengine, mmcv, mmpretrain' ||
        fail 'a package does not import; see the lines above.' 'libGL or libgthread missing on Debian, Ubuntu: apt-get install libgl1 libglib2.0-0'

    fingerprint >"$VENV/.us3l_stamp"
    [[ -z $EXTRA ]] || cp "$VENV/.us3l_stamp" "$STAMP"
    rm -f "$RUNNING"
    echo "environment ready in $SECONDS s: source $VENV/bin/activate"
}

if up_to_date; then exit; fi
if [[ ! -e $VENV ]]; then mkdir -p "$VENV" && touch "$MADE" || fail "cannot write in $VENV."; fi
# Two set-ups at once would spoil each other: the second waits, and then finds nothing to do.
if command -v flock >/dev/null && [[ -e $MADE ]]; then
    exec 9>>"$VENV/.us3l_lock" || fail "cannot write in $VENV."
    flock -n 9 || { echo "another set-up of $VENV is running: waiting for it"; flock 9; }
    if up_to_date; then exit; fi
fi
main
