package session_test

import (
	"encoding/base64"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sojourn-go/session"
	"github.com/sojourn-go/session/internal/redistest"
)

// What a request costs on the wire, counted by a proxy before Redis (R1 to R4).
func TestRoundTripsPerRequest(t *testing.T) {
	p := newProxied(t, session.Config{})
	p.run(t, "", 0, redistest.Pass) // gives the server the scripts
	first := p.site.visitor()
	first.do("set a x")
	first.do("logout") // and that of a conditional deletion
	unknown := base64.RawURLEncoding.EncodeToString(make([]byte, 48))

	var v *visitor
	with := func(steps ...string) func() {
		return func() {
			v = p.site.visitor()
			if len(steps) > 0 {
				v.do(steps...)
			}
		}
	}
	cookie := func(value string) func() { return func() { v = p.site.old(value) } }
	const load, save, enlist = "GET PTTL", "EVALSHA", "EVALSHA"
	for _, c := range []struct {
		name     string
		begin    func()
		steps    []string
		page     string
		trips    int
		commands string
	}{
		{"anonymous (R1)", with(), nil, "nobody", 0, ""},
		{"anonymous, nothing to delete or destroy (R1)", with(), []string{"delete a", "clear", "renew", "logout"}, "nobody", 0, ""},
		{"junk cookie (R3)", cookie(strings.Repeat("!", 64)), nil, "nobody", 0, ""},
		{"short cookie (R3)", cookie("abc"), nil, "nobody", 0, ""},
		{"dead cookie (R4)", cookie(unknown), nil, "nobody", 1, load},
		{"read (R4)", with("set a x"), nil, "nobody a=x", 1, load},
		{"set of what is there (R16)", with("set a x"), []string{"set a x"}, "nobody a=x", 1, load},
		{"first write (R4)", with(), []string{"set a x"}, "nobody a=x", 1, save},
		{"first login (R4)", with(), []string{"login alice", "set a x"}, "alice a=x", 2, save + " " + enlist},
		{"modify (R4)", with("set a x"), []string{"set a y"}, "nobody a=y", 2, load + " " + save},
		{"several changes (R4)", with("set a x"), []string{"set a y", "delete b", "count", "renew"}, "nobody a=y n=1", 2, load + " " + save},
		{"login over a session (L1)", with("set kept x"), []string{"login alice"}, "alice kept=x", 3, load + " " + save + " " + enlist},
		{"logout of a user (C4)", with("login alice"), []string{"logout"}, "nobody", 2, load + " DEL"},
		{"logout of a visitor (C4)", with("set a x"), []string{"logout"}, "nobody", 2, load + " " + save},
		{"UpdateNow", with("set a x"), []string{"countnow"}, "counted 1: nobody a=x n=1", 2, load + " " + save},
		{"login as another (L3)", with("login alice"), []string{"login bob"}, "bob", 4, load + " DEL " + save + " " + enlist},
	} {
		t.Run(c.name, func(t *testing.T) {
			c.begin()
			p.proxy.Reset()
			got := v.do(c.steps...)
			trips, commands := p.proxy.RoundTrips(), strings.Join(p.proxy.Commands(), " ")
			want(t, c.name, got, http.StatusOK, c.page)
			if trips != c.trips || commands != c.commands {
				t.Errorf("%d round trips (%s), want %d (%s)", trips, commands, c.trips, c.commands)
			}
		})
	}
}

// An unchanged session costs one trip more when a tenth of its idle timeout has
// passed, and not again before the next tenth has (R4).
func TestTouchCostsOneTripPerTenthOfTheIdleTimeout(t *testing.T) {
	const idle = 30 * time.Minute
	p := newProxied(t, session.Config{IdleTimeout: idle})
	v := p.site.visitor()
	v.do("set a x")
	trips := func() int {
		p.proxy.Reset()
		want(t, "R4", v.do(), http.StatusOK, "nobody a=x")
		return p.proxy.RoundTrips()
	}
	tire(t, p.direct, v.now(), idle)
	trips() // gives the server the script, if the touch above did not
	for _, c := range []struct {
		passed time.Duration
		trips  int
	}{
		{0, 1},
		{idle/10 - 10*time.Second, 1}, // ten seconds of slack for a busy machine
		{idle / 10, 2},
		{idle / 2, 2},
		{idle - 10*time.Second, 2},
	} {
		tire(t, p.direct, v.now(), idle-c.passed)
		if got := trips(); got != c.trips {
			t.Errorf("R4: %v after the last touch: %d trips, want %d", c.passed, got, c.trips)
		}
		if c.trips == 1 {
			continue
		}
		if left := stored(t, p.direct, v.now()).TTL; left > idle || left < idle-time.Minute {
			t.Errorf("R4: a touch left %v", left)
		}
		for range 5 {
			if got := trips(); got != 1 {
				t.Errorf("R4: touched again at once: %d trips", got)
			}
		}
	}
	if !slices.Contains(p.proxy.Commands(), "GET") {
		t.Error("nothing was counted")
	}
}
