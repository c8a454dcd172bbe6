package html

import (
	"bytes"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/bootrace/bootrace/exporters/internal/samples"
)

func TestIndex(t *testing.T) {
	x := new(Index)
	for _, name := range sampled {
		x.Add(samples.Load(t, name))
	}
	fine := samples.Load(t, "empty")
	fine.Host.Name = "a-calm-host"
	x.Add(fine)
	x.AddProblem("logs/<b>.jsonl", errors.New("its first line is <i>no</i> header"))
	var b bytes.Buffer
	if err := x.Write(&b, time.Unix(1772435560, 0)); err != nil {
		t.Fatal(err)
	}
	page := b.String()
	d := parse(t, page)
	if n := len(d.elements["script"]) + len(d.elements["img"]) + len(d.elements["b"]) + len(d.elements["i"]); n > 0 {
		t.Errorf("%d elements that it should not have", n)
	}
	boots := 0
	for _, li := range d.elements["li"] {
		if strings.Contains(attribute(li, "class"), "boot") {
			boots++
		}
	}
	if boots != len(sampled)+2 {
		t.Errorf("%d boots, want %d", boots, len(sampled)+2)
	}
	for _, want := range []string{"13 boots of", "with guests that failed", "kvm7", "can't be read: its first line", "2026-03-02 07:12:40 UTC", "start back until the disk is ready"} {
		if !strings.Contains(page, want) {
			t.Errorf("it does not say %q", want)
		}
	}
	// The worst hosts come first, a calm one after them.
	if strings.Index(page, "<h2>kvm7</h2>") > strings.Index(page, "<h2>a-calm-host</h2>") {
		t.Error("a host that is fine comes before one that is not")
	}
}

// The latest boot of a host comes first, and decides where the host stands.
func TestIndexOrder(t *testing.T) {
	x := new(Index)
	bad, later := samples.Load(t, "demo"), samples.Load(t, "empty")
	later.Host, later.BootID = bad.Host, "ffffffff-1111"
	clock := *bad.Clock
	clock.WallOffset += int64(time.Hour)
	later.Clock = &clock
	x.Add(bad)
	x.Add(later)
	hosts := x.hosts()
	if len(hosts) != 1 || hosts[0].Boots[0].Boot != "ffffffff" || hosts[0].Class != hosts[0].Boots[0].Class {
		t.Errorf("%+v", hosts)
	}
}
