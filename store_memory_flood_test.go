//go:build !race

// A flood by one goroutine has no races to show, and takes the detector a minute.

package session

import (
	"fmt"
	"net/http"
	"testing"
	"testing/synctest"
	"time"
)

// T61: 200,000 strangers who write, a cap of 100,000.
func TestT61AnonymousFloodEndsNoUsersSession(t *testing.T) {
	const users, strangers, most = 1000, 200_000, 100_000
	synctest.Test(t, func(t *testing.T) {
		s := &MemoryStore{MaxSessions: most}
		h := memoryCapHandler(t, s)
		cookies := make([]*http.Cookie, users)
		login := func(i int) {
			w := memoryCapRequest(h, fmt.Sprint("/login?", i))
			if w.Code != http.StatusOK || len(w.Result().Cookies()) != 1 {
				t.Fatalf("login %d: %d, %v", i, w.Code, w.Header())
			}
			cookies[i] = w.Result().Cookies()[0]
		}
		for i := range users / 2 {
			login(i)
		}
		for i := range strangers {
			if w := memoryCapRequest(h, "/visit"); w.Code != http.StatusOK {
				t.Fatalf("stranger %d: %d", i, w.Code)
			}
			if i%(2*strangers/users) == 0 { // logins go on
				login(users/2 + i/(2*strangers/users))
			}
		}
		if s.Len() != most {
			t.Errorf("%d records with a cap of %d", s.Len(), most)
		}
		checkMemoryRoom(t, s)
		expectMemoryUsers(t, h, cookies)

		time.Sleep(29 * time.Minute)
		expectMemoryUsers(t, h, cookies)
		time.Sleep(2*time.Minute + memorySweepEvery)
		synctest.Wait()
		if s.Len() != users {
			t.Errorf("%d records are left after the idle time of the strangers, want those of %d users", s.Len(), users)
		}
		expectMemoryUsers(t, h, cookies)
		checkMemoryRoom(t, s)
	})
}

func expectMemoryUsers(t *testing.T, h http.Handler, cookies []*http.Cookie) {
	t.Helper()
	for i, c := range cookies {
		w := memoryCapRequest(h, "/visit", c)
		if got, want := w.Header().Get("X-User"), fmt.Sprint("user", i); w.Code != http.StatusOK || got != want {
			t.Fatalf("the session of %s: %d, it is that of %q", want, w.Code, got)
		}
	}
}
