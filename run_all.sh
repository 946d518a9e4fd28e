#!/usr/bin/env bash
# Sets up the environment on first use, then runs the notebooks, the tests, JupyterLab or a benchmark. See --help.
set -euo pipefail

root="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd -P)"
venv="$root/.venv"
lock="$root/requirements.lock"
stamp="$venv/installed.lock" # a copy of the lock that the environment was made from, written last
log="$venv/install.log"
# as containers set it; every notebook and every cell of the matrix is a process, which would compile the package anew
unset PYTHONDONTWRITEBYTECODE

usage() {
    cat <<'HELP'
Usage: ./run_all.sh [OPTIONS] [STAGE...]   run the notebooks that are out of date
       ./run_all.sh test [PYTEST OPTIONS]  lint, types, unit, notebook and browser tests
       ./run_all.sh lab                    JupyterLab on the index notebook
       ./run_all.sh compare RUN_A RUN_B    what moved between two runs, see ./run_all.sh compare --help
       ./run_all.sh export [RUN]           one HTML file of a whole run, see ./run_all.sh export --help
       ./run_all.sh corpus FOLDER --out CORPUS   tokens of many recordings, and a model, see ./run_all.sh corpus --help
       ./run_all.sh doctor                 what this machine lacks, what that costs, and what mends it
       ./run_all.sh bench [PART...]        time this code against the usual way, see ./run_all.sh bench --help

STAGE is a notebook's name, such as 01_tokenize: it and what it needs are run; without one, all are.

  --preset NAME|FILE.yaml  parameters: fast (default, minutes), full (longer runs), real (pretrained weights),
                           or a file of your own, where relative paths start from its folder;
                           the report lies in reports/<preset>/index.html
  --sweep NAME|FILE.yaml   a grid of parameters instead of a preset: codec_rate, clip_length, or a file of your own,
                           as config/sweeps/codec_rate.yaml says; the page lies in reports/<sweep>/index.html
  --name NAME              keep the run in reports/NAME instead, beside others
  --clips FOLDER           your own recordings instead of the bundled ones, in all notebooks that take any;
                           the report lies in reports/FOLDER, or where --name says
  --jobs N                 cores to use (default 2); with --executor, jobs at a time
  --executor NAME          run elsewhere, with the settings of profiles/NAME: slurm, cluster-generic
  --dry-run                say what would run, and why
  --fresh                  run everything, up to date or not
  --no-keep-going          stop at the first failing notebook (by default the others go on)
  --help                   this text

The first call makes .venv from requirements.lock. It uses the active environment instead if this checkout's codecbook
is installed there. PYTHON=/path/to/python chooses the interpreter that .venv is made with (3.11 or later).
HELP
}

fail() {
    echo "run_all.sh: $*" >&2
    exit 1
}

refuse() { # what was asked for cannot be done here, and nothing has been begun
    echo "run_all.sh: $*" >&2
    exit 2
}

is_recent() { # PYTHON: is it Python 3.11 or later?
    "$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null
}

has_codecbook() { # PYTHON: is the codecbook of this checkout installed there, with the engine?
    "$1" -P - "$root/lib/codecbook" 2>/dev/null <<'PYTHON'
import importlib.util, os, sys
codecbook, snakemake = (importlib.util.find_spec(name) for name in ("codecbook", "snakemake"))
sys.exit(not (codecbook and snakemake and os.path.samefile(os.path.dirname(codecbook.origin), sys.argv[1])))
PYTHON
}

find_python() { # prints a Python to make .venv with
    local candidate
    if [ -n "${PYTHON:-}" ]; then
        is_recent "$PYTHON" ||
            refuse "PYTHON is '$PYTHON', which is no Python 3.11 or later; correct it, or unset it to have one looked for."
        echo "$PYTHON"
        return
    fi
    for candidate in python3.13 python3.12 python3.11 python3 python; do
        if command -v "$candidate" >/dev/null 2>&1 && is_recent "$candidate"; then
            echo "$candidate"
            return
        fi
    done
    refuse "Python 3.11 or later is needed, and none was found on the PATH." \
        "Install one (python.org, your package manager, conda), or call PYTHON=/path/to/python ./run_all.sh"
}

pip_step() { # WORDS PIP-ARGUMENTS...: one step of the installation, shown by its larger downloads
    echo "  $1"
    shift
    if ! "$venv/bin/python" -m pip install --disable-pip-version-check --no-input --progress-bar off "$@" 2>&1 |
        tee -a "$log" |
        awk '$1 == "Downloading" && $4 ~ /^[MG]B/ { print "    downloading " $2 " " $3 " " $4; fflush() }'; then
        tail -n 15 "$log" >&2
        # of an index that cannot be reached, pip's last word is that versions conflict
        if tail -n 15 "$log" | grep -q "connection broken by"; then
            fail "The package index cannot be reached (all of it: $log). Mend the connection, or name a proxy" \
                "(HTTPS_PROXY) or a mirror (PIP_INDEX_URL), and call again to go on from here."
        fi
        fail "The installation stopped (all of it: $log). Call again to go on from here."
    fi
}

