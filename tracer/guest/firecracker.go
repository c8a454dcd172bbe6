package guest

import (
	"slices"
	"strings"
)

var firecracker = hypervisor{
	name:     "firecracker",
	programs: []string{"firecracker"},
	places:   []string{"/usr/bin/firecracker", "/usr/local/bin/firecracker", "/opt/firecracker/bin/firecracker"},
	identify: "give it --id",
	parse:    parseFirecracker,
	redact:   redactFirecracker,
}

// anonymous is the id of a firecracker that was given none.
const anonymous = "anonymous-instance"

func parseFirecracker(p *Parser, args []string) Guest {
	v := &vmm{Guest: Guest{Disks: []Disk{}}}
	v.Identity.From = "--api-sock"
	config := ""
	for i := 1; i < len(args); i++ {
		name, value, assigned := strings.Cut(args[i], "=")
		if !assigned && takesValue[name] && i+1 < len(args) {
			i++
			value = args[i]
		}
		switch name {
		case "--help", "-h", "--version", "--snapshot-version", "--describe-snapshot":
			v.NotGuest = "it asks for information: " + name
		case "--config-file":
			config = value
		case "--api-sock":
			v.socket = value
		case "--id":
			v.named(value)
		}
	}
	if config == "" {
		v.notAll("it is told what to run by its API, disks included")
	} else {
		v.fcConfig(p, config)
	}
	return v.finish()
}

// takesValue has firecracker's options that an argument follows.
var takesValue = map[string]bool{
	"--api-sock": true, "--id": true, "--seccomp-filter": true, "--start-time-us": true, "--start-time-cpu-us": true,
	"--parent-cpu-time-us": true, "--config-file": true, "--metadata": true, "--log-path": true, "--level": true,
	"--module": true, "--metrics-path": true, "--describe-snapshot": true, "--http-api-max-payload-size": true,
	"--mmds-size-limit": true, "--seccomp-level": true,
}

func (v *vmm) named(id string) {
	if id == "" || id == anonymous {
		return
	}
	v.Name = id
	v.Identity = Identity{Kind: "name", Value: id, From: "--id"}
	if uuid, ok := normalUUID(id); ok && uuid != nilUUID {
		v.UUID, v.Identity.Kind, v.Identity.Value = uuid, "uuid", uuid
	}
}

// fcConfig reads the file that describes the guest (firecracker's
// docs/getting-started.md; its fields are those of the API).
func (v *vmm) fcConfig(p *Parser, name string) {
	var config struct {
		Drives []struct {
			ID       string `json:"drive_id"`
			Path     string `json:"path_on_host"`
			ReadOnly bool   `json:"is_read_only"`
			Socket   string `json:"socket"`
		} `json:"drives"`
		Pmem []struct {
			ID       string `json:"id"`
			Path     string `json:"path_on_host"`
			ReadOnly bool   `json:"read_only"`
		} `json:"pmem"`
	}
	if !v.readJSON(p, name, &config) {
		return
	}
	for _, c := range config.Drives {
		d := Disk{ID: c.ID, DeviceID: c.ID, Kind: KindDisk, Device: "virtio-blk"}
		d.Path, d.Format, d.ReadOnly = c.Path, "raw", c.ReadOnly
		if c.Socket != "" {
			d.Path, d.Storage, d.Protocol = c.Socket, StorageOther, "vhost-user"
		}
		v.add(d)
	}
	for n, c := range config.Pmem {
		v.pmem(c.ID, c.Path, c.ReadOnly, n)
	}
}

// redactFirecracker returns a copy: no option of firecracker takes a secret, and
// what it does not know, a launcher made up.
func redactFirecracker(args []string) []string {
	out := slices.Clone(args)
	for i := 1; i < len(out); i++ {
		if name, _, _ := strings.Cut(args[i-1], "="); !takesValue[name] {
			out[i] = redactWord(out[i])
		}
	}
	return out
}
