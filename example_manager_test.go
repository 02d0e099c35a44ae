package session_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/google/uuid"

	"github.com/sojourn-go/session"
)

// New tells every fault of a configuration at once.
func ExampleNew() {
	_, err := session.New(session.Config{
		Store:       new(session.MemoryStore),
		IdleTimeout: 500 * time.Millisecond,
		Cookie:      session.Cookie{Name: "__Host-shop", Domain: "shop.example"},
	})
	fmt.Println(err)
	// Output:
	// session: Config.Name is missing: name the application, so that no other one on the same store accepts its tokens (T3)
	// session: Config.IdleTimeout is 500ms: choose 1s to 9600h0m0s, or 0 for 30m0s
	// session: Cookie.Name "__Host-shop" forbids Domain: use the prefix __Secure-, or no Domain (RFC 6265bis, section 4.1.3.2)
}

func ExampleOpen() {
	store, err := session.Open("memory:") // or redis://user:password@redis.internal:6379/0
	if err != nil {
		fmt.Println(err)
		return
	}
	defer store.Close()
	_, err = session.New(session.Config{Store: store, Name: "shop"})
	fmt.Println(err)

	// A bad URL is explained without its password.
	_, err = session.Open("redis://app:s3cret@redis.internal:port")
	fmt.Println(err)
	// Output:
	// <nil>
	// session: host 1 of the store URL is not a name or an address with, perhaps, a port; write host, host:port or [IPv6]:port
}

// Revoke ends a session that is known by its ID, such as one from a list of
// devices. The ID is no secret, so it needs to be the user's own.
func ExampleManager_Revoke() {
	sessions := must(session.New(session.Config{}))
	var phone uuid.UUID
	mux := http.NewServeMux()
	mux.HandleFunc("/login", func(w http.ResponseWriter, r *http.Request) {
		s := session.FromContext(r.Context())
		if err := s.Login("alice"); err != nil {
			http.Error(w, "try again", http.StatusInternalServerError)
			return
		}
		phone = s.ID()
	})
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(w, "user %q", session.FromContext(r.Context()).User())
	})

	browser := openBrowser(sessions.Handler(mux))
	browser.get("/login")
	fmt.Println(sessions.Revoke(context.Background(), "mallory", phone))
	browser.get("/")
	fmt.Println(sessions.Revoke(context.Background(), "alice", phone))
	browser.get("/")
	// Output:
	// /login 200
	// session: not found
	// / 200 user "alice"
	// <nil>
	// / 200 user ""
}

// The error handler answers, in the site's own style, when the session could not
// be loaded or saved. What the handler writes afterwards goes nowhere.
func ExampleConfig_errorHandler() {
	note := session.NewKey[string]("note")
	sessions := must(session.New(session.Config{
		ErrorHandler: func(w http.ResponseWriter, r *http.Request, err error) {
			if errors.Is(err, session.ErrEnded) {
				http.Error(w, "You logged out in another tab.", http.StatusConflict)
				return
			}
			http.Error(w, "We are repairing something.", http.StatusServiceUnavailable)
		},
	}))

	mux := http.NewServeMux()
	mux.HandleFunc("/login", func(w http.ResponseWriter, r *http.Request) {
		if err := session.FromContext(r.Context()).Login("alice"); err != nil {
			http.Error(w, "try again", http.StatusInternalServerError)
		}
	})
	mux.HandleFunc("/note", func(w http.ResponseWriter, r *http.Request) {
		s := session.FromContext(r.Context())
		_ = sessions.RevokeAny(r.Context(), s.ID()) // the other tab, while this request runs
		note.Set(s, "buy milk")
		fmt.Fprint(w, "Noted.")
	})

	browser := openBrowser(sessions.Handler(mux))
	browser.get("/login")
	browser.get("/note")
	// Output:
	// /login 200
	// /note 409 You logged out in another tab.
}

