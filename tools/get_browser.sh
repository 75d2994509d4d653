#!/bin/sh
# Debian's chromium for the tests of the report, where it is missing and can be had. Without it they are skipped.
set -eu
if command -v chromium >/dev/null; then
    exit 0
fi
if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
    apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq chromium >/dev/null && exit 0
fi
echo "No chromium: the report's tests in a browser are skipped (apt-get install chromium)." >&2
