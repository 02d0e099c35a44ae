package session

import (
	"errors"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/uuid"
)

// checkMemoryRoom proves that a store with a cap counts right, and finds its
// anonymous records where it looks for them.
func checkMemoryRoom(t *testing.T, s *MemoryStore) {
	t.Helper()
	checkMemory(t, s)
	records := 0
	for i := range s.shards {
		records += checkMemoryPlaces(t, &s.shards[i])
	}
	if n := s.room.taken.Load(); n != int64(records) || n > int64(s.MaxSessions) {
		t.Fatalf("%d places are taken by %d records, of %d", n, records, s.MaxSessions)
	}
}

func checkMemoryPlaces(t *testing.T, sh *memoryShard) (records int) {
	t.Helper()
	sh.mu.Lock()
	defer sh.mu.Unlock()
	mt := &sh.table
	for place := range len(mt.byEnd) {
		if anonymous := mt.at(uint32(place)).owner == ""; anonymous != (place < mt.anonymous) {
			t.Fatalf("place %d of %d, the first %d for anonymous records, has one that is: %v", place, len(mt.byEnd), mt.anonymous, anonymous)
		}
	}
	return len(mt.byEnd)
}

// memoryCreate saves a new record with a random ID.
func memoryCreate(t *testing.T, s *MemoryStore, owner string, ttl time.Duration) uuid.UUID {
	t.Helper()
	id := uuid.New()
	if _, err := s.Save(t.Context(), id, 0, Record{Version: 1, Owner: owner}, ttl); err != nil {
		t.Fatalf("a creation for %q: %v", owner, err)
	}
	return id
}

func isInMemory(t *testing.T, s *MemoryStore, id uuid.UUID) bool {
	t.Helper()
	_, err := s.Load(t.Context(), id)
	if err != nil && !errors.Is(err, ErrNotFound) {
		t.Fatal(err)
	}
	return err == nil
}

// memoryOwners are a few users, and nobody.
func memoryOwner(rnd *rand.Rand) string { return []string{"", "", "ann", "bob"}[rnd.IntN(4)] }

func TestMemoryStoreCapEvictsAnonymousRecordsOnly(t *testing.T) {
	s := &MemoryStore{MaxSessions: 100}
	var users []uuid.UUID
	for i := range 1000 {
		memoryCreate(t, s, "", time.Hour)
		if i%20 == 0 {
			users = append(users, memoryCreate(t, s, "ann", time.Minute)) // it ends before all the others
		}
	}
	checkMemoryRoom(t, s)
	if s.Len() != 100 {
		t.Errorf("%d records with a cap of 100", s.Len())
	}
	for i, id := range users {
		if !isInMemory(t, s, id) {
			t.Errorf("user's session %d of %d was evicted", i, len(users))
		}
	}
}

// One shard, few records: all of them are likely looked at.
func TestMemoryStoreCapEvictsWhatEndsEarly(t *testing.T) {
	s := &MemoryStore{MaxSessions: 1000}
	for i := range s.MaxSessions {
		if _, err := s.Save(t.Context(), memoryID(i), 0, Record{Version: 1}, time.Duration(i+1)*time.Hour); err != nil {
			t.Fatal(err)
		}
	}
	for i := range 200 {
		if _, err := s.Save(t.Context(), memoryID(s.MaxSessions+i), 0, Record{Version: 1}, 10_000*time.Hour); err != nil {
			t.Fatal(err)
		}
	}
	// Of the later half that ends, one is evicted only if all five are of it: one
	// time in 32, and ever more often as the earlier ones go.
	gone := 0
	for i := s.MaxSessions / 2; i < s.MaxSessions; i++ {
		if !isInMemory(t, s, memoryID(i)) {
			gone++
		}
	}
	if gone > 50 {
		t.Errorf("%d of 200 evictions took a record of the half that ends last", gone)
	}
	checkMemoryRoom(t, s)
}

