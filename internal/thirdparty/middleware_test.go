package thirdparty

import (
	"compress/gzip"
	"fmt"
	"io"
	"math"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/go-chi/chi/v5"
	"github.com/go-chi/chi/v5/middleware"
	"github.com/klauspost/compress/gzhttp"
	"github.com/sojourn-go/session"
)

var (
	longPage = strings.Repeat("page ", 2000)
	ratio    = session.NewKey[float64]("ratio")
)

// layers are other people's middleware, each tried on either side of the manager.
var layers = map[string]func(http.Handler) http.Handler{
	"gzhttp":         func(next http.Handler) http.Handler { return gzhttp.GzipHandler(next) },
	"chi.Compress":   middleware.Compress(5),
	"chi.Logger":     middleware.RequestLogger(&middleware.DefaultLogFormatter{Logger: silentLogger{}}),
	"chi.Recoverer":  quietRecoverer,
	"chi.Timeout":    middleware.Timeout(time.Hour),
	"chi.StripSlash": middleware.StripSlashes,
}

type silentLogger struct{}

func (silentLogger) Print(...any) {}

// quietRecoverer is chi's, with its stack trace sent nowhere.
func quietRecoverer(next http.Handler) http.Handler {
	logged := middleware.RequestLogger(&middleware.DefaultLogFormatter{Logger: silentLogger{}})
	return logged(middleware.Recoverer(next))
}

// eachOrder runs a test with every layer outside and inside of the manager, in
// a chi router.
func eachOrder(t *testing.T, test func(b *bench, layer string, inside bool, route func(http.HandlerFunc) http.Handler)) {
	for name, layer := range layers {
		t.Run(name, func(t *testing.T) {
			eachStore(t, func(b *bench) {
				for _, inside := range []bool{false, true} {
					b.fresh(map[bool]string{false: "outside", true: "inside"}[inside], func(b *bench) {
						test(b, name, inside, func(h http.HandlerFunc) http.Handler {
							router := chi.NewRouter()
							if inside {
								router.Use(b.m.Handler, layer)
							} else {
								router.Use(layer, b.m.Handler)
							}
							router.Get("/", h)
							return router
						})
					})
				}
			})
		})
	}
}

func TestMiddlewareR5PageOnEitherSide(t *testing.T) {
	eachOrder(t, func(b *bench, layer string, _ bool, route func(http.HandlerFunc) http.Handler) {
		header, body := b.unzipped(route(func(w http.ResponseWriter, r *http.Request) {
			text.Set(session.FromContext(r.Context()), "after")
			w.Header().Set("Content-Type", "text/plain")
			_, _ = io.WriteString(w, longPage)
		}))
		if body != longPage {
			b.Errorf("%d bytes of page, want %d", len(body), len(longPage))
		}
		if zips := layer == "gzhttp" || layer == "chi.Compress"; (header.Get("Content-Encoding") == "gzip") != zips {
			b.Errorf("Content-Encoding %q", header.Get("Content-Encoding"))
		}
		if vary := strings.Join(header["Vary"], ","); strings.Count(vary, "Cookie") != 1 {
			b.Errorf("Vary %q", vary)
		}
		b.wantStored(b.wantPair(header), "after")
	})
}

func TestMiddlewareR5FlushFirstOnEitherSide(t *testing.T) {
	eachOrder(t, func(b *bench, _ string, _ bool, route func(http.HandlerFunc) http.Handler) {
		header, body := b.unzipped(route(func(w http.ResponseWriter, r *http.Request) {
			text.Set(session.FromContext(r.Context()), "after")
			if err := http.NewResponseController(w).Flush(); err != nil {
				b.Error(err)
			}
			fmt.Fprint(w, "page")
		}))
		if body != "page" {
			b.Errorf("body %q", body)
		}
		b.wantStored(b.wantPair(header), "after")
	})
}

// unzipped asks for a page in gzip, by hand, so that the header stays as sent.
func (b *bench) unzipped(h http.Handler) (http.Header, string) {
	b.Helper()
	server := serve(b.T, h)
	r, err := http.NewRequestWithContext(b.Context(), http.MethodGet, server.URL+"/", nil)
	if err != nil {
		b.Fatal(err)
	}
	r.Header.Set("Accept-Encoding", "gzip")
	resp, err := server.Client().Do(r)
	if err != nil {
		b.Fatal(err)
	}
	defer resp.Body.Close()
	body := io.Reader(resp.Body)
	if resp.Header.Get("Content-Encoding") == "gzip" {
		if body, err = gzip.NewReader(resp.Body); err != nil {
			b.Fatal(err)
		}
	}
	page, err := io.ReadAll(body)
	if err != nil {
		b.Fatal(err)
	}
	return resp.Header, string(page)
}

