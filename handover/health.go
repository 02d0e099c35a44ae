package handover

import (
	"fmt"
	"net/http"
)

// Health answers the load balancer's check: 200 while this server serves and
// while it hands over, 503 once everything was handed over. Mount it outside of
// the Manager's Handler.
//
// While it hands over, the answer stays 200 because sessions that have not been
// moved yet can be served here alone: a balancer that sent their visitors
// elsewhere would show them a page on which they are logged out. After an error
// of Drain it stays 200 for the same reason.
//
// A balancer that can be told to send no new visitors, and to go on sending the
// old ones, may ask for 404 in that time, with ?moving=404 in the path of its
// check. In HAProxy:
//
//	option httpchk GET /health?moving=404
//	http-check disable-on-404
//
// It is not needed: new visitors' sessions go to the shared store at once.
func (s *Store) Health() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		status, text := http.StatusOK, "serving"
		switch {
		case s.empty.Load():
			status, text = http.StatusServiceUnavailable, "handed over"
		case s.leaving.Load():
			text = fmt.Sprintf("handing over, %d sessions left", s.Progress().Left)
			if r.URL.Query().Get("moving") == "404" {
				status = http.StatusNotFound
			}
		}
		w.Header().Set("Cache-Control", "no-store")
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		w.WriteHeader(status)
		_, _ = fmt.Fprintln(w, text)
	})
}
