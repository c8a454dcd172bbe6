package ebpf

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"runtime"
	"slices"
	"unsafe"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/btf"
	"github.com/cilium/ebpf/features"
	"golang.org/x/sys/unix"

	"github.com/bootrace/bootrace/bpf"
	"github.com/bootrace/bootrace/tracer/probe/backend"
	"github.com/bootrace/bootrace/tracer/probe/ktypes"
)

// programs loads the eBPF programs that are attached, and no others: the
// verifier takes milliseconds for each.
type programs struct {
	spec   *ebpf.CollectionSpec
	coll   *ebpf.Collection // the maps
	types  *btf.Spec        // of the kernel, to relocate accesses to fields
	loaded map[string]*ebpf.Program
	// targets are the functions that this kernel has of those that programs are
	// for, and why it has no other.
	targets   map[string]ktypes.Function
	noTargets map[string]error
	// trampolines says whether this kernel has trampolines that can be removed,
	// and returnStacks whether each task has room of its own for the returns that
	// multi-kprobes are to see.
	trampolines, returnStacks bool
	// faultable says whether programs of system calls' tracepoints can be
	// preempted.
	faultable bool
	ringLock  string // the type of a ring buffer's lock, empty if not known
	// uncounted says that the kernel does not count the programs of perf's
	// tracepoints and of kprobes that it skips.
	uncounted bool
	// taskStorage says whether calls are kept with the tasks that make them.
	taskStorage bool
}

// loadMaps reads the kernel's types and makes the maps.
//
// preempts says whether the kernel preempts itself, choice whether calls may be kept
// with their tasks.
func loadMaps(spec *ebpf.CollectionSpec, preempts, choice bool, log *slog.Logger) (*programs, error) {
	p := &programs{
		spec:      spec,
		loaded:    make(map[string]*ebpf.Program),
		targets:   make(map[string]ktypes.Function),
		noTargets: make(map[string]error),
		faultable: true, // as long as nothing says otherwise
	}
	if err := p.readTypes(); err != nil {
		log.Debug("read few of the kernel's types, now reading all", "err", err)
		if p.types, err = btf.LoadKernelSpec(); err != nil {
			return nil, fmt.Errorf("read the kernel's types: %w", err)
		}
	}
	if err := checkRing(p.ringLock, kernelVersion()); err != nil {
		return nil, err
	}
	if err := p.setSignatures(); err != nil {
		return nil, err
	}
	p.taskStorage = choice && !realTime(kernelVersion()) && (!preempts || !p.uncounted) && hasTaskStorage()
	if err := p.setCalls(); err != nil {
		return nil, err
	}
	maps := spec.Copy()
	maps.Programs = nil
	var err error
	if p.coll, err = ebpf.NewCollection(maps); err != nil {
		return nil, explain("make maps", err)
	}
	if err := p.coll.Maps[bpf.ProbesMapOwners].Put(bpf.OwnerRest, bpf.Owner{}); err != nil {
		p.coll.Close()
		return nil, fmt.Errorf("make room for all further users: %w", err)
	}
	return p, nil
}

// hasTaskStorage reports whether the kernel can keep something with a task, for
// programs that trace. That came later than for those of security modules, which
// have it since Linux 5.11.
func hasTaskStorage() bool {
	return features.HaveMapType(ebpf.TaskStorage) == nil &&
		features.HaveProgramHelper(ebpf.Kprobe, asm.FnTaskStorageGet) == nil
}

// setCalls tells the programs where to keep calls that are under way, and makes the
// map that they don't use a small one, of a type that every kernel has.
//
// With the task that makes them, where the kernel can do that. Not where it is
// real-time: it allocates memory for that, which may sleep there. And not where a
// kernel that preempts itself finds nothing for a task while another one, which had
// the processor before, is looking for its own: until Linux 6.2 ("bpf: Avoid taking
// spinlock in bpf_task_storage_get if potential deadlock is detected"). Those have
// programs.uncounted.
func (p *programs) setCalls() error {
	if err := p.spec.Variables[bpf.ProbesVarTaskStorage].Set(p.taskStorage); err != nil {
		return fmt.Errorf("set %s: %w", bpf.ProbesVarTaskStorage, err)
	}
	if p.taskStorage {
		p.spec.Maps[bpf.ProbesMapCalls].MaxEntries = 1
		return nil
	}
	unused := p.spec.Maps[bpf.ProbesMapTaskCalls]
	unused.Type, unused.Flags, unused.MaxEntries = ebpf.Hash, 0, 1
	return nil
}

