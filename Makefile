# bootrace: `make help` lists what there is.

GO      ?= go
PREFIX  ?= /usr
SBINDIR ?= $(PREFIX)/sbin
DESTDIR ?=
# Debian and Ubuntu keep initramfs-tools here; INITRAMFS=no leaves the early
# start out.
INITRAMFS ?= auto
# The same for dracut, with systemd in the initramfs.
DRACUT ?= auto
# The hook for libvirt goes where libvirt is; LIBVIRT=yes places it anywhere.
LIBVIRT ?= auto
KERNEL  ?= 6.1
# How the scenarios are watched; empty for what bootrace takes by itself.
PROBES  ?=
OUT     ?= build/lab

VERSION  := $(shell sh packaging/version.sh)
UNITDIR  := $(PREFIX)/lib/systemd/system
INITTOOLS := /usr/share/initramfs-tools
DRACUTDIR := /usr/lib/dracut
LIBVIRTDIR := /etc/libvirt
BUILT    ?= build
BINARY   := build/bootrace
# The service alone, which boots have to wait for.
SERVICE  := build/bootraced
# SELinux' policies let systemd run what is below libexec, and not below lib.
LIBEXECDIR := $(PREFIX)/libexec/bootrace

# One static program: it has to run in an initramfs and on any distribution.
export CGO_ENABLED := 0

.DEFAULT_GOAL := help
.PHONY: help build generate generate-check matrix test unit lab-test browser-test demo soak soak-enforce disks-test fuzz bench bench-boot bench-probes bench-latency bench-scale lint judge lab install uninstall clean

help: ## this list
	@grep -hE '^[a-z0-9-]+:.*##' $(MAKEFILE_LIST) | sort | awk -F ':.*## ' '{printf "  %-16s %s\n", $$1, $$2}'

GOBUILD  := $(GO) build -trimpath -tags urfave_cli_no_docs -ldflags '-s -w -X github.com/bootrace/bootrace/cmd/internal/version.linked=$(VERSION)'

# Labs that run side by side make this at the same time: each in a folder of its own, and
# what is there stays where it is the same.
build: programs ## the program, build/bootrace, its manual pages, and the service alone, build/bootraced
	@new=build/man.$$$$ && $(BINARY) manual --config packaging/config/config.yaml --units packaging/systemd --date "$$(sed -n 's/^## v[^,]*, //p' packaging/CHANGELOG.md | head -n 1)" $$new && \
	{ diff -rq $$new build/man >/dev/null 2>&1 || { rm -rf build/man; mv -T $$new build/man 2>/dev/null; }; rm -rf $$new; test -d build/man; }

.PHONY: programs
programs:
	$(GOBUILD) -o $(BINARY) ./cmd/bootrace
	$(GOBUILD) -o $(SERVICE) ./cmd/bootraced

generate: ## the BPF objects and everything else that is made from source and committed
	$(GO) generate ./...

generate-check: generate ## prove that what is committed is current
	git diff --exit-code

unit: ## unit tests, and the native BPF tests where this kernel allows them
	$(GO) test ./...

# Each test waits until there is a processor for its machine. With MATRIX the matrix shares
# them: no processor waits for the last of the one before the other begins.
lab-test: build ## the tests that boot virtual machines: KERNEL=6.1, PROBES=ebpf|tracefs for the scenarios, MATRIX=.* for the matrix, too
	BOOTRACE_LAB=1 BOOTRACE_KERNEL=$(KERNEL) BOOTRACE_PROBES=$(PROBES) BOOTRACE_MATRIX='$(if $(filter command line environment,$(origin MATRIX)),$(MATRIX))' $(GO) test -count=1 -timeout 80m -parallel 99 -v ./kernels/...

.PHONY: engine-test
engine-test: ## the lab itself: a machine that boots twice, without bootrace (three minutes)
	BOOTRACE_ENGINE=1 BOOTRACE_KERNEL=$(KERNEL) $(GO) test -count=1 -timeout 20m -v -run 'TestRun$$' ./kernels/lab

# Installs the Debian packages in $(1) that this machine lacks, and says so.
# Where that can't be, the tests that need them say NOT RUN.
define need
	@missing=; for p in $(1); do dpkg-query -W -f '$${db:Status-Status}\n' $$p 2>/dev/null | grep -qx installed || missing="$$missing $$p"; done; \
	[ -z "$$missing" ] && exit 0; \
	[ "$$(id -u)" = 0 ] && as= || as=sudo; \
	if ! command -v apt-get >/dev/null || { [ -n "$$as" ] && ! command -v sudo >/dev/null; }; then echo "not here, and can't be installed without apt-get and root:$$missing" >&2; exit 0; fi; \
	echo "installing with apt-get:$$missing"; \
	$$as apt-get update -qq && $$as env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $$missing >/dev/null
