// Package handover lets a server go away and nobody is logged out.
//
// It is for several servers behind a load balancer that sends each visitor to the
// same server again, with the sessions in each server's memory. A [Store] keeps
// them there, in a [session.MemoryStore], and knows a second store that all
// servers share, such as Redis. While a server serves, it asks the shared store
// only for what its memory does not hold. When it is to leave, [Store.Drain]
// hands its sessions to the shared store, under load, and the servers that stay
// find them there.
//
//	store := handover.New(new(session.MemoryStore), redisStore)
//	sessions, err := session.New(session.Config{Store: store, Name: "shop"})
//	mux.Handle("GET /health", store.Health()) // for the load balancer
//
// At the end, in this order: Drain; then Health answers 503; wait until the
// balancer has noticed, and a second for what it sent off last, because net/http
// hangs up on a new connection once Shutdown has begun; http.Server.Shutdown;
// [session.Manager.Close]; close the shared store. The example of the package is
// the whole of it.
//
// # Where a record is
//
// In this server's memory, on its way, or in the shared store: in one of them at
// any instant, in that order, and never back. What was handed over stays in the
// shared store for its life. To pull it back would be a deletion there and a save
// here, and a crash in between would lose what had been safe.
//
// A request whose session is on its way waits for it, as long as its context
// lets it, and goes on in the shared store. If it is not known whether the shared
// store got the record, the request tries to find out; if it cannot, it gets an
// error, which a Manager answers with 503. So what a Drain does is never a logout,
// and it never undoes one.
//
// # What it costs
//
// A session in memory costs what it costs in a MemoryStore. One that was handed
// over costs the round trips of the shared store, and so does a token that opens
// nothing: only the shared store can tell. If that does not answer, such requests
// are answered 503, the first ones after StoreTimeout at the most and the others
// at once; sessions in memory are served and created as ever, because a Manager
// puts its breaker around the shared store alone.
//
// # What it does not do
//
// A server that crashes takes its sessions with it; so does one whose Drain did
// not end. Sessions that must survive a crash belong into a shared store from the
// beginning.
//
// A Store is no [session.UserStore], whatever its two stores are, because a server
// cannot reach into another's memory: RevokeUser would leave sessions alive there
// and report success. Manager.RevokeUser, Manager.Sessions and Config.MaxPerUser
// return an error that says so. Manager.Revoke and RevokeAny end a session that is
// in this server's memory or in the shared store, and return
// [session.ErrNotFound] for one in another server's memory.
package handover
