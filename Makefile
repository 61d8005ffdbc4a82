# CONTRIBUTING.md describes the targets.

GO       ?= go
RACE     ?= $(shell .ci/prepare --race)
FUZZTIME ?= 10s
TOOL      = $(GO) tool -modfile=tools.mod
PARTS     = rpc recorder publishing classify files gatherer appserver

.PHONY: demo prepare test soak lint fmt bench $(PARTS:%=bench-%) fuzz cover vuln

demo:
	$(GO) run ./cmd/flogtool demo

prepare: # a separate step, because $(RACE) depends on what it installs
	@.ci/prepare

# Tests that count allocations are built only without the race detector, which allocates
# itself. They run separately.
test: prepare
	$(GO) vet ./...
	@$(GO) run .ci/testreport.go -- $(GO) test -json $(RACE) ./...
	@dirs=$$(grep -rl --include='*_test.go' '^//go:build .*!race' . | xargs -rn1 dirname | sort -u); \
	if [ -n "$$dirs" ]; then echo "$(GO) test -run Alloc" $$dirs; $(GO) test -run Alloc $$dirs; fi
	@.ci/prepare --missing

soak: prepare
	@FLOG_SOAK=1 $(GO) run .ci/testreport.go -- $(GO) test -json -count=1 -timeout 20m -run 'Kill|Faults|Large|Budget|Readers|Strangers' ./logport ./rpc ./rpc/appserver

lint:
	@unformatted=$$(gofmt -l .); if [ -n "$$unformatted" ]; then echo "gofmt would change:"; echo "$$unformatted"; exit 1; fi
	$(GO) vet ./...
	$(TOOL) staticcheck ./...
	$(GO) fix -diff ./...
	cd bench && $(GO) vet ./... && $(GO) tool -modfile=../tools.mod staticcheck ./... && $(GO) fix -diff ./...

fmt:
	$(GO) fix ./...
	$(TOOL) gofumpt -l -w .

bench:
	cd bench && $(GO) run .

$(PARTS:%=bench-%): bench-%:
	cd bench && $(GO) run . $*

# Each fuzz target runs for FUZZTIME and starts with the committed seeds. Without a bound a
# target spends most of its time minimizing what it finds.
fuzz:
	@for package in $$($(GO) list ./...); do \
		for target in $$($(GO) test -list '^Fuzz' $$package | grep '^Fuzz'); do \
			echo "$$package $$target"; \
			$(GO) test -run '^$$' -fuzz "^$$target$$" -fuzztime $(FUZZTIME) -fuzzminimizetime 10x $$package || exit 1; \
		done; \
	done

cover:
	$(GO) test -coverprofile=cover.out -coverpkg=./... ./...
	$(GO) tool cover -func=cover.out | tail -n 1
	@echo "The lines: $(GO) tool cover -html=cover.out"

vuln:
	$(TOOL) govulncheck ./...