endef

browser-test: ## the page in a real browser (Chromium, headless); its screenshots are in build/browser
	$(call need,chromium fonts-noto-core)
	cd exporters/html/browsertest && $(GO) test -count=1 -v .

MATRIX ?= .*
matrix: build ## both ways to watch a kernel, on each kernel, compared: MATRIX=5.10 for one (10 minutes)
	BOOTRACE_LAB=1 BOOTRACE_MATRIX='$(MATRIX)' $(GO) test -count=1 -timeout 2h -parallel 99 -v -run 'TestMatrix$$' ./kernels/scenarios

.PHONY: arm64-test
arm64-test: ## the eBPF programs on Debian's arm64 kernel, emulated (2 minutes)
	BOOTRACE_ARM64=1 BOOTRACE_KERNEL=$(KERNEL) $(GO) test -count=1 -timeout 20m -v -run 'TestARM64' ./kernels/scenarios

.PHONY: matrix-all
matrix-all: build ## the same, and the scenarios with each way on each kernel: MATRIX=5.10 PROBES=tracefs for some (hours)
	BOOTRACE_LAB=1 BOOTRACE_MATRIX=all $(GO) test -count=1 -timeout 8h -parallel 99 -v -run 'TestMatrix/^$(MATRIX)$$/^$(PROBES)' ./kernels/scenarios

.PHONY: metrics-test
metrics-test: ## the metrics and the example alerts, judged by promtool
	$(call need,prometheus)
	$(GO) test -count=1 -v -run Promtool ./exporters/prometheus

.PHONY: rehearse-test
rehearse-test: build ## the demo's host captured while it runs, its reboot rehearsed, and really done (half an hour)
	BOOTRACE_LAB=1 BOOTRACE_REHEARSE=1 BOOTRACE_KERNEL=$(KERNEL) $(GO) test -count=1 -timeout 2h -v -run 'TestRehearse$$' ./kernels/scenarios

test: unit lab-test ## everything that must hold: unit, native BPF, and lab tests

# Alone: what it measures is what the attacks cost, and nothing else. So it is not part
# of `make test`.
.PHONY: hostile-test
hostile-test: ## the service on this machine's own kernel, attacked by three users: HOSTILE=5 minutes
	@[ "$$(id -u)" = 0 ] || echo "NOT RUN: attacks on the service: only root may hold starts" >&2
	BOOTRACE_HOSTILE=$(HOSTILE) BOOTRACE_HOSTILE_SEED=$(SEED) $(GO) test -count=1 -timeout 24h -v -run 'TestHostile$$' ./kernels/hostile

.PHONY: repair-test
# The kernel is that of this host; REPAIR_KERNEL=vmlinuz REPAIR_MODULES=DIR name another.
repair-test: ## real damage repaired in throwaway virtual machines (5 minutes without KVM)
	BOOTRACE_REPAIR=1 BOOTRACE_REPAIR_KERNEL=$(REPAIR_KERNEL) BOOTRACE_REPAIR_MODULES=$(REPAIR_MODULES) $(GO) test -count=1 -timeout 1h -v ./tracer/repair

.PHONY: inspect-test inspect-bench
# SEED makes the same disks once more.
inspect-test: ## some 400 images of file systems after a real power cut, beside their own tools and a guest's kernel (3 minutes): KERNEL=6.1 SEED=N
	BOOTRACE_INSPECT=1 BOOTRACE_KERNEL=$(KERNEL) BOOTRACE_SEED=$(SEED) $(GO) test -count=1 -timeout 2h -v ./kernels/powercut

inspect-bench: programs ## what a look into a disk takes, beside blkid, xfs_logprint, xfs_repair, dumpe2fs, e2fsck, and guestfish where it is (a minute)
	BOOTRACE_INSPECT_BENCH=1 BOOTRACE_BINARY=$(CURDIR)/$(BINARY) $(GO) test -count=1 -v -run 'TestSpeed|TestThousandDisks' ./tracer/inspect

.PHONY: soak-hostile
soak-hostile: ## the same for an hour, with its figures: HOSTILE=60 minutes, SEED=N for the same attacks once more
	$(MAKE) --no-print-directory hostile-test HOSTILE=$(if $(filter command line environment,$(origin HOSTILE)),$(HOSTILE),60)

