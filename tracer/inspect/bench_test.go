package inspect

import (
	"os"
	"testing"
)

// BenchmarkLook looks at a dirty file system of some MiB of log.
func BenchmarkLook(b *testing.B) {
	for name, image := range map[string]string{"xfs": mounted(b, makeXFS(b, 512*mib), "", busy), "ext4": mounted(b, makeExt(b, "ext4", 512*mib), "", busy)} {
		f, err := os.Open(image)
		if err != nil {
			b.Fatal(err)
		}
		defer f.Close()
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			reads, bytes := 0, int64(0)
			for b.Loop() {
				r := Look(b.Context(), []Disk{{Name: name, Bytes: f, Size: 512 * mib}})
				reads, bytes = r[0].Reads, r[0].Bytes
			}
			b.ReportMetric(float64(reads), "reads/op")
			b.ReportMetric(float64(bytes), "read-B/op")
		})
	}
}