// Events are for counters and security logs. They hold public names only.
func ExampleConfig_onEvent() {
	sessions := must(session.New(session.Config{
		OnEvent: func(_ context.Context, e session.Event) { fmt.Printf("event %s of user %q\n", e.Kind, e.User) },
	}))

	mux := http.NewServeMux()
	mux.HandleFunc("/login", func(w http.ResponseWriter, r *http.Request) {
		if err := session.FromContext(r.Context()).Login("alice"); err != nil {
			http.Error(w, "try again", http.StatusInternalServerError)
		}
	})
	mux.HandleFunc("/logout", func(_ http.ResponseWriter, r *http.Request) {
		session.FromContext(r.Context()).Destroy()
	})

	browser := openBrowser(sessions.Handler(mux))
	browser.get("/login")
	browser.get("/logout")
	// Output:
	// event created of user "alice"
	// event login of user "alice"
	// /login 200
	// event destroyed of user "alice"
	// /logout 200
}

// Requests for static files need no session, and go without one.
func ExampleConfig_skip() {
	sessions := must(session.New(session.Config{
		Skip: func(r *http.Request) bool { return r.URL.Path == "/style.css" },
	}))
	visits := session.NewKey[int]("visits")

	mux := http.NewServeMux()
	mux.HandleFunc("/style.css", func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprint(w, "body { margin: 0 }")
	})
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		s := session.FromContext(r.Context())
		visits.Update(s, func(n int) int { return n + 1 })
		fmt.Fprint(w, "visits: ", visits.Get(s))
	})

	browser := openBrowser(sessions.Handler(mux))
	browser.get("/style.css")
	browser.get("/")
	// Output:
	// /style.css 200 body { margin: 0 }
	// / 200 visits: 1
}

// Two managers on one server, each with a cookie of its own. FromContext of a
// manager gives its session and never the other's.
func ExampleManager_FromContext() {
	store := new(session.MemoryStore)
	shop := must(session.New(session.Config{Store: store, Name: "shop"}))
	staff := must(session.New(session.Config{
		Store: store, Name: "staff", Cookie: session.Cookie{Name: "__Host-staff"}, Lifetime: time.Hour,
	}))

	mux := http.NewServeMux()
	mux.HandleFunc("/login", func(w http.ResponseWriter, r *http.Request) {
		errShop := shop.FromContext(r.Context()).Login("alice")
		errStaff := staff.FromContext(r.Context()).Login("a.liddell")
		if err := errors.Join(errShop, errStaff); err != nil {
			http.Error(w, "try again", http.StatusInternalServerError)
		}
	})
	mux.HandleFunc("/leave", func(_ http.ResponseWriter, r *http.Request) {
		staff.FromContext(r.Context()).Destroy()
	})
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(w, "shop %q, staff %q", shop.FromContext(r.Context()).User(), staff.FromContext(r.Context()).User())
	})

	browser := openBrowser(shop.Handler(staff.Handler(mux)))
	browser.get("/login")
	browser.get("/")
	browser.get("/leave")
	browser.get("/")
	// Output:
	// /login 200
	// / 200 shop "alice", staff "a.liddell"
	// /leave 200
	// / 200 shop "alice", staff ""
}

// WRONG: a middleware that recovers from panics inside of the manager. The
// manager never sees the panic, takes the 500 for an answer like others, and
// saves what the handler left half done. Right is the other order, in which
// nothing of it is kept (R10).
func Example_wrongOrder() {
	debited := session.NewKey[bool]("debited")
	recoverer := func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			defer func() {
				if recover() != nil {
					http.Error(w, "oops", http.StatusInternalServerError)
				}
			}()
			next.ServeHTTP(w, r)
		})
	}
	sessions := must(session.New(session.Config{}))
	mux := http.NewServeMux()
	mux.HandleFunc("/transfer", func(_ http.ResponseWriter, r *http.Request) {
		debited.Set(session.FromContext(r.Context()), true)
		panic("before the other account was credited")
	})
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprint(w, "debited: ", debited.Get(session.FromContext(r.Context())))
	})

	wrong := openBrowser(sessions.Handler(recoverer(mux)))
	wrong.get("/transfer")
	wrong.get("/")

	right := openBrowser(recoverer(sessions.Handler(mux)))
	right.get("/transfer")
	right.get("/")
	// Output:
	// /transfer 500 oops
	// / 200 debited: true
	// /transfer 500 oops
	// / 200 debited: false
}