func (p *programs) readTypes() error {
	kernel, err := ktypes.ReadKernel(p.spec.Types, kernelTypes()...)
	if err != nil {
		return err
	}
	return errors.Join(p.learn(kernel), kernel.Close())
}

// kernelTypes are the names of what learn asks for.
func kernelTypes() []string {
	names := []string{trampolineImage, fprobeList, callFaultable, ringBuffer, linkInfo}
	for _, f := range functions {
		names = append(names, f.names...)
	}
	return names
}

// learn takes from the kernel's types what there is to know.
func (p *programs) learn(kernel *ktypes.Types) (err error) {
	if p.types, err = kernel.Spec(); err != nil {
		return err
	}
	p.ringLock, _ = kernel.Member(ringBuffer, "spinlock")
	_, counts := kernel.Member(linkInfo, "kprobe_multi", "missed")
	p.uncounted = !counts
	p.trampolines, p.returnStacks = kernel.Has(trampolineImage), kernel.Has(fprobeList)
	p.faultable = kernel.Has(callFaultable)
	for name := range functions {
		if f, err := findTarget(kernel, name); err != nil {
			p.noTargets[name] = err
		} else {
			p.targets[name] = f
		}
	}
	return nil
}

// load returns a program, which is loaded the first time.
func (p *programs) load(name string) (*ebpf.Program, error) {
	if loaded := p.loaded[name]; loaded != nil {
		return loaded, nil
	}
	spec := p.spec.Programs[name].Copy()
	for i := range spec.Instructions {
		ins := &spec.Instructions[i]
		if !ins.IsLoadFromMap() || ins.Reference() == "" {
			continue
		}
		m := p.coll.Maps[ins.Reference()]
		if m == nil {
			return nil, fmt.Errorf("load program %s: there is no map %s", name, ins.Reference())
		}
		if err := ins.AssociateMap(m); err != nil {
			return nil, fmt.Errorf("load program %s: %w", name, err)
		}
	}
	loaded, err := p.loadSpec(spec)
	if err != nil {
		return nil, explain("load program "+name, err)
	}
	p.loaded[name] = loaded
	return loaded, nil
}

func (p *programs) loadSpec(spec *ebpf.ProgramSpec) (*ebpf.Program, error) {
	_, known := functions[spec.AttachTo]
	target, err := p.target(spec.AttachTo)
	switch {
	case known && err != nil:
		return nil, err
	case spec.AttachType == ebpf.AttachTraceKprobeMulti && !p.returnStacks:
		return nil, fmt.Errorf("%w: returns that take no common room need Linux 6.14", backend.ErrNotSupported)
	case spec.Type != ebpf.Tracing:
		return ebpf.NewProgramWithOptions(spec, ebpf.ProgramOptions{KernelTypes: p.types})
	case !p.trampolines:
		return nil, fmt.Errorf("%w: fexit programs need Linux 5.12", backend.ErrNotSupported)
	}
	return loadTrampoline(spec, p.types, target.ID)
}

// drop frees programs that could not be attached.
func (p *programs) drop(names ...string) error {
	var errs []error
	for _, name := range names {
		if loaded := p.loaded[name]; loaded != nil {
			errs = append(errs, loaded.Close())
			delete(p.loaded, name)
		}
	}
	return errors.Join(errs...)
}

// close frees the programs and the maps.
func (p *programs) close() error {
	var errs []error
	for _, loaded := range p.loaded {
		errs = append(errs, loaded.Close())
	}
	p.coll.Close()
	return errors.Join(errs...)
}

// trampolineImage is a struct of kernels whose trampolines can be changed and
// removed while a process sleeps in the function: since Linux 5.12,
// e21aa341785c ("bpf: Fix fexit trampoline."). Without it, that process returns
// to freed memory.
const trampolineImage = "bpf_tramp_image"

