#!/bin/sh
# Prints the changelog in Debian's form: changelog.sh VERSION SECONDS. The entry is of
# this package; what changed says packaging/CHANGELOG.md.
set -eu
cd "$(dirname "$0")/../.."
printf 'bootrace (%s-1) unstable; urgency=medium\n\n' "$1"
# Lines have 80 columns at the most (lintian's debian-changelog-line-too-long).
awk '
	function put(word) {
		if (length(line) + 1 + length(word) > 79) { print line; line = "   " }
		line = line " " word
	}
	function flush() { if (line != "") print line; line = "" }
	/^## / { if (n++) exit; next }
	n && /^\* / { flush(); line = "  *"; for (i = 2; i <= NF; i++) put($i); next }
	n && /^  [^ ]/ { for (i = 1; i <= NF; i++) put($i) }
	END { flush() }
' packaging/CHANGELOG.md
printf '\n -- bootrace developers <maintainers@bootrace.invalid>  %s\n' "$(LC_ALL=C date -u -d "@$2" '+%a, %d %b %Y %H:%M:%S +0000')"
