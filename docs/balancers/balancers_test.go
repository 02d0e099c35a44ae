package balancers

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/sojourn-go/session/internal/loopback"
)

// A way is a configuration of this directory, and how it is run.
type way struct {
	file     string
	program  string
	cookie   string // Config.Cookie.Name; "": the default
	affinity string // Config.Affinity.Cookie; "": the application names no server
	args     func(conf string, s *site) []string
	adapt    func(conf string, s *site) string // what a test's own directory needs; nil: nothing
	reload   func(s *site)

	// drain has server a take no new visitors, and undrain ends that.
	drain, undrain func(s *site)

	strangers int // cookies that a visitor without a session gets

	// What became of a GET and of a POST that server a was working on when it was
	// killed, as status codes.
	inFlightGet, inFlightPost int
}

var (
	haproxy = way{
		program: "haproxy",
		args:    func(conf string, _ *site) []string { return []string{"-db", "-f", conf} },
		drain:   func(s *site) { s.haproxy("set server app/a state drain") },
		undrain: func(s *site) { s.haproxy("set server app/a state ready") },

		inFlightGet: http.StatusBadGateway, inFlightPost: http.StatusBadGateway,
	}
	nginx = way{
		program: "nginx",
		args: func(conf string, s *site) []string {
			return []string{"-p", s.dir, "-c", conf, "-e", "stderr", "-g", "daemon off; pid " + filepath.Join(s.dir, "pid") + ";"}
		},
		adapt: func(conf string, s *site) string {
			own := "http {\n\taccess_log off;\n"
			for _, module := range []string{"client_body", "proxy", "fastcgi", "uwsgi", "scgi"} {
				own += "\t" + module + "_temp_path " + filepath.Join(s.dir, module) + ";\n"
			}
			return strings.Replace(conf, "http {\n", own+fmt.Sprintf("\tadd_header Config-Version %d always;\n", s.version), 1)
		},
		reload: func(s *site) { s.program.signal(syscall.SIGHUP) },

		inFlightGet: http.StatusOK, inFlightPost: http.StatusBadGateway,
	}
	caddy = way{
		program: "caddy",
		args: func(conf string, _ *site) []string {
			return []string{"run", "--adapter", "caddyfile", "--config", conf}
		},
		adapt: func(conf string, s *site) string {
			return strings.Replace(conf, "reverse_proxy", fmt.Sprintf("header Config-Version %d\n\treverse_proxy", s.version), -1)
		},
		reload: func(s *site) { s.caddyLoad() },

		inFlightGet: http.StatusOK, inFlightPost: http.StatusBadGateway,
	}
)

// with completes what the programs have in common.
func (w way) with(file, affinity string, strangers int) way {
	w.file, w.affinity, w.strangers = file, affinity, strangers
	return w
}

func (w way) drainedBy(drain, undrain func(*site)) way {
	w.drain, w.undrain = drain, undrain
	return w
}

// edit drains by another text of the configuration.
func edit(old, new string) func(*site) {
	return func(s *site) {
		s.t.Helper()
		if strings.Count(s.text, old) != 1 {
			s.t.Fatalf("%s has %q %d times", s.way.file, old, strings.Count(s.text, old))
		}
		s.change(strings.Replace(s.text, old, new, 1))
	}
}

const (
	anyServer  = "upstream any {\n\t\tserver 127.0.0.1:8081;"
	onlyOthers = "upstream any {\n\t\tserver 127.0.0.1:8081 down;"

	newVisitors  = "handle {\n\t\treverse_proxy 127.0.0.1:8081 127.0.0.1:8082 {"
	newToOthers  = "handle {\n\t\treverse_proxy 127.0.0.1:8082 {"
	caddyServers = "reverse_proxy 127.0.0.1:8081 127.0.0.1:8082 {"
	caddyOthers  = "reverse_proxy 127.0.0.1:8082 {"
)

// A site is a balancer with two servers behind it.
type site struct {
	t       testing.TB
	way     way
	dir     string
	text    string // the configuration, with the ports of its file
	front   string
	admin   string // a port, where the program has one
	version int
	program *program
	servers map[string]*server
	client  *http.Transport
}

func open(t testing.TB, w way) *site {
	t.Helper()
	path := find(t, w.program)
	dir, err := os.MkdirTemp("", "balancers") // short, for the socket's path
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	s := &site{t: t, way: w, dir: dir, client: &http.Transport{MaxIdleConnsPerHost: 64}}
	text, err := os.ReadFile(w.file)
	if err != nil {
		t.Fatal(err)
	}
	s.text = string(text)
	s.servers = map[string]*server{"a": startServer(t, "a", w.cookie, w.affinity), "b": startServer(t, "b", w.cookie, w.affinity)}
	for range 4 { // where ports cannot be reserved, another may have taken it
		s.front, s.admin = loopback.Addr(t), loopback.Addr(t)
		s.program = startProgram(t, dir, path, w.args(s.write(), s)...)
		if s.up() {
			break
		}
	}
	t.Cleanup(s.program.stop)
	t.Cleanup(s.client.CloseIdleConnections)
	if s.program.ended() {
		t.Fatalf("%s does not run with %s", w.program, w.file)
	}
	return s
}

