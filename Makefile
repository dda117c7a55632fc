# SPDX-License-Identifier: Apache-2.0
#
# Everything that people and CI run. `make` alone explains the targets.
# CONTRIBUTING.md says which of them need root.

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

GOLANGCI_VERSION := v2.15.0
# Every platform that has to compile beside the one at hand.
PLATFORMS := darwin/amd64 darwin/arm64 windows/amd64 freebsd/amd64 \
             linux/386 linux/arm linux/arm64 linux/riscv64
FUZZTIME ?= 10s
# RACE= runs the unit tests where there is no C compiler.
RACE ?= -race
# Flags of make bench, as in BENCH='-works tcp1 -rounds 3': docs/performance.md.
BENCH ?=
# Flags of make chaos and make scale, as in CHAOS='-dual -seed 7 -time 30m':
# docs/reliability.md.
CHAOS ?=
SCALE ?=

# One way of compiling for all steps, so that each finds what an earlier one has
# compiled. Only the race detector needs C.
export CGO_ENABLED := 0
export GOFLAGS := $(GOFLAGS) -trimpath
# Without a usable repository (a tarball, or a clone that belongs to somebody
# else) go build would stop at the version stamp.
ifneq ($(shell git rev-parse --is-inside-work-tree 2>/dev/null),true)
GOFLAGS += -buildvcs=false
endif

# A linter refuses code that is newer than the Go it was built with, so its
# file carries both versions.
golangci = .cache/bin/golangci-lint-$(GOLANGCI_VERSION)-$(shell go env GOVERSION)

# The flannelds that the tests put beside us, by the versions in these modules.
flanneld = .cache/bin/flanneld-$(shell awk '$$1 == "github.com/flannel-io/flannel" { print $$2 }' $(1)/go.mod)
flannelds := $(foreach module,test/flanneld test/flanneld/earlier,$(call flanneld,$(module)))

##@ What it is for

.PHONY: build
build: ## build bin/vxtap and bin/vxlab, static
	go build -o bin/ ./cmd/vxtap ./cmd/vxlab

.PHONY: demo
demo: build ## a whole overlay network on this machine: three hosts, traffic, a table (root)
	bin/vxlab demo

.PHONY: guide
guide: ## types docs/guide.md on nine machines: certificates, an etcd of three, five hosts, a table (root)
	@.ci/deps
	go test -count=1 -v -timeout 5m ./test/guide

.PHONY: test
test: ## every check below that CI makes; installs what is missing with apt (root)
	@.ci/test

.PHONY: bench
bench: build ## throughput and latency beside kernel VXLAN and others, in one table (root); BENCH=flags
	@.ci/deps
	go build -o bin/ ./test/bench/relay
	go run ./test/bench $(BENCH)

.PHONY: chaos
chaos: build ## twenty daemons against a failing etcd, five minutes, all looked at (root); CHAOS=flags
	@# Not by go run, which makes every status 1 and does not pass signals on.
	go build -o bin/ ./test/chaos
	bin/chaos $(CHAOS)

.PHONY: scale
scale: build ## one daemon among 10,000 leases, and 200 that start at once, in one table (root); SCALE=flags
	go build -o bin/ ./test/scale
	bin/scale $(SCALE)

.PHONY: bench-micro
bench-micro: ## nanoseconds a frame and allocations of each stage, in one table
	go run ./test/micro

##@ The parts of make test

.PHONY: deps
deps: ## install the programs that the tests run, if any is missing (root, Debian)
	@.ci/deps

.PHONY: lint
lint: $(golangci) ## golangci-lint and the formatters, by .golangci.yml
	$(golangci) run ./...

.PHONY: tidy-check
tidy-check: ## fail if go.mod or go.sum need a change
	go mod tidy -diff

.PHONY: unit
unit: ## unit tests with the race detector, fuzz seeds included
	@packages=$$(go list ./... | grep -v '^vxtap/test/'); \
	CGO_ENABLED=$(if $(RACE),1,0) go test -json $(RACE) -shuffle=on -timeout 10m $$packages ./test/arch ./test/report | go run ./test/report

