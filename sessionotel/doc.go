// Package sessionotel shows in OpenTelemetry what a session store costs each
// request, and what happens to sessions. It is a module of its own, so that
// programs without OpenTelemetry download none of it.
//
//	measured, err := sessionotel.Wrap(store, sessionotel.Config{})
//	onEvent, err := sessionotel.OnEvent(sessionotel.Config{})
//	sessions, err := session.New(session.Config{Store: measured, Name: "shop", OnEvent: onEvent})
//
// docs/observability.md says how to set it up, and what to ask of it.
//
// # Names
//
// Those of the OpenTelemetry semantic conventions for database clients, version
// 1.43.0, and below sojourn.* where they have none:
//
//	db.client.operation.duration   histogram, s: one call to the store
//	sojourn.session.events         counter, {event}: what Config.OnEvent was told
//
//	db.system.name                 metric, span: redis, for example
//	db.operation.name              metric, span: load, save, touch, delete; of a UserStore
//	                               also enlist, list, cut_off, end, load_all, versions
//	sojourn.store.outcome          metric, span: ok, not_found, conflict, error
//	error.type                     metric, span: of an error, see below
//	db.response.status_code        metric, span: the code, if a Redis server sent one
//	db.query.summary               span: its name, such as "load session"
//	sojourn.session.id             span: if Config.SessionIDs
//	sojourn.session.event.kind     counter, span event: login, for example
//
// A span is of the kind client, and there is one only inside of a trace. A record
// that is gone or that changed is an answer and no error. Of an error error.type
// says the kind, and nothing says the words: timeout; canceled; what a Redis
// server began its answer with, such as READONLY; else the error's Go type.
//
// Nothing that is recorded holds a token, a value, a user or the name of a user's
// list. The metrics hold no ID either.
//
// # Cost
//
// A Load from a MemoryStore, with spans that are dropped instead of exported:
//
//	                                          allocations   bytes   time (least, median)
//	not wrapped                                         0       0   0.09 µs   0.15 µs
//	wrapped, no SDK                                     0       0   0.27 µs   0.38 µs
//	metric                                              0       0   0.49 µs   0.84 µs
//	metric and a span that is not sampled               3     336   1.7 µs    2.3 µs
//	metric and span                                     6    1712   3.2 µs    5.1 µs
//
// Measured in November 2026 with Go 1.26.8 and OpenTelemetry 1.47.0 on two cores
// of an AMD EPYC that had other work to do, 25 runs of
//
//	go test -run '^$' -bench Load -benchtime 150ms .
//
// A test holds the allocations to these numbers.
package sessionotel