// fprobeList is a struct of kernels that keep the return address of a function
// that a multi-kprobe watches on a stack of the task's own: since Linux 6.14,
// 4346ba160409 ("fprobe: Rewrite fprobe on function-graph tracer"). Before, they
// had room for twice as many calls as there are processors.
const fprobeList = "fprobe_hlist"

// callFaultable is the function of kernels that run the programs of system calls'
// tracepoints so that they may sleep, and can be preempted. Other kernels run
// them, as all programs of perf's tracepoints and of kprobes, without preemption
// (trace_call_bpf).
const callFaultable = "trace_call_bpf_faultable"

// linkInfo is a struct that tells how often the kernel had no room for a
// multi-kprobe, since Linux 6.7, e2b2cd592adb ("bpf: Add missed value to
// kprobe_multi link info"). With that came dd8657894c11 ("bpf: Count missed stats in
// trace_call_bpf").
const linkInfo = "bpf_link_info"

// ringBuffer is the struct of eBPF's ring buffers.
const ringBuffer = "bpf_ringbuf"

// checkRing refuses a kernel whose ring buffer has a lock that sleeps, as
// spinlock_t does where the kernel is real-time: tracepoints and kprobes run
// programs without preemption. Since Linux 6.12, 8b62645b09f8 ("bpf: Use
// raw_spinlock_t in ringbuf"), and in releases of 6.1 and 6.6 that took it over, it
// does not. The lock is not known where the types could not be scanned: those are
// newer still.
func checkRing(lock, version string) error {
	if lock != "spinlock_t" || !realTime(version) {
		return nil
	}
	return fmt.Errorf("%w: eBPF needs Linux 6.12, a release of 6.1 or 6.6 that has its 8b62645b09f8, or a kernel without PREEMPT_RT", backend.ErrRealTime)
}

// filename in a function's parameters stands for a name: a pointer to the
// kernel's copy in older kernels, or to the caller's.
const filename = "filename"

// functions are the kernel functions that trampolines and kprobes are for, by
// what the programs call them. What the programs take from them is checked against the
// kernel's types, since they are nobody's interface.
var functions = map[string]struct {
	names  []string // the first that there is counts
	params []string // as in ktypes.Function
}{
	"do_sys_openat2":      {[]string{"do_sys_openat2"}, []string{"", "", "open_how"}},
	"sys_ioctl":           {[]string{"__x64_sys_ioctl"}, []string{"pt_regs"}},
	"security_file_ioctl": {[]string{"security_file_ioctl"}, []string{"file", "", ""}},
	"do_symlinkat":        {[]string{"do_symlinkat", "filename_symlinkat"}, []string{filename, "", filename}},
	"do_renameat2":        {[]string{"do_renameat2", "filename_renameat2"}, []string{"", filename, "", filename, ""}},
}

// target returns the function that a program is for.
func (p *programs) target(name string) (ktypes.Function, error) {
	if f, ok := p.targets[name]; ok {
		return f, nil
	}
	if err := p.noTargets[name]; err != nil {
		return ktypes.Function{}, err
	}
	return ktypes.Function{}, fmt.Errorf("%w: its types could not be scanned", backend.ErrNotSupported)
}

// symbol returns what the kernel calls a function, empty for none.
func (p *programs) symbol(function string) (string, error) {
	if function == "" {
		return "", nil
	}
	f, err := p.target(function)
	return f.Name, err
}

func findTarget(kernel *ktypes.Types, name string) (ktypes.Function, error) {
	f := functions[name]
	for _, candidate := range f.names {
		found, ok := kernel.Function(candidate)
		if !ok {
			continue
		}
		same := func(has, want string) bool { return has == want || want == filename && has == "" }
		if !slices.EqualFunc(found.Params, f.params, same) {
			return found, fmt.Errorf("%w: %s has other parameters", backend.ErrNotSupported, candidate)
		}
		return found, nil
	}
	return ktypes.Function{}, fmt.Errorf("%w: there is no function %s", backend.ErrNotSupported, name)
}

