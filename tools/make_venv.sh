#!/bin/sh
# make_venv.sh PYTHON FOLDER: a virtual environment, also on a Debian whose python3 came without venv.
set -eu
python=$1
folder=$2

"$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || {
    echo "tuneoff needs Python 3.11 or later; got $("$python" --version). Try: make PYTHON=python3.12 …" >&2
    exit 1
}
if ! "$python" -c 'import ensurepip' 2>/dev/null; then
    if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
        apt-get update -qq && apt-get install -qq -y python3-venv >/dev/null
    else
        echo "this Python has no venv module; on Debian and Ubuntu: apt-get install python3-venv" >&2
        exit 1
    fi
fi
"$python" -m venv "$folder"
