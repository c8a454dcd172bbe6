package browsertest

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/cdproto/page"
	cdpruntime "github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"

	"github.com/bootrace/bootrace/exporters/html"
	"github.com/bootrace/bootrace/tracer/event"
	"github.com/bootrace/bootrace/tracer/timeline"
)

// shots is where screenshots go.
const shots = "../../../build/browser"

// manyGuests is a large host.
const manyGuests = 1000

// browser starts Chromium for one test. Where there is none the test says that
// it did not run: a page that nobody opened is not a page that works.
func browser(t *testing.T) context.Context {
	t.Helper()
	var path string
	for _, name := range []string{"chromium", "chromium-browser", "google-chrome"} {
		if p, err := exec.LookPath(name); err == nil {
			path = p
			break
		}
	}
	if path == "" {
		t.Skip("NOT RUN: there is no Chromium here: `make browser-test` installs the Debian package chromium")
	}
	options := append(chromedp.DefaultExecAllocatorOptions[:], chromedp.ExecPath(path), chromedp.Flag("hide-scrollbars", true))
	if os.Geteuid() == 0 {
		options = append(options, chromedp.NoSandbox) // Chromium refuses root with one
	}
	ctx, cancel := chromedp.NewExecAllocator(t.Context(), options...)
	t.Cleanup(cancel)
	ctx, cancel = chromedp.NewContext(ctx)
	t.Cleanup(cancel)
	watch(t, ctx)
	ctx, cancel = context.WithTimeout(ctx, 2*time.Minute)
	t.Cleanup(cancel)
	return ctx
}

// watch fails the test where the page complains, or asks for anything but
// itself.
func watch(t *testing.T, ctx context.Context) {
	t.Helper()
	err := chromedp.Listen(ctx, func(e any) {
		switch e := e.(type) {
		case *cdpruntime.EventExceptionThrown:
			t.Errorf("the page failed: %v", e.ExceptionDetails)
		case *cdpruntime.EventConsoleAPICalled:
			t.Errorf("the page says on its console: %s", e.Args[0].Value)
		case *network.EventRequestWillBeSent:
			if !strings.HasPrefix(e.Request.URL, "file://") || !strings.HasSuffix(e.Request.URL, ".html") {
				t.Errorf("the page asked for %s", e.Request.URL)
			}
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	run(t, ctx, call(network.Enable, network.EnableParams{}))
}

// call is a command of the browser's protocol as a step.
func call[P, R any](c cdp.Command[P, R], params P) chromedp.Action[chromedp.Void] {
	return func(ctx context.Context, target *chromedp.Target) (none chromedp.Void, err error) {
		_, err = cdp.Call(ctx, target, c, params)
		return none, err
	}
}

func run(t *testing.T, ctx context.Context, steps ...chromedp.Action[chromedp.Void]) {
	t.Helper()
	if err := chromedp.Do(ctx, steps...); err != nil {
		t.Fatal(err)
	}
}

// evaluate returns the value of a JavaScript expression in the page.
func evaluate[T any](t *testing.T, ctx context.Context, script string) T {
	t.Helper()
	v, err := chromedp.Run(ctx, chromedp.Evaluate[T](script, chromedp.EvalAwaitPromise))
	if err != nil {
		t.Fatalf("%s: %v", script, err)
	}
	return v
}

// save writes tl as a page on disk and returns its address.
func save(t *testing.T, tl *timeline.Timeline) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "boot.html")
	var b bytes.Buffer
	if err := html.Write(&b, tl); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, b.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	return "file://" + path
}

func load(t *testing.T, path string) *timeline.Timeline {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	content, err := io.ReadAll(f)
	if err != nil {
		t.Fatal(err)
	}
	tl := new(timeline.Timeline)
	if err := json.Unmarshal(content, tl); err != nil {
		t.Fatalf("%s: %v", path, err)
	}
	return tl
}

func sample(t *testing.T, name string) *timeline.Timeline {
	return load(t, filepath.Join("../../text/testdata", name+".json"))
}

// visit opens the page at that width and waits until it is drawn.
func visit(t *testing.T, ctx context.Context, address string, width int, scheme string) {
	t.Helper()
	height := int64(900)
	if width < 500 {
		height = 844
	}
	run(t, ctx,
		window(width, height),
		call(emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{Features: []*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: scheme}}}),
		chromedp.Navigate(address),
		chromedp.WaitReady(chromedp.CSS("html[data-drawn]")),
		settled(),
	)
}

// settled waits for what was asked to be drawn.
func settled() chromedp.Action[chromedp.Void] {
	return script(`new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(() => done(true))))`)
}