.PHONY: portability
portability: ## compile and vet, tests included, for every other platform
	@# Whether it compiles is the question, and it is asked of 500 packages eight
	@# times: the optimiser stays out of it, and memory is spent before time.
	@for p in $(PLATFORMS); do \
		start=$$SECONDS; \
		export GOGC=400 GOOS=$${p%/*} GOARCH=$${p#*/}; \
		go build -gcflags='all=-N -l' -o /dev/null ./cmd/vxtap && \
		go build -gcflags='all=-N -l' -o /dev/null ./cmd/vxlab && \
		go vet -gcflags='all=-N -l' ./... || { echo "$$p does not compile" >&2; exit 1; }; \
		printf '%-16s %3d s\n' $$p $$((SECONDS - start)); \
	done
	@# An amd64 kernel runs 386: the rooms that need nothing else of the kernel
	@# show there that no length or counter needs 64 bits.
	@if [ "$$(go env GOHOSTOS)/$$(go env GOHOSTARCH)" = linux/amd64 ]; then \
		GOARCH=386 go test ./encap/... ./lease; \
	else \
		echo "32-bit run: not here, it takes Linux on amd64"; \
	fi

.PHONY: flanneld
flanneld: $(flannelds) ## build the flannelds that the tests put beside us, once

.PHONY: blackbox
blackbox: build ## the tests of test/, in namespaces that they make (root)
	@# Without it the tests that want it say so, and in CI that is their failure.
	@$(MAKE) flanneld || true
	go test -json -count=1 -p 1 -timeout 10m ./test/... | go run ./test/report

##@ While working

.PHONY: fmt
fmt: $(golangci) ## format every file as lint wants it
	$(golangci) fmt ./...

.PHONY: fuzz-seeds
fuzz-seeds: ## run the seeds of every fuzz target, once
	go test -run '^Fuzz' ./...

.PHONY: fuzz
fuzz: ## fuzz every target for FUZZTIME (10s) each
	@# Inputs of a kilobyte would be made smaller for a minute each, and not a new
	@# one be tried meanwhile.
	@go test -list '^Fuzz' ./... | awk '/^Fuzz/ { names = names " " $$1 } /^ok/ { n = split(names, a, " "); for (i = 1; i <= n; i++) print $$2, a[i]; names = "" }' | \
	while read -r package target; do \
		echo "== $$package $$target"; \
		go test -run '^$$' -fuzz "^$$target\$$" -fuzztime $(FUZZTIME) -fuzzminimizetime 10x $$package; \
	done

.PHONY: cover
cover: ## statement coverage of the unit tests, by package and in .cache/cover.html
	@mkdir -p .cache; \
	packages=$$(go list ./... | grep -v '^vxtap/test/'); \
	go test -coverprofile .cache/cover.out $$packages
	@go tool cover -html .cache/cover.out -o .cache/cover.html
	@go tool cover -func .cache/cover.out | tail -n 1

.PHONY: clean
clean: ## remove bin and .cache
	rm -rf bin .cache

.PHONY: help
help: ## show this
	@awk 'BEGIN { FS = ":.*## " } /^##@ / { printf "\n%s\n", substr($$0, 5) } /^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

# Upstream prefers its own binaries, but CI reaches the Go module proxy only.
# go install takes the dependencies that the linter was released with.
$(golangci):
	@echo "golangci-lint $(GOLANGCI_VERSION): building it, once (about two minutes)"
	@mkdir -p $(@D)
	@GOFLAGS= GOBIN=$(CURDIR)/$(@D) go install github.com/golangci/golangci-lint/v2/cmd/golangci-lint@$(GOLANGCI_VERSION)
	@mv $(@D)/golangci-lint $@

# The udp backend is in C. Each is built in its own module, whose go.sum says what
# it is made of.
$(word 1,$(flannelds)): module = test/flanneld
$(word 2,$(flannelds)): module = test/flanneld/earlier
$(flannelds):
	@echo "$(@F): building it, once (a minute for the first)"
	@mkdir -p $(@D)
	@cd $(module) && CGO_ENABLED=1 GOFLAGS='-trimpath -buildvcs=false' go build -o $(CURDIR)/$@ \
		-ldflags '-X github.com/flannel-io/flannel/pkg/version.Version=$(@F:flanneld-%=%)' github.com/flannel-io/flannel
