#!/bin/sh
# Find a Chromium for the tests of pages and widgets, or fetch it from the system's packages where
# that is allowed (root on Debian and its kin). Without one those tests are left out, loudly;
# with SCXR_REQUIRE_ALL=1 that is a failure.
set -u

for name in chromium chromium-browser google-chrome google-chrome-stable; do
    command -v "$name" >/dev/null 2>&1 && exit 0
done

if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1; then
    echo "Fetching chromium from the system's packages."
    export DEBIAN_FRONTEND=noninteractive
    { apt-get update -qq && apt-get install -y -qq --no-install-recommends chromium; } >/dev/null
    command -v chromium >/dev/null 2>&1 && exit 0
fi

echo "!!! NO BROWSER: the tests that drive one (built pages, widgets) are LEFT OUT; install chromium to run them." >&2
[ "${SCXR_REQUIRE_ALL:-0}" = 1 ] && exit 1
exit 0
