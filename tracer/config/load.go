package config

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"strings"

	"go.yaml.in/yaml/v3"
)

// DropIns is the folder beside a configuration file whose files are read after it, in
// the order of their names. The later one wins, key by key: a list takes the place of
// the one before; headers are added to it by their names.
const DropIns = "config.d"

// dropInSuffix is that of the files in it that count.
const dropInSuffix = ".yaml"

// Loaded is a configuration, and where it comes from.
type Loaded struct {
	Config
	// Files are those that were read, in order.
	Files []string
	// origins has where each key was last set, as "enforce.deadline".
	origins map[string]Origin
}

// Origin is where a key was set.
type Origin struct {
	File string
	Line int // from 1 on
}

// Load reads the file at path and its drop-ins over the defaults. A file that does not
// exist means the defaults where path is Path, and is an error elsewhere.
func Load(path string) (Config, error) {
	l, err := Read(path)
	return l.Config, err
}

// Read is Load, which also tells where each value comes from.
func Read(path string) (Loaded, error) {
	l := Loaded{Config: Default(), origins: map[string]Origin{}}
	files, err := filesOf(path)
	if err != nil {
		return Loaded{}, err
	}
	l.Files = files
	invalid := "" // the file that made valid what was before it invalid
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			return Loaded{}, fmt.Errorf("read the configuration: %w", err)
		}
		if err := l.add(file, data); err != nil {
			return Loaded{}, fmt.Errorf("configuration %s: %w", file, err)
		}
		switch err := l.Validate(); {
		case err == nil:
			invalid = ""
		case invalid == "":
			invalid = file
		}
	}
	if err := l.Validate(); err != nil {
		return Loaded{}, fmt.Errorf("configuration %s: %w", invalid, err)
	}
	return l, nil
}

// filesOf lists the file at path, where it may be missing and is, and its drop-ins.
func filesOf(path string) ([]string, error) {
	files := []string{path}
	if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) && path == Path {
		files = nil
	}
	dir := filepath.Join(filepath.Dir(path), DropIns)
	entries, err := os.ReadDir(dir) // sorted
	if errors.Is(err, fs.ErrNotExist) {
		return files, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read the configuration: %w", err)
	}
	for _, e := range entries {
		file := filepath.Join(dir, e.Name())
		switch {
		case strings.HasPrefix(e.Name(), "."):
		case strings.HasSuffix(e.Name(), dropInSuffix):
			files = append(files, file)
		case strings.HasSuffix(e.Name(), ".yml"):
			return nil, fmt.Errorf("configuration %s: only files that end in %s are read here: rename it", file, dropInSuffix)
		}
	}
	return files, nil
}

// add decodes a file over what is there.
func (l *Loaded) add(file string, data []byte) error {
	if err := decode(data, &l.Config); err != nil {
		return err
	}
	var doc yaml.Node
	if err := yaml.Unmarshal(data, &doc); err != nil || len(doc.Content) == 0 {
		return err
	}
	l.note(file, "", doc.Content[0], reflect.TypeFor[Config]())
	return nil
}

// note takes down where the keys of a mapping are, down to those that are no section.
func (l *Loaded) note(file, prefix string, n *yaml.Node, section reflect.Type) {
	for i := 0; i+1 < len(n.Content); i += 2 {
		key, value := n.Content[i], n.Content[i+1]
		for f := range section.Fields() {
			if f.Tag.Get("yaml") != key.Value {
				continue
			}
			if isSection(f.Type) && value.Kind == yaml.MappingNode {
				l.note(file, prefix+key.Value+".", value, f.Type)
			} else {
				l.origins[prefix+key.Value] = Origin{file, key.Line}
			}
		}
	}
}

// isSection reports whether a key of that type has keys of its own.
func isSection(t reflect.Type) bool {
	if t.Kind() != reflect.Struct {
		return false
	}
	_, scalar := reflect.New(t).Interface().(yaml.Unmarshaler)
	return !scalar
}

// Value is one key of a configuration.
type Value struct {
	// Key is as "enforce.deadline".
	Key string
	// Node is its value as YAML. Secrets are not in it.
	Node *yaml.Node
	// Origin is where it was set, nil: nowhere, so that it has its default.
	Origin *Origin
	// Default is set where the value is the default, wherever it was set.
	Default bool
}

// Values lists all keys in the order of the installed file.
func (l *Loaded) Values() ([]Value, error) {
	defaults := Default()
	return l.values("", reflect.ValueOf(l.Config), reflect.ValueOf(defaults))
}

func (l *Loaded) values(prefix string, section, defaults reflect.Value) ([]Value, error) {
	var list []Value
	for i := range section.NumField() {
		name := section.Type().Field(i).Tag.Get("yaml")
		v, usual := section.Field(i), defaults.Field(i)
		if isSection(v.Type()) {
			inner, err := l.values(prefix+name+".", v, usual)
			if err != nil {
				return nil, err
			}
			list = append(list, inner...)
			continue
		}
		node := new(yaml.Node)
		if err := node.Encode(v.Interface()); err != nil {
			return nil, fmt.Errorf("configuration: %s: %w", prefix+name, err)
		}
		one := Value{Key: prefix + name, Node: node, Default: reflect.DeepEqual(v.Interface(), usual.Interface())}
		if o, ok := l.origins[one.Key]; ok {
			one.Origin = &o
		}
		list = append(list, one)
	}
	return list, nil
}