func (s *site) up() bool {
	eventually(s.t, s.way.program, func() bool {
		status, _ := s.newVisitor().ask("GET", "/")
		return status == http.StatusOK || s.program.ended()
	})
	return !s.program.ended()
}

// write puts the configuration into the site's directory, with its ports.
func (s *site) write() string {
	s.t.Helper()
	text := s.text
	if s.way.adapt != nil {
		text = s.way.adapt(text, s)
	}
	text = strings.NewReplacer(
		"127.0.0.1:8080", s.front, "127.0.0.1:8081", s.servers["a"].addr, "127.0.0.1:8082", s.servers["b"].addr,
		"127.0.0.1:2019", s.admin, "/run/haproxy/admin.sock", filepath.Join(s.dir, "s"),
	).Replace(text)
	conf := filepath.Join(s.dir, "conf")
	if err := os.WriteFile(conf, []byte(text), 0o600); err != nil {
		s.t.Fatal(err)
	}
	return conf
}

// change has the program take another configuration, without a restart.
func (s *site) change(text string) {
	s.t.Helper()
	s.text = text
	s.version++
	s.write()
	s.way.reload(s)
	seen := 0
	eventually(s.t, "the new configuration", func() bool {
		s.client.CloseIdleConnections()
		resp, err := s.newVisitor().Get("http://" + s.front + "/")
		if err != nil {
			return false
		}
		resp.Body.Close()
		if resp.Header.Get("Config-Version") != fmt.Sprint(s.version) {
			seen = 0
			return false
		}
		seen++
		return seen == 10 // an old worker may still accept at first
	})
}

// haproxy gives a command to the stats socket.
func (s *site) haproxy(command string) {
	s.t.Helper()
	conn, err := net.Dial("unix", filepath.Join(s.dir, "s"))
	if err != nil {
		s.t.Fatal(err)
	}
	defer conn.Close()
	fmt.Fprintln(conn, command)
	if said, err := io.ReadAll(conn); err != nil || strings.TrimSpace(string(said)) != "" {
		s.t.Fatalf("%s: %q, %v", command, said, err)
	}
}

// caddyLoad is caddy reload.
func (s *site) caddyLoad() {
	s.t.Helper()
	conf, err := os.Open(filepath.Join(s.dir, "conf"))
	if err != nil {
		s.t.Fatal(err)
	}
	defer conf.Close()
	resp, err := http.Post("http://"+s.admin+"/load", "text/caddyfile", conf)
	if err != nil {
		s.t.Fatal(err)
	}
	defer resp.Body.Close()
	if said, _ := io.ReadAll(resp.Body); resp.StatusCode != http.StatusOK {
		s.t.Fatalf("caddy: %s", said)
	}
}

// wantCount wants all, which is want, and wantNone none of them. Both log what
// README.md tells.
func wantCount(t testing.TB, what string, got, want int) {
	t.Helper()
	t.Logf("%s: %d of %d", what, got, want)
	if got != want {
		t.Errorf("%s: %d of %d, want all", what, got, want)
	}
}

func wantNone(t testing.TB, what string, got, of int) {
	t.Helper()
	t.Logf("%s: %d of %d", what, got, of)
	if got != 0 {
		t.Errorf("%s: %d of %d, want none", what, got, of)
	}
}

// In each way that keeps visitors by a cookie: all follow-ups find their session,
// a drained server keeps its visitors and gets no others, and those of a server
// that was killed log in once more and then stay where they are.
func TestVisitorsStayOnTheirServer(t *testing.T) {
	for _, w := range []way{
		haproxy.with("haproxy-insert.cfg", "", 1),
		haproxy.with("haproxy-prefix.cfg", "", 0),
		nginx.with("nginx-affinity.conf", "server", 0).drainedBy(edit(anyServer, onlyOthers), edit(onlyOthers, anyServer)),
		caddy.with("Caddyfile", "", 1),
		caddy.with("Caddyfile.affinity", "server", 0).drainedBy(edit(newVisitors, newToOthers), edit(newToOthers, newVisitors)),
	} {
		t.Run(w.file, func(t *testing.T) {
			t.Parallel()
			s := open(t, w)
			s.strangersGet(w.strangers)
			all := s.arrive(40)
			if len(all.of("a")) == 0 || len(all.of("b")) == 0 {
				t.Fatalf("%d visitors on a, %d on b: nothing is balanced", len(all.of("a")), len(all.of("b")))
			}
			wantCount(t, "follow-ups that found their session", all.follow(), 400)
			if w.drain != nil {
				s.drained(all)
			}
			s.crash(all)
		})
	}
}

