package inspect

import (
	"bytes"
	"crypto/sha256"
	"fmt"
)

// luks is LUKS, versions 1 and 2. Its header is big-endian, and the only thing
// that can be read without a key. Nobody is ever asked for one.
var luks = format{name: "LUKS", find: findLUKS}

const luksMost = 1 << 20 // of a version 2 header that is read: cryptsetup makes 16 KiB, and up to 4 MiB

func findLUKS(a *area) (*Layer, error) {
	b, err := a.bytes(0, 512)
	if err != nil || string(b[:6]) != "LUKS\xba\xbe" {
		return nil, err
	}
	version := be.Uint16(b[6:])
	l := &Layer{
		Kind: KindLUKS, Detail: fmt.Sprintf("version %d", version), UUID: text(b[168:208]),
		State: StateEncrypted, Why: "what is inside can't be seen without the key",
	}
	l.looked("header")
	switch version {
	case 1:
		if n, ok := product(uint64(be.Uint32(b[104:])), 512); ok { // where the data begins
			l.Needs = n
		}
	case 2:
		l.Label = text(b[24:72])
		size := be.Uint64(b[8:])
		if size < 4096 || size > luksMost {
			l.note("its header of %d bytes was not checked", size)
			break
		}
		h, err := a.bytes(0, int(size))
		if err != nil {
			l.unsure("its header was not checked: %v", err)
			break
		}
		l.Needs = 2 * int64(size)
		if algorithm := text(b[72:104]); algorithm != "sha256" {
			l.note("its checksum is not known here")
			break
		}
		sum := sha256.New()
		sum.Write(h[:448])
		sum.Write(make([]byte, 64))
		sum.Write(h[512:])
		if !bytes.Equal(sum.Sum(nil), h[448:480]) {
			l.damage("header", 0, "its SHA-256 does not match")
		}
	}
	if l.Needs > 0 {
		l.note("how large it is, it does not say; its header needs %d bytes", l.Needs)
	}
	return l, nil
}
