package session_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/http"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/uuid"
	"github.com/sojourn-go/session"
	"github.com/sojourn-go/session/migrate"
)

// A dawdlingStore takes up to 20 ms before each call takes effect and up to 20 ms
// until it answers.
type dawdlingStore struct {
	session.UserStore
	chance *chance
}

// A chance is a rand.Rand for several goroutines.
type chance struct {
	mu sync.Mutex
	r  *rand.Rand
}

func (c *chance) below(n int) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.r.IntN(n)
}

func (c *chance) sleep(most time.Duration) { time.Sleep(time.Duration(c.below(int(most)))) }

// dawdle is to be deferred: it sleeps now and then.
func (s dawdlingStore) dawdle() func() {
	s.chance.sleep(20 * time.Millisecond)
	return func() { s.chance.sleep(20 * time.Millisecond) }
}

func (s dawdlingStore) Load(ctx context.Context, id uuid.UUID) (session.Record, error) {
	defer s.dawdle()()
	return s.UserStore.Load(ctx, id)
}

func (s dawdlingStore) Save(ctx context.Context, id uuid.UUID, prev uint64, next session.Record, ttl time.Duration) (session.Record, error) {
	defer s.dawdle()()
	return s.UserStore.Save(ctx, id, prev, next, ttl)
}

func (s dawdlingStore) Delete(ctx context.Context, id uuid.UUID, version uint64) error {
	defer s.dawdle()()
	return s.UserStore.Delete(ctx, id, version)
}

func (s dawdlingStore) Enlist(ctx context.Context, list string, id uuid.UUID, ttl time.Duration, most int) ([]uuid.UUID, session.Cut, error) {
	defer s.dawdle()()
	return s.UserStore.Enlist(ctx, list, id, ttl, most)
}

func (s dawdlingStore) List(ctx context.Context, list string) ([]uuid.UUID, error) {
	defer s.dawdle()()
	return s.UserStore.List(ctx, list)
}

func (s dawdlingStore) LoadAll(ctx context.Context, ids []uuid.UUID) ([]session.Record, error) {
	defer s.dawdle()()
	return s.UserStore.LoadAll(ctx, ids)
}

func (s dawdlingStore) End(ctx context.Context, list string, ids ...uuid.UUID) error {
	defer s.dawdle()()
	return s.UserStore.End(ctx, list, ids...)
}

var randomStores = map[string]func(old, new session.UserStore) (session.Store, error){
	"one store": func(old, _ session.UserStore) (session.Store, error) { return old, nil },
	"write-old": func(old, new session.UserStore) (session.Store, error) {
		return migrate.New(migrate.Config{Old: old, New: new, Phase: migrate.WriteOld, Name: "test"})
	},
	"write-new": func(old, new session.UserStore) (session.Store, error) {
		return migrate.New(migrate.Config{Old: old, New: new, Phase: migrate.WriteNew, Name: "test"})
	},
}

// T90: logins of one user that overlap in every way, of new sessions and of old ones,
// from a server each. No more than MaxPerUser are left, nor fewer than were told that
// they are logged in.
func TestMaxPerUserWithRandomLogins(t *testing.T) {
	for name, open := range randomStores {
		for _, refuse := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, refuse=%t", name, refuse), func(t *testing.T) {
				eachRandomLogins(t, func(r *randomLogins) {
					r.run(refuse, open)
					r.judge(refuse, name == "one store")
				})
			})
		}
	}
}

// A revocation somewhere among such logins: who began before it opens nothing after it.
func TestRevokeUserWithRandomLogins(t *testing.T) {
	for name, open := range randomStores {
		t.Run(name, func(t *testing.T) {
			eachRandomLogins(t, func(r *randomLogins) {
				var revoked time.Time
				r.meanwhile = func() {
					r.sleep(120 * time.Millisecond)
					revoked = time.Now()
					revokeUser(r.t, r.phones[0].manager, "alice")
				}
				r.run(false, open)
				for i, d := range r.phones {
					d.visit(func(s *session.Session) {
						if s.User() != "" && r.began[i].Before(revoked) {
							r.t.Errorf("RevokeUser, seed %d: a login that began %v before it opens a session", r.seed, revoked.Sub(r.began[i]))
						}
					})
				}
			})
		})
	}
}

