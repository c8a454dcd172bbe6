package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"maps"
	"os"
	"path"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	generator "github.com/invopop/jsonschema"
	"github.com/santhosh-tekuri/jsonschema/v6"

	jsonexport "github.com/bootrace/bootrace/exporters/json"
	"github.com/bootrace/bootrace/tracer/check"
	"github.com/bootrace/bootrace/tracer/diff"
	"github.com/bootrace/bootrace/tracer/image"
	"github.com/bootrace/bootrace/tracer/timeline"
	"github.com/bootrace/bootrace/tracer/timeline/histories"
	"github.com/bootrace/bootrace/tracer/twin/rehearse"
)

var update = flag.Bool("update", false, "write the JSON Schema of the commands' output")

const (
	root       = "../.."
	schemaFile = root + "/exporters/json/schema.json"
	schemaURL  = "schema.json"
)

// documents are the types of what the commands print, by the command. What
// export writes with --format json is what show prints.
var documents = map[string]reflect.Type{
	"accept":   reflect.TypeFor[acceptJSON](),
	"boots":    reflect.TypeFor[bootList](),
	"check":    reflect.TypeFor[check.Report](),
	"config":   reflect.TypeFor[configJSON](),
	"diff":     reflect.TypeFor[diff.Diff](),
	"explain":  reflect.TypeFor[explained](),
	"inspect":  reflect.TypeFor[inspectedJSON](),
	"races":    reflect.TypeFor[racesJSON](),
	"rehearse": reflect.TypeFor[rehearse.Result](),
	"release":  reflect.TypeFor[releaseJSON](),
	"show":     reflect.TypeFor[timeline.Timeline](),
	"status":   reflect.TypeFor[fullStatus](),
	"wait":     reflect.TypeFor[waited](),
}

// TestSchema checks that the committed schema is what the types say.
func TestSchema(t *testing.T) {
	got, err := makeSchema()
	if err != nil {
		t.Fatal(err)
	}
	if *update {
		if err := os.WriteFile(schemaFile, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(schemaFile)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), string(got)); diff != "" {
		t.Errorf("%s is not what the types say: go test ./cmd/bootrace -run TestSchema -update, and raise FormatVersion "+
			"if a field went or means something else (-committed +types):\n%s", schemaFile, diff)
	}
}

// makeSchema makes the schema of all documents.
func makeSchema() ([]byte, error) {
	r := &generator.Reflector{Anonymous: true, Namer: typeName, Mapper: enumerated}
	if err := addComments(r); err != nil {
		return nil, err
	}
	all := &generator.Schema{
		Version: generator.Version, Title: "What bootrace prints for programs",
		Description: "The document of each command is in $defs, by the command's name. Every name that ends in _ns is nanoseconds; " +
			"an instant counts from the boot (CLOCK_BOOTTIME), everything else is a duration. " +
			"Descriptions are the comments of bootrace's Go types, and call the fields as these do.",
		Definitions: generator.Definitions{},
	}
	for _, command := range slices.Sorted(maps.Keys(documents)) {
		t := documents[command]
		s := r.ReflectFromType(t)
		maps.Copy(all.Definitions, s.Definitions)
		mend(all.Definitions, t, map[reflect.Type]bool{})
		// Each is an object of its own, with the version before its fields.
		doc := *all.Definitions[typeName(t)]
		doc.Properties = generator.NewProperties()
		doc.Properties.Set("format_version", &generator.Schema{Const: jsonexport.FormatVersion})
		for p := range all.Definitions[typeName(t)].Properties.FromOldest() {
			s, _ := all.Definitions[typeName(t)].Properties.Get(p)
			doc.Properties.Set(p, s)
		}
		doc.Required = append([]string{"format_version"}, doc.Required...)
		all.Definitions[command] = &doc
		all.AnyOf = append(all.AnyOf, &generator.Schema{Ref: "#/$defs/" + command})
	}
	for _, t := range documents {
		delete(all.Definitions, typeName(t))
	}
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	e.SetIndent("", " ")
	if err := e.Encode(all); err != nil {
		return nil, err
	}
	return b.Bytes(), nil
}

// typeName is what a type is called in $defs, empty for those that need no name.
func typeName(t reflect.Type) string {
	if t.Kind() != reflect.Struct || t.Name() == "" || t == reflect.TypeFor[time.Time]() {
		return ""
	}
	return path.Base(t.PkgPath()) + "." + t.Name()
}

