#!/bin/sh
# Prints the version of these sources, such as v0.2.0, or v0.2.0-5-g1a2b3c4 after it:
# from git's tags, else from what `git archive` wrote into VERSION, else from the
# latest entry of the changelog. With "package" it is as packages have it: 0.2.0,
# 0.2.0+5.g1a2b3c4, which comes after 0.2.0 and before 0.2.1.
set -eu
cd "$(dirname "$0")/.."

changelog=$(sed -n 's/^## \(v[0-9][^ ,]*\).*/\1/p' packaging/CHANGELOG.md | head -n 1)
version=
# A git repository around an unpacked archive is another project's.
if [ "$(git rev-parse --show-toplevel 2>/dev/null)" = "$(pwd -P)" ]; then
	version=$(git describe --tags --match 'v[0-9]*' --dirty 2>/dev/null) ||
		version=$changelog+g$(git rev-parse --short HEAD)
else
	read -r described hash <packaging/VERSION
	# shellcheck disable=SC2016 # as it stands in VERSION
	case $described in
	v[0-9]*) version=$described ;;
	'$Format'* | %*) version=$changelog ;; # copied, not archived
	*) version=$changelog+g${hash:-$described} ;; # archived where no tag was
	esac
fi
case ${1:-} in
package) echo "$version" | sed 's/^v//; s/-\([0-9]*\)-g/+\1.g/; s/-/./g' ;;
*) echo "$version" ;;
esac
