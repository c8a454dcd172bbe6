package guest

import (
	"encoding/json"
	"errors"
	"fmt"
	"path"
	"strconv"
	"strings"
)

var cloudHypervisor = hypervisor{
	name:     "cloud-hypervisor",
	programs: []string{"cloud-hypervisor"},
	places:   []string{"/usr/bin/cloud-hypervisor", "/usr/local/bin/cloud-hypervisor", "/opt/cloud-hypervisor/bin/cloud-hypervisor"},
	identify: "give it --platform uuid= or --api-socket",
	parse:    parseCloudHypervisor,
	redact:   redactCloudHypervisor,
}

// maxDisks bounds the disks of one command line or configuration file.
const maxDisks = 4096

// vmm is a guest of a hypervisor whose options all have the form --name VALUE or
// --name=VALUE, in the making.
type vmm struct {
	Guest
	unlisted int // problems beyond maxProblems
	socket   string
}

func (v *vmm) problem(arg, reason string) {
	if len(v.NotUnderstood) >= maxProblems {
		v.unlisted++
		return
	}
	v.NotUnderstood = append(v.NotUnderstood, Problem{cut(arg), reason})
}

func (v *vmm) notAll(why string) {
	if v.Unknown == "" {
		v.Unknown = why
	}
}

// add adds a disk. One without a path is served by another process, through a
// socket.
func (v *vmm) add(d Disk) {
	if len(v.Disks) == maxDisks {
		v.notAll(fmt.Sprintf("more than %d disks", maxDisks))
		return
	}
	if d.Storage == "" {
		d.Image = withLocal(d.Image, d.Path)
	}
	v.Disks = append(v.Disks, d)
}

// withLocal is an image at a local path.
func withLocal(image Image, path string) Image {
	at := local(path)
	image.Path, image.Storage, image.Needs, image.FD = at.Path, at.Storage, at.Needs, at.FD
	return image
}

// finish picks what tells the guest from others over reboots: a UUID, be it only
// in the path of its API's socket, else its name, else that path.
func (v *vmm) finish() Guest {
	v.IsGuest = v.NotGuest == ""
	if !v.IsGuest {
		v.Disks, v.Unknown = []Disk{}, ""
		return v.Guest
	}
	if v.unlisted > 0 {
		v.NotUnderstood = append(v.NotUnderstood, Problem{"", fmt.Sprintf("and %d more", v.unlisted)})
	}
	if v.Identity.Kind != "" {
		return v.Guest
	}
	for _, part := range pathEnd(v.socket) {
		name := strings.TrimSuffix(strings.TrimSuffix(part, ".sock"), ".socket")
		if id, ok := normalUUID(name); ok && id != nilUUID {
			v.Identity = Identity{Kind: "uuid", Value: id, From: v.Identity.From}
			return v.Guest
		}
	}
	if v.socket != "" {
		v.Identity = Identity{Kind: "socket", Value: path.Clean(v.socket), From: v.Identity.From}
		return v.Guest
	}
	v.Identity = Identity{}
	return v.Guest
}

// optionValues calls each for the values of all options, as clap takes them: an
// option has all arguments up to the next one with a dash, or what follows its
// "=". One without a value comes once, with an empty one.
func optionValues(args []string, each func(name, value string, at int)) {
	for i := 1; i < len(args); i++ {
		if !strings.HasPrefix(args[i], "-") {
			continue
		}
		name, value, assigned := strings.Cut(args[i], "=")
		if assigned {
			each(name, value, i)
		}
		n := i
		for i+1 < len(args) && !strings.HasPrefix(args[i+1], "-") {
			i++
			each(name, args[i], i)
		}
		if n == i && !assigned {
			each(name, "", i)
		}
	}
}

// fields reads a list of key=value as cloud-hypervisor does: commas within
// quotes or brackets belong to the value, and quotes are dropped. The last of a
// repeated key wins.
func fields(text string) (map[string]string, error) {
	out := make(map[string]string)
	var b strings.Builder
	depth, quoted := 0, false
	end := func() {
		key, value, _ := strings.Cut(b.String(), "=")
		out[key] = strings.TrimSpace(value)
		b.Reset()
	}
	for _, c := range []byte(strings.TrimSpace(text)) {
		switch {
		case c == '"':
			quoted = !quoted
			continue
		case c == '[':
			depth++
		case c == ']':
			depth--
		case c == ',' && depth <= 0 && !quoted:
			if len(out) == maxKeys {
				return out, errTooManyKeys
			}
			end()
			continue
		}
		b.WriteByte(c)
	}
	end()
	if quoted || depth != 0 {
		return out, errors.New("a quote or bracket is open at its end")
	}
	return out, nil
}

func isOn(s string) bool { return strings.EqualFold(s, "on") || strings.EqualFold(s, "true") }

func parseCloudHypervisor(p *Parser, args []string) Guest {
	v := &vmm{Guest: Guest{Disks: []Disk{}}}
	boots := false // from this command line, and not at the word of its API
	pmems := 0
	optionValues(args, func(name, value string, _ int) {
		switch name {
		case "--help", "-h", "--version", "-V":
			v.NotGuest = "it asks for information: " + name
		case "--disk":
			v.chDisk(value)
		case "--pmem":
			v.chPmem(value, pmems)
			pmems++
		case "--kernel", "--firmware", "--igvm":
			boots = true
		case "--api-socket":
			v.socket = strings.TrimPrefix(value, "path=")
			if strings.HasPrefix(v.socket, "fd=") {
				v.socket = ""
			}
			if v.Identity.Kind == "" {
				v.Identity.From = "--api-socket"
			}
		case "--platform":
			v.chPlatform(value)
		case "--restore":
			boots = true
			v.chRestore(p, value)
		}
	})
	if !boots {
		v.notAll("it is told what to run by its API, disks included")
	}
	return v.finish()
}

