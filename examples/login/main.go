// Login is a shop with a form login, a cart that survives it, a page of the
// devices that one is logged in on, and error pages in the shop's own style. It
// works without JavaScript.
//
// Products and users are made up, and passwords are kept in memory and compared
// as they are: the example is about sessions. A real program stores a slow, salted
// hash of each password (argon2id, scrypt, bcrypt) and limits the attempts.
package main

import (
	"cmp"
	"context"
	"flag"
	"fmt"
	"log"
	"net"
	"net/http"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/sojourn-go/session"
)

func main() {
	addr := flag.String("addr", "localhost:8080", "listen on this address")
	url := flag.String("store", cmp.Or(os.Getenv("SESSION_STORE"), "memory:"), "keep sessions here: memory: or, for example, redis://localhost:6379")
	flag.Parse()

	store, err := session.Open(*url)
	exitOn(err)
	defer store.Close()
	handler, err := newShop(store)
	exitOn(err)
	exitOn(serve(*addr, handler))
}

// A shop is what its pages need.
type shop struct {
	sessions *session.Manager
	accounts *accounts
}

func newShop(store session.Store) (http.Handler, error) {
	sessions, err := session.New(session.Config{
		Store: store,
		Name:  "shop",
		// InsecureHTTP because this program speaks plain http, and not every client
		// keeps a Secure cookie from there, not even from localhost. A site on https
		// leaves Cookie out.
		Cookie:       session.Cookie{InsecureHTTP: true},
		MaxPerUser:   maxDevices,
		Skip:         func(r *http.Request) bool { return strings.HasPrefix(r.URL.Path, "/static/") },
		ErrorHandler: sessionFailed,
	})
	if err != nil {
		return nil, err
	}
	shop := &shop{sessions, newAccounts()}
	return protect(sessions.Handler(shop.routes())), nil
}

// routes are the shop's pages. What changes something is a POST, so that
// protect sees it.
func (shop *shop) routes() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", home)
	mux.HandleFunc("POST /cart", addToCart)
	mux.HandleFunc("GET /login", showLogin)
	mux.HandleFunc("POST /login", shop.login)
	mux.HandleFunc("POST /logout", logout)
	mux.Handle("GET /devices", forUsers(http.HandlerFunc(shop.devices)))
	mux.Handle("POST /devices/end", forUsers(http.HandlerFunc(shop.endDevice)))
	mux.Handle("POST /devices/end-others", forUsers(http.HandlerFunc(shop.endOtherDevices)))
	// Not even the owner of a session may do this if somebody else could sit there.
	recently := session.RequireRecentLogin(recent, http.HandlerFunc(askForPassword))
	mux.Handle("GET /password", forUsers(recently(http.HandlerFunc(showPassword))))
	mux.Handle("POST /password", forUsers(recently(http.HandlerFunc(shop.changePassword))))
	mux.Handle("GET /static/{file}", static())
	return mux
}

// protect refuses forms that other sites send with the visitor's cookie, and
// bodies that are larger than any form here.
func protect(h http.Handler) http.Handler {
	csrf := http.NewCrossOriginProtection()
	csrf.SetDenyHandler(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		fail(w, http.StatusForbidden, "This form was sent from another site. Please use ours.")
	}))
	return http.MaxBytesHandler(csrf.Handler(h), 64<<10)
}

// serve answers until the program is asked to stop, and lets running requests end.
func serve(addr string, h http.Handler) error {
	stop, cancel := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer cancel()
	l, err := net.Listen("tcp", addr)
	if err != nil {
		return err
	}
	fmt.Printf("Listening on http://%s/\n", l.Addr())
	server := &http.Server{Handler: h, ReadHeaderTimeout: 5 * time.Second}
	go server.Serve(l)
	<-stop.Done()
	// Longer than the 5 seconds that net/http gives connections without a request.
	grace, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	return server.Shutdown(grace)
}

func exitOn(err error) {
	if err != nil {
		log.Fatal(err)
	}
}