// script runs a JavaScript expression, whatever its value.
func script(expression string) chromedp.Action[chromedp.Void] {
	return func(ctx context.Context, target *chromedp.Target) (none chromedp.Void, err error) {
		_, err = chromedp.Evaluate[bool](`(async () => { await (`+expression+`); return true; })()`, chromedp.EvalAwaitPromise)(ctx, target)
		return none, err
	}
}

// click clicks on the first element that the selector names. chromedp's own waits
// until all are visible, which those in a closed part of the page never are.
func click(selector string) chromedp.Action[chromedp.Void] {
	return script(fmt.Sprintf("document.querySelector(%q).click()", selector))
}

// toTimeline scrolls to the lanes: those out of view are no elements.
func toTimeline() chromedp.Action[chromedp.Void] {
	return script(`document.getElementById("timeline").scrollIntoView()`)
}

func shoot(t *testing.T, ctx context.Context, name string) {
	t.Helper()
	picture, err := chromedp.Run(ctx, chromedp.CaptureScreenshot())
	if err != nil {
		t.Fatal(err)
	}
	keep(t, name+".png", picture)
}

// shootAll takes a picture of the whole page, in a window as high as that.
func shootAll(t *testing.T, ctx context.Context, name string, width int) {
	t.Helper()
	height := evaluate[int64](t, ctx, `document.documentElement.scrollHeight`)
	run(t, ctx, window(width, height), settled())
	shoot(t, ctx, name)
}

// window sets the window's size; a narrow one is that of a telephone.
func window(width int, height int64) chromedp.Action[chromedp.Void] {
	return call(emulation.SetDeviceMetricsOverride, emulation.SetDeviceMetricsOverrideParams{
		Width: int64(width), Height: height, DeviceScaleFactor: 1, Mobile: width < 500,
	})
}

func keep(t *testing.T, name string, content []byte) {
	t.Helper()
	if err := os.MkdirAll(shots, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(shots, name), content, 0o644); err != nil {
		t.Fatal(err)
	}
}

// overlaps names what lies on top of something else, or sticks out.
const overlaps = `(() => {
  const bad = [], eps = 0.6;
  const name = (e) => (e.className.baseVal ?? e.className) + " " + JSON.stringify((e.textContent || "").trim().slice(0, 40));
  const apart = (list) => {
    const boxes = list.map((e) => [e, e.getBoundingClientRect()]).filter(([, b]) => b.width > 0 && b.height > 0);
    for (let i = 0; i < boxes.length; i++) {
      for (let j = i + 1; j < boxes.length; j++) {
        const [a, p] = boxes[i], [b, q] = boxes[j];
        if (p.left + eps < q.right && q.left + eps < p.right && p.top + eps < q.bottom && q.top + eps < p.bottom) bad.push(name(a) + " on " + name(b));
      }
    }
  };
  const all = (s, e = document) => [...e.querySelectorAll(s)];
  apart(all("#axis text"));
  apart(all(".lane"));
  for (const l of all(".lane")) apart(all(":scope > .label, :scope > .result, :scope > svg.track", l));
  for (const l of all(".lane")) {
    const shapes = all(".m:not(:has(.tick))", l).map((m) => m.querySelector(".disc, .ink, .fill"));
    apart([...all(".early-text, .held-text", l), ...shapes]);
  }
  apart(all("header > *, main > section"));
  apart(all(".bar > *"));
  for (const f of all(".finding")) apart(all(":scope > *", f));
  if (document.documentElement.scrollWidth > innerWidth) bad.push("the page is " + document.documentElement.scrollWidth + " wide in a window of " + innerWidth);
  for (const e of all("h1, h2, p, dd, button, .result, .label span, .chip, #axis text, #legend span")) {
    const b = e.getBoundingClientRect();
    if (b.width && (b.left < -eps || b.right > innerWidth + eps)) bad.push(name(e) + " sticks out");
  }
  return bad;
})()`

// apart checks that nothing overlaps, now that lanes are drawn.
func apart(t *testing.T, ctx context.Context) {
	t.Helper()
	if n := evaluate[int](t, ctx, `document.querySelectorAll(".lane").length`); n == 0 {
		t.Error("no lane is drawn")
	}
	for _, bad := range evaluate[[]string](t, ctx, overlaps) {
		t.Error(bad)
	}
}