func (v *vmm) chFields(option, text string) map[string]string {
	f, err := fields(text)
	if err != nil {
		v.problem(option+" "+text, err.Error())
	}
	return f
}

func (v *vmm) chDisk(text string) {
	f := v.chFields("--disk", text)
	v.chAdd(f["id"], f["serial"], f["path"], f["image_type"], isOn(f["readonly"]), isOn(f["vhost_user"]), f["vhost_socket"]+f["socket"])
}

// chAdd adds a disk of the command line, or of a saved configuration. Without an
// image type cloud-hypervisor looks at the first bytes.
func (v *vmm) chAdd(id, serial, path, format string, readOnly, vhost bool, socket string) {
	d := Disk{ID: id, DeviceID: id, Kind: KindDisk, Device: "virtio-blk", Serial: serial}
	if id == "" {
		d.ID = "disk" + strconv.Itoa(len(v.Disks))
	}
	d.Path, d.ReadOnly = path, readOnly
	switch format = strings.ToLower(format); format {
	case "", "unknown":
	case "fixedvhd":
		d.Format = "vpc"
	default:
		d.Format = format
	}
	if vhost {
		d.Path, d.Storage, d.Protocol = socket, StorageOther, "vhost-user"
	}
	v.add(d)
}

func (v *vmm) chPmem(text string, n int) {
	f := v.chFields("--pmem", text)
	v.pmem(f["id"], f["file"], isOn(f["discard_writes"]), n)
}

// pmem adds persistent memory that is kept in a file or device.
func (v *vmm) pmem(id, file string, readOnly bool, n int) {
	d := Disk{ID: id, DeviceID: id, Kind: KindDisk, Device: "virtio-pmem"}
	if id == "" {
		d.ID = "pmem" + strconv.Itoa(n)
	}
	d.Path, d.Format, d.ReadOnly = file, "raw", readOnly
	v.add(d)
}

func (v *vmm) chPlatform(text string) {
	f := v.chFields("--platform", text)
	if f["uuid"] == "" {
		return
	}
	id, ok := normalUUID(f["uuid"])
	if !ok {
		v.problem("--platform uuid="+f["uuid"], "not a UUID")
		return
	}
	if id != nilUUID {
		v.UUID = id
		v.Identity = Identity{Kind: "uuid", Value: id, From: "--platform"}
	}
}

// chRestore reads the configuration that a snapshot was taken with.
func (v *vmm) chRestore(p *Parser, text string) {
	source := v.chFields("--restore", text)["source_url"]
	v.Incoming = source
	dir, isFile := strings.CutPrefix(source, "file://")
	if !isFile {
		v.notAll("it goes on from a snapshot that is no folder of this host, and its disks stand there")
		return
	}
	name := path.Join(dir, "config.json")
	var saved struct {
		Disks []struct {
			ID, Serial, Path string
			Readonly         bool
			VhostUser        bool   `json:"vhost_user"`
			Socket           string `json:"vhost_socket"`
			ImageType        string `json:"image_type"`
		}
		Pmem []struct {
			ID, File string
			Discard  bool `json:"discard_writes"`
		}
		Platform struct{ UUID string }
	}
	if !v.readJSON(p, name, &saved) {
		return
	}
	for _, d := range saved.Disks {
		v.chAdd(d.ID, d.Serial, d.Path, d.ImageType, d.Readonly, d.VhostUser, d.Socket)
	}
	for n, d := range saved.Pmem {
		v.pmem(d.ID, d.File, d.Discard, n)
	}
	if saved.Platform.UUID != "" {
		v.chPlatform("uuid=" + saved.Platform.UUID)
	}
}

// readJSON reads a file that tells of disks. Where it can't, that is noted.
func (v *vmm) readJSON(p *Parser, name string, into any) bool {
	err := errors.New("the file was not read")
	if p.ReadFile != nil {
		var data []byte
		data, err = p.ReadFile(name)
		switch {
		case err != nil:
		case len(data) > MaxFile:
			err = fmt.Errorf("longer than %d bytes", MaxFile)
		case json.Unmarshal(data, into) != nil:
			err = errors.New("not the JSON that was expected") // the decoder's words quote the file
		}
	}
	if err != nil {
		v.problem(name, err.Error())
		v.notAll(cut(name) + ": " + err.Error())
	}
	return err == nil
}

// redactCloudHypervisor removes what is handed to the guest and may hold
// anything: the kernel's command line and the OEM strings.
func redactCloudHypervisor(args []string) []string {
	out := append([]string(nil), args...)
	optionValues(args, func(name, value string, at int) {
		var clean string
		switch {
		case name == "--cmdline" && value != "":
			clean = Redacted
		case name == "--platform" && strings.Contains(value, "oem_strings"):
			clean = redactBrackets(value)
		case name == "--disk", name == "--pmem", name == "--restore", name == "--api-socket":
			return
		default:
			clean = redactWord(value)
		}
		out[at] = strings.TrimSuffix(args[at], value) + clean
	})
	return out
}

// redactBrackets keeps the uuid of a platform and drops the rest of it.
func redactBrackets(value string) string {
	f, _ := fields(value)
	if id := f["uuid"]; id != "" && !strings.ContainsAny(id, `,"[]`) {
		return "oem_strings=" + Redacted + ",uuid=" + id
	}
	return "oem_strings=" + Redacted
}
