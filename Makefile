.PHONY: check test redis fuzz bench

check: # everything that CI checks
	bash .ci/run

test:
	go test ./...

redis: # fails where redis-server is missing, instead of skipping
	SESSION_REQUIRE_REDIS=1 go test ./...

fuzz: # a minute for each fuzz target
	@set -e; for target in $$(grep -rhoE '^func (Fuzz[A-Za-z0-9]+)' --include='*_test.go' *.go | awk '{print $$2}'); do \
		echo "== $$target"; go test -run '^$$' -fuzz "^$$target$$" -fuzztime 1m .; done

bench:
	go test -run '^$$' -bench . -benchmem .
