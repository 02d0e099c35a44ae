package migrate

import (
	"encoding/json"
	"errors"
	"expvar"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/uuid"

	"github.com/sojourn-go/session"
)

func TestPhasesComeFromAnEnvironmentVariable(t *testing.T) {
	for want, word := range map[Phase]string{WriteOld: "write-old", WriteNew: "write-new", NewOnly: "new-only"} {
		if got, err := ParsePhase(word); got != want || err != nil || want.String() != word {
			t.Errorf("ParsePhase(%q) = %v, %v", word, got, err)
		}
	}
	for _, word := range []string{"", "1", "Write-Old", "done"} {
		if p, err := ParsePhase(word); err == nil || p != 0 || !strings.Contains(err.Error(), "write-old is the first") {
			t.Errorf("ParsePhase(%q) = %v, %v", word, p, err)
		}
	}
	if got := Phase(9).String(); got != "Phase(9)" {
		t.Errorf("Phase(9) is %q", got)
	}
}

// plainStore keeps no lists.
type plainStore struct{ session.Store }

func TestNewNamesEveryFault(t *testing.T) {
	a, b := new(session.MemoryStore), new(session.MemoryStore)
	for _, c := range []struct {
		cfg   Config
		wants []string
	}{
		{Config{}, []string{"Phase is none", "New is missing", "Old is missing"}},
		{Config{New: a, Phase: WriteNew}, []string{"Old is missing"}},
		{Config{Old: a, New: a, Phase: WriteOld, Name: "shop"}, []string{"the same store"}},
		{Config{Old: a, New: b, Phase: WriteOld}, []string{"Name is missing"}},
		{Config{Old: a, New: b, Phase: 7, Name: "shop", Lifetime: -1}, []string{"Phase is none", "Lifetime is negative"}},
		{Config{Old: a, New: b, Phase: WriteOld, Name: "shop"}, nil},
		{Config{Old: plainStore{a}, New: b, Phase: WriteOld}, nil},
		{Config{New: b, Phase: NewOnly}, nil},
	} {
		s, err := New(c.cfg)
		if c.wants == nil {
			if err != nil || s == nil {
				t.Errorf("New(%+v): %v", c.cfg, err)
			}
			continue
		}
		if err == nil || s != nil {
			t.Fatalf("New(%+v) found no fault", c.cfg)
		}
		faults := strings.Split(err.Error(), "\n")
		if len(faults) != len(c.wants) {
			t.Errorf("New(%+v) found %d faults, want %d: %v", c.cfg, len(faults), len(c.wants), err)
		}
		for i, want := range c.wants {
			if !strings.Contains(err.Error(), want) || !strings.HasPrefix(faults[i], "session: migrate.Config.") {
				t.Errorf("New(%+v): %v, want %q", c.cfg, err, want)
			}
		}
	}
}

func TestAStoreIsAUserStoreIfBothAre(t *testing.T) {
	with, without := new(session.MemoryStore), plainStore{new(session.MemoryStore)}
	for _, c := range []struct {
		old, new session.Store
		phase    Phase
		lists    bool
	}{
		{with, new(session.MemoryStore), WriteOld, true},
		{with, without, WriteNew, false},
		{without, with, WriteNew, false},
		{without, with, NewOnly, true},
		{with, without, NewOnly, false},
	} {
		s, err := New(Config{Old: c.old, New: c.new, Phase: c.phase, Name: "shop"})
		if err != nil {
			t.Fatal(err)
		}
		if _, lists := s.(session.UserStore); lists != c.lists {
			t.Errorf("%v from %T to %T: lists %v", c.phase, c.old, c.new, lists)
		}
	}
}

