package benchmarks

import (
	"maps"
	"net/http"
	"time"

	"github.com/boj/redistore"
	"github.com/gorilla/sessions"
	"github.com/quasoft/memstore"
)

var signingKey = []byte("0123456789abcdef0123456789abcdef")

func openGorillaMemory(Env) (*App, error) {
	return OpenGorilla(newMemStore(), func() {}), nil
}

func openGorillaRedis(env Env) (*App, error) {
	store, err := newRediStore(env)
	if err != nil {
		return nil, err
	}
	return OpenGorilla(store, func() { _ = store.Close() }), nil
}

// OpenGorilla returns the application of gorilla/sessions on a store that is there.
func OpenGorilla(store sessions.Store, closeStore func()) *App {
	return &App{HTTP: gorillaRoutes(store), Close: closeStore}
}

func newMemStore() *memstore.MemStore {
	store := memstore.NewMemStore(signingKey)
	store.MaxAge(int(lifetime / time.Second))
	store.Options.HttpOnly, store.Options.Secure = true, true
	return store
}

func newRediStore(env Env) (*redistore.RediStore, error) {
	store, err := redistore.NewRediStore(10, "tcp", env.Redis, "", "", signingKey)
	if err != nil {
		return nil, err
	}
	store.SetMaxAge(int(lifetime / time.Second))
	store.Options.HttpOnly, store.Options.Secure = true, true
	return store, nil
}

// A gorillaUse is what one request does to a session of gorilla/sessions; echo
// serves the same.
type gorillaUse func(w http.ResponseWriter, r *http.Request, s *sessions.Session)

func gorillaRoutes(store sessions.Store) *routes {
	with := func(use gorillaUse) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			s, err := store.Get(r, cookieName)
			must(err)
			use(w, r, s)
		}
	}
	return &routes{
		visit: with(gorillaVisit), read: with(gorillaRead), write: with(gorillaWrite), login: with(gorillaLogin),
		renew: with(gorillaRenew), logout: with(gorillaLogout), dump: with(gorillaDump),
	}
}

func gorillaVisit(w http.ResponseWriter, r *http.Request, s *sessions.Session) {
	s.Values["visits"] = 1
	must(s.Save(r, w))
}

func gorillaRead(_ http.ResponseWriter, _ *http.Request, s *sessions.Session) {
	mustTrue(s.Values["email"] == email)
}

func gorillaWrite(w http.ResponseWriter, r *http.Request, s *sessions.Session) {
	s.Values["visits"] = s.Values["visits"].(int) + 1
	must(s.Save(r, w))
}

func gorillaLogin(w http.ResponseWriter, r *http.Request, s *sessions.Session) {
	gorillaForget(w, r, s)
	s.Values["email"] = email
	s.Values["note"] = note
	s.Values["member"] = true
	s.Values["visits"] = 1
	s.Values["seen"] = seen
	must(s.Save(r, w))
}

func gorillaRenew(w http.ResponseWriter, r *http.Request, s *sessions.Session) {
	gorillaForget(w, r, s)
	must(s.Save(r, w))
}

// gorillaForget deletes what is stored and leaves s to be saved under a new ID:
// the package has no renewal of its own, and this is how its users write it.
func gorillaForget(w http.ResponseWriter, r *http.Request, s *sessions.Session) {
	if s.ID == "" || s.IsNew {
		return
	}
	values, age := maps.Clone(s.Values), s.Options.MaxAge
	s.Options.MaxAge = -1
	must(s.Save(r, w))
	s.ID, s.Values, s.Options.MaxAge = "", values, age
}

func gorillaLogout(w http.ResponseWriter, r *http.Request, s *sessions.Session) {
	s.Options.MaxAge = -1
	must(s.Save(r, w))
}

func gorillaDump(w http.ResponseWriter, _ *http.Request, s *sessions.Session) {
	email, _ := s.Values["email"].(string)
	note, _ := s.Values["note"].(string)
	member, _ := s.Values["member"].(bool)
	visits, _ := s.Values["visits"].(int)
	seen, _ := s.Values["seen"].(time.Time)
	_, _ = w.Write([]byte(dump(email, note, member, visits, seen)))
}
