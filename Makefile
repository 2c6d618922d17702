# Touchmark. `make help` lists what can be made.

SHELL       := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := build

VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo unknown)
COMMIT  ?= $(shell git rev-parse HEAD 2>/dev/null)

# The same commit gives the same bytes, wherever and whenever it is built.
BUILD := go build -trimpath -buildvcs=false -ldflags '-s -w -buildid= -X main.version=$(VERSION) -X main.commit=$(COMMIT)'

# Tests write into memory where there is enough of it: they are about what is
# there after a kill, not after a power cut, and fsync is most of their time.
MEMORY := $(shell test -w /dev/shm && test "$$(df -Pk /dev/shm | awk 'NR==2 {print $$4}')" -ge 8000000 && echo /dev/shm)
TESTS  := TOUCHMARK_TEST_REQUIRE=1 $(if $(MEMORY),TMPDIR=$(MEMORY) TOUCHMARK_POSTGRES_DIR=$(MEMORY))

# Programs that check the code are built from a module of their own.
STATICCHECK := .cache/staticcheck
TESTGATE    := .cache/testgate

.PHONY: build programs pkcs11 demo test check plain lives store race lint bench fuzz reproducible clean help

build: programs pkcs11 ## the static programs, and one with PKCS#11 (needs a C compiler)

programs: ## bin/touchmark, bin/touchmark-agent and bin/devicesim, static, without cgo
	CGO_ENABLED=0 $(BUILD) -o bin/touchmark ./cmd/touchmark
	CGO_ENABLED=0 $(BUILD) -o bin/touchmark-agent ./cmd/touchmark-agent
	CGO_ENABLED=0 $(BUILD) -o bin/devicesim ./cmd/devicesim

pkcs11: ## bin/touchmark-pkcs11 and bin/touchmark-agent-pkcs11, which also take keys from an HSM or a token
	CGO_ENABLED=1 $(BUILD) -tags pkcs11 -o bin/touchmark-pkcs11 ./cmd/touchmark
	CGO_ENABLED=1 $(BUILD) -tags pkcs11 -o bin/touchmark-agent-pkcs11 ./cmd/touchmark-agent

demo: programs ## a factory's day, told on the terminal (KEEP=1 leaves the server running)
	@deploy/demo.sh $(if $(KEEP),--keep) $(DEMO)

test: ## everything that CI runs; installs what the tests need (Debian: as root or with sudo)
	@deploy/install-test-deps.sh
	@$(MAKE) --no-print-directory lint
	@$(MAKE) --no-print-directory check
	@$(MAKE) --no-print-directory race

# Each test runs once: under the race detector where that can find something,
# plain otherwise. Plain are formats of firmware, docs and the soak, which work
# with programs that are built as they ship, e2e and the command line, whose
# servers are other processes or have nobody else around; and of the two
# packages whose tests take longest, what asks one thing after the other: of
# the server's tests LIVES, and of the store's all but RACED.
LIVES := ^Test(ACMEByTPM|ACMECertbot|ACMEFalseStatementsOfTPMs|ACMELego|ACMELegoDNS|AnswersWithoutTheTPM|AttestationCA.*|AttestedKeys|EnrolmentByTPM|FalseStatements|FormerPartitionsEnd|KeysThatAttestNothing|Lives|NewProfile|QuotedRegisters|RootRollover|StatusOfIssued|TPMOverMQTT|TPMsOfOthers)$$
RACED := ^Test(Batch|Copy|Queue|Quota|Reader)|^TestSuite$$/sqlite/^(ACME|activate|challenges|commit|counts|events|licences|messages|orders|stale|transfers|webhooks)$$

# Formats, whose work is one goroutine's: nothing there can race.
SINGLE := $(addprefix ./firmware-sign/,authenticode catalogue content detached esp32 fit kmod licence swupdate)

