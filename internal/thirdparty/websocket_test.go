package thirdparty

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"testing"

	coder "github.com/coder/websocket"
	gorilla "github.com/gorilla/websocket"
	"github.com/sojourn-go/session"
)

// dial opens a WebSocket and returns the header that came with it, and the
// server's greeting, "" if there was no upgrade.
func (b *bench) dial(h http.Handler, cookie *http.Cookie) (status int, header http.Header, greeting string) {
	b.Helper()
	server := serve(b.T, h)
	sent := http.Header{}
	if cookie != nil {
		sent.Set("Cookie", cookie.Name+"="+cookie.Value)
	}
	conn, resp, err := coder.Dial(b.Context(), server.URL, &coder.DialOptions{HTTPClient: server.Client(), HTTPHeader: sent})
	if resp == nil {
		b.Fatal(err)
	}
	if err != nil {
		return resp.StatusCode, resp.Header, ""
	}
	defer func() { _ = conn.CloseNow() }()
	_, message, err := conn.Read(b.Context())
	if err != nil {
		b.Error(err)
	}
	return resp.StatusCode, resp.Header, string(message)
}

// upgrades greet the visitor with what the session holds, by both libraries.
var upgrades = map[string]func(w http.ResponseWriter, r *http.Request) error{
	"gorilla": func(w http.ResponseWriter, r *http.Request) error {
		conn, err := new(gorilla.Upgrader).Upgrade(w, r, nil)
		if err != nil {
			return err
		}
		defer conn.Close()
		return conn.WriteMessage(gorilla.TextMessage, []byte(greeting(r.Context())))
	},
	"coder": func(w http.ResponseWriter, r *http.Request) error {
		conn, err := coder.Accept(w, r, nil)
		if err != nil {
			return err
		}
		defer func() { _ = conn.CloseNow() }()
		return conn.Write(r.Context(), coder.MessageText, []byte(greeting(r.Context())))
	},
}

func greeting(ctx context.Context) string { return "hello " + text.Get(session.FromContext(ctx)) }

func TestWebSocketR5ReadsAndChangesAStoredSession(t *testing.T) {
	for name, upgrade := range upgrades {
		t.Run(name, func(t *testing.T) {
			eachStore(t, func(b *bench) {
				cookie, done := b.visitor(), make(chan struct{})
				behind := b.m.Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
					s := session.FromContext(r.Context())
					text.Set(s, "visitor")
					if err := upgrade(w, r); err != nil {
						t.Error(err)
					}
					b.wantStored(cookie, "visitor") // before the 101
					text.Set(s, "late")
					if err := s.Login("alice"); !errors.Is(err, session.ErrCommitted) {
						t.Errorf("Login after the upgrade: %v, want ErrCommitted", err)
					}
				}))
				status, header, hello := b.dial(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
					defer close(done)
					behind.ServeHTTP(w, r)
				}), cookie)
				<-done
				if status != 101 || hello != "hello visitor" || len(header["Set-Cookie"]) != 0 {
					t.Errorf("status %d, %q, header %v", status, hello, header)
				}
				b.wantStored(cookie, "late")
			})
		})
	}
}

// gorilla hijacks without a header of ours: a login is refused and nothing is
// stored. coder writes the 101 itself, which carries the cookie.
func TestWebSocketR5LoginInAnUpgrade(t *testing.T) {
	login := func(b *bench, upgrade func(http.ResponseWriter, *http.Request) error) (status int, header http.Header, err error) {
		returned := make(chan error, 1)
		status, header, _ = b.dial(b.m.Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			_ = session.FromContext(r.Context()).Login("alice")
			returned <- upgrade(w, r)
		})), nil)
		return status, header, <-returned
	}
	eachStore(t, func(b *bench) {
		b.fresh("gorilla", func(b *bench) {
			status, header, err := login(b, upgrades["gorilla"])
			if status != 500 || err == nil || !strings.Contains(err.Error(), session.ErrCommitted.Error()) {
				b.Errorf("status %d, %v", status, err)
			}
			b.wantNeither(header)
		})
		b.fresh("coder", func(b *bench) {
			status, header, err := login(b, upgrades["coder"])
			if status != 101 || err != nil {
				b.Errorf("status %d, %v", status, err)
			}
			b.wantPair(header)
		})
	})
}

// A save that fails in the 101 is answered, and the connection is not handed on.
func TestWebSocketR6FailedSave(t *testing.T) {
	for name, upgrade := range upgrades {
		t.Run(name, func(t *testing.T) {
			eachStore(t, func(b *bench) {
				cookie, returned := b.visitor(), make(chan error, 1)
				b.store.setAway()
				status, header, _ := b.dial(b.m.Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
					text.Set(session.FromContext(r.Context()), "after")
					returned <- upgrade(w, r)
				})), cookie)
				if err := <-returned; err == nil || status < 500 || header.Get("Upgrade") == "websocket" {
					t.Errorf("status %d, header %v, the upgrade returned %v", status, header, err)
				}
				b.wantStored(cookie, "before")
			})
		})
	}
}
