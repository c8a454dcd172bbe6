// Package prometheus writes what alerting needs to know of a host: how its boot
// went, and whether bootrace sees everything. The form is Prometheus' text
// format, for the textfile collector of node_exporter or a scrape.
//
// Names and units follow Prometheus' conventions: seconds, bytes, _total for
// what only grows while the service runs. What is counted within one boot is a
// gauge named bootrace_boot_*, since it is known all at once when the boot has
// settled, and may be corrected when a guest starts late.
//
// No label holds the name of a guest or a disk: they would make as many series
// as there are guests. The findings themselves are for `bootrace races`.
package prometheus

import (
	"io"
	"maps"
	"math"
	"slices"

	"github.com/bootrace/bootrace/tracer/event"
	"github.com/bootrace/bootrace/tracer/timeline"
)

// Stats is what is known at one time.
type Stats struct {
	Version string
	// Boot is nil until the boot has settled.
	Boot *Boot
	// Service is nil where none runs.
	Service *Service
	// Boots is how many boots are recorded, -1 if that is not known.
	Boots int
	// Spool is what waits to be sent, nil where nothing is.
	Spool *Spool
}

// Service is a running service.
type Service struct {
	Mode     string
	Start    event.Time
	Settled  event.Time // 0: not yet
	Sources  []event.SourceInfo
	Events   map[event.Kind]uint64
	Lost     map[string]uint64
	LogFails bool // nothing can be written to the log

	LogRefused  bool // the log is not where it should be
	LogRestored int  // times that it was put back
	// OverShare counts, by what they were, the events that are missing of single
	// users alone.
	OverShare     map[string]uint64
	ConfigRefused bool // the configuration file is not used
	// Older and InitramfsOlder are set where the service that runs, and the copy in
	// the initramfs, are not the version that is installed.
	Older, InitramfsOlder bool
}

// Spool is what waits to be sent.
type Spool struct {
	Requests int
	Bytes    int64
	Refused  int
	Sent     uint64 // spans
}

// Boot is what a timeline comes to.
type Boot struct {
	ID, Kernel      string
	Complete        bool
	Guests, Mapping int
	// Outcome is that of the whole boot, Outcomes are its guests, each counted
	// once however often it was started.
	Outcome      timeline.Outcome
	Outcomes     timeline.Counts
	Races        int
	Findings     map[string]int // certain ones that nobody has accepted, by kind
	Withheld     map[string]int // without a verdict, by kind
	Margins      *distribution
	Holds        *distribution
	HoldOutcomes map[string]int // how holds ended; pending where they have not
	Timeouts     int            // holds that ended at their deadline
	Losses       int
}

// pending is the outcome of a hold that has not ended.
const pending = "pending"

// Summarize returns what tl comes to.
func Summarize(tl *timeline.Timeline) *Boot {
	b := &Boot{
		ID: tl.BootID, Kernel: tl.Kernel, Complete: tl.Complete, Guests: len(tl.Guests), Mapping: len(tl.Mappings),
		Outcome: tl.Summary.Outcome, Outcomes: tl.Summary.Counts,
		Races: len(tl.Races()), Findings: make(map[string]int), Withheld: make(map[string]int),
		Margins: newDistribution(marginBounds), Holds: newDistribution(holdBounds), Losses: len(tl.Losses),
		HoldOutcomes: map[string]int{pending: 0, string(event.HoldAllowed): 0, string(event.HoldDenied): 0, string(event.HoldGone): 0},
	}
	for _, kind := range timeline.FindingKinds() {
		b.Findings[kind], b.Withheld[kind] = 0, 0 // an alert needs a series that is 0
	}
	for _, f := range tl.Findings {
		switch {
		case f.Withheld != "":
			b.Withheld[f.Kind]++
		case f.Accepted != nil: // an alert would ring for what somebody said is right
		default:
			b.Findings[f.Kind]++
		}
		if f.Kind == timeline.Held {
			b.hold(f)
		}
	}
	for _, g := range tl.Guests {
		b.guest(g)
	}
	return b
}

func (b *Boot) guest(g *timeline.Guest) {
	for i := range g.Disks {
		// The first use is the one that decides: what a guest opens again, it had.
		if uses := g.Disks[i].Uses; len(uses) > 0 && uses[0].Margin != nil {
			b.Margins.observe((uses[0].NS + uses[0].Width/2).Seconds())
		}
	}
}

