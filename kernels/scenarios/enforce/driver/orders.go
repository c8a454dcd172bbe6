package main

import (
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/bootrace/bootrace/tracer/event"
)

// A boot's worth of orders: a few volumes that are mapped, and a few guests on
// them that are started, in any order and with any pause. Many of these overlap,
// as on a host with many guests.

// orders plays n of them.
func orders(n int) error {
	type played struct {
		n    int
		list []*launched
		at   map[string]event.Time
	}
	var last []played
	finish := func(p played) error {
		for _, l := range p.list {
			if err := l.opensAll(func(disk string) event.Time { return p.at[disk] }); err != nil {
				return fmt.Errorf("order %d: %w", p.n, err)
			}
		}
		for path := range p.at {
			if err := command("dmsetup", "remove", "--retry", mappingOf(path)); err != nil {
				return err
			}
		}
		return nil
	}
	started := 0
	for i := range n {
		p := played{n: i, at: map[string]event.Time{}}
		var steps []func() error
		paths := make([]string, 1+rand.IntN(2))
		for v := range paths {
			slot := i%overlap*2 + v
			paths[v] = fmt.Sprintf("/dev/mapper/order-%d-%d", i, v)
			steps = append(steps, func() error {
				p.at[paths[v]] = event.Now()
				table := fmt.Sprintf("0 2048 linear /dev/vdd %d", 2048*(slot+1))
				return command("dmsetup", "create", mappingOf(paths[v]), "--table", table)
			})
		}
		for g := range 1 + rand.IntN(3) {
			disks := paths[:1+rand.IntN(len(paths))]
			steps = append(steps, func() error {
				l, err := launch(fmt.Sprintf("order-%d-%d", i, g), disks...)
				p.list = append(p.list, l)
				return err
			})
		}
		rand.Shuffle(len(steps), func(a, b int) { steps[a], steps[b] = steps[b], steps[a] })
		for _, step := range steps {
			if err := step(); err != nil {
				return fmt.Errorf("order %d: %w", i, err)
			}
			if rand.IntN(3) == 0 {
				time.Sleep(time.Duration(rand.IntN(30)) * time.Millisecond)
			}
		}
		started += len(p.list)
		if last = append(last, p); len(last) == overlap {
			if err := finish(last[0]); err != nil {
				return err
			}
			last = last[1:]
		}
	}
	for _, p := range last {
		if err := finish(p); err != nil {
			return err
		}
	}
	fmt.Printf("orders: %d random orders, %d guests: none opened early, none was left behind, none was denied\n", n, started)
	return held(0)
}

// overlap is how many orders go on at the same time.
const overlap = 5

func mappingOf(path string) string { return path[len("/dev/mapper/"):] }