func TestMemoryStoreCapTakesExpiredRecordsFirst(t *testing.T) {
	for _, owner := range []string{"", "ann"} {
		t.Run("owner="+owner, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := &MemoryStore{MaxSessions: 20}
				var live []uuid.UUID
				for range 10 {
					live = append(live, memoryCreate(t, s, "", time.Hour))
				}
				for i := range 10 { // in the shard that is searched first
					if _, err := s.Save(t.Context(), memoryID(i), 0, Record{Version: 1, Owner: owner}, time.Second); err != nil {
						t.Fatal(err)
					}
				}
				time.Sleep(memoryFiling + time.Second) // less than to the sweep
				for i := range 10 {
					if _, err := s.Save(t.Context(), memoryID(100+i), 0, Record{Version: 1, Owner: owner}, time.Hour); err != nil {
						t.Fatal(err)
					}
				}
				for i, id := range live {
					if !isInMemory(t, s, id) {
						t.Errorf("record %d was evicted although others had expired", i)
					}
				}
				checkMemoryRoom(t, s)
			})
		})
	}
}

func TestMemoryStoreCapRefusesWhenAllAreUsers(t *testing.T) {
	s := &MemoryStore{MaxSessions: 300}
	ids := make([]uuid.UUID, s.MaxSessions)
	for i := range ids {
		ids[i] = memoryCreate(t, s, "ann", time.Hour)
	}
	for _, owner := range []string{"", "bob"} {
		id := uuid.New()
		if _, err := s.Save(t.Context(), id, 0, Record{Version: 1, Owner: owner}, time.Hour); err != errMemoryFull || isInMemory(t, s, id) {
			t.Errorf("a creation for %q: %v", owner, err)
		}
	}
	checkMemoryRoom(t, s)

	// What creates nothing goes on.
	if _, err := s.Save(t.Context(), ids[0], 1, Record{Version: 2, Owner: "ann"}, time.Hour); err != nil {
		t.Errorf("a Save over a record: %v", err)
	}
	if live, err := s.Save(t.Context(), ids[0], 0, Record{Version: 3}, time.Hour); !errors.Is(err, ErrConflict) || live.Version != 2 {
		t.Errorf("a creation where there is a record: %v", err)
	}
	if _, err := s.Save(t.Context(), uuid.New(), 1, Record{Version: 2}, time.Hour); !errors.Is(err, ErrNotFound) {
		t.Errorf("a Save over a record that is gone: %v", err)
	}
	if err := s.Touch(t.Context(), ids[0], 2, time.Hour); err != nil {
		t.Errorf("Touch: %v", err)
	}

	// A place that becomes free is anybody's.
	for i, free := range []func() error{
		func() error { return s.Delete(t.Context(), ids[1], 0) },
		func() error { return s.End(t.Context(), "ann", ids[2]) },
		func() error { _, err := s.Save(t.Context(), ids[3], 1, Record{Version: 2}, time.Hour); return err }, // nobody's: evicted
	} {
		if err := free(); err != nil {
			t.Fatal(err)
		}
		memoryCreate(t, s, "bob", time.Hour)
		if _, err := s.Save(t.Context(), uuid.New(), 0, Record{Version: 1}, time.Hour); err != errMemoryFull {
			t.Errorf("after %d places became free and were taken: %v", i+1, err)
		}
	}
	checkMemoryRoom(t, s)
}

func TestMemoryStoreCapLetsSessionsLogIn(t *testing.T) {
	s := &MemoryStore{MaxSessions: 50}
	var ids []uuid.UUID
	for range s.MaxSessions {
		ids = append(ids, memoryCreate(t, s, "", time.Hour))
	}
	for i, id := range ids {
		if _, err := s.Save(t.Context(), id, 1, Record{Version: 2, Owner: "ann"}, time.Hour); err != nil {
			t.Fatalf("login %d: %v", i, err)
		}
		checkMemoryRoom(t, s)
	}
	for i, id := range ids {
		if !isInMemory(t, s, id) {
			t.Errorf("session %d that logged in is gone", i)
		}
	}
}

// Whatever shard the one anonymous record is in, a login finds it.
func TestMemoryStoreCapFindsTheLastAnonymousRecord(t *testing.T) {
	s := &MemoryStore{MaxSessions: 500}
	for range s.MaxSessions - 1 {
		memoryCreate(t, s, "ann", time.Hour)
	}
	for i := range len(s.shards) {
		if _, err := s.Save(t.Context(), uuid.UUID{0: 1, 15: byte(i)}, 0, Record{Version: 1}, time.Hour); err != nil {
			t.Fatal(err)
		}
		id := memoryCreate(t, s, "bob", time.Hour)
		if err := s.Delete(t.Context(), id, 0); err != nil {
			t.Fatal(err)
		}
	}
	checkMemoryRoom(t, s)
}

