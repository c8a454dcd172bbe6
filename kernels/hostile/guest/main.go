// Command guest stands in for qemu on a host that is being attacked: it opens its
// disks, says what it saw and when, and ends.
package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/bootrace/bootrace/kernels/hostile/report"
	"github.com/bootrace/bootrace/tracer/event"
)

func main() {
	saw := report.Saw{Start: event.Now()}
	name := ""
	for i, arg := range os.Args[:len(os.Args)-1] {
		value := os.Args[i+1]
		switch arg {
		case "-name":
			name = value
		case "-drive":
			path, _, _ := strings.Cut(strings.TrimPrefix(value, "file="), ",")
			saw.Opens = append(saw.Opens, open(path))
		}
	}
	if err := tell(name, saw); err != nil {
		fmt.Fprintln(os.Stderr, "guest:", err)
		os.Exit(1)
	}
}

func open(path string) report.Open {
	o := report.Open{Path: path, At: event.Now()}
	f, err := os.Open(path)
	if err != nil {
		o.Error = err.Error()
		return o
	}
	defer f.Close()
	o.Size, _ = f.Seek(0, 2)
	return o
}

func tell(name string, saw report.Saw) error {
	dir := os.Getenv(report.Folder)
	if dir == "" || name == "" {
		return nil // nobody asks
	}
	data, err := json.Marshal(saw)
	if err != nil {
		return err
	}
	path := filepath.Join(dir, name)
	if err := os.WriteFile(path+".new", data, 0o644); err != nil {
		return err
	}
	return os.Rename(path+".new", path)
}