// TestScreens opens pages as people do, and keeps pictures of them.
func TestScreens(t *testing.T) {
	boots := map[string]*timeline.Timeline{
		"demo": sample(t, "demo"), "kinds": sample(t, "kinds"), "held": sample(t, "held"), "verdicts": sample(t, "verdicts"),
		"incomplete": sample(t, "incomplete"), "hostile": sample(t, "hostile"), "empty": sample(t, "empty"),
		"large": largeBoot(manyGuests),
	}
	if real := os.Getenv("BOOTRACE_TIMELINE"); real != "" {
		boots["real"] = load(t, real)
	}
	ctx := browser(t)
	for name, tl := range boots {
		address := save(t, tl)
		for _, width := range []int{1280, 390} {
			for _, scheme := range []string{"light", "dark"} {
				t.Run(fmt.Sprintf("%s-%d-%s", name, width, scheme), func(t *testing.T) {
					if name == "empty" {
						run(t, ctx, chromedp.Navigate(address), chromedp.WaitReady(chromedp.CSS("html[data-drawn]")))
						return
					}
					visit(t, ctx, address, width, scheme)
					picture := fmt.Sprintf("%s-%d-%s", name, width, scheme)
					if name != "large" {
						shootAll(t, ctx, picture, width)
						apart(t, ctx)
						return
					}
					shoot(t, ctx, picture)
					run(t, ctx, toTimeline(), settled())
					apart(t, ctx)
					shoot(t, ctx, picture+"-timeline")
				})
			}
		}
	}
}

// TestLarge measures how long a page with a thousand guests takes to open.
func TestLarge(t *testing.T) {
	const limit = time.Second
	address := save(t, largeBoot(manyGuests))
	ctx := browser(t)
	var took []float64
	for range 5 {
		visit(t, ctx, address, 1280, "light")
		// From the navigation's start to the first lanes on the screen.
		took = append(took, evaluate[float64](t, ctx, `Math.max(performance.getEntriesByName("first-contentful-paint")[0].startTime,
			performance.getEntriesByType("navigation")[0].loadEventEnd, Number(document.documentElement.dataset.drawn))`))
	}
	slices.Sort(took)
	t.Logf("opened in %.0f ms, best of %d (worst %.0f ms)", took[0], len(took), took[len(took)-1])
	if best := time.Duration(took[0] * 1e6); best > limit {
		t.Errorf("a boot with %d guests opens in %s, want less than %s", manyGuests, best, limit)
	}
	if n := evaluate[int](t, ctx, `document.querySelectorAll(".lane").length`); n > 100 {
		t.Errorf("%d lanes are elements, want those in view only", n)
	}
	run(t, ctx, toTimeline(), settled())
	// A hundred steps of a zoom: what a hand on a wheel does.
	frame := evaluate[float64](t, ctx, `(() => {
	  const lanes = document.getElementById("lanes"), r = lanes.getBoundingClientRect(), start = performance.now();
	  for (let i = 0; i < 100; i++) {
	    lanes.querySelector(".lane").dispatchEvent(new WheelEvent("wheel", { ctrlKey: true, deltaY: i % 2 ? 40 : -40, bubbles: true, cancelable: true, clientX: r.left + 600, clientY: r.top + 5 }));
	  }
	  return (performance.now() - start) / 100;
	})()`)
	t.Logf("a step of the wheel takes %.2f ms to be taken in", frame)
	last := evaluate[string](t, ctx, `(() => { const l = document.getElementById("lanes"); l.focus(); l.dispatchEvent(new KeyboardEvent("keydown", { key: "End" })); return l.querySelector(".current").textContent; })()`)
	if !strings.HasPrefix(last, "/") && !strings.Contains(last, "web-") && !strings.Contains(last, "vg0") {
		t.Errorf("the last lane is %q", last)
	}
}

const evil = `<script>document.documentElement.dataset.owned = "1"</script><img src=x onerror="document.documentElement.dataset.owned = '1'">`

