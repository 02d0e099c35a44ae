package session_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"

	"github.com/sojourn-go/session"
	"github.com/sojourn-go/session/sessiontest"
)

// exampleBrowser keeps one visitor's cookies. get follows a link and prints the
// answer.
type exampleBrowser struct {
	site http.Handler
	jar  *cookiejar.Jar
}

func openBrowser(site http.Handler) *exampleBrowser {
	jar, _ := cookiejar.New(nil) // without options it returns no error
	return &exampleBrowser{site, jar}
}

func (b *exampleBrowser) get(path string) {
	r := httptest.NewRequest(http.MethodGet, "https://shop.example"+path, nil)
	for _, c := range b.jar.Cookies(r.URL) {
		r.AddCookie(c)
	}
	w := httptest.NewRecorder()
	b.site.ServeHTTP(w, r)
	b.jar.SetCookies(r.URL, w.Result().Cookies())
	fmt.Println(strings.TrimSpace(fmt.Sprintf("%s %d %s", path, w.Code, w.Body)))
}

// must is for configurations that are written in the program, not read by it.
func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

func ExampleManager_Handler() {
	visits := session.NewKey[int]("visits")
	sessions, err := session.New(session.Config{}) // in memory, for one process
	if err != nil {
		fmt.Println(err)
		return
	}

	mux := http.NewServeMux()
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		s := session.FromContext(r.Context())
		visits.Update(s, func(n int) int { return n + 1 })
		fmt.Fprintln(w, "visits:", visits.Get(s))
	})

	browser := openBrowser(sessions.Handler(mux))
	browser.get("/")
	browser.get("/")
	browser.get("/")
	// Output:
	// / 200 visits: 1
	// / 200 visits: 2
	// / 200 visits: 3
}

// A handler, and every function that it gives its context to, finds the session
// of its visitor.
func ExampleFromContext() {
	name := session.NewKey[string]("name")
	greeting := func(ctx context.Context) string {
		s := session.FromContext(ctx)
		return "Hello, " + name.Get(s) + "!"
	}

	ctx := sessiontest.Context(context.Background(), func(s *session.Session) { name.Set(s, "Ada") })
	fmt.Println(greeting(ctx))
	// Output:
	// Hello, Ada!
}

func ExampleKey() {
	// Keys are package variables of a real program.
	var (
		theme  = session.NewKey[string]("theme")
		recent = session.NewKey[[]int]("recent")
	)
	s := session.FromContext(sessiontest.Context(context.Background(), nil))

	theme.Set(s, "dark")
	fmt.Println(theme.Get(s), recent.Get(s) == nil)

	// Get does not tell a zero value from none; Lookup does.
	_, found := recent.Lookup(s)
	fmt.Println(found)

	theme.Delete(s)
	_, found = theme.Lookup(s)
	fmt.Println(found)
	// Output:
	// dark true
	// false
	// false
}

// Set keeps what the value was when it was called.
func ExampleKey_Set() {
	cart := session.NewKey[[]string]("cart")
	s := session.FromContext(sessiontest.Context(context.Background(), nil))

	items := []string{"kettle"}
	cart.Set(s, items)
	items[0] = "yacht"
	fmt.Println(cart.Get(s))
	// Output:
	// [kettle]
}

// Two requests of one visitor that add to the cart at the same time both do.
func ExampleKey_Update() {
	cart := session.NewKey[[]string]("cart")
	sessions := must(session.New(session.Config{}))

	// The two handlers wait for each other, so that both have loaded the session
	// before either of them saves it.
	var both sync.WaitGroup
	add := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s := session.FromContext(r.Context())
		cart.Update(s, func(items []string) []string { return append(items, r.FormValue("item")) })
		both.Done()
		both.Wait()
	})

	cookie := addCart(sessions, cart)
	both.Add(2)
	var clicks sync.WaitGroup
	for _, item := range []string{"teapot", "strainer"} {
		clicks.Go(func() {
			r := httptest.NewRequest(http.MethodPost, "/add?item="+item, nil)
			r.AddCookie(cookie)
			sessions.Handler(add).ServeHTTP(httptest.NewRecorder(), r)
		})
	}
	clicks.Wait()

	show := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		items := cart.Get(session.FromContext(r.Context()))
		slices.Sort(items)
		fmt.Println(items)
	})
	r := httptest.NewRequest(http.MethodGet, "/", nil)
	r.AddCookie(cookie)
	sessions.Handler(show).ServeHTTP(httptest.NewRecorder(), r)
	// Output:
	// [kettle strainer teapot]
}