func TestMiddlewareR6FailedSaveOnEitherSide(t *testing.T) {
	eachOrder(t, func(b *bench, _ string, _ bool, route func(http.HandlerFunc) http.Handler) {
		a := get(b.T, serve(b.T, route(func(w http.ResponseWriter, r *http.Request) {
			ratio.Set(session.FromContext(r.Context()), math.NaN()) // which JSON does not have (R8)
			w.Header().Set("Content-Type", "text/plain")
			w.Header().Set("ETag", `"page"`)
			_, _ = io.WriteString(w, longPage)
		})), nil)
		if a.StatusCode != 500 || strings.Contains(a.body, "page") || a.Header.Get("ETag") != "" {
			b.Errorf("status %d, header %v, %.40q", a.StatusCode, a.Header, a.body)
		}
		b.wantNeither(a.Header)
	})
}

// Outside, a recoverer sees the manager drop what the panicking handler did.
// Inside, the manager sees its 500, which does not roll back.
func TestMiddlewareR10PanicOnEitherSide(t *testing.T) {
	eachOrder(t, func(b *bench, layer string, inside bool, route func(http.HandlerFunc) http.Handler) {
		a := get(b.T, serve(b.T, route(func(_ http.ResponseWriter, r *http.Request) {
			text.Set(session.FromContext(r.Context()), "after")
			panic("fall")
		})), nil)
		recovers := layer == "chi.Recoverer"
		if (a != nil) != recovers || recovers && a.StatusCode != 500 {
			b.Fatalf("answer %+v", a)
		}
		switch {
		case recovers && inside:
			b.wantPair(a.Header)
		case recovers:
			b.wantNeither(a.Header)
		default:
			b.wantNeither(nil)
		}
	})
}

// A manager on a router, and around the whole of it, works once.
func TestMiddlewareR13MountedRouters(t *testing.T) {
	eachStore(t, func(b *bench) {
		sub := chi.NewRouter()
		sub.Get("/", func(_ http.ResponseWriter, r *http.Request) { text.Set(session.FromContext(r.Context()), "after") })
		router := chi.NewRouter()
		router.Group(func(r chi.Router) {
			r.Use(b.m.Handler)
			r.Mount("/", sub)
		})
		a := get(b.T, serve(b.T, b.m.Handler(router)), nil) // met twice on the way (R13)
		b.wantStored(b.wantPair(a.Header), "after")
	})
}

// gzhttp, when inside, lets go of what it holds back while a panic passes. The
// manager sees a page, and saves what came after the handler's write as well.
func TestMiddlewareR10CompressorInsideWritesInAPanic(t *testing.T) {
	for _, inside := range []bool{false, true} {
		eachStore(t, func(b *bench) {
			cookie, want := b.visitor(), "saved"
			h := http.Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				s := session.FromContext(r.Context())
				text.Set(s, "saved")
				fmt.Fprint(w, "page")
				text.Set(s, "dropped outside")
				panic("fall")
			}))
			if inside {
				h, want = b.m.Handler(gzhttp.GzipHandler(h)), "dropped outside"
			} else {
				h = gzhttp.GzipHandler(b.m.Handler(h))
			}
			server := serve(b.T, h)
			r, err := http.NewRequestWithContext(b.Context(), http.MethodGet, server.URL+"/", nil)
			if err != nil {
				b.Fatal(err)
			}
			r.Header.Set("Accept-Encoding", "gzip")
			r.AddCookie(cookie)
			if resp, err := server.Client().Do(r); err == nil {
				_ = resp.Body.Close()
			}
			server.Close() // which waits for the handler
			b.wantStored(cookie, want)
		})
	}
}

// The order that docs/response.md recommends, with all of its layers.
func TestMiddlewareRecommendedOrder(t *testing.T) {
	eachStore(t, func(b *bench) {
		h := gzhttp.GzipHandler(http.NewCrossOriginProtection().Handler(b.m.Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			text.Set(session.FromContext(r.Context()), "after")
			_, _ = io.WriteString(w, longPage)
		}))))
		header, body := b.unzipped(http.MaxBytesHandler(quietRecoverer(http.TimeoutHandler(h, time.Hour, "")), 1<<20))
		if body != longPage || header.Get("Content-Encoding") != "gzip" {
			b.Errorf("%d bytes, header %v", len(body), header)
		}
		b.wantStored(b.wantPair(header), "after")
	})
}