// The one place that is not a user's goes from stranger to stranger. A login gets
// it whenever it comes: a prototype that only looked through the shards missed it
// when it came up behind.
func TestMemoryStoreCapFloodRefusesNoLogin(t *testing.T) {
	s := &MemoryStore{MaxSessions: 600}
	for range s.MaxSessions - 1 {
		memoryCreate(t, s, "ann", time.Hour)
	}
	var stop atomic.Bool
	var floods, refused atomic.Int64
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for !stop.Load() {
				if _, err := s.Save(t.Context(), uuid.New(), 0, Record{Version: 1}, time.Hour); err == errMemoryFull {
					refused.Add(1)
				} else if err != nil {
					t.Error(err)
				}
				floods.Add(1)
				runtime.Gosched()
			}
		})
	}
	for i := range 2000 {
		for s.Len() < s.MaxSessions {
			runtime.Gosched()
		}
		id := uuid.New()
		if _, err := s.Save(t.Context(), id, 0, Record{Version: 1, Owner: "bob"}, time.Hour); err != nil {
			t.Errorf("login %d of the flood was refused: %v", i, err)
			break
		}
		if err := s.Delete(t.Context(), id, 0); err != nil {
			t.Fatal(err)
		}
	}
	stop.Store(true)
	wg.Wait()
	if floods.Load() == refused.Load() {
		t.Error("no stranger got in: the test shows nothing")
	}
	checkMemoryRoom(t, s)
}

func TestMemoryStoreCapIsNeverExceeded(t *testing.T) {
	s := &MemoryStore{MaxSessions: 64}
	var stop atomic.Bool
	var writers, watcher sync.WaitGroup
	watcher.Go(func() {
		for !stop.Load() {
			if n := memoryLenAtOnce(s); n > s.MaxSessions {
				t.Errorf("%d records with a cap of %d", n, s.MaxSessions)
				return
			}
			runtime.Gosched()
		}
	})
	for g := range 6 {
		writers.Go(func() {
			rnd := rand.New(rand.NewPCG(uint64(g), 7))
			for range 2000 {
				stressMemoryCap(t, s, rnd)
			}
		})
	}
	writers.Wait()
	stop.Store(true)
	watcher.Wait()
	checkMemoryRoom(t, s)
}

// memoryLenAtOnce is Len at one instant.
func memoryLenAtOnce(s *MemoryStore) (n int) {
	for i := range s.shards {
		s.shards[i].mu.Lock()
		defer s.shards[i].mu.Unlock()
		n += len(s.shards[i].table.byEnd)
	}
	return n
}

func stressMemoryCap(t *testing.T, s *MemoryStore, rnd *rand.Rand) {
	ctx, id := t.Context(), uuid.UUID{14: byte(rnd.IntN(2)), 15: byte(rnd.IntN(256))}
	ttl := time.Duration(1+rnd.IntN(20)) * time.Millisecond
	switch rnd.IntN(8) {
	case 0, 1, 2:
		_, _ = s.Save(ctx, id, 0, Record{Version: 1, Owner: memoryOwner(rnd)}, ttl)
	case 3, 4:
		_, _ = s.Save(ctx, id, 1, Record{Version: 1, Owner: memoryOwner(rnd)}, ttl)
	case 5:
		_ = s.Delete(ctx, id, rnd.Uint64N(3))
	case 6:
		_ = s.End(ctx, "ann", id)
	default:
		s.sweep()
	}
}

// Those who made room for a record that another one created meanwhile give the
// place back.
func TestMemoryStoreCapCountsOneOfManyCreations(t *testing.T) {
	s := &MemoryStore{MaxSessions: 200}
	for range s.MaxSessions {
		memoryCreate(t, s, "", time.Hour)
	}
	for range 100 {
		id := uuid.New()
		var begun, created atomic.Int64
		var wg sync.WaitGroup
		s.room.making.Lock() // all of them find the store full
		for range 8 {
			wg.Go(func() {
				begun.Add(1)
				if _, err := s.Save(t.Context(), id, 0, Record{Version: 1, Owner: "ann"}, time.Hour); err == nil {
					created.Add(1)
				} else if !errors.Is(err, ErrConflict) {
					t.Error(err)
				}
			})
		}
		for begun.Load() < 8 {
			runtime.Gosched()
		}
		s.room.making.Unlock()
		wg.Wait()
		if n := created.Load(); n != 1 {
			t.Fatalf("%d of 8 created one record", n)
		}
		checkMemoryRoom(t, s)
		if err := s.Delete(t.Context(), id, 0); err != nil {
			t.Fatal(err)
		}
		for s.Len() < s.MaxSessions {
			memoryCreate(t, s, "", time.Hour)
		}
	}
}

