package sessiontest

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/sojourn-go/session"
)

// userCases lists what a store has to keep besides if it is a UserStore. Each is
// one subtest.
func userCases() []storeCase {
	return []storeCase{
		{
			"List is in the order of Enlist",
			"List returns the IDs on the list, oldest first; who is over Config.MaxPerUser is told by it",
			testListOrder,
		}, {
			"Enlist again moves to the end",
			"Enlist puts an ID at the end of the list, where it then is once: it may be sent again without harm",
			testEnlistAgain,
		}, {
			"Enlist needs no record",
			"a list is a hint and the record the truth: an ID without a record is no error, gets no record, and takes no other off",
			testEnlistNoRecord,
		}, {
			"Enlist keeps an ID for its ttl",
			"while it has a record an ID stays listed for its ttl at least, whatever was enlisted for less or for more before it and after it: one that is not listed escapes RevokeUser",
			testListedForTTL,
		}, {
			"Enlist takes nothing off that is kept",
			"only an ID whose ttl has run out, or whose record is gone, is taken off, however many there are",
			testKeptStay,
		}, {
			"Enlist takes off what was kept long enough",
			"IDs whose ttl has run out are taken off sooner or later, also from a list that is in use: here a day is later",
			testTakenOff,
		}, {
			"Enlist tells the list when it is over most",
			"listed is all of the list, oldest first, when more than most IDs are on it, the new one included, and otherwise nil; with most 0 it is nil; the store itself takes nobody off",
			testOverMost,
		}, {
			"a list that never was is empty",
			"List and CutOff of a list on which nothing was enlisted are empty, and no error",
			testNoList,
		}, {
			"T3 lists are kept apart",
			"the name of a list is opaque: every byte counts, and no name reaches another list or a record",
			testListsApart,
		}, {
			"End deletes whatever the version and delists",
			"End deletes the records of ids whatever their version, takes these IDs off this list, and leaves all others alone",
			testEnd,
		}, {
			"End of what is not there is no error",
			"End returns nil for IDs without a record, for IDs that are not listed, for the same ID twice, and when it is sent again",
			testEndMissing,
		}, {
			"End deletes before it delists",
			"a live record that is not listed is one that nobody finds any more: End takes IDs off only after their records are gone, so that it can be sent again if it fails halfway",
			testEndOrder,
		}, {
			"C1 nothing brings back what was ended",
			"no upsert exists: after End every Save over a version and every Touch is ErrNotFound",
			testEndedForGood,
		}, {
			"C4 End beats every writer",
			"End gives way to no Save and no Touch, however busy: once it has returned the record is gone",
			testEndBeatsWriters,
		}, {
			"CutOff returns the list and takes nothing off it",
			"CutOff returns the list as it is, with the exceptions on it, and neither shortens it nor deletes a record",
			testCutOffList,
		}, {
			"CutOff returns what it noted",
			"CutOff returns its own Cut: its ID is never 0, which is none, and it was just now",
			testOwnCut,
		}, {
			"CutOffs of one list have IDs of their own",
			"no two CutOffs of a list have the same ID, unless they are of the same instant: a process tells its own by it",
			testCutIDs,
		}, {
			"last has the ID that its CutOff returned",
			"last is the newest CutOff that did not except the ID, by its own ID, whatever others there are",
			testLastCutID,
		}, {
			"last tells how long ago the list was cut off",
			"last is the zero Cut if the list was never cut off, else its Ago is the time since the newest CutOff on the store's clock",
			testLastCut,
		}, {
			"last is rounded down",
			"last never says longer ago than it was: a login that began before the CutOff would pass for one that began after it",
			testLastCutRounded,
		}, {
			"CutOff is not told to whom it excepts",
			"an ID in except is not told of that CutOff, whether it is listed or not; it is told of an older one that did not except it, and all others are told of both",
			testExcept,
		}, {
			"CutOff counts each with its own exceptions",
			"last is the newest CutOff that did not except the ID, however many others did",
			testManyCuts,
		}, {
			"CutOff is remembered for an hour",
			"a CutOff and whom it excepts are noted for an hour at least, on a list that is in use and on one that is not",
			testCutForAnHour,
		}, {
			"CutOff outlasts what is listed",
			"a CutOff is noted for an hour also on a list that never was, or whose IDs ended or ran out: the login that it is meant for is the one that is not listed yet",
			testCutOutlastsList,
		}, {
			"CutOff of one list is not told on another",
			"last is about this list only: cutting off one user logs out no other",
			testCutOneList,
		}, {
			"LoadAll is Load for each",
			"LoadAll returns what Load does, in the order of ids, for each as often as it is asked for, and the zero Record for what is not there",
			testLoadAll,
		}, {
			"Versions are those of the live records",
			"Versions returns every 64-bit version as it was saved, in the order of ids, for each as often as it is asked for, and 0 for what is not there",
			testVersionsOf,
		}, {
			"E1 LoadAll and Versions miss what has ended",
			"a record is gone from the instant its ttl has run out, for these methods as for Load, and never before",
			testEndedReads,
		}, {
			"L1 LoadAll and Versions see what was confirmed",
			"reads do not lag: one after a Save, Touch, Delete or End returned sees it, or a stream outlives the logout",
			testReadsDoNotLag,
		}, {
			"many IDs at once",
			"a user with 1,500 sessions is a user like any other, for every method",
			testManyIDs,
		}, {
			"no IDs at all",
			"LoadAll, Versions and End of no IDs return nothing, change nothing, and are no error",
			testNoIDs,
		}, {
			"C2 lists and records that were handed out do not change",
			"a store changes nothing that it returned and keeps nothing that it was given: its caller may be reading the one and using the other again",
			testUsersHandedOut,
		}, {
			"R11 a call on lists ends with its context",
			"a call whose context is over returns at once, and an answer that it did not get is not an empty one: a failure never lies",
			testUsersCancelled,
		}, {
			"an Enlist beside a CutOff is listed or told",
			"an Enlist comes either before a CutOff, and is on the list that it returns, or after it, and is told: no login slips through a RevokeUser",
			testEnlistBesideCutOff,
		}, {
			"of parallel Enlists all are listed and one sees all",
			"Enlist loses no other Enlist, and adds before it counts: of those that pass the limit together the last one sees it",
			testParallelEnlist,
		}, {
			"parallel Enlist and End lose nothing",
			"what is enlisted stays and what is ended goes, whatever happens to the rest of the list meanwhile",
			testEnlistBesideEnd,
		},
	}
}