// An operator reads the old store's silence from the counters.
func TestStatsTellWhenTheOldStoreIsQuiet(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		old, new := new(session.MemoryStore), new(session.MemoryStore)
		s := open(t, old, new, WriteNew).(Store)
		id := uuid.New()
		rec := session.Record{Version: 1, Data: []byte("1")}
		if _, err := old.Save(t.Context(), id, 0, rec, time.Hour); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Minute)
		if got := s.Stats(); got.FromOld != 0 || !got.LastFromOld.IsZero() || got.Quiet != time.Minute || got.Phase != WriteNew {
			t.Errorf("before the first load: %+v", got)
		}
		if _, err := s.Load(t.Context(), uuid.New()); !errors.Is(err, session.ErrNotFound) {
			t.Fatal(err)
		}
		if _, err := s.Load(t.Context(), id); err != nil {
			t.Fatal(err)
		}
		loaded := time.Now()
		time.Sleep(time.Minute)
		if got := s.Stats(); got.FromOld != 1 || !got.LastFromOld.Equal(loaded) || got.Quiet != time.Minute || got.FromNew != 0 {
			t.Errorf("after a load from the old store: %+v", got)
		}
		if err := s.Touch(t.Context(), id, 1, time.Hour); err != nil {
			t.Fatal(err)
		}
		time.Sleep(30 * time.Minute)
		if _, err := s.Load(t.Context(), id); err != nil {
			t.Fatal(err)
		}
		got := s.Stats()
		if got.FromOld != 2 || got.Quiet != 30*time.Minute || got.FromNew != 1 || got.Moved != 1 {
			t.Errorf("after the move: %+v", got)
		}
		var shown struct {
			Phase         string
			Last_from_old time.Time
			Quiet         float64 `json:"old_quiet_seconds"`
			From_old      int
			From_new      int
			Moved         int
		}
		if err := json.Unmarshal([]byte(expvar.Var(s).String()), &shown); err != nil {
			t.Fatal(err)
		}
		if shown.Phase != "write-new" || !shown.Last_from_old.Equal(got.LastFromOld) || shown.Quiet != 1800 || shown.From_old != 2 || shown.From_new != 1 || shown.Moved != 1 {
			t.Errorf("as JSON: %s", s)
		}
	})
}

// Nothing that is alive is left in the old store one idle timeout after the last
// server in WriteOld: what is touched moves, and what is not touched ends.
func TestAfterAnIdleTimeoutOfWriteNewTheOldStoreIsEmpty(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		old, new := new(session.MemoryStore), new(session.MemoryStore)
		behind, s := open(t, old, new, WriteOld), open(t, old, new, WriteNew)
		ids := []uuid.UUID{uuid.New(), uuid.New(), uuid.New()}
		for _, id := range ids {
			if _, err := behind.Save(t.Context(), id, 0, session.Record{Version: 1, Data: []byte("1")}, time.Hour); err != nil {
				t.Fatal(err)
			}
		}
		time.Sleep(time.Hour / 2)
		if err := s.Touch(t.Context(), ids[0], 1, time.Hour); err != nil {
			t.Fatal(err)
		}
		if _, err := s.Save(t.Context(), ids[1], 1, session.Record{Version: 2, Data: []byte("2")}, time.Hour); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Hour/2 + time.Minute)
		if n := old.Len(); n != 0 {
			t.Errorf("%d records are in the old store", n)
		}
		after := open(t, nil, new, NewOnly)
		for i, want := range []uint64{1, 2, 0} {
			rec, _ := after.Load(t.Context(), ids[i])
			if rec.Version != want {
				t.Errorf("session %d is of version %d in the new store, want %d", i, rec.Version, want)
			}
		}
	})
}

// Going back from WriteNew to WriteOld: what moved stays where it is, and is read,
// written, and logged out there.
func TestGoingBackOnePhaseLosesNothing(t *testing.T) {
	old, new := new(session.MemoryStore), new(session.MemoryStore)
	ahead, back := open(t, old, new, WriteNew), open(t, old, new, WriteOld)
	for _, id := range []uuid.UUID{uuid.New(), uuid.New()} {
		first := session.Record{Version: 1, Owner: "ann", Data: []byte("1")}
		if _, err := open(t, old, new, WriteOld).Save(t.Context(), id, 0, first, time.Hour); err != nil {
			t.Fatal(err)
		}
		for version := uint64(1); version < 8; version++ {
			s := back
			if version == 1 {
				s = ahead // moves it
			}
			rec, err := s.Load(t.Context(), id)
			if err != nil || rec.Version != version {
				t.Fatalf("version %d: %+v, %v", version, rec, err)
			}
			if err := s.Touch(t.Context(), id, version, time.Hour); err != nil {
				t.Fatal(err)
			}
			if _, err := s.Save(t.Context(), id, version, session.Record{Version: version + 1, Owner: "ann", Data: []byte("1")}, time.Hour); err != nil {
				t.Fatal(err)
			}
		}
		if err := back.Delete(t.Context(), id, 8); err != nil {
			t.Fatal(err)
		}
		for _, s := range []session.Store{old, new, back, ahead} {
			if rec, err := s.Load(t.Context(), id); !errors.Is(err, session.ErrNotFound) {
				t.Errorf("after the logout there is %+v, %v", rec, err)
			}
		}
	}
}
