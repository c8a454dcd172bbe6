package devmap

import (
	"bufio"
	"os"
	"path"
	"path/filepath"
	"strconv"
	"strings"
)

// Registered reports whether the kernel behind root, "/" as a rule, has
// device-mapper now.
func Registered(root string) bool {
	ok, err := registered(filepath.Join(root, "proc/misc"))
	return err == nil && ok
}

// Major returns the major number of all mappings, which device-mapper gets when it is
// loaded (/proc/devices, behind root); 0 where it is not.
func Major(root string) uint32 {
	text, err := os.ReadFile(filepath.Join(root, "proc/devices"))
	if err != nil {
		return 0
	}
	_, blocks, _ := strings.Cut(string(text), "Block devices:")
	for line := range strings.Lines(blocks) {
		number, name, _ := strings.Cut(strings.TrimSpace(line), " ")
		if major, err := strconv.ParseUint(number, 10, 32); err == nil && name == "device-mapper" {
			return uint32(major)
		}
	}
	return 0
}

// noModule reports whether sysfs says that there is no dm_mod. It takes no more than two
// lookups: who waits for mappings asks for each of them, as long as there are none.
func noModule() bool {
	if ModuleLoaded() {
		return false
	}
	_, err := os.Stat("/sys/module") // else sysfs is not mounted
	return err == nil
}

// ModuleLoaded reports whether dm_mod and its functions are in the running kernel: as a
// module that is loaded, or built in, which sysfs shows in the same place.
func ModuleLoaded() bool {
	_, err := os.Stat("/sys/module/dm_mod")
	return err == nil
}

// Available reports whether kernel release can get device-mapper: it is built
// in, or a module that modprobe would find. A host without any list of modules
// gets the benefit of the doubt.
func Available(root, release string) bool {
	modules := filepath.Join(root, "lib/modules", release)
	read := 0
	for _, list := range []string{"modules.builtin", "modules.dep"} {
		found, err := lists(filepath.Join(modules, list))
		if found {
			return true
		}
		if err == nil {
			read++
		}
	}
	return read == 0 && hasModules(root)
}

// hasModules reports whether the kernel can load modules at all.
func hasModules(root string) bool {
	_, err := os.Stat(filepath.Join(root, "proc/modules"))
	return err == nil
}

// lists reports whether a list of modules names dm-mod: a line begins with the
// module's path, compressed or not.
func lists(file string) (bool, error) {
	f, err := os.Open(file)
	if err != nil {
		return false, err
	}
	defer f.Close()
	lines := bufio.NewScanner(f)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		name, _, _ := strings.Cut(lines.Text(), ":")
		if strings.HasPrefix(path.Base(name), "dm-mod.ko") {
			return true, nil
		}
	}
	return false, lines.Err()
}