// aList is the name of a list where any will do: each subtest has a store of its
// own.
const aList = "the sessions of ann"

func newIDs(n int) []uuid.UUID {
	ids := make([]uuid.UUID, n)
	for i := range ids {
		ids[i] = uuid.New()
	}
	return ids
}

// sessions returns the IDs of records that outlive their subtest. Whatever is
// expected to be listed is one of them, because a store may take off what has no
// record: no session ends later for it.
func (t *storeTest) sessions(n int) []uuid.UUID {
	t.Helper()
	ids := newIDs(n)
	for _, id := range ids {
		t.save(id, 0, record("ann", id.String()), 100*long)
	}
	return ids
}

// enlist puts ids on a list for a long time. It asks for no limit.
func (t *storeTest) enlist(list string, ids ...uuid.UUID) {
	t.Helper()
	for _, id := range ids {
		t.enlistFor(list, id, long)
	}
}

// enlistFor returns the time until which the ID has to be listed at least.
func (t *storeTest) enlistFor(list string, id uuid.UUID, ttl time.Duration) span {
	t.Helper()
	return t.during(ttl, func() {
		t.Helper()
		listed, _, err := t.users.Enlist(t.Context(), list, id, ttl, 0)
		if err != nil {
			t.Fatalf("Enlist: %v", err)
		}
		if len(listed) != 0 {
			t.Fatalf("Enlist with most 0 gave a list of %d", len(listed))
		}
	})
}

func (t *storeTest) list(list string) []uuid.UUID {
	t.Helper()
	ids, err := t.users.List(t.Context(), list)
	if err != nil {
		t.Fatalf("List: %v", err)
	}
	return ids
}

func (t *storeTest) lists(list string, want ...uuid.UUID) {
	t.Helper()
	t.sameIDs("List", t.list(list), want)
}

func (t *storeTest) end(list string, ids ...uuid.UUID) {
	t.Helper()
	if err := t.users.End(t.Context(), list, ids...); err != nil {
		t.Fatalf("End: %v", err)
	}
}

func (t *storeTest) loadAll(ids ...uuid.UUID) []session.Record {
	t.Helper()
	recs, err := t.users.LoadAll(t.Context(), ids)
	if err != nil {
		t.Fatalf("LoadAll: %v", err)
	}
	if len(recs) != len(ids) {
		t.Fatalf("LoadAll of %d IDs gave %d records", len(ids), len(recs))
	}
	return recs
}

func (t *storeTest) versions(ids ...uuid.UUID) []uint64 {
	t.Helper()
	versions, err := t.users.Versions(t.Context(), ids)
	if err != nil {
		t.Fatalf("Versions: %v", err)
	}
	if len(versions) != len(ids) {
		t.Fatalf("Versions of %d IDs gave %d", len(ids), len(versions))
	}
	return versions
}

// reads expects of LoadAll and of Versions the records of ids: want, or nothing
// where want is the zero Record.
func (t *storeTest) reads(ids []uuid.UUID, want []session.Record) []session.Record {
	t.Helper()
	recs, versions := t.loadAll(ids...), t.versions(ids...)
	for i, rec := range want {
		switch {
		case versions[i] != rec.Version:
			t.Fatalf("Versions gave %d in place %d, want %d", versions[i], i, rec.Version)
		case !isZero(rec):
			t.same(fmt.Sprintf("LoadAll, in place %d,", i), recs[i], rec)
		case !isZero(recs[i]):
			t.Fatalf("LoadAll gave %v in place %d, where there is no record", show(recs[i]), i)
		}
	}
	return recs
}

func (t *storeTest) sameIDs(what string, got, want []uuid.UUID) {
	t.Helper()
	if slices.Equal(got, want) {
		return
	}
	at := 0
	for at < min(len(got), len(want)) && got[at] == want[at] {
		at++
	}
	t.Fatalf("%s gave %d IDs, want %d; from place %d on %s, want %s",
		what, len(got), len(want), at, showIDs(got[at:]), showIDs(want[at:]))
}

// showIDs keeps long lists out of messages.
func showIDs(ids []uuid.UUID) string {
	var words []string
	for _, id := range ids[:min(len(ids), 6)] {
		words = append(words, id.String()[:8])
	}
	if len(ids) > len(words) {
		words = append(words, "...")
	}
	return "[" + strings.Join(words, " ") + "]"
}

// without returns ids but for those in others, in their order.
func without(ids []uuid.UUID, others ...uuid.UUID) []uuid.UUID {
	return slices.DeleteFunc(slices.Clone(ids), func(id uuid.UUID) bool { return slices.Contains(others, id) })
}