# Every test has what it needs here, so one that is skipped fails. Tests wait,
# for each other and for other processes: three parts of them at a time, and
# four packages of a part, keep two cores busy.
check: $(TESTGATE) ## the tests that the race detector would only slow down
	@$(MAKE) --no-print-directory -j3 --output-sync=target plain lives store

plain: $(TESTGATE)
	$(TESTS) deploy/postgres-test.sh run go test -json -p 4 -count=1 -timeout 14m ./docs ./bench/... ./e2e ./cmd/... $(SINGLE) | $(TESTGATE)

lives: $(TESTGATE)
	$(TESTS) deploy/postgres-test.sh run go test -json -count=1 -timeout 14m -run '$(LIVES)' ./server | $(TESTGATE)
	CGO_ENABLED=1 go test -json -count=1 -tags pkcs11 ./internal/keys/... ./device/token | $(TESTGATE)
	CGO_ENABLED=1 go test -json -count=1 -tags pkcs11 -run 'HSM|PIN|Token' ./cmd/touchmark ./cmd/touchmark-agent | $(TESTGATE)
	go test -C .ci/tools -json ./... | $(TESTGATE)
	go test -C e2e/foreign -json -count=1 -timeout 5m ./... | $(TESTGATE)

store: $(TESTGATE)
	$(TESTS) deploy/postgres-test.sh run go test -json -count=1 -timeout 14m -skip '$(RACED)' ./internal/store | $(TESTGATE)

race: $(TESTGATE) ## all others, under the race detector
	$(TESTS) CGO_ENABLED=1 deploy/postgres-test.sh run go test -json -race -count=1 -timeout 14m -run '$(RACED)' ./internal/store | $(TESTGATE)
	$(TESTS) CGO_ENABLED=1 deploy/postgres-test.sh run go test -json -race -p 4 -count=1 -timeout 14m -skip '$(LIVES)' ./server \
		$$(go list ./... | grep -v -e /docs$$ -e /bench -e /e2e$$ -e /cmd/ -e /server$$ -e /internal/store$$ $(SINGLE:.%=-e %$$)) | $(TESTGATE)

lint: $(STATICCHECK) ## gofmt, go vet, staticcheck, and what no commit may hold
	@unformatted=$$(gofmt -l .); if [[ -n $$unformatted ]]; then echo "not gofmt-ed:" $$unformatted >&2; exit 1; fi
	go vet ./...
	CGO_ENABLED=1 go vet -tags pkcs11 ./internal/keys/... ./cmd/... ./device/token
	go vet -C .ci/tools ./...
	go vet -C e2e/foreign ./...
	$(STATICCHECK) ./...
	cd e2e/foreign && $(CURDIR)/$(STATICCHECK) ./...
	@.ci/words

bench: ## the benchmarks, one table (docs/performance.md says how to read it)
	deploy/postgres-test.sh run go run ./bench $(BENCH)

FUZZTIME ?= 20s
fuzz: ## every fuzz target for FUZZTIME (20s) each
	@go list -f '{{.ImportPath}}' ./... | while read -r pkg; do \
		for target in $$(go test -list '^Fuzz' "$$pkg" | grep '^Fuzz' || true); do \
			echo "== $$pkg $$target"; \
			go test -run '^$$' -fuzz "^$$target\$$" -fuzztime $(FUZZTIME) "$$pkg"; \
		done; \
	done

reproducible: ## builds the last commit twice and compares the bytes
	@deploy/reproducible-test.sh

clean: ## removes what was built
	rm -rf bin .cache

help: ## this list
	@sed -nE 's/^([a-z0-9]+):[^#]*## (.*)/  make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 18

$(STATICCHECK): .ci/tools/go.mod .ci/tools/go.sum
	go build -C .ci/tools -o $(CURDIR)/$@ honnef.co/go/tools/cmd/staticcheck
	@touch $@

$(TESTGATE): .ci/tools/go.mod $(wildcard .ci/tools/testgate/*.go)
	go build -C .ci/tools -o $(CURDIR)/$@ ./testgate
	@touch $@