// enumerated gives the types that have few values those values.
func enumerated(t reflect.Type) *generator.Schema {
	values := map[reflect.Type][]any{
		reflect.TypeFor[rehearse.Prediction](): {rehearse.InTime, rehearse.Race, rehearse.Never, rehearse.Held, rehearse.NotKnown},
		reflect.TypeFor[timeline.Outcome]():    {timeline.OutcomeFailed, timeline.OutcomeAtRisk, timeline.OutcomeFine, timeline.OutcomeUnknown},
		reflect.TypeFor[check.Grade]():         {check.Good, check.Warning, check.Bad},
	}[t]
	if values == nil {
		return nil
	}
	return &generator.Schema{Type: "string", Enum: values}
}

// addComments takes the descriptions from the comments of the packages that have
// the types.
func addComments(r *generator.Reflector) error {
	const module = "github.com/bootrace/bootrace"
	before, err := os.Getwd()
	if err != nil {
		return err
	}
	if err := os.Chdir(root); err != nil { // the paths become the packages' names
		return err
	}
	err = errors.Join(
		r.AddGoComments(module, "tracer", generator.WithFullComment()),
		r.AddGoComments(module, "exporters/delivery", generator.WithFullComment()),
		r.AddGoComments(module, "cmd/bootrace", generator.WithFullComment()))
	return errors.Join(err, os.Chdir(before))
}

// mend says what the generator leaves out: what can be null, and that the fields
// of an embedded pointer need not be there.
func mend(defs generator.Definitions, t reflect.Type, seen map[reflect.Type]bool) {
	switch t.Kind() {
	case reflect.Pointer, reflect.Slice, reflect.Array, reflect.Map:
		mend(defs, t.Elem(), seen)
		return
	case reflect.Struct:
	default:
		return
	}
	if seen[t] || typeName(t) == "" {
		return
	}
	seen[t] = true
	mendFields(defs, t, defs[typeName(t)], seen)
}

func mendFields(defs generator.Definitions, t reflect.Type, s *generator.Schema, seen map[reflect.Type]bool) {
	for f := range t.Fields() {
		name, options, _ := strings.Cut(f.Tag.Get("json"), ",")
		switch {
		case name == "-":
		case f.Anonymous && name == "":
			inner := f.Type
			if inner.Kind() == reflect.Pointer {
				inner = inner.Elem()
				for g := range inner.Fields() {
					name, _, _ := strings.Cut(g.Tag.Get("json"), ",")
					s.Required = slices.DeleteFunc(s.Required, func(r string) bool { return r == name })
				}
			}
			mendFields(defs, inner, s, seen)
		default:
			mend(defs, f.Type, seen)
			p, _ := s.Properties.Get(name)
			if p != nil && f.Type == reflect.TypeFor[[]*image.Chain]() { // null for a disk without
				p.Items = orNull(p.Items)
			}
			if p == nil || strings.Contains(options, "omit") {
				continue
			}
			switch f.Type.Kind() {
			case reflect.Pointer, reflect.Slice, reflect.Map:
				s.Properties.Set(name, orNull(p))
			}
		}
	}
}

func orNull(s *generator.Schema) *generator.Schema {
	inner := *s
	inner.Description = ""
	return &generator.Schema{Description: s.Description, AnyOf: []*generator.Schema{&inner, {Type: "null"}}}
}

// schemas are the compiled schemas, by command.
var schemas = sync.OnceValues(func() (map[string]*jsonschema.Schema, error) {
	text, err := os.ReadFile(schemaFile)
	if err != nil {
		return nil, err
	}
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(text))
	if err != nil {
		return nil, err
	}
	c := jsonschema.NewCompiler()
	if err := c.AddResource(schemaURL, doc); err != nil {
		return nil, err
	}
	out := map[string]*jsonschema.Schema{}
	for command := range documents {
		if out[command], err = c.Compile(schemaURL + "#/$defs/" + command); err != nil {
			return nil, err
		}
	}
	return out, nil
})

// validate holds what a command printed against its schema.
func validate(command string, text []byte) error {
	all, err := schemas()
	if err != nil {
		return err
	}
	s, ok := all[command]
	if !ok {
		return fmt.Errorf("the schema does not know what %s prints", command)
	}
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(text))
	if err != nil {
		return err
	}
	return s.Validate(doc)
}

