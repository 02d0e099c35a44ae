package sessiontest

// storeCases lists the rules that a store has to keep. Each is one subtest.
func storeCases() []storeCase {
	return []storeCase{
		{
			"E1 a record lives for its ttl and no longer",
			"a record is gone from the instant its ttl has run out, within the store's resolution, and never before",
			testLifespan,
		}, {
			"E1 what has ended is gone for every method",
			"Load, Save and Touch say ErrNotFound at every time past the end, and nothing brings the record back (C1)",
			testEnded,
		}, {
			"E1 TTL is what is left",
			"Load says how long the record has left on the store's own clock; the manager decides by it when a touch is due (R4)",
			testTTL,
		}, {
			"E2 a ttl is rounded down",
			"a ttl that is no multiple of the resolution is rounded down, so that no session outlives its limit",
			testRoundedDown,
		}, {
			"E2 a ttl that rounds to nothing is an error",
			"a ttl below the resolution must be an error that is neither ErrNotFound nor ErrConflict, and must change nothing: never is there a record without an end, and never does one vanish unasked",
			testNoTTL,
		}, {
			"E2 the shortest ttl ends and the longest holds",
			"every ttl from MinTTL to 400 days is taken as it is",
			testExtremeTTL,
		}, {
			"E4 a touch moves the end later",
			"Touch makes the record end ttl from now",
			testTouchLater,
		}, {
			"E4 a touch moves the end nearer",
			"Touch makes the record end ttl from now, also when it would have ended later: lowering the configuration reaches live sessions (E5)",
			testTouchNearer,
		}, {
			"E4 a touch changes nothing but the end",
			"Touch leaves version, owner and data alone",
			testTouchOnlyEnd,
		}, {
			"E4 a touch of another version changes nothing",
			"Touch moves the end only while the version is the one given: it can neither shorten nor stretch what a Login made",
			testTouchStale,
		}, {
			"E4 a touch creates nothing",
			"Touch of what is not there is ErrNotFound and leaves nothing behind",
			testTouchMissing,
		}, {
			"E4 a touch in parallel undoes nothing",
			"Touch is one atomic step: it writes no values back over a Save, and brings nothing back after a Delete",
			testTouchRaces,
		}, {
			"E6 expired records are given back",
			"expired records give their memory back without anybody reading them, also when their end came nearer",
			testGivenBack,
		}, {
			"C1 a save creates only what is absent",
			"Save over version 0 succeeds only if there is no live record",
			testCreate,
		}, {
			"C1 a save replaces only the version it names",
			"Save succeeds only if the live record's version is prev; otherwise nothing changes, the end included",
			testReplaceVersion,
		}, {
			"C1 a save replaces the whole record",
			"Save stores owner and data under next.Version, and the ttl counts from then",
			testReplaceAll,
		}, {
			"C1 a save over nothing is not found",
			"Save over a version is ErrNotFound, not ErrConflict, when there is no live record: the manager tells a logout from a race by it (C3)",
			testSaveMissing,
		}, {
			"C1 nothing brings back what was deleted",
			"no upsert exists: after a Delete every Save over a version and every Touch is ErrNotFound",
			testDeleted,
		}, {
			"C1 an expired record is absent",
			"Save over version 0 succeeds once the record has expired, and nothing of that one shows through",
			testCreateAfterEnd,
		}, {
			"C1 a delete removes only the version it names",
			"Delete with a version removes the live record only if it has that version, otherwise ErrConflict; with version 0 it removes whatever is there",
			testDelete,
		}, {
			"C1 deleting what is not there is no error",
			"Delete of a record that is absent, deleted or expired returns nil, with a version or without",
			testDeleteMissing,
		}, {
			"C1 parallel saves lose nothing",
			"Save is one atomic step: of two writers that saw the same version one is refused",
			testCounter,
		}, {
			"C1 of parallel creations one wins",
			"Save over version 0 is one atomic step",
			testParallelCreate,
		}, {
			"C1 of a save and a delete one wins",
			"Save and Delete that name the same version cannot both succeed",
			testSaveOrDelete,
		}, {
			"C2 what was handed out does not change",
			"neither side changes bytes after handing them over: a store that reuses a buffer changes a record that a request is merging",
			testHandedOut,
		}, {
			"C4 nothing is saved after a delete",
			"a logout beats every writer, however busy: once Delete has returned no Save over a version succeeds",
			testDeleteWins,
		}, {
			"C5 a save that took effect is no conflict",
			"a store never re-sends a Save on its own: the second would be refused because of the first",
			testSentOnce,
		}, {
			"C5 a save that was sent twice conflicts with itself",
			"a repeated Save is ErrConflict, and the live version is the very one that was sent: the manager recognises its own commit by it after a lost answer",
			testSentTwice,
		}, {
			"C5 versions are compared for equality only",
			"a version is any 64-bit number but 0, stored as given: not counted, not ordered, not rounded to a float, not signed",
			testVersions,
		}, {
			"L1 a load sees what was confirmed",
			"reads do not lag: a Load after a Save, Touch or Delete returned sees it, or a fresh login is forgotten and an old secret lives on",
			testNoLag,
		}, {
			"L1 any owner comes back",
			"the owner is the application's name of a user: any text, and \"\" is anonymous",
			testOwners,
		}, {
			"R11 a call ends with its context",
			"a call whose context is over returns at once, and an answer that it did not get is not ErrNotFound or ErrConflict: a failure never lies",
			testCancelled,
		}, {
			"T4 records are kept apart",
			"every bit of an ID counts",
			testApart,
		}, {
			"T5 any data comes back",
			"data is opaque: every byte comes back as it was given, however many",
			testData,
		},
	}
}
