// Package faults has no code but tests: real Redis processes that are killed,
// paused, cut off and filled up while visitors write to them through a Manager,
// and an account of what became of what they were told.
//
//	SESSION_FAULTS=short go test ./internal/faults    the cases that CI runs
//	make faults                                       all, and the table in docs/redis.md
//
// Without SESSION_FAULTS nothing runs: a machine that is busy with other tests
// has Sentinels fail over when nothing is wrong.
package faults
