// Package libvirt reads a domain as libvirt hands it to its hooks: XML, of which
// the disks and their backing files matter here.
//
// libvirt looks at a domain's disks before it executes qemu, and fails if one is
// missing. Its hook runs before that, so there a start can still be kept back
// (https://libvirt.org/hooks.html, qemu, prepare begin).
package libvirt

import (
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/bootrace/bootrace/tracer/guest"
)

// maxXML bounds a domain's XML in bytes. Large ones, with a hundred disks, have
// 200 KiB.
const maxXML = 4 << 20

// maxChain bounds a backing chain that is spelt out. libvirt itself reads at
// most 200 (virStorageSourceGetMetadata).
const maxChain = 200

// Domain is what the XML says about a domain.
type Domain struct {
	Name string
	UUID string
	// Disks are those with a path on this host that must be there: files and
	// block devices.
	Disks []guest.Image
	// Unknown are disks whose path only libvirt can tell, in words: volumes of
	// its storage pools.
	Unknown []string
}

// ErrTooLong says that the XML is longer than any domain's.
var ErrTooLong = errors.New("the domain's XML is too long")

type domainXML struct {
	XMLName xml.Name  `xml:"domain"`
	Name    string    `xml:"name"`
	UUID    string    `xml:"uuid"`
	Disks   []diskXML `xml:"devices>disk"`
}

// diskXML is a <disk>, and with fewer members a <backingStore>.
type diskXML struct {
	Type   string `xml:"type,attr"`
	Device string `xml:"device,attr"`
	Driver struct {
		Type string `xml:"type,attr"`
	} `xml:"driver"`
	Format struct {
		Type string `xml:"type,attr"`
	} `xml:"format"`
	Source sourceXML `xml:"source"`
	Target struct {
		Dev string `xml:"dev,attr"`
	} `xml:"target"`
	Backing *diskXML `xml:"backingStore"`
}

type sourceXML struct {
	File          string   `xml:"file,attr"`
	Dev           string   `xml:"dev,attr"`
	Pool          string   `xml:"pool,attr"`
	Volume        string   `xml:"volume,attr"`
	StartupPolicy string   `xml:"startupPolicy,attr"`
	DataStore     *diskXML `xml:"dataStore"`
}

// Parse reads a domain's XML.
func Parse(r io.Reader) (*Domain, error) {
	limited := &io.LimitedReader{R: r, N: maxXML + 1}
	var x domainXML
	err := xml.NewDecoder(limited).Decode(&x)
	if limited.N <= 0 {
		return nil, ErrTooLong
	}
	if err != nil {
		return nil, fmt.Errorf("read the domain's XML: %w", err)
	}
	d := &Domain{Name: strings.TrimSpace(x.Name), UUID: strings.ToLower(strings.TrimSpace(x.UUID))}
	for i := range x.Disks {
		d.add(&x.Disks[i])
	}
	return d, nil
}

// add sorts a disk in. One whose source may be missing is left out: libvirt
// then starts the domain without it (startupPolicy), as it does with a drive
// that has no medium.
func (d *Domain) add(x *diskXML) {
	switch {
	case x.Source.StartupPolicy == "optional":
	case x.Type == "volume" && x.Source.Volume != "":
		d.Unknown = append(d.Unknown, fmt.Sprintf("disk %s is volume %s of pool %s", x.Target.Dev, x.Source.Volume, x.Source.Pool))
	case x.path() != "":
		d.Disks = append(d.Disks, x.image(x.Driver.Type))
	}
}

// path returns where the disk is on this host, empty where it is elsewhere.
func (x *diskXML) path() string {
	switch x.Type {
	case "block":
		return x.Source.Dev
	case "file":
		return x.Source.File
	}
	return ""
}

// image describes the disk with its backing chain as far as the XML has it. The
// chain ends where it says so with an empty <backingStore/>, and is open where
// it says nothing. A disk without a format is raw to libvirt.
func (x *diskXML) image(format string) guest.Image {
	i := x.layer(format)
	at := x.Backing
	for ; at != nil && at.Type != "" && len(i.Backing) < maxChain; at = at.Backing {
		i.Backing = append(i.Backing, at.layer(at.Format.Type))
	}
	if at != nil && at.Type == "" {
		end := &i
		if n := len(i.Backing); n > 0 {
			end = &i.Backing[n-1]
		}
		end.NoBacking = true
	}
	return i
}

func (x *diskXML) layer(format string) guest.Image {
	if format == "" {
		format = "raw"
	}
	i := guest.Image{Format: format, Storage: guest.StorageNetwork}
	if path := x.path(); path != "" {
		i.Path, i.Storage, i.Needs = path, guest.StorageFile, true
	}
	if data := x.Source.DataStore; data != nil && data.path() != "" {
		below := data.layer("raw")
		i.DataFile = &below
	}
	return i
}
