// Package timelinetest finds what is forgotten by code that goes through the fields of a
// type one by one: a field that is new is added there by hand, and nothing fails without.
package timelinetest

import (
	"reflect"
	"slices"
	"testing"
)

// CheckIgnored fails t unless those fields of T on which result does not depend are the
// ones listed, each by its name. A field counts as one on which it does not depend where
// a T in which nothing else is set gives the same result as an empty one; all that the
// field points to or consists of is set, too. what names the code under test.
func CheckIgnored[T any](t testing.TB, what string, result func(*T) any, listed ...string) {
	t.Helper()
	var empty T
	without := result(&empty)
	fields := reflect.TypeFor[T]()
	for i := range fields.NumField() {
		name := fields.Field(i).Name
		var one T
		fill(reflect.ValueOf(&one).Elem().Field(i))
		switch ignored := reflect.DeepEqual(result(&one), without); {
		case ignored && !slices.Contains(listed, name):
			t.Errorf("%s does not look at %s.%s: add it there, or to the list in this test with the reason why not", what, fields.Name(), name)
		case !ignored && slices.Contains(listed, name):
			t.Errorf("%s looks at %s.%s: take it off the list in this test", what, fields.Name(), name)
		}
	}
	for _, name := range listed {
		if _, ok := fields.FieldByName(name); !ok {
			t.Errorf("%s has no field %s any more: take it off the list in this test", fields.Name(), name)
		}
	}
}

// fill sets everything under v to what differs from its zero value.
func fill(v reflect.Value) {
	switch v.Kind() {
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		fill(v.Elem())
	case reflect.Struct:
		for i := range v.NumField() {
			fill(v.Field(i))
		}
	case reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), 1, 1))
		fill(v.Index(0))
	case reflect.String:
		v.SetString("x")
	case reflect.Bool:
		v.SetBool(true)
	case reflect.Int, reflect.Int64:
		v.SetInt(1)
	case reflect.Uint32, reflect.Uint64:
		v.SetUint(1)
	default:
		panic("fill knows no " + v.Type().String())
	}
}
