package session_test

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"time"

	"github.com/google/uuid"
	"github.com/sojourn-go/session"
)

var device = session.NewKey[string]("device")

// A page of "your devices".
func ExampleManager_Sessions() {
	sessions, err := session.New(session.Config{})
	if err != nil {
		panic(err)
	}
	login := func(w http.ResponseWriter, r *http.Request) {
		s := session.FromContext(r.Context())
		if err := s.Login("alice"); err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		device.Set(s, r.FormValue("device"))
	}
	devices := func(w http.ResponseWriter, r *http.Request) {
		here := session.FromContext(r.Context())
		all, err := sessions.Sessions(r.Context(), here.User())
		if err != nil {
			http.Error(w, "Try again soon.", http.StatusServiceUnavailable)
			return
		}
		for _, s := range all {
			if s.ID() == here.ID() {
				fmt.Println(device.Get(s), "(this one)")
				continue
			}
			fmt.Println(device.Get(s), "seen", time.Since(s.LastSeen()).Round(time.Hour), "ago")
		}
	}
	mux := http.NewServeMux()
	mux.HandleFunc("POST /login", login)
	mux.HandleFunc("GET /devices", devices)
	site := sessions.Handler(mux)

	visit(site, "POST", "/login?device=Laptop", nil)
	phone := visit(site, "POST", "/login?device=Phone", nil)
	visit(site, "GET", "/devices", phone)
	// Unordered output:
	// Phone (this one)
	// Laptop seen 0s ago
}

// A form with the session's ID, and one for everything else. An ID that is not
// the user's ends nothing.
func ExampleSession_RevokeOthers() {
	sessions, err := session.New(session.Config{})
	if err != nil {
		panic(err)
	}
	mux := http.NewServeMux()
	mux.HandleFunc("POST /login", func(w http.ResponseWriter, r *http.Request) {
		_ = session.FromContext(r.Context()).Login("alice")
	})
	mux.HandleFunc("POST /devices/end", func(w http.ResponseWriter, r *http.Request) {
		id, err := uuid.Parse(r.FormValue("id"))
		if err == nil {
			err = sessions.Revoke(r.Context(), session.FromContext(r.Context()).User(), id)
		}
		fmt.Println(err)
	})
	mux.HandleFunc("POST /devices/end-others", func(w http.ResponseWriter, r *http.Request) {
		if err := session.FromContext(r.Context()).RevokeOthers(r.Context()); err != nil {
			http.Error(w, "Try again soon.", http.StatusServiceUnavailable)
		}
	})
	mux.HandleFunc("GET /", func(w http.ResponseWriter, r *http.Request) {
		fmt.Printf("%q\n", session.FromContext(r.Context()).User())
	})
	site := sessions.Handler(mux)

	laptop, phone := visit(site, "POST", "/login", nil), visit(site, "POST", "/login", nil)
	visit(site, "POST", "/devices/end?id="+uuid.NewString(), phone)
	visit(site, "POST", "/devices/end-others", phone)
	visit(site, "GET", "/", phone)
	visit(site, "GET", "/", laptop)
	// Output:
	// session: not found
	// "alice"
	// ""
}

// A stream that hangs up when its visitor logs out, here or on another server.
func ExampleSession_Done() {
	events := func(w http.ResponseWriter, r *http.Request) {
		s := session.FromContext(r.Context())
		tick := time.NewTicker(time.Second)
		defer tick.Stop()
		for {
			select {
			case <-s.Done():
				fmt.Println("logged out")
				return
			case <-r.Context().Done(): // the browser left
				return
			case at := <-tick.C:
				fmt.Fprintf(w, "data: %s\n\n", at)
				if http.NewResponseController(w).Flush() != nil {
					return
				}
			}
		}
	}
	sessions, err := session.New(session.Config{})
	if err != nil {
		panic(err)
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /events", events)
	mux.HandleFunc("POST /login", func(w http.ResponseWriter, r *http.Request) {
		_ = session.FromContext(r.Context()).Login("alice")
	})
	site := sessions.Handler(mux)
	browser := visit(site, "POST", "/login", nil)
	time.AfterFunc(50*time.Millisecond, func() {
		_ = sessions.RevokeUser(context.Background(), "alice") // the account was closed
	})
	visit(site, "GET", "/events", browser)
	// Output: logged out
}

// Paying asks for a login of the last five minutes.
func ExampleRequireRecentLogin() {
	recently := session.RequireRecentLogin(5*time.Minute, http.RedirectHandler("/login", http.StatusSeeOther))
	mux := http.NewServeMux()
	mux.Handle("POST /pay", recently(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { fmt.Println("paid") })))
	mux.HandleFunc("POST /login", func(w http.ResponseWriter, r *http.Request) {
		_ = session.FromContext(r.Context()).Login("alice")
	})
	sessions, err := session.New(session.Config{})
	if err != nil {
		panic(err)
	}
	site := sessions.Handler(mux)
	visit(site, "POST", "/pay", nil) // is sent to /login
	visit(site, "POST", "/pay", visit(site, "POST", "/login", nil))
	// Output: paid
}

// visit sends a request as a browser does, and returns the cookie that it has then.
func visit(site http.Handler, method, path string, cookie *http.Cookie) *http.Cookie {
	r, w := httptest.NewRequest(method, path, nil), httptest.NewRecorder()
	if cookie != nil {
		r.AddCookie(cookie)
	}
	site.ServeHTTP(w, r)
	for _, c := range w.Result().Cookies() {
		cookie = c
	}
	return cookie
}
