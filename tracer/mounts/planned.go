package mounts

import (
	"bufio"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/coreos/go-systemd/v22/unit"
)

// Bounds of what is read of a host's configuration.
const (
	maxPlans    = 4096
	maxUnitFile = 64 << 10
	maxFstab    = 1 << 20
)

// unitFolders are where the units of mounts are: systemd's own translation of
// fstab, and an administrator's.
var unitFolders = []string{"run/systemd/generator", "etc/systemd/system"}

// Planned returns the points of the mounts that the host below root is set up to
// make by itself: what fstab names, but for noauto, and systemd's mount and
// automount units that something wants. What can't be read is left out. It reads small files, and asks nobody.
func Planned(root string) []string {
	plans := fstab(filepath.Join(root, "etc/fstab"))
	for _, name := range unitFolders {
		plans = append(plans, units(filepath.Join(root, name))...)
	}
	return plans[:min(len(plans), maxPlans)]
}

// fstab reads fstab(5): source, point, type and options; blanks in names are
// written as \040.
func fstab(name string) []string {
	data := readBounded(name, maxFstab)
	var plans []string
	lines := bufio.NewScanner(strings.NewReader(data))
	for lines.Scan() && len(plans) < maxPlans {
		fields := strings.Fields(lines.Text())
		if len(fields) < 3 || strings.HasPrefix(fields[0], "#") {
			continue
		}
		point, ok := cleanPoint(blanks.Replace(fields[1]))
		if !ok {
			continue
		}
		options := ""
		if len(fields) > 3 {
			options = "," + fields[3] + ","
		}
		onAccess := strings.Contains(options, ",x-systemd.automount,") || strings.Contains(options, ",comment=systemd.automount,")
		if onAccess || !strings.Contains(options, ",noauto,") {
			plans = append(plans, point)
		}
	}
	return plans
}

var blanks = strings.NewReplacer(`\040`, " ", `\011`, "\t", `\012`, "\n", `\134`, `\`)

// units reads the mount and automount units in a folder that another one there
// wants or requires: the others are made by nobody, as far as is known.
func units(folder string) []string {
	var plans []string
	for _, pattern := range []string{"*.wants/*mount", "*.requires/*mount"} {
		links, _ := filepath.Glob(filepath.Join(folder, pattern)) // the pattern is right
		for _, link := range links {
			if len(plans) == maxPlans {
				return plans
			}
			name := filepath.Base(link)
			kind := strings.TrimPrefix(filepath.Ext(name), ".")
			if kind != "mount" && kind != "automount" {
				continue
			}
			if point, ok := whereOf(filepath.Join(folder, name), kind); ok {
				plans = append(plans, point)
			}
		}
	}
	return plans
}

// whereOf returns the Where= of a unit file.
func whereOf(name, kind string) (string, bool) {
	options, err := unit.DeserializeOptions(strings.NewReader(readBounded(name, maxUnitFile)))
	if err != nil {
		return "", false
	}
	for _, o := range options {
		if strings.EqualFold(o.Section, kind) && o.Name == "Where" {
			return cleanPoint(o.Value)
		}
	}
	return "", false
}

// cleanPoint is a mount point in the form of mountinfo; ok is false for what is none
// ("none" of swap), and for the root, which is there.
func cleanPoint(text string) (string, bool) {
	point := filepath.Clean(text)
	return point, filepath.IsAbs(point) && point != "/" && len(point) < maxText
}

// readBounded reads a regular file, empty where that is not possible.
func readBounded(name string, limit int64) string {
	info, err := os.Stat(name)
	if err != nil || !info.Mode().IsRegular() {
		return ""
	}
	file, err := os.Open(name)
	if err != nil {
		return ""
	}
	defer file.Close()
	data, err := io.ReadAll(io.LimitReader(file, limit))
	if err != nil {
		return ""
	}
	return string(data)
}
