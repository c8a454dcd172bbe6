package lab

import (
	"slices"
	"testing"

	"github.com/bootrace/bootrace/kernels"
)

func TestParseArchives(t *testing.T) {
	tests := map[string]struct {
		targets string
		want    archives
	}{
		"nothing": {"", archives{}},
		"a Debian machine": {`Debian bookworm main http://mirror.example/debian/
Debian bookworm contrib http://contrib.example/debian/
Debian bookworm-updates main http://mirror.example/debian/
Debian bookworm-security main http://mirror.example/debian-security/
Others nodistro main https://packages.example/
`, archives{"http://mirror.example/debian/", "http://mirror.example/debian-security/"}},
		"backports alone are no archive": {"Debian trixie-backports main http://mirror.example/debian/\n", archives{}},
		"never updated":                  {"$(ORIGIN) bookworm main http://mirror.example/debian/\n", archives{}},
		"another distribution":           {"Ubuntu noble main http://mirror.example/ubuntu/\n", archives{}},
		"the first counts":               {"Debian sid main http://a.example/\nDebian bookworm main http://b.example/\n", archives{main: "http://a.example/"}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			if got := parseArchives(tt.targets); got != tt.want {
				t.Errorf("got %+v, want %+v", got, tt.want)
			}
		})
	}
}

func FuzzParseArchives(f *testing.F) {
	f.Add("Debian bookworm main http://mirror.example/debian/\n")
	f.Fuzz(func(t *testing.T, targets string) {
		if a := parseArchives(targets); a.main == "" && a.security == "" {
			return
		} else if list := sourceList(a, baseRecipe{Userland: kernels.Userland}); list == "" {
			t.Error("no sources")
		}
	})
}

func TestSourceList(t *testing.T) {
	const userland = `deb http://a.example/debian/ bookworm main
deb http://a.example/debian/ bookworm-updates main
deb http://a.example/security/ bookworm-security main
`
	for suite, want := range map[string]string{
		"bookworm": userland,
		"sid":      userland + "deb [check-valid-until=no] http://a.example/debian/ sid main\n",
	} {
		r := baseRecipe{Userland: "bookworm", Kernel: kernelPackage{Suite: suite}}
		if got := sourceList(archives{"http://a.example/debian/", "http://a.example/security/"}, r); got != want {
			t.Errorf("kernel of %s: got:\n%s\nwant:\n%s", suite, got, want)
		}
	}
}

func TestChoose(t *testing.T) {
	usual := []string{"udev", "initramfs-tools", "strace"}
	for _, tt := range []struct{ wanted, want []string }{
		{nil, usual},
		{[]string{"libvirt-clients"}, []string{"udev", "initramfs-tools", "strace", "libvirt-clients"}},
		{[]string{"dracut", "initramfs-tools-"}, []string{"udev", "strace", "dracut"}},
	} {
		if got := choose(usual, tt.wanted); !slices.Equal(got, tt.want) {
			t.Errorf("%v: got %v, want %v", tt.wanted, got, tt.want)
		}
	}
	if len(usual) != 3 || usual[1] != "initramfs-tools" {
		t.Errorf("the usual ones were changed: %v", usual)
	}
}