// TestForeign checks that a name is text wherever it is shown.
func TestForeign(t *testing.T) {
	tl := sample(t, "demo")
	tl.Host.Name, tl.Kernel = evil, evil
	for _, g := range tl.Guests {
		g.Name, g.Binary, g.Identity = evil, evil, evil
		for i := range g.Disks {
			g.Disks[i].Path = evil
		}
	}
	for _, f := range tl.Findings {
		f.Guest, f.Disk, f.Kind, f.Error = evil, evil, f.Kind+evil, evil
	}
	for _, m := range tl.Mappings {
		m.Name = evil
		for _, l := range m.Lives {
			for i := range l.Steps {
				l.Steps[i].By = &event.Proc{PID: 1, Args: []string{evil}}
			}
		}
	}
	ctx := browser(t)
	visit(t, ctx, save(t, tl), 1280, "light")
	run(t, ctx, toTimeline(), settled())
	// Everything that can be hovered over, is.
	evaluate[int](t, ctx, `(() => {
	  let n = 0;
	  for (const lane of document.querySelectorAll(".lane")) {
	    const r = lane.getBoundingClientRect();
	    for (let x = 30; x < r.width; x += 7, n++) {
	      lane.dispatchEvent(new PointerEvent("pointermove", { pointerType: "mouse", bubbles: true, clientX: r.left + x, clientY: r.top + r.height / 2 }));
	    }
	  }
	  return n;
	})()`)
	run(t, ctx, settled())
	if evaluate[bool](t, ctx, `"owned" in document.documentElement.dataset || document.images.length > 0`) {
		t.Error("a name ran as a script")
	}
	label := evaluate[string](t, ctx, `document.querySelector(".lane.guest .label").textContent`)
	if label != evil {
		t.Errorf("the guest is called %q, want %q", label, evil)
	}
	if what := evaluate[string](t, ctx, `document.querySelector(".finding .what").textContent`); !strings.Contains(what, "<script>") {
		t.Errorf("the finding says %q", what)
	}
	shootAll(t, ctx, "foreign-1280-light", 1280)
}

// TestPolicy checks that what the policy does not name does not run, even if it
// got into the page.
func TestPolicy(t *testing.T) {
	var b bytes.Buffer
	if err := html.Write(&b, sample(t, "demo")); err != nil {
		t.Fatal(err)
	}
	injected := strings.Replace(b.String(), "</body>", evil+"</body>", 1)
	path := filepath.Join(t.TempDir(), "boot.html")
	if err := os.WriteFile(path, []byte(injected), 0o600); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := chromedp.NewContext(browser(t)) // its own tab: this one complains
	defer cancel()
	run(t, ctx, chromedp.Navigate("file://"+path), chromedp.WaitReady(chromedp.CSS("html[data-drawn]")), settled())
	if evaluate[bool](t, ctx, `"owned" in document.documentElement.dataset`) {
		t.Error("what was injected ran")
	}
}

// TestKeys uses the page without a pointer.
func TestKeys(t *testing.T) {
	ctx := browser(t)
	visit(t, ctx, save(t, sample(t, "demo")), 1280, "light")
	current := func() string {
		return evaluate[string](t, ctx, `document.querySelector(".lane.current")?.getAttribute("aria-label") ?? ""`)
	}
	ticks := func() string {
		return evaluate[string](t, ctx, `[...document.querySelectorAll("#axis text")].map((e) => e.textContent).join(" ")`)
	}
	press := func(keys string) { run(t, ctx, chromedp.KeyEvent(keys), settled()) }

	run(t, ctx, chromedp.Focus(chromedp.CSS("#lanes")))
	press(kb.ArrowDown)
	for !strings.HasPrefix(current(), "a,") {
		before := current()
		if press(kb.ArrowDown); current() == before {
			t.Fatalf("the keys do not reach guest a: %q", before)
		}
	}
	press(kb.ArrowRight)
	press(kb.ArrowRight)
	tip := evaluate[string](t, ctx, `document.getElementById("tip").hidden ? "" : document.getElementById("tip").textContent`)
	if !strings.Contains(tip, "ENOENT") || !strings.Contains(tip, "event 135") {
		t.Errorf("the second thing that happened to guest a is told as %q", tip)
	}
	if said := evaluate[string](t, ctx, `document.getElementById("said").textContent`); !strings.Contains(said, "ENOENT") {
		t.Errorf("a screen reader is told %q", said)
	}
	shoot(t, ctx, "keys-1280-light")
	// Where the view changes, what is ringed is still what is told.
	ringed := func() float64 {
		return evaluate[float64](t, ctx, `(() => { const r = document.querySelector(".lane.current .m.at")?.getBoundingClientRect(); return r ? r.left + r.width / 2 : -1 })()`)
	}
	told := func() float64 {
		return evaluate[float64](t, ctx, `(() => { const r = document.getElementById("tip").getBoundingClientRect(); return r.left + r.width / 2 })()`)
	}
	shown := func() string {
		return evaluate[string](t, ctx, `document.getElementById("tip").hidden ? "" : document.getElementById("tip").textContent`)
	}
	for _, key := range []string{kb.Enter, "+", "-", "0"} {
		press(key)
		if ring, tip := ringed(), told(); ring < 0 || tip-ring > 60 || ring-tip > 60 || !strings.Contains(shown(), "event 135") {
			t.Errorf("after %q the ring is at %.0f, and the tooltip at %.0f says %q", key, ring, tip, shown())
		}
	}

	before := ticks()
	press("+")
	if ticks() == before {
		t.Error("plus does not zoom")
	}
	press("0")
	if ticks() != before {
		t.Errorf("0 leads to %s, want %s", ticks(), before)
	}
	press("n")
	if !strings.HasPrefix(current(), "a,") {
		t.Errorf("the first finding's place is %q", current())
	}
	press("n")
	if !strings.HasPrefix(current(), "c,") {
		t.Errorf("the second finding's place is %q", current())
	}
	press("/")
	press("template")
	if n := evaluate[int](t, ctx, `document.querySelectorAll(".lane.guest").length`); n != 1 {
		t.Errorf("a search finds %d guests, want 1", n)
	}
	press(kb.Escape)
	if n := evaluate[int](t, ctx, `document.querySelectorAll(".lane.guest").length`); n != 3 {
		t.Errorf("after the search there are %d guests, want 3", n)
	}
}