// addCart is a first request, which puts a kettle into the cart.
func addCart(m *session.Manager, cart session.Key[[]string]) *http.Cookie {
	w := httptest.NewRecorder()
	m.Handler(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		cart.Set(m.FromContext(r.Context()), []string{"kettle"})
	})).ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/", nil))
	return w.Result().Cookies()[0]
}

// UpdateNow is for values that may be used once: when it returns, nobody else
// can have got the same answer.
func ExampleKey_UpdateNow() {
	tickets := session.NewKey[int]("tickets")
	sessions := must(session.New(session.Config{}))

	mux := http.NewServeMux()
	mux.HandleFunc("/buy", func(_ http.ResponseWriter, r *http.Request) {
		tickets.Set(session.FromContext(r.Context()), 2)
	})
	mux.HandleFunc("/enter", func(w http.ResponseWriter, r *http.Request) {
		s := session.FromContext(r.Context())
		left, err := tickets.UpdateNow(r.Context(), s, func(n int) int { return n - 1 })
		switch {
		case err != nil: // nothing is known: nobody goes in
			http.Error(w, "try again", http.StatusServiceUnavailable)
		case left < 0:
			http.Error(w, "no ticket", http.StatusForbidden)
		default:
			fmt.Fprintln(w, "welcome, tickets left:", left)
		}
	})

	browser := openBrowser(sessions.Handler(mux))
	browser.get("/buy")
	browser.get("/enter")
	browser.get("/enter")
	browser.get("/enter")
	// Output:
	// /buy 200
	// /enter 200 welcome, tickets left: 1
	// /enter 200 welcome, tickets left: 0
	// /enter 403 no ticket
}

// A flash message is shown by the next page and then gone.
func ExampleKey_Take() {
	flash := session.NewKey[string]("flash")
	sessions := must(session.New(session.Config{}))

	mux := http.NewServeMux()
	mux.HandleFunc("/save", func(w http.ResponseWriter, r *http.Request) {
		flash.Set(session.FromContext(r.Context()), "Saved.")
		w.WriteHeader(http.StatusSeeOther)
	})
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		if text, ok := flash.Take(session.FromContext(r.Context())); ok {
			fmt.Fprint(w, text, " ")
		}
		fmt.Fprint(w, "Home")
	})

	browser := openBrowser(sessions.Handler(mux))
	browser.get("/save")
	browser.get("/")
	browser.get("/")
	// Output:
	// /save 303
	// / 200 Saved. Home
	// / 200 Home
}

// Login drops what was there before it, except values of keys that say that
// they survive. So it comes before the first Set.
func ExampleSession_Login() {
	cart := session.NewKey[[]string]("cart").SurvivesLogin()
	role := session.NewKey[string]("role")
	sessions := must(session.New(session.Config{}))

	mux := http.NewServeMux()
	mux.HandleFunc("/shop", func(_ http.ResponseWriter, r *http.Request) {
		s := session.FromContext(r.Context())
		cart.Set(s, []string{"kettle"})
		role.Set(s, "admin") // planted, perhaps, by somebody who shared the computer
	})
	mux.HandleFunc("/login", func(w http.ResponseWriter, r *http.Request) {
		// The password was checked here.
		if err := session.FromContext(r.Context()).Login("alice"); err != nil {
			http.Error(w, "try again", http.StatusInternalServerError)
		}
	})
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		s := session.FromContext(r.Context())
		fmt.Fprintf(w, "user %q, cart %q, role %q", s.User(), cart.Get(s), role.Get(s))
	})

	browser := openBrowser(sessions.Handler(mux))
	browser.get("/shop")
	browser.get("/login")
	browser.get("/")
	// Output:
	// /shop 200
	// /login 200
	// / 200 user "alice", cart ["kettle"], role ""
}

