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

# package FORMAT ROOT CONFIG makes a package of what is below ROOT.
package() {
	find "$2" -exec touch -h -d "@$SOURCE_DATE_EPOCH" {} +
	ROOT=$2 "$NFPM" package --config "$3" --packager "$1" --target "$out/" && return
	echo "make packages: nfpm made no $1 package" >&2
	exit 1
}

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
	find "$root" -exec touch -h -d "@$SOURCE_DATE_EPOCH" {} +
	tar -C "$root" --sort=name --owner=0 --group=0 --numeric-owner --mtime="@$SOURCE_DATE_EPOCH" -c . |
		gzip -9n >"$out/bootrace-$PACKAGE_VERSION-linux-$ARCH.tar.gz"

	cp -a "$root" "$root.deb"
	sh packaging/deb/changelog.sh "$PACKAGE_VERSION" "$SOURCE_DATE_EPOCH" | gzip -9n >"$root.deb/usr/share/doc/bootrace/changelog.Debian.gz"
	install -D -m 0644 packaging/deb/lintian-overrides "$root.deb/usr/share/lintian/overrides/bootrace"
	package deb "$root.deb" packaging/nfpm.yaml

	# Where zsh looks on all distributions but Debian's.
	mkdir "$root/usr/share/zsh/site-functions"
	mv "$root/usr/share/zsh/vendor-completions/_bootrace" "$root/usr/share/zsh/site-functions/_bootrace"
	rmdir "$root/usr/share/zsh/vendor-completions"
	mkdir "$root.doc"
	mv "$root/usr/share/doc" "$root/usr/share/man" "$root.doc/"
	{
		cat packaging/nfpm.yaml
		(cd "$root.doc" && find . -type f | sort) | while read -r file; do
			echo "  - {src: \"$root.doc/$file\", dst: \"/usr/share/$file\", type: doc, packager: rpm}"
		done
		echo "  - {dst: /usr/share/doc/bootrace, type: dir, packager: rpm}"
		echo "  - {dst: /usr/share/doc/bootrace/examples, type: dir, packager: rpm}"
	} >"$root.nfpm.yaml"
	package rpm "$root" "$root.nfpm.yaml"
	rm -rf "$root" "$root.build" "$root.deb" "$root.doc" "$root.nfpm.yaml"
done
ls -l "$out"
