package main

import (
	"bytes"
	"embed"
	"encoding/json"
	"fmt"
	"html/template"
	"log"
	"net"
	"net/http"
	"net/netip"
	"time"
)

//go:embed pages static
var files embed.FS

var pages = template.Must(template.ParseFS(files, "pages/*.html"))

// A view is what the page shows.
type view struct {
	You     answer
	Away    bool // no server answered for the visitor
	Way     way
	Ways    []way
	Servers []string
	Redis   []string // names of the Redis servers; none: Redis is not there
	Missing string   // what to do about that
	People  int
	Live    map[string]string
}

// handler is the site: the console's page, its buttons and figures, and behind
// the balancer everything else.
func (c *console) handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", c.page)
	mux.HandleFunc("GET /events", c.events)
	mux.Handle("GET /static/{file}", static())
	mux.Handle("/control/", c.control())
	mux.HandleFunc("GET /favicon.ico", http.NotFound)
	mux.Handle("/", c.balancer)
	return onlyHere(http.MaxBytesHandler(http.NewCrossOriginProtection().Handler(mux), 64<<10))
}

// onlyHere refuses names that do not mean this machine: a page elsewhere could
// have its own name resolve to us and press the buttons.
func onlyHere(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		host, _, err := net.SplitHostPort(r.Host)
		if err != nil {
			host = r.Host
		}
		if !isLoopback(host) {
			http.Error(w, "This program serves localhost only.", http.StatusMisdirectedRequest)
			return
		}
		h.ServeHTTP(w, r)
	})
}

func isLoopback(host string) bool {
	addr, err := netip.ParseAddr(host)
	return host == "localhost" || err == nil && addr.IsLoopback()
}

// page asks a server about the visitor, as any page of the application would, and
// shows the answer among the rest. Without a server it still has its buttons.
func (c *console) page(w http.ResponseWriter, r *http.Request) {
	you, ok := c.visitor(w, r)
	v := view{
		You: you, Away: !ok, Way: c.fleet.current(), Ways: ways, Servers: serverNames, People: c.people, Live: c.figures(),
	}
	if c.redis == nil {
		v.Missing = whatToInstall
	} else {
		for _, s := range c.redis.servers {
			v.Redis = append(v.Redis, s.name)
		}
	}
	var b bytes.Buffer
	if err := pages.ExecuteTemplate(&b, "page.html", v); err != nil {
		log.Print(err)
		http.Error(w, "The page could not be shown.", http.StatusInternalServerError)
		return
	}
	h := w.Header()
	h.Set("Content-Type", "text/html; charset=utf-8")
	h.Set("Cache-Control", "no-store")
	h.Set("Content-Security-Policy", "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; img-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'")
	_, _ = w.Write(b.Bytes())
}

// visitor goes through the balancer with the visitor's cookies, and hands on those
// that come back.
func (c *console) visitor(w http.ResponseWriter, r *http.Request) (you answer, ok bool) {
	req, err := http.NewRequestWithContext(r.Context(), http.MethodGet, "http://server/me", nil)
	if err != nil {
		return you, false
	}
	req.Header["Cookie"] = r.Header["Cookie"]
	res, err := c.balancer.RoundTrip(req)
	if err != nil {
		return you, false
	}
	defer res.Body.Close()
	for _, line := range res.Header["Set-Cookie"] {
		w.Header().Add("Set-Cookie", line)
	}
	return you, res.StatusCode == http.StatusOK && json.NewDecoder(res.Body).Decode(&you) == nil
}

// events sends the figures as they change, until the visitor or the program goes.
func (c *console) events(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "text/event-stream")
	w.Header().Set("Cache-Control", "no-store")
	tick := time.NewTicker(monitorInterval)
	defer tick.Stop()
	stream := http.NewResponseController(w)
	for {
		data, err := json.Marshal(c.figures())
		if err != nil {
			log.Print(err)
			return
		}
		if _, err := fmt.Fprintf(w, "data: %s\n\n", data); err != nil || stream.Flush() != nil {
			return
		}
		select {
		case <-tick.C:
		case <-r.Context().Done():
			return
		case <-c.ctx.Done():
			return
		}
	}
}

func static() http.Handler {
	files := http.FileServerFS(files)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Cache-Control", "public, max-age=60")
		files.ServeHTTP(w, r)
	})
}

// Columns are those of the table, by the names of their figures.
func (view) Columns() []string {
	return []string{"did", "requests", "logouts", "lost", "gap", "cpu", "commands"}
}

// Since is how long ago the visitor's session began.
func (v view) Since() string {
	return time.Since(v.You.Created).Round(time.Second).String()
}