// Renew hands out a new secret and keeps the rest: for a change of what the
// visitor may do that is not a login.
func ExampleSession_Renew() {
	level := session.NewKey[int]("level")
	sessions := must(session.New(session.Config{}))

	mux := http.NewServeMux()
	mux.HandleFunc("/login", func(w http.ResponseWriter, r *http.Request) {
		if err := session.FromContext(r.Context()).Login("alice"); err != nil {
			http.Error(w, "try again", http.StatusInternalServerError)
		}
	})
	mux.HandleFunc("/code", func(w http.ResponseWriter, r *http.Request) {
		// The one-time code was checked here.
		s := session.FromContext(r.Context())
		if err := s.Renew(); err != nil {
			http.Error(w, "try again", http.StatusInternalServerError)
			return
		}
		level.Set(s, 2)
	})
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		s := session.FromContext(r.Context())
		fmt.Fprintf(w, "user %q, level %d", s.User(), level.Get(s))
	})

	browser := openBrowser(sessions.Handler(mux))
	browser.get("/login")
	stolen := &exampleBrowser{browser.site, must(cookiejar.New(nil))}
	copyCookies(stolen, browser)
	browser.get("/code")
	browser.get("/")
	stolen.get("/")
	// Output:
	// /login 200
	// /code 200
	// / 200 user "alice", level 2
	// / 200 user "", level 0
}

func copyCookies(to, from *exampleBrowser) {
	u := httptest.NewRequest(http.MethodGet, "https://shop.example/", nil).URL
	to.jar.SetCookies(u, from.jar.Cookies(u))
}

func ExampleSession_Destroy() {
	sessions := must(session.New(session.Config{}))

	mux := http.NewServeMux()
	mux.HandleFunc("/login", func(w http.ResponseWriter, r *http.Request) {
		if err := session.FromContext(r.Context()).Login("alice"); err != nil {
			http.Error(w, "try again", http.StatusInternalServerError)
		}
	})
	mux.HandleFunc("/logout", func(_ http.ResponseWriter, r *http.Request) {
		session.FromContext(r.Context()).Destroy()
	})
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(w, "user %q", session.FromContext(r.Context()).User())
	})

	browser := openBrowser(sessions.Handler(mux))
	browser.get("/login")
	browser.get("/")
	browser.get("/logout")
	browser.get("/")
	// Output:
	// /login 200
	// / 200 user "alice"
	// /logout 200
	// / 200 user ""
}

// Save is for what must be stored before something outside happens. Most
// handlers need none: the session is saved before the first byte of the answer.
func ExampleSession_Save() {
	order := session.NewKey[string]("order")
	sessions := must(session.New(session.Config{}))

	pay := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s := session.FromContext(r.Context())
		order.Set(s, "42")
		if err := s.Save(r.Context()); err != nil {
			http.Error(w, "nothing was charged, try again", http.StatusServiceUnavailable)
			return
		}
		fmt.Fprint(w, "charged for order ", order.Get(s)) // what cannot be undone
	})

	openBrowser(sessions.Handler(pay)).get("/pay")
	// Output:
	// /pay 200 charged for order 42
}

// Save returns its error to the caller, who decides what it means.
func ExampleSession_Save_error() {
	huge := session.NewKey[string]("huge")
	s := session.FromContext(sessiontest.Context(context.Background(), nil))

	huge.Set(s, strings.Repeat("x", 40<<10))
	err := s.Save(context.Background())
	var failed *session.Error
	fmt.Println(errors.As(err, &failed) && failed.Op == "encode")
	_, found := huge.Lookup(s)
	fmt.Println("still there:", found)
	// Output:
	// true
	// still there: false
}