// TestFindingsLead checks that a finding's link leads to its place, and that
// the kinds choose.
func TestFindingsLead(t *testing.T) {
	ctx := browser(t)
	visit(t, ctx, save(t, largeBoot(manyGuests)), 1280, "light")
	run(t, ctx, click(".finding[data-kind] .place"), settled())
	want := evaluate[string](t, ctx, `document.querySelector(".finding[data-kind] .strong").textContent`)
	if got := evaluate[string](t, ctx, `document.querySelector(".lane.current .label").textContent`); got != want {
		t.Errorf("the link leads to %q, want %q", got, want)
	}
	inView := evaluate[bool](t, ctx, `(() => { const r = document.querySelector(".lane.current").getBoundingClientRect();
	  return r.top >= document.getElementById("head").getBoundingClientRect().bottom - 1 && r.bottom <= innerHeight; })()`)
	if !inView {
		t.Error("the lane that the link leads to is not in view")
	}
	shoot(t, ctx, "place-1280-light")
	run(t, ctx, click(`.chip[data-kind="near-miss"]`), settled())
	if n := evaluate[int](t, ctx, `[...document.querySelectorAll(".finding[data-kind]")].filter((f) => !f.hidden && f.dataset.kind !== "near-miss").length`); n != 0 {
		t.Errorf("%d findings of other kinds are left", n)
	}
}

// TestTouch zooms with two fingers and moves with one.
func TestTouch(t *testing.T) {
	ctx := browser(t)
	visit(t, ctx, save(t, sample(t, "demo")), 390, "light")
	run(t, ctx, toTimeline(), settled())
	zoomed := evaluate[bool](t, ctx, `(async () => {
	  const lanes = document.getElementById("lanes"), lane = lanes.querySelector(".lane"), r = lanes.getBoundingClientRect();
	  const labels = () => [...document.querySelectorAll("#axis text")].map((e) => e.textContent).join(" ");
	  const fire = (type, id, x) => lane.dispatchEvent(new PointerEvent(type, { pointerId: id, pointerType: "touch", bubbles: true, clientX: r.left + x, clientY: r.top + 30 }));
	  const before = labels();
	  fire("pointerdown", 1, 150); fire("pointerdown", 2, 200);
	  for (let i = 0; i < 20; i++) { fire("pointermove", 1, 150 - i * 5); fire("pointermove", 2, 200 + i * 5); }
	  fire("pointerup", 1, 50); fire("pointerup", 2, 300);
	  await new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)));
	  return labels() !== before;
	})()`)
	if !zoomed {
		t.Error("two fingers do not zoom")
	}
}

// TestPrint checks that a printed page has all lanes.
func TestPrint(t *testing.T) {
	ctx := browser(t)
	visit(t, ctx, save(t, sample(t, "large")), 1280, "light")
	// As on paper, which is 718 pixels wide within its margins.
	run(t, ctx, window(718, 1000),
		call(emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{Media: "print"}),
		script(`window.dispatchEvent(new Event("beforeprint"))`), settled())
	apart(t, ctx)
	if n := evaluate[int](t, ctx, `document.querySelectorAll(".lane.guest").length`); n != 30 {
		t.Errorf("%d guests are printed, want all 30", n)
	}
	run(t, ctx, script(`window.dispatchEvent(new Event("afterprint"))`), window(1280, 900), call(emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{}))
	printed, err := chromedp.Run(ctx, func(ctx context.Context, target *chromedp.Target) (page.PrintToPDFResult, error) {
		return cdp.Call(ctx, target, page.PrintToPDF, page.PrintToPDFParams{PrintBackground: new(true)})
	})
	if err != nil {
		t.Fatal(err)
	}
	paper := printed.Data
	keep(t, "print.pdf", paper)
	if len(paper) < 10_000 {
		t.Errorf("the printed page has %d bytes", len(paper))
	}
}
