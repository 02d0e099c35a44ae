package main

import (
	"bytes"
	"embed"
	"errors"
	"html/template"
	"log"
	"net/http"

	"github.com/sojourn-go/session"
)

//go:embed pages static
var files embed.FS

var pages = template.Must(template.ParseFS(files, "pages/*.html"))

// A message is shown by the next page and then gone.
var message = session.NewKey[string]("message")

// frame is what surrounds each page's own content.
type frame struct {
	Title, User, Message string
	Failed               bool // who the visitor is may be unknown, and is not shown
}

func frameFor(r *http.Request, title string) frame {
	s := session.FromContext(r.Context())
	text, _ := message.Take(s)
	return frame{Title: title, User: s.User(), Message: text}
}

// show renders before it writes: a template that fails is an error page, not
// half a shop.
func show(w http.ResponseWriter, status int, name string, content any) {
	var b bytes.Buffer
	if err := pages.ExecuteTemplate(&b, name, content); err != nil {
		log.Print(err)
		http.Error(w, "The page could not be shown.", http.StatusInternalServerError)
		return
	}
	h := w.Header()
	h.Set("Content-Type", "text/html; charset=utf-8")
	h.Set("Content-Security-Policy", "default-src 'none'; style-src 'self'; img-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'")
	w.WriteHeader(status)
	_, _ = w.Write(b.Bytes())
}

func fail(w http.ResponseWriter, status int, text string) {
	show(w, status, "error.html", struct {
		frame
		Text string
	}{frame{Title: "That did not work", Failed: true}, text})
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
		fail(w, http.StatusServiceUnavailable, "We cannot look you up at the moment. Please try again soon.")
	}
}

// static serves the files that are the same for everybody.
func static() http.Handler {
	files := http.FileServerFS(files)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Cache-Control", "public, max-age=3600")
		files.ServeHTTP(w, r)
	})
}
