// Package benchmarks measures this library beside others that keep sessions on
// the server, doing the same work through the same harness. What the work is,
// and where a peer does less of it, is held by the contract test. It is a module
// of its own, so that the peers never enter the library's go.mod.
//
// cmd/compare writes RESULTS.md; docs/performance.md says how to read it.
package benchmarks