// hold counts a held start. A start that was denied has no guest: the finding is
// all that tells of it.
func (b *Boot) hold(f *timeline.Finding) {
	if f.Outcome == "" {
		b.HoldOutcomes[pending]++
		return
	}
	b.HoldOutcomes[string(f.Outcome)]++
	b.Holds.observe(max(f.Held, 0).Seconds())
	if f.Reason == string(event.ReleaseDeadline) {
		b.Timeouts++
	}
}

// Bounds of the histograms, in seconds. Margins below 0 are races.
var (
	marginBounds = []float64{-300, -60, -30, -10, -5, -2, -1, -0.5, -0.1, 0, 0.1, 0.5, 1, 2, 5, 10, 30, 60, 300}
	holdBounds   = []float64{0.1, 0.5, 1, 2, 5, 10, 20, 30, 60, 90, 120, 300, 600}
)

// distribution is a histogram's content.
type distribution struct {
	bounds []float64
	counts []uint64 // one more than bounds
	sum    float64
}

func newDistribution(bounds []float64) *distribution {
	return &distribution{bounds: bounds, counts: make([]uint64, len(bounds)+1)}
}

func (d *distribution) observe(v float64) {
	i, _ := slices.BinarySearch(d.bounds, v)
	d.counts[i]++
	d.sum += v
}

// Write writes s.
func Write(w io.Writer, s *Stats) error {
	p := &page{}
	p.gauge("bootrace_build_info", "The version of bootrace that wrote this.", sample(1, "version", s.Version))
	if s.Boots >= 0 {
		p.gauge("bootrace_boots_recorded", "Boots of this host whose logs are kept.", sample(float64(s.Boots)))
	}
	p.service(s.Service)
	p.boot(s.Boot)
	p.spool(s.Spool)
	return p.flush(w)
}

func (p *page) service(s *Service) {
	p.gauge("bootrace_up", "Whether the service runs.", sample(truth(s != nil)))
	if s == nil {
		return
	}
	p.gauge("bootrace_mode_info", "What the service does: trace or enforce.", sample(1, "mode", s.Mode))
	p.gauge("bootrace_start_boottime_seconds", "When the service began, since the boot.", sample(s.Start.Seconds()))
	p.gauge("bootrace_settled", "Whether the boot has settled, so that it is judged.", sample(truth(s.Settled != 0)))
	p.gauge("bootrace_log_writable", "Whether the log can be written.", sample(truth(!s.LogFails)))
	p.gauge("bootrace_log_in_place", "Whether the log is where it should be, and continues what was there.", sample(truth(!s.LogRefused)))
	p.counter("bootrace_log_restored_total", "Times that the log's file was removed while it was being written, and put back.", sample(float64(s.LogRestored)))
	p.gauge("bootrace_config_used", "Whether the configuration file is used; 0: it is wrong, and what was before or the defaults hold.", sample(truth(!s.ConfigRefused)))
	p.gauge("bootrace_service_current", "Whether the service that runs is the version that is installed.", sample(truth(!s.Older)))
	p.gauge("bootrace_initramfs_current", "Whether the initramfs is known to have another version than the one that is installed: 0.", sample(truth(!s.InitramfsOlder)))
	p.sources(s.Sources)
	var events []line
	for _, kind := range slices.Sorted(maps.Keys(s.Events)) {
		events = append(events, sample(float64(s.Events[kind]), "kind", string(kind)))
	}
	p.counter("bootrace_events_total", "Events recorded, by kind.", events...)
	lost := []line{}
	for _, what := range slices.Sorted(maps.Keys(s.Lost)) {
		lost = append(lost, sample(float64(s.Lost[what]), "what", what))
	}
	p.counter("bootrace_events_lost_total", "Events missed in the kernel or not stored, by what they were.", lost...)
	own := []line{}
	for _, what := range slices.Sorted(maps.Keys(s.OverShare)) {
		own = append(own, sample(float64(s.OverShare[what]), "what", what))
	}
	p.counter("bootrace_events_over_share_total", "Events missed of single users or guests alone, who had used up their share, by what they were.", own...)
}

