package lvm

import (
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
)

// row is one line of a report, a text for each field.
type row map[string]string

type groupRow struct {
	missing  int64
	exported bool
	noAuto   bool
	lock     string
	tags     []string
}

type volumeRow struct {
	skip, noAuto bool
	pool, health string
	tags         []string
}

// parseReport reads what --reportformat json prints: reports, each with lists
// of rows by the kind of object.
func parseReport(printed []byte, object string) ([]row, error) {
	var doc struct {
		Report []map[string]json.RawMessage `json:"report"`
	}
	if err := json.Unmarshal(printed, &doc); err != nil {
		return nil, fmt.Errorf("LVM's report is not understood: %w", err)
	}
	var out []row
	for _, report := range doc.Report {
		raw, ok := report[object]
		if !ok {
			continue
		}
		var rows []map[string]any
		if err := json.Unmarshal(raw, &rows); err != nil {
			return nil, fmt.Errorf("LVM's report is not understood: %w", err)
		}
		for _, r := range rows {
			out = append(out, texts(r))
		}
	}
	return out, nil
}

// texts makes texts of all values: reportformat json has only these, json_std
// numbers and lists, too.
func texts(values map[string]any) row {
	out := make(row, len(values))
	for name, value := range values {
		if s, ok := value.(string); ok {
			out[name] = s
		} else {
			out[name] = fmt.Sprint(value)
		}
	}
	return out
}

func groupOf(r row) groupRow {
	missing, _ := strconv.ParseInt(r["vg_missing_pv_count"], 10, 32)
	return groupRow{
		missing: max(missing, 0), exported: r["vg_exported"] != "", lock: r["vg_lock_type"],
		noAuto: off(r, "vg_autoactivation"), tags: list(r["vg_tags"]),
	}
}

func volumeOf(r row) volumeRow {
	return volumeRow{
		skip: r["lv_skip_activation"] != "", noAuto: off(r, "lv_autoactivation"),
		pool: r["pool_lv"], health: r["lv_health_status"], tags: list(r["lv_tags"]),
	}
}

// off reports whether a property of two values is off: LVM prints its name, or
// nothing. An LVM that does not know the field has it on.
func off(r row, field string) bool {
	value, asked := r[field]
	return asked && value == ""
}

func list(s string) []string {
	if s == "" {
		return nil
	}
	return strings.Split(s, ",")
}

// settings are those that decide about activation.
var settings = map[string]bool{
	"global/event_activation":                true,
	"global/use_lvmlockd":                    true,
	"activation/auto_activation_volume_list": true,
	"activation/volume_list":                 true,
	"devices/use_devicesfile":                true,
	"devices/filter":                         true,
	"devices/global_filter":                  true,
}

// parseConfig reads what lvmconfig prints: sections in braces, a line a
// setting.
func parseConfig(printed []byte) map[string]string {
	out := map[string]string{}
	var section []string
	for line := range strings.Lines(string(printed)) {
		line = strings.TrimSpace(line)
		name, value, assigned := strings.Cut(line, "=")
		switch {
		case strings.HasPrefix(line, "#"):
		case assigned:
			key := strings.Join(append(section[:len(section):len(section)], strings.TrimSpace(name)), "/")
			if settings[key] {
				out[key] = strings.TrimSpace(value)
			}
		case strings.HasSuffix(line, "{"):
			section = append(section, strings.TrimSpace(strings.TrimSuffix(line, "{")))
		case line == "}" && len(section) > 0:
			section = section[:len(section)-1]
		}
	}
	return out
}
