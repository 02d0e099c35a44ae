package main

import (
	"net/http"
	"slices"

	"github.com/sojourn-go/session"
)

var (
	// A cart may be kept when its owner logs in. What says something about who
	// the visitor is may not: somebody else may have put it there.
	cart = session.NewKey[[]string]("cart").SurvivesLogin()
	// A message is shown by the next page and then gone.
	message = session.NewKey[string]("message")
)

var (
	products = []string{"Kettle", "Teapot", "Strainer"}
	users    = map[string]string{"alice": "wonderland", "bob": "builder"}
)

// maxItems keeps a cart well inside Config.MaxBytes.
const maxItems = 100

func home(w http.ResponseWriter, r *http.Request) {
	showHome(w, r, http.StatusOK, "")
}

func addToCart(w http.ResponseWriter, r *http.Request) {
	item := r.PostFormValue("item")
	if !slices.Contains(products, item) {
		fail(w, http.StatusBadRequest, "We do not sell that.")
		return
	}
	s := session.FromContext(r.Context())
	// Update, not Get and Set: two clicks at once put two things into the cart.
	cart.Update(s, func(items []string) []string {
		if len(items) >= maxItems {
			return items
		}
		return append(items, item)
	})
	http.Redirect(w, r, "/", http.StatusSeeOther)
}

func login(w http.ResponseWriter, r *http.Request) {
	user := r.PostFormValue("user")
	password, known := users[user]
	if !known || r.PostFormValue("password") != password {
		// One answer for both, so that nobody learns which users there are.
		showHome(w, r, http.StatusForbidden, user)
		return
	}
	s := session.FromContext(r.Context())
	if err := s.Login(user); err != nil { // first, because it drops what is there
		sessionFailed(w, r, err)
		return
	}
	message.Set(s, "Welcome, "+user+".")
	http.Redirect(w, r, "/", http.StatusSeeOther)
}

func logout(w http.ResponseWriter, r *http.Request) {
	s := session.FromContext(r.Context())
	s.Destroy()
	message.Set(s, "You are logged out.") // in a new session, which knows nothing else
	http.Redirect(w, r, "/", http.StatusSeeOther)
}
