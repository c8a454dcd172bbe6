package devmap

import "testing"

func TestVolume(t *testing.T) {
	tests := []struct{ path, vg, lv string }{
		{"/dev/vg0/web-a", "vg0", "web-a"},
		{"/dev/vg-data/web-a", "vg-data", "web-a"},
		{"/dev/mapper/vg0-web--a", "vg0", "web-a"},
		{"/dev/disk/by-id/dm-name-vg0-web--a", "vg0", "web-a"},
		{"/dev/mapper/vg0-pool-tpool", "", ""}, // a layer, which no guest opens
		{"/dev/mapper/dm_1", "", ""},
		{"/dev/dm-3", "", ""},
		{"/dev/sda", "", ""},
		{"/dev/net/tun", "", ""},
		{"disk.qcow2", "", ""},
	}
	for _, tt := range tests {
		vg, lv, ok := Volume(tt.path)
		if vg != tt.vg || lv != tt.lv || ok != (tt.vg != "") {
			t.Errorf("%s: got %q %q %v, want %q %q", tt.path, vg, lv, ok, tt.vg, tt.lv)
		}
	}
}