func TestMemoryStoreWithoutACapKeepsNoCount(t *testing.T) {
	for _, most := range []int{0, -5} {
		s := &MemoryStore{MaxSessions: most}
		for range 1000 {
			memoryCreate(t, s, "", time.Hour)
		}
		if s.Len() != 1000 || s.room.taken.Load() != 0 {
			t.Errorf("MaxSessions %d: %d of 1000 records, %d counted", most, s.Len(), s.room.taken.Load())
		}
	}
}

func TestMemoryStoreCapAllocatesNothing(t *testing.T) {
	s := &MemoryStore{MaxSessions: 1000}
	for range s.MaxSessions {
		memoryCreate(t, s, "", time.Hour)
	}
	id := memoryCreate(t, s, "ann", time.Hour)
	for name, save := range map[string]func() error{
		"over a record": func() error {
			_, err := s.Save(t.Context(), id, 1, Record{Version: 1, Owner: "ann"}, time.Hour)
			return err
		},
		"that evicts": func() error {
			_, err := s.Save(t.Context(), uuid.UUID{0: byte(rand.Int()), 1: byte(rand.Int()), 2: byte(rand.Int()), 15: 9}, 0, Record{Version: 1}, time.Hour)
			return err
		},
	} {
		for range 10_000 { // the shard has what it needs then
			_ = save()
		}
		if n := testing.AllocsPerRun(1000, func() { _ = save() }); n != 0 {
			t.Errorf("a Save %s allocates %v times", name, n)
		}
	}
}

func TestMemoryStoreCapRefusalIsAnsweredWith503(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &MemoryStore{MaxSessions: 1}
		h := memoryCapHandler(t, s)
		if code := memoryCapRequest(h, "/login").Code; code != http.StatusOK {
			t.Errorf("the first login: %d", code)
		}
		for _, path := range []string{"/login", "/visit"} {
			w := memoryCapRequest(h, path)
			if w.Code != http.StatusServiceUnavailable || w.Header().Get("Set-Cookie") != "" || w.Header().Get("Retry-After") == "" {
				t.Errorf("%s in a store that is full of users: %d, %v", path, w.Code, w.Header())
			}
		}
	})
}

// memoryCapHandler logs in as whom the query names, or notes a visit.
func memoryCapHandler(t *testing.T, s *MemoryStore) http.Handler {
	t.Helper()
	m, err := New(Config{Store: s, Name: "cap", Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	visits := NewKey[int]("visits").SurvivesLogin()
	return m.Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s := FromContext(r.Context())
		if r.URL.Path == "/login" {
			if err := s.Login("user" + r.URL.RawQuery); err != nil {
				t.Error(err)
			}
		}
		visits.Update(s, func(n int) int { return n + 1 })
		w.Header().Set("X-User", s.User())
	}))
}

func memoryCapRequest(h http.Handler, target string, cookies ...*http.Cookie) *httptest.ResponseRecorder {
	r := httptest.NewRequest("GET", target, nil)
	for _, c := range cookies {
		r.AddCookie(c)
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w
}

// BenchmarkMemoryStoreFull is what creations cost that have to evict, and those
// that are refused because all records are users'.
func BenchmarkMemoryStoreFull(b *testing.B) {
	for _, owner := range []string{"", "ann"} {
		b.Run("owner="+owner, func(b *testing.B) {
			s := &MemoryStore{MaxSessions: 100_000}
			for range s.MaxSessions {
				if _, err := s.Save(b.Context(), uuid.New(), 0, Record{Version: 1, Owner: owner}, time.Hour); err != nil {
					b.Fatal(err)
				}
			}
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					_, err := s.Save(b.Context(), uuid.New(), 0, Record{Version: 1}, time.Hour)
					if (err == errMemoryFull) != (owner != "") {
						b.Fatal(err)
					}
				}
			})
		})
	}
}
