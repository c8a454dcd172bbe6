package devmap

// Volume returns the logical volume that a path names if it is LVM's: by
// /dev/VG/LV, /dev/mapper/NAME or a link under /dev/disk that carries the name.
// Like Candidates it goes by the text alone; whether there is such a volume,
// only LVM knows.
func Volume(path string) (vg, lv string, ok bool) {
	for _, c := range Candidates(path) {
		if c.Name == "" {
			continue
		}
		vg, lv, layer, ok := SplitName(c.Name)
		if ok && layer == "" {
			return vg, lv, true
		}
	}
	return "", "", false
}
