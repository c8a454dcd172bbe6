#!/bin/sh
# Makes the packages in the folder $1, for each of ARCHES: what `make install` puts
# below an empty root, as .deb, .rpm and .tar.gz. The same sources and the same Go give
# the same bytes.
set -eu
cd "$(dirname "$0")/.."
out=$1
: "${GO:=go}" "${NFPM:?}" "${ARCHES:=amd64 arm64}"
version=$(sh packaging/version.sh)
PACKAGE_VERSION=${PACKAGE_VERSION:-$(sh packaging/version.sh package)}
# The day of the changelog's latest entry.
day=$(sed -n 's/^## v[^,]*, \([0-9-]*\)$/\1/p' packaging/CHANGELOG.md | head -n 1)
SOURCE_DATE_EPOCH=$(date -u -d "$day" +%s)
export PACKAGE_VERSION SOURCE_DATE_EPOCH
mkdir -p "$out"
rm -f "$out"/*.deb "$out"/*.rpm "$out"/*.tar.gz
# The manual pages are made by the program, as it runs here, and are the same for all.
make --no-print-directory --silent build GO="$GO" VERSION="$version"
for ARCH in $ARCHES; do
	export ARCH
	root=$out/$ARCH
	rm -rf "$root"
	GOARCH=$ARCH make --no-print-directory --silent programs GO="$GO" VERSION="$version" BINARY="$root.build/bootrace" SERVICE="$root.build/bootraced"
	cp -r build/man "$root.build/man"
	make --no-print-directory --silent install DESTDIR="$root" BUILT="$root.build" INITRAMFS=yes DRACUT=yes LIBVIRT=yes
	find "$root/usr/share/man" -type f -exec gzip -9n {} +
	install -D -m 0644 packaging/deb/copyright "$root/usr/share/doc/bootrace/copyright"
	sh packaging/deb/changelog.sh "$PACKAGE_VERSION" "$SOURCE_DATE_EPOCH" | gzip -9n >"$root/usr/share/doc/bootrace/changelog.Debian.gz"
	install -D -m 0644 packaging/deb/lintian-overrides "$root/usr/share/lintian/overrides/bootrace"
	find "$root" -exec touch -h -d "@$SOURCE_DATE_EPOCH" {} +
	ROOT=$root
	export ROOT
	for format in deb rpm; do
		"$NFPM" package --config packaging/nfpm.yaml --packager $format --target "$out/" && continue
		echo "make packages: nfpm made no $format package" >&2
		exit 1
	done
	tar -C "$root" --sort=name --owner=0 --group=0 --numeric-owner --mtime="@$SOURCE_DATE_EPOCH" --exclude=./usr/share/lintian --exclude=changelog.Debian.gz -c . |
		gzip -9n >"$out/bootrace-$PACKAGE_VERSION-linux-$ARCH.tar.gz"
	rm -rf "$root" "$root.build"
done
ls -l "$out"