// strangersGet counts the cookies on a page for a visitor without a session.
func (s *site) strangersGet(want int) {
	s.t.Helper()
	resp, err := s.newVisitor().Get("http://" + s.front + "/")
	if err != nil {
		s.t.Fatal(err)
	}
	resp.Body.Close()
	s.t.Logf("cookies for a visitor without a session: %q", resp.Header["Set-Cookie"])
	if len(resp.Header["Set-Cookie"]) != want {
		s.t.Errorf("%d cookies for a visitor without a session, want %d", len(resp.Header["Set-Cookie"]), want)
	}
}

// drained takes a out of rotation and back.
func (s *site) drained(all crowd) {
	s.t.Helper()
	s.way.drain(s)
	wantCount(s.t, "while a drains, newcomers on b", len(s.arrive(20).of("b")), 20)
	wantCount(s.t, "while a drains, follow-ups that found their session", all.follow(), 400)
	s.way.undrain(s)
	s.awaitNewcomersOn("a")
}

func (s *site) awaitNewcomersOn(name string) {
	s.t.Helper()
	eventually(s.t, "newcomers on "+name, func() bool { return len(s.arrive(4).of(name)) > 0 })
}

// crash kills a and starts it again.
func (s *site) crash(all crowd) {
	s.t.Helper()
	lost, others := all.of("a"), all.of("b")
	s.inFlight(lost[0])
	wantCount(s.t, "after the kill, visitors of a whom b answered, without their session",
		lost.count(1, func(v *visitor) bool {
			status, page := v.ask("GET", "/")
			return status == http.StatusOK && page == "b "
		}), len(lost))
	wantCount(s.t, "after the kill, follow-ups of b's visitors that found their session", others.follow(), 10*len(others))
	lost.each(func(v *visitor) { v.logIn() })
	wantCount(s.t, "logged in again, on b", len(lost.of("b")), len(lost))
	wantCount(s.t, "while a is gone, follow-ups that found their session", all.follow(), 400)
	s.servers["a"].start()
	s.awaitNewcomersOn("a")
	wantCount(s.t, "when a is back, follow-ups that found their session", all.follow(), 400)
}

// inFlight kills a while it works on a GET and on a POST.
func (s *site) inFlight(v *visitor) {
	s.t.Helper()
	type answer struct {
		method string
		status int
	}
	answers := make(chan answer)
	for _, method := range []string{"GET", "POST"} {
		go func() {
			// Each on a connection of its own: on one that was used before, HAProxy closes
			// it without an answer, for the browser to try again.
			alone := *v
			alone.Transport = &http.Transport{DisableKeepAlives: true}
			status, _ := alone.ask(method, "/wait/a")
			answers <- answer{method, status}
		}()
	}
	eventually(s.t, "requests in flight", func() bool {
		resp, err := http.Get("http://" + s.servers["a"].addr + "/waiting")
		if err != nil {
			return false
		}
		defer resp.Body.Close()
		n, _ := io.ReadAll(resp.Body)
		return string(n) == "2"
	})
	s.servers["a"].kill()
	want := map[string]int{"GET": s.way.inFlightGet, "POST": s.way.inFlightPost}
	for range 2 {
		a := <-answers
		s.t.Logf("a %s that a was working on: %d", a.method, a.status)
		if a.status != want[a.method] {
			s.t.Errorf("a %s that was in flight: %d, want %d", a.method, a.status, want[a.method])
		}
	}
}

// ip_hash: nothing to set up, and all who share an address share a server. A
// server that comes back, or that is drained, costs its visitors their sessions.
func TestNginxIPHash(t *testing.T) {
	t.Parallel()
	s := open(t, nginx.with("nginx-ip-hash.conf", "", 0))
	all := s.arrive(40)
	home, other := all[0].home, "b"
	if home == "b" {
		other = "a"
	}
	wantCount(t, "visitors of one address on one server", len(all.of(home)), 40)
	wantCount(t, "follow-ups that found their session", all.follow(), 400)

	line := fmt.Sprintf("server 127.0.0.1:%d;", map[string]int{"a": 8081, "b": 8082}[home])
	whole := s.text
	edit(line, strings.Replace(line, ";", " down;", 1))(s)
	wantNone(t, "marked down: follow-ups that found their session", all.follow(), 400)
	s.change(whole)
	wantCount(t, "and up again", all.follow(), 400)

	s.servers[home].kill()
	all.each(func(v *visitor) { v.logIn() })
	wantCount(t, "after the kill, logged in on the other server", len(all.of(other)), 40)
	wantCount(t, "follow-ups that found their session there", all.follow(), 400)
	s.servers[home].start()
	eventually(t, "the address to return to its server", func() bool { return s.arrive(1)[0].home != other })
	wantNone(t, "when the first is back, follow-ups that found their session", all.follow(), 400)
}