.PHONY: jaeger-test
# Jaeger is a tool with some 300 dependencies, in jaeger.mod and not in the
# program's go.mod. It is built one package at a time: it takes all memory else.
jaeger-test: ## the export against a real Jaeger, which is built first (10 minutes, once)
	cd exporters/otlp/jaegertest && $(GO) build -p 1 -modfile=jaeger.mod -trimpath -ldflags '-s -w' -o $(CURDIR)/build/jaeger github.com/jaegertracing/jaeger/cmd/jaeger
	cd exporters/otlp/jaegertest && BOOTRACE_JAEGER=$(CURDIR)/build/jaeger $(GO) test -count=1 -timeout 20m -v ./...

lint: ## golangci-lint, shellcheck
	golangci-lint run
	shellcheck -x -e SC1091 $(shell git ls-files '*.sh' .ci/run packaging/initramfs-tools packaging/libvirt 'packaging/deb/p*' 'packaging/rpm/p*')

bench: build ## what it costs: probes (the kernel's own statistics), log, timeline, memory
	$(GO) test -run '^$$' -bench . -benchmem ./...

bench-boot: ## what it costs a boot, in the lab, by a clock that counts instructions
	BOOTRACE_COST=1 $(GO) test -count=1 -timeout 3h -v -run 'TestBootCost' ./kernels/scenarios

bench-probes: ## what the probes cost an ioctl, an open and an exec that are nothing to them, in instructions, on each kernel: MATRIX=5.10 for one
	BOOTRACE_COST=1 $(GO) test -count=1 -timeout 5h -v -run 'TestProbeCost$$/^$(MATRIX)$$' ./kernels/scenarios

bench-latency: build ## how soon a held guest goes on, against udevadm wait and polling: 100 rounds in the lab
	BOOTRACE_LAB=1 BOOTRACE_ROUNDS=100 $(GO) test -count=1 -timeout 2h -v -run 'TestLatency$$' ./kernels/scenarios

bench-scale: ## a host of 100, 300 and 1,000 volumes with a guest on each, without bootrace, traced and held, counted (half an hour)
	BOOTRACE_SCALE=1 $(GO) test -count=1 -timeout 5h -v -run 'TestScale$$' ./kernels/scenarios

soak: ## clean boots and power cuts, twenty of each, and every cause five times (hours)
	BOOTRACE_LAB=1 BOOTRACE_SOAK=1 $(GO) test -count=1 -timeout 6h -v -run 'TestSoak' ./kernels/scenarios

soak-enforce: ## enforce mode with 500 random orders of activation and start (a quarter of an hour)
	BOOTRACE_LAB=1 BOOTRACE_ORDERS=500 BOOTRACE_KERNEL=$(KERNEL) $(GO) test -count=1 -timeout 3h -v -run 'TestEnforce' ./kernels/scenarios

disks-test: build ## a guest on each kind of disk, in time, late and never, traced and held (a quarter of an hour)
	BOOTRACE_LAB=1 BOOTRACE_DISKS=1 BOOTRACE_KERNEL=$(KERNEL) $(GO) test -count=1 -timeout 2h -v -run 'TestDisks$$' ./kernels/scenarios

# Minutes of attacks, and the seed of their order; empty: another one each time.
HOSTILE ?= 5
SEED    ?=
FUZZTIME ?= 30s
fuzz: ## each fuzz target for FUZZTIME
	@set -e; for pkg in $$($(GO) list ./...); do \
	  for f in $$($(GO) test -list '^Fuzz' $$pkg | grep '^Fuzz' || true); do \
	    echo "== $$pkg $$f"; $(GO) test -run '^$$' -fuzz "^$$f\$$" -fuzztime $(FUZZTIME) $$pkg; \
	  done; done

# shown prints the boot $(2) under the heading $(1); its status may be $(3).
shown = echo; echo "== $(1)"; $(BINARY) show build/demo/$(2).jsonl || [ $$? = $(3) ]; echo; $(BINARY) races build/demo/$(2).jsonl || [ $$? = $(3) ]; echo

# Its clock counts instructions, so that a busy or slow machine is in no time and in
# no limit of it.
demo: build ## a host's reboot in a virtual machine, traced; and once more, in enforce mode (takes minutes)
	$(GO) build -o build/lab-command ./kernels/cmd/lab
	@build/lab-command -counted -scenario kernels/scenarios/demo -kernel $(KERNEL) -out build/demo \
		-after '2:set -e; $(call shown,Traced: guest web-a comes before its volume.,trace,3)' \
		-after '3:set -e; $(call shown,Enforced: the next boot of the same host.,enforce,0)'
	@echo; echo "build/demo has the timelines (trace.json, enforce.json), the logs (trace.jsonl, enforce.jsonl) and the console (console.log)."