install() {
    local base
    echo "Setting up $venv (on first use, and when requirements.lock has changed; some minutes)."
    if ! "$venv/bin/python" -m pip --version >/dev/null 2>&1; then
        base="$(find_python)"
        "$base" -m venv --clear "$venv" ||
            fail "$base cannot make a virtual environment. On Debian or Ubuntu: apt install python3-venv"
    fi
    rm -f "$stamp"
    : >"$log"
    # torch with its dependencies, which differ between machines; then the complete list, without any, because
    # encodec asks for torchaudio, which nothing here needs
    pip_step "1/4 PyTorch" --constraint "$lock" "$(sed -n 's/^\(torch==[^ ;]*\).*/\1/p' "$lock")"
    pip_step "2/4 the packages of requirements.lock" --no-deps --requirement "$lock"
    pip_step "3/4 codecbook itself" --no-deps --no-build-isolation --editable "$root"
    "$venv/bin/python" -m pip install --quiet --no-deps "pesq==0.0.4" >>"$log" 2>&1 ||
        echo "  pesq was not installed, as it needs a C compiler; notebooks leave its column out."
    echo "  4/4 each coder once, as they are compiled at first use"
    "$venv/bin/python" "$root/workflow/first_use.py" >>"$log" 2>&1 ||
        echo "  That failed (all of it: $log); ./run_all.sh doctor says what this machine lacks."
    cp "$lock" "$stamp"
}

has_environment() { # sets $python to that of the environment to use; does it stand, as requirements.lock says?
    local active
    active="$(command -v python3 || command -v python || true)"
    if [ -n "$active" ] && ! [ "$(dirname "$active")" -ef "$venv/bin" ] &&
        is_recent "$active" && has_codecbook "$active"; then
        python="$active"
        return
    fi
    python="$venv/bin/python"
    cmp -s "$lock" "$stamp" && has_codecbook "$python"
}

choose_python() { # sets $python, after an installation where one is due
    if ! has_environment; then
        "$@" # refuses a mistyped command line before minutes of installation
        if [ ! -w "$root" ] || { [ -e "$venv" ] && [ ! -w "$venv" ]; }; then
            refuse "$venv is out of date or not there, and you cannot write to it; use a checkout of your own."
        fi
        install
    fi
}

check() { # NAME COMMAND...: run one check of `test`, note the result, go on
    local name="$1" began=$SECONDS
    shift
    echo "== $name"
    if "$@"; then
        summary="$summary
  ok      $name ($((SECONDS - began)) s)"
    else
        status=1
        summary="$summary
  failed  $name ($((SECONDS - began)) s)"
    fi
}

said_by() { # PROCESS FILE: wait for it, print what it wrote, return its exit code
    local code=0
    wait "$1" || code=$?
    cat "$2"
    return "$code"
}

run_tests() {
    status=0
    summary="Summary:"
    cd "$root"
    check "format" "$python" -m ruff format --check .
    check "lint" "$python" -m ruff check .
    # on one core beside the tests, which leave one idle now and then; what it says comes after them
    local types_said
    types_said="$(mktemp)"
    "$python" -m pyright --pythonpath "$python" >"$types_said" 2>&1 &
    types=$!
    # a shell without job control keeps Ctrl-C from it; once it has ended, that there is nothing to kill is no failure
    trap "kill $types 2>/dev/null || true; rm -f '$types_said'" EXIT
    # threads that wait would keep those of the other processes from running
    export OMP_WAIT_POLICY="${OMP_WAIT_POLICY:-PASSIVE}"
    # in up to four processes, as nearly all tests compute on one thread; `-n 0` has them in one
    check "tests" "$python" -m pytest --numprocesses logical --maxprocesses 4 --dist worksteal "$@"
    check "types" said_by "$types" "$types_said"
    echo "$summary"
    exit "$status"
}

case "${1:-}" in
-h | --help | help)
    usage
    ;;
test)
    shift
    choose_python true
    run_tests "$@"
    ;;
lab)
    shift
    choose_python true
    cd "$root"
    # who works as root, as in a container, means to; JupyterLab would refuse
    [ "$EUID" -ne 0 ] || set -- --allow-root "$@"
    # the file browser shows the checkout, and nobody is asked whether to fetch news
    exec "$python" -m jupyterlab --ServerApp.root_dir="$root" --LabApp.default_url=/lab/tree/notebooks/00_index.ipynb \
        --LabApp.app_settings_dir="$root/config/lab" "$@"
    ;;
doctor)
    shift
    has_environment || python="$(find_python)" # what is missing is said, and not installed
    exec "$python" "$root/workflow/doctor.py" "$@"
    ;;
bench | compare | corpus | export)
    command="$1"
    shift
    case " $* " in *" -h "* | *" --help "*) set -- --help ;; esac
    check_command() {
        local base
        base="$(find_python)"
        "$base" "$root/workflow/$command.py" --check "$@" || exit
        [ "$*" != --help ] || exit 0 # needs no environment
    }
    choose_python check_command "$@"
    exec "$python" "$root/workflow/$command.py" "$@"
    ;;
*)
    for argument in "$@"; do
        case "$argument" in -h | --help)
            usage
            exit
            ;;
        esac
    done
    check_arguments() {
        local base
        base="$(find_python)"
        "$base" "$root/workflow/run.py" --check "$@"
    }
    choose_python check_arguments "$@"
    exec "$python" "$root/workflow/run.py" "$@"
    ;;
esac
