package guest

import (
	"errors"
	"fmt"
	"strings"
)

// Bounds on -readconfig.
const (
	maxConfigs     = 16      // files
	maxConfigLines = 1 << 15 // of one file
)

// readConfig takes in the file of a -readconfig.
func (s *scan) readConfig(path string) {
	data, err := s.configFile(path)
	if err != nil {
		s.unreadConfig(path, err.Error())
		return
	}
	if len(data) > MaxFile {
		data = data[:MaxFile]
		s.unreadConfig(path, fmt.Sprintf("longer than %d bytes, the rest is ignored", MaxFile))
	}
	s.config(path, string(data))
}

// unreadConfig notes that there may be disks in a file, and why they are not
// known.
func (s *scan) unreadConfig(path, why string) {
	s.unread = true
	s.problem("-readconfig "+path, why)
	s.unknown("-readconfig " + cut(path) + ": " + why)
}

func (s *scan) configFile(path string) ([]byte, error) {
	s.counts["-readconfig"]++
	switch {
	case s.readFile == nil:
		return nil, errors.New("the file was not read")
	case s.counts["-readconfig"] > maxConfigs:
		return nil, fmt.Errorf("more than %d such files", maxConfigs)
	}
	return s.readFile(path)
}

// config reads qemu's config format (qemu_config_do_parse in
// util/qemu-config.c): groups [drive "id"] or [machine], and lines
// key = "value" below them, without any escapes. A group says what the option
// of the same name does.
func (s *scan) config(path, text string) {
	var group string
	var options strings.Builder
	lines := 0
	for line := range strings.Lines(text) {
		if lines++; lines > maxConfigLines {
			s.unreadConfig(path, fmt.Sprintf("more than %d lines, the rest is ignored", maxConfigLines))
			break
		}
		line = strings.TrimRight(line, "\r\n")
		if name, id, ok := configGroup(line); ok {
			s.configOption(group, options.String())
			group = name
			options.Reset()
			options.WriteString(id)
			continue
		}
		key, val, ok := configLine(line)
		if !ok {
			if t := strings.TrimSpace(line); t != "" && t[0] != '#' {
				s.problem("-readconfig "+path, fmt.Sprintf("line %d is neither a group nor key = \"value\"", lines))
			}
			continue
		}
		options.WriteString("," + key + "=" + strings.ReplaceAll(val, ",", ",,"))
	}
	s.configOption(group, options.String())
}

// configOption hands a group on as the option that it stands for.
func (s *scan) configOption(group, options string) {
	kind, known := optionKinds[group]
	if !known || kind != argOpts {
		// Groups such as [memory] and [boot-opts] have another name as options;
		// none of them is about disks.
		return
	}
	options = redactOption(group, argOpts, strings.TrimPrefix(options, ","))
	s.option(argument{name: group, kind: kind, value: options})
}

func configGroup(line string) (name, id string, ok bool) {
	inner, ok := strings.CutPrefix(line, "[")
	if !ok {
		return "", "", false
	}
	inner, _, ok = strings.Cut(inner, "]")
	name, rest, quoted := strings.Cut(inner, " ")
	if quoted {
		id = ",id=" + strings.ReplaceAll(strings.Trim(rest, `" `), ",", ",,")
	}
	return name, id, ok
}

func configLine(line string) (key, val string, ok bool) {
	key, val, ok = strings.Cut(line, "=")
	key, val = strings.TrimSpace(key), strings.TrimSpace(val)
	if !ok || key == "" || key[0] == '#' || len(val) < 2 || val[0] != '"' {
		return "", "", false
	}
	val, _, ok = strings.Cut(val[1:], `"`)
	return key, val, ok
}
