#!/bin/sh
# Installs what packaging/files lists below DESTDIR, or removes it: install.sh
# install|remove PART... The Makefile sets the places. It builds nothing: root's PATH
# often has no Go.
set -eu
cd "$(dirname "$0")/.."
: "${DESTDIR=}" "${BUILT:=build}" "${SBINDIR:?}" "${LIBEXECDIR:?}" "${UNITDIR:?}" "${PRESETDIR:?}" "${SYSUSERSDIR:?}" "${DOCDIR:?}" "${MANDIR:?}" "${DATADIR:?}"
do=$1
shift
parts=" base config $* "

placed() {
	sed "s|@SBINDIR@|$SBINDIR|g; s|@LIBEXECDIR@|$LIBEXECDIR|g; s|@UNITDIR@|$UNITDIR|g; s|@PRESETDIR@|$PRESETDIR|g
		s|@SYSUSERSDIR@|$SYSUSERSDIR|g; s|@DOCDIR@|$DOCDIR|g; s|@MANDIR@|$MANDIR|g; s|@DATADIR@|$DATADIR|g"
}

# list prints the files; what was built is in BUILT.
list() { grep -v '^ *#' packaging/files | placed | sed "s| build/| $BUILT/|"; }

# put MODE SOURCE DESTINATION: the new file takes the old one's place at once, so that
# a program that runs, or starts now, is never half of one.
put() {
	mkdir -p "$(dirname "$3")"
	case $2 in
	"$BUILT"/*) cp "$2" "$3.new" ;;
	*) placed <"$2" >"$3.new" ;;
	esac
	chmod "$1" "$3.new"
	mv "$3.new" "$3"
}

if [ "$do" = install ]; then
	list | while read -r _ from _; do
		for each in $from; do from=$each; done
		[ -e "$from" ] || { echo "make install: there is no $from: run \`make build\` first, as the user who has Go" >&2; exit 1; }
	done
	umask 022
	list | while read -r mode from to part; do
		case $parts in *" $part "*) ;; *) continue ;; esac
		[ "$part" = config ] && [ -e "$DESTDIR$to" ] && continue
		case $to in
		*/) for each in $from; do put "$mode" "$each" "$DESTDIR$to$(basename "$each")"; done ;;
		*) put "$mode" "$from" "$DESTDIR$to" ;;
		esac
	done
	exit
fi

list | while read -r _ _ to part; do
	case $to in
	*/) rm -f "$DESTDIR$to"bootrace* ;;
	*) [ "$part" = config ] || rm -f "$DESTDIR$to" ;;
	esac
done
# Folders of our own, where nothing else is in them.
for dir in "$LIBEXECDIR" "$DOCDIR/examples" "$DOCDIR" /usr/lib/dracut/modules.d/90bootrace; do
	rmdir "$DESTDIR$dir" 2>/dev/null || true
done
