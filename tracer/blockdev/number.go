package blockdev

import (
	"errors"
	"fmt"
	"path"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/bootrace/bootrace/tracer/event"
)

// Device finds the device with that number, and fills in what Fill does, of a
// mapping its size alone. The error is fs.ErrNotExist where there is none, ErrBusy where its attributes are
// not known now.
func (s *Sysfs) Device(dev event.Dev) (event.DevInfo, error) {
	d := event.DevInfo{Subsystem: "block", Dev: &dev}
	link := fmt.Sprintf("dev/block/%d:%d", dev.Major, dev.Minor)
	buf := make([]byte, unix.PathMax)
	n, err := unix.Readlinkat(s.fd, link, buf)
	if errors.Is(err, unix.EINVAL) { // no link: a tree that somebody copied
		n, err = copy(buf, path.Base(link)), nil
	}
	if err != nil {
		return d, fmt.Errorf("find device %d:%d: %w", dev.Major, dev.Minor, err)
	}
	where := path.Join("dev/block", string(buf[:n]))
	d.Path = "/" + where
	d.Name = strings.ReplaceAll(path.Base(where), "!", "/") // cciss!c0d0
	if DeviceKind(&d) != Mapping {
		return d, s.Fill(&d)
	}
	dir, err := s.open(where)
	if err != nil {
		return d, fmt.Errorf("find device %d:%d: %w", dev.Major, dev.Minor, err)
	}
	defer dir.close()
	if size, ok := dir.sectors("size"); ok {
		d.Attrs = map[string]string{AttrSize: size}
	}
	return d, nil
}

// Secondary reports whether d can't be opened until it is promoted: a DRBD
// device, by all that sysfs tells. An open for writing fails with EROFS, one for
// reading with EMEDIUMTYPE. DRBD 9 promotes by itself when a node is opened for
// writing, so only earlier releases need somebody to do it before (drbd_open,
// drivers/block/drbd/drbd_main.c).
func Secondary(d *event.DevInfo) bool {
	return DeviceKind(d) == DRBD && d.Attrs[AttrReadOnly] == "1" && strings.HasPrefix(d.Attrs[AttrDRBDVersion], "8.")
}
