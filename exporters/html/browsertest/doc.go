// Package browsertest opens the pages of exporters/html in a real browser, from
// a disk as their readers do: it checks what is drawn, that nothing overlaps,
// that foreign names stay text, and how long a large boot takes to open. It
// leaves screenshots in build/browser for people to look at.
//
// It is a module of its own, so that what drives the browser is no dependency
// of the program. `make browser-test` runs it, and installs Chromium where that
// is missing.
package browsertest