// Timelines of all kinds are as the schema says: those that the other exporters
// are tested with, and those of the boots that were written down.
func TestTimelinesAreValid(t *testing.T) {
	timelines, err := filepath.Glob(root + "/exporters/text/testdata/*.json")
	if err != nil || len(timelines) == 0 {
		t.Fatalf("no timelines: %v", err)
	}
	for _, file := range timelines {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		tl := new(timeline.Timeline)
		if err := json.Unmarshal(text, tl); err != nil {
			t.Fatal(err)
		}
		checkTimeline(t, file, tl)
	}
	boots, err := filepath.Glob(root + "/tracer/timeline/testdata/*.txtar")
	if err != nil || len(boots) == 0 {
		t.Fatalf("no histories: %v", err)
	}
	for _, file := range boots {
		h, err := histories.Load(file)
		if err != nil {
			t.Fatal(err)
		}
		boot := timeline.Boot{ID: "history", Current: true}
		tl := timeline.Build(boot, timeline.Options{}, slices.Values(h.Events))
		checkTimeline(t, file, tl)
		checkDocument(t, file, "diff", diff.Compare(tl, tl))
	}
}

func checkTimeline(t *testing.T, name string, tl *timeline.Timeline) {
	t.Helper()
	checkDocument(t, name, "show", tl)
	checkDocument(t, name, "races", racesJSON{tl.BootID, tl.Complete, tl.CompleteFrom, tl.Incomplete, tl.Findings, tl.Verdicts})
}

func checkDocument[T any](t *testing.T, name, command string, doc T) {
	t.Helper()
	var b bytes.Buffer
	if err := writeJSON(&b, doc); err != nil {
		t.Fatal(err)
	}
	if err := validate(command, b.Bytes()); err != nil {
		t.Errorf("%s, as %s prints it: %v", name, command, err)
	}
}

// Every field of every document has a place in the schema, also those that no
// test of a command fills in.
func TestFullDocumentsAreValid(t *testing.T) {
	for command, typ := range documents {
		doc := reflect.New(typ).Elem()
		fill(doc, 0)
		text, err := json.Marshal(doc.Interface())
		if err != nil {
			t.Fatal(err)
		}
		text = fmt.Appendf(nil, `{"format_version": %d, %s`, jsonexport.FormatVersion, text[1:])
		if err := validate(command, text); err != nil {
			t.Errorf("%s, all fields: %v", command, err)
		}
		if err := validate(command, bytes.Replace(text, []byte(`{`), []byte(`{"later": 1, `), 1)); err == nil {
			t.Errorf("%s: a field that the schema does not have is valid", command)
		}
		if err := validate(command, []byte(`{}`)); err == nil {
			t.Errorf("%s: an empty document is valid", command)
		}
	}
}

// fill sets everything in v to something that is not empty.
func fill(v reflect.Value, depth int) {
	const deepest = 12
	switch v.Kind() {
	case reflect.Pointer:
		if depth < deepest {
			v.Set(reflect.New(v.Type().Elem()))
			fill(v.Elem(), depth+1)
		}
	case reflect.Slice:
		if depth < deepest {
			v.Set(reflect.MakeSlice(v.Type(), 1, 1))
			fill(v.Index(0), depth+1)
		}
	case reflect.Map:
		key, value := reflect.New(v.Type().Key()).Elem(), reflect.New(v.Type().Elem()).Elem()
		fill(key, depth+1)
		fill(value, depth+1)
		v.Set(reflect.MakeMap(v.Type()))
		v.SetMapIndex(key, value)
	case reflect.Struct:
		if v.Type() == reflect.TypeFor[time.Time]() {
			v.Set(reflect.ValueOf(time.Unix(1, 0)))
			return
		}
		for i := range v.NumField() {
			if v.Field(i).CanSet() {
				fill(v.Field(i), depth+1)
			}
		}
	case reflect.String:
		text := "text"
		if s := enumerated(v.Type()); s != nil {
			text = fmt.Sprint(s.Enum[0])
		}
		v.SetString(text)
	case reflect.Bool:
		v.SetBool(true)
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		v.SetInt(1)
	case reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		v.SetUint(1)
	case reflect.Float32, reflect.Float64:
		v.SetFloat(1)
	}
}

// printed holds the JSON that a command printed, if it did, against the schema.
// args are the command line, with bootrace in it.
func printed(args []string, stdout string) error {
	i := slices.Index(args, "bootrace")
	if i < 0 || i+1 == len(args) || !slices.ContainsFunc(args, func(a string) bool { return a == "json" || a == "--json" || strings.HasSuffix(a, "=json") }) {
		return nil
	}
	if !strings.HasPrefix(stdout, "{") {
		return nil // it failed, or wrote to a file
	}
	command := args[i+1]
	if command == "export" {
		command = "show"
	}
	return validate(command, []byte(stdout))
}
