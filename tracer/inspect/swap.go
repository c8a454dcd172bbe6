package inspect

import "encoding/binary"

// swap has its signature at the end of the first page, whose size is the
// machine's that made it. A guest that was suspended to disk has another there.
var swap = format{name: "swap", find: findSwap}

func findSwap(a *area) (*Layer, error) {
	for _, page := range []int64{4 << 10, 8 << 10, 16 << 10, 64 << 10} {
		mark, err := a.bytes(page-10, 10)
		if err != nil {
			return nil, err
		}
		switch string(mark) {
		case "SWAPSPACE2":
			return swapLayer(a, page, StateClean)
		case "S1SUSPEND\x00", "S2SUSPEND\x00", "ULSUSPEND\x00", "LINHIB0001":
			return swapLayer(a, page, StateHibernated)
		}
	}
	return nil, nil
}

func swapLayer(a *area, page int64, state State) (*Layer, error) {
	b, err := a.bytes(1024, 64)
	if err != nil {
		return nil, err
	}
	l := &Layer{Kind: KindSwap, UUID: uuidText(b[12:28]), Label: text(b[28:44]), State: state}
	l.looked("header")
	var order binary.ByteOrder = le
	if le.Uint32(b) != 1 {
		order = be
	}
	size, ok := product(uint64(order.Uint32(b[4:]))+1, uint64(page))
	switch {
	case order.Uint32(b) != 1:
		l.damage("header", 1024, "version %d", le.Uint32(b))
	case ok:
		l.Needs = size
	}
	l.Why = "it has the mark of swap that nobody sleeps in"
	if state == StateHibernated {
		l.Why = "the guest's memory is in it: the guest was suspended to disk, and goes on from there"
	}
	return l, nil
}
