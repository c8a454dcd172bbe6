#!/bin/sh
# Prints the changelog in Debian's form: changelog.sh VERSION SECONDS. The entry is of
# this package; what changed says packaging/CHANGELOG.md.
set -eu
cd "$(dirname "$0")/../.."
printf 'bootrace (%s-1) unstable; urgency=medium\n\n' "$1"
awk '/^## / { if (n++) exit; next } n && /^\* / { sub(/^\* /, "  * "); print; next } n && /^  [^ ]/ { print "  " $0 }' packaging/CHANGELOG.md
printf '\n -- bootrace developers <maintainers@bootrace.invalid>  %s\n' "$(LC_ALL=C date -u -d "@$2" '+%a, %d %b %Y %H:%M:%S +0000')"