func eachRandomLogins(t *testing.T, test func(r *randomLogins)) {
	for seed := range uint64(500) {
		synctest.Test(t, func(t *testing.T) {
			c := &chance{r: rand.New(rand.NewPCG(seed, 90))}
			test(&randomLogins{t: t, seed: seed, most: 1 + c.below(3), chance: c})
		})
	}
}

type randomLogins struct {
	t      *testing.T
	seed   uint64
	most   int
	placed int // had a session before
	phones []*phone
	last   []int       // status of each one's login, 0 for who did not log in
	began  []time.Time // of its request
	*chance
	meanwhile func() // nil: nothing
}

func (r *randomLogins) run(refuse bool, open func(old, new session.UserStore) (session.Store, error)) {
	r.placed = r.below(r.most + 1)
	r.last = make([]int, r.placed+1+r.below(3))
	r.began = make([]time.Time, len(r.last))
	first, second := dawdlingStore{new(session.MemoryStore), r.chance}, dawdlingStore{new(session.MemoryStore), r.chance}
	for i := range r.last {
		store, err := open(first, second)
		if err != nil {
			r.t.Fatal(err)
		}
		d := new(phone)
		cfg := session.Config{Store: store, Name: "test", MaxPerUser: r.most, RefuseLogins: refuse, OnEvent: d.events.note, StoreTimeout: time.Minute}
		d.guest = guest{t: r.t, manager: newManager(r.t, cfg)}
		r.phones = append(r.phones, d)
		if i < r.placed {
			d.wantLogin(http.StatusOK)
		}
	}
	var all sync.WaitGroup
	if r.meanwhile != nil {
		all.Go(r.meanwhile)
	}
	for i, d := range r.phones {
		if i < r.placed && r.below(3) == 0 {
			continue
		}
		all.Go(func() {
			r.sleep(60 * time.Millisecond)
			r.began[i] = time.Now()
			r.last[i] = d.visit(func(s *session.Session) {
				_ = s.Login("alice")
				r.sleep(30 * time.Millisecond)
			}).Code
		})
	}
	all.Wait()
}

// judge looks who is logged in. Of two stores, neither knows whether a newcomer in
// the other one came first, and RefuseLogins then refuses both.
func (r *randomLogins) judge(refuse, exact bool) {
	r.t.Helper()
	left, told, who := 0, 0, ""
	for i, d := range r.phones {
		had, is := i < r.placed, false
		d.visit(func(s *session.Session) { is = s.User() == "alice" })
		if is {
			left++
		}
		if r.last[i] == http.StatusOK || r.last[i] == 0 && had {
			told++
		}
		who += fmt.Sprintf(" [had a session %t, answered %d, is logged in %t]", had, r.last[i], is)
		switch {
		case refuse && had && !is, refuse && had && r.last[i] == http.StatusConflict:
			r.t.Errorf("T90, seed %d: who had a place lost it", r.seed)
		case refuse && r.last[i] == http.StatusOK && !is:
			r.t.Errorf("T90, seed %d: a login was answered 200 and ended by another", r.seed)
		}
	}
	want := min(r.most, told)
	if refuse && exact {
		want = min(r.most, len(r.phones))
	}
	if left > r.most || left < want {
		r.t.Errorf("T90, seed %d: %d are logged in, want %d of at most %d:%s", r.seed, left, want, r.most, who)
	}
	stored, err := r.phones[0].manager.Sessions(r.t.Context(), "alice")
	if err != nil || len(stored) != left {
		r.t.Errorf("T90, seed %d: %d sessions are stored, %d open one: %v", r.seed, len(stored), left, err)
	}
}
