package main

import (
	"log"
	"net/http"
	"time"
	"unicode/utf8"

	"github.com/sojourn-go/session"
)

// recent is how long after a login the password may be changed without asking
// for the old one.
const recent = 5 * time.Minute

const shortestPassword = 8

// askForPassword stands in for pages that need a recent login.
func askForPassword(w http.ResponseWriter, r *http.Request) {
	show(w, http.StatusForbidden, "again.html", frameFor(r, "Is it still you?"))
}

func showPassword(w http.ResponseWriter, r *http.Request) {
	passwordPage(w, r, http.StatusOK)
}

func passwordPage(w http.ResponseWriter, r *http.Request, status int) {
	show(w, status, "password.html", struct {
		frame
		TooShort bool
		Shortest int
	}{frameFor(r, "Change your password"), status == http.StatusUnprocessableEntity, shortestPassword})
}

func (shop *shop) changePassword(w http.ResponseWriter, r *http.Request) {
	password := r.PostFormValue("password")
	if utf8.RuneCountInString(password) < shortestPassword {
		passwordPage(w, r, http.StatusUnprocessableEntity)
		return
	}
	s := session.FromContext(r.Context())
	// In this order: whoever knows the old password logs in before RevokeOthers,
	// which then ends it, or finds that it is no longer the password.
	shop.accounts.change(s.User(), password)
	if err := s.RevokeOthers(r.Context()); err != nil {
		log.Print(err)
		fail(w, http.StatusServiceUnavailable, "Your password is changed, but your other devices may still be logged in. Please sign them out on the page of your devices.")
		return
	}
	if err := s.Renew(); err != nil { // a copy of this browser's cookie dies too
		sessionFailed(w, r, err)
		return
	}
	message.Set(s, "Your password is changed, and you are signed out everywhere else.")
	http.Redirect(w, r, "/devices", http.StatusSeeOther)
}
