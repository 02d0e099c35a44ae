// Package session keeps HTTP sessions for net/http: one visitor's state, across
// requests and servers.
//
// A [Manager] wraps the handlers of an application. It loads the visitor's
// session before a handler runs and saves it before the first byte of the
// response. Handlers find it with [FromContext] and read and write it through
// typed keys:
//
//	var visits = session.NewKey[int]("visits")
//
//	func page(w http.ResponseWriter, r *http.Request) {
//		s := session.FromContext(r.Context())
//		visits.Update(s, func(n int) int { return n + 1 })
//	}
//
// Sessions live in a [Store]. [MemoryStore] is for one process, [RedisStore] for
// many; [Open] chooses by a URL. Both behave the same: every rule that matters
// lives in the manager, and sessiontest.TestStore holds every store to its part.
//
// # Promises
//
// Logout wins: a session that one request destroyed is never brought back by
// another. Nothing is lost: requests that run at the same time keep each other's
// changes. Nothing stored is a credential: the store holds a hash of what the
// cookie carries. A failure never lies: when the store is away, nobody is taken
// for anonymous.
//
// Letters and numbers in comments, such as R5 or C2, name the rules in
// docs/design.md; the tests that prove a rule name it too.
//
// # Compatibility
//
// Records written by an older version stay readable. A record of a newer version
// is left alone (R15), so versions can be mixed while they are rolled out.
package session
