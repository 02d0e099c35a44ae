package migrate_test

import (
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"

	"github.com/sojourn-go/session"
	"github.com/sojourn-go/session/migrate"
)

// A visitor who came before the move is known after it. A real site reads the
// phase from an environment variable, deploys, and waits before the third until
// the old store is quiet.
func Example() {
	old, new := must(session.Open("memory:")), must(session.Open("memory:")) // redis://... in real life
	var cookie *http.Cookie
	visit := func(store session.Store) {
		sessions := must(session.New(session.Config{Store: store, Name: "shop"}))
		visits := session.NewKey[int]("visits")
		site := sessions.Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			s := session.FromContext(r.Context())
			visits.Update(s, func(n int) int { return n + 1 })
			fmt.Fprintf(w, "visit %d", visits.Get(s))
		}))
		r, w := httptest.NewRequest("GET", "https://shop.example/", nil), httptest.NewRecorder()
		if cookie != nil {
			r.AddCookie(cookie)
		}
		site.ServeHTTP(w, r)
		for _, c := range w.Result().Cookies() {
			cookie = c
		}
		fmt.Println(string(must(io.ReadAll(w.Body))))
	}

	visit(old)
	for _, deploy := range []string{"write-old", "write-new", "new-only"} {
		store := must(migrate.New(migrate.Config{Old: old, New: new, Phase: must(migrate.ParsePhase(deploy)), Name: "shop"}))
		visit(store)
		fmt.Println(deploy, "moved", store.Stats().Moved)
	}
	visit(new)
	// Output:
	// visit 1
	// visit 2
	// write-old moved 0
	// visit 3
	// write-new moved 1
	// visit 4
	// new-only moved 0
	// visit 5
}

func must[T any](v T, err error) T {
	if err != nil {
		log.Fatal(err)
	}
	return v
}
