// Package thirdparty holds the tests that need other people's code: WebSockets,
// compression and routers with the manager, and the same requests put to the
// best-known session library. It is a module of its own, so that none of them
// enters the go.mod of package session.
package thirdparty