FORMAT ?= text
judge: ## judge a boot that was written down, as in tracer/timeline/testdata: HISTORY=FILE [FORMAT=json]
	@test -n "$(HISTORY)" || { echo "make judge: name a history: make judge HISTORY=tracer/timeline/testdata/missing.txtar" >&2; exit 2; }
	@$(GO) run ./kernels/cmd/judge -format $(FORMAT) $(HISTORY)

lab: build ## boot a host in a virtual machine: SCENARIO=DIR [KERNEL=6.1] OUT=DIR
	@test -n "$(SCENARIO)" || { echo "make lab: name a scenario: make lab SCENARIO=kernels/scenarios/demo OUT=build/lab" >&2; exit 2; }
	$(GO) build -o build/lab-command ./kernels/cmd/lab
	build/lab-command -scenario $(SCENARIO) -kernel $(KERNEL) -out $(OUT)

# packaging/files lists what is installed where.
PLACES = DESTDIR='$(DESTDIR)' BUILT='$(BUILT)' SBINDIR='$(SBINDIR)' LIBEXECDIR='$(LIBEXECDIR)' UNITDIR='$(UNITDIR)' \
	PRESETDIR='$(PREFIX)/lib/systemd/system-preset' SYSUSERSDIR='$(PREFIX)/lib/sysusers.d' \
	DATADIR='$(PREFIX)/share' MANDIR='$(PREFIX)/share/man' DOCDIR='$(PREFIX)/share/doc/bootrace'

# wanted has the part $(1) where $(2) is yes, or not no and the host has $(3).
wanted = $(if $(filter yes,$(2)),$(1),$(if $(filter no,$(2)),,$(if $(wildcard $(DESTDIR)$(3)),$(1))))

install: ## what `make build` built, its units and its early start: DESTDIR, PREFIX, INITRAMFS, DRACUT and LIBVIRT=auto|yes|no
	@$(PLACES) sh packaging/install.sh install $(call wanted,initramfs,$(INITRAMFS),$(INITTOOLS)) $(call wanted,dracut,$(DRACUT),$(DRACUTDIR)) $(call wanted,libvirt,$(LIBVIRT),$(LIBVIRTDIR))
	@[ -n "$(DESTDIR)" ] || echo "Installed. Next: systemctl enable --now bootrace; update-initramfs -u, or dracut --force"

uninstall: ## everything that install put in place, but the recorded boots and the configuration
	@$(PLACES) sh packaging/install.sh remove
	rm -f $(DESTDIR)$(PREFIX)/lib/bootrace/bootraced # where it was until November 2026
	@[ -n "$(DESTDIR)" ] || echo "Removed. Next: systemctl daemon-reload; update-initramfs -u, or dracut --force"

# Where the packages are made, and what they are made with: a tool with
# dependencies of its own, which are not the program's.
PACKAGES := build/packages
NFPM     := build/nfpm

$(NFPM): packaging/nfpm.mod
	$(GO) build -modfile=packaging/nfpm.mod -trimpath -o $(NFPM) github.com/goreleaser/nfpm/v2/cmd/nfpm

.PHONY: packages packages-test
packages: $(NFPM) ## .deb and .rpm packages and a static tarball, for amd64 and arm64, in build/packages
	GO=$(GO) NFPM=$(NFPM) sh packaging/packages.sh $(PACKAGES)

packages-test: packages ## the packages installed, upgraded and purged in a root and on Debian hosts that reboot, and judged by lintian and rpmlint (20 minutes)
	$(call need,mmdebstrap lintian rpm rpmlint)
	PACKAGE_VERSION=0.1.0 ARCHES=amd64 GO=$(GO) NFPM=$(NFPM) sh packaging/packages.sh $(PACKAGES)/before
	BOOTRACE_PACKAGES=$(CURDIR)/$(PACKAGES) BOOTRACE_LAB=1 $(GO) test -count=1 -timeout 1h -v -run 'TestPackages' ./packaging ./kernels/scenarios

.PHONY: first-minutes
first-minutes: build ## install below a root of its own, judge a recorded boot, export, enforce: as the README says it
	sh packaging/first-minutes.sh

clean: ## what was built here
	rm -rf build