// setSignatures tells the programs what they get from functions that have
// changed over time.
func (p *programs) setSignatures() error {
	for variable, name := range map[string]string{
		bpf.ProbesVarSymlinkByFilename: "do_symlinkat",
		bpf.ProbesVarRenameByFilename:  "do_renameat2",
	} {
		f, err := p.target(name)
		by := err == nil && slices.Contains(f.Params, filename)
		if err := p.spec.Variables[variable].Set(by); err != nil {
			return fmt.Errorf("set %s: %w", variable, err)
		}
	}
	return nil
}

// progLoad is what the BPF_PROG_LOAD command of bpf(2) takes.
type progLoad struct {
	typ, count         uint32
	instructions       uint64
	license            uint64
	logLevel, logSize  uint32
	log                uint64
	version, flags     uint32
	name               [unix.BPF_OBJ_NAME_LEN]byte
	ifindex            uint32
	expectedAttach     uint32
	btfFD              uint32
	funcInfoRecordSize uint32
	funcInfo           uint64
	funcInfoCount      uint32
	lineInfoRecordSize uint32
	lineInfo           uint64
	lineInfoCount      uint32
	attachBTFID        uint32
	attachFD           uint32 // 0: of vmlinux
	_                  uint32
}

// loadTrampoline loads a program for the function with that BTF id. The
// library can do it by the function's name only, for which it reads and
// indexes all of the kernel's types.
func loadTrampoline(spec *ebpf.ProgramSpec, kernel *btf.Spec, target btf.TypeID) (*ebpf.Program, error) {
	if err := relocate(spec.Instructions, kernel); err != nil {
		return nil, err
	}
	var code bytes.Buffer
	if err := spec.Instructions.Marshal(&code, binary.LittleEndian); err != nil {
		return nil, fmt.Errorf("encode instructions: %w", err)
	}
	license := append([]byte(spec.License), 0)
	var pin runtime.Pinner
	defer pin.Unpin()
	pointer := func(b []byte) uint64 {
		pin.Pin(&b[0])
		return uint64(uintptr(unsafe.Pointer(&b[0])))
	}
	attr := &progLoad{
		typ:            uint32(spec.Type),
		count:          uint32(code.Len() / asm.InstructionSize),
		instructions:   pointer(code.Bytes()),
		license:        pointer(license),
		expectedAttach: uint32(spec.AttachType),
		attachBTFID:    uint32(target),
	}
	copy(attr.name[:len(attr.name)-1], spec.Name)
	fd, err := bpfProgLoad(attr)
	if err != nil {
		return nil, err
	}
	return ebpf.NewProgramFromFD(fd)
}

// bpfProgLoad tries again when a signal has interrupted the verifier: Go sends
// itself some.
func bpfProgLoad(attr *progLoad) (fd int, err error) {
	for range 30 {
		r, _, errno := unix.Syscall(unix.SYS_BPF, unix.BPF_PROG_LOAD, uintptr(unsafe.Pointer(attr)), unsafe.Sizeof(*attr))
		if errno == 0 {
			return int(r), nil
		}
		if err = errno; errno != unix.EAGAIN && errno != unix.EINTR {
			break
		}
	}
	return -1, fmt.Errorf("bpf(BPF_PROG_LOAD): %w", err)
}

// relocate adjusts accesses to fields to where the kernel has them.
func relocate(insns asm.Instructions, kernel *btf.Spec) error {
	var relocations []*btf.CORERelocation
	var at []int
	for i := range insns {
		if r := btf.CORERelocationMetadata(&insns[i]); r != nil {
			relocations, at = append(relocations, r), append(at, i)
		}
	}
	localID := func(typ btf.Type) (btf.TypeID, error) {
		return 0, fmt.Errorf("%s: ids of own types are not supported", typ.TypeName())
	}
	fixups, err := btf.CORERelocate(relocations, []*btf.Spec{kernel}, binary.LittleEndian, localID)
	if err != nil {
		return fmt.Errorf("relocate: %w", err)
	}
	for i := range fixups {
		if err := fixups[i].Apply(&insns[at[i]]); err != nil {
			return fmt.Errorf("relocate: %s: %w", relocations[i], err)
		}
	}
	return nil
}