// sources tell what is attached. Of two states of one name the worse counts.
func (p *page) sources(sources []event.SourceInfo) {
	attached := make(map[string]bool)
	var able []line
	for _, s := range sources {
		ok := s.State == "attached"
		if before, known := attached[s.Name]; known {
			ok = ok && before
		} else {
			for _, a := range s.Abilities {
				able = append(able, sample(truth(a.OK), "source", s.Name, "ability", a.Name))
			}
		}
		attached[s.Name] = ok
	}
	var lines []line
	for _, name := range slices.Sorted(maps.Keys(attached)) {
		lines = append(lines, sample(truth(attached[name]), "source", name))
	}
	p.gauge("bootrace_source_attached", "Whether a source of events is attached.", lines...)
	p.gauge("bootrace_source_ability", "Whether a source sees what it is for.", able...)
}

func (p *page) boot(b *Boot) {
	if b == nil {
		return
	}
	p.gauge("bootrace_boot_info", "The boot that bootrace_boot_* is about.", sample(1, "boot_id", b.ID, "kernel", b.Kernel))
	p.gauge("bootrace_boot_complete", "Whether the record misses nothing that a verdict depends on.", sample(truth(b.Complete)))
	p.gauge("bootrace_boot_guests", "Guests that ran in this boot.", sample(float64(b.Guests)))
	var guests, whole []line
	for _, o := range timeline.Outcomes() {
		guests = append(guests, sample(float64(b.Outcomes.Of(o)), "outcome", string(o)))
		whole = append(whole, sample(truth(b.Outcome == o), "outcome", string(o)))
	}
	p.gauge("bootrace_boot_guests_by_outcome", "Guests in this boot by how it went, each counted once however often it was started.", guests...)
	p.gauge("bootrace_boot_outcome", "What this boot comes to: 1 for its outcome, 0 for the others.", whole...)
	p.gauge("bootrace_boot_mappings", "Devices and mounts that were followed in this boot.", sample(float64(b.Mapping)))
	p.gauge("bootrace_boot_races", "Guests' opens that came before their disk, in this boot.", sample(float64(b.Races)))
	p.gauge("bootrace_boot_findings", "Certain findings in this boot that nobody has accepted, by kind.", byKind(b.Findings)...)
	p.gauge("bootrace_boot_findings_withheld", "Findings without a verdict in this boot, by kind.", byKind(b.Withheld)...)
	p.gauge("bootrace_boot_losses", "Times in this boot at which events were or may have been missed.", sample(float64(b.Losses)))
	p.histogram("bootrace_boot_open_margin_seconds", "Time from ready to a guest's first open of each disk; negative: the guest came first.", b.Margins)
	p.histogram("bootrace_boot_hold_duration_seconds", "How long starts were held, of those that are no longer.", b.Holds)
	var outcomes []line
	for _, o := range slices.Sorted(maps.Keys(b.HoldOutcomes)) {
		outcomes = append(outcomes, sample(float64(b.HoldOutcomes[o]), "outcome", o))
	}
	p.gauge("bootrace_boot_holds", "Starts that were held, by how that ended; pending: not yet.", outcomes...)
	p.gauge("bootrace_boot_hold_timeouts", "Holds that ended at their deadline.", sample(float64(b.Timeouts)))
}

func byKind(counts map[string]int) []line {
	var lines []line
	for _, kind := range slices.Sorted(maps.Keys(counts)) {
		lines = append(lines, sample(float64(counts[kind]), "kind", kind))
	}
	return lines
}

func (p *page) spool(s *Spool) {
	if s == nil {
		return
	}
	p.gauge("bootrace_spool_requests", "Requests that wait to be sent.", sample(float64(s.Requests)))
	p.gauge("bootrace_spool_size_bytes", "Size of the requests that wait to be sent.", sample(float64(s.Bytes)))
	p.gauge("bootrace_spool_refused_requests", "Requests that the receiver refused for good.", sample(float64(s.Refused)))
	p.counter("bootrace_spool_sent_spans_total", "Spans that the receiver has taken.", sample(float64(s.Sent)))
}

func truth(b bool) float64 {
	if b {
		return 1
	}
	return 0
}

// infinity is the last bucket's bound.
var infinity = math.Inf(1)
