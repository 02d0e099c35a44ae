// Package migrate moves the sessions of a site from one store to another while
// its visitors stay logged in, in three rolling deploys: [WriteOld], [WriteNew],
// [NewOnly]. docs/moving.md says how to go about it, when to go on, and what each
// phase costs; this page says why nothing is lost on the way.
//
// # Neighbours
//
// While a deploy rolls, servers of two phases run at once. Allowed are the old
// store alone beside WriteOld, WriteOld beside WriteNew, WriteNew beside NewOnly,
// and NewOnly beside the new store alone; forwards and, with the exception that
// docs/moving.md names, back. No two others: a server that knows the old store
// only does not see what was moved, and would bring back what was logged out.
//
// # The protocol
//
// Each session is moved once, by a server in WriteNew that saves or touches it.
// A move is four conditional writes. v is the version in the old store, h and e
// are random, and next is the record as it is to be:
//
//  1. new: nothing becomes a hold of version h, or a hold that is there is used.
//  2. old: v becomes an envelope of version e, which contains next and names h.
//  3. new: h becomes next.
//  4. old: the envelope e is deleted.
//
// What is true of an ID is then decided by what the old store has. A record: that
// one. An envelope that names h: next, while the new store has h; else what the
// new store has. Nothing: what the new store has, where a hold counts as nothing.
//
// Step 2 is the move. It is one atomic write over the version that was seen, so a
// writer in WriteOld either comes before it, and the move fails, or after it, and
// is refused by the old store and finds the envelope. From then on the record is
// written and deleted by its key in the new store, which is h until something took
// its place: whoever finds an envelope needs nobody to finish the move first.
//
// A write that was held on its way does nothing when it comes late. Step 1 makes
// a hold, which is nothing. Step 2 names v, and step 3 names h: neither comes
// back once it was replaced or deleted, because versions are random and used
// once. So a logout leaves no tombstone behind, and has none to forget.
//
// After a crash between two steps there is a hold, or a hold and an envelope, or a
// record and an envelope. The first is nothing, the second is the record, and in
// the third the envelope is nothing, because h is gone. Both expire.
//
// A delete first makes sure that the old store has no record. Without one there
// nothing can be moved any more, so what it then does to the new store is final.
//
// One thing hangs on time. A hold outlives its envelope by a minute, so that it
// never ends first. A session that expired while its mover was stuck between steps
// 2 and 3 lives on, if step 3 arrives within that minute: as if its last request
// had been saved late.
//
// What is taken for granted: an ID is created by one server and used once, as a
// Manager's random IDs are (R2). Two servers of different phases that create one ID
// at the same time could both succeed.
//
// # Lists of sessions
//
// If both stores are a [session.UserStore], so is the result. It enlists in both,
// and lists are the union. Because a store may take an ID off its list whose record
// it does not have, a move puts the session on the list of the new store first,
// between steps 1 and 2. A cut-off goes to both stores, the old one first, before
// it is answered; each returns the list as it then was. So a login in any phase is
// on a list that the cut-off returns, or is told of it by the store that is asked
// first: the old one in WriteOld, which is all that servers before the move know,
// and the new one afterwards.
package migrate
