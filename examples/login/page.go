package main

import (
	"bytes"
	_ "embed"
	"errors"
	"html/template"
	"log"
	"net/http"

	"github.com/sojourn-go/session"
)

//go:embed page.html
var pageText string

//go:embed style.css
var styleText []byte

var page = template.Must(template.New("page").Parse(pageText))

// view is what page.html shows.
type view struct {
	Error   string // the page is about this, and nothing else
	Message string

	User, Since string
	WrongUser   string // who could not log in
	WrongLogin  bool

	Products []string
	Cart     []string
}

// showHome shows the shop. wrong is the name that a login was refused for, if
// status says that one was.
func showHome(w http.ResponseWriter, r *http.Request, status int, wrong string) {
	s := session.FromContext(r.Context())
	v := view{
		User:       s.User(),
		WrongUser:  wrong,
		WrongLogin: status == http.StatusForbidden,
		Products:   products,
		Cart:       cart.Get(s),
	}
	if v.User != "" {
		v.Since = s.AuthenticatedAt().Format("15:04")
	}
	v.Message, _ = message.Take(s)
	show(w, status, v)
}

// show renders before it writes: a template that fails is an error page, not
// half a shop.
func show(w http.ResponseWriter, status int, v view) {
	var b bytes.Buffer
	if err := page.Execute(&b, v); err != nil {
		log.Print(err)
		http.Error(w, "The page could not be shown.", http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.Header().Set("Content-Security-Policy", "default-src 'none'; style-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'")
	w.WriteHeader(status)
	_, _ = w.Write(b.Bytes())
}

func fail(w http.ResponseWriter, status int, text string) {
	show(w, status, view{Error: text})
}

// sessionFailed answers for sessions that could not be loaded or saved. There
// may be no session in the request, and none is looked for.
func sessionFailed(w http.ResponseWriter, _ *http.Request, err error) {
	w.Header().Set("Cache-Control", "no-store")
	var stored *session.Error
	switch {
	case errors.Is(err, session.ErrEnded):
		fail(w, http.StatusConflict, "You logged in or out, or your session ended, while this page was on its way. Nothing was changed.")
	case errors.Is(err, session.ErrCommitted), errors.As(err, &stored) && stored.Op == "encode":
		log.Print(err)
		fail(w, http.StatusInternalServerError, "Your session could not be saved.")
	default:
		log.Print(err)
		w.Header().Set("Retry-After", "1")
		fail(w, http.StatusServiceUnavailable, "We cannot reach your cart at the moment. Please try again soon.")
	}
}

func style(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "text/css; charset=utf-8")
	w.Header().Set("Cache-Control", "public, max-age=3600")
	_, _ = w.Write(styleText)
}
