module github.com/bootrace/bootrace/exporters/html/browsertest

go 1.26.0

replace github.com/bootrace/bootrace => ../../..

require (
	github.com/bootrace/bootrace v0.0.0-00010101000000-000000000000
	github.com/chromedp/cdproto v0.159.2
	github.com/chromedp/chromedp v0.23.0
)

require (
	github.com/dustin/go-humanize v1.1.0 // indirect
	github.com/go-json-experiment/json v1.27.2 // indirect
	golang.org/x/sys v0.49.0 // indirect
)
