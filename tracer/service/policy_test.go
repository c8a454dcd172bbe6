package service

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/bootrace/bootrace/tracer/config"
)

func TestStartPolicy(t *testing.T) {
	for _, tc := range []struct {
		name, uuid, config string
		want               StartPolicy
	}{
		{"web", "", "mode: trace\nenforce: {on-timeout: deny}\n", StartPolicy{}},
		{"web", "", "mode: enforce\nenforce: {deadline: 20s}\n", StartPolicy{Enforce: true, Deadline: 20 * time.Second}},
		{"web", "", "mode: enforce\nenforce: {deadline: 20s, guests: [{name: w*, on-timeout: deny}]}\n",
			StartPolicy{Enforce: true, Deadline: 20 * time.Second, Deny: true}},
		{"web", "3AAD3B6B-DDF8-474A-8906-06D83EF318CB", "mode: enforce\nenforce: {guests: [{uuid: 3aad*, deadline: 0s}]}\n", StartPolicy{Enforce: true}},
	} {
		cfg, err := config.Parse([]byte(tc.config))
		if err != nil {
			t.Fatal(err)
		}
		s := &Service{}
		s.cfg.Store(&cfg)
		if diff := cmp.Diff(tc.want, s.startPolicy(tc.name, tc.uuid)); diff != "" {
			t.Errorf("%s: %s", tc.config, diff)
		}
	}
}
