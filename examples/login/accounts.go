package main

import (
	"net/http"
	"sync"

	"github.com/sojourn-go/session"
)

// accounts are the users, with their passwords.
type accounts struct {
	mu        sync.Mutex
	passwords map[string]string
}

func newAccounts() *accounts {
	return &accounts{passwords: map[string]string{"alice": "wonderland", "bob": "builder"}}
}

func (a *accounts) check(user, password string) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	want, known := a.passwords[user]
	return known && password == want
}

func (a *accounts) change(user, password string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.passwords[user] = password
}

// afterLogin are the pages that the login form may lead to: not any address that
// somebody wrote into a link.
var afterLogin = map[string]bool{"/devices": true, "/password": true}

// nextPage is where a login leads to.
func nextPage(r *http.Request) string {
	if next := r.FormValue("next"); afterLogin[next] {
		return next
	}
	return "/"
}

func showLogin(w http.ResponseWriter, r *http.Request) {
	loginPage(w, r, http.StatusOK, "")
}

// loginPage shows the form. user is the name that a login was refused for, if
// status says that one was.
func loginPage(w http.ResponseWriter, r *http.Request, status int, user string) {
	show(w, status, "login.html", struct {
		frame
		Next, Name string
		Wrong      bool
	}{frameFor(r, "Log in"), nextPage(r), user, status == http.StatusForbidden})
}

func (shop *shop) login(w http.ResponseWriter, r *http.Request) {
	user := r.PostFormValue("user")
	if !shop.accounts.check(user, r.PostFormValue("password")) {
		// One answer for both, so that nobody learns which users there are.
		loginPage(w, r, http.StatusForbidden, user)
		return
	}
	s := session.FromContext(r.Context())
	if err := s.Login(user); err != nil { // first, because it drops what is there
		sessionFailed(w, r, err)
		return
	}
	device.Set(s, deviceOf(r.UserAgent()))
	message.Set(s, "Welcome, "+user+".")
	http.Redirect(w, r, nextPage(r), http.StatusSeeOther)
}

func logout(w http.ResponseWriter, r *http.Request) {
	s := session.FromContext(r.Context())
	s.Destroy()
	message.Set(s, "You are logged out.") // in a new session, which knows nothing else
	http.Redirect(w, r, "/", http.StatusSeeOther)
}

// forUsers sends visitors who are not logged in to the login form, and back.
func forUsers(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if session.FromContext(r.Context()).User() == "" {
			next := "/devices"
			if afterLogin[r.URL.Path] {
				next = r.URL.Path
			}
			http.Redirect(w, r, "/login?next="+next, http.StatusSeeOther)
			return
		}
		h.ServeHTTP(w, r)
	})
}
