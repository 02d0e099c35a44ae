// Package balancers holds configurations of load balancers, and tests that run
// each of them with the real program. README.md is for whoever wants to use one.
package balancers
