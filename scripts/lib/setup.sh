# The set-up step: sourced by every scripts/<verb> from the repository's root. Costs two short-lived processes when
# .venv already holds what requirements-dev.lock says; otherwise scripts/lib/setup.py makes it so.
if ! [ -x .venv/bin/python ] || ! cat requirements-dev.lock scripts/lib/setup.py | cmp -s - .venv/stamp; then
    for python in python3.11 python3.12 python3.13 python3 none; do
        if [ "$python" = none ]; then
            echo "set-up: no Python of version 3.11 or later runs on this machine; install one (python3.11 … python3)" >&2
            exit 1
        fi
        # A name on PATH proves nothing: it may be a version manager's shim for a version that is not there.
        if "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then break; fi
    done
    "$python" scripts/lib/setup.py
fi
