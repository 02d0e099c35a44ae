package session

import (
	"testing"
	"testing/synctest"
	"time"
)

// What has ended is found behind however many records that were touched since
// they were filed.
func TestMemoryStoreCapFindsExpiredRecordsBehindTouchedOnes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const busy = 3 * memorySweepStep
		s := &MemoryStore{MaxSessions: busy + 1}
		for i := range busy {
			if _, err := s.Save(t.Context(), memoryID(i), 0, Record{Version: 1, Owner: "ann"}, time.Second); err != nil {
				t.Fatal(err)
			}
			if err := s.Touch(t.Context(), memoryID(i), 1, time.Hour); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := s.Save(t.Context(), memoryID(busy), 0, Record{Version: 1, Owner: "bob"}, time.Second); err != nil {
			t.Fatal(err)
		}
		time.Sleep(memoryFiling + time.Second) // less than to the sweep
		if _, err := s.Save(t.Context(), memoryID(busy+1), 0, Record{Version: 1, Owner: "cid"}, time.Hour); err != nil {
			t.Errorf("a login was refused although a record had expired: %v", err)
		}
		checkMemoryRoom(t, s)
	})
}
