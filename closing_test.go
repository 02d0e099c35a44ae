package session_test

import (
	"bytes"
	"io"
	"log/slog"
	"mime/multipart"
	"net/http"
	"net/http/httptest"
	"os"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sojourn-go/session"
)

// R14: once the handler has returned, a goroutine of the request changes nothing,
// and the log says so. The store's last call for the request takes a while: a change
// that was taken then would neither be saved nor refused.
func TestR14ChangesDuringTheLastCallAreRefused(t *testing.T) {
	for _, last := range []struct {
		call   string
		name   string // the value afterwards
		handle func(w http.ResponseWriter, s *session.Session)
	}{
		{"save", "mine", func(_ http.ResponseWriter, s *session.Session) { nameKey.Set(s, "mine") }},
		{"save", "late", func(w http.ResponseWriter, s *session.Session) {
			_, _ = io.WriteString(w, "page")
			nameKey.Set(s, "late")
		}},
		{"touch", "old", func(_ http.ResponseWriter, s *session.Session) { nameKey.Get(s) }},
		{"delete", "", func(_ http.ResponseWriter, s *session.Session) { s.Destroy() }},
		{"delete", "", func(_ http.ResponseWriter, s *session.Session) { s.Destroy(); panic(http.ErrAbortHandler) }},
	} {
		for what, change := range map[string]func(*session.Session){
			"Set":     func(s *session.Session) { nameKey.Set(s, "too late") },
			"Destroy": func(s *session.Session) { s.Destroy() },
			"Clear":   func(s *session.Session) { s.Clear() },
			"Update":  func(s *session.Session) { nameKey.Update(s, func(string) string { return "too late" }) },
		} {
			synctest.Test(t, func(t *testing.T) {
				var log bytes.Buffer
				spy := &spyStore{Store: new(session.MemoryStore)}
				v := &guest{t: t, manager: newManager(t, session.Config{Store: spy, Logger: slog.New(slog.NewTextHandler(&log, nil))})}
				v.visit(func(s *session.Session) { nameKey.Set(s, "old") })
				time.Sleep(10 * time.Minute) // a touch is due
				calls := 0
				func() {
					defer func() { _ = recover() }()
					v.request(func(w http.ResponseWriter, r *http.Request) {
						s := session.FromContext(r.Context())
						spy.during = func(call string) {
							if calls++; call == last.call {
								change(s)
							}
						}
						last.handle(w, s)
					})
				}()
				spy.during = nil
				require.Equal(t, 1, calls)
				require.Contains(t, log.String(), "used after its request ended", "%s during %s", what, last.call)
				v.visit(func(s *session.Session) { require.Equal(t, last.name, nameKey.Get(s), "%s during %s", what, last.call) })
			})
		}
	}
}

// The handler's request is a copy of the server's, which removes the files of a form
// that it knows.
func TestUploadedFilesAreRemoved(t *testing.T) {
	t.Setenv("TMPDIR", t.TempDir())
	var form bytes.Buffer
	parts := multipart.NewWriter(&form)
	file, err := parts.CreateFormFile("file", "file")
	require.NoError(t, err)
	_, err = file.Write(make([]byte, 11<<20)) // ten megabytes more than that stay in memory
	require.NoError(t, err)
	require.NoError(t, parts.Close())

	written := 0
	server := httptest.NewServer(newManager(t, session.Config{}).Handler(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		require.NoError(t, r.ParseMultipartForm(1))
		files, _ := os.ReadDir(os.TempDir())
		written = len(files)
	})))
	resp, err := http.Post(server.URL, parts.FormDataContentType(), &form)
	require.NoError(t, err)
	require.NoError(t, resp.Body.Close())
	server.Close()
	require.Equal(t, 1, written)
	files, err := os.ReadDir(os.TempDir())
	require.NoError(t, err)
	require.Empty(t, files)
}
