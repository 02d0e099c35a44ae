package main

import (
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/sojourn-go/session"
)

// maxDevices is how many a user may be logged in on: the next login ends the
// oldest.
const maxDevices = 5

// device is what the visitor logged in with.
var device = session.NewKey[deviceName]("device")

// A deviceName is what a person recognises a device by.
type deviceName struct{ Browser, System string }

// deviceOf finds the names in a User-Agent header. Only words of the two lists
// are kept, and nothing of the header itself: its sender may write anything.
func deviceOf(userAgent string) deviceName {
	userAgent = userAgent[:min(len(userAgent), 512)]
	return deviceName{firstIn(userAgent, browsers), firstIn(userAgent, systems)}
}

// The order matters: Edge claims to be Chrome, and Chrome to be Safari.
var (
	browsers = [][2]string{
		{"Firefox/", "Firefox"}, {"FxiOS/", "Firefox"}, {"Edg", "Edge"}, {"OPR/", "Opera"}, {"SamsungBrowser/", "Samsung Internet"},
		{"Chrome/", "Chrome"}, {"CriOS/", "Chrome"}, {"Safari/", "Safari"}, {"curl/", "curl"},
	}
	systems = [][2]string{
		{"iPhone", "iPhone"}, {"iPad", "iPad"}, {"Android", "Android"}, {"Windows", "Windows"},
		{"Macintosh", "Mac"}, {"CrOS", "ChromeOS"}, {"Linux", "Linux"},
	}
)

func firstIn(text string, words [][2]string) string {
	for _, word := range words {
		if strings.Contains(text, word[0]) {
			return word[1]
		}
	}
	return ""
}

func (d deviceName) String() string {
	switch {
	case d.Browser == "":
		return strings.TrimSuffix("Unknown browser on "+d.System, " on ")
	case d.System == "":
		return d.Browser
	}
	return d.Browser + " on " + d.System
}

// Handheld tells which of two pictures to show.
func (d deviceName) Handheld() bool {
	return d.System == "iPhone" || d.System == "iPad" || d.System == "Android"
}

// A deviceRow is a session as its user sees it.
type deviceRow struct {
	ID             string // names the session, and opens nothing
	Name           deviceName
	This           bool
	In, Seen, Ends moment
}

func (shop *shop) devices(w http.ResponseWriter, r *http.Request) {
	s := session.FromContext(r.Context())
	all, err := shop.sessions.Sessions(r.Context(), s.User())
	if err != nil {
		sessionFailed(w, r, err)
		return
	}
	rows := make([]deviceRow, 0, len(all))
	for _, one := range all {
		row := deviceRow{one.ID().String(), device.Get(one), one.ID() == s.ID(), ago(one.AuthenticatedAt()), ago(one.LastSeen()), until(one.Expires())}
		if row.This {
			row.Seen, row.Ends = ago(time.Now()), until(s.Expires())
			rows = slices.Insert(rows, 0, row)
			continue
		}
		rows = append(rows, row)
	}
	show(w, http.StatusOK, "devices.html", struct {
		frame
		Devices []deviceRow
		Most    int
	}{frameFor(r, "Your devices"), rows, maxDevices})
}

func (shop *shop) endDevice(w http.ResponseWriter, r *http.Request) {
	s := session.FromContext(r.Context())
	id, err := uuid.Parse(r.PostFormValue("id"))
	if err == nil && id == s.ID() {
		logout(w, r)
		return
	}
	if err != nil {
		err = session.ErrNotFound
	} else {
		// The ID comes from a form: Revoke ends it only if it is this user's.
		err = shop.sessions.Revoke(r.Context(), s.User(), id)
	}
	switch {
	case errors.Is(err, session.ErrNotFound):
		message.Set(s, "You have no such device. It may have been signed out already.")
	case err != nil:
		sessionFailed(w, r, err)
		return
	default:
		message.Set(s, "That device is signed out.")
	}
	http.Redirect(w, r, "/devices", http.StatusSeeOther)
}

func (shop *shop) endOtherDevices(w http.ResponseWriter, r *http.Request) {
	s := session.FromContext(r.Context())
	if err := s.RevokeOthers(r.Context()); err != nil {
		sessionFailed(w, r, err)
		return
	}
	message.Set(s, "You are signed out everywhere else.")
	http.Redirect(w, r, "/devices", http.StatusSeeOther)
}

// A moment is a time in words that need no time zone, and exactly.
type moment struct{ Words, Exactly string }

func ago(t time.Time) moment {
	d := time.Since(t)
	if d < time.Minute {
		return at(t, "just now")
	}
	return at(t, about(d)+" ago")
}

func until(t time.Time) moment { return at(t, "in "+about(time.Until(t))) }

func at(t time.Time, words string) moment {
	return moment{words, t.UTC().Format(time.RFC3339)}
}

// about rounds to the unit that people would name.
func about(d time.Duration) string {
	n, unit := max(1, d.Round(time.Minute)/time.Minute), "minute"
	switch {
	case d >= 48*time.Hour:
		n, unit = d.Round(24*time.Hour)/(24*time.Hour), "day"
	case d >= 90*time.Minute:
		n, unit = d.Round(time.Hour)/time.Hour, "hour"
	}
	if n == 1 {
		return "1 " + unit
	}
	return fmt.Sprintf("%d %ss", n, unit)
}
