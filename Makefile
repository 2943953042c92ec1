# What there is to do; plain go commands do the rest.
SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.PHONY: build test race lint fuzz bench soak run

# The linter and govulncheck have a module file of their own, which pins them and
# what they are made of: in go.mod, their hundreds of modules would be everybody's
# who imports this one.
LINT := go tool -modfile=tools/go.mod golangci-lint
# A count, not a time: with a time, a loaded machine fails with "context deadline
# exceeded" where no input is at fault (golang/go issue 75804).
FUZZ ?= 1000000x

build: ## bin/parley
	go build -o bin/parley ./cmd/parley

test: ## all tests
	go test ./...

race: ## the short tests under the race detector, which needs a C compiler
	go test -race -short ./...

lint: ## the first run builds the linter, which takes a minute or two
	go vet ./...
	$(LINT) run ./...

fuzz: ## every fuzz target with FUZZ inputs
	@made=$$(mktemp -d); trap 'rm -rf "$$made"' EXIT; corpus=$$(go env GOCACHE)/fuzz; \
	go test -list '^Fuzz' ./... \
	| awk '/^Fuzz/ {names = names " " $$1} /^ok/ {if (names) print $$2 names; names = ""}' \
	| while read -r package names; do \
		go test -c -fuzz . -o "$$made/fuzz.test" "$$package"; \
		cd "$$(go list -f '{{.Dir}}' "$$package")"; \
		for name in $$names; do \
			echo "$$package $$name"; \
			"$$made/fuzz.test" -test.run '^$$' -test.fuzz "^$$name\$$" -test.fuzztime $(FUZZ) -test.fuzzcachedir "$$corpus/$$package"; \
		done; \
	done

bench: ## micro-benchmarks of the hot path
	go test -run '^$$' -bench . -benchmem ./...

soak: ## the long forms of the crash and load tests
	PARLEY_SOAK=1 go test -count=1 -timeout 60m ./test/... ./internal/... ./server/...

run: ## a server on 127.0.0.1:8080 with its store in ./parley-data
	go run ./cmd/parley serve
