package config

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"go.yaml.in/yaml/v3"
	"golang.org/x/sys/unix"

	"github.com/bootrace/bootrace/tracer/replace"
)

// KeptName is the file in the state folder that has the last configuration that was
// good: what holds where the file of the host is wrong after a restart, or a reboot.
const KeptName = "config.last-good"

// maxKept bounds what is read of it, in bytes.
const maxKept = 1 << 20

// Keep keeps the configuration at path in dir, which exists, for root's eyes, if it is
// good, without export: the service sends nothing, and tokens stay where they are.
func Keep(path, dir string) error {
	data, err := os.ReadFile(path)
	if err != nil && (!errors.Is(err, fs.ErrNotExist) || path != Path) {
		return fmt.Errorf("keep the configuration: %w", err)
	}
	if _, err := Parse(data); err != nil {
		return fmt.Errorf("keep configuration %s: %w", path, err)
	}
	if data, err = withoutExport(data); err != nil {
		return fmt.Errorf("keep configuration %s: %w", path, err)
	}
	to := filepath.Join(dir, KeptName)
	if have, err := os.ReadFile(to); err == nil && bytes.Equal(have, data) {
		return nil
	}
	if err := replace.Bytes(to, data, replace.Options{Perm: 0o600, Sole: true}); err != nil {
		return fmt.Errorf("keep the configuration: %w", err)
	}
	return nil
}

// withoutExport returns a configuration without its key export. Where that can't be read
// any more, as with an anchor and no key, it is an error.
func withoutExport(data []byte) ([]byte, error) {
	var doc yaml.Node
	if err := yaml.Unmarshal(data, &doc); err != nil {
		return nil, err
	}
	if len(doc.Content) == 0 || doc.Content[0].Kind != yaml.MappingNode {
		return nil, nil // the defaults
	}
	top := doc.Content[0]
	for i := 0; i+1 < len(top.Content); i += 2 {
		if top.Content[i].Value == "export" {
			top.Content = append(top.Content[:i], top.Content[i+2:]...)
			i -= 2
		}
	}
	withoutComments(&doc) // whoever puts a key out of use leaves it in one
	kept, err := yaml.Marshal(&doc)
	if err != nil {
		return nil, err
	}
	if _, err := Parse(kept); err != nil {
		return nil, fmt.Errorf("it does not survive being written again: %w", err)
	}
	return kept, nil
}

func withoutComments(n *yaml.Node) {
	n.HeadComment, n.LineComment, n.FootComment = "", "", ""
	for _, child := range n.Content {
		withoutComments(child)
	}
}

// Kept reads what Keep kept in dir, and when that was.
func Kept(dir string) (Config, time.Time, error) {
	f, err := os.OpenFile(filepath.Join(dir, KeptName), os.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if err != nil {
		return Config{}, time.Time{}, fmt.Errorf("read the last good configuration: %w", err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return Config{}, time.Time{}, fmt.Errorf("read the last good configuration: %w", err)
	}
	data, err := io.ReadAll(io.LimitReader(f, maxKept+1))
	if err == nil && (!info.Mode().IsRegular() || len(data) > maxKept) {
		err = fmt.Errorf("%s is no file of at most %d bytes", f.Name(), maxKept)
	}
	if err != nil {
		return Config{}, time.Time{}, fmt.Errorf("read the last good configuration: %w", err)
	}
	c, err := Parse(data)
	if err != nil {
		return Config{}, time.Time{}, fmt.Errorf("the last good configuration %s: %w", f.Name(), err)
	}
	return c, info.ModTime(), nil
}
