.PHONY: check test redis servers faults soak report fuzz bench

check: # everything that CI checks
	bash .ci/run

test:
	go test ./...

redis: # fails where redis-server is missing, instead of skipping
	SESSION_REQUIRE_REDIS=1 go test ./...

servers: # the tests that use Redis, on each of SERVERS="/path/redis-server /path/valkey-server"
	@set -e; for server in $(SERVERS); do $$server --version; \
		SESSION_REDIS_SERVER=$$server SESSION_REQUIRE_REDIS=1 go test -count=1 -timeout 20m ./internal/redistest . ./migrate; done

faults: # kills, pauses and cuts off Redis servers, and writes the table in docs/redis.md
	SESSION_FAULTS=long SESSION_TOPOLOGIES=all SESSION_REQUIRE_REDIS=1 go test -count=1 -timeout 30m -v -run 'TestFaults|TestRacesOverTopologies' . ./internal/faults

soak: # ten minutes of random faults, after which nothing may have grown
	SESSION_SOAK=10m SESSION_REQUIRE_REDIS=1 go test -count=1 -timeout 20m -v -run TestSoak ./internal/faults

report: # three minutes of servers that are killed, and the figures in docs/many-servers.md
	go run ./examples/cluster -report

fuzz: # a minute for each fuzz target
	@set -e; for target in $$(grep -rhoE '^func (Fuzz[A-Za-z0-9]+)' --include='*_test.go' *.go | awk '{print $$2}'); do \
		echo "== $$target"; go test -run '^$$' -fuzz "^$$target$$" -fuzztime 1m .; done

bench:
	go test -run '^$$' -bench . -benchmem .