// Caddy's own cookie names an address, so a server that leaves the list loses its
// visitors at once. Caddyfile.affinity is for draining.
func TestCaddyCookieCannotDrain(t *testing.T) {
	t.Parallel()
	s := open(t, caddy.with("Caddyfile", "", 1))
	all := s.arrive(40)
	edit(caddyServers, caddyOthers)(s)
	wantNone(t, "a taken out: follow-ups of its visitors that found their session", all.of("a").follow(), 10*len(all.of("a")))
	wantCount(t, "a taken out: follow-ups of b's visitors that found their session", all.of("b").follow(), 10*len(all.of("b")))
}

// A hash of the session's cookie looks like stickiness. The login's answer makes
// the cookie, after the login was routed without one.
func TestNginxHashOfTheSessionCookieIsNotSticky(t *testing.T) {
	t.Parallel()
	w := nginx.with("nginx-ip-hash.conf", "", 0)
	w.cookie = "sid" // nginx cannot read one with a hyphen
	own := w.adapt
	w.adapt = func(conf string, s *site) string {
		return own(strings.Replace(conf, "ip_hash;", "hash $cookie_sid consistent;", 1), s)
	}
	s := open(t, w)
	hits := s.arrive(40).follow()
	t.Logf("follow-ups that found their session: %d of 400", hits)
	if hits == 400 {
		t.Error("every session was found: this is no trap any more, and README.md says that it is")
	}
}

// The longest name that Config.Affinity takes is one that nginx takes in a map
// without further settings.
func TestNginxTakesTheLongestServerName(t *testing.T) {
	t.Parallel()
	path := find(t, "nginx")
	for length, ok := range map[int]bool{32: true, 64: false} {
		s := &site{t: t, dir: t.TempDir()}
		conf := nginx.adapt("events {}\nhttp {\n\tmap $cookie_server $app {\n\t\t"+strings.Repeat("a", length)+" any;\n\t}\n}\n", s)
		file := filepath.Join(s.dir, "conf")
		if err := os.WriteFile(file, []byte(conf), 0o600); err != nil {
			t.Fatal(err)
		}
		said, err := exec.Command(path, append(nginx.args(file, s), "-t")...).CombinedOutput()
		if (err == nil) != ok {
			t.Errorf("a name of %d: %v\n%s", length, err, said)
		}
	}
}

// A planter is a neighbour's subdomain, which sets a cookie for the whole domain
// that browsers send before ours.
type planter struct {
	http.RoundTripper
	cookie string
}

func (p planter) RoundTrip(r *http.Request) (*http.Response, error) {
	r = r.Clone(r.Context())
	r.Header.Set("Cookie", strings.TrimSuffix(p.cookie+"; "+r.Header.Get("Cookie"), "; "))
	return p.RoundTripper.RoundTrip(r)
}

// A planted cookie moves a visitor away from a session in memory, and does no
// more: the session is found again once it is gone. With a prefix that no
// neighbour can set, it does nothing.
func TestPlantedAffinityCookie(t *testing.T) {
	t.Parallel()
	plain := nginx.with("nginx-affinity.conf", "server", 0)
	prefixed := nginx.with("nginx-affinity.conf", "__Host-server", 0)
	own := prefixed.adapt
	prefixed.adapt = func(conf string, s *site) string {
		return own(strings.NewReplacer(
			"map $cookie_server $app", "map $http_cookie $app",
			"\ta       first_a;", `	"~(^|; )__Host-server=a(;|$)" first_a;`,
			"\tb       first_b;", `	"~(^|; )__Host-server=b(;|$)" first_b;`,
		).Replace(conf), s)
	}
	for _, row := range []struct {
		name string
		way  way
		hits int
	}{{"server", plain, 0}, {"__Host-server", prefixed, 400}} {
		t.Run(row.name, func(t *testing.T) {
			s := open(t, row.way)
			all := s.arrive(40)
			wantCount(t, "follow-ups that found their session", all.follow(), 400)
			for _, v := range all {
				v.Transport = planter{s.client, "server=" + map[string]string{"a": "b", "b": "a"}[v.home]}
			}
			if row.hits == 0 {
				wantNone(t, "with a planted cookie, follow-ups that found their session", all.follow(), 400)
			} else {
				wantCount(t, "with a planted cookie, follow-ups that found their session", all.follow(), 400)
			}
			for _, v := range all {
				v.Transport = s.client
			}
			wantCount(t, "without it again", all.follow(), 400)
		})
	}
}
